"""Log lines as they are written."""

import io
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from balancer.config import Secret
from balancer.service.log import EVENTS, configure, silent

DEADLINE = 20.0  # s for what takes milliseconds on an idle machine


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_json_lines_begin_with_when_how_bad_and_what():
    out = io.StringIO()
    configure(level="info", style="auto", stream=out).warning("endpoint.ejected", endpoint="a/m@p", hold=41.0)
    facts = json.loads(out.getvalue())
    assert list(facts) == ["timestamp", "level", "event", "endpoint", "hold"]
    assert (facts["event"], facts["endpoint"], facts["hold"]) == ("endpoint.ejected", "a/m@p", 41.0)


def test_a_terminal_gets_console_lines_and_a_forced_format_wins():
    terminal, forced = Terminal(), Terminal()
    configure(level="info", style="auto", stream=terminal).info("daemon.ready")
    configure(level="info", style="json", stream=forced).info("daemon.ready")
    assert not terminal.getvalue().startswith("{")
    assert "daemon.ready" in terminal.getvalue()
    assert json.loads(forced.getvalue())["event"] == "daemon.ready"


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_leaves_out_what_is_below_it(level, lines):
    out = io.StringIO()
    log = configure(level=level, style="json", stream=out)
    for write in (log.debug, log.info, log.warning, log.error):
        write("daemon.ready")
    assert len(out.getvalue().splitlines()) == lines


def test_what_somebody_did_is_written_whatever_the_level():
    out = io.StringIO()
    log = configure(level="error", style="json", stream=out)
    log.info("operator.acted", verb="resume")
    log.audit("operator.acted", verb="drain")
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["level"], line["event"], line["verb"]) == ("info", "operator.acted", "drain")


def test_a_name_outside_the_closed_list_is_refused_and_nothing_is_written():
    out = io.StringIO()
    with pytest.raises(ValueError, match="is not a log event"):
        configure(level="info", style="json", stream=out).info("endpoint.exploded")
    assert out.getvalue() == ""


def test_a_secret_among_the_facts_does_not_print():
    out = io.StringIO()
    configure(level="info", style="console", stream=out).info("config.loaded", token=Secret("hunter2"))
    assert "hunter2" not in out.getvalue()


def test_every_event_is_a_noun_and_a_past_word():
    assert all(name.count(".") == 1 and name.islower() for name in EVENTS)


def test_a_silent_log_still_knows_its_events():
    silent().info("daemon.ready")
    with pytest.raises(ValueError, match="is not a log event"):
        silent().info("nothing.known")


@pytest.fixture
def file(tmp_path):
    """A file that stands for standard error; `read()` is what came there."""
    with (tmp_path / "stream").open("w", encoding="ascii") as stream:
        yield stream


def read(stream):
    return Path(stream.name).read_text()


def journal_stream(stream):
    found = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


@pytest.fixture
def receiver(tmp_path):
    """A socket where the journal would have its own."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(DEADLINE)
        yield made, str(path)


def test_lines_of_a_file_are_there_when_the_log_is_closed_and_none_come_after(file):
    log = configure(level="info", style="auto", stream=file)
    log.info("daemon.ready", path="/\udc80\x1b", fraction=math.nan)
    assert log.close(DEADLINE)
    log.info("daemon.stopped")
    (line,) = read(file).splitlines()
    facts = json.loads(line, parse_constant=lambda _: pytest.fail("NaN is no JSON"))
    assert (facts["event"], facts["path"], facts["fraction"]) == ("daemon.ready", "/\udc80\x1b", "nan")
    assert log.dropped == 1


def test_standard_error_that_is_the_journal_gets_fields_instead_of_lines(file, receiver):
    made, path = receiver
    log = configure(level="info", style="auto", stream=file, environ=journal_stream(file), socket=path)
    log.warning("endpoint.ejected", endpoint="a/m@p", hold=41.0, token=Secret("hunter2"))
    lines = made.recv(65536).decode().splitlines()
    assert log.close(DEADLINE)
    assert lines[:4] == [
        "MESSAGE=endpoint.ejected endpoint=a/m@p hold=41.0 token=***",
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=balancer",
        "BALANCER_EVENT=endpoint.ejected",
    ]
    assert re.fullmatch(r"BALANCER_TIMESTAMP=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[4])
    assert lines[5:] == ["ENDPOINT=a/m@p", "HOLD=41.0", "TOKEN=***"]
    assert read(file) == ""


def test_a_variable_that_was_meant_for_a_parent_changes_nothing(file, receiver):
    _, path = receiver
    log = configure(level="info", style="auto", stream=file, environ={"JOURNAL_STREAM": "1:2"}, socket=path)
    log.info("daemon.ready")
    assert log.close(DEADLINE)
    assert json.loads(read(file))["event"] == "daemon.ready"


def test_without_a_journals_socket_its_stream_gets_lines(file, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    log = configure(level="info", style="auto", stream=file, environ=journal_stream(file), socket=nowhere)
    log.info("daemon.ready")
    assert log.close(DEADLINE)
    assert json.loads(read(file))["event"] == "daemon.ready"


def test_a_journal_that_is_asked_for_by_name_must_be_there(tmp_path, receiver):
    _, path = receiver
    assert configure(level="info", style="journal", stream=io.StringIO(), socket=path).close(DEADLINE)
    with pytest.raises(OSError) as refused:
        configure(level="info", style="journal", stream=io.StringIO(), socket=str(tmp_path / "nowhere"))
    assert (
        str(refused.value)
        == f"log.format: journal, but there is none at {tmp_path}/nowhere; use auto, json or console"
    )


@pytest.mark.parametrize("style", ["json", "console", "journal"])
def test_a_journal_or_pipe_that_has_stopped_reading_delays_nobody_and_is_told_later(style, tmp_path, receiver):
    made, path = receiver
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        log = configure(level="error", style=style, stream=stream, socket=path)
        began = time.monotonic()
        count = 0
        while log.dropped < 100:
            log.error("config.rejected", problems=["x" * 30_000])
            count += 1
        assert not log.close(0.05)
        assert time.monotonic() - began < DEADLINE
        found = b""
        if style == "journal":
            while b"log.dropped" not in found:
                data, ancillary, _, _ = made.recvmsg(65536, socket.CMSG_SPACE(4))
                assert ancillary == []
                found = data
        else:
            while b"log.dropped" not in found:
                found = reader.readline()
        told = {"json": b'"events": 100', "console": b"events=100", "journal": b"EVENTS=100\n"}
        assert told[style] in found
        assert count < 400
        made.close()  # or the thread would go on writing
        reader.close()


def test_a_terminal_does_not_obey_what_a_provider_says():
    out = Terminal()
    log = configure(level="info", style="auto", stream=out)
    log.info("probe.failed", detail="\x1b]0;owned\x07\x9b2J\u202e")
    log.info("probe.failed", detail="two\nlines \x1b[2J", list=["\x1b[2J"])
    found = out.getvalue()
    assert r"\x1b]0;owned\x07\x9b2J\u202e" in found
    assert len(found.splitlines()) == 2
    assert not re.search("\x1b(?!\\[[0-9;]*m)|\x07|\x9b|\u202e", found)  # colours are ours


def test_an_exception_is_told_with_its_lines_and_no_local_values():
    out = Terminal()
    log = configure(level="info", style="console", stream=out)
    try:
        hidden = "hunter2"
        raise RuntimeError("first\x1b[2J\nsecond" + hidden[:0])
    except RuntimeError as problem:
        log.error("request.crashed", exc_info=problem)
    found = out.getvalue()
    assert "RuntimeError: first\\x1b[2J\nsecond" in found
    assert "hunter2" not in found


def test_a_terminal_that_lacks_a_character_shows_its_escape(tmp_path):
    with (tmp_path / "terminal").open("w", encoding="ascii") as stream:
        log = configure(level="info", style="console", stream=stream)
        log.info("probe.failed", detail="größer")
        assert log.close(DEADLINE)
    assert r"gr\xf6\xdfer" in (tmp_path / "terminal").read_text()


def test_no_fact_is_asked_how_it_prints():
    class Loud:
        def __repr__(self):
            raise AssertionError("nobody may ask for it")

        __str__ = __repr__

    for style in ("json", "console"):
        out = io.StringIO()
        configure(level="info", style=style, stream=out).info("config.loaded", facts=[Loud()])
        assert "<Loud>" in out.getvalue()


def test_a_stream_that_is_closed_costs_its_lines_and_nothing_else():
    out = io.StringIO()
    log = configure(level="info", style="json", stream=out)
    out.close()
    log.info("daemon.ready")
    assert log.dropped == 1
    assert log.close()


def test_a_silent_log_drops_nothing_and_closes():
    log = silent()
    log.error("daemon.ready")
    assert (log.dropped, log.close()) == (0, True)


ADOPT = """
import asyncio, logging, os, warnings
from balancer.service.log import adopt_libraries, configure
log = configure(level="info", style="json")
adopt_libraries(log)
logging.getLogger("aiohttp.server").info("too little")
logging.getLogger("aiohttp.server").warning("%d bytes of %s", 3, "x")
logging.getLogger("aiohttp.server").warning("%d bytes", "not a number")
warnings.warn("old", DeprecationWarning)
async def main():
    task = asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0)
async def fail():
    raise RuntimeError("nobody asked")
asyncio.run(main())
log.close()
"""


def test_what_libraries_complain_of_comes_into_the_log():
    command = [sys.executable, "-W", "default", "-c", ADOPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert {each["event"] for each in told} == {"library.warned"}
    assert [(each["level"], each["library"], each["said"]) for each in told[:2]] == [
        ("warning", "aiohttp.server", "3 bytes of x"),
        ("warning", "aiohttp.server", "%d bytes"),
    ]
    assert (told[2]["library"], "DeprecationWarning: old" in told[2]["said"]) == ("py.warnings", True)
    assert (told[3]["level"], told[3]["library"]) == ("error", "asyncio")
    assert told[3]["said"].startswith("Task exception was never retrieved")
    assert "RuntimeError: nobody asked" in told[3]["exception"]
    assert len(told) == 4
