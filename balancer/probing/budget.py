"""What paid probes may cost: counted per provider and UTC day.

Theory of operation: a request is counted when a probe begins, and what it has sent in its place once it ends; one
that needs a second request has that counted before it is sent, or does without. What a probe costs is known after
it, so until then the most that one of that provider cost today is set aside, and no probe begins for which that
would not be there. While nobody knows what one costs, one goes alone, but for those that somebody asks for by
name: a budget of USD is exceeded by the first probe of a day at the most, and by those. An answer without usage,
or an endpoint without prices, costs requests and no USD.

A restart gives no day's budget anew: `dump` tells the day and what it has used, with what was set aside for probes
under way, whose cost nobody will learn. `restore` lets the larger of two figures stand, so that nothing counts
twice. Of yesterday nothing is taken; of tomorrow, told by a clock that was set back since, all; of a later day,
told by a clock that was wrong, as if it were of today: or no paid probe would be made until then. A clock that is
set back while we run is followed in the same way: no day twice, and what it had spent ahead is of today.

What this module does not know: which probes are paid, and monotonic time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, to_builtins

from balancer.config.settings import Budget
from balancer.core.kept import COUNT_MAX, Count, read

DAY: Final = 86_400.0  # seconds of a UTC day; Unix time has no leap seconds


VERSION: Final = 1
DAY_MAX: Final = 10_000_000  # a UTC day of 27,000 years from now
USD_MAX: Final = 1e12  # beyond which it is no sum that probes cost

Usd = Annotated[float, Meta(ge=0, le=USD_MAX)]


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


@dataclass(slots=True, kw_only=True, eq=False)
class Hold:
    """What is counted and set aside for a probe under way. Units: USD; `None` where nobody knows what one costs."""

    provider: str
    day: int
    usd: float | None
    requests: int = 1


class SpentKept(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of one provider's day: what was used, the most that a probe cost, and whether it was told to be used up."""

    requests: Count
    usd: Usd
    dearest: Usd | None
    told: bool


class BudgetsKept(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a restart keeps, by provider."""

    version: int
    day: Annotated[int, Meta(ge=0, le=DAY_MAX)]
    spent: dict[str, SpentKept]


def kept(state: object) -> BudgetsKept:
    """Take what `Budgets.dump` told. Raises: ValueError with the place, what was found and what is allowed."""
    found = read(state, BudgetsKept, "budgets")
    if found.version != VERSION:
        raise ValueError(f"budgets.version: {found.version} is not known here; use a dump of version {VERSION}")
    return found


class Budgets:
    """Every provider's day."""

    def __init__(self, *, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._day = 0
        self._spent: dict[str, Spent] = {}
        self._dearest: dict[str, float] = {}
        self._held: dict[str, list[Hold]] = {}
        self._told: dict[str, int] = {}

    # ---- reading -------------------------------------------------------------------------------------

    def spent(self, provider: str) -> Spent:
        """What paid probes of a provider have used today."""
        return self._spent.get(provider, Spent()) if self._today() <= self._day else Spent()

    def lack(self, provider: str, budget: Budget, *, priced: bool, asked: bool = False) -> str | None:
        """Why there is nothing left for another probe, in words; `None` where there is.

        Shape: `priced` is whether its endpoint has prices, `asked` whether somebody asked for it by name.
        """
        spent = self.spent(provider)
        said = spent.told(budget)
        if spent.exceeds(budget):
            return said
        held = [hold.usd for hold in self._held.get(provider, ())]
        if priced and None in held and not asked:
            return f"{said}, and one is under way whose cost is not known yet"
        dearest = self._dearest.get(provider) if self._today() <= self._day else None
        if not priced or dearest is None:
            return None
        set_aside = sum(usd for usd in held if usd is not None)
        if spent.usd + set_aside + dearest <= budget.usd:
            return None
        return f"{said}, and one costs up to {dearest:.4f}"

    def dump(self) -> dict[str, Any]:
        """Tell what a restart keeps, in values that JSON can spell, changing nothing."""
        today = self._today()
        told: dict[str, SpentKept] = {}
        for provider, spent in self._spent.items() if today <= self._day else ():
            held = sum(hold.usd for hold in self._held.get(provider, ()) if hold.usd is not None)
            told[provider] = SpentKept(
                requests=min(max(0, spent.requests), COUNT_MAX),
                usd=min(spent.usd + held, USD_MAX),
                dearest=None if provider not in self._dearest else min(self._dearest[provider], USD_MAX),
                told=self._told.get(provider) == self._day,
            )
        plain: dict[str, Any] = to_builtins(BudgetsKept(version=VERSION, day=today, spent=told))
        return plain

    # ---- changing ------------------------------------------------------------------------------------

    def begin(self, provider: str, *, priced: bool) -> Hold:
        """Count a request, and set aside what it may cost."""
        self._turn_day()
        hold = Hold(provider=provider, day=self._day, usd=self._dearest.get(provider) if priced else 0.0)
        self._held.setdefault(provider, []).append(hold)
        self._add(provider, requests=1)
        return hold

    def extend(self, hold: Hold, budget: Budget) -> bool:
        """Count one more request of a probe under way; false where nothing is left for it."""
        self._turn_day()
        if self.spent(hold.provider).exceeds(budget):
            return False
        hold.requests += 1
        self._add(hold.provider, requests=1)
        return True

    def settle(self, hold: Hold, *, usd: float | None, sent: int) -> None:
        """Count what a probe sent and cost in place of what was counted and set aside when it began."""
        self._turn_day()
        held = self._held[hold.provider]
        held.remove(hold)
        if not held:
            del self._held[hold.provider]
        if hold.day == self._day:
            self._add(hold.provider, requests=sent - hold.requests)
        if usd is not None:
            self._dearest[hold.provider] = max(usd, self._dearest.get(hold.provider, 0.0))
            self._add(hold.provider, usd=usd)

    def is_news(self, provider: str) -> bool:
        """Whether nobody was told yet today that this provider's budget is used up; asked once, it is told.

        Shape: while a probe is under way it is not known to be.
        """
        self._turn_day()
        if provider in self._held or self._told.get(provider) == self._day:
            return False
        self._told[provider] = self._day
        return True

    def restore(self, told: BudgetsKept) -> None:
        """Take back what was told by another process, or by this one."""
        self._turn_day()
        if told.day < self._day:
            return
        if told.day == self._day + 1:
            self._day = told.day
            self._spent.clear()
            self._dearest.clear()
        for provider, each in told.spent.items():
            own = self._spent.get(provider, Spent())
            self._spent[provider] = Spent(requests=max(own.requests, each.requests), usd=max(own.usd, each.usd))
            if each.dearest is not None:
                self._dearest[provider] = max(each.dearest, self._dearest.get(provider, 0.0))
            if each.told:
                self._told[provider] = self._day

    def _add(self, provider: str, *, requests: int = 0, usd: float = 0.0) -> None:
        before = self._spent.get(provider, Spent())
        self._spent[provider] = Spent(requests=before.requests + requests, usd=before.usd + usd)

    def _turn_day(self) -> None:
        today, before = self._today(), self._day
        if today > before:
            self._spent.clear()
            self._dearest.clear()
        elif today < before:  # it was ahead: what was done then was done today, and tomorrow is a new day
            self._told = {provider: today for provider, day in self._told.items() if day == before}
            for hold in chain.from_iterable(self._held.values()):
                hold.day = today if hold.day == before else hold.day
        self._day = today

    def _today(self) -> int:
        """The UTC day; a clock that is set back to yesterday does not give today's budget twice.

        Shape: below `_day` only where the clock was ahead by more: who waited for it would wait for years.
        """
        today = int(self._wall() // DAY)
        return today if today < self._day - 1 else max(self._day, today)
