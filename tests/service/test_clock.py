"""The two clocks are two."""

import time

from balancer.service import clock


def test_monotonic_never_runs_backwards():
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_wall_is_unix_time():
    assert abs(clock.wall() - time.time()) < 5
