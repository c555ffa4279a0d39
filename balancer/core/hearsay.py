"""What each provider's status page says at present, and the rows that it is said of.

Only trouble is kept: of who is well nothing is said.

What this module does not know: how much a word counts (`announcement`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from balancer.core.announcement import Announcement, Level
from balancer.core.model import HealthPolicy
from balancer.core.row import Row
from balancer.core.telling import Teller


class Hearsay:
    """The words of all providers."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._said: dict[str, Announcement] = {}

    def take(
        self,
        provider: str,
        level: Level,
        detail: str,
        rows: Iterable[Row],
        *,
        now: float,
        lasting: float,
        policy: HealthPolicy,
    ) -> None:
        """Take a word that stands for `lasting` seconds; it is news where it differs from the last."""
        before = self._said.get(provider)
        if before is None and level == "operational":
            return
        if level == "operational":
            del self._said[provider]
            self._teller.announced(provider, "its status page tells of no trouble any more", now)
        else:
            since = before.since if before is not None and before.level == level else now
            said = self._said[provider] = Announcement(level, detail, since, now + lasting)
            if before is None or before.told != said.told:
                self._teller.announced(provider, said.told, now)
        self.assign([row for row in rows if row.endpoint.provider == provider], now=now, policy=policy)

    def retain(self, providers: Collection[str], rows: Iterable[Row], *, now: float, policy: HealthPolicy) -> None:
        """Forget the words of all but these."""
        gone = [provider for provider in self._said if provider not in providers]
        self._forget(gone, "its status page is not asked any more", rows, now=now, policy=policy)

    def lapse(self, rows: Iterable[Row], *, now: float, policy: HealthPolicy) -> None:
        """Forget the words that nobody has read again."""
        gone = [provider for provider, said in self._said.items() if now >= said.until]
        self._forget(gone, "its status page has not been read for too long", rows, now=now, policy=policy)

    def _forget(
        self, gone: Collection[str], why: str, rows: Iterable[Row], *, now: float, policy: HealthPolicy
    ) -> None:
        for provider in gone:
            del self._said[provider]
            self._teller.announced(provider, why, now)
        if gone:
            self.assign([row for row in rows if row.endpoint.provider in gone], now=now, policy=policy)

    def assign(self, rows: Iterable[Row], *, now: float, policy: HealthPolicy) -> None:
        """Give each row the word of its provider, and tell what that changed."""
        for row in rows:
            said = self._said.get(row.endpoint.provider)
            if said is not row.announced:
                row.announced = said
                row.touch()
                self._teller.changes(row, [], now, policy)

    def standing(self, now: float) -> Mapping[str, Announcement]:
        """All that stand, by provider."""
        return {key: said for key, said in self._said.items() if now < said.until}
