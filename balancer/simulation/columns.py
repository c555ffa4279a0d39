"""Rows of a CSV file, plain or gzipped, and everything that is wrong with them.

Theory of operation: `Table.rows` gives the wanted columns of one row after the other, whatever their order in the
file. A `Column` reads each different text once: in a history most fields repeat one another. What cannot be read is
collected with its line and column; the reader goes on, and `Table.end` raises for all of it.

What this module does not know: what a column means.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from math import isfinite
from operator import itemgetter
from pathlib import Path as FilePath
from typing import Any, Final, Generic, TextIO, TypeVar

from balancer.config.problems import ConfigProblem, near, one_of, shown

FAULTS_MAX: Final = 20  # a file with more of them is another kind of file, and nobody reads further

_GZIP: Final = b"\x1f\x8b"  # how every gzip file begins, whatever its name. Source: RFC 1952
_READABLE: Final = "use a CSV file in UTF-8, plain or gzipped"

T = TypeVar("T")


class Fault(ValueError):
    """A field that its column does not allow; the text says what was found."""


class Column(dict[str, T], Generic[T]):
    """What the texts of one column mean, each read once.

    `meaning` raises ValueError with what is wrong, to be read after the text. Raises: Fault, from `column[text]`.
    """

    def __init__(self, name: str, allowed: str, meaning: Callable[[str], T]) -> None:
        super().__init__()
        self.name = name
        self.allowed = allowed
        self._meaning = meaning

    def __missing__(self, text: str) -> T:
        try:
            value = self._meaning(text)
        except ValueError as error:
            raise Fault(f"{shown(text)} {error}" if text else str(error)) from None
        self[text] = value
        return value


class Table:
    """One CSV file with a header."""

    def __init__(self, path: str | FilePath) -> None:
        self._path = FilePath(path)
        self._faults: list[ConfigProblem] = []

    def header(self) -> tuple[str, ...]:
        """The names of the columns. Raises: ValueError."""
        with self._opened() as file:
            return tuple(next(csv.reader(file), ()))

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
        """Give each row's line and its wanted fields; a row of another width is told.

        Raises: ValueError, for a file that cannot be read or lacks a column.
        """
        with self._opened() as file:
            reader = csv.reader(file)
            header = next(reader, [])
            places = [header.index(name) for name in wanted if name in header]
            if len(places) < len(wanted):
                self._tell_absent(wanted, header)
                self.end()
            # With one place a getter would give its field bare, so that one is asked for a slice.
            pick = itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))
            width = len(header)
            for row in reader:
                if len(row) == width:
                    yield reader.line_num, pick(row)
                elif row:
                    found = f"a row of {len(row)} where the header has {width}"
                    self.tell(reader.line_num, "", found, "use as many fields as the header has")

    def tell(self, line: int | None, column: str, found: str, allowed: str) -> None:
        """Remember a fault, and raise for all of them once they are many. Raises: ValueError."""
        self._faults.append(
            ConfigProblem(file=str(self._path), line=line, path=column, found=found, allowed=allowed)
        )
        if len(self._faults) >= FAULTS_MAX:
            self.end()

    def tell_faults(self, line: int, columns: Iterable[Column[Any]], fields: Iterable[str]) -> None:
        """Remember every fault of one row. Raises: ValueError, once they are many."""
        for column, text in zip(columns, fields, strict=True):
            try:
                column[text]
            except Fault as fault:
                self.tell(line, column.name, str(fault), column.allowed)

    def end(self) -> None:
        """Raise for what was told. Raises: ValueError, a line for each fault."""
        if self._faults:
            raise ValueError("\n".join(map(str, self._faults)))

    def _tell_absent(self, wanted: Sequence[str], header: Sequence[str]) -> None:
        if not header:
            self.tell(1, "", "no header", f"use a file that begins with {','.join(wanted)}")
            return
        for name in wanted:
            if name not in header:
                meant = near(name, header)
                found = f"no such column; there is {one_of(map(shown, header))}"
                self.tell(1, name, found, "give it" if meant is None else f"is {shown(meant)} meant?")

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        try:
            with self._path.open("rb") as file:
                packed = file.peek(len(_GZIP)).startswith(_GZIP)
                with TextIOWrapper(
                    gzip.GzipFile(fileobj=file) if packed else file, encoding="utf-8-sig", newline=""
                ) as text:
                    yield text
        except OSError as error:
            # Only those of the system have a number; gzip's own say what is wrong with the file.
            reason = str(error) if error.strerror is None else error.strerror
            self.tell(None, "", reason, _READABLE)
        except UnicodeDecodeError:
            self.tell(None, "", "not UTF-8", _READABLE)
        except (EOFError, zlib.error, csv.Error) as error:
            self.tell(None, "", f"broken: {error}", _READABLE)
        self.end()


def number(text: str, low: float, high: float) -> float:
    """Read a number between two bounds. Raises: ValueError with what is wrong."""
    if text == "":
        raise ValueError("is empty")
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not isfinite(value) or not low <= value <= high:
        raise ValueError("is out of range")
    return value
