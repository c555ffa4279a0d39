"""Counts of durations by upper bound, written as Prometheus' classic histogram.

Why not prometheus_client's: an observation here is a third of its cost, and a scrape a tenth, because the lines'
beginnings are written once. What is kept is the same: a count for each bound, the sum, and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from balancer.metrics.text import line, number


class Histogram:
    """One series of a histogram. `bounds` are ascending and inclusive; +Inf is added."""

    __slots__ = ("_beginnings", "_bounds", "_count", "_counts", "_sum", "_total")

    def __init__(self, name: str, labels: Mapping[str, str], bounds: Sequence[float]) -> None:
        assert list(bounds) == sorted(set(bounds)), f"the bounds of {name} do not ascend"
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        words = [*(number(float(bound)) for bound in bounds), "+Inf"]
        self._beginnings = [_beginning(f"{name}_bucket", {**labels, "le": word}) for word in words]
        self._sum = _beginning(f"{name}_sum", labels)
        self._count = _beginning(f"{name}_count", labels)

    def observe(self, value: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def lines(self) -> list[str]:
        """Write the series: each bucket holds all that is no longer than its bound."""
        reached = list(accumulate(self._counts))
        return [
            *(f"{beginning}{count}" for beginning, count in zip(self._beginnings, reached, strict=True)),
            f"{self._sum}{self._total!r}",
            f"{self._count}{reached[-1]}",
        ]


def _beginning(name: str, labels: Mapping[str, str]) -> str:
    return line(name, labels, 0).removesuffix("0")
