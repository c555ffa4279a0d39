from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from balancer.core.strategies import Candidate, Need
from balancer.core.strategies.exacto import Exacto

MakeCandidate = Callable[..., Candidate]
Pick = Callable[..., list[str]]


def test_the_good_stand_before_the_unknown_and_these_before_the_bad(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [
        candidate("bad", quality=2, failure=0.001),
        candidate("unknown", quality=1, failure=0.1),
        candidate("good", quality=0, failure=0.5),
    ]
    assert pick(Exacto(), candidates) == ["good", "unknown", "bad"]


@given(
    drawn=st.lists(st.tuples(st.integers(0, 2), st.floats(0.001, 0.999)), min_size=1, max_size=6),
    seed=st.integers(0, 5),
)
def test_the_order_is_by_quality_and_then_by_the_chance_of_failure(
    candidate: MakeCandidate, pick: Pick, drawn: list[tuple[int, float]], seed: int
) -> None:
    candidates = [
        candidate(str(place), quality=quality, failure=failure) for place, (quality, failure) in enumerate(drawn)
    ]
    found = [drawn[int(tag)] for tag in pick(Exacto(), candidates, seed=seed)]
    assert [quality for quality, _ in found] == sorted(quality for quality, _ in drawn)
    assert all(first[1] <= second[1] + 1e-12 for first, second in pairwise(found) if first[0] == second[0])


def test_a_tier_stands_above_the_quality(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate("good", quality=0, tier=1), candidate("bad", quality=2)]
    assert pick(Exacto(), candidates) == ["bad", "good"]


def test_the_words_are_the_quality_and_the_chance_of_failure(candidate: MakeCandidate, need: Need) -> None:
    candidates = [candidate(str(quality), quality=quality) for quality in range(3)]
    assert [line.why for line in Exacto().figures(candidates, need, failed=())] == [
        "good, failure 2.0%, stable",
        "too little known of its quality, failure 2.0%, stable",
        "far below its peers, failure 2.0%, stable",
    ]
