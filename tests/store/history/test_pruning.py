"""What is too old or too much goes a little at a time, and the file stays below its size."""

from __future__ import annotations

import itertools
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from balancer.config import RetentionSettings, StoreSettings
from balancer.core.history import HistoryQuery
from balancer.core.outcome import Outcome
from balancer.store.history import schema
from balancer.store.history.gathering import Gathering
from balancer.store.history.pruning import BUDGET, ROWS_AT_ONCE, LogHeld, Pruning, Trusted
from balancer.store.history.reading import read
from balancer.store.history.writing import Writing

DAY = 1_795_000_020 // 86_400 * 86_400
KEEP = StoreSettings(retention=RetentionSettings(minutes=3600.0, hours=6 * 3600.0))
ROOM = 10**9

_FROM = "SELECT * FROM meta WHERE key LIKE '%_from'"
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

    def prune(
        self, minute: int | None, *, size_max: int = ROOM, settings: StoreSettings = KEEP, steady: float = 86_400.0
    ) -> None:
        limited = replace(settings, max_size=size_max)
        trusted = None if minute is None else Trusted(DAY + minute * 60.0, steady)
        if self.pruning.prune(limited, trusted=trusted):
            self.writing.forget_names()

    def starts(self, tier: str) -> list[int]:
        rows = self.connection.execute(f"SELECT DISTINCT start FROM {tier} ORDER BY start")
        return [start - DAY // 60 for (start,) in rows]

    def meta(self) -> dict[str, int]:
        return {key: value - DAY // 60 for key, value in self.connection.execute(_FROM)}

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


def test_of_who_is_out_the_last_transition_outlives_its_age(book: Book) -> None:
    out, well = "'endpoint.ejected', 'ejected'", "'endpoint.readmitted', 'recovering'"
    rows = [
        (0, "NULL", "'daemon.started', NULL", 1),
        (1, "1", out, 1),  # over by the next start
        (2, "NULL", "'daemon.started', NULL", 1),
        (2, "2", out, 1),
        (3, "2", "'endpoint.misconfigured', 'misconfigured'", 1),  # it still is
        (4, "3", out, 1),
        (5, "3", well, 1),
        (6, "4", out, 0),  # only watched
        (7, "5", out, 1),
        (8, "5", "'endpoint.removed', NULL", 1),
        (9, "NULL", "'model.panic_entered', NULL", 1),
    ]
    for number in range(1, 6):
        book.connection.execute("INSERT INTO endpoints VALUES (?, ?)", (number, f"acme/m@{number}"))
    for minute, endpoint, event, enforced in rows:
        book.connection.execute(
            f"INSERT INTO transitions (at, endpoint, event, state, reason, enforced)"
            f" VALUES (?, {endpoint}, {event}, '', {enforced})",
            (DAY + minute * 60.0,),
        )

    def left() -> list[tuple[int, int | None]]:
        told = book.connection.execute("SELECT at, endpoint FROM transitions ORDER BY id")
        return [(int(at - DAY) // 60, endpoint) for at, endpoint in told]

    def longest() -> float:
        since = DAY + 99_000 * 60
        past = read(book.connection, HistoryQuery(since=since, until=since + 3600, step=None, endpoint="acme/m@2"))
        book.connection.execute("COMMIT")
        return past.series[0].outage_longest

    assert longest() == 3600.0
    book.prune(100_000)
    assert left() == [(2, None), (3, 2)]
    assert longest() == 3600.0
    assert book.connection.execute("SELECT name FROM endpoints").fetchall() == [("acme/m@2",)]
    book.connection.execute(
        "INSERT INTO transitions (at, endpoint, event, state, reason, enforced) VALUES (?, 2, ?, 'healthy', '', 1)",
        (DAY + 6_000_000.0, "endpoint.readmitted"),
    )
    book.prune(100_000)
    assert left() == [(2, None), (100_000, 2)]


def test_much_that_is_too_old_goes_in_turns_of_which_none_is_long(book: Book) -> None:
    book.pour(0, 200, endpoints=300)
    looks = itertools.count()
    slow = Pruning(book.connection, book.path, clock=lambda: next(looks) * BUDGET * 0.4)  # two steps a turn
    turns = 0
    while book.starts("minutes")[0] < 140:
        before = book.starts("minutes")[0]
        slow.prune(KEEP, trusted=Trusted(DAY + 200 * 60.0, 86_400.0))
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


def test_when_no_hours_are_left_either_the_last_hour_goes_but_for_its_last_minute(book: Book) -> None:
    size_max = 2_000_000
    book.pour(0, 60, endpoints=1000)
    for _ in range(100):
        book.prune(None, size_max=size_max)
    assert book.size() <= size_max
    assert book.starts("minutes")[0] > 0
    assert book.starts("minutes")[-1] == 59
    assert book.starts("hours") == [0]
    assert book.meta()["minutes_from"] == book.starts("minutes")[0]
    book.connection.execute(
        """
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 60000)
        INSERT INTO transitions (at, event, reason, enforced) SELECT ? + x / 100.0, 'x', '', 1 FROM n
        """,
        (DAY,),
    )
    for _ in range(100):
        book.prune(None, size_max=size_max)
    assert book.size() <= size_max
    left, last = book.connection.execute("SELECT count(*), max(at) FROM transitions").fetchone()
    assert (left > 0, last) == (True, DAY + 600.0)
    assert book.whole()


def test_while_a_reader_holds_a_long_log_nothing_more_may_be_written(book: Book) -> None:
    limited = replace(KEEP, max_size=1_500_000)
    book.fill(0, 1, endpoints=200)
    reader = sqlite3.connect(book.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM minutes").fetchone()

    def fill() -> None:
        for minute in range(1, 60):
            book.pruning.judge_log(limited)
            book.fill(minute, minute + 1, endpoints=200)

    with pytest.raises(LogHeld, match=r"somebody reads history\.db and holds history\.db-wal, which has \d+ bytes"):
        fill()
    written = book.starts("minutes")
    held = book.log()
    for _ in range(5):  # to remove is to write
        book.prune(None, size_max=50_000)
    assert (book.log(), book.starts("minutes")) == (held, written)
    assert book.size() <= 1_500_000
    reader.execute("COMMIT")
    reader.close()
    book.pruning.judge_log(limited)
    assert book.log() == 0


def test_names_go_with_the_last_that_is_known_of_them(book: Book) -> None:
    def names() -> list[str]:
        return [name for (name,) in book.connection.execute("SELECT name FROM endpoints ORDER BY id")]

    book.fill(0, 60, endpoints=3)
    book.fill(200, 201, endpoints=2)
    book.fill(400, 401, endpoints=1)
    book.connection.execute(
        "INSERT INTO transitions (at, event, endpoint, reason, enforced)"
        " SELECT ?, 'endpoint.removed', id, '', 1 FROM endpoints WHERE name = 'acme/m@2'",
        (DAY + 300 * 60.0,),
    )
    book.prune(400)
    assert names() == ["acme/m@0", "acme/m@1", "acme/m@2"]
    book.prune(600)
    assert names() == ["acme/m@0", "acme/m@2"]  # of the one a transition is left
    book.prune(720)
    assert names() == ["acme/m@0"]
    book.fill(720, 721, endpoints=3)  # whoever comes again has a name again
    assert names() == ["acme/m@0", "acme/m@1", "acme/m@2"]
    (rows,) = book.connection.execute("SELECT count(*) FROM minutes JOIN endpoints ON id = endpoint").fetchone()
    assert rows == 3
    book.prune(100_000)
    assert names() == []


def test_names_of_a_file_that_does_not_know_when_they_were_seen_stay_with_their_past(book: Book) -> None:
    book.fill(0, 60, endpoints=3)
    book.connection.execute("DROP TABLE seen")
    again = schema.begin(book.path, sqlite3.connect)
    pruning = Pruning(again, book.path, clock=time.monotonic)
    for minute, left in ((300, 3), (100_000, 0)):
        pruning.prune(KEEP, trusted=Trusted(DAY + minute * 60.0, 86_400.0))
        assert again.execute("SELECT count(*) FROM endpoints").fetchone() == (left,)
    again.close()


def test_a_clock_that_stands_far_ahead_has_to_go_right_for_a_day(book: Book) -> None:
    book.fill(0, 60)
    years = 2 * 365 * 1440
    wrong = Pruning(book.connection, book.path, clock=time.monotonic)  # a start with a wrong clock

    def prune(pruning: Pruning, minute: int, steady: float) -> list[int]:
        pruning.prune(KEEP, trusted=Trusted(DAY + minute * 60.0, steady))
        return book.starts("hours")

    book.fill(years, years + 1)  # what it counts meanwhile
    assert prune(wrong, years + 11, 660.0) == [0, years]
    again = Pruning(
        book.connection, book.path, clock=time.monotonic
    )  # it was set right, and the next start is wrong
    assert prune(again, 60, 660.0) == [0, years]
    once_more = Pruning(book.connection, book.path, clock=time.monotonic)
    assert prune(once_more, years + 11, 660.0) == [0, years]
    assert prune(once_more, years + 1440, 86_400.0) == []


def test_a_night_without_power_makes_no_clock_doubtful(book: Book) -> None:
    book.fill(0, 60)
    again = Pruning(book.connection, book.path, clock=time.monotonic)
    again.prune(KEEP, trusted=Trusted(DAY + 23 * 3600.0, 660.0))
    assert book.starts("hours") == []


def live(book: Book, *, day: int, hours: int) -> list[int]:
    """Prune each hour of a process that lives for some hours of a day; the days of which minutes are left."""
    pruning = Pruning(book.connection, book.path, clock=time.monotonic)
    for hour in range(1, hours + 1):
        pruning.prune(KEEP, trusted=Trusted(DAY + day * 86_400.0 + hour * 3600.0, hour * 3600.0))
    return sorted({minute // 1440 for minute in book.starts("minutes")})


def test_whoever_restarts_every_day_has_gone_right_for_a_day_in_sum(book: Book) -> None:
    book.fill(0, 60)
    assert live(book, day=0, hours=1) == [0]
    assert live(book, day=9, hours=23) == [0]  # it was off for more than a week
    book.fill(10 * 1440, 10 * 1440 + 60)
    assert live(book, day=10, hours=1) == [10]
    assert live(book, day=11, hours=1) == []  # believed again: nothing is left to be doubted
    assert book.connection.execute("SELECT key FROM meta WHERE key LIKE 'doubt%'").fetchall() == []


def test_a_clock_that_is_wrong_in_another_way_at_each_start_is_never_believed(book: Book) -> None:
    book.fill(0, 60)
    for day in (
        400,
        900,
        500,
        900,
        900,
    ):  # the last two begin in the same place: it stands while the machine is off
        assert live(book, day=day, hours=20) == [0]


def test_a_clock_that_was_set_right_in_between_begins_to_be_doubted_anew(book: Book) -> None:
    book.fill(0, 60)
    assert live(book, day=400, hours=20) == [0]
    assert live(book, day=0, hours=1) == [0]
    assert live(book, day=401, hours=20) == [0]


def test_a_file_that_is_opened_again_and_again_makes_no_day_longer(book: Book) -> None:
    book.fill(0, 60)
    for minute in range(120, 23 * 60, 10):
        pruning = Pruning(book.connection, book.path, clock=time.monotonic)
        pruning.prune(KEEP, trusted=Trusted(DAY + 400 * 86_400.0 + minute * 60.0, minute * 60.0))
    assert book.starts("hours") == [0]
