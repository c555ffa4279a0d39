"""The two clocks are two."""

import shutil
import subprocess
import sys
import time

import pytest

from balancer.service import clock


def test_monotonic_never_runs_backwards():
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_wall_is_unix_time():
    assert abs(clock.wall() - time.time()) < 5


def test_monotonic_goes_on_while_the_machine_is_suspended():
    # As if it had slept for a day: a time namespace moves that clock alone.
    namespace = ["unshare", "--user", "--map-root-user", "--time", "--fork", "--boottime", "86400"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no time namespaces here")
    text = "import time; from balancer.service import clock; print(clock.monotonic() - time.monotonic())"
    found = subprocess.run([*namespace, sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert 86_399.0 < float(found.stdout) < 86_401.0


def test_the_clock_of_systemd_is_the_one_without_the_time_of_sleep():
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= clock.awake_usec() <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
