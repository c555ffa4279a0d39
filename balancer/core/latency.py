"""How long calls take: quantiles over a trailing span, and the timeouts that follow.

Theory of operation: values fall into buckets whose bounds grow by a constant factor, so that any quantile is
known to within `ERROR` of its true value (DDSketch's rule); dicts of counts per slice of time, and a slice
expires whole. Only successes of real work are recorded: a failure must never look like a fast answer, and
listing models says nothing about a completion.

Long prompts take longer, so times are counted by class of prompt size, and the classes together are the endpoint's
own. A timeout comes from the class of the request where that has been seen often enough; else from all of them with
an allowance for reading the prompt.

Values wait until some are together, or somebody reads: of a quiet endpoint most are too old by then.

Quantiles cost tens of microseconds to read, and a busy endpoint's change thousands of times a second. So `Speed`
takes samples in small batches: how far the quantiles lag (a sixteenth of the samples, and half a minute) is decided
when something is recorded. What is read is then a pure function of what was taken and of the slice of `now`, and is
remembered until either changes.

What this module does not know: failures, and how a provider's queue stands at this moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil, floor, log
from typing import Final, Literal, NamedTuple

from balancer.core.model import TimeoutPolicy, Timeouts
from balancer.core.request import TOKENS_MAX

SPAN: Final = 300.0  # s; OpenRouter measures latency preferences over a rolling five minutes
SLICES: Final = 5
ERROR: Final = 0.01  # relative; DDSketch's default
SLICE: Final = SPAN / SLICES
_GROWTH: Final = (1 + ERROR) / (1 - ERROR)
_SCALE: Final = 1 / log(_GROWTH)
VALUE_MIN: Final = 0.001  # s; below it a call took "no time"
VALUE_MAX: Final = 100_000.0  # s or tokens a second; bounds the buckets of a slice and class to about 920

TIMEOUTS_UNKNOWN: Final = Timeouts(connect=2.0, first_token=30.0, total=120.0)
"""Until an endpoint has shown its speed. Source: reasoning models need more than 10 s to a first token."""
_SAMPLES_MIN: Final = 20  # below it a p99 is only the largest value seen
_MARGIN: Final = 3.0  # a timeout cuts what is three times slower than the endpoint's own p99

CLASS_BOUNDS: Final = (1024, 4096, 16_384, 65_536)
"""Prompts of fewer tokens than the first are class 0, and so on. Powers of 4: reading time grows with length."""
_BITS: Final = (10, 12, 14, 16)  # of the longest prompt of each class but the last
_UNSIZED: Final = len(CLASS_BOUNDS) + 1  # the class of prompts whose size nobody told
_CLASSES: Final = _UNSIZED + 1
PREFILL: Final = 2000.0
"""Prompt tokens a second that a slow host reads. Judgement: a 70B model on a busy machine; big ones read 10,000."""

WAITING_MAX: Final = 32  # values that are put into the slices together
BATCH: Final = 16  # samples, or a sixteenth of those in the span where that is more
BATCH_MAX: Final = 1000  # samples
_BATCH_FROM: Final = 64  # samples ever; before it each counts at once
_LAG: Final = 30.0  # s; half a slice


class _Slice:
    """Values of one minute: how many fell into each bucket for each class, their number and sum."""

    __slots__ = ("counts", "number", "sum")

    def __init__(self) -> None:
        self.counts: list[dict[int, int] | None] = [None] * _CLASSES
        self.number = 0
        self.sum = 0.0

    def pour(self, kind: int | None, into: dict[int, int]) -> None:
        """Add the counts of that class, or of all, to others."""
        for counts in self.counts if kind is None else (self.counts[kind],):
            if counts is not None:
                for bucket, count in counts.items():
                    into[bucket] = into.get(bucket, 0) + count


class Quantiles:
    """Quantiles of the last five minutes, and the count and sum of all time.

    Units: seconds, or whatever is recorded. A class of `None` is all classes together.
    """

    __slots__ = ("_closed", "_closed_since", "_index", "_open", "_slices", "_waiting", "count", "sum")

    def __init__(self) -> None:
        self._waiting: list[tuple[float, float, int]] = []
        self._slices: dict[int, _Slice] = {}
        self._index: int | None = None  # of the slice that was recorded into last
        self._open = _Slice()
        self._closed: dict[int | None, dict[int, int]] = {}  # a memo of the other slices' counts, by class
        self._closed_since: int | None = None
        self.count = 0
        self.sum = 0.0

    def record(self, ended: float, value: float, kind: int = _UNSIZED) -> None:
        """Add one value in the slice in which it ended; `kind` is its class."""
        self.count += 1
        self.sum += value
        self.add(ended, value, kind)

    def add(self, ended: float, value: float, kind: int = _UNSIZED) -> None:
        """Add one value to the quantiles that count and sum already have."""
        self._waiting.append((ended, value, kind))
        if len(self._waiting) >= WAITING_MAX:
            self._settle()

    def _settle(self) -> None:
        """Put what waits into the slices. It changes no answer, so a read may do it."""
        waiting = self._waiting
        if waiting:
            oldest = floor(max(waiting)[0] / SLICE) - SLICES
            for ended, value, kind in waiting:
                index = floor(ended / SLICE)
                if index > oldest and (index == self._index or self._turn(index)):
                    self._put(value, kind)
            waiting.clear()

    def _put(self, value: float, kind: int) -> None:
        opened = self._open
        opened.number += 1
        opened.sum += value
        counts = opened.counts[kind]
        if counts is None:
            counts = opened.counts[kind] = {}
        if value < VALUE_MIN:
            value = VALUE_MIN
        elif value > VALUE_MAX:
            value = VALUE_MAX
        bucket = ceil(log(value) * _SCALE)
        counts[bucket] = counts.get(bucket, 0) + 1

    def forget(self) -> None:
        """Forget the values of the last five minutes; the count and sum of all time stay."""
        self._waiting.clear()
        self._slices.clear()
        self._index, self._open = None, _Slice()
        self._closed.clear()
        self._closed_since = None

    def _turn(self, index: int) -> bool:
        """Make that slice the open one; false when it is too old."""
        slices = self._slices
        opened = slices.get(index)
        if opened is None:
            newest = max(slices, default=index)
            if index <= newest - SLICES:
                return False
            opened = slices[index] = _Slice()
            for stale in [old for old in slices if old <= index - SLICES]:
                del slices[stale]
        self._index, self._open = index, opened
        self._closed.clear()
        return True

    def samples(self, now: float, kind: int | None = None) -> int:
        """How many values the quantiles stand on."""
        self._settle()
        if kind is not None:
            return sum(self._merged(now, kind).values())
        oldest = self._oldest(now)
        return sum([each.number for index, each in self._slices.items() if index > oldest])

    def mean(self, now: float) -> float | None:
        """The mean of the last five minutes; of all time where they are empty, `None` where nothing is known."""
        samples = self.samples(now)
        if samples:
            oldest = self._oldest(now)
            return sum([each.sum for index, each in self._slices.items() if index > oldest]) / samples
        return self.sum / self.count if self.count else None

    def at(
        self, now: float, ranks: Sequence[float], kind: int | None = None, *, least: int = 1
    ) -> tuple[float, ...] | None:
        """Read the quantiles at `ranks` (ascending, 0..1), or `None` where fewer than `least` values are known.

        Shape: each within `ERROR` of the true nearest-rank value. Source: DDSketch, VLDB 2019.
        """
        if self.samples(now) < least:  # a class has no more than all have, which is the cheaper question
            return None
        merged = self._merged(now, kind)
        total = sum(merged.values())
        if total < least:
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
            if goal is None:
                break
        return tuple(found)

    def _merged(self, now: float, kind: int | None) -> dict[int, int]:
        """The counts of all live slices; those that are not recorded into are added up once."""
        oldest = self._oldest(now)
        if oldest != self._closed_since:
            self._closed.clear()
            self._closed_since = oldest
        closed = self._closed.get(kind)
        if closed is None:
            closed = self._closed[kind] = {}
            for index, each in self._slices.items():
                if oldest < index != self._index:
                    each.pour(kind, closed)
        if self._index is None or self._index <= oldest:
            return closed
        merged = closed.copy()
        self._open.pour(kind, merged)
        return merged

    def _oldest(self, now: float) -> int:
        return floor(now / SLICE) - SLICES


class Percentiles(NamedTuple):
    """What so many percent of requests do at least as well as: a high time, or a low throughput."""

    p50: float
    p75: float
    p90: float
    p99: float


Figure = Literal["latency", "ttft", "throughput"]
_Sample = tuple[float, int, float | None, float | None, float | None]  # ended, class, latency, ttft, throughput


class Speed:
    """One endpoint's speed: latency and time to the first token in seconds, throughput in tokens a second.

    `version` grows whenever the quantiles may have changed, other than by time; the counts and sums of all time
    are exact at once. Throughput is an answer's tokens over its whole latency, as OpenRouter counts.
    """

    __slots__ = (
        "_batch", "_percentiles", "_policy", "_samples", "_slice", "_slow", "_taken", "_timeouts", "_waiting",
        "latency", "throughput", "ttft", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.latency = Quantiles()
        self.ttft = Quantiles()
        self.throughput = Quantiles()
        self.version = 0
        self._samples = 0
        self._waiting: list[_Sample] = []
        self._batch = BATCH
        self._taken = float("-inf")  # when the waiting were last taken
        # What follows remembers pure functions of the samples taken and of the slice of `now`.
        self._slice: float | None = None
        self._policy: TimeoutPolicy | None = None
        self._timeouts: dict[int, Timeouts] = {}
        self._percentiles: dict[Figure, Percentiles | None] = {}
        self._slow: dict[tuple[Figure, int | None], float | None] = {}

    # ---- changing ------------------------------------------------------------------------------------

    def record(
        self,
        *,
        ended: float,
        latency: float | None,
        ttft: float | None,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        now: float,
    ) -> None:
        """Take what one success of real work showed."""
        throughput = None
        if latency is not None:
            self.latency.count += 1
            self.latency.sum += latency
            if completion_tokens is not None and completion_tokens > 0:
                throughput = min(completion_tokens, TOKENS_MAX) / max(latency, VALUE_MIN)
                self.throughput.count += 1
                self.throughput.sum += throughput
        elif ttft is None:
            return
        if ttft is not None:
            self.ttft.count += 1
            self.ttft.sum += ttft
        self._samples += 1
        waiting = self._waiting
        waiting.append((ended, size_class(prompt_tokens), latency, ttft, throughput))
        if len(waiting) == BATCH:
            self._batch = min(max(BATCH, self.latency.samples(now) // 16), BATCH_MAX)
        if len(waiting) >= self._batch or self._samples < _BATCH_FROM or not 0 <= now - self._taken < _LAG:
            self._take(now)

    def forget(self) -> None:
        """Forget how fast it was: it is another now."""
        for quantiles in (self.latency, self.ttft, self.throughput):
            quantiles.forget()
        self._waiting.clear()
        self._samples = 0  # so that the next ones count at once
        self._slice = None
        self.version += 1

    def _take(self, now: float) -> None:
        for ended, kind, latency, ttft, throughput in self._waiting:
            if latency is not None:
                self.latency.add(ended, latency, kind)
            if ttft is not None:
                self.ttft.add(ended, ttft, kind)
            if throughput is not None:
                self.throughput.add(ended, throughput)
        self._waiting.clear()
        self._batch = BATCH
        self._taken = now
        self._slice = None
        self.version += 1

    # ---- reading -------------------------------------------------------------------------------------

    def timeouts(self, prompt_tokens: int | None, *, now: float, policy: TimeoutPolicy) -> Timeouts:
        """What one attempt should be given: three times the endpoint's own p99, within the policy's bounds.

        Shape: the p99 is that of prompts of the request's class, or, where fewer than 20 were seen in the last five
        minutes, that of all (30 s and 120 s where they are few, too) plus the time in which a slow host reads the
        prompt, whose length is rounded up to a power of two. Asked again with nothing new, it is the same value.
        """
        return self.timeouts_for(-1 if prompt_tokens is None else prompt_tokens.bit_length(), now, policy)

    def timeouts_for(self, bits: int, now: float, policy: TimeoutPolicy) -> Timeouts:
        """The same for a prompt whose length has so many bits, -1 for one of unknown length."""
        index = now // SLICE
        if index != self._slice or policy is not self._policy:
            self._renew(index, policy)
        found = self._timeouts.get(bits)
        if found is None:
            found = self._timeouts[bits] = self._timeouts_of(bits, now, policy)
        return found

    def percentiles(self, which: Figure, now: float) -> Percentiles | None:
        """The last five minutes' percentiles, `None` when nothing is known; a throughput's p99 is its slow tail."""
        index = now // SLICE
        if index != self._slice:
            self._renew(index, self._policy)
        if which not in self._percentiles:
            self._percentiles[which] = self._percentiles_of(which, now)
        return self._percentiles[which]

    def _renew(self, index: float, policy: TimeoutPolicy | None) -> None:
        if index != self._slice:
            self._percentiles.clear()
            self._slow.clear()
            self._slice = index
        self._timeouts.clear()
        self._policy = policy

    def _percentiles_of(self, which: Figure, now: float) -> Percentiles | None:
        if which == "throughput":
            found = self.throughput.at(now, (0.01, 0.1, 0.25, 0.5))
            return None if found is None else Percentiles(*reversed(found))
        found = (self.latency if which == "latency" else self.ttft).at(now, (0.5, 0.75, 0.9, 0.99))
        return None if found is None else Percentiles(*found)

    def _timeouts_of(self, bits: int, now: float, policy: TimeoutPolicy) -> Timeouts:
        kind = _UNSIZED if bits < 0 else bisect_left(_BITS, bits)
        allowance = 2**bits / PREFILL if bits > 0 else 0.0
        first_token = self._given("ttft", kind, now, TIMEOUTS_UNKNOWN.first_token, allowance)
        total = self._given("latency", kind, now, TIMEOUTS_UNKNOWN.total, allowance)
        first_token = round(min(max(first_token, policy.first_token_min), policy.first_token_max), 3)
        total = round(min(max(total, policy.total_min), policy.total_max), 3)
        return Timeouts(connect=policy.connect, first_token=first_token, total=max(first_token, total))

    def _given(self, which: Figure, kind: int, now: float, unknown: float, allowance: float) -> float:
        own = None if kind == _UNSIZED else self._slow_of(which, kind, now)
        if own is not None:
            return own
        pooled = self._slow_of(which, None, now)
        return (unknown if pooled is None else pooled) + allowance

    def _slow_of(self, which: Figure, kind: int | None, now: float) -> float | None:
        """Three times the p99 of that class, `None` below 20 samples."""
        if (which, kind) not in self._slow:
            values = self.ttft if which == "ttft" else self.latency
            p99 = values.at(now, (0.99,), kind, least=_SAMPLES_MIN)
            self._slow[which, kind] = None if p99 is None else _MARGIN * p99[0]
        return self._slow[which, kind]


def size_class(prompt_tokens: int | None) -> int:
    """The class of a prompt's size, among those of `Quantiles`."""
    return _UNSIZED if prompt_tokens is None else bisect_left(_BITS, prompt_tokens.bit_length())
