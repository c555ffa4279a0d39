"""The thread that owns the only writing connection, and gets over whatever happens to the disk.

Theory of operation: the loop lays down a batch where none lies, and wakes the thread; it never waits for it. The
thread looks whether the files are still those that it opened, writes the batch bit by bit, and then removes what is
too old. Whatever fails leaves the rest of the batch where it is, and is tried again after a wait that doubles:

- locked: again, with the same connection;
- full: the same, after what is too much for that disk has been removed;
- a log that somebody who reads keeps from being shortened: the same, once it is;
- no database, no file, broken, or another program's: renamed (`history.db.bad-…`), and begun anew;
- replaced or deleted under us: closed, and opened or begun anew; a log that has lost its database is renamed, or it
  would be played into the new one;
- all else (read-only, I/O errors): closed, and opened again.

An error of ours, which another try would meet again, costs that batch and not the thread. A disk that hangs is told
too: `stuck` says for how long. The thread is a daemon's: a process that ends does not wait for a disk.

What this module does not know: what an outcome is, and the event loop. What is to be logged lies in `news`.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final

from balancer.config import StoreSettings
from balancer.store.history import schema
from balancer.store.history.gathering import Batch
from balancer.store.history.pruning import LogHeld, Pruning, Trusted
from balancer.store.history.schema import Connect, Identity, Unusable
from balancer.store.history.writing import Writing

RETRY: Final = 0.25  # s until the first new try
RETRY_MAX: Final = 5.0  # s; a disk that is well again is used within so many
RETRY_ENDING: Final = 0.05  # s; whoever ends has no time for long waits
NEWS_MAX: Final = 100  # tellings that nobody has fetched
REASONS_MAX: Final = 10  # that are told of one trouble: there may be a number in them, and no two the same

_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OURS: Final = (
    sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.IntegrityError,
    sqlite3.NotSupportedError,
)  # fmt: skip
_PATIENT: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})


class _Replaced(Exception):
    """The files are not those that were opened."""


@dataclass(frozen=True, slots=True)
class News:
    """Something to be logged: the event, and its facts."""

    event: str
    facts: dict[str, Any]


@dataclass(slots=True)
class _Opened:
    """One connection, with what works over it and the files that it opened."""

    path: Path
    connection: sqlite3.Connection
    writing: Writing
    pruning: Pruning
    files: Identity


class Keeper:
    """Writes what it is given. All public methods are for the event loop, and return at once."""

    def __init__(
        self,
        directory: Path,
        settings: StoreSettings,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        connect: Connect = sqlite3.connect,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._connect = connect
        self._condition = Condition()
        self._inbox: deque[Batch] = deque()
        self._woken = False
        self._trusted: Trusted | None = None
        self._suspect = False  # a reader met something broken
        self._until: float | None = None  # when to give up, once it is to end
        self._done: Callable[[], None] | None = None
        self._began: float | None = None  # the work that goes on
        self._opened: _Opened | None = None
        self._failing: float | None = None  # since when
        self._reason = ""
        self._said: set[str] = set()  # reasons of this trouble
        self._delay = RETRY
        self._full = False  # the disk was, at the last try
        self._kept_aside: str | None = None
        self._told_version: int | None = None
        self._thread = Thread(target=self._run, name="history", daemon=True)
        self.news: deque[News] = deque(maxlen=NEWS_MAX)
        self.errors = 0
        self.dropped = 0
        self.path = directory / schema.NAME

    # ---- what the loop calls ------------------------------------------------------------------------------

    @property
    def free(self) -> bool:
        """Whether a batch may be laid down."""
        return not self._inbox

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at present."""
        return self._reason if self._failing is not None else None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, batch: Batch | None, *, trusted: Trusted | None) -> None:
        """Lay down a batch, and wake the thread. `trusted` is the wall clock, where that can be trusted."""
        with self._condition:
            if batch is not None:
                self._inbox.append(batch)
            self._trusted = trusted
            self._woken = True
            self._condition.notify()

    def follow(self, settings: StoreSettings) -> None:
        """Keep for as long, and as much, as these settings say."""
        with self._condition:
            self._settings = settings

    def doubt(self) -> None:
        """A reader met something broken: have the whole file checked."""
        with self._condition:
            self._suspect = True

    def stuck(self) -> float:
        """For how long the disk has not answered. Units: seconds."""
        began = self._began
        return 0.0 if began is None else max(0.0, self._clock() - began)

    def end(self, *, patience: float, done: Callable[[], None]) -> None:
        """Have the thread write what there is, and end after `patience` seconds; it calls `done` at its end."""
        with self._condition:
            self._until = self._clock() + patience
            self._done = done
            self._condition.notify()

    def left(self) -> int:
        """What was laid down and is not written."""
        return sum(batch.size for batch in tuple(self._inbox))

    # ---- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        delay: float | None = None  # until the next try, where one failed
        while True:
            with self._condition:
                if delay is None:
                    self._condition.wait_for(self._is_due)
                elif self._until is None:
                    self._condition.wait_for(self._is_ending, delay)
                else:
                    self._condition.wait(RETRY_ENDING)
                ending, self._woken = self._is_ending(), False
            self._began = self._clock()
            delay = self._turn()
            self._began = None
            if ending and (not self._inbox or self._is_over()):
                break
        self._close()
        if self._done is not None:
            self._done()

    def _is_due(self) -> bool:
        return self._woken or self._is_ending()

    def _is_ending(self) -> bool:
        return self._until is not None

    def _is_over(self) -> bool:
        return self._until is not None and self._clock() >= self._until

    def _turn(self) -> float | None:
        """Do what there is to do; how long to wait before the next try, `None` where all is well."""
        try:
            self._work()
        except _OURS as error:
            return self._drop(error)
        except (sqlite3.Error, OSError, Unusable, LogHeld, _Replaced) as error:
            return self._fail(error)
        except Exception as error:
            return self._drop(error)
        self._recover()
        return None

    def _drop(self, error: Exception) -> float:
        """Give up a batch that no try would write."""
        if self._inbox:
            self.dropped += self._inbox.popleft().size
        return self._fail(error)

    def _work(self) -> None:
        opened = self._open()
        if self._suspect:
            self._check(opened.connection)
        if self._full:  # without room nothing can be written
            self._prune(opened)
        opened.pruning.judge_log(self._settings)
        while self._inbox:
            for _ in opened.writing.write(self._inbox[0]):
                self._began = self._clock()
                if self._is_over():
                    return
                opened.pruning.judge_log(self._settings)
            self._inbox.popleft()
        self._prune(opened)

    def _prune(self, opened: _Opened) -> None:
        if opened.pruning.prune(self._settings, trusted=self._trusted):
            opened.writing.forget_names()

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is not None:
            if schema.identity(opened.path) != opened.files:
                self._close()
                leave = schema.orphans(opened.path, opened.files)
                if leave:  # SQLite leaves the log of a file that was moved
                    self._kept_aside = schema.set_aside(opened.path, self._wall(), leave)
                raise _Replaced(f"{opened.path.name} was replaced or removed while it was open")
            # The head of the file may have been written over: a new connection has no cache to believe. To open the
            # file ourselves would drop SQLite's locks on it. Source: fcntl(2), locks are a process's.
            schema.look(opened.path, self._connect).close()
            return opened
        self._directory.mkdir(mode=0o700, exist_ok=True)  # without parents: a disk may not be mounted yet
        self.path, version = schema.chosen(self._directory, self._connect)
        if version is not None and version != self._told_version:
            self._told_version = version
            self._tell("store.left_alone", found=f"{schema.NAME} is of version {version}", kept=self.path.name)
        connection = schema.begin(self.path, self._connect)
        try:
            pruning = Pruning(connection, self.path, clock=self._clock)
            files = schema.identity(self.path)
        except BaseException:
            connection.close()
            raise
        self._opened = _Opened(self.path, connection, Writing(connection), pruning, files)
        return self._opened

    def _check(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Unusable(f"it is broken: {found}")
        self._suspect = False

    def _fail(self, error: Exception) -> float:
        self.errors += 1
        code = _code(error)
        if self._failing is None:
            self._failing = self._clock()
            self._delay = RETRY
        self._say(error)
        broken = code in _BROKEN or isinstance(error, Unusable)
        self._full = code == sqlite3.SQLITE_FULL
        if code not in _PATIENT and not isinstance(error, LogHeld):
            self._close()
        if broken and self._set_aside():
            return 0.0
        delay, self._delay = self._delay, min(2 * self._delay, RETRY_MAX)
        return delay

    def _say(self, error: Exception) -> None:
        """Tell why, where that is new: two reasons that take turns are not told for ever."""
        self._reason = _told(error)
        if self._reason not in self._said and len(self._said) < REASONS_MAX:
            self._said.add(self._reason)
            self._tell("store.failed", reason=self._reason)

    def _set_aside(self) -> bool:
        """Rename what is no database of ours, so that the next try begins anew."""
        try:
            if any(schema.identity(self.path)):
                self._kept_aside = schema.set_aside(self.path, self._wall())
        except (OSError, Unusable) as error:
            self._say(error)
            return False
        self._suspect = False
        return True

    def _recover(self) -> None:
        self._full = False
        if self._failing is None:
            return
        facts: dict[str, Any] = {"after": round(self._clock() - self._failing, 3), "reason": self._reason}
        if self._kept_aside is not None:
            facts["set_aside"] = self._kept_aside
        self._failing, self._kept_aside = None, None
        self._said.clear()
        self._tell("store.recovered", **facts)

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.connection.close()

    def _tell(self, event: str, **facts: Any) -> None:
        self.news.append(News(event, {"store": "history", **facts}))


def _code(error: Exception) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # the rest tells of what kind it is


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, (Unusable, LogHeld, _Replaced)) else f"{type(error).__name__}: {error}"
