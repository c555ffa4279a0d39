"""Makers for the strategies' tests: candidates whose price is what a request of one token costs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from balancer.core.model import Endpoint
from balancer.core.strategies import Candidate, Need, Strategy


@pytest.fixture(scope="session")
def need() -> Need:
    """One token of prompt and no answer: a candidate's cost is its price."""
    return Need(prompt_tokens=1, completion_tokens=0)


@pytest.fixture(scope="session")
def candidate(endpoint: Callable[..., Endpoint]) -> Callable[..., Candidate]:
    """Make a candidate from its tag; those of one provider share their fate."""

    def make(tag: str, *, price: float = 1.0, **fields: Any) -> Candidate:
        fate = int.from_bytes(tag.partition("/")[0].encode())
        return Candidate(**({"endpoint": endpoint(tag), "fate": fate, "sent": price} | fields))

    return make


@pytest.fixture(scope="session")
def pick(need: Need) -> Callable[..., list[str]]:
    """Pick by a strategy, all places, and tell the tags."""

    def tags(
        strategy: Strategy,
        candidates: list[Candidate],
        *,
        seed: int = 1,
        failed: tuple[Candidate, ...] = (),
        random: Random | None = None,
        places: int | None = None,
        of: Need = need,
    ) -> list[str]:
        chosen = strategy.pick(
            candidates,
            of,
            failed=failed,
            places=len(candidates) if places is None else places,
            random=Random(seed) if random is None else random,
        )
        return [each.endpoint.tag for each in chosen]

    return tags
