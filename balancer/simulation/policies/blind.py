"""Three policies that know prices and nothing of health: they show what health is worth.

Theory of operation: `cheapest` always takes the same endpoint, `uniform` any, `price_squared` any by 1/price².

What this module does not know: outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

from balancer.simulation.policies.interface import Choice, Offer
from balancer.simulation.policies.reference import Reference, lottery, shuffle
from balancer.simulation.world import Truth, World


class Cheapest(Reference):
    """The lowest price first. Equals stand in an order that is drawn once a run: it never wanders between them."""

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Draw every endpoint's lot."""
        super().begin(world, present, seed)
        self._lots = [self.random.random() for _ in world.tracks]
        self._orders: list[list[int]] = [[] for _ in world.models]

    def offer(self, model: int, offers: Sequence[Offer], now: float) -> None:
        """Sort once: nothing but a price changes the order."""
        super().offer(model, offers, now)
        offered = self.lineups[model]
        ranked = sorted(
            zip(offered.prices, offered.tracks, strict=True), key=lambda each: (each[0], self._lots[each[1]])
        )
        self._orders[model] = [track for _, track in ranked]

    def choose(self, model: int, places: int, now: float) -> Choice:
        """The cheapest."""
        return Choice(self._orders[model][:places])


class Uniform(Reference):
    """Every order is as likely as any other."""

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Shuffle."""
        return Choice(shuffle(self.lineups[model], self.random)[:places])


class PriceSquared(Reference):
    """A lottery by 1/price²: the spread of OpenRouter's classic rule without its health."""

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Draw."""
        return Choice(lottery(self.lineups[model], self.random)[:places])
