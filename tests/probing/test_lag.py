"""How long our own event loop stood still."""

from __future__ import annotations

import pytest

from balancer.probing.lag import KEPT, WOKEN_LATE, Lag, ours


def test_the_longest_pause_since_a_moment_counts_and_a_busy_loop_is_left_out() -> None:
    lag = Lag()
    for step in range(1000):
        lag.woken(WOKEN_LATE, now=step / 1000)
        lag.woken(-1.0, now=step / 1000)  # something else woke it before
    assert lag.longest(0.0) == 0.0
    lag.woken(2.0, now=10.0)
    lag.woken(0.5, now=20.0)
    lag.woken(0.5, now=21.0)
    assert [lag.longest(since) for since in (0.0, 10.0, 20.5, 21.0)] == [2.0, 0.5, 0.5, 0.0]
    lag.woken(0.0, now=10.1 + KEPT)
    assert lag.longest(0.0) == 0.5


@pytest.mark.parametrize(
    ("late", "timeout", "told"), [(0.05, 0.1, False), (0.06, 0.1, True), (0.9, 10.0, False), (1.1, 10.0, True)]
)
def test_only_a_lag_that_is_a_part_of_the_timeout_says_more_of_us(late: float, timeout: float, told: bool) -> None:
    assert ours(late, timeout) is told
