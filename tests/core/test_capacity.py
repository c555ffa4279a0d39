from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.capacity import HOLD_FIRST, HOLD_MIN, Throttle

HOLD_MAX = 300.0


def limited(
    throttle: Throttle, *, hint: float | None = None, began: float = 0.0, ended: float = 0.0, seed: int = 1
) -> float:
    """Take a 429 and tell for how long it holds."""
    throttle.limit(hint=hint, began=began, ended=ended, hold_max=HOLD_MAX, random=Random(seed))
    return throttle.until - ended


def test_before_the_first_429_nothing_is_held() -> None:
    assert not Throttle().holds(0.0)
    assert not Throttle().holds(-1e9)


@pytest.mark.parametrize(
    ("hint", "hold"),
    [(0.0, HOLD_MIN), (0.2, HOLD_MIN), (1.0, 1.0), (37.5, 37.5), (300.0, 300.0), (86_400.0, HOLD_MAX)],
)
def test_a_hint_is_obeyed_within_a_floor_and_a_cap(hint: float, hold: float) -> None:
    throttle = Throttle()
    assert limited(throttle, hint=hint, ended=10.0) == hold
    assert throttle.holds(10.0 + hold - 0.001)
    assert not throttle.holds(10.0 + hold)
    assert throttle.exponent == 0


@given(st.integers(0, 1000))
def test_without_a_hint_holds_double_from_five_seconds_with_equal_jitter_to_the_cap(seed: int) -> None:
    throttle, now = Throttle(), 0.0
    for step in range(10):
        hold = limited(throttle, began=now, ended=now, seed=seed)
        longest = min(HOLD_FIRST * 2**step, HOLD_MAX)
        assert longest / 2 <= hold <= longest
        now = throttle.until


def test_a_burst_that_was_already_under_way_grows_the_hold_once() -> None:
    throttle = Throttle()
    for request in range(100):
        limited(throttle, began=10.0 + request * 0.001, ended=11.0 + request * 0.001)
    assert throttle.exponent == 1
    assert throttle.until <= 11.1 + HOLD_FIRST


def test_a_429_of_a_request_that_began_after_the_last_one_grows_it_again() -> None:
    throttle = Throttle()
    limited(throttle, began=10.0, ended=11.0)
    limited(throttle, began=11.0, ended=12.0)
    assert throttle.exponent == 2


def test_only_a_success_that_began_after_the_last_growth_eases() -> None:
    throttle = Throttle()
    for now in (0.0, 10.0, 20.0):
        limited(throttle, began=now, ended=now)
    until = throttle.until
    throttle.ease(began=19.9)
    assert throttle.exponent == 3
    throttle.ease(began=20.0)
    assert (throttle.exponent, throttle.until) == (0, until)


def test_a_straggler_after_ease_holds_as_a_first_429_does() -> None:
    throttle = Throttle()
    limited(throttle, began=10.0, ended=10.0)
    throttle.ease(began=20.0)
    limited(throttle, began=5.0, ended=21.0)
    assert HOLD_FIRST / 2 <= throttle.until - 21.0 <= HOLD_FIRST


steps = st.tuples(
    st.sampled_from(("hinted", "bare", "ease")),
    st.floats(0, 1e4, allow_nan=False),
    st.floats(0, 100, allow_nan=False),
    st.floats(0, 1e5, allow_nan=False),
)


@given(st.lists(steps, max_size=60), st.integers(0, 9), st.sampled_from((0.5, 5.0, 300.0)))
def test_deadlines_only_move_later_and_never_beyond_the_cap(
    story: list[tuple[str, float, float, float]], seed: int, hold_max: float
) -> None:
    throttle, random = Throttle(), Random(seed)
    for what, ended, latency, hint in story:
        before = throttle.until
        if what == "ease":
            throttle.ease(began=ended - latency)
        else:
            throttle.limit(
                hint=hint if what == "hinted" else None,
                began=ended - latency,
                ended=ended,
                hold_max=hold_max,
                random=random,
            )
            assert throttle.until >= ended + min(HOLD_MIN, hold_max / 2)
        assert throttle.until >= before
        assert throttle.until <= max(before, ended + hold_max)
        assert throttle.exponent >= 0
