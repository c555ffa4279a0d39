"""Loss against cost: whether anybody loses less than we do at the same price.

Theory of operation: our policy at several prices of a failure is a row of points, each with a cost and a loss. Who
mixes two of them by lot gets any point of the line between them, so the front is that line, without points that
another one beats in both. A policy lies below it when it loses less than the front does at its cost, on average
over seeds: the dice are common, so each seed has a front of its own, and what is left is little noise.

What this module does not know: which policies are ours, and how a front is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Final, NamedTuple

from balancer.simulation.intervals import Interval, interval

COST_MIN: Final = 1.01  # cheapest prices; who costs less only ever takes the cheapest, and health is no matter


class Point(NamedTuple):
    """What a policy costs (in cheapest prices) and loses (first tries per 10,000) with one seed, or on average."""

    policy: str
    cost: float
    lost: float


class Verdict(NamedTuple):
    """One policy beside the front. `difference` is what it loses more than the front at its cost, over seeds."""

    point: Point
    difference: Interval

    @property
    def below(self) -> bool:
        """Whether it loses less on average."""
        return self.difference.mean < 0


def average(points: Sequence[Point]) -> Point:
    """One policy's points of all seeds as one."""
    return Point(points[0].policy, fmean(point.cost for point in points), fmean(point.lost for point in points))


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both cost and loss, cheapest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, point.lost)):
        if not kept or point.lost < kept[-1].lost:
            kept.append(point)
    return kept


def lost_at(ours: Sequence[Point], cost: float) -> float:
    """What a front loses at a cost.

    The dearest point holds for all that is dearer. The cheapest holds for all that is cheaper: who costs less and
    loses less than it beats it.
    """
    for cheaper, dearer in pairwise(ours):
        if cost < dearer.cost:
            share = max(0.0, cost - cheaper.cost) / (dearer.cost - cheaper.cost)
            return cheaper.lost + share * (dearer.lost - cheaper.lost)
    return ours[-1].lost


def verdicts(ours: Sequence[Sequence[Point]], others: Sequence[Sequence[Point]]) -> list[Verdict]:
    """Judge all others that cost more than 1.01 by our front, in their order.

    Shape: both hold policies, each with a point for every seed, in the same order.
    """
    fronts = [front(points) for points in zip(*ours, strict=True)]
    found: list[Verdict] = []
    for points in others:
        whole = average(points)
        if fronts and whole.cost > COST_MIN:
            pairs = zip(points, fronts, strict=True)
            difference = interval([point.lost - lost_at(there, point.cost) for point, there in pairs])
            assert difference is not None
            found.append(Verdict(whole, difference))
    return found
