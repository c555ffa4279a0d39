"""The three ways of choosing that strategies have in common: the lowest score, a lottery, and shares of ties.

What this module does not know: what a score or a weight means.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from random import Random
from typing import TypeVar

from balancer.core.strategies.interface import C

T = TypeVar("T")


def least(scores: Sequence[float], random: Random) -> int:
    """The place of the lowest score; among equals one by lot, so that they share the load."""
    best = min(scores)
    if scores.count(best) == 1:
        return scores.index(best)
    return random.choice([place for place, score in enumerate(scores) if score == best])


def lowest(values: Sequence[T], scores: list[float], *, places: int, random: Random) -> list[T]:
    """The first `places` of `values` by score."""
    left = list(scores)
    chosen: list[T] = []
    for _ in range(min(places, len(values))):
        place = least(left, random)
        chosen.append(values[place])
        left[place] = inf
    return chosen


def lottery(values: Sequence[T], weights: list[float], *, places: int, random: Random) -> list[T]:
    """Draw `places` of `values` one after the other, each time by weight among those left."""
    left = list(weights)
    chosen: list[T] = []
    for _ in range(min(places, len(values))):
        sums = list(accumulate(left))
        place = bisect(sums, random.random() * sums[-1], hi=len(sums) - 1)
        chosen.append(values[place])
        left[place] = 0.0
    return chosen


def by_tier(candidates: Sequence[C]) -> list[list[C]]:
    """Cut into tiers, the best first: what is degraded or had an outage stands behind the rest."""
    tiers: dict[int, list[C]] = {}
    for each in candidates:
        tiers.setdefault(each.tier, []).append(each)
    return [tiers[tier] for tier in sorted(tiers)]


def shares_of_least(scores: Sequence[float]) -> list[float]:
    """The share of first picks that goes with each score when the lowest one wins."""
    best = min(scores, default=0.0)
    share = 1 / max(1, list(scores).count(best))
    return [share if score == best else 0.0 for score in scores]


TIERS = ("stable", "degraded: after the stable", "outage in the last 30 s: last")
