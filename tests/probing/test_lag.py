"""How long our own event loop stood still."""

from __future__ import annotations

import pytest

from balancer.probing.lag import WOKEN_LATE, Lag, ours


def test_what_somebody_was_woken_late_adds_up_and_a_busy_loop_is_left_out() -> None:
    lag = Lag()
    for _ in range(1000):
        lag.woken(WOKEN_LATE)
        lag.woken(-1.0)  # something else woke it before
    assert lag.total == 0.0
    lag.woken(2.0)
    lag.woken(0.5)
    assert lag.total == 2.5


@pytest.mark.parametrize(
    ("late", "timeout", "told"), [(0.05, 0.1, False), (0.06, 0.1, True), (0.9, 10.0, False), (1.1, 10.0, True)]
)
def test_only_a_lag_that_is_a_part_of_the_timeout_says_more_of_us(late: float, timeout: float, told: bool) -> None:
    assert ours(late, timeout) is told
