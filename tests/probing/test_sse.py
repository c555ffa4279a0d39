"""Event streams, however they are cut into pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.probing.sse import EventParser

TEXT = (
    b": a comment\r\n\r\n"
    b"event: named\ndata: one\n\n"
    b"data:two\rdata: lines\r\r"
    b"id: 7\ndata\n\n"
    b"retry: 10\n\n"
    b'data: {"a": "\xc3\xbc"}\r\n\r\n'
    b"data: [DONE]"
)
EVENTS = ["one", "two\nlines", '{"a": "ü"}', "[DONE]"]


def read(*chunks):
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.end()


def test_a_stream_in_one_piece_gives_its_events():
    assert read(TEXT) == EVENTS


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_a_stream_gives_the_same_events_however_it_is_cut(cuts):
    places = [0, *sorted(cuts), len(TEXT)]
    chunks = [TEXT[start:end] for start, end in pairwise(places)]
    assert read(*chunks) == EVENTS


def test_an_event_comes_as_soon_as_its_blank_line_does():
    parser = EventParser()
    assert parser.feed(b"data: now\n\n") == ["now"]
    assert parser.feed(b"data: la") == []
    assert parser.feed(b"ter\n\n") == ["later"]
    assert parser.end() == []


@pytest.mark.parametrize("text", [b"", b"\n\n\n", b": only\n\n: comments\n\n", b"no colon at all\n\n"])
def test_a_stream_without_data_has_no_events(text):
    assert read(text) == []


def test_bytes_that_are_no_text_are_replaced_and_not_raised():
    assert read(b"data: \xff\n\n") == ["�"]


@pytest.mark.timeout(20)
def test_a_line_in_thousands_of_pieces_takes_no_longer_than_its_length():
    parser = EventParser()
    piece = b"y" * 16_384
    parser.feed(b"data: ")
    assert all(parser.feed(piece) == [] for _ in range(4096))  # 64 MiB: the most that probe.size_max allows
    (event,) = parser.feed(b"\n\n")
    assert len(event) == 4096 * len(piece)
