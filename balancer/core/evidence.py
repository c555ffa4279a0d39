"""What a prober must know of an endpoint before it spends money there.

Theory of operation: reports of real requests say more than any probe, so what matters is how old they are, and
whether a question is open that only a call can answer: the endpoint failed lately, or its hold is over and nobody
has tried it. Where its model has traffic, a request will answer that; `traffic_age` tells. Not so where a probe did
real work there a moment ago: requests then leave the trial to the next one, which must come.

What this module does not know: kinds of probes, intervals and budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from balancer.core.row import Row

Urgency = Literal["calm", "warned", "suspect", "out", "trial", "awaited", "misconfigured", "held"]
"""`warned`: only its provider's status page speaks against it. `suspect`: it failed last, or is degraded. `out`:
its hold is not over, or its trial is under way. `trial`: its hold is over, and a request or a probe will be the
trial; `awaited`: the same, and requests wait for a probe. `misconfigured`: it refused us, and no request will find
out that it does no more. `held`: nobody is to call it."""

_HELD = frozenset({"drained", "throttled"})


class Evidence(NamedTuple):
    """The age of the endpoint's newest report and of its model's (`None`: none came), and what is open.

    Units: seconds.
    """

    report_age: float | None
    traffic_age: float | None
    urgency: Urgency


CALM: Final = Evidence(None, None, "calm")
"""Of what nobody reports on and nothing is asked: no endpoint."""


def evidence(row: Row, company: Sequence[Row], now: float) -> Evidence:
    """Look at one row; `company` are those of its model, itself among them."""
    newest = max([each.last_report for each in company if each.last_report is not None], default=None)
    return Evidence(_age(row.last_report, now), _age(newest, now), _urgency(row, now))


def _urgency(row: Row, now: float) -> Urgency:
    states = row.states(now)
    if not _HELD.isdisjoint(states):
        return "held"
    if "misconfigured" in states:
        return "misconfigured"
    if states[0] == "half_open" or (states[0] == "ejected" and not row.health.trial_due(now)):
        return "out"
    if states[0] == "ejected":
        return "trial" if row.trial_due(now) else "awaited"
    if row.health.recent.failing:
        return "suspect"
    if "degraded" not in states:
        return "calm"
    return "suspect" if row.belief.degraded(now) else "warned"


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)
