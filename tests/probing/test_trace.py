"""Phases, transcripts, and the removal of secrets."""

import json
from urllib.parse import quote

import pytest

from balancer.config.secret import Secret
from balancer.probing.trace import LINE_MAX, LINES_MAX, Trace


def walked(*moments):
    steps = iter(moments)
    return Trace(clock=lambda: next(steps), credential=None)


def test_entering_a_phase_ends_the_one_before():
    trace = walked(1.0, 3.0, 3.5)
    trace.enter("resolve")
    trace.enter("connect")
    assert trace.phase == "connect"
    trace.leave()
    assert trace.phases == {"resolve": 2.0, "connect": 0.5}
    assert trace.phase is None


def test_a_phase_that_happens_again_replaces_and_a_restart_forgets():
    trace = walked(0.0, 5.0, 6.0, 7.0, 8.0)
    trace.enter("first_byte")
    trace.leave()
    trace.enter("first_byte")
    trace.leave()
    assert trace.phases == {"first_byte": 1.0}
    trace.restart()
    assert trace.phases == {}


@pytest.mark.parametrize("secret", ['sk/a+b"c\\d', "plain", "sk-with\nline", " padded "])
def test_a_secret_is_removed_however_it_is_spelled(secret):
    trace = Trace(clock=lambda: 0.0, credential=Secret(secret))
    for spelled in (
        secret,
        secret.strip(),
        quote(secret),
        quote(secret, safe=""),
        json.dumps(secret),
        repr(secret),
        secret.replace("/", "\\/"),
    ):
        assert secret.strip() not in trace.clean(f"x {spelled} y", 100)
        assert trace.redacted(f"x{spelled}y").replace("%20", "").replace("***", "").strip("xy'\" ") == ""


def test_an_empty_secret_changes_nothing():
    trace = Trace(clock=lambda: 0.0, credential=Secret(""))
    assert trace.clean("as it is", 100) == "as it is"


def test_a_secret_is_removed_before_the_text_is_cut():
    trace = Trace(clock=lambda: 0.0, credential=Secret("secret"))
    assert trace.clean("1234 secret", 8) == "1234 ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-secret-0123", "key ***"),
        ("key sk-secret-01", "key ***"),
        ("key sk-secre", "key ***"),
        ("key sk-secr", "key sk-secr"),
        ("key sk-secret-012 and more", "key *** and more"),
        ("sk-secret-0123 sk-secret-012", "*** ***"),
    ],
)
def test_a_secret_that_a_limit_cut_is_removed_too(text, shown):
    trace = Trace(clock=lambda: 0.0, credential=Secret("sk-secret-0123"))
    assert trace.clean(text, 100) == trace.redacted(text) == shown


def test_of_a_long_text_only_the_beginning_is_shown():
    trace = Trace(clock=lambda: 0.0, credential=Secret("sk-secret-0123"))
    assert trace.clean("a " * 1_000_000, 10) == "a a a a a…"
    assert trace.clean(" " * 95 + "sk-secret-0123", 10) == "***"


def test_text_becomes_one_printable_line():
    trace = Trace(clock=lambda: 0.0, credential=None)
    assert trace.clean("a\r\nb\tc\x1b[0m\x00", 100) == "a b c?[0m?"
    assert trace.clean("x" * 20, 10) == "x" * 9 + "…"


def test_what_nobody_will_read_is_not_written_down():
    trace = Trace(clock=lambda: 0.0, credential=Secret("sk-secret-0123"), transcribed=False)
    trace.say("> authorization: Bearer sk-secret-0123")
    assert trace.transcript == ()
    assert trace.clean("x sk-secret-0123", 100) == "x ***"


def test_a_transcript_is_bounded_and_says_so():
    trace = Trace(clock=lambda: 0.0, credential=None)
    for _ in range(LINES_MAX * 3):
        trace.say("y" * LINE_MAX * 2)
    assert len(trace.transcript) == LINES_MAX
    assert max(map(len, trace.transcript)) == LINE_MAX
    assert trace.transcript[-1] == "* the rest is left out"


@pytest.mark.parametrize("size", [1, 3, 5, 7, 13, 20])
def test_a_secret_that_a_stream_says_in_pieces_is_removed_from_each_line(size):
    trace = Trace(clock=lambda: 0.0, credential=Secret("sk-secret-0123456789"))
    text = "the key is sk-secret-0123456789, and no other"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for piece in pieces:
        trace.say_event(f'{{"id": "chunk-1", "text": "{piece}"}}')
        trace.say("< (a comment)")
    shown = "".join(line.partition('"text": "')[2][:-2] for line in trace.transcript[::2] if line != "< ***")
    assert not any(part in shown for part in ("sk-", "secr", "0123", "6789"))
    assert (shown.startswith("the"), shown.endswith("other")) == (size < 10, True)
    assert trace.transcript[1::2] == ("< (a comment)",) * len(pieces)


def test_of_an_event_with_many_words_the_borders_count():
    trace = Trace(clock=lambda: 0.0, credential=Secret("sk-secret-0123456789"))
    trace.say_event(f'{{"content": "{"x" * 1000}sk-se"}}')
    trace.say_event('{"content": "cret-01234"}')
    trace.say_event(f'{{"content": "56789{"x" * 1_000_000}"}}')
    trace.say_event('{"content": "56789"}')
    assert trace.transcript == ("< ***", "< ***", "< ***", '< {"content": "56789"}')


def test_of_a_stream_in_one_piece_the_first_event_is_shown():
    trace = Trace(clock=lambda: 0.0, credential=None)
    for text in ("< data: one\n\ndata: two\n\n", "< data: one\r\r: comment\rdata: two", "< data: one\ndata: two"):
        assert trace.clean(text, 100).startswith("< data: one ")
        assert trace.clean(text, 100).endswith(" (and more events)")
    assert trace.clean("< data: one\n\n", 100) == "< data: one"
