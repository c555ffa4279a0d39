"""What the policies to compare with have in common: the endpoints of each model, their prices, a lottery.

Theory of operation: `Reference` keeps what is offered and what moved, and a policy adds how it chooses and learns.
The references stand on their own: nothing here comes from the core's health, estimate or strategies, so that a
mistake there does not excuse itself.

What this module does not know: outcomes, and which policy is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from random import Random
from typing import ClassVar, Final, NamedTuple

from balancer.simulation.policies.interface import Choice, Move, Offer, Try
from balancer.simulation.policies.options import Number, read
from balancer.simulation.world import Truth, World

FREE: Final = 0.1  # of the cheapest paid price: what a free endpoint counts as, since a ratio to 0 says nothing
FAILURE_PRICE: Final = Number(15.0, 0.0, 1e6)  # cheapest prices; 15 is the knee of the front in the recorded week


class Lineup(NamedTuple):
    """The endpoints of a model at present. `prices` are in multiples of the cheapest; `squares` are theirs."""

    tracks: tuple[int, ...] = ()
    prices: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()


def lineup(offers: Sequence[Offer]) -> Lineup:
    """Side by side. A free one counts as a tenth of the cheapest paid one; where all are free, all are equal."""
    free = min([each.price for each in offers if each.price > 0], default=1.0) * FREE
    counted = [each.price if each.price > 0 else free for each in offers]
    cheapest = min(counted, default=1.0)
    prices = tuple(price / cheapest for price in counted)
    return Lineup(tuple(each.track for each in offers), prices, tuple(price * price for price in prices))


def lottery(offered: Lineup, random: Random) -> list[int]:
    """All endpoints, drawn one after the other by 1/price² among those left.

    Source: exponential clocks of rate 1/price² ring in just that order (Efraimidis and Spirakis 2006), and one
    sort is cheaper than a draw for each place.
    """
    draw = random.random
    rings = [-log(1.0 - draw()) * square for square in offered.squares]
    tracks = offered.tracks
    return [tracks[place] for place in sorted(range(len(rings)), key=rings.__getitem__)]


def shuffle(offered: Lineup, random: Random) -> list[int]:
    """All endpoints, in any order with equal chance."""
    draw = random.random
    return sorted(offered.tracks, key=lambda _: draw())


class Reference:
    """A policy without health: it learns nothing and moves nothing. `allowed` are its options."""

    probed = False
    demotes = False
    knows = False
    allowed: ClassVar[Mapping[str, Number]] = {}

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        """Read the options. Raises: ValueError with every problem."""
        self.name = name
        self.options = read(options, self.allowed)
        self.random = Random()  # seeded in `begin`
        self.lineups: list[Lineup] = []
        self.moved: list[Move] = []

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Start with nothing known."""
        self.random = Random(f"{seed} policy")
        self.lineups = [Lineup() for _ in world.models]
        self.moved = []

    def offer(self, model: int, offers: Sequence[Offer], now: float) -> None:
        """Take the endpoints and prices of a model from now on."""
        self.lineups[model] = lineup(offers)

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Order the first `places` endpoints for one request."""
        raise NotImplementedError

    def learn(self, tried: Try, now: float) -> None:
        """Look away."""

    def moves(self) -> list[Move]:
        """What was put behind or taken back since this was last asked, in the order of time."""
        moves, self.moved = sorted(self.moved), []
        return moves
