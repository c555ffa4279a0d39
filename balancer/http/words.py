"""Pieces of a client's text in our answers, headers and logs: short, printable, never able to break a line.

Also the sentences that msgspec makes of a wrong value, put into the house's form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final
from urllib.parse import quote

import msgspec

from balancer.config.problems import near, shown

__all__ = ["close", "fault", "header", "hint", "near", "shown"]

CLOSE_MAX: Final = 3  # names that a message suggests
CANDIDATES_MAX: Final = 500  # names compared; more would hold the loop for milliseconds
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`", re.DOTALL)
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$", re.DOTALL)
_FAULT_MAX: Final = 300  # characters

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""All that msgspec raises for any bytes at all: bad UTF-8 is a ValueError, deep nesting a RecursionError."""


def header(text: str) -> str:
    """Make text safe as a header's value: printable ASCII, the rest percent-encoded."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=" !#$&'()*+,/:;=?@[]")


def close(word: str, names: Iterable[str]) -> list[str]:
    """Names near to an unknown one."""
    candidates = [name for name, _ in zip(names, range(CANDIDATES_MAX), strict=False)]
    return get_close_matches(word[:100].lower(), candidates, n=CLOSE_MAX)


def hint(word: str, allowed: Sequence[str]) -> str:
    """Say which known word was probably meant, or else all that are allowed."""
    nearest = near(word[:100], allowed)
    return f"did you mean {nearest}?" if nearest is not None else f"allowed: {', '.join(allowed)}"


def fault(error: Exception, known: Sequence[str] = ()) -> str:
    """Say what is wrong with a JSON text: where, what was found, what is allowed."""
    if isinstance(error, RecursionError):
        return "malformed JSON: nested too deeply"
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        reason = "not valid UTF-8" if isinstance(error, UnicodeError) else text.removeprefix("JSON is malformed: ")
        return f"malformed JSON: {reason[:_FAULT_MAX]}"
    place = _WHERE.search(text)
    where = "" if place is None else place[1]
    what = text if place is None else text[: place.start()]
    unknown = _UNKNOWN.fullmatch(what)
    if unknown is not None:
        path = f"{where}.{unknown[1]}" if where else unknown[1]
        return f"{shown(path)}: unknown field; {hint(unknown[1], known)}"
    what = what[:1].lower() + what[1:_FAULT_MAX].replace("`", "")
    return f"{shown(where)}: {what}" if where else what
