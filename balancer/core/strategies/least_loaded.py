"""`least_loaded`: the better of two that are drawn at random, by requests under way × how long one takes.

Theory of operation: two choices spread almost as evenly as looking at all, and many askers do not run to the same
one. The load is (requests under way + 1) × peak EWMA of the answers' time ÷ (chance of success)⁴ ÷ weight: without
the fourth power an endpoint that fails fast looks idle and draws everything to it (simulated: 62–66 % of all
requests instead of 5–9 %).

What this module does not know: requests that nobody told of. Without reports every decision counts as under way for
two minutes, which is even-handed and little else.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from balancer.core.model import Ranking
from balancer.core.strategies.drawing import TIERS, by_tier
from balancer.core.strategies.interface import C, Candidate, Figure, Figures, Need

SUCCESS_POWER: Final = 4  # source: the simulated selection under failures


class LeastLoaded:
    """Two choices within each tier, the best tier first."""

    name: Ranking = "least_loaded"
    needs: frozenset[Figure] = frozenset({"load"})

    def pick(
        self,
        candidates: Sequence[C],
        need: Need,
        *,
        failed: Sequence[Candidate],
        places: int,
        random: Random,
    ) -> list[C]:
        """Draw two of those left and take the one with less load, again and again."""
        chosen: list[C] = []
        for tier in by_tier(candidates):
            left = list(zip(_loads(tier), tier, strict=True))
            while left and len(chosen) < places:
                pair = random.sample(range(len(left)), min(2, len(left)))
                place = min(pair, key=lambda place: left[place][0])
                chosen.append(left.pop(place)[1])
        return chosen

    def figures(
        self,
        candidates: Sequence[Candidate],
        need: Need,
        *,
        failed: Sequence[Candidate],
    ) -> list[Figures]:
        """The load, and the chance to be the better of two."""
        lines: dict[int, Figures] = {}
        for number, tier in enumerate(by_tier(candidates)):
            loads = _loads(tier)
            for load, each in zip(loads, tier, strict=True):
                share = _share(load, loads) if number == 0 else 0.0
                why = f"load {load:.2f}, the better of two, {TIERS[each.tier]}"
                lines[id(each)] = Figures(load, each.weight, share, why)
        return [lines[id(each)] for each in candidates]


def _loads(candidates: Sequence[Candidate]) -> list[float]:
    known = sorted(each.load for each in candidates if each.load is not None)
    usual = known[len(known) // 2] if known else 1.0  # who never answered is taken for a typical peer
    return [
        (usual if each.load is None else each.load) / (1 - each.failure) ** SUCCESS_POWER / each.weight
        for each in candidates
    ]


def _share(load: float, loads: Sequence[float]) -> float:
    """The chance to win a draw of two: against all that are worse, and half of the equals."""
    others = len(loads) - 1
    if others == 0:
        return 1.0
    worse = sum(other > load for other in loads)
    equal = loads.count(load) - 1
    return 2 * (worse + equal / 2) / (len(loads) * others)
