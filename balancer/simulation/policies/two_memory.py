"""The reference to be paired with: expected cost, with the chance of failure out of two memories.

Theory of operation: the score is price (in cheapest prices) + `failure_price` × P(fail), the lowest first. P(fail)
is the failure rate of the last minutes, shrunk to the endpoint's own of the last day, shrunk to the model's of the
last day, shrunk to what is normal: each level begins with a few tries' worth of the next. So the last minutes
decide where there are tries, and the day where there are none. A 429 is a failed try. There are no states and no
holds; equals stand in the order of the world.

The counts fade exponentially. Instead of making all of them smaller as time goes by, a later try counts for more:
exp(age) times one at the memory's origin. A rate needs only the ratio, and a prior is scaled alike.

Tried on the recorded week (three days, seed 2, 20 models, six requests a minute, probes every 60 s), as first tries
lost of 10,000 and cost: as it is 43.8 at 1.060; who knows the share, with this score, 30.8 at 1.052. Short memory
2 min 47.3 at 1.067, 5 min 44.0 with half as many switches more, 20 min 45.4 at 1.062; long 6 h 43.4, 3 d 43.6.
Begun with 2, 10, 20, 40 tries of the day 44.3, 44.6, 45.1, 46.7; the day begun with 5, 60, 200 of the model 43.6,
44.1, 44.0; the mean of its endpoints' rates for the model's own 43.7; a probe as half a try 43.8 at 1.064, as two
45.5 at 1.059. As one number (cost + 15 × losses) they lie within 0.5 % of each other, but for 2 min and 40 tries,
1 % behind.

What this module does not know: latency, Retry-After, and that a first failure makes another of the same provider
likelier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import ClassVar, Final

from balancer.core.outcome import COUNTS
from balancer.simulation.policies.interface import Choice, Try
from balancer.simulation.policies.options import Number
from balancer.simulation.policies.reference import FAILURE_PRICE, Reference
from balancer.simulation.world import Truth, World

# Time constants, in seconds, and the tries' worth of the next level that each begins with.
SHORT: Final = 600.0
SHORT_PRIOR: Final = 5.0
LONG: Final = 86_400.0
LONG_PRIOR: Final = 20.0
PEERS_PRIOR: Final = 20.0
NORMAL: Final = 0.02  # of tries fail where nothing is known: the usual floor of hosted models is 1–3 %

AGE_MAX: Final = 50.0  # time constants until a memory gets a new origin: a try there counts 5e21, far from overflow


class Memory:
    """Tries and failures, numbered, that fade with one time constant."""

    __slots__ = ("_origin", "_span", "failures", "tries")

    def __init__(self, span: float, size: int) -> None:
        self._span = span
        self._origin = 0.0
        self.tries = [0.0] * size
        self.failures = [0.0] * size

    def unit(self, now: float) -> float:
        """Tell what one try that ends now counts: ask before reading counts, since a new origin scales them."""
        age = (now - self._origin) / self._span
        if age > AGE_MAX:
            fade = exp(-age)
            self.tries = [each * fade for each in self.tries]
            self.failures = [each * fade for each in self.failures]
            self._origin, age = now, 0.0
        return exp(age)

    def add(self, number: int, ended: float, *, failed: bool) -> None:
        unit = self.unit(ended)
        self.tries[number] += unit
        if failed:
            self.failures[number] += unit


class TwoMemory(Reference):
    """The lowest of price + `failure_price` × the estimated chance of failure."""

    probed = True
    allowed: ClassVar[Mapping[str, Number]] = {"failure_price": FAILURE_PRICE}

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Start with nothing remembered."""
        super().begin(world, present, seed)
        self._failure_price = self.options["failure_price"]
        self._models = [track.model for track in world.tracks]
        self._short = Memory(SHORT, len(world.tracks))
        self._long = Memory(LONG, len(world.tracks))
        self._peers = Memory(LONG, len(world.models))

    def choose(self, model: int, places: int, now: float) -> Choice:
        """The lowest score; equals in the order of the world."""
        tracks, prices, _ = self.lineups[model]
        chances, price_of = self.chances(model, now), self._failure_price
        scores = [price + price_of * chance for price, chance in zip(prices, chances, strict=True)]
        order = sorted(range(len(scores)), key=scores.__getitem__)
        return Choice([tracks[place] for place in order[:places]])

    def chances(self, model: int, now: float) -> list[float]:
        """Estimate P(fail) of each endpoint that is offered, in their order."""
        short, long, peers = self._short, self._long, self._peers
        prior = PEERS_PRIOR * peers.unit(now)
        usual = (peers.failures[model] + prior * NORMAL) / (peers.tries[model] + prior)
        long_prior, short_prior = LONG_PRIOR * long.unit(now), SHORT_PRIOR * short.unit(now)
        usual *= long_prior
        failures, tries = short.failures, short.tries
        long_failures, long_tries = long.failures, long.tries
        return [
            (failures[track] + short_prior * (long_failures[track] + usual) / (long_tries[track] + long_prior))
            / (tries[track] + short_prior)
            for track in self.lineups[model].tracks
        ]

    def learn(self, tried: Try, now: float) -> None:
        """Remember it three times."""
        count, track = COUNTS[tried.kind], tried.track
        if count == "none":
            return
        failed = count != "success"
        self._short.add(track, now, failed=failed)
        self._long.add(track, now, failed=failed)
        self._peers.add(self._models[track], now, failed=failed)
