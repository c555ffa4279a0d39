"""What is too old goes, and what is too much: a little at a time, so that no write waits long.

Theory of operation: minutes and hours have each their age; transitions have that of the hours. Over the size the
oldest minutes go first, but for those of the last hour; then the oldest hours, with their transitions. Pages that
became free are used again, and given back to the file system when they are many. The database and its log together
stay below the size: a quarter of it (32 MB at the most) is kept for the log.

What this module does not know: what time it is. Whoever calls it vouches for its `wall`: by a clock that runs years
ahead everything would be too old.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from balancer.config import StoreSettings
from balancer.core.history import HOUR, MINUTE
from balancer.store.history.schema import CHECKPOINT

BUDGET: Final = 0.1  # s of one turn: batches come every few seconds
ROWS_AT_ONCE: Final = 5000  # of one transaction, or one minute's where those are more
VACUUM_FROM: Final = 256  # free pages, 1 MB: fewer are soon used again
VACUUM_AT_ONCE: Final = 256  # pages that are given back in one turn
LOG_SHARE: Final = 4  # the log may have a quarter of the size
LOG_MAX: Final = 32_000_000  # bytes


class Pruning:
    """Removes over one connection."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._log = path.with_name(path.name + "-wal")
        self._clock = clock
        (self._page,) = connection.execute("PRAGMA page_size").fetchone()
        self._limited: int | None = None  # the size that the log was prepared for

    def prune(self, settings: StoreSettings, *, size_max: int, wall: float | None) -> None:
        """Remove for at most `BUDGET`; by age only where a trusted wall time is given. Raises: sqlite3.Error."""
        until = self._clock() + BUDGET
        self._limit_log(size_max)
        if wall is not None:
            cuts = (("minutes", settings.retention.minutes), ("hours", settings.retention.hours))
            for tier, age in cuts:
                cut = int(wall - age) // MINUTE
                while self._clock() < until and self._older(tier, cut):
                    self._remove(tier, cut)
        allowed = size_max - _log_room(size_max)
        while self._clock() < until and self._used() > allowed and self._remove_oldest():
            pass
        self._give_back()
        self._shorten_log(size_max)

    def _limit_log(self, size_max: int) -> None:
        """Say when the log is copied into the database, and how much of the file is left then."""
        if size_max == self._limited:
            return
        self._limited = size_max
        room = _log_room(size_max)
        pages = max(8, min(CHECKPOINT, room // 4 // self._page))
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        self._connection.execute(f"PRAGMA journal_size_limit = {pages * self._page}").fetchall()

    def _older(self, tier: str, cut: int) -> bool:
        (oldest,) = self._connection.execute(_OLDEST[tier]).fetchone()
        return oldest is not None and oldest < cut

    def _remove_oldest(self) -> bool:
        (first, last) = self._connection.execute("SELECT min(start), max(start) FROM minutes").fetchone()
        if first is not None and first < last - HOUR // MINUTE:
            self._remove("minutes", last - HOUR // MINUTE)
            return True
        (first,) = self._connection.execute(_OLDEST["hours"]).fetchone()
        (last,) = self._connection.execute("SELECT max(start) FROM hours").fetchone()
        if first is not None and last is not None and first < last:
            self._remove("hours", last)
            return True
        return False

    def _remove(self, tier: str, cut: int) -> None:
        """Remove some of the oldest that began before `cut`, in one transaction."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            removed = 0
            reached = cut
            while removed < ROWS_AT_ONCE:
                (oldest,) = connection.execute(_OLDEST[tier]).fetchone()
                if oldest is None or oldest >= cut:
                    break
                reached = oldest + (1 if tier == "minutes" else HOUR // MINUTE)
                for statement in _REMOVE[tier]:
                    removed += connection.execute(statement, {"start": reached}).rowcount
            connection.execute(_KEEP_FROM, (f"{tier}_from", reached))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _used(self) -> int:
        return (self._count("page_count") - self._count("freelist_count")) * int(self._page)

    def _give_back(self) -> None:
        free = self._count("freelist_count")
        if free > max(VACUUM_FROM, self._count("page_count") // 8):
            # A script, because the statement must be run to its end, and `execute` stops where a step has no columns.
            self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_AT_ONCE})")

    def _shorten_log(self, size_max: int) -> None:
        """Copy the log into the database where readers kept SQLite from doing so by itself."""
        if self._log.exists() and self._log.stat().st_size > _log_room(size_max) // 2:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _count(self, pragma: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {pragma}").fetchone()
        return int(value)


def _log_room(size_max: int) -> int:
    return min(size_max // LOG_SHARE, LOG_MAX)


_OLDEST: Final = {
    "minutes": "SELECT min(start) FROM minutes",
    "hours": """
SELECT min(start) FROM (
  SELECT min(start) AS start FROM hours UNION ALL SELECT CAST(min(at) / 3600 AS INTEGER) * 60 FROM transitions
)
""",
}
_REMOVE: Final = {
    "minutes": ("DELETE FROM minutes WHERE start < :start",),
    "hours": (
        "DELETE FROM hours WHERE start < :start",
        "DELETE FROM uptimes WHERE start < :start",
        "DELETE FROM transitions WHERE at < :start * 60",
    ),
}
_KEEP_FROM: Final = """
INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)
"""
