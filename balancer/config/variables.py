"""`${NAME}`, `${NAME:-default}` and `$$` in the text of a configuration.

A default stands in where the variable is not set or empty, as in a shell. A `$` before anything else is a
dollar: regular expressions end in one. What a variable holds is never part of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

# Characters of a variable's text from which on it is taken for a secret: what is shorter is a region or a flag.
PRIVATE_MIN: Final = 8

_REFERENCE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|(?P<broken>\{))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """Text with its variables put in, what those held, and what was wrong: pairs of found and allowed."""

    text: str
    held: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()


def private(held: Iterable[str], address: str, *, path: bool = True) -> tuple[str, ...]:
    """Pick what variables put behind the host of an address: a server may repeat that, with or without the rest.

    Shape: of a variable that holds the host too, what it has behind that, whole and in pieces. Without `path` only
    the query is looked at.
    """
    parts = urlsplit(address)
    behind = f"{parts.path}?{parts.query}" if path else parts.query
    pieces = [behind, parts.query, *re.split(r"[&=]", parts.query)]
    pieces += [parts.path, *parts.path.split("/")] if path else []
    found: dict[str, None] = {}
    for value in held:
        inside = [value] if value in behind else [piece for piece in pieces if piece and piece in value]
        found |= dict.fromkeys(each for each in inside if len(each) >= PRIVATE_MIN)
    return tuple(found)


def expand(text: str, environ: Mapping[str, str]) -> Expanded:
    """Put the variables into a text."""
    if "$" not in text:
        return Expanded(text=text)
    faults: list[tuple[str, str]] = []
    values: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match["dollar"] is not None:
            return "$"
        name = match["name"]
        if name is None:
            faults.append(("${ begins no variable", "use ${NAME}, ${NAME:-default}, or $$ for a dollar"))
            return ""
        held = environ.get(name)
        if match["default"] is not None and (held is None or held == ""):
            return match["default"]
        if held is None:
            faults.append((f"${{{name}}} is not set", f"set it, or give a default: ${{{name}:-…}}"))
            return ""
        values.append(held)
        return held

    whole = _REFERENCE.sub(value, text)
    return Expanded(text=whole, held=tuple(values), faults=tuple(faults))
