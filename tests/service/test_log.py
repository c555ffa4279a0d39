"""Log lines as they are written."""

import io
import json

import pytest

from balancer.config import Secret
from balancer.service.log import EVENTS, configure, silent


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
