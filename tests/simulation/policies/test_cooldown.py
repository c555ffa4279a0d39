from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.core.outcome import Kind
from balancer.simulation.policies.interface import Move

Stand = Callable[..., Any]


@pytest.mark.parametrize(
    ("successes", "failures", "cooled"),
    [(0, 4, False), (0, 5, True), (2, 3, True), (3, 3, False), (3, 4, True), (50, 50, False), (50, 51, True)],
)
def test_more_than_half_of_five_or_more_requests_cools_down(
    stand: Stand, successes: int, failures: int, cooled: bool
) -> None:
    one = stand("cooldown", 1.0, 1.0)
    one.tell(0, *["success"] * successes, at=1.0)
    one.tell(0, *["server_error"] * failures, at=2.0)
    assert one.moves() == ([Move(2.0, 0, True)] if cooled else [])
    assert (set(one.firsts(2.5, 30)) == {1}) is cooled


def test_five_seconds_later_it_is_as_likely_as_any_other(stand: Stand) -> None:
    one = stand("cooldown", 1.0, 1.0)
    one.tell(0, *["server_error"] * 5, at=2.0)
    assert set(one.firsts(6.9, 30)) == {1}
    assert set(one.firsts(7.0, 30)) == {0, 1}
    assert one.moves() == [Move(2.0, 0, True), Move(7.0, 0, False)]


def test_successes_and_failures_have_a_minute_each_that_begins_with_the_first_of_them(stand: Stand) -> None:
    one = stand("cooldown", 1.0, 1.0)
    one.tell(0, *["success"] * 10, at=0.0)
    one.tell(0, *["server_error"] * 5, at=59.0)
    assert one.moves() == []
    one.tell(0, "server_error", at=60.1)  # the successes are forgotten, the failures are not
    assert one.moves() == [Move(60.1, 0, True)]
    one.tell(1, *["server_error"] * 4, at=10.0)
    one.tell(1, "server_error", at=70.1)  # the first of a new minute
    assert one.moves() == [Move(65.1, 0, False)]


@pytest.mark.parametrize(
    ("kind", "retry_after", "until"),
    [
        ("rate_limited", None, 15.0),
        ("rate_limited", 60.0, 70.0),
        ("refused", None, 15.0),
        ("cancelled", None, None),
        ("caller_error", None, None),
        ("timeout", None, None),
    ],
)
def test_a_429_cools_down_at_once_for_as_long_as_it_says(
    stand: Stand, kind: Kind, retry_after: float | None, until: float | None
) -> None:
    one = stand("cooldown", 1.0, 1.0)
    one.tell(0, kind, at=10.0, retry_after=retry_after)
    one.order(1e4)
    assert one.moves() == ([] if until is None else [Move(10.0, 0, True), Move(until, 0, False)])


def test_a_cooldown_in_force_is_not_made_longer(stand: Stand) -> None:
    one = stand("cooldown", 1.0, 1.0)
    one.tell(0, "rate_limited", at=10.0)
    one.tell(0, "rate_limited", at=14.0, retry_after=60.0)
    one.order(1e4)
    assert one.moves() == [Move(10.0, 0, True), Move(15.0, 0, False)]


def test_the_only_endpoint_of_a_model_never_cools_down(stand: Stand) -> None:
    one = stand("cooldown", 1.0)
    one.tell(0, *["server_error"] * 9, "rate_limited", at=10.0)
    assert one.moves() == []
    assert one.order(10.0) == [0]


def test_where_all_are_cooling_any_may_be_first(stand: Stand) -> None:
    one = stand("cooldown", 1.0, 1.0)
    one.tell(0, "rate_limited", at=10.0)
    one.tell(1, "rate_limited", at=10.0)
    assert set(one.firsts(10.0, 30)) == {0, 1}
