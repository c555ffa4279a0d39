"""`price`: OpenRouter's classic. Those with an outage in the last 30 s go last, then a lottery by 1/price².

Theory of operation: an endpoint's price is what it asks, over the 15th power of its chance of success. So its
weight follows its health smoothly: at 99 % it keeps three quarters of it, at 90 % a twentieth, and is a spare.
Tiers alone are too coarse for that: most losses are at endpoints that are neither well nor out.

What this module does not know: how the price of the classic is blended; OpenRouter never said. Ours is what this
request would cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from balancer.core.model import Ranking
from balancer.core.pricing import RELATIVE_PRICE_MAX, relative_prices
from balancer.core.strategies.drawing import TIERS, by_tier, lottery
from balancer.core.strategies.interface import C, Candidate, Figure, Figures, Need

SUCCESS_POWER: Final = 15  # source: the recorded outages, price / success^15 in a lottery


class Price:
    """A lottery within each tier, the best tier first."""

    name: Ranking = "price"
    needs: frozenset[Figure] = frozenset()

    def pick(
        self,
        candidates: Sequence[C],
        need: Need,
        *,
        failed: Sequence[Candidate],
        places: int,
        random: Random,
    ) -> list[C]:
        """Draw without replacement."""
        chosen: list[C] = []
        for tier in by_tier(candidates):
            chosen += lottery(tier, _weights(tier, need), places=places - len(chosen), random=random)
        return chosen

    def figures(
        self,
        candidates: Sequence[Candidate],
        need: Need,
        *,
        failed: Sequence[Candidate],
    ) -> list[Figures]:
        """The price, the weight in the lottery, and the tier."""
        prices, _ = relative_prices(need.costs(candidates), need.unit)
        weights: dict[int, float] = {}
        shares: dict[int, float] = {}
        # Each tier is a lottery of its own: what a free one counts for depends on who else is drawn there.
        for number, tier in enumerate(by_tier(candidates)):
            drawn = _weights(tier, need)
            for weight, each in zip(drawn, tier, strict=True):
                weights[id(each)] = weight
                shares[id(each)] = weight / sum(drawn) if number == 0 else 0.0
        return [
            Figures(
                price,
                weights[id(each)],
                shares[id(each)],
                f"price {price:.2f}×, failure {each.failure:.1%}, weight {weights[id(each)]:.3g}, "
                f"{TIERS[each.tier]}",
            )
            for price, each in zip(prices, candidates, strict=True)
        ]


def _weights(candidates: Sequence[Candidate], need: Need) -> list[float]:
    prices, _ = relative_prices(need.costs(candidates))
    return [
        each.weight * (1 - each.failure) ** (2 * SUCCESS_POWER) / min(price, RELATIVE_PRICE_MAX) ** 2
        for price, each in zip(prices, candidates, strict=True)
    ]
