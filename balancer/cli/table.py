"""Tables that line up, and numbers as people read them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final
from unicodedata import combining, east_asian_width

COLOURS: Final = {
    "healthy": "32",
    "unverified": "2",
    "degraded": "33",
    "recovering": "36",
    "half_open": "36",
    "throttled": "33",
    "ejected": "31",
    "misconfigured": "35",
    "drained": "2",
}
COLOURED: Final = re.compile(r"(\x1b\[[0-9;]*m)")
NONE: Final = "—"


def render(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Lay out rows under a header. Shape: columns whose number is in `right` are set to the right."""
    lines = [list(header), *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    out = []
    for line in lines:
        cells = []
        for column, cell in enumerate(line):
            space = " " * (widths[column] - _width(cell))
            cells.append(space + cell if column in right else cell + space)
        out.append("   ".join(cells).rstrip())
    return "\n".join(out)


def state(word: str) -> str:
    """A state, in colour on a terminal."""
    if not sys.stdout.isatty():
        return word
    return f"\x1b[{COLOURS.get(word, '0')}m{word}\x1b[0m"


def seconds(value: float | None) -> str:
    """A span: 0.082 s, 4.1 s, 41 s, 3 min."""
    if value is None:
        return NONE
    if value < 1:
        return f"{value:.3f} s"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def percent(ratio: float | None) -> str:
    """A share as 4.0 %."""
    return NONE if ratio is None else f"{ratio * 100:.1f} %"


def printable(cell: str) -> str:
    """Text from elsewhere must not move the cursor; our own colours may stay."""
    if cell.isprintable():
        return cell
    parts = COLOURED.split(cell)
    return "".join(
        part if place % 2 else "".join(character if character.isprintable() else "·" for character in part)
        for place, part in enumerate(parts)
    )


def _width(cell: str) -> int:
    width, skipping = 0, False
    for character in cell:
        if character == "\x1b":
            skipping = True
        elif skipping:
            skipping = character != "m"
        elif not combining(character):
            width += 2 if east_asian_width(character) in "WF" else 1
    return width
