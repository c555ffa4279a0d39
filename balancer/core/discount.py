"""What is not believed: set aside when it comes, taken back where it was believed before.

Theory of operation: an outcome in doubt is counted under its own kind, because it happened, and otherwise says
nothing about a provider; a trial that it carried decided nothing. When a suspicion begins, the failures since its
onset leave the windows in which they were counted and the belief that they moved, the streaks that they fed are
forgotten, and what was taken out of service on that word stands where it stood before. Where others say the same,
only the windows forget it.

What this module does not know: whom to believe (`doubt`).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from balancer.core.detectors import Detectors
from balancer.core.doubt import Doubt
from balancer.core.model import HealthPolicy, Source
from balancer.core.outcome import Outcome
from balancer.core.phases import Change
from balancer.core.row import Row
from balancer.core.telling import Teller
from balancer.core.window import FAILURE
from balancer.core.witness import Suspicion


def nothing(outcome: Outcome) -> Outcome:
    """The same call, saying nothing about the provider."""
    return replace(outcome, kind="local")


def set_aside(
    row: Row,
    outcome: Outcome,
    *,
    source: Source,
    began: float,
    ended: float,
    now: float,
    decision: str | None,
    policy: HealthPolicy,
) -> list[Change]:
    """Count an outcome that is no evidence; tell what that changed."""
    key = source, outcome.kind
    row.outcomes[key] = row.outcomes.get(key, 0) + 1
    row.touch()
    change = row.health.record(
        nothing(outcome), source=source, began=began, ended=ended, now=now, decision=decision, policy=policy
    )
    return [] if change is None else [change]


def heed(
    doubt: Doubt,
    rows: Mapping[str, Row],
    detectors: Detectors,
    teller: Teller,
    *,
    policy: HealthPolicy,
    now: float,
) -> None:
    """Tell whom doubt suspects or believes again, and undo what the suspects brought about."""
    news, doubt.news = doubt.news, []
    for each in news:
        teller.doubt(each, now)
        if isinstance(each, Suspicion):
            whose = "our own word" if each.witness is None else f"the word of {each.witness}"
            undone = Change("endpoint.readmitted", f"taken out on {whose}, which is in doubt")
            for row in take_back(rows, detectors, each):
                teller.changes(row, [undone], now, policy)


def take_back(rows: Mapping[str, Row], detectors: Detectors, suspicion: Suspicion) -> list[Row]:
    """Undo what a suspect brought about; tell which rows are no longer ejected or misconfigured."""
    fed: dict[str, list[float]] = {}
    for each in suspicion.failures:
        row = rows.get(each.endpoint)
        if row is not None:
            real = fed.setdefault(each.endpoint, [])
            if not each.shallow:  # a cheap probe moved no belief
                real.append(each.ended)
            if not (each.shallow and row.probes_deep):  # or not even a window
                row.windows[each.source].take_back(each.ended, FAILURE)
            detectors.take_back(each.endpoint, ended=each.ended)
    absolved: list[Row] = []
    for key, row in rows.items():
        if key in fed:
            if fed[key] and key in suspicion.endpoints:  # elsewhere others say the same
                row.belief.forgive(fed[key])
                detectors.believed(row)
            row.touch()
        # A provider's trouble may have ejected an endpoint of which the suspect never spoke.
        stands = key in fed or row.health.phase != "closed"
        if stands and key in suspicion.endpoints and row.health.absolve(since=suspicion.since):
            row.touch()
            absolved.append(row)
    return absolved
