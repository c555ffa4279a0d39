"""Values from anywhere, made fit to be written: of plain types, bounded, and never a secret.

Theory of operation: what is logged is text, numbers, and lists and mappings of them. Of anything else only the name
of its type is written: a `repr` may be long, may fail, and may tell what it should not. Text is cut, lists are cut,
depth is cut, so that one event cannot fill the memory that is set aside for all of them.

What this module does not know: where the values go.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import islice
from math import isfinite
from pathlib import PurePath
from typing import Final

from balancer.config import Secret

TEXT_MAX: Final = (
    32_768  # characters: a traceback of some hundred frames; more would be a body, which is never logged
)
ENTRIES_MAX: Final = 256  # of a list or a mapping: more problems than anyone reads at once
DEPTH_MAX: Final = 6  # deeper than any of our facts; a structure that holds itself ends here

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]


def plain(value: object, *, depth: int = DEPTH_MAX) -> Plain:
    """The value in types that every format can write, running nobody's `repr`.

    Shape: what is not text, a number, a list or a mapping becomes the name of its type in angle brackets.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return cut(str.__str__(value), most=TEXT_MAX)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(float(value))  # JSON has no word for it
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, PurePath):
        return cut(str(value), most=TEXT_MAX)
    if isinstance(value, Mapping | list | tuple | Set) and depth > 0:
        return _many(value, depth - 1)
    return f"<{type(value).__name__}>"


def _many(
    value: Mapping[object, object] | list[object] | tuple[object, ...] | Set[object], depth: int
) -> list[Plain] | dict[str, Plain]:
    left = len(value) - ENTRIES_MAX
    if isinstance(value, Mapping):
        named = {
            str(plain(key, depth=0)): plain(each, depth=depth) for key, each in islice(value.items(), ENTRIES_MAX)
        }
        return {**named, "…": f"{left} more"} if left > 0 else named
    listed = [plain(each, depth=depth) for each in islice(value, ENTRIES_MAX)]
    return [*listed, f"… and {left} more"] if left > 0 else listed


def printable(text: str, *, most: int = TEXT_MAX) -> str:
    """The text as one line: what does not print is written as its escape, and the end is cut.

    Units: characters. Source: a terminal obeys control characters, systemd takes each line for an assignment, and
    journalctl hides a text with either of them as "blob data".
    """
    text = cut(text, most=most)
    if not text.isprintable():
        text = "".join(each if each.isprintable() else _escaped(each) for each in text)
    return cut(text, most=most)


def cut(text: str, *, most: int) -> str:
    """The text, with an ellipsis for what is above so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
