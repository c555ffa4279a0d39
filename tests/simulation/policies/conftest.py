"""One policy before one model, told what to learn and asked for orders at literal times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from balancer.core.outcome import Kind
from balancer.simulation.policies import Policy, make
from balancer.simulation.policies.interface import Move, Offer, Try
from balancer.simulation.world import Track, Truth, World


class Stand:
    """A policy that has begun in a world of one model, whose endpoints are numbered in the order of `prices`."""

    def __init__(self, text: str, prices: Sequence[float], shares: Sequence[float | None], seed: int) -> None:
        self.policy: Policy = make(text)
        self.present = [
            Truth(0.0, share, prompt=price) for price, share in zip(prices, shares, strict=True)
        ]  # to be changed by a test, as a replay does
        tracks = tuple(
            Track(id=f"m@{place}", model=0, provider=f"p{place}", tag=f"p{place}", truths=(truth,), samples=())
            for place, truth in enumerate(self.present)
        )
        world = World(name="stand", duration=1e9, models=("m",), tracks=tracks)
        self.policy.begin(world, self.present, seed)
        self.offer(*enumerate(prices))

    def offer(self, *offers: tuple[int, float], at: float = 0.0) -> None:
        self.policy.offer(0, [Offer(track, price) for track, price in offers], at)

    def order(self, at: float, places: int = 100) -> list[int]:
        return list(self.policy.choose(0, places, at).order)

    def firsts(self, at: float, draws: int) -> Counter[int]:
        return Counter(self.order(at, 1)[0] for _ in range(draws))

    def tell(
        self, track: int, *kinds: Kind, at: float, probe: bool = False, retry_after: float | None = None
    ) -> None:
        """Finished tries, all at one moment."""
        for kind in kinds:
            self.policy.learn(Try(track, kind, at - 0.3, at, None, retry_after, probe, None), at)

    def moves(self) -> list[Move]:
        return self.policy.moves()


@pytest.fixture(scope="session")
def stand() -> Callable[..., Stand]:
    """Make a stand from a policy's text and the prices of the endpoints."""

    def made(text: str, *prices: float, shares: Sequence[float | None] | None = None, seed: int = 1) -> Stand:
        return Stand(text, prices, [1.0] * len(prices) if shares is None else shares, seed)

    return made
