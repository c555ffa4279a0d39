"""The machine that the other tests use: it is a real systemd, and nothing is left of it, however the tests end."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
GONE_MAX = 10.0  # s

BOOT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from machine import boot
with boot() as machine:
    print(machine.pid, flush=True)
    time.sleep(600)
"""


def test_it_is_the_real_one_and_knows_nothing_of_this_machine(machines):
    with machines({}) as (machine, _):
        assert machine.run("cat", "/proc/1/comm").stdout == "systemd\n"
        assert machine.systemctl("is-system-running").stdout == "running\n"
        assert machine.systemctl("list-units", "--state=failed", "--plain", "--no-legend").stdout == ""
        assert machine.run("cat", "/proc/net/dev").stdout.count(":") == 1  # nothing but loopback
        machine.write("/etc/balancer-was-here", "")
    assert not Path("/etc/balancer-was-here").exists()


def test_nothing_of_it_outlives_tests_that_are_killed(machines):
    with machines({}):
        pass  # or skip here, where none can be booted
    mounts = Path("/proc/self/mounts").read_text()
    folders = made()
    with subprocess.Popen([sys.executable, "-c", BOOT, str(HERE)], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        process = Path("/proc", tests.stdout.readline().strip())
        cgroup = [path for path in cgroups() if f"/{path.name}/" in (process / "cgroup").read_text()]
        assert len(cgroup) == 1
        tests.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + GONE_MAX
    while process.exists() or cgroup[0].exists() or made() > folders:
        assert time.monotonic() < deadline, "something of the machine is still there"
        time.sleep(0.02)
    assert Path("/proc/self/mounts").read_text() == mounts


def cgroups():
    """The cgroups of machines, as far as they are seen here."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(fields[1]) for fields in lines if fields[2] == "cgroup2"]
    return [path for place in places for path in place.glob("balancer-machine-*")]


def made():
    """The folders of machines' keepers."""
    return set(Path(tempfile.gettempdir()).glob("balancer-machine-*"))
