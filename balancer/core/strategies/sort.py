"""`sort: price | latency | throughput`: one figure, the best first, for one request.

Theory of operation: within each tier by the figure alone; no lottery, no balancing. Latency is the median time to
the first token, throughput the median of answer tokens a second, both over five minutes. An endpoint of which the
figure is unknown counts as its peers' median: it is neither rewarded nor punished for being new.

What this module does not know: over which window OpenRouter sorts; it never said.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from statistics import median

from balancer.core.model import Ranking
from balancer.core.pricing import relative_prices
from balancer.core.strategies.drawing import TIERS, by_tier, lowest, shares_of_least
from balancer.core.strategies.interface import C, Candidate, Figure, Figures, Need


class Sorted(ABC):
    """The lowest score first within each tier, the best tier first."""

    name: Ranking
    needs: frozenset[Figure]

    def pick(
        self,
        candidates: Sequence[C],
        need: Need,
        *,
        failed: Sequence[Candidate],
        places: int,
        random: Random,
    ) -> list[C]:
        """Order by the figure, exact ties by lot."""
        scores = dict(zip(map(id, candidates), self._scores(candidates, need), strict=True))
        chosen: list[C] = []
        for tier in by_tier(candidates):
            of_tier = [scores[id(each)] for each in tier]
            chosen += lowest(tier, of_tier, places=places - len(chosen), random=random)
        return chosen

    def figures(
        self,
        candidates: Sequence[Candidate],
        need: Need,
        *,
        failed: Sequence[Candidate],
    ) -> list[Figures]:
        """The figure and the tier."""
        scores = self._scores(candidates, need)
        first = min(each.tier for each in candidates)
        shares = shares_of_least(
            [score if each.tier == first else float("inf") for score, each in zip(scores, candidates, strict=True)]
        )
        return [
            Figures(score, each.weight, share, f"{self._told(each, score)}, {TIERS[each.tier]}")
            for score, share, each in zip(scores, shares, candidates, strict=True)
        ]

    @abstractmethod
    def _scores(self, candidates: Sequence[Candidate], need: Need) -> list[float]:
        """The figure of each, lower is better."""

    @abstractmethod
    def _told(self, each: Candidate, score: float) -> str:
        """The figure of one in words."""


class SortByPrice(Sorted):
    """The cheapest for this request first."""

    name: Ranking = "sort:price"
    needs: frozenset[Figure] = frozenset()

    def _scores(self, candidates: Sequence[Candidate], need: Need) -> list[float]:
        return relative_prices(need.costs(candidates), need.unit)[0]

    def _told(self, each: Candidate, score: float) -> str:
        return f"price {score:.2f}×"


class SortByLatency(Sorted):
    """The quickest to a first token first."""

    name: Ranking = "sort:latency"
    needs: frozenset[Figure] = frozenset({"ttft"})

    def _scores(self, candidates: Sequence[Candidate], need: Need) -> list[float]:
        return _known([each.ttft for each in candidates])

    def _told(self, each: Candidate, score: float) -> str:
        return _figure(f"first token in {score:.2f} s", score, each.ttft)


class SortByThroughput(Sorted):
    """The most tokens a second first."""

    name: Ranking = "sort:throughput"
    needs: frozenset[Figure] = frozenset({"throughput"})

    def _scores(self, candidates: Sequence[Candidate], need: Need) -> list[float]:
        return [0.0 - value for value in _known([each.throughput for each in candidates])]

    def _told(self, each: Candidate, score: float) -> str:
        return _figure(f"{-score:.1f} tokens/s", score, each.throughput)


def _known(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    usual = median(known) if known else 0.0
    return [usual if value is None else value for value in values]


def _figure(told: str, score: float, value: float | None) -> str:
    if value is not None:
        return told
    return f"unknown, its peers' median: {told}" if score else "unknown, as are its peers"
