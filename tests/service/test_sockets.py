"""Sockets that come from a service manager: passed to a real process, from number 3 on."""

import json
import os
import socket
import subprocess
import sys

import pytest

from balancer.service.sockets import FDS_MAX, passed

DEADLINE = 30.0  # s for two starts of Python on a loaded machine

# What systemd does between fork and exec: move the descriptors to 3 and on, and name this very process.
PASS = """
import fcntl, os, sys
count = int(sys.argv[1])
given = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[3 : 3 + count]]
for index, number in enumerate(given):
    os.dup2(number, 3 + index, inheritable=True)
os.closerange(3 + count, 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""

SHOW = """
import json, os, socket, subprocess, sys
from balancer.service.sockets import passed
try:
    found = passed(os.environ, pid=os.getpid())
except ValueError as problem:
    sys.exit(str(problem))
facts = [[name, each.fileno(), each.family.name, each.getblocking()] for name, each in found]
left = [key for key in os.environ if key.startswith("LISTEN")]
look = "import os; print(os.listdir('/proc/self/fd').__len__())"
child = subprocess.run([sys.executable, "-c", look], close_fds=False, capture_output=True, text=True, check=True)
print(json.dumps({"facts": facts, "left": left, "child": int(child.stdout)}))
"""

SERVE = """
import os, select
from balancer.service.sockets import passed
((name, listening),) = passed(os.environ, pid=os.getpid())
select.select([listening], [], [])
listening.accept()[0].send(name.encode())
"""


def run(text, sockets, **variables):
    numbers = [each.fileno() for each in sockets]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LISTEN")}
    return subprocess.run(
        [sys.executable, "-c", PASS, str(len(numbers)), text, *map(str, numbers)],
        env={**environ, "LISTEN_FDS": str(len(numbers)), **variables},
        pass_fds=numbers,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@pytest.fixture
def listening(tmp_path):
    """One listening socket of each family."""
    made = [
        socket.create_server(("127.0.0.1", 0)),
        socket.create_server(("::1", 0), family=socket.AF_INET6),
        socket.socket(socket.AF_UNIX),
    ]
    made[2].bind(str(tmp_path / "api"))
    made[2].listen()
    yield made
    for each in made:
        each.close()


def test_every_family_is_taken_under_its_name_and_kept_from_children(listening):
    done = run(SHOW, listening, LISTEN_FDNAMES="http:http:metrics", LISTEN_PIDFDID="17")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["facts"] == [
        ["http", 3, "AF_INET", False],
        ["http", 4, "AF_INET6", False],
        ["metrics", 5, "AF_UNIX", False],
    ]
    assert found["left"] == []
    assert found["child"] == 4  # standard input, output, error, and the folder that it reads


def test_without_names_all_are_unknown(listening):
    found = json.loads(run(SHOW, listening[:1]).stdout)
    assert found["facts"] == [["unknown", 3, "AF_INET", False]]


def test_who_connected_before_we_began_is_answered(listening):
    with socket.create_connection(listening[0].getsockname(), timeout=DEADLINE) as client:
        done = run(SERVE, listening[:1], LISTEN_FDNAMES="http")
        assert done.returncode == 0, done.stderr
        assert client.recv(100) == b"http"


def test_everything_that_is_no_listening_stream_socket_is_told_at_once(tmp_path, listening):
    plain, datagrams, pair = socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.socketpair()
    file = (tmp_path / "file").open("w")
    reading, writing = os.pipe()
    with plain, datagrams, pair[0], pair[1], file, os.fdopen(reading) as pipe, os.fdopen(writing, "w"):
        given = [listening[0], plain, datagrams, pair[0], file, pipe]
        done = run(SHOW, given, LISTEN_FDS="7", LISTEN_FDNAMES="ok:plain:datagrams:pair:file:pi\x1bpe:gone")
    assert done.returncode == 1
    assert done.stderr == (
        "LISTEN_FDS: file descriptor 4 (plain) is a socket that does not listen; "
        "file descriptor 5 (datagrams) is a socket of AF_INET and SOCK_DGRAM; "
        "file descriptor 6 (pair) is a socket that does not listen; "
        "file descriptor 7 (file) is a file; "
        "file descriptor 8 (pi\\x1bpe) is a pipe; "
        "file descriptor 9 (gone) is not open; "
        "a listening stream socket is needed\n"
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "not ours to judge"},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "4711"},
        {"LISTEN_PID": "4711", "LISTEN_FDS": "0"},
        {"LISTEN_PID": "4711", "LISTEN_FDS": "0", "LISTEN_FDNAMES": ""},
    ],
)
def test_what_was_not_passed_to_us_is_left_alone_and_the_variables_are_gone(variables):
    environ = {**variables, "HOME": "/root"}
    assert passed(environ, pid=4711) == []
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LISTEN_PID": "me"}, "LISTEN_PID: 'me' is no number"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS: '-1' is no number"),
        ({"LISTEN_FDS": "9" * 30}, f"LISTEN_FDS: '{'9' * 30}' is no number"),
        ({"LISTEN_FDS": "5000"}, f"LISTEN_FDS: 5000 sockets are too many; up to {FDS_MAX} are taken"),
        ({"LISTEN_FDNAMES": "a:b"}, "LISTEN_FDNAMES: 'a:b' names 2, and LISTEN_FDS passes 1"),
        ({"LISTEN_FDNAMES": "a:b", "LISTEN_FDS": "3"}, "LISTEN_FDNAMES: 'a:b' names 2, and LISTEN_FDS passes 3"),
    ],
)
def test_variables_that_contradict_each_other_are_refused(variables, message):
    with pytest.raises(ValueError) as refused:
        passed({"LISTEN_PID": "4711", "LISTEN_FDS": "1", **variables}, pid=4711)
    assert str(refused.value) == message
