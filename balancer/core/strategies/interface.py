"""What a strategy is given and what it owes.

Theory of operation: a strategy sees `Candidate`s, which stand equal in everything above it (filters, the user's
`order`, slow start, the operator's priority), and picks the first places of them: the choice, and then the
fallbacks by the same rule among those left. `figures` tells the same rule in numbers, without drawing. It is called
once for each group of equals.

Most figures of a candidate cost little and are always there. Those that cost more to read are filled in for the
strategies that name them in `needs`.

What this module does not know: where the figures come from (`pool`), time, windows, health beyond `failure` and
`tier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from balancer.core.model import Endpoint, Ranking

Figure = Literal["latency", "ttft", "throughput", "load", "quality"]


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """One endpoint in the race. Units: seconds, tokens a second, USD a token.

    `fate` is the same for those that fail together: of one provider, or on one host. `sent` and `answered` are the
    prices of a token of the prompt and of the answer for this request; cache hits are in them, and what is unknown
    is as dear as the dearest known. `failure` is the chance
    that the call fails; `tier` is 0 stable, 1 degraded, 2 an outage in the last 30 s; `stale` says that nothing was
    seen of it lately, or that it may well be back. `load` is requests under way and about to be, times what
    each takes; `quality` is 0 good, 1 unknown, 2 bad. `None` is unknown.
    """

    endpoint: Endpoint
    fate: int
    weight: float = 1.0
    sent: float = 0.0
    answered: float = 0.0
    failure: float = 0.02
    tier: int = 0
    stale: bool = False
    latency: float | None = None
    ttft: float | None = None
    throughput: float | None = None
    load: float | None = None
    quality: int = 1


C = TypeVar("C", bound=Candidate)


class Need(Struct, kw_only=True):
    """What a strategy may know of the request.

    `explore`: it may. `unit` is what counts as a price of 1, in USD,
    where there are more than the candidates to compare with; `None` where they are all.
    """

    prompt_tokens: int
    completion_tokens: int
    explore: bool = False
    unit: float | None = None

    def costs(self, candidates: Sequence[Candidate]) -> list[float]:
        """What the request would cost at each. Units: USD."""
        sent, answered = self.prompt_tokens, self.completion_tokens
        return [each.sent * sent + each.answered * answered for each in candidates]


@dataclass(frozen=True, slots=True)
class Figures:
    """What put a candidate in its place: its score (lower is better), weight, share of first picks, and words."""

    score: float
    weight: float
    share: float
    why: str


class Strategy(Protocol):
    """One way of ranking. `name` is the word for it in an answer."""

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
        """Choose the first `places` in order, given that those in `failed` were tried before them."""

    def figures(self, candidates: Sequence[Candidate], need: Need, *, failed: Sequence[Candidate]) -> list[Figures]:
        """Tell of each candidate what `pick` would go by, in the order of `candidates`, drawing nothing."""
