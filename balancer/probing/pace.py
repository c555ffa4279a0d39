"""How soon an endpoint is probed again, and whether a paid probe is worth its money now.

Theory of operation: a probe goes out at every turn, a free one where no paid one is bought. Turns come each
`interval`, and each `suspect_interval` while something is wrong: the last probe failed, or the core finds the
endpoint suspect or has taken it out.

A paid probe is bought only for a question that nobody else answers. Not while a report is younger than
`stale_after`, unless requests leave the trial to a probe. At once where nothing was ever seen; else when requests
leave its trial to a probe. When an endpoint is suspect or its trial is due, only where its model has no traffic: else
a request will go there, if only to explore. Each probe in a row that failed doubles the wait until the next, and soon it is so long that
requests wait no more. And at the slow `floor`, so that an endpoint that serves nobody is known to answer before it
is needed.

What this module does not know: budgets, jitter, and the clock.
"""

from __future__ import annotations

from typing import Final

from balancer.config.settings import ProbeSettings
from balancer.core.evidence import Evidence

DOUBLINGS_MAX: Final = 32  # past it any floor is reached, and a float stays a number


def turn(settings: ProbeSettings, seen: Evidence, *, failing: bool) -> float:
    """Seconds from one turn to the next, without jitter. Shape: `failing` is how its last probe ended."""
    wrong = failing or seen.urgency in ("suspect", "out", "trial", "awaited")
    return min(settings.suspect_interval, settings.interval) if wrong else settings.interval


def worth_paying(settings: ProbeSettings, seen: Evidence, *, paid_age: float | None, failures: int) -> bool:
    """Whether a paid probe is to go out. Shape: `paid_age` is that of the last one, `None` where there was none."""
    young = seen.report_age is not None and seen.report_age < settings.stale_after
    if young and seen.urgency != "awaited":
        return False
    if paid_age is None:
        return True
    if paid_age >= settings.floor:
        return True
    idle = seen.traffic_age is None or seen.traffic_age >= settings.stale_after
    if seen.urgency in ("held", "out") or (seen.urgency != "awaited" and not idle):
        return False
    if seen.urgency == "calm" and failures == 0:
        return False
    return paid_age >= turn(settings, seen, failing=failures > 0) * 2.0 ** min(max(failures - 1, 0), DOUBLINGS_MAX)
