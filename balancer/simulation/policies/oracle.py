"""Two policies that are told the truth: they show what could be had.

Theory of operation: both read every endpoint's present chance of success from the world itself. `oracle` scores
with it as `two_memory` and the core score with their estimates: what lies between them is ignorance. `oracle_price`
takes the likeliest to succeed whatever it costs: nobody loses less at a first try, and its cost is what that takes.

What this module does not know: the future, how a single try will end, and refusals for want of capacity: these
depend on what was sent, and the truth of a track does not show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from balancer.simulation.policies.interface import Choice
from balancer.simulation.policies.options import Number
from balancer.simulation.policies.reference import FAILURE_PRICE, Reference
from balancer.simulation.world import Truth, World


class Oracle(Reference):
    """The lowest of price + `failure_price` × the true chance of failure."""

    knows = True
    allowed: ClassVar[Mapping[str, Number]] = {"failure_price": FAILURE_PRICE}

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Keep hold of the truth, which the world goes on changing."""
        super().begin(world, present, seed)
        self._present = present
        self._failure_price = self.options["failure_price"]

    def choose(self, model: int, places: int, now: float) -> Choice:
        """The lowest score; equals in the order of the world."""
        tracks, prices, _ = self.lineups[model]
        present, failure_price = self._present, self._failure_price
        scores = [
            price + failure_price * (1 - present[track].share) for track, price in zip(tracks, prices, strict=True)
        ]
        order = sorted(range(len(scores)), key=scores.__getitem__)
        return Choice([tracks[place] for place in order[:places]])


class OraclePrice(Reference):
    """The highest true chance of success; the price decides only between equals."""

    knows = True

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Keep hold of the truth, which the world goes on changing."""
        super().begin(world, present, seed)
        self._present = present

    def choose(self, model: int, places: int, now: float) -> Choice:
        """The best one now."""
        tracks, prices, _ = self.lineups[model]
        present = self._present
        scores = [(-present[track].share, price) for track, price in zip(tracks, prices, strict=True)]
        order = sorted(range(len(scores)), key=scores.__getitem__)
        return Choice([tracks[place] for place in order[:places]])
