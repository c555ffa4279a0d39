"""What is too old goes, and what is too much: a little at a time, so that no write waits long.

Theory of operation: minutes and hours have each their age; transitions have that of the hours, but for the last of
an endpoint that is out: without it an outage would be over as soon as its beginning is old. Over the size the
oldest minutes go first, but for those of the last hour; then the oldest hours, with their transitions; then what is
left of the last hour, but for its last minute. The names of endpoints go with the last that is known of them. Pages
that became free are used again, and given back to the file system when they are many. A disk that has less room is
as good as a smaller size; but then the last hour stays and free pages are not given back, because whoever fills the
disk would take them too, and so on until nothing is left.

The database and its log together stay below the size: a quarter of it (16 MB at the most) is kept for the log. A
reader that keeps a transaction open keeps the log from being shortened; then nothing may be written that would make
it longer still, and that is said.

By a clock that runs years ahead everything would be too old. Whoever calls vouches for some minutes of its going
right; where it stands far beyond the time that was believed last, it has to go right for a day, in which somebody
or NTP sets it. The time that was believed last is kept in the file, and so is for how long a doubted clock has gone
right: who restarts every night has a day in sum too. One that is set right, or wrong in another way, begins anew.

What this module does not know: what time it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from balancer.config import StoreSettings
from balancer.core.history import HOUR, MINUTE, OUT
from balancer.store.history.schema import CHECKPOINT

BUDGET: Final = 0.1  # s of one turn: batches come every few seconds
ROWS_AT_ONCE: Final = 5000  # of one transaction, or one minute's where those are more
VACUUM_FROM: Final = 256  # free pages, 1 MB: fewer are soon used again
VACUUM_AT_ONCE: Final = 256  # pages that are given back in one turn
LOG_SHARE: Final = 4  # the log may have a quarter of the size
LOG_MAX: Final = 16_000_000  # bytes; four times what SQLite's default lets it grow to
DAY: Final = 24 * HOUR
JUMP_MIN: Final = DAY  # s beyond the time that was believed last; so long a machine is switched off now and then
DOUBT_STEP: Final = 600  # s of a doubted clock between two writes of how long it has gone right


class Trusted(NamedTuple):
    """A wall clock that has gone right for `steady`. Units: Unix seconds, seconds."""

    wall: float
    steady: float


class _Doubt(NamedTuple):
    """Where a clock stood that is not believed yet, and for how long it had gone right. Units: minutes, seconds."""

    minute: int
    seconds: int


class LogHeld(Exception):
    """The log has grown as far as it may, and a reader keeps it from being shortened."""


class Pruning:
    """Removes over one connection."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._clock = clock
        (self._page,) = connection.execute("PRAGMA page_size").fetchone()
        (self._believed,) = connection.execute(_BELIEVED).fetchone()  # minutes; before anything new is written
        known = connection.execute(_DOUBTED).fetchone()
        self._doubt = None if known is None else _Doubt(*known)
        self._limited: int | None = None  # pages of the log
        self._names_due = True

    def judge_log(self, settings: StoreSettings) -> None:
        """Refuse to write while the log cannot be kept within its room. Raises: LogHeld, sqlite3.Error, OSError."""
        if not self._log_fits(settings.max_size):
            size, name = self._log_size(), self._log.name
            raise LogHeld(f"somebody reads {self._path.name} and holds {name}, which has {size} bytes")

    def prune(self, settings: StoreSettings, *, trusted: Trusted | None) -> bool:
        """Remove for at most `BUDGET`, by age only where the wall clock is trusted; tell whether any name has gone.

        Raises: sqlite3.Error, OSError.
        """
        until = self._clock() + BUDGET
        room = self._room()
        size_max = min(settings.max_size, room)
        self._limit_log(size_max)

        def may_go_on() -> bool:
            return self._clock() < until and self._log_fits(settings.max_size)

        if trusted is not None and self._believes(trusted, settings):
            cuts = (("minutes", settings.retention.minutes), ("hours", settings.retention.hours))
            for tier, age in cuts:
                cut = int(trusted.wall - age) // MINUTE
                while may_go_on() and self._older(tier, cut):
                    self._remove(tier, cut)
        allowed = size_max - _log_room(size_max)
        while may_go_on() and self._used() > allowed and self._remove_oldest():
            pass
        allowed = settings.max_size - _log_room(settings.max_size)
        while may_go_on() and self._used() > allowed and self._remove_of_last_hour():
            pass
        if room > settings.max_size:
            self._give_back(allowed + _log_room(settings.max_size) // 4)
        self._shorten_log(size_max)
        return self._names_due and may_go_on() and self._remove_names()

    def _believes(self, trusted: Trusted, settings: StoreSettings) -> bool:
        minute = int(trusted.wall) // HOUR * (HOUR // MINUTE)
        if self._believed is not None:
            jump = max(settings.retention.minutes, JUMP_MIN)
            if (minute - self._believed) * MINUTE > jump and self._gone_right(trusted, jump) < DAY:
                return False
        if self._doubt is not None:
            self._connection.execute(_FORGET_DOUBT)
            self._doubt = None
        if minute != self._believed:
            self._connection.execute(_BELIEVE, (minute,))
            self._believed = minute
        return True

    def _gone_right(self, trusted: Trusted, jump: float) -> int:
        """Add up for how long a doubted clock has gone right, over restarts. Units: seconds."""
        minute, seconds = int(trusted.wall) // MINUTE, int(trusted.steady)
        if self._doubt is not None:
            since = (minute - self._doubt.minute) * MINUTE
            if 0 <= since < DOUBT_STEP:
                return self._doubt.seconds
            if 0 <= since <= jump:  # the same clock; of this process what was not added yet
                seconds = self._doubt.seconds + min(seconds, since)
        self._connection.execute(_DOUBT, (minute, seconds))
        self._doubt = _Doubt(minute, seconds)
        return seconds

    def _limit_log(self, size_max: int) -> None:
        """Say when the log is copied into the database, and how much of the file is left then."""
        pages = max(8, min(CHECKPOINT, _log_room(size_max) // 4 // self._page))
        if pages == self._limited:
            return
        self._limited = pages
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

    def _remove_of_last_hour(self) -> bool:
        (first, last) = self._connection.execute("SELECT min(start), max(start) FROM minutes").fetchone()
        if first is not None and first < last:
            self._remove("minutes", last)
            return True
        return self._connection.execute(_REMOVE_MOMENTS, (ROWS_AT_ONCE,)).rowcount > 0

    def _remove_names(self) -> bool:
        """Remove some endpoints of which nothing is left."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            removed = connection.execute(_REMOVE_NAMES, (ROWS_AT_ONCE,)).rowcount
            connection.execute("DELETE FROM seen WHERE endpoint NOT IN (SELECT id FROM endpoints)")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._names_due = removed == ROWS_AT_ONCE
        return removed > 0

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
            self._names_due = True
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _room(self) -> int:
        """What the disk has for us, and what we have of it already. Units: bytes."""
        disk = os.statvfs(self._path.parent)
        ours = self._path.stat().st_size + self._log_size()
        return ours + disk.f_bavail * disk.f_frsize

    def _used(self) -> int:
        return (self._count("page_count") - self._count("freelist_count")) * int(self._page)

    def _give_back(self, size_max: int) -> None:
        free, pages = self._count("freelist_count"), self._count("page_count")
        if free > max(VACUUM_FROM, pages // 8) or (free > 0 and pages * int(self._page) > size_max):
            # A script is run to its end; `execute` makes one step of a statement without columns: one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_AT_ONCE})")
        if self._path.stat().st_size > size_max:  # it shrinks when the log is copied
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _shorten_log(self, size_max: int) -> None:
        """Copy the log into the database where readers kept SQLite from doing so by itself."""
        if self._log_size() > _log_room(size_max) // 2:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _log_fits(self, size_max: int) -> bool:
        """Whether the log has room for another transaction, shortened if need be."""
        self._shorten_log(size_max)
        return self._log_size() <= _log_room(size_max) // 2

    def _log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _count(self, pragma: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {pragma}").fetchone()
        return int(value)


def _log_room(size_max: int) -> int:
    return min(size_max // LOG_SHARE, LOG_MAX)


# What an outage that goes on is told by: the last transition of who is out, and the last start, which ended all
# outages before it. `questions` judges alike.
_STANDS: Final = f"""(
  t.id = (SELECT ifnull(max(id), 0) FROM transitions WHERE endpoint IS NULL AND event = 'daemon.started')
  OR (
    t.enforced AND t.state IS NOT NULL AND t.state IN {tuple(sorted(map(str, OUT)))}
    AND t.id > (SELECT ifnull(max(id), 0) FROM transitions WHERE endpoint IS NULL AND event = 'daemon.started')
    AND NOT EXISTS (
      SELECT 1 FROM transitions AS later
      WHERE later.endpoint = t.endpoint AND later.id > t.id
        AND (later.state IS NOT NULL OR later.event = 'endpoint.removed')
    )
  )
)"""
_OLDEST: Final = {
    "minutes": "SELECT min(start) FROM minutes",
    "hours": f"""
SELECT min(start) FROM (
  SELECT min(start) AS start FROM hours
  UNION ALL SELECT * FROM (
    SELECT CAST(at / 3600 AS INTEGER) * 60 FROM transitions AS t WHERE NOT {_STANDS} ORDER BY at LIMIT 1
  )
)
""",
}
_REMOVE: Final = {
    "minutes": ("DELETE FROM minutes WHERE start < :start",),
    "hours": (
        "DELETE FROM hours WHERE start < :start",
        "DELETE FROM uptimes WHERE start < :start",
        f"DELETE FROM transitions AS t WHERE at < :start * 60 AND NOT {_STANDS}",
    ),
}
_REMOVE_MOMENTS: Final = "DELETE FROM transitions WHERE id IN (SELECT id FROM transitions ORDER BY at LIMIT ?)"
# An hour's minutes may outlive it, where both went for their size.
_REMOVE_NAMES: Final = """
DELETE FROM endpoints WHERE id IN (
  SELECT endpoints.id FROM endpoints LEFT JOIN seen ON seen.endpoint = endpoints.id
  WHERE (
    seen.hour IS NULL OR seen.hour < min(
      ifnull((SELECT min(start) FROM hours), seen.hour + 1),
      ifnull((SELECT min(start) FROM minutes) / 60 * 60, seen.hour + 1)
    )
  ) AND NOT EXISTS (SELECT 1 FROM transitions WHERE transitions.endpoint = endpoints.id)
  LIMIT ?
)
"""
_BELIEVED: Final = """
SELECT ifnull((SELECT value FROM meta WHERE key = 'believed'), (SELECT max(start) FROM hours))
"""
_BELIEVE: Final = "INSERT INTO meta VALUES ('believed', ?) ON CONFLICT DO UPDATE SET value = excluded.value"
_DOUBTED: Final = """
SELECT place.value, length.value FROM meta AS place JOIN meta AS length ON length.key = 'doubted_for'
WHERE place.key = 'doubted'
"""
_DOUBT: Final = """
INSERT INTO meta VALUES ('doubted', ?), ('doubted_for', ?) ON CONFLICT DO UPDATE SET value = excluded.value
"""
_FORGET_DOUBT: Final = "DELETE FROM meta WHERE key IN ('doubted', 'doubted_for')"
_KEEP_FROM: Final = """
INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)
"""
