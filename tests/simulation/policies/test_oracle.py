from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.simulation.world import Truth

Stand = Callable[..., Any]


def test_the_price_of_a_failure_decides_from_where_on_the_dearer_one_is_worth_it(stand: Stand) -> None:
    # Twice the price, and 7 % fewer failures: worth it above 1 / 0.07 = 14.3 cheapest prices.
    for price_of, first in ((14.0, 0), (15.0, 1)):
        one = stand(f"oracle:failure_price={price_of}", 1.0, 2.0, shares=(0.93, 1.0))
        assert one.order(0.0)[0] == first
    assert stand("oracle", 1.0, 2.0, shares=(0.93, 1.0)).order(0.0) == [1, 0]


def test_a_share_counts_refusals_for_quota(stand: Stand) -> None:
    one = stand("oracle", 1.0, 1.5)
    one.present[0] = Truth(5.0, 1.0, limited=1 / 3)
    assert one.order(5.0) == [1, 0]


@pytest.mark.parametrize("text", ["oracle", "oracle_price"])
def test_the_truth_is_seen_the_moment_it_turns(stand: Stand, text: str) -> None:
    one = stand(text, 1.0, 1.1, 1.2)
    assert one.order(0.0) == [0, 1, 2]
    one.present[0] = Truth(7.0, 0.5)
    assert one.order(7.0) == [1, 2, 0]
    one.present[0] = Truth(8.0, 1.0)
    assert one.order(8.0) == [0, 1, 2]


def test_whatever_it_costs_the_best_one_is_first_and_price_decides_between_equals(stand: Stand) -> None:
    one = stand("oracle_price", 5.0, 1.0, 100.0, 2.0, shares=(0.999, 0.998, 1.0, 0.999))
    assert one.order(0.0) == [2, 3, 0, 1]


def test_a_free_endpoint_is_a_tenth_of_the_cheapest_paid_one(stand: Stand) -> None:
    # 1 + 15 × 0.59 = 9.85 against 10, and 1 + 15 × 0.61 = 10.15.
    assert stand("oracle", 0.0, 2.0, shares=(0.41, 1.0)).order(0.0) == [0, 1]
    assert stand("oracle", 0.0, 2.0, shares=(0.39, 1.0)).order(0.0) == [1, 0]
