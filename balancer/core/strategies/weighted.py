"""`weighted`: the operator's weights and nothing else, among those that are well.

What this module does not know: prices and speeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from balancer.core.model import Ranking
from balancer.core.strategies.drawing import TIERS, by_tier, lottery
from balancer.core.strategies.interface import C, Candidate, Figure, Figures, Need


class Weighted:
    """A lottery by weight within each tier, the best tier first."""

    name: Ranking = "weighted"
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
            weights = [each.weight for each in tier]
            chosen += lottery(tier, weights, places=places - len(chosen), random=random)
        return chosen

    def figures(
        self,
        candidates: Sequence[Candidate],
        need: Need,
        *,
        failed: Sequence[Candidate],
    ) -> list[Figures]:
        """The weight and the tier; the score is one over the weight."""
        first = min(each.tier for each in candidates)
        total = sum(each.weight for each in candidates if each.tier == first)
        return [
            Figures(
                1 / each.weight,
                each.weight,
                each.weight / total if each.tier == first else 0.0,
                f"weight {each.weight:g}, {TIERS[each.tier]}",
            )
            for each in candidates
        ]
