"""The database: its tables, how it is opened, and whose it is.

Theory of operation: a row of `minutes` is a count of outcomes of one minute, endpoint, source, kind and latency
bucket; `hours` has the same rows by hour and is written in the same transaction, so that it always is their sum.
Rows lie in the order of time: a batch touches the pages at the end, and what is removed is whole pages at the
beginning. One endpoint's past is found by a search for each minute. Names are numbers in the rows, and text in a
table beside them. The view `told` is for people with a `sqlite3` shell.

In WAL mode with `synchronous=NORMAL` a killed process loses nothing that was committed, and a machine that loses
its power perhaps the last commits; neither harms the file. A file system without shared memory, as many network
ones, refuses WAL: there every commit is synchronised instead.

A file of a later version is left alone, and another one is kept beside it (`history.v1.db`): whoever goes back
finds its past again. What is no database, or somebody else's, is renamed. What is no regular file is never opened:
a pipe would have us wait for whoever writes into it.

What this module does not know: when anything is written.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from balancer.core.outcome import COUNTS

APPLICATION: Final = 0x62616C68  # "balh", in the header of the file: whose database it is
VERSION: Final = 1
NAME: Final = "history.db"
BAD_MAX: Final = 10  # files that were set aside; beyond it the disk itself is bad, and renaming would fill it
SIDES: Final = ("", "-wal", "-shm")  # a database in WAL mode is three files

BUSY: Final = 0.25  # s for which SQLite itself waits for a lock; the thread must stay responsive
CHECKPOINT: Final = 1000  # pages of the log after which they are copied into the database; SQLite's default
NO_LATENCY: Final = -1  # in the column `bucket`, which is part of a key and so is never null

Connect = Callable[..., sqlite3.Connection]
Identity = tuple[tuple[int, int] | None, ...]

_TIER: Final = """
CREATE TABLE {tier} (
  start INTEGER NOT NULL,     -- minutes since 1970-01-01 UTC, of its beginning
  endpoint INTEGER NOT NULL REFERENCES endpoints,
  source INTEGER NOT NULL REFERENCES sources,
  kind INTEGER NOT NULL REFERENCES kinds,
  bucket INTEGER NOT NULL,    -- latency up to 1 ms times 2^(bucket / 4), -1 where nobody told
  count INTEGER NOT NULL,
  prompt_tokens INTEGER,      -- sums of what is known
  completion_tokens INTEGER,
  cost REAL,                  -- USD by the list prices
  PRIMARY KEY (start, endpoint, source, kind, bucket)
) WITHOUT ROWID;
"""
_SCHEMA: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE endpoints (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE kinds (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, counts TEXT NOT NULL);
{_TIER.format(tier="minutes")}
{_TIER.format(tier="hours")}
-- Of each hour: minutes with enough outcomes to be judged, and those of them that were good.
CREATE TABLE uptimes (
  start INTEGER NOT NULL,
  endpoint INTEGER NOT NULL REFERENCES endpoints,
  source INTEGER NOT NULL REFERENCES sources,
  counted INTEGER NOT NULL,
  good INTEGER NOT NULL,
  PRIMARY KEY (start, endpoint, source)
) WITHOUT ROWID;
CREATE TABLE transitions (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,           -- Unix seconds
  event TEXT NOT NULL,
  endpoint INTEGER REFERENCES endpoints,
  model TEXT,
  provider TEXT,
  reporter TEXT,
  state TEXT,
  reason TEXT NOT NULL,
  next_at REAL,
  enforced INTEGER NOT NULL
);
CREATE INDEX transitions_by_time ON transitions (at);
CREATE INDEX transitions_of_endpoint ON transitions (endpoint);  -- in the order of their ids
CREATE VIEW told AS
  SELECT datetime(start * 60, 'unixepoch') AS minute, endpoints.name AS endpoint, sources.name AS source,
    kinds.name AS outcome, 0.001 * pow(2, nullif(bucket, -1) / 4.0) AS latency_up_to, count, prompt_tokens,
    completion_tokens, cost
  FROM minutes JOIN endpoints ON endpoints.id = endpoint JOIN sources ON sources.id = source
    JOIN kinds ON kinds.id = kind;
"""


# What came after the first files of this version, to which it is added. `seen` has of each endpoint the last hour
# that it has counts of, so that names can go with their past.
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS seen (endpoint INTEGER PRIMARY KEY, hour INTEGER NOT NULL);
INSERT OR IGNORE INTO seen
  SELECT id, hour FROM endpoints, (SELECT max(start) AS hour FROM hours) WHERE hour IS NOT NULL;
DROP INDEX IF EXISTS transitions_by_endpoint;
CREATE INDEX IF NOT EXISTS transitions_of_endpoint ON transitions (endpoint);
"""

_TABLES: Final = frozenset({"meta", "endpoints", "sources", "kinds", "minutes", "hours", "uptimes", "transitions"})


class Unusable(Exception):
    """A file that is no database of ours, or a broken one. It is to be set aside."""


def begin(path: Path, connect: Connect) -> sqlite3.Connection:
    """Open the database for writing, and make it where there is none.

    Raises: Unusable when it is not ours; sqlite3.Error and OSError for any other trouble.
    """
    _refuse_what_is_no_file(path)
    new = not path.exists() or path.stat().st_size == 0
    if new:
        for side in SIDES[1:]:  # a log that has lost its database would be played into the new one
            if path.with_name(path.name + side).exists():
                raise Unusable(f"{path.name}{side} is there without its database")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))  # its sides get the same mode
    connection = connect(path, timeout=BUSY, isolation_level=None)
    try:
        if not new:
            _judge(connection)
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_what_is_no_file(path: Path) -> None:
    for side in SIDES:
        name = path.name + side
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.with_name(name).stat().st_mode):
                raise Unusable(f"{name} is no regular file")


def _judge(connection: sqlite3.Connection) -> None:
    application, version = _number(connection, "application_id"), _number(connection, "user_version")
    if version == 0 and application in (0, APPLICATION):
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            return  # it was just being made when the process ended
        raise Unusable("it is another program's database")
    if application != APPLICATION:
        raise Unusable("it is another program's database")
    missing = _TABLES.difference(name for (name,) in connection.execute("SELECT name FROM sqlite_schema"))
    if missing:
        raise Unusable(f"it has no {', '.join(sorted(missing))}")


def _prepare(connection: sqlite3.Connection) -> None:
    if _number(connection, "user_version") == 0:
        # Both are fixed once there is a table. An application id is written before anything else, so that a
        # process that ends in between leaves what can be told as ours.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    if _number(connection, "user_version") == 0:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    # Later versions add their steps here, each from one version to the next in a transaction of its own.
    for statement in _statements(_ADDED):
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO kinds (name, counts) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET counts = excluded.counts"
        " WHERE counts <> excluded.counts",
        COUNTS.items(),
    )


def look(path: Path, connect: Connect) -> sqlite3.Connection:
    """Open the database for reading. Raises: sqlite3.Error and OSError; Unusable when it is not ours."""
    _refuse_what_is_no_file(path)
    connection = connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = ON")
        if _number(connection, "application_id") != APPLICATION:
            raise Unusable("it is another program's database")
        if _number(connection, "user_version") != VERSION:
            raise Unusable("it is of another version")
    except BaseException:
        connection.close()
        raise
    return connection


def chosen(directory: Path, connect: Connect) -> tuple[Path, int | None]:
    """Choose the file: `history.db`, or the one beside it where that is of a later version, which is told too.

    Raises: sqlite3.Error and OSError when it cannot be looked at.
    """
    path = directory / NAME
    try:
        _refuse_what_is_no_file(path)
    except Unusable:
        return path, None  # whoever opens it finds the same, and sets it aside
    if not path.exists() or path.stat().st_size == 0:
        return path, None
    connection = connect(path, timeout=BUSY, isolation_level=None)
    try:
        version = _number(connection, "user_version")
        if _number(connection, "application_id") == APPLICATION and version > VERSION:
            return path.with_name(f"{path.stem}.v{VERSION}{path.suffix}"), version
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        # Whoever opens it finds the same, and sets it aside.
    finally:
        connection.close()
    return path, None


def set_aside(path: Path, wall: float, sides: Sequence[str] = SIDES) -> str:
    """Rename a database and what belongs to it, or some of it; the new name of the database.

    Raises: OSError; Unusable when there are too many.
    """
    if sum(not each.name.endswith(SIDES[1:]) for each in path.parent.glob(f"{path.name}.bad-*")) >= BAD_MAX:
        raise Unusable(f"{BAD_MAX} files were set aside already; look at them and remove them")
    stamp = _stamp(wall)
    name, number = f"{path.name}.bad-{stamp}", 1
    while any(path.with_name(name + side).exists() for side in SIDES):
        number += 1
        name = f"{path.name}.bad-{stamp}.{number}"
    for side in reversed(sides):  # the database last: while it has its name, a restart finds the same trouble
        old = path.with_name(path.name + side)
        if old.exists():
            old.rename(path.with_name(name + side))
    return name


def orphans(path: Path, opened: Identity) -> tuple[str, ...]:
    """What is left of a database that another has taken the place of: it would be played into that one."""
    found = identity(path)
    if found[0] == opened[0]:
        return ()
    return tuple(
        side for side, now, then in zip(SIDES, found, opened, strict=True) if now is not None and now == then
    )


def identity(path: Path) -> Identity:
    """Which files these are: device and number of each, `None` for one that is not there. Raises: OSError."""
    found: list[tuple[int, int] | None] = []
    for side in SIDES:
        try:
            status = path.with_name(path.name + side).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return tuple(found)


def _stamp(wall: float) -> str:
    try:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError, OSError):  # a clock in the year 60000 is no reason to end the thread
        return f"{wall:.0f}"


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def _statements(script: str) -> list[str]:
    return [statement for statement in script.split(";") if statement.strip()]
