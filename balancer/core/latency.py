"""How long calls take: quantiles over a trailing span, and the timeouts that follow from them.

Theory of operation: values fall into buckets whose bounds grow by a constant factor, so that any quantile is
known to within `ERROR` of its true value (DDSketch's rule); one dict of counts per slice of time, and a slice
expires whole. Only successes of real work are recorded: a failure must never look like a fast answer, and
listing models says nothing about a completion.

What this module does not know: prompt sizes. A quantile mixes short and long prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor, log
from typing import Final

from balancer.core.model import Timeouts

SPAN: Final = 300.0  # s; OpenRouter measures latency preferences over a rolling five minutes
SLICES: Final = 5
ERROR: Final = 0.01  # relative; DDSketch's default
_GROWTH: Final = (1 + ERROR) / (1 - ERROR)
_SCALE: Final = 1 / log(_GROWTH)
VALUE_MIN: Final = 0.001  # s; below it a call took "no time"
VALUE_MAX: Final = 3600.0  # s; bounds the buckets of a slice to about 760

TIMEOUTS_UNKNOWN: Final = Timeouts(connect=2.0, first_token=30.0, total=120.0)
"""Until an endpoint has shown its speed. Source: reasoning models need more than 10 s to a first token."""
_SAMPLES_MIN: Final = 20  # below it a p99 is only the largest value seen
_MARGIN: Final = 3.0  # a timeout cuts what is three times slower than the endpoint's own p99
_FIRST_TOKEN_BOUNDS: Final = (2.0, 60.0)
_TOTAL_BOUNDS: Final = (30.0, 600.0)


class Quantiles:
    """Quantiles of the last five minutes, and the count and sum of all time. Units: seconds."""

    __slots__ = ("_slices", "_sums", "count", "sum")

    def __init__(self) -> None:
        self._slices: dict[int, dict[int, int]] = {}
        self._sums: dict[int, float] = {}
        self.count = 0
        self.sum = 0.0

    def record(self, ended: float, value: float) -> None:
        """Add one value in the slice in which it ended."""
        self.count += 1
        self.sum += value
        index = floor(ended * SLICES / SPAN)
        counts = self._slices.get(index)
        if counts is None:
            newest = max(self._slices, default=index)
            if index <= newest - SLICES:
                return
            counts = self._slices[index] = {}
            self._sums[index] = 0.0
            for stale in [old for old in self._slices if old <= max(index, newest) - SLICES]:
                del self._slices[stale], self._sums[stale]
        self._sums[index] += value
        bucket = ceil(log(min(max(value, VALUE_MIN), VALUE_MAX)) * _SCALE)
        counts[bucket] = counts.get(bucket, 0) + 1

    def samples(self, now: float) -> int:
        """How many values the quantiles stand on."""
        return sum(sum(counts.values()) for counts in self._live(now))

    def mean(self, now: float) -> float | None:
        """The mean of the last five minutes; of all time where they are empty, `None` where nothing is known."""
        samples = self.samples(now)
        if samples:
            oldest = self._oldest(now)
            return sum(total for index, total in self._sums.items() if index > oldest) / samples
        return self.sum / self.count if self.count else None

    def at(self, now: float, ranks: Sequence[float]) -> tuple[float, ...] | None:
        """Read the quantiles at `ranks` (ascending, 0..1), or `None` when nothing is known.

        Shape: each within `ERROR` of the true nearest-rank value. Source: DDSketch, VLDB 2019.
        """
        merged: dict[int, int] = {}
        for counts in self._live(now):
            for bucket, count in counts.items():
                merged[bucket] = merged.get(bucket, 0) + count
        total = sum(merged.values())
        if not total:
            return None
        found: list[float] = []
        wanted = iter([max(1, ceil(rank * total)) for rank in ranks])
        goal = next(wanted, None)
        seen = 0
        for bucket in sorted(merged):
            seen += merged[bucket]
            while goal is not None and seen >= goal:
                found.append(2 * _GROWTH**bucket / (_GROWTH + 1))
                goal = next(wanted, None)
        return tuple(found)

    def _live(self, now: float) -> Iterable[dict[int, int]]:
        oldest = self._oldest(now)
        return [counts for index, counts in self._slices.items() if index > oldest]

    def _oldest(self, now: float) -> int:
        return floor(now * SLICES / SPAN) - SLICES


def timeouts(latency: Quantiles, ttft: Quantiles, now: float) -> Timeouts:
    """What one attempt should be given: three times the endpoint's own p99, within floors and caps.

    Shape: `TIMEOUTS_UNKNOWN` for what has fewer than 20 samples in the last five minutes.
    """
    return Timeouts(
        connect=TIMEOUTS_UNKNOWN.connect,
        first_token=_timeout(ttft, now, TIMEOUTS_UNKNOWN.first_token, _FIRST_TOKEN_BOUNDS),
        total=_timeout(latency, now, TIMEOUTS_UNKNOWN.total, _TOTAL_BOUNDS),
    )


def _timeout(values: Quantiles, now: float, unknown: float, bounds: tuple[float, float]) -> float:
    if values.samples(now) < _SAMPLES_MIN:
        return unknown
    p99 = values.at(now, (0.99,))
    assert p99 is not None
    return round(min(max(_MARGIN * p99[0], bounds[0]), bounds[1]), 3)
