"""What is too old or too much goes a little at a time, and the file stays below its size."""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from balancer.config import RetentionSettings, StoreSettings
from balancer.core.outcome import Outcome
from balancer.store.history import schema
from balancer.store.history.gathering import Gathering
from balancer.store.history.pruning import BUDGET, ROWS_AT_ONCE, Pruning
from balancer.store.history.writing import Writing

DAY = 1_795_000_020 // 86_400 * 86_400
KEEP = StoreSettings(retention=RetentionSettings(minutes=3600.0, hours=6 * 3600.0))
ROOM = 10**9

_POUR = """
WITH RECURSIVE m (x) AS (SELECT :first UNION ALL SELECT x + {each} FROM m WHERE x + {each} < :last),
  e (y) AS (SELECT 2 UNION ALL SELECT y + 1 FROM e WHERE y < :endpoints)
INSERT INTO {tier} SELECT x, y, 1, 1, 40, 2, 2000, NULL, NULL FROM m, e WHERE true
"""


class Book:
    """A database with the parts that write and remove."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = schema.begin(path, sqlite3.connect)
        self.writing = Writing(self.connection)
        self.pruning = Pruning(self.connection, path, clock=time.monotonic)

    def fill(self, first: int, last: int, *, endpoints: int = 1) -> None:
        gathering = Gathering(rows_max=10**6)
        for minute in range(first, last):
            for number in range(endpoints):
                outcome = Outcome(kind="success", latency=1.0, prompt_tokens=1000)
                gathering.outcome(f"acme/m@{number}", outcome, source="probe", wall=DAY + minute * 60.0)
        batch = gathering.take()
        assert batch is not None
        for _ in self.writing.write(batch):
            pass

    def pour(self, first: int, last: int, *, endpoints: int) -> None:
        """Fill it as above, without the writing."""
        self.fill(first, first + 1, endpoints=1)
        places = {"first": DAY // 60 + first, "last": DAY // 60 + last, "endpoints": endpoints}
        self.connection.execute("BEGIN")
        self.connection.execute(_POUR.format(tier="minutes", each=1), places)
        self.connection.execute(_POUR.format(tier="hours", each=60), places)
        self.connection.execute("COMMIT")

    def prune(self, minute: int | None, *, size_max: int = ROOM, settings: StoreSettings = KEEP) -> None:
        self.pruning.prune(settings, size_max=size_max, wall=None if minute is None else DAY + minute * 60.0)

    def starts(self, tier: str) -> list[int]:
        rows = self.connection.execute(f"SELECT DISTINCT start FROM {tier} ORDER BY start")
        return [start - DAY // 60 for (start,) in rows]

    def meta(self) -> dict[str, int]:
        return {key: value - DAY // 60 for key, value in self.connection.execute("SELECT * FROM meta")}

    def log(self) -> int:
        return self.path.with_name("history.db-wal").stat().st_size

    def size(self) -> int:
        return self.path.stat().st_size + self.log()

    def whole(self) -> bool:
        return bool(self.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


@pytest.fixture
def book(tmp_path: Path) -> Any:
    made = Book(tmp_path / "history.db")
    yield made
    made.connection.close()


def test_minutes_go_before_hours_and_what_is_left_is_told(book: Book) -> None:
    book.fill(0, 600)
    book.prune(600)
    assert book.starts("minutes") == list(range(540, 600))
    assert book.starts("hours") == [240, 300, 360, 420, 480, 540]
    assert book.starts("uptimes") == []  # a probe a minute is too few to judge by
    assert book.meta() == {"minutes_from": 540, "hours_from": 240}


def test_nothing_goes_for_its_age_without_a_clock_that_is_trusted(book: Book) -> None:
    book.fill(0, 120)
    book.prune(None)
    assert len(book.starts("minutes")) == 120
    assert book.meta() == {}


def test_transitions_go_with_their_hours_and_without_any(book: Book) -> None:
    for minute in (0, 59, 60, 400):
        book.connection.execute(
            "INSERT INTO transitions (at, event, reason, enforced) VALUES (?, 'x', '', 1)", (DAY + minute * 60.0,)
        )
    book.prune(6 * 60 + 60)
    (left,) = book.connection.execute("SELECT count(*) FROM transitions").fetchone()
    assert left == 2


def test_much_that_is_too_old_goes_in_turns_of_which_none_is_long(book: Book) -> None:
    book.pour(0, 200, endpoints=300)
    looks = itertools.count()
    slow = Pruning(book.connection, book.path, clock=lambda: next(looks) * BUDGET * 0.4)  # two steps a turn
    turns = 0
    while book.starts("minutes")[0] < 140:
        before = book.starts("minutes")[0]
        slow.prune(KEEP, size_max=ROOM, wall=DAY + 200 * 60.0)
        turns += 1
        assert book.starts("minutes")[0] - before <= 2 * (ROWS_AT_ONCE // 300 + 1)
    assert turns >= 4
    assert book.whole()


def test_files_shrink_when_much_has_gone(book: Book) -> None:
    book.pour(0, 120, endpoints=1000)
    book.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = book.path.stat().st_size
    for _ in range(60):
        book.prune(100_000)
    book.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert book.starts("minutes") == book.starts("hours") == []
    assert book.path.stat().st_size < before / 2
    assert book.whole()


@pytest.mark.parametrize("size_max", [1_000_000, 2_000_000])
def test_the_database_and_its_log_stay_below_the_size_whatever_comes(book: Book, size_max: int) -> None:
    largest = 0
    for minute in range(240):
        book.fill(minute, minute + 1, endpoints=200)
        book.prune(None, size_max=size_max)
        largest = max(largest, book.size())
    print(f"at most {largest} of {size_max} bytes")
    assert largest <= size_max
    assert book.starts("minutes")[-1] == 239  # the newest is kept
    assert (book.starts("minutes")[0] > 0) == (size_max == 1_000_000)
    assert book.whole()


def test_a_reader_that_holds_the_log_open_lets_it_grow_only_for_as_long(book: Book) -> None:
    size_max = 1_500_000
    book.fill(0, 1, endpoints=200)
    reader = sqlite3.connect(book.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM minutes").fetchone()
    for minute in range(1, 60):
        book.fill(minute, minute + 1, endpoints=200)
    book.prune(None, size_max=size_max)
    grown = book.log()
    reader.execute("COMMIT")
    reader.close()
    book.fill(60, 61, endpoints=200)
    book.prune(None, size_max=size_max)
    assert book.log() < size_max / 4 < grown
    assert book.size() <= size_max
    assert book.whole()


def test_when_no_minutes_are_left_to_give_the_oldest_hours_go(book: Book) -> None:
    book.pour(0, 3000, endpoints=40)
    for _ in range(100):
        book.prune(None, size_max=200_000)
    assert book.starts("minutes")[0] >= 2999 - 60
    assert book.starts("hours")[0] > 0
    assert book.starts("hours")[-1] == 2940
