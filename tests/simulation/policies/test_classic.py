from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.core.outcome import Kind
from balancer.simulation.policies.interface import Move

Stand = Callable[..., Any]


def tell(one: Any, track: int, *, successes: int, failures: int, at: float) -> None:
    one.tell(track, *["success"] * successes, *["server_error"] * failures, at=at)


@pytest.mark.parametrize(
    ("kinds", "outage"),
    [
        (["server_error"], True),
        (["success"], False),
        (["success", "timeout"], True),
        (["server_error", "success"], True),
        (["server_error", "success", "success"], False),
        (["rate_limited", "rate_limited", "rate_limited"], False),
        (["cancelled", "caller_error"], False),
    ],
)
def test_half_of_the_last_30_seconds_failed_is_an_outage(stand: Stand, kinds: list[Kind], outage: bool) -> None:
    one = stand("classic", 1.0, 1000.0)
    one.tell(0, *kinds, at=10.0)
    assert one.order(39.9) == ([1, 0] if outage else [0, 1])
    assert one.order(40.0) == [0, 1]


@pytest.mark.parametrize(
    ("successes", "failures", "first"),
    [(95, 5, 0), (94, 6, 1), (80, 20, 1), (79, 21, 1), (0, 10, 1), (6, 3, 0), (7, 3, 1)],
)
def test_an_uptime_below_95_percent_of_ten_tries_or_more_is_behind(
    stand: Stand, successes: int, failures: int, first: int
) -> None:
    one = stand("classic", 1.0, 1000.0)
    tell(one, 0, successes=successes, failures=failures, at=10.0)
    assert one.order(41.0)[0] == first
    assert one.order(1809.0)[0] == first
    assert one.order(1810.0)[0] == 0


def test_tiers_stand_behind_each_other_whatever_the_price(stand: Stand) -> None:
    one = stand("classic", 1.0, 1e3, 1e6, 1e9)
    tell(one, 1, successes=7, failures=3, at=10.0)  # down
    tell(one, 2, successes=9, failures=1, at=10.0)  # deranked
    tell(one, 0, successes=0, failures=1, at=45.0)  # an outage
    assert one.order(50.0) == [3, 2, 1, 0]


def test_within_a_tier_the_lottery_is_by_the_inverse_square_of_the_price(stand: Stand) -> None:
    draws = 20_000
    one = stand("classic", 1.0, 2.0, 1.0)
    tell(one, 2, successes=0, failures=1, at=10.0)
    firsts = one.firsts(10.0, draws)
    assert firsts[2] == 0
    assert firsts[0] / draws == pytest.approx(0.8, abs=5 * (0.16 / draws) ** 0.5)


def test_a_change_is_told_with_its_true_moment_however_late_it_is_seen(stand: Stand) -> None:
    one = stand("classic", 1.0, 1.0)
    tell(one, 0, successes=9, failures=1, at=10.0)  # no outage, an uptime of 90 %
    tell(one, 1, successes=0, failures=1, at=20.0)
    tell(one, 1, successes=1, failures=0, at=25.0)  # half is still an outage
    tell(one, 1, successes=1, failures=0, at=26.0)
    one.order(1e5)
    assert one.moves() == [
        Move(10.0, 0, True),
        Move(20.0, 1, True),
        Move(26.0, 1, False),
        Move(1810.0, 0, False),
    ]


def test_a_success_that_leaves_the_window_can_make_an_outage(stand: Stand) -> None:
    one = stand("classic", 1.0, 1.0)
    tell(one, 0, successes=2, failures=0, at=10.0)
    tell(one, 0, successes=0, failures=1, at=30.0)
    one.order(1e5)
    assert one.moves() == [Move(40.0, 0, True), Move(60.0, 0, False)]
