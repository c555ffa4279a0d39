"""A failure is told once in a while and not at every probe."""

from __future__ import annotations

import pytest

from balancer.daemon.repeats import KINDS_MAX, SPAN, Repeats


@pytest.fixture
def repeats() -> Repeats:
    return Repeats()


def test_the_same_again_is_left_out_and_its_number_told_when_the_span_is_over(repeats: Repeats) -> None:
    told = [repeats.count("a", "timeout", now=now) for now in (0.0, 5.0, SPAN - 0.1, SPAN, SPAN + 1.0)]
    assert told == [0, None, None, 2, None]


def test_another_kind_is_told_at_once_with_what_was_left_out(repeats: Repeats) -> None:
    told = [repeats.count("a", kind, now=1.0) for kind in ("timeout", "timeout", "connect", "timeout", "connect")]
    assert told == [0, None, 1, None, None]


def test_a_place_that_says_something_else_each_time_is_bounded_too(repeats: Repeats) -> None:
    told = [repeats.count("a", number, now=1.0) for number in range(KINDS_MAX + 3)]
    assert told == [0] * KINDS_MAX + [None] * 3
    assert repeats.count("a", "new", now=1.0 + SPAN) == 3


def test_places_are_apart_and_all_is_told_anew_when_that_is_wanted(repeats: Repeats) -> None:
    assert repeats.count("a", "timeout", now=1.0) == 0
    assert repeats.count("b", "timeout", now=1.0) == 0
    assert repeats.count("b", "timeout", now=2.0) is None
    repeats.clear()
    assert repeats.count("b", "timeout", now=3.0) == 0
