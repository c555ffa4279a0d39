"""What a prober must know of an endpoint before it spends money there.

Theory of operation: reports of real requests say more than any probe, so what matters is how old they are, and
whether a question is open that only a call can answer: the endpoint failed lately, or its hold is over and nobody
has tried it. Where its model has traffic, a request will answer that; `traffic_age` tells.

What this module does not know: kinds of probes, intervals and budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from balancer.core.row import Row

Urgency = Literal["calm", "suspect", "trial", "held"]
"""`suspect`: it failed last, or is degraded. `trial`: its hold is over. `held`: asking now would tell nothing."""

_HELD = frozenset({"drained", "misconfigured", "throttled", "ejected", "half_open"})


class Evidence(NamedTuple):
    """The age of the endpoint's newest report and of its model's (`None`: none came), and what is open.

    Units: seconds.
    """

    report_age: float | None
    traffic_age: float | None
    urgency: Urgency


def evidence(row: Row, company: Sequence[Row], now: float) -> Evidence:
    """Look at one row; `company` are those of its model, itself among them."""
    newest = max([each.last_report for each in company if each.last_report is not None], default=None)
    return Evidence(_age(row.last_report, now), _age(newest, now), _urgency(row, now))


def _urgency(row: Row, now: float) -> Urgency:
    states = row.states(now)
    if states[0] == "ejected" and row.health.trial_due(now) and "throttled" not in states:
        return "trial"
    if not _HELD.isdisjoint(states):
        return "held"
    return "suspect" if row.health.recent.failing or "degraded" in states else "calm"


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)
