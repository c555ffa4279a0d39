"""What a reader sees of the table: frozen snapshots, built without changing anything.

One `TableView` serves a scrape, a page or a command; two readings of it agree with each other. Totals count
since the endpoint was added; windows are named by their span in the configuration's words.

What this module does not know: how a snapshot is written down (JSON, Prometheus text, a table on a terminal).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from balancer.core.health import Cause
from balancer.core.model import SOURCES, Endpoint, HealthPolicy, Source, State, Timeouts
from balancer.core.outcome import Kind
from balancer.core.row import Drain, Failure, Row
from balancer.core.window import Counts

RANKS: Final = (0.5, 0.75, 0.9, 0.99)  # OpenRouter's percentiles


@dataclass(frozen=True, slots=True)
class Distribution:
    """Seconds of successful calls: quantiles at `RANKS` over five minutes, count and sum of all time."""

    quantiles: tuple[float, ...] | None
    count: int
    sum: float


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint at one moment. `windows` is by source, then by the window's name."""

    id: str
    endpoint: Endpoint
    state: State
    states: tuple[State, ...]
    reason: str
    next: str | None
    next_at: float | None
    windows: Mapping[Source, Mapping[str, Counts]]
    latency: Distribution
    ttft: Distribution
    success_estimate: float
    timeouts: Timeouts
    outcomes: Mapping[tuple[Source, Kind], int]
    selections: int
    ejections: Mapping[Cause, int]
    failures: tuple[Failure, ...]
    evidence_age: float | None
    report_age: float | None


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model at one moment: how many of its endpoints may be chosen, and whether health leaves none."""

    id: str
    eligible: int
    total: int
    panic: bool


@dataclass(frozen=True, slots=True)
class TableView:
    """The whole table at `now`."""

    now: float
    generation: int
    endpoints: tuple[EndpointView, ...]
    models: tuple[ModelView, ...]
    drains: tuple[Drain, ...]
    decisions: Mapping[tuple[str, str, str], int]
    self_suspect: bool


def endpoint_view(row: Row, *, prior: float, policy: HealthPolicy, now: float) -> EndpointView:
    """Take a snapshot of one row."""
    standing = row.standing(now, policy)
    names = [window_name(span) for span in policy.windows]
    return EndpointView(
        id=row.endpoint.id,
        endpoint=row.endpoint,
        state=standing.state,
        states=standing.states,
        reason=standing.reason,
        next=standing.next,
        next_at=standing.next_at,
        windows={
            source: {name: row.windows[source].counts(index, now) for index, name in enumerate(names)}
            for source in SOURCES
        },
        latency=Distribution(row.latency.at(now, RANKS), row.latency.count, row.latency.sum),
        ttft=Distribution(row.ttft.at(now, RANKS), row.ttft.count, row.ttft.sum),
        success_estimate=1 - row.failure_probability(now, prior=prior, policy=policy),
        timeouts=row.timeouts,
        outcomes=dict(row.outcomes),
        selections=row.selections,
        ejections=dict(row.trips),
        failures=tuple(reversed(row.failures)),
        evidence_age=None if row.last_outcome is None else max(0.0, now - row.last_outcome),
        report_age=None if row.last_report is None else max(0.0, now - row.last_report),
    )


def window_name(span: float) -> str:
    """Name a span as the configuration does: 30 s is "30s", 300 s is "5m", a day is "1d"."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if span >= size and span % size == 0:
            return f"{span / size:g}{unit}"
    return f"{span:g}s"
