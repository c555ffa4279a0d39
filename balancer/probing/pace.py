"""How soon an endpoint is probed again, and whether a paid probe is worth its money now.

Theory of operation: a probe goes out at every turn, a free one where no paid one is bought. Turns come each
`interval`, and each `suspect_interval` while something is wrong: the last probe failed, or the core finds the
endpoint suspect, warned of or out. What refuses us waits for a person: there is no hurry.

A paid probe is bought only for a question that nobody else answers. Not while a report is younger than
`stale_after`, unless requests leave the trial to a probe. At once where nothing was bought yet, and again where the
last one has told nothing, as it was not even sent, or never any has. Else when requests leave its
trial to a probe. When an endpoint is suspect or its trial is due, only where its model has no traffic: else a
request will go there, if only to explore. And at the slow `floor`, so that an endpoint that serves nobody is known
to answer before it is needed. One that refused us is asked again, or it would never be found to take us back.
Nothing at all is bought of one that is drained, nor while it is to be left alone after a 429.

Each one that was sent since the endpoint was last calm doubles the wait until the next, whatever it found: what
one probe cannot find out a hundred will not, and soon the wait is so long that requests wait no more. But a good
one is followed at once where that is a trial: who went out again and again needs two in a row.

What this module does not know: budgets, jitter, and the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from balancer.config.settings import ProbeSettings
from balancer.core.evidence import Evidence
from balancer.core.outcome import Count

DOUBLINGS_MAX: Final = 32  # past it any floor is reached, and a float stays a number


@dataclass(slots=True, kw_only=True)
class Bought:
    """The paid probes of one endpoint.

    `at` is when the last one began (`None`: there was none), `count` how many were sent since the endpoint was
    last calm, `last` what the last one told, and `decided` whether any told that it works or fails.
    """

    at: float | None = None
    count: int = 0
    last: Count | None = None
    decided: bool = False

    def buy(self, now: float) -> None:
        """Note that one begins."""
        self.at = now
        self.count += 1

    def hand_back(self) -> None:
        """Note that the last one was not sent: it cost nothing, and the next is not to wait longer for it."""
        self.count = max(self.count - 1, 0)

    def learn(self, told: Count) -> None:
        """Note what one found."""
        self.last = told
        self.decided = self.decided or told in ("success", "failure")

    def look(self, seen: Evidence) -> None:
        """Begin the doubling anew where the last one was good and nothing is wrong any more."""
        if seen.urgency in ("calm", "warned") and self.last == "success":
            self.count = 0


def turn(settings: ProbeSettings, seen: Evidence, *, failing: bool) -> float:
    """Seconds from one turn to the next, without jitter. Shape: `failing` is how its last probe ended."""
    wrong = seen.urgency in ("warned", "suspect", "out", "trial", "awaited")
    wrong = wrong or (seen.urgency == "calm" and failing)
    return min(settings.suspect_interval, settings.interval) if wrong else settings.interval


def worth_paying(settings: ProbeSettings, seen: Evidence, bought: Bought, now: float) -> bool:
    """Whether a paid probe is to go out."""
    young = seen.report_age is not None and seen.report_age < settings.stale_after
    if seen.urgency == "held" or (young and seen.urgency != "awaited"):
        return False
    if bought.at is None or now - bought.at >= settings.floor:
        return True
    failing = bought.last == "failure"
    idle = seen.traffic_age is None or seen.traffic_age >= settings.stale_after
    if seen.urgency == "out":
        return False
    unsettled = not bought.decided or bought.last == "none"
    alone = unsettled or seen.urgency in ("awaited", "misconfigured")  # no request will find out
    if not alone and (not idle or (seen.urgency in ("calm", "warned") and not failing)):
        return False
    proving = seen.urgency in ("trial", "awaited") and bought.last == "success"
    doublings = 0 if proving else min(max(bought.count - 1, 0), DOUBLINGS_MAX)
    return now - bought.at >= turn(settings, seen, failing=failing) * 2.0**doublings
