"""What a reader sees of the table: frozen snapshots, built without changing anything.

One `TableView` serves a scrape, a page or a command; two readings of it agree with each other. Totals count
since the endpoint was added; windows are named by their span in the configuration's words.

What this module does not know: how a snapshot is written down (JSON, Prometheus text, a table on a terminal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from balancer.core.accounts import Accounts
from balancer.core.announcement import Announcement
from balancer.core.estimate import peers_prior
from balancer.core.model import SOURCES, Catalog, Endpoint, Model, RetryBudget, Source, State, Timeouts
from balancer.core.notes import Drain, Failure
from balancer.core.outcome import Kind
from balancer.core.phases import Cause
from balancer.core.pool import FLIGHT_LONGEST, last_resort
from balancer.core.row import ELIGIBLE, Row
from balancer.core.standing import standing
from balancer.core.window import Counts
from balancer.core.witness import ReporterView, Suspicion

RANKS: Final = (0.5, 0.75, 0.9, 0.99)  # OpenRouter's percentiles


@dataclass(frozen=True, slots=True)
class Distribution:
    """Successful calls: quantiles at `RANKS` over five minutes, count and sum of all time.

    Units: seconds, or tokens a second. p99 is the bad tail of either: the slowest.
    """

    quantiles: tuple[float, ...] | None
    count: int
    sum: float


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint at one moment. `windows` is by source, then by the window's name.

    `enforced`: health chooses here and does not only watch; `ejections` are by cause, and by whether it chose then.
    """

    id: str
    endpoint: Endpoint
    enforced: bool
    state: State
    states: tuple[State, ...]
    reason: str
    next: str | None
    next_at: float | None
    windows: Mapping[Source, Mapping[str, Counts]]
    latency: Distribution
    ttft: Distribution
    success_estimate: float
    throughput: Distribution
    cache_hit_rate: float
    in_flight: int
    ceiling: float | None
    timeouts: Timeouts
    outcomes: Mapping[tuple[Source, Kind], int]
    selections: int
    ejections: Mapping[tuple[Cause, bool], int]
    failures: tuple[Failure, ...]
    evidence_age: float | None
    report_age: float | None

    @property
    def eligible(self) -> bool:
        """Whether a decision may choose it, outside of panic and whatever the request asks for."""
        if self.enforced:
            return self.state in ELIGIBLE
        return "drained" not in self.states and self.endpoint.misconfigured is None


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model at one moment: how many of its endpoints may be chosen, and whether health leaves none."""

    id: str
    eligible: int
    total: int
    panic: bool
    retry_budget: RetryBudget


@dataclass(frozen=True, slots=True)
class TableView:
    """The whole table at `now`. `announcements` are of the providers whose status pages tell of trouble."""

    now: float
    generation: int
    endpoints: tuple[EndpointView, ...]
    models: tuple[ModelView, ...]
    drains: tuple[Drain, ...]
    decisions: Mapping[tuple[str, str, str], int]
    sessions: int
    self_suspicion: Suspicion | None
    announcements: Mapping[str, Announcement]
    reporters: tuple[ReporterView, ...]

    @property
    def self_suspect(self) -> bool:
        """Whether whoever holds the table is rather at fault than the providers."""
        return self.self_suspicion is not None


def all_views(
    catalog: Catalog, rows: Mapping[str, Row], accounts: Accounts, now: float
) -> tuple[tuple[EndpointView, ...], tuple[ModelView, ...]]:
    """Take a snapshot of every endpoint, in the order of the models, and of every model."""
    endpoints: list[EndpointView] = []
    models: list[ModelView] = []
    for model in catalog.models.values():
        views = endpoint_views([rows[key] for key in model.endpoints], catalog, now)
        models.append(model_view(model, views, accounts.retry_budget(model.id, now)))
        endpoints += views
    return tuple(endpoints), tuple(models)


def endpoint_views(rows: Sequence[Row], catalog: Catalog, now: float) -> list[EndpointView]:
    """Take a snapshot of all rows of one model: each one's estimate leans on its peers."""
    prior = peers_prior(sorted(row.belief.own for row in rows))
    return [_endpoint_view(row, prior, catalog, now) for row in rows]


def model_view(model: Model, views: Sequence[EndpointView], retries: RetryBudget) -> ModelView:
    """Judge a model by its endpoints."""
    eligible = sum(view.eligible for view in views)
    # A tier is chosen only when it is asked for, so it keeps no ordinary request out of panic.
    plain = [view for view in views if view.endpoint.tier is None]
    ordinary = plain or views
    panic = not any(view.eligible for view in ordinary) and any(
        last_resort(view.states, enforced=view.enforced) for view in ordinary
    )
    return ModelView(model.id, eligible, len(views), panic=panic, retry_budget=retries)


def _endpoint_view(row: Row, prior: float, catalog: Catalog, now: float) -> EndpointView:
    policy, speed = catalog.health, row.speed
    found = standing(row, now, policy)
    names = [window_name(span) for span in policy.windows]
    return EndpointView(
        id=row.endpoint.id,
        endpoint=row.endpoint,
        enforced=row.enforced,
        state=found.state,
        states=found.states,
        reason=found.reason,
        next=found.next,
        next_at=found.next_at,
        windows={
            source: {name: row.windows[source].counts(index, now) for index, name in enumerate(names)}
            for source in SOURCES
        },
        latency=Distribution(speed.percentiles("latency", now), speed.latency.count, speed.latency.sum),
        ttft=Distribution(speed.percentiles("ttft", now), speed.ttft.count, speed.ttft.sum),
        success_estimate=row.success_estimate(now, prior=prior),
        throughput=Distribution(speed.percentiles("throughput", now), speed.throughput.count, speed.throughput.sum),
        cache_hit_rate=row.hits.rate(now),
        in_flight=row.flight.count(now, longest=FLIGHT_LONGEST),
        ceiling=row.ceiling.ceiling(now),
        timeouts=speed.timeouts(None, now=now, policy=catalog.routing.timeouts),
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
