"""What is wrong with a configuration: values with a place, collected, never thrown one by one.

Theory of operation: every check adds to one `Problems` and goes on, so that a user sees all that is wrong
at once. Only the end of a load turns them into the one exception, `ConfigError`.

What keeps secrets out: messages are made from text *as written in the file* (`shown`), never from what a
`${NAME}` became, and addresses lose their user, password and query on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

PROBLEMS_MAX: Final = 500  # nobody reads further, and a generated file may hold a mistake a million times
TEXT_MAX: Final = 80  # characters of the file that a message repeats
CLOSE: Final = 0.6  # difflib's own default: one typo in a short word still counts as near

_PLAIN: Final = re.compile(r"[!-~][ -~]*(?<! )")
_PRIVATE: Final = re.compile(r"(?<=://).*@|^(?![a-z+]+://).*@|[?#].*", re.DOTALL)

Path = tuple[str | int, ...]
"""Where a value is: keys and list positions from the top of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """One mistake: where, what was found, what is allowed. `line` counts from 1; `None` is the whole file."""

    file: str
    line: int | None
    path: str
    found: str
    allowed: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        path = f"{self.path}: " if self.path else ""
        allowed = f"; {self.allowed}" if self.allowed else ""
        return f"{place}: {path}{self.found}{allowed}"


class ConfigError(Exception):
    """A configuration that cannot be used; carries every problem, in the order of the files."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems: tuple[ConfigProblem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """The mistakes found so far, and the paths that they touch. `file` is where those stand that name no other."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[ConfigProblem] = []
        self._touched: set[Path] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int | None, path: Path, found: str, allowed: str, *, file: str | None = None) -> None:
        place = self.file if file is None else file
        self._found.append(ConfigProblem(file=place, line=line, path=path_text(path), found=found, allowed=allowed))
        self._touched.update(path[:length] for length in range(1, len(path) + 1))

    def extend(self, others: Problems) -> None:
        self._found.extend(others._found)
        self._touched.update(others._touched)

    def touches(self, path: Path) -> bool:
        """Tell whether this place, or one inside it, was found wrong: rules about it would only mislead."""
        return path in self._touched

    def error(self, files: Sequence[str] = ()) -> ConfigError:
        """Make the exception: in the order of these files and of their lines, and short enough to read."""
        ranks = {name: rank for rank, name in enumerate(files)}

        def order(problem: ConfigProblem) -> tuple[int, int]:
            return ranks.get(problem.file, -1), -1 if problem.line is None else problem.line

        ordered = sorted(self._found, key=order)
        kept = ordered[:PROBLEMS_MAX]
        if len(ordered) > PROBLEMS_MAX:
            more = f"{len(ordered) - PROBLEMS_MAX} more problems are not shown"
            kept.append(ConfigProblem(file=self.file, line=None, path="", found=more, allowed="mend these first"))
        return ConfigError(kept)


def path_text(path: Path) -> str:
    """Write a path as `models.openai/gpt-4.1.endpoints[0].weight`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + shown(step)
    return text


def shown(text: str) -> str:
    """Repeat a piece of the file on one line: short, printable, without what an address keeps private."""
    if "://" in text or ("@" in text and ":" in text):
        text = _PRIVATE.sub(lambda match: "***@" if match[0].endswith("@") else f"{match[0][0]}***", text)
    if len(text) > TEXT_MAX:
        text = text[: TEXT_MAX - 1] + "…"
    if _PLAIN.fullmatch(text) is not None or (text.isprintable() and text == text.strip() and text):
        return text
    return json.dumps(text)


def near(word: str, allowed: Sequence[str]) -> str | None:
    """Name the allowed word that was probably meant; `None` when none is close."""
    close = get_close_matches(word, allowed, n=1, cutoff=CLOSE)
    return close[0] if close else None


def one_of(words: Iterable[str]) -> str:
    return ", ".join(words)
