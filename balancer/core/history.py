"""The past as values: what can be asked of it, how it is told, and the arithmetic between the two.

Theory of operation: outcomes are counted by UTC minute, so that counts can be added up in any order and at any
time. Latencies fall into fixed buckets, `PER_DOUBLING` to each doubling from `LATENCY_MIN` on, whose counts can be
added too, and which name any quantile to within 9.1 %. Uptime is told in both of OpenRouter's definitions, by name:

- `requests`: successes among the outcomes that count for or against (until September 2026);
- `minutes`: the share of minutes in which `GOOD_SHARE` of such outcomes or more were successes, of all minutes with
  `COUNTED_MIN` of them or more (since October 2026).

429s and errors of the caller are in neither. Probes and reports are told apart, as everywhere.

What this module does not know: where the past is kept, and what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf, log2, sqrt
from typing import Final, NamedTuple

from msgspec import Struct

from balancer.core.model import Source, State
from balancer.core.outcome import COUNTS, Kind

MINUTE: Final = 60  # s
HOUR: Final = 3600  # s

LATENCY_MIN: Final = 0.001  # s; below it a call took "no time"
PER_DOUBLING: Final = 4  # buckets grow by 2^(1/4), 19 %: finer is lost in a minute's noise, and costs more rows
BUCKET_MAX: Final = 80  # 882 s and more; the longest timeout that an answer allows is ten minutes by default

COUNTED_MIN: Final = 10  # outcomes without which a minute says nothing; OpenRouter's
GOOD_SHARE: Final = 0.8  # of a minute's outcomes; OpenRouter's

POINTS_MAX: Final = 2000  # of one answer: a day by the minute, and a megabyte of JSON
MOMENTS_MAX: Final = 1000  # transitions of one answer

OUT: Final = frozenset[State | None]({"ejected", "half_open", "misconfigured"})


class HistoryAbsent(Exception):
    """The past cannot be told now, and why."""


class HistoryTooLong(Exception):
    """More points than one answer holds: `points` of them, at `endpoints` endpoints."""

    def __init__(self, points: int, endpoints: int) -> None:
        super().__init__(f"{points} points at {endpoints} endpoints; {POINTS_MAX} are allowed")
        self.points = points
        self.endpoints = endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """A span of time and whose past it is: one endpoint's, one model's, or all.

    Units: Unix seconds, whole minutes; `step` is a number of seconds in whole minutes, `None` for all in one. `now`
    is when it is asked, to the moment: no outage goes on beyond it.
    """

    since: int
    until: int
    step: int | None
    endpoint: str | None = None
    model: str | None = None
    now: float = inf


class Uptime(Struct, frozen=True, kw_only=True):
    """Uptime in both definitions; `null` where too little was seen.

    `minutes_counted` is the number of minutes that could be judged.
    """

    requests: float | None
    minutes: float | None
    minutes_counted: int


class Latencies(Struct, frozen=True, kw_only=True):
    """Quantiles of the successes whose latency is known. Units: seconds, each within 9.1 %."""

    p50: float
    p75: float
    p90: float
    p99: float


class Point(Struct, frozen=True, kw_only=True):
    """One endpoint in one step of time, which begins at `start`.

    Units: `start` in Unix seconds, `cost` in USD by the list prices. Shape: by source; `null` is unknown, and a
    source of which nothing came is absent.
    """

    start: int
    outcomes: dict[Source, dict[Kind, int]]
    uptime: dict[Source, Uptime]
    latency: dict[Source, Latencies]
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None


class Series(Struct, frozen=True, kw_only=True):
    """One endpoint's past. Steps in which nothing came have no point.

    `ejections` are those that were enforced. An outage is the time for which it was ejected, on trial or
    misconfigured; `outage_longest` is the longest part of one inside of the span, in seconds.
    """

    endpoint: str
    model: str
    ejections: int
    outage_longest: float
    points: list[Point]


class Moment(Struct, frozen=True, kw_only=True):
    """One transition. Units: `at` and `next_at` are Unix seconds. `enforced`: it chose."""

    at: float
    event: str
    endpoint: str | None
    model: str | None
    provider: str | None
    reporter: str | None
    state: State | None
    reason: str
    next_at: float | None
    enforced: bool


class Past(Struct, frozen=True, kw_only=True):
    """What was asked for. Units: Unix seconds; `step` is `null` where all is in one.

    `since` and `until` are those of the whole steps that are told. Minutes are kept from `minutes_from` on, hours
    from `hours_from`; `null` where nothing has been removed. Of the transitions the last ones are told, and
    `transitions_left_out` is the number of the others.
    """

    since: int
    until: int
    step: int | None
    minutes_from: int | None
    hours_from: int | None
    series: list[Series]
    transitions: list[Moment]
    transitions_left_out: int


def bucket(latency: float) -> int:
    """The bucket of a latency: 0 for `LATENCY_MIN` and less, n up to `LATENCY_MIN` × 2^(n / `PER_DOUBLING`)."""
    if latency <= LATENCY_MIN:
        return 0
    number = ceil(PER_DOUBLING * log2(latency / LATENCY_MIN))
    return min(BUCKET_MAX, number)


def bucket_value(number: int) -> float:
    """The latency that stands for a bucket: the middle of its bounds, as a factor. Units: seconds."""
    upper = LATENCY_MIN * 2 ** (number / PER_DOUBLING)
    return upper if number == 0 else upper / sqrt(2 ** (1 / PER_DOUBLING))


def latencies(counts: Mapping[int, int]) -> Latencies | None:
    """Read the quantiles (nearest rank) of latencies that were counted by bucket; `None` where there is none."""
    total = sum(counts.values())
    if total == 0:
        return None
    ascending = sorted(counts.items())

    def at(rank: float) -> float:
        wanted = max(1, ceil(rank * total))
        seen = 0
        for number, count in ascending:
            seen += count
            if seen >= wanted:
                return bucket_value(number)
        raise AssertionError("a rank is never above the total")

    return Latencies(p50=at(0.5), p75=at(0.75), p90=at(0.9), p99=at(0.99))


class Minutes(NamedTuple):
    """Minutes with enough outcomes to be judged, and those of them that were good."""

    counted: int
    good: int


def judged(successes: int, failures: int) -> Minutes:
    """Judge one minute by OpenRouter's second definition."""
    total = successes + failures
    if total < COUNTED_MIN:
        return Minutes(0, 0)
    return Minutes(1, int(successes >= GOOD_SHARE * total))


def uptime(outcomes: Mapping[Kind, int], minutes: Minutes) -> Uptime:
    """Tell uptime in both definitions."""
    successes = sum(count for kind, count in outcomes.items() if COUNTS[kind] == "success")
    failures = sum(count for kind, count in outcomes.items() if COUNTS[kind] == "failure")
    total = successes + failures
    return Uptime(
        requests=successes / total if total else None,
        minutes=minutes.good / minutes.counted if minutes.counted else None,
        minutes_counted=minutes.counted,
    )


class Outages:
    """One endpoint's times out of service, as far as they lie after `since`; to be told of each change in order.

    Shape: a state of `None` ends an outage, unless one begins at the very same moment. Units: Unix seconds.
    """

    __slots__ = ("_before", "_began", "_ended", "_longest", "_since", "_until")

    def __init__(self, *, since: float, until: float) -> None:
        self._since = since
        self._until = until
        self._longest = 0.0
        self._began: float | None = None  # of the outage that goes on
        self._ended: float | None = None  # of the last one
        self._before: float | None = None  # its beginning

    def change(self, at: float, state: State | None) -> None:
        """From then on it is in that state; the last such moment before `since` tells how the span begins."""
        if state in OUT:
            if self._began is None:
                self._began = self._before if self._before is not None and at == self._ended else at
        elif self._began is not None:
            self._longest = max(self._longest, min(at, self._until) - max(self._began, self._since))
            self._before, self._ended, self._began = self._began, at, None

    @property
    def longest(self) -> float:
        """The longest of them, or of their parts inside of the span. Units: seconds."""
        if self._began is None:
            return self._longest
        return max(self._longest, self._until - max(self._began, self._since))
