"""One job at a time in a thread of its own, for what may hang.

Theory of operation: a disk that died makes `fsync` wait for minutes, in a sleep that no signal ends. asyncio's own
threads are waited for when the loop ends and again when the process does; these are not, so that we can stop all
the same. A job makes its thread: one every few seconds costs nothing, and none is left when nobody needs it. While
one hangs there is no other, so nothing piles up.

What this module does not know: what the jobs do.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def _retrieve(future: asyncio.Future[T]) -> None:
    # Whoever awaited it may have been cancelled; asyncio would complain of an error that nobody asked for.
    if not future.cancelled():
        future.exception()


class Worker:
    """Runs jobs, one after the other. It belongs to the loop in which the first is started."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether a job is under way, awaited or not."""
        return not self._idle.is_set()

    async def idle(self) -> None:
        """Wait until none is."""
        await self._idle.wait()

    def start(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Run a job; what awaits it may be cancelled, the job not. Raises: OSError where no thread can be made."""
        assert not self.busy, f"{self._name}: one job at a time"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(_retrieve)

        def end(result: T | None, error: BaseException | None) -> None:
            self._idle.set()
            if future.done():  # cancelled
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # it is a T where there was no error

        def work() -> None:
            result, failure = None, None
            try:
                result = job()
            except BaseException as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(end, result, failure)

        thread = Thread(target=work, name=self._name, daemon=True)
        self._idle.clear()
        try:
            thread.start()
        except RuntimeError:  # as many as the system allows us
            self._idle.set()
            future.cancel()
            raise OSError(errno.EAGAIN, "no thread can be started") from None
        return future
