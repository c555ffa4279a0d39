"""Why an endpoint is in its state, and what happens next and when: the words that operators read.

What this module does not know: colours, tables, JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from balancer.core.model import HealthPolicy, State
from balancer.core.recent import RECENT_AGE
from balancer.core.row import Row


@dataclass(frozen=True, slots=True)
class Standing:
    """The state shown, why, and what happens next and when (`None`: nothing is scheduled)."""

    state: State
    states: tuple[State, ...]
    reason: str
    next: str | None
    next_at: float | None

    def told(self, now: float) -> str:
        """All of it in one line; empty where there is nothing to tell."""
        if self.next is None or self.state == "misconfigured":
            return self.reason
        if self.next_at is None or self.next_at <= now:
            return f"{self.reason}; {self.next}"
        return f"{self.reason}; {self.next} in {self.next_at - now:.0f} s"


def standing(row: Row, now: float, policy: HealthPolicy) -> Standing:
    """The state of one row with its reason and its next moment."""
    states = row.states(now)
    reason, following, moment = _story(row, states[0], now, policy)
    return Standing(states[0], states, reason, following, moment)


def _story(row: Row, state: State, now: float, policy: HealthPolicy) -> tuple[str, str | None, float | None]:
    health = row.health
    match state:
        case "drained":
            drain = row.drained(now)
            assert drain is not None
            return drain.reason, None if drain.until is None else "drain ends", drain.until
        case "misconfigured":
            if row.endpoint.misconfigured is not None:
                return row.endpoint.misconfigured, "waits for a reload or restart that mends it", None
            assert health.misconfigured is not None
            return health.misconfigured, "waits for a good probe or `balancer resume`", None
        case "ejected":
            if health.trial_due(now):
                by = "request that would go there" if row.trial_due(now) else "probe"
                return health.reason, f"trial with the next {by}", now
            following = "trial" if now < health.until else "trial after a good probe"
            return health.reason, following, health.until if now < health.until else None
        case "half_open":
            assert health.lease is not None
            return f"one trial is out, after {health.reason}", "trial lapses", health.lease.expires
        case "throttled":
            return "held after a 429 or a hint", "hold ends", row.throttle.until
        case "recovering":
            done = max(0, policy.ramp_requests - health.ramp_left)
            return f"trial passed; {done} of {policy.ramp_requests} requests of the ramp", None, None
        case "degraded":
            warning = row.warning(now)
            if warning is not None and not row.belief.degraded(now):
                return warning.told, None, None
            streak = health.recent.streak(now, age=RECENT_AGE)
            if streak > 1:
                return f"{streak} failures in a row", None, None
            # Belief may be older than the shorter windows.
            seen = [row.evidence(index, now) for index in range(1, len(policy.windows))]
            counts = next((counts for counts in seen if counts.failure), seen[-1])
            return f"{counts.failure} of {counts.outcomes} failed lately", None, None
        case "unverified":
            return "no success yet" if row.failures else "no evidence yet", None, None
        case _:
            return "", None, None
