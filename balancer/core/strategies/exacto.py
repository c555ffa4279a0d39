"""`sort: exacto`: by quality, for requests whose tool calls must be right.

Theory of operation: good ones first, then those of which too little is known, then those whose throughput or
tool-call success lies far below their peers' (median and MAD, four peers or more); within each by the chance of
failure. The judgement is made over all of the model's endpoints by the pool (`Candidate.quality`).

What this module does not know: benchmarks. OpenRouter also runs some and deranks by their scores; we run none.
"""

from __future__ import annotations

from collections.abc import Sequence

from balancer.core.model import Ranking
from balancer.core.strategies.interface import Candidate, Figure, Need
from balancer.core.strategies.sort import Sorted

QUALITY = ("good", "too little known of its quality", "far below its peers")


class Exacto(Sorted):
    """The best quality first."""

    name: Ranking = "sort:exacto"
    needs: frozenset[Figure] = frozenset({"quality"})

    def _scores(self, candidates: Sequence[Candidate], need: Need) -> list[float]:
        return [each.quality + each.failure for each in candidates]

    def _told(self, each: Candidate, score: float) -> str:
        return f"{QUALITY[each.quality]}, failure {each.failure:.1%}"
