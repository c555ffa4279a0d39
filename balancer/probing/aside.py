"""Work that would hold up the event loop, each piece in a thread of its own.

Theory of operation: the loops' own pools are small (uvloop's has four threads for all lookups), and a lookup that
hangs keeps its thread long after its probe gave up: four names that nobody answers for would stop the lookups of
all others. A thread costs a tenth of a millisecond, and waiting nothing. The threads are daemons, so that a
resolver that hangs does not keep the process from ending. Their number is limited: above it this machine is in
trouble, and not a provider. Searches, which need the processor, have places of their own and few of them: what an
expression of the operator's takes must not be missing for lookups.

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
SEARCHES_MAX: Final = 16  # as much more than searches, and they take turns on the processor anyway

T = TypeVar("T")


class Slots:
    """How many threads one sort of work may have at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.free = threading.BoundedSemaphore(most)


USUAL: Final = Slots(THREADS_MAX)
SEARCHES: Final = Slots(SEARCHES_MAX)


async def aside(work: Callable[[], T], *, name: str, slots: Slots = USUAL) -> T:
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
            slots.free.release()
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, problem)

    if not slots.free.acquire(blocking=False):
        raise Failure("local", f"this machine: {slots.most} threads wait already ({name})")
    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as problem:
        slots.free.release()
        raise Failure("local", f"this machine: no thread could be started: {problem}") from None
    return await done
