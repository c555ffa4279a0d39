from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Stand = Callable[..., Any]


def test_the_cheapest_goes_first_and_the_others_follow_by_price(stand: Stand) -> None:
    assert stand("cheapest", 3.0, 1.0, 0.0, 2.0).order(0.0) == [2, 1, 3, 0]


def test_equals_stand_by_lot_but_never_wander(stand: Stand) -> None:
    firsts = set()
    for seed in range(40):
        one = stand("cheapest", 1.0, 1.0, 1.0, seed=seed)
        orders = {tuple(one.order(float(at))) for at in range(5)}
        one.offer((0, 1.0), (1, 1.0), (2, 1.0), at=9.0)
        assert {tuple(one.order(10.0))} == orders
        firsts.add(next(iter(orders))[0])
    assert firsts == {0, 1, 2}


def test_a_new_price_moves_the_cheapest_at_once(stand: Stand) -> None:
    one = stand("cheapest", 1.0, 2.0)
    one.offer((0, 3.0), (1, 2.0), at=5.0)
    assert one.order(5.0) == [1, 0]


def test_the_shares_of_the_lottery_are_exact(stand: Stand) -> None:
    draws = 20_000
    firsts = stand("price_squared", 1.0, 2.0, 4.0).firsts(0.0, draws)
    for track, weight in enumerate((1, 1 / 4, 1 / 16)):
        share = weight / (1 + 1 / 4 + 1 / 16)
        assert firsts[track] / draws == pytest.approx(share, abs=5 * (share * (1 - share) / draws) ** 0.5)


def test_uniform_does_not_look_at_prices(stand: Stand) -> None:
    draws = 20_000
    firsts = stand("uniform", 1.0, 100.0, 0.0).firsts(0.0, draws)
    for track in range(3):
        assert firsts[track] / draws == pytest.approx(1 / 3, abs=5 * (2 / 9 / draws) ** 0.5)


@pytest.mark.parametrize("text", ["cheapest", "uniform", "price_squared"])
def test_failures_change_nothing(stand: Stand, text: str) -> None:
    told, untold = stand(text, 1.0, 1.2, 1.4), stand(text, 1.0, 1.2, 1.4)
    told.tell(0, *["server_error"] * 50, at=1.0)
    assert [told.order(float(at)) for at in range(2, 20)] == [untold.order(float(at)) for at in range(2, 20)]
    assert told.moves() == []
