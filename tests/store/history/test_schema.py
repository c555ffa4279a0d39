"""Whose file it is: ours, a later version's, or none of ours; and what is never destroyed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from balancer.core.outcome import COUNTS
from balancer.store.history import schema
from balancer.store.history.schema import Unusable

WALL = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def begin(path: Path) -> sqlite3.Connection:
    return schema.begin(path, sqlite3.connect)


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_file_says_whose_it_is_and_knows_every_outcome(path: Path) -> None:
    connection = begin(path)
    assert pragma(connection, "application_id") == schema.APPLICATION
    assert pragma(connection, "user_version") == schema.VERSION
    assert pragma(connection, "journal_mode") == "wal"
    assert pragma(connection, "auto_vacuum") == 2  # incremental
    assert dict(connection.execute("SELECT name, counts FROM kinds")) == dict(COUNTS)
    connection.close()


def test_what_was_kept_is_there_when_it_is_opened_again(path: Path) -> None:
    connection = begin(path)
    connection.execute("INSERT INTO endpoints (name) VALUES ('m@a')")
    connection.execute("UPDATE kinds SET counts = 'none' WHERE name = 'empty'")  # as an older version judged it
    connection.close()
    connection = begin(path)
    assert connection.execute("SELECT name FROM endpoints").fetchall() == [("m@a",)]
    assert dict(connection.execute("SELECT name, counts FROM kinds")) == dict(COUNTS)
    connection.close()


def test_people_can_read_it(path: Path) -> None:
    connection = begin(path)
    connection.execute("INSERT INTO endpoints VALUES (7, 'm@a')")
    connection.execute("INSERT INTO sources VALUES (3, 'report')")
    (kind,) = connection.execute("SELECT id FROM kinds WHERE name = 'success'").fetchone()
    for bucket in (0, 40, schema.NO_LATENCY):
        connection.execute("INSERT INTO minutes VALUES (30000000, 7, 3, ?, ?, 5, 100, NULL, 0.5)", (kind, bucket))
    assert connection.execute("SELECT * FROM told ORDER BY latency_up_to").fetchall() == [
        ("2027-01-15 08:00:00", "m@a", "report", "success", latency, 5, 100, None, 0.5)
        for latency in (None, 0.001, 1.024)
    ]
    connection.close()


def test_an_empty_file_is_ours_to_fill(path: Path) -> None:
    path.touch()
    begin(path).close()
    schema.look(path, sqlite3.connect).close()


def test_another_programs_database_is_not_touched(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(Unusable, match="another program's"):
        begin(path)
    with pytest.raises(Unusable, match="another program's"):
        schema.look(path, sqlite3.connect)
    assert path.read_bytes() == before


def test_a_database_of_ours_that_lacks_a_table_cannot_be_used(path: Path) -> None:
    connection = begin(path)
    connection.execute("DROP TABLE hours")
    connection.close()
    with pytest.raises(Unusable, match="it has no hours"):
        begin(path)


def test_garbage_is_no_database(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        begin(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("side", schema.SIDES)
def test_what_is_no_regular_file_is_never_opened(path: Path, make: Callable[[Path], None], side: str) -> None:
    make(path.with_name(path.name + side))
    for opened in (begin, lambda path: schema.look(path, sqlite3.connect)):
        with pytest.raises(Unusable, match=f"history.db{side} is no regular file"):
            opened(path)
    assert schema.chosen(path.parent, sqlite3.connect) == (path, None)
    assert not path.is_file()


def test_a_log_that_has_lost_its_database_is_not_played_into_a_new_one(path: Path) -> None:
    path.with_name("history.db-wal").write_bytes(b"x")
    with pytest.raises(Unusable, match=r"history\.db-wal is there without its database"):
        begin(path)
    assert not path.exists()


@pytest.mark.parametrize("version", [schema.VERSION + 1, 1_000_000])
def test_a_file_of_a_later_version_is_left_alone_and_another_is_kept_beside_it(path: Path, version: int) -> None:
    assert schema.chosen(path.parent, sqlite3.connect) == (path, None)
    connection = begin(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    beside = path.with_name(f"history.v{schema.VERSION}.db")
    assert schema.chosen(path.parent, sqlite3.connect) == (beside, version)
    with pytest.raises(Unusable, match="another version"):
        schema.look(path, sqlite3.connect)


def test_what_is_no_database_is_chosen_all_the_same_and_meets_its_judge_later(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    assert schema.chosen(path.parent, sqlite3.connect) == (path, None)


def test_what_is_set_aside_keeps_its_log_and_never_takes_anothers_name(path: Path) -> None:
    for content in (b"a", b"b"):
        for side in ("", "-wal"):
            path.with_name(path.name + side).write_bytes(content)
        schema.set_aside(path, WALL)
    stamp = "history.db.bad-20270115T080000Z"
    found = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert found == {stamp: b"a", f"{stamp}-wal": b"a", f"{stamp}.2": b"b", f"{stamp}.2-wal": b"b"}


@pytest.mark.parametrize("wall", [3e11, 1e18, -1e18])  # of the years 11477 and beyond
def test_a_clock_that_no_calendar_knows_keeps_nothing_from_being_set_aside(path: Path, wall: float) -> None:
    path.write_bytes(b"a")
    assert schema.set_aside(path, wall) == f"history.db.bad-{wall:.0f}"
    assert [each.name for each in path.parent.iterdir()] == [f"history.db.bad-{wall:.0f}"]


def test_a_disk_that_breaks_every_file_is_not_filled_with_them(path: Path) -> None:
    for _ in range(schema.BAD_MAX):
        path.write_bytes(b"x")
        path.with_name("history.db-wal").write_bytes(b"x")
        schema.set_aside(path, WALL)
    path.write_bytes(b"last")
    with pytest.raises(Unusable, match="10 files were set aside already"):
        schema.set_aside(path, WALL)
    assert path.read_bytes() == b"last"


def test_a_file_that_takes_anothers_place_has_another_identity(path: Path) -> None:
    connection = begin(path)
    before = schema.identity(path)
    assert before == schema.identity(path)
    assert None not in before
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    assert schema.identity(path) != before
    path.unlink()
    assert schema.identity(path)[0] is None
    connection.close()
