"""Work that would hold up the event loop, each piece in a thread of its own.

Theory of operation: the loops' own pools are small (uvloop's has four threads for all lookups), and a lookup that
hangs keeps its thread long after its probe gave up: four names that nobody answers for would stop the lookups of
all others. A thread costs a tenth of a millisecond, and waiting nothing. The threads are daemons, so that a
resolver that hangs does not keep the process from ending. Their number is limited: above it this machine is in
trouble, and not a provider.

What this module does not know: what the work is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from balancer.probing.failure import Failure

THREADS_MAX: Final = 256  # far more than lookups a second times their usual milliseconds

T = TypeVar("T")

_slots: Final = threading.BoundedSemaphore(THREADS_MAX)


async def aside(work: Callable[[], T], *, name: str) -> T:
    """Wait for the work without holding up the loop; cancelled, the work runs on and its result is dropped.

    Raises: what the work raises; Failure (`local`) where too much of it waits already.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, problem: Exception | None) -> None:
        if done.done():
            return
        if problem is not None:
            done.set_exception(problem)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # `None` only where that is the result

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except Exception as raised:
            problem = raised
        finally:
            _slots.release()
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, problem)

    if not _slots.acquire(blocking=False):
        raise Failure("local", f"this machine: {THREADS_MAX} threads wait already ({name})")
    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as problem:
        _slots.release()
        raise Failure("local", f"this machine: no thread could be started: {problem}") from None
    return await done
