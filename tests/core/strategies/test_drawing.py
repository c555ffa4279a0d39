from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.strategies import Candidate
from balancer.core.strategies.drawing import by_tier, least, lottery, lowest, shares_of_least

MakeCandidate = Callable[..., Candidate]

scores = st.lists(st.sampled_from((-1.0, 0.0, 0.5, 2.0)), min_size=1, max_size=6)


@given(scores, st.integers(0, 5))
def test_least_is_a_place_of_the_lowest(values: list[float], seed: int) -> None:
    assert values[least(values, Random(seed))] == min(values)


def test_least_draws_only_to_break_a_tie() -> None:
    random = Random(1)
    state = random.getstate()
    assert least([2.0, 1.0, 3.0], random) == 1
    assert random.getstate() == state
    assert {least([1.0, 2.0, 1.0], random) for _ in range(30)} == {0, 2}


@given(scores, st.integers(0, 5), st.integers(0, 8))
def test_lowest_is_a_sort_cut_short(values: list[float], seed: int, places: int) -> None:
    given_values = list(values)
    chosen = lowest(range(len(values)), values, places=places, random=Random(seed))
    assert len(chosen) == len(set(chosen)) == min(places, len(values))
    assert [values[place] for place in chosen] == sorted(values)[:places]
    assert values == given_values


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 8))
def test_a_lottery_draws_each_at_most_once_however_far_apart_the_weights(
    weights: list[float], seed: int, places: int
) -> None:
    before = list(weights)
    chosen = lottery(range(len(weights)), weights, places=places, random=Random(seed))
    assert len(chosen) == len(set(chosen)) == min(places, len(weights))
    assert weights == before


class Edge(Random):
    """A random state whose numbers are the least or the greatest that can come."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(("value", "order"), [(0.0, [0, 1, 2]), (1 - 2**-53, [2, 1, 0])])
@given(weights=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3))
def test_the_extreme_draws_take_the_first_and_the_last_and_nobody_twice(
    value: float, order: list[int], weights: list[float]
) -> None:
    assert lottery(range(3), weights, places=3, random=Edge(value)) == order


def test_a_lottery_follows_its_weights() -> None:
    random, draws, weights = Random(5), 10_000, [1.0, 2.0, 7.0]
    firsts = Counter(lottery("abc", weights, places=1, random=random)[0] for _ in range(draws))
    expected = dict(zip("abc", (draws * weight / 10 for weight in weights), strict=True))
    assert sum((firsts[each] - want) ** 2 / want for each, want in expected.items()) < 13.8  # 2 degrees, p = 0.001


def test_tiers_are_cut_best_first_and_keep_the_order_within(candidate: MakeCandidate) -> None:
    candidates = [candidate(f"p{place}", tier=tier) for place, tier in enumerate((2, 0, 2, 1, 0))]
    assert [[each.endpoint.tag for each in tier] for tier in by_tier(candidates)] == [
        ["p1", "p4"],
        ["p3"],
        ["p0", "p2"],
    ]
    assert by_tier([]) == []


@pytest.mark.parametrize(
    ("values", "shares"),
    [([], []), ([3.0], [1.0]), ([2.0, 1.0], [0.0, 1.0]), ([1.0, 2.0, 1.0], [0.5, 0.0, 0.5])],
)
def test_the_lowest_share_the_first_picks(values: list[float], shares: list[float]) -> None:
    assert shares_of_least(values) == shares
