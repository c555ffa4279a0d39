"""What paid probes may cost: counted per provider and UTC day.

Theory of operation: a budget is looked at before a probe, and what that cost is known after, so what is in flight
may exceed it by that much. An answer without usage, or an endpoint without prices, costs requests and no USD. All
of it lives in memory: a restart begins anew.

What this module does not know: which probes are paid, and monotonic time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balancer.config.settings import Budget

DAY: Final = 86_400.0  # seconds of a UTC day; Unix time has no leap seconds


class BudgetSpent(RuntimeError):
    """A paid probe was asked for, and the provider's budget of the day is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What paid probes of one provider have used in the present UTC day. Units: USD."""

    requests: int = 0
    usd: float = 0.0

    def exceeds(self, budget: Budget) -> bool:
        """Whether nothing is left."""
        return self.requests >= budget.requests or self.usd >= budget.usd

    def told(self, budget: Budget) -> str:
        """Both figures beside their limits, for a person."""
        return f"{self.requests} of {budget.requests} requests, {self.usd:.4f} of {budget.usd:g} USD"


class Budgets:
    """Every provider's day."""

    def __init__(self, *, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._day: int | None = None
        self._spent: dict[str, Spent] = {}
        self._told: dict[str, int] = {}

    def spent(self, provider: str) -> Spent:
        """What paid probes of a provider have used today."""
        return self._spent.get(provider, Spent()) if self._day == self._today() else Spent()

    def is_news(self, provider: str) -> bool:
        """Whether nobody was told yet today that this provider's budget is used up; asked once, it is told."""
        today = self._today()
        before = self._told.get(provider)
        self._told[provider] = today
        return before != today

    def spend(self, provider: str, *, requests: int = 0, usd: float = 0.0) -> None:
        """Count what was used."""
        today = self._today()
        if self._day != today:
            self._day = today
            self._spent.clear()
        before = self._spent.get(provider, Spent())
        self._spent[provider] = Spent(requests=before.requests + requests, usd=before.usd + usd)

    def _today(self) -> int:
        return int(self._wall() // DAY)
