"""What is written of values of any kind."""

import enum
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from balancer.config import Secret
from balancer.service.plain import DEPTH_MAX, ENTRIES_MAX, TEXT_MAX, cut, plain, printable


@dataclass
class Holder:
    token: str


class Loud:
    def __repr__(self):
        raise AssertionError("nobody may ask for it")

    __str__ = __repr__


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("text", "text"),
        (7, 7),
        (0.5, 0.5),
        (True, True),
        (None, None),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (Colour.RED, "red"),
        (Path("/etc/balancer.yaml"), "/etc/balancer.yaml"),
        (("a", 1), ["a", 1]),
        ({"a": {"b": (1,)}}, {"a": {"b": [1]}}),
        ({1: 2}, {"1": 2}),
        (frozenset({"a"}), ["a"]),
        (Secret("hunter2"), "***"),
        ({"deep": [Secret("hunter2")]}, {"deep": ["***"]}),
        (Holder("hunter2"), "<Holder>"),
        (Loud(), "<Loud>"),
        ({Loud(): 1}, {"<Loud>": 1}),
        (b"hunter2", "<bytes>"),
        (RuntimeError("hunter2"), "<RuntimeError>"),
    ],
)
def test_only_plain_values_are_written_and_of_others_the_name_of_their_type(value, written):
    found = plain(value)
    assert found == written
    assert type(found) is type(written)


def test_long_text_and_long_lists_are_cut_and_say_so():
    assert plain("x" * TEXT_MAX) == "x" * TEXT_MAX
    found = plain("x" * (TEXT_MAX + 1))
    assert (len(found), found[-2:]) == (TEXT_MAX, "x…")
    assert plain(list(range(ENTRIES_MAX + 3)))[-2:] == [ENTRIES_MAX - 1, "… and 3 more"]
    assert plain(dict.fromkeys(range(ENTRIES_MAX + 3), 0))["…"] == "3 more"


def test_a_list_that_holds_itself_ends():
    ring = []
    ring.append(ring)
    found = str(plain(ring))
    assert found == "[" * DEPTH_MAX + "'<list>'" + "]" * DEPTH_MAX


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – words", "plain – words"),
        ("a\nWATCHDOG=trigger", r"a\nWATCHDOG=trigger"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\u202eabc", r"\u202eabc"),
        ("\udc80", r"\udc80"),
        ("\u2028\x85\x00", r"\u2028\x85\x00"),
    ],
)
def test_what_does_not_print_is_written_as_its_escape(text, shown):
    assert printable(text) == shown


def test_a_line_is_cut_after_its_escapes_were_written():
    assert printable("\n" * 10, most=5) == r"\n\n…"
    assert cut("abcdef", most=5) == "abcd…"
    assert cut("abcde", most=5) == "abcde"
