from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import prod
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.simulation.policies.interface import Move, Offer
from balancer.simulation.policies.reference import Lineup, Reference, lineup, lottery, shuffle

CHI_SQUARE_5 = 30.9  # five degrees of freedom, p = 1e-5
DRAWS = 20_000


def offers(*prices: float) -> list[Offer]:
    return [Offer(track, price) for track, price in enumerate(prices)]


@pytest.mark.parametrize(
    ("prices", "relative"),
    [
        ((), ()),
        ((7.0,), (1.0,)),
        ((2.0, 3.0, 1.0), (2.0, 3.0, 1.0)),
        ((4.0, 6.0), (1.0, 1.5)),
        ((0.0, 3.0, 6.0), (1.0, 10.0, 20.0)),  # free is a tenth of the cheapest paid one
        ((0.0, 0.0), (1.0, 1.0)),
    ],
)
def test_prices_are_told_in_multiples_of_the_cheapest(
    prices: tuple[float, ...], relative: tuple[float, ...]
) -> None:
    found = lineup(offers(*prices))
    assert found.tracks == tuple(range(len(prices)))
    assert found.prices == pytest.approx(relative)
    assert found.squares == pytest.approx([price * price for price in relative])


def likelihood(order: tuple[int, ...], weights: list[float]) -> float:
    """Of an order drawn one after the other by weight among those left."""
    return prod(weights[each] / sum(weights[other] for other in order[place:]) for place, each in enumerate(order))


@pytest.mark.parametrize("prices", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (3.0, 1.0, 1.1)])
def test_the_lottery_draws_whole_orders_by_the_inverse_square_of_the_price(prices: tuple[float, ...]) -> None:
    weights = [1 / price**2 for price in prices]
    offered, random = lineup(offers(*prices)), Random(5)
    seen = Counter(tuple(lottery(offered, random)) for _ in range(DRAWS))
    wanted = {order: DRAWS * likelihood(order, weights) for order in permutations(range(3))}
    assert sum(wanted.values()) == pytest.approx(DRAWS)
    assert sum((seen[order] - want) ** 2 / want for order, want in wanted.items()) < CHI_SQUARE_5


def test_a_shuffle_makes_every_order_as_often_as_any_other() -> None:
    offered, random = lineup(offers(1.0, 5.0, 100.0)), Random(5)
    seen = Counter(tuple(shuffle(offered, random)) for _ in range(DRAWS))
    want = DRAWS / 6
    assert sum((seen[order] - want) ** 2 / want for order in permutations(range(3))) < CHI_SQUARE_5


@given(st.lists(st.sampled_from((0.0, 1e-9, 1.0, 1.5, 1e9)), max_size=12), st.integers(0, 9))
def test_a_draw_has_everybody_once_at_any_price(prices: list[float], seed: int) -> None:
    offered = lineup(offers(*prices))
    for drawn in (lottery(offered, Random(seed)), shuffle(offered, Random(seed))):
        assert sorted(drawn) == list(offered.tracks)


def test_nobody_is_drawn_where_nobody_is_offered() -> None:
    assert lottery(Lineup(), Random(1)) == []
    assert shuffle(Lineup(), Random(1)) == []


def test_moves_are_given_once_and_in_the_order_of_time() -> None:
    policy = Reference("any", {})
    policy.moved += [Move(5.0, 1, True), Move(3.0, 2, False)]
    assert policy.moves() == [Move(3.0, 2, False), Move(5.0, 1, True)]
    assert policy.moves() == []


def test_a_reference_without_options_takes_none() -> None:
    with pytest.raises(ValueError, match="a: unknown option; there are none"):
        Reference("any", {"a": "1"})
