"""`adaptive`, the default: the lowest expected cost of the request.

Theory of operation: price (with cache hits) + value of time × expected latency + price of a failure × its chance,
all in multiples of the cheapest candidate's price. Measured on recorded outages it loses a sixth of the first tries
that ejection alone loses, at 4 % above the lowest price. What is degraded is so in its chance of failure; there are
no tiers.

Exploration: one decision in two hundred goes first to a candidate of which nothing was seen lately and which no
probe refreshes, and only if it would lead should it turn out well. A day-old failure would otherwise keep a cheaper
endpoint away until the day is over. A retry never explores.

What this module does not know: the ceilings and limits that take an endpoint out of the race before it gets here.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random
from typing import Final

from balancer.core.estimate import BOUNDS
from balancer.core.model import Ranking, Routing
from balancer.core.pricing import relative_prices
from balancer.core.strategies.drawing import shares_of_least
from balancer.core.strategies.interface import C, Candidate, Figure, Figures, Need

SHARED_FATE: Final = 1.3
"""How much likelier a call fails after another of the same provider or host failed.

Source: recorded history, 14.5 % on its own and 18-20 % given another's failure.
"""

EXPLORATION: Final = 0.005
"""Of first picks. Time alone forgives an unlucky failure within half an hour, so little is needed.

Source: recorded week, 0.6 requests a minute without probes: 0.02 loses 5 % more first tries, none 3 % fewer.
"""


class Adaptive:
    """Lowest expected cost first."""

    name: Ranking = "adaptive"

    def __init__(self, routing: Routing) -> None:
        self._failure_price = routing.failure_price
        self._value_of_time = routing.value_of_time
        self.needs: frozenset[Figure] = frozenset({"latency"}) if routing.value_of_time else frozenset()

    def pick(
        self,
        candidates: Sequence[C],
        need: Need,
        *,
        failed: Sequence[Candidate],
        places: int,
        random: Random,
    ) -> list[C]:
        """Order by expected cost, exact ties by lot."""
        bases: list[float] = []  # price and time; only those that are asked for where time is worth nothing
        price = self._failure_price
        costs = need.costs(candidates)
        unit = min(costs)
        if unit > 0 and not self._value_of_time:
            if need.unit is not None:
                unit = need.unit
            scores = [
                (cost / unit + price * each.failure) / each.weight
                for cost, each in zip(costs, candidates, strict=True)
            ]
        else:
            bases = self._bases(candidates, need)
            scores = [
                (base + price * each.failure) / each.weight for base, each in zip(bases, candidates, strict=True)
            ]
        if len(set(scores)) == len(scores):
            order = sorted(range(len(scores)), key=scores.__getitem__)
            if not failed and not need.explore:
                first = [candidates[place] for place in order[:places]]
                if len({each.fate for each in first}) == len(first):
                    return first  # no score falls, so nobody comes between
        else:  # equals in an order by lot, so that they share the load
            drawn = [(score, random.random()) for score in scores]
            order = sorted(range(len(scores)), key=drawn.__getitem__)
        chosen: list[C] = []
        tried = {each.fate for each in failed}
        if need.explore and not failed and random.random() < EXPLORATION:
            worth = self._worth_exploring(candidates, self._bases(candidates, need), scores)
            if worth:
                place = random.choice(worth)
                order.remove(place)
                chosen.append(candidates[place])
                tried.add(candidates[place].fate)
        late: list[tuple[float, int]] = []  # those whose score rose because one of their fate stands before them
        for at, place in enumerate(order):
            while late and late[0][0] < scores[place] and len(chosen) < places:
                chosen.append(candidates[order[heappop(late)[1]]])
            if len(chosen) >= places:
                return chosen
            each = candidates[place]
            if each.fate in tried:
                base = bases[place] if bases else costs[place] / unit
                risen = (base + price * min(1.0, each.failure * SHARED_FATE)) / each.weight
                heappush(late, (risen, at))
            else:
                chosen.append(each)
                tried.add(each.fate)
        while late and len(chosen) < places:
            chosen.append(candidates[order[heappop(late)[1]]])
        return chosen

    def figures(self, candidates: Sequence[Candidate], need: Need, *, failed: Sequence[Candidate]) -> list[Figures]:
        """The expected costs and their terms."""
        bases = self._bases(candidates, need)
        tried = {each.fate for each in failed}
        chances = [
            min(1.0, each.failure * SHARED_FATE) if each.fate in tried else each.failure for each in candidates
        ]
        scores = [
            (base + self._failure_price * chance) / each.weight
            for base, chance, each in zip(bases, chances, candidates, strict=True)
        ]
        shares = shares_of_least(scores)
        worth = self._worth_exploring(candidates, bases, scores) if need.explore and not failed else []
        if worth:
            shares = [share * (1 - EXPLORATION) for share in shares]
            for place in worth:
                shares[place] += EXPLORATION / len(worth)
        prices, _ = relative_prices(need.costs(candidates), need.unit)
        lines: list[Figures] = []
        for place, each in enumerate(candidates):
            waits = f" + time {bases[place] - prices[place]:.2f}" if self._value_of_time else ""
            why = f"price {prices[place]:.2f}×{waits} + failure {chances[place]:.1%} × {self._failure_price:g}"
            if place in worth:
                why += "; explored: nothing was seen of it lately"
            lines.append(Figures(scores[place], each.weight, shares[place], why))
        return lines

    def _bases(self, candidates: Sequence[Candidate], need: Need) -> list[float]:
        """Price and time, in multiples of the cheapest price."""
        prices, unit = relative_prices(need.costs(candidates), need.unit)
        if not self._value_of_time:
            return prices
        known = [each.latency for each in candidates if each.latency is not None]
        usual = sum(known) / len(known) if known else 0.0  # who never answered is taken for a typical peer
        rate = self._value_of_time / unit
        return [
            price + rate * (usual if each.latency is None else each.latency)
            for price, each in zip(prices, candidates, strict=True)
        ]

    def _worth_exploring(
        self, candidates: Sequence[Candidate], bases: Sequence[float], scores: Sequence[float]
    ) -> list[int]:
        best = min(scores)
        if candidates[scores.index(best)].stale:
            return []  # nobody knows better, and the leader is being tried anyway
        hopeful = self._failure_price * BOUNDS[0]
        return [
            place
            for place, each in enumerate(candidates)
            if each.stale and scores[place] > best and (bases[place] + hopeful) / each.weight < best
        ]
