"""What the journal receives: a real journald where one can run, and a socket like its own."""

import array
import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from balancer.config import Secret
from balancer.service.journal import (
    NAME_MAX,
    SHOWN_MAX,
    JournalSink,
    entry,
    field,
    is_there,
    leads_to_journal,
    message,
)

JOURNALD = "/lib/systemd/systemd-journald"
DEADLINE = 20.0  # s until a journal that was started must answer
MOMENT = "2026-01-02T03:04:05.678901Z"

FACTS = {
    "endpoint": "acme/large@one",
    "provider": "acme",
    "reason": "5 failures in a row (500)",
    "hold": 41.0,
    "requests": 200,
    "enforced": False,
    "status": None,
    "problems": ["a", "b"],
    "exception": "Traceback:\n  Err\x1bor\n",
    "token": Secret("hunter2"),
}


def read(datagram):
    """The fields of an entry as journald reads them."""
    found, rest = [], datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found.append((name.decode(), value.decode()))
    return found


def test_an_event_is_a_line_for_people_and_a_field_for_each_fact():
    line = (
        'endpoint.ejected endpoint=acme/large@one provider=acme reason="5 failures in a row (500)" hold=41.0 '
        'requests=200 enforced=false problems=["a", "b"] token=***\nTraceback:\n  Err\\x1bor'
    )
    assert read(entry("warning", "endpoint.ejected", FACTS, timestamp=MOMENT)) == [
        ("MESSAGE", line),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "balancer"),
        ("BALANCER_EVENT", "endpoint.ejected"),
        ("BALANCER_TIMESTAMP", MOMENT),
        ("ENDPOINT", "acme/large@one"),
        ("PROVIDER", "acme"),
        ("REASON", "5 failures in a row (500)"),
        ("HOLD", "41.0"),
        ("REQUESTS", "200"),
        ("ENFORCED", "false"),
        ("PROBLEMS", "a"),
        ("PROBLEMS", "b"),
        ("EXCEPTION", "Traceback:\n  Err\x1bor\n"),
        ("TOKEN", "***"),
    ]


def test_a_value_with_lines_cannot_become_a_field():
    found = entry("info", "probe.failed", {"detail": "x\nPRIORITY=0\n_UID=0"}, timestamp=MOMENT)
    assert dict(read(found)) == {
        "MESSAGE": r"probe.failed detail=x\nPRIORITY=0\n_UID=0".replace("detail=", 'detail="') + '"',
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "balancer",
        "BALANCER_EVENT": "probe.failed",
        "BALANCER_TIMESTAMP": MOMENT,
        "DETAIL": "x\nPRIORITY=0\n_UID=0",
    }


@pytest.mark.parametrize(("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")])
def test_levels_are_the_priorities_of_syslog(level, priority):
    assert ("PRIORITY", priority) in read(entry(level, "daemon.ready", {}, timestamp=MOMENT))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("provider", "PROVIDER"),
        ("next_in", "NEXT_IN"),
        ("at-next start", "AT_NEXT_START"),
        ("naïve", "NA_VE"),
        ("_uid", "UID"),
        ("__", None),
        ("", None),
        ("…", None),
        ("4xx", "BALANCER_4XX"),
        ("message", "BALANCER_MESSAGE"),
        ("priority", "BALANCER_PRIORITY"),
        ("unit", "BALANCER_UNIT"),
        ("_message", "BALANCER_MESSAGE"),
        ("syslog_identifier", "BALANCER_SYSLOG_IDENTIFIER"),
        ("object_pid", "BALANCER_OBJECT_PID"),
        ("balancer_event", "BALANCER_EVENT_"),
        ("balancer_host", "BALANCER_HOST"),
        ("k" * 100, "K" * NAME_MAX),
        ("code_" + "k" * 100, ("BALANCER_CODE_" + "K" * 100)[:NAME_MAX]),
    ],
)
def test_facts_keep_their_names_where_systemd_has_no_meaning_for_them(key, name):
    assert field(key) == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ('say "no"', r'"say \"no\""'),
        ("a=b", '"a=b"'),
        ("größer", "größer"),
        ("\x1b[2J", r"\x1b[2J"),
        (1.5, "1.5"),
        (True, "true"),
        ({"a": [1]}, '{"a": [1]}'),
        ("x" * 500, "x" * (SHOWN_MAX - 1) + "…"),
    ],
)
def test_the_line_quotes_what_would_read_as_several_facts(value, shown):
    assert message("probe.failed", {"fact": value}) == f"probe.failed fact={shown}"


def test_half_a_character_does_not_lose_the_entry():
    found = dict(read(entry("info", "report.refused", {"path": "/\udc80"}, timestamp=MOMENT)))
    assert found["PATH"] == r"/\udc80"


def test_a_stream_is_the_journal_where_device_and_inode_are_the_same(tmp_path):
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        said = f"{found.st_dev}:{found.st_ino}"
        assert leads_to_journal(stream.fileno(), said)
        for other in (None, "", "1:2", f"{said}0", "nonsense"):
            assert not leads_to_journal(stream.fileno(), other)
        number = stream.fileno()
    assert not leads_to_journal(number, said)  # closed


@pytest.fixture
def receiver(tmp_path):
    """A socket where journald would have its own."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(DEADLINE)
        yield made, str(path)


def test_a_short_entry_is_one_datagram(receiver):
    made, path = receiver
    sink = JournalSink(path)
    assert is_there(path)
    assert sink.write(b"MESSAGE=one\n") == 12
    assert made.recv(100) == b"MESSAGE=one\n"
    sink.close()


def test_an_entry_above_the_sockets_limit_is_a_sealed_file(receiver):
    made, path = receiver
    sink = JournalSink(path)
    long = b"MESSAGE=" + b"x" * (32 << 20) + b"\n"
    assert sink.write(long) == len(long)
    size = array.array("i", [0]).itemsize
    data, ancillary, _, _ = made.recvmsg(100, socket.CMSG_SPACE(size))
    assert data == b""
    (passed,) = array.array("i", ancillary[0][2])
    seals = fcntl.fcntl(passed, fcntl.F_GET_SEALS)
    wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    assert seals & wanted == wanted
    with os.fdopen(passed, "rb") as file:
        file.seek(0)
        assert file.read() == long
    sink.close()


def test_a_journal_that_starts_anew_is_found_again(tmp_path, receiver):
    made, path = receiver
    sink = JournalSink(path)
    made.close()
    with pytest.raises(ConnectionRefusedError):
        sink.write(b"MESSAGE=one\n")
    Path(path).unlink()
    with pytest.raises(FileNotFoundError):
        sink.write(b"MESSAGE=one\n")
    assert not is_there(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anew:
        anew.bind(path)
        assert sink.write(b"MESSAGE=one\n") == 12
        assert anew.recv(100) == b"MESSAGE=one\n"
    sink.close()


@pytest.fixture
def journald():
    """A journald of our own, seen from here through /proc: `socket path, folder of its files`."""
    # Without the kernel's messages, which it would read first, and with a /run that nobody else sees.
    begin = (
        "mount -t tmpfs none /run && mount --bind /dev/null /dev/kmsg && "
        f"mkdir -p /run/systemd/journal /run/log/journal && exec {JOURNALD}"
    )
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", begin]
    if not (Path(JOURNALD).exists() and shutil.which("unshare") and shutil.which("journalctl")):
        pytest.skip("no journald here")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = f"/proc/{process.pid}/root/run"
    end = time.monotonic() + DEADLINE
    while not (is_there(f"{root}/systemd/journal/socket") and Path(f"/proc/{process.pid}/exe").exists()):
        if process.poll() is not None:
            pytest.skip("journald does not run here")
        assert time.monotonic() < end
        time.sleep(0.01)
    yield f"{root}/systemd/journal/socket", f"{root}/log/journal"
    process.terminate()
    process.wait(DEADLINE)


def test_a_real_journal_can_be_asked_for_each_fact(journald):
    path, folder = journald
    sink = JournalSink(path)
    many = [f"{number}: {'p' * 30_000}" for number in range(20)]  # too long for a datagram
    sink.write(entry("warning", "endpoint.ejected", FACTS, timestamp=MOMENT))
    sink.write(entry("error", "config.rejected", {"problems": many, "unit": "x"}, timestamp=MOMENT))
    sink.close()

    def ask(*match):
        command = ["journalctl", "--directory", folder, "--all", "--output", "json", "--no-pager", *match]
        done = subprocess.run(command, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    end = time.monotonic() + DEADLINE
    while not (found := ask("BALANCER_EVENT=config.rejected")):
        assert time.monotonic() < end, "the journal has nothing"
        time.sleep(0.05)
    assert found[0]["PROBLEMS"] == many
    assert (found[0]["PRIORITY"], found[0]["BALANCER_UNIT"], found[0]["_TRANSPORT"]) == ("3", "x", "journal")
    (found,) = ask("PROVIDER=acme", "PROBLEMS=b")
    expected = entry("warning", "endpoint.ejected", FACTS, timestamp=MOMENT)
    told = {name: value for name, value in read(expected) if name != "PROBLEMS"}
    assert isinstance(found["EXCEPTION"], list)  # bytes, as it holds a control character
    assert {name: found[name] for name in told if name != "EXCEPTION"} == {
        name: value for name, value in told.items() if name != "EXCEPTION"
    }
