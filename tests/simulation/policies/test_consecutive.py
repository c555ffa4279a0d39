from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.core.outcome import Kind
from balancer.simulation.policies.interface import Move

Stand = Callable[..., Any]
FIVE: tuple[Kind, ...] = ("server_error",) * 5


def test_the_fifth_failure_in_a_row_puts_the_endpoint_last(stand: Stand) -> None:
    one = stand("consecutive_5", 1.0, 1000.0, 1000.0)
    one.tell(0, *FIVE[:4], at=100.0)
    assert one.order(100.0)[0] == 0
    one.tell(0, "timeout", at=101.0)
    assert one.order(101.0)[-1] == 0
    assert one.moves() == [Move(101.0, 0, True)]


@pytest.mark.parametrize(
    ("between", "out"), [("success", False), ("rate_limited", False), ("cancelled", True), ("caller_error", True)]
)
def test_what_is_no_5xx_ends_a_streak_and_what_is_no_answer_does_not(
    stand: Stand, between: Kind, out: bool
) -> None:
    one = stand("consecutive_5", 1.0, 1.0)
    one.tell(0, *FIVE[:4], between, "connect", at=100.0)
    assert bool(one.moves()) is out


@pytest.mark.parametrize(
    ("ejections", "back"),
    [
        ([100.0], 130.0),
        ([103.0], 140.0),  # at the next tick of 10 s
        ([100.0, 130.0], 190.0),  # twice as long
        ([100.0, 135.0, 205.0], 300.0),  # 205 + 3 × 30 = 295
        ([100.0, 145.0], 180.0),  # in for one tick: counted as the first one again
        ([100.0, 130.0, 199.0], 290.0),  # back at 190, and no tick since: 199 + 90 = 289
        ([100.0, 130.0, 200.0], 260.0),  # one tick since: the second one again
    ],
)
def test_holds_grow_with_the_number_of_ejections_and_the_number_falls_with_good_ticks(
    stand: Stand, ejections: list[float], back: float
) -> None:
    one = stand("consecutive_5", 1.0, 1.0, 1.0)
    for at in ejections:
        one.tell(0, *FIVE, at=at)
    one.order(10_000.0)
    moves = one.moves()
    assert [each.at for each in moves if each.out] == ejections
    assert moves[-1] == Move(back, 0, False)


def test_no_hold_is_longer_than_five_minutes(stand: Stand) -> None:
    one = stand("consecutive_5", 1.0, 1.0)
    at, holds = 0.0, []
    for _ in range(14):
        one.tell(0, *FIVE, at=at)
        one.order(at + 1e4)
        _, back = one.moves()
        holds.append(back.at - at)
        at = back.at
    assert holds == [30.0 * number for number in range(1, 11)] + [300.0] * 4


def test_a_streak_begins_anew_after_an_ejection_and_stragglers_count_for_nothing(stand: Stand) -> None:
    one = stand("consecutive_5", 1.0, 1000.0)
    one.tell(0, *FIVE, at=100.0)
    one.tell(0, *FIVE[:4], at=110.0)
    one.tell(0, *FIVE[:4], at=131.0)
    assert one.order(131.0)[0] == 0
    one.tell(0, "server_error", at=132.0)
    assert one.order(132.0)[-1] == 0


@pytest.mark.parametrize(("endpoints", "out_max"), [(1, 1), (2, 1), (5, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_a_tenth_of_the_endpoints_may_be_out_but_always_one(stand: Stand, endpoints: int, out_max: int) -> None:
    one = stand("consecutive_5", *[1.0] * endpoints)
    for track in range(endpoints):
        one.tell(track, *FIVE, at=100.0)
    assert [each.track for each in one.moves()] == list(range(out_max))


def test_who_could_not_be_put_out_needs_another_five(stand: Stand) -> None:
    one = stand("consecutive_5", 1.0, 1.0, 1.0)
    one.tell(0, *FIVE, at=100.0)
    one.tell(1, *FIVE, at=101.0)
    one.tell(1, *FIVE[:4], at=131.0)
    assert [each.track for each in one.moves()] == [0, 0]
    one.tell(1, "server_error", at=132.0)
    assert one.moves() == [Move(132.0, 1, True)]


def test_below_half_health_is_ignored(stand: Stand) -> None:
    one = stand("consecutive_5", *[1.0] * 27, 1000.0, 1000.0, 1000.0)
    for track in range(3):
        one.tell(track, *FIVE, at=100.0)
    one.offer(*((track, 1.0) for track in range(3)), *((track, 1000.0) for track in range(27, 30)), at=101.0)
    assert set(one.order(101.0)[:3]) == {27, 28, 29}  # half of six are left
    one.offer(*((track, 1.0) for track in range(3)), (27, 1000.0), (28, 1000.0), at=102.0)
    assert set(one.order(102.0)[:3]) == {0, 1, 2}
