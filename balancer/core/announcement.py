"""What providers say of themselves on their status pages, and how much that counts.

Theory of operation: a page is evidence of lower rank. It is late by half an hour as a rule, at the beginning and at
the end, and it speaks of a whole provider. So it counts only where nothing better is known: an endpoint at which
real work was seen in the last five minutes, or in the last half hour since the page began to say so, is judged by
that alone. Elsewhere the trouble that is told counts as a further cause of failure, and the endpoint as degraded:
it falls behind its equals, and is probed sooner. No word of a page ejects.

A word stands until the page says another, or until it has not been read for so long that nobody knows.

What this module does not know: pages, their formats, and how often they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final, Literal, NamedTuple, get_args

Level = Literal["operational", "under_maintenance", "degraded_performance", "partial_outage", "major_outage"]
"""Statuspage's words for a component, from good to bad."""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

# How often calls are thought to fail for the trouble that is told. Our judgement: nobody has measured it. At the
# usual price of a failure (15) these add 0.75, 2.25 and 7.5 times the cheapest price, so that a word moves traffic
# to equals, and only a major outage moves it to somebody much dearer.
RISKS: Final[Mapping[Level, float]] = {
    "operational": 0.0,
    "under_maintenance": 0.05,
    "degraded_performance": 0.05,
    "partial_outage": 0.15,
    "major_outage": 0.5,
}

OUTRANKED: Final = 1800.0  # s; as late as pages usually are, so what was seen since then is newer than their word
FRESH: Final = 300.0  # s; who has traffic is not moved by a page, nor are the sessions of chats that pause


class Announcement(NamedTuple):
    """What a page says, `since` when, and `until` when that stands if it is not read again."""

    level: Level
    detail: str
    since: float
    until: float

    @property
    def told(self) -> str:
        """All of it in a phrase."""
        said = f"its status page says {self.level.replace('_', ' ')}"
        return f"{said} ({self.detail})" if self.detail else said

    def counts(self, seen: float, now: float) -> bool:
        """Whether it counts for an endpoint where real work was `seen` last then."""
        return self.level != "operational" and self._outranked_until(seen) <= now < self.until

    def changes_at(self, seen: float, now: float) -> float:
        """When time alone will change whether it counts; infinity where it will not."""
        if self.level == "operational" or now >= self.until:
            return inf
        begins = self._outranked_until(seen)
        if now < begins:
            return begins if begins < self.until else inf
        return self.until

    def _outranked_until(self, seen: float) -> float:
        return seen + (OUTRANKED if seen >= self.since else FRESH)

    def risen(self, base: float, slope: float) -> tuple[float, float]:
        """Join its risk, as of a cause of its own, with a chance of failure of `base` + `slope` × prior."""
        spared = 1 - RISKS[self.level]
        return 1 - spared * (1 - base), spared * slope
