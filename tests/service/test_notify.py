"""What a service manager receives: a real datagram socket, bound as systemd binds its own."""

import os
import secrets
import socket
import subprocess
import sys
import time

import pytest

from balancer.service.clock import awake_usec
from balancer.service.notify import OWED_MAX, STATUS_MAX, Notify

PID = 4711


class Manager:
    """Stands where systemd stands: `read()` is everything that has come since."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self.socket.setblocking(False)

    def read(self):
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return found

    def fill(self):
        """Let others talk until there is no room, as beside a manager that is busy; tell how much that took."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            for count in range(100_000):
                try:
                    other.sendto(b"noise", socket.MSG_DONTWAIT, self.socket.getsockname())
                except BlockingIOError:
                    return count
        raise AssertionError("there is always room")

    def news(self):
        """What has come, without the others' noise."""
        return [each for each in self.read() if each != "noise"]


@pytest.fixture
def manager(tmp_path):
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def notify(manager):
    made = Notify.from_environment({"NOTIFY_SOCKET": manager.address}, pid=PID)
    yield made
    made.close()


def test_each_word_is_one_datagram_in_the_managers_language(manager, notify):
    before = awake_usec()
    notify.ready("2 endpoints")
    notify.alive()
    notify.reloading()
    notify.ready()
    notify.status("3 endpoints – fine")
    notify.extend(2.5)
    notify.stopping("draining")
    found = manager.read()
    reloading = found.pop(2).partition("\nMONOTONIC_USEC=")
    assert reloading[0] == "RELOADING=1"
    assert before <= int(reloading[2]) <= time.monotonic_ns() // 1000
    assert found == [
        "READY=1\nSTATUS=2 endpoints",
        "WATCHDOG=1",
        "READY=1",
        "STATUS=3 endpoints – fine",
        "EXTEND_TIMEOUT_USEC=2500000",
        "STOPPING=1\nSTATUS=draining",
    ]
    assert (notify.owed, notify.lost) == (0, 0)


def test_a_name_without_a_file_is_an_address_too():
    manager = Manager(f"@balancer-test-{secrets.token_hex(8)}")
    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.address}, pid=PID)
    notify.ready()
    assert manager.read() == ["READY=1"]
    notify.close()
    manager.socket.close()


def test_no_text_becomes_an_assignment_of_its_own(manager, notify):
    notify.status("503: x\nWATCHDOG=trigger\r\n\0STOPPING=1\u2028MAINPID=1 \udc80")
    assert manager.read() == ["STATUS=503: x WATCHDOG=trigger   STOPPING=1 MAINPID=1  "]


def test_no_text_makes_the_manager_ignore_what_comes_with_it(manager, notify):
    notify.ready("C:\\temp\\")  # a backslash at the end of a message loses all of it
    assert manager.read() == ["READY=1\nSTATUS=C: temp "]


def test_a_status_is_cut_before_the_manager_would_ignore_it(manager, notify):
    notify.ready("\U0001f600" * 5000)
    (found,) = manager.read()
    assert len(found.encode()) <= 4096
    assert found.removeprefix("READY=1\nSTATUS=") == "\U0001f600" * (STATUS_MAX - 1) + "…"


def test_the_variables_are_taken_out_of_the_environment_and_no_others(manager):
    ours = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(PID)}
    environ = {**ours, "HOME": "/root"}
    notify = Notify.from_environment(environ, pid=PID)
    assert (notify.supervised, notify.watchdog) == (True, 3.0)
    assert environ == {"HOME": "/root"}
    notify.close()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(PID)}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_PID": str(PID)}, None),
        ({}, None),
    ],
)
def test_a_watchdog_is_only_ours_when_it_is_meant_for_this_process(manager, variables, expected):
    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.address, **variables}, pid=PID)
    assert notify.watchdog == expected
    notify.close()


def test_without_a_manager_nothing_happens():
    notify = Notify.from_environment({"WATCHDOG_USEC": "500000"}, pid=PID)
    for tell in (notify.ready, notify.reloading, notify.stopping, notify.alive, notify.close):
        tell()
    notify.status("nobody reads this")
    notify.extend(1.0)
    assert notify.retry()
    assert (notify.supervised, notify.watchdog, notify.owed, notify.lost) == (False, None, 0, 0)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, "NOTIFY_SOCKET: 'vsock:2:1234' is no address; use /path or @name"),
        ({"NOTIFY_SOCKET": "@"}, "NOTIFY_SOCKET: '@' is no address"),
        ({"NOTIFY_SOCKET": "/" + "x" * 107}, "is no address; use /path or @name, up to 107 bytes"),
        ({"NOTIFY_SOCKET": "@" + "x" * 108}, "is no address; use /path or @name, up to 108 bytes"),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3s"}, "WATCHDOG_USEC: '3s' is no time"),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, "WATCHDOG_USEC: '0' is no time"),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "-1"}, "WATCHDOG_USEC: '-1' is no time"),
    ],
)
def test_variables_that_cannot_be_meant_are_refused_with_words(variables, message):
    with pytest.raises(ValueError) as refused:
        Notify.from_environment(dict(variables), pid=PID)
    assert message in str(refused.value)


def test_what_tells_a_state_waits_for_room_and_comes_in_order(manager, notify):
    assert manager.fill() > 0
    notify.ready("a")
    notify.reloading()
    notify.ready("b")
    assert notify.owed == 3
    assert not notify.retry()
    assert manager.news() == []
    assert notify.retry()
    assert [each.split("\n")[0] for each in manager.news()] == ["READY=1", "RELOADING=1", "READY=1"]
    assert (notify.owed, notify.lost) == (0, 0)


def test_a_sign_of_life_takes_what_is_owed_along_and_is_itself_never_owed(manager, notify):
    manager.fill()
    notify.ready()
    notify.alive()
    notify.extend(1.0)
    assert (notify.owed, notify.lost) == (1, 2)
    manager.read()
    notify.alive()
    assert manager.read() == ["READY=1", "WATCHDOG=1"]
    assert (notify.owed, notify.lost) == (0, 2)


def test_of_statuses_that_wait_only_the_newest_is_told_and_none_after_a_newer_state(manager, notify):
    manager.fill()
    notify.status("one")
    notify.status("two")
    assert notify.owed == 1
    manager.read()
    assert notify.retry()
    assert manager.read() == ["STATUS=two"]
    manager.fill()
    notify.status("three")
    notify.stopping("four")
    manager.read()
    assert notify.retry()
    assert manager.read() == ["STOPPING=1\nSTATUS=four"]


def test_states_that_wait_are_bounded_and_the_last_ones_are_kept(manager, notify):
    manager.fill()
    for number in range(OWED_MAX + 3):
        notify.ready(str(number))
    assert (notify.owed, notify.lost) == (OWED_MAX, 3)
    manager.read()
    while not notify.retry():
        pass
    assert manager.news()[-1] == f"READY=1\nSTATUS={OWED_MAX + 2}"


def test_a_manager_that_starts_anew_gets_what_was_told_meanwhile(tmp_path, manager, notify):
    manager.socket.close()
    notify.ready()  # refused
    (tmp_path / "notify").unlink()
    notify.status("not there")  # no such file
    assert notify.owed == 2
    anew = Manager(manager.address)
    assert notify.retry()
    assert anew.read() == ["READY=1", "STATUS=not there"]
    anew.socket.close()


def test_after_closing_nothing_is_told(manager, notify):
    manager.fill()
    notify.ready()
    notify.close()
    notify.stopping()
    notify.alive()
    assert notify.retry()
    assert (notify.supervised, notify.lost) == (False, 1)
    assert manager.news() == []


CHILD = "import os; print(len(os.listdir('/proc/self/fd')), 'NOTIFY_SOCKET' in os.environ)"
PARENT = """
import os, sys
from balancer.service.notify import Notify
Notify.from_environment(os.environ, pid=os.getpid()).ready()
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""


def test_a_child_inherits_neither_the_variable_nor_the_socket(manager):
    environ = {**os.environ, "NOTIFY_SOCKET": manager.address}
    command = [sys.executable, "-c", PARENT, CHILD]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "4 False\n"  # standard input, output, error, and the folder that it reads
    assert manager.read() == ["READY=1"]
