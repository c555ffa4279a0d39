"""The thread that reads: one question at a time, each over a connection of its own, within bounds.

Theory of operation: a question waits in a short queue, and is given up after `PATIENCE` by whoever asks; the thread
itself stops a query after `TIME_MAX`. A reader in WAL mode waits for no writer and no writer for it. A fresh
connection for each question costs a fifth of a millisecond, and never shows a file that is no longer there.

What this module does not know: how the past is read (`reading`), and what to do about a broken file; it tells.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Final

from balancer.core.history import HistoryAbsent, HistoryQuery, HistoryTooLong, Past
from balancer.store.history import schema
from balancer.store.history.reading import read
from balancer.store.history.schema import Connect, Unusable

WAITING_MAX: Final = 8  # questions; whoever comes later is told so at once
TIME_MAX: Final = 3.0  # s of one question: a year of a thousand endpoints by the hour takes two
PATIENCE: Final = 8.0  # s for which a question waits for those before it, and for itself; a verb waits ten
STEPS: Final = 10_000  # of SQLite's machine between two looks at the clock: about a millisecond

_Job = tuple[HistoryQuery, "asyncio.Future[Past]", asyncio.AbstractEventLoop]


class Reader:
    """Reads what is asked for."""

    def __init__(
        self,
        path: Callable[[], Path],
        *,
        clock: Callable[[], float],
        broken: Callable[[], None],
        connect: Connect = sqlite3.connect,
    ) -> None:
        self._path = path
        self._clock = clock
        self._broken = broken
        self._connect = connect
        self._condition = Condition()
        self._jobs: deque[_Job] = deque()
        self._ending = False
        self._thread = Thread(target=self._run, name="history-reader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Have the thread end; it is not waited for."""
        with self._condition:
            self._ending = True
            self._condition.notify()

    async def read(self, query: HistoryQuery) -> Past:
        """Answer a question. Raises: HistoryAbsent, HistoryTooLong."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Past] = loop.create_future()
        with self._condition:
            if self._ending:
                raise HistoryAbsent("the daemon is stopping")
            if len(self._jobs) >= WAITING_MAX:
                raise HistoryAbsent(f"{WAITING_MAX} questions about the past are waiting, which is the most")
            self._jobs.append((query, future, loop))
            self._condition.notify()
        try:
            async with asyncio.timeout(PATIENCE):
                return await future
        except TimeoutError:
            raise HistoryAbsent(f"the disk gave no answer within {PATIENCE:.0f} s") from None

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._jobs or self._ending)
                if self._ending:
                    break
                query, future, loop = self._jobs[0]
            if not future.cancelled():
                self._answer(query, future, loop)
            with self._condition:
                self._jobs.popleft()
        for _, future, loop in self._jobs:
            _settle(loop, future, HistoryAbsent("the daemon is stopping"))

    def _answer(self, query: HistoryQuery, future: asyncio.Future[Past], loop: asyncio.AbstractEventLoop) -> None:
        try:
            _settle(loop, future, self._read(query))
        except (HistoryAbsent, HistoryTooLong) as refusal:
            _settle(loop, future, refusal)
        except Exception as error:
            self._broken()
            _settle(loop, future, HistoryAbsent(f"it cannot be read: {error}"))

    def _read(self, query: HistoryQuery) -> Past:
        path = self._path()
        if not path.exists():
            raise HistoryAbsent("nothing was written yet")
        try:
            connection = schema.look(path, self._connect)
            try:
                until = self._clock() + TIME_MAX
                connection.set_progress_handler(lambda: self._clock() > until, STEPS)
                return read(connection, query)
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise HistoryAbsent(f"it takes longer than {TIME_MAX:.0f} s; ask for less") from None
            raise HistoryAbsent(f"it cannot be read now: {error}") from None
        except Unusable as error:
            self._broken()
            raise HistoryAbsent(f"it cannot be read: {error}") from None


def _settle(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Past], result: Past | HistoryAbsent | HistoryTooLong
) -> None:
    """Give an answer to whoever waits for it in the event loop, if it still does."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(result, Past):
            future.set_result(result)
        else:
            future.set_exception(result)

    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(settle)
