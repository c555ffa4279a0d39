"""The shape of a dump: what a restart keeps, in values that JSON can spell.

Theory of operation: a dump may be old, cut, edited or of another program, and a restart must not be at its mercy.
So its shape is written down as types, `read` lets msgspec judge every value by them, and whoever restores gets
typed values that fit or a ValueError that says where and what. Each piece of evidence tells and takes its own part.

Times are spans and never moments, for the next process has another clock. Nothing in a dump is without bounds:
numbers are finite, and no larger than what the tables count with.

What this module does not know: what the values mean, and which of them still matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import Meta, Struct, convert

from balancer.core.model import Source
from balancer.core.outcome import Kind
from balancer.core.phases import Cause

VERSION: Final = 1

SPAN_MAX: Final = 1e9  # s; thirty years, beyond which it is no age
COUNT_MAX: Final = 2**31 - 1  # half of what a ring's cell holds, so that it can go on counting
PATIENCE_MAX: Final = 4  # of a ceiling that was met again and again
AMOUNT_MAX: Final = 2**53  # the same of a wide ring; every reader of JSON keeps it exact

Span = Annotated[float, Meta(ge=0, le=SPAN_MAX)]
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]

Cell = Annotated[list[Count], Meta(min_length=4, max_length=4)]
"""One bucket of a ring: how many buckets ago it was the newest, and its three columns."""

WideCell = Annotated[list[Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]], Meta(min_length=4, max_length=4)]

Kept = TypeVar("Kept")


def span(seconds: float) -> float:
    """A span as a dump tells it: what lies ahead of the teller's `now` has no age yet."""
    return min(max(0.0, seconds), SPAN_MAX)


class _Strict(Struct, forbid_unknown_fields=True):
    """Every key is needed and no other is known: a dump of another version says so by its number."""


class ThrottleKept(_Strict, kw_only=True):
    """Of a 429 hold: what is left of it, and how long ago its exponent last grew."""

    hold: Span
    exponent: Count
    grown: Span | None


class CeilingKept(_Strict, kw_only=True):
    """Of a learned ceiling: how long ago it was cut and the rise began, and the last minute's requests."""

    cut: Annotated[float, Meta(ge=1, le=COUNT_MAX)] | None
    age: Span | None
    rising: Span
    peak: Count
    patience: Annotated[int, Meta(ge=0, le=PATIENCE_MAX)] = 0
    requests: list[Cell]


class Ended(Struct, array_like=True, forbid_unknown_fields=True):
    """One outcome of those that health goes by: how long ago it ended, and whether it was good."""

    age: Span
    good: bool


class HealthKept(_Strict, kw_only=True):
    """Of health: the age of its phase, and what is left of the hold, below 0 how long ago it ended.

    `shallow_age` is the last failed probe's. Ended holds are told because the longest due is tried first.
    """

    phase: Literal["closed", "ejected", "recovering"]
    age: Span
    hold: Annotated[float, Meta(ge=-SPAN_MAX, le=SPAN_MAX)]
    reason: str
    ejections: Annotated[float, Meta(ge=0, le=COUNT_MAX)]
    cause: Cause | None
    ramp_left: Count
    recent: list[Ended]
    usual: Annotated[float, Meta(ge=0, le=1)]
    learned: Count
    shallow: Count
    shallow_age: Span | None
    refusals: Count
    refused_deep: bool
    misconfigured: str | None


NORMALS_MAX: Final = 48  # kinds and sizes of which `slow` knows what is normal


class NormalKept(Struct, array_like=True, forbid_unknown_fields=True):
    """What is normal of one kind and size: its place among them, seconds, of how many answers; the last's age."""

    place: Annotated[int, Meta(ge=0, lt=NORMALS_MAX)]
    normal: Annotated[float, Meta(ge=0.001, le=100_000)]  # the bounds of `latency`
    samples: Count
    age: Span


class SlownessKept(_Strict, kw_only=True):
    """Of slowness: the usual share of slow answers, of how many judged, and what is normal."""

    usual: Annotated[float, Meta(ge=0, le=1)]
    judged: Count
    normals: Annotated[list[NormalKept], Meta(max_length=NORMALS_MAX)]


Share = Annotated[float, Meta(ge=0, le=1)]
Shares = tuple[Share, Share, Share, Share, Share]
Spans = tuple[Span, Span, Span, Span, Span]


class BeliefKept(_Strict, kw_only=True):
    """Of the estimate: the newest outcome's age and whether it was good, and the belief in each level.

    `places` is the time spent at each.
    """

    age: Span
    good: bool
    levels: Shares
    places: Spans
    degraded: bool


class FailureKept(_Strict, kw_only=True):
    """One of the last failures."""

    age: Span
    source: Source
    kind: Kind
    status: int | None
    detail: str


class EndpointKept(_Strict, kw_only=True):
    """Of one endpoint. `windows` are cells by source and span.

    The ages are the newest outcome's, the newest report's, and that of the newest probe that did real work.
    """

    identity: str
    age: Span | None
    report_age: Span | None
    verified: bool
    probes_deep: bool
    probe_age: Span | None
    windows: dict[Source, list[list[Cell]]]
    health: HealthKept
    throttle: ThrottleKept
    ceiling: CeilingKept
    belief: BeliefKept | None
    slowness: SlownessKept
    failures: list[FailureKept]


class DrainKept(_Strict, kw_only=True):
    """One word of the operator. `left` is `None` for "until resumed"."""

    target: str
    reason: str
    age: Span
    left: Span | None


class TableKept(_Strict, kw_only=True):
    """Of the table. `windows` are the spans of every endpoint's windows; `sessions` are judged by `affinity`."""

    version: int
    windows: list[Span]
    endpoints: dict[str, Any]
    quotas: dict[str, list[WideCell]]
    drains: list[DrainKept]
    sessions: list[Any]


_EMPTY: Final[Mapping[str, Any]] = {
    "version": VERSION, "windows": [], "endpoints": {}, "quotas": {}, "drains": [], "sessions": [],
}  # fmt: skip


def read(value: object, kind: type[Kept], where: str) -> Kept:
    """Take a plain value for what it should be.

    Raises: ValueError with the place, counted from `where`, what was found and what is allowed.
    """
    try:
        return convert(value, kind)
    except (ValueError, OverflowError) as problem:
        what, _, path = str(problem).partition(" - at ")
        place = path.replace("`", "").replace("$", where, 1) if path.endswith("`") else where
        raise ValueError(f"{place}: {what}") from None


def part(state: object) -> tuple[TableKept, dict[str, EndpointKept]]:
    """Take a part of a dump, which has some of its keys; the others are empty. Raises: ValueError, as `read`."""
    version = state.get("version") if isinstance(state, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise ValueError(f"state.version: {version} is not known here; use a dump of version {VERSION}")
    kept = read({**_EMPTY, **state} if isinstance(state, dict) else state, TableKept, "state")
    endpoints = {
        key: read(value, EndpointKept, f"state.endpoints[{key!r}]") for key, value in kept.endpoints.items()
    }
    return kept, endpoints


class Judge:
    """Looks at all parts of a dump, in whatever order: each by itself, and then whether they are a whole one."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}
        self._spans = 0
        self._counts: dict[int, str] = {}

    def look(self, state: object) -> tuple[TableKept, dict[str, EndpointKept]]:
        """Take the next part. Raises: ValueError, as `read`."""
        kept, endpoints = part(state)
        assert isinstance(state, dict)  # or it had been refused
        self._keys.update(dict.fromkeys(state))
        self._spans += len(kept.windows)
        for key, endpoint in endpoints.items():
            for source, windows in endpoint.windows.items():
                self._counts.setdefault(len(windows), f"state.endpoints[{key!r}].windows.{source}")
        return kept, endpoints

    def end(self) -> None:
        """Say that this was all. Raises: ValueError where something lacks, or some do not fit together."""
        read({key: _EMPTY[key] for key in self._keys}, TableKept, "state")
        for count, where in self._counts.items():
            if count != self._spans:
                raise ValueError(f"{where}: {count} windows; state.windows names {self._spans}")
