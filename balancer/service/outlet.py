"""Writing that never makes the writer wait.

Theory of operation: who has something to write puts it in a queue, and one thread takes it out and writes, as
slowly as the other end reads: a terminal that was stopped, a pipe that nobody empties and a journal that hangs hold
up that thread and nobody else. The queue is bounded; what does not fit is dropped and counted, and as soon as there
is room again one entry tells how many were. What cannot be written (a full disk, a journal that starts anew) is
tried again for some seconds, and then it is the next one's turn: it may be this very entry that is refused.

`close` waits for what is queued, but only so long, and then lets go: the thread is a daemon, and does not keep the
process from ending. It keeps its file descriptor, as a closed number could soon be another file's. A program that
ends without `close` gets it at its exit. In a forked child, where the thread does not live on, a new one begins
with an empty queue.

What interrupts a thread within `put`, a signal handler or the garbage collector, may itself have something to
write; so the only lock may be taken twice by one thread, and the queue is the one that Python has for this.

What this module does not know: what is written.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Protocol
from weakref import WeakSet

BYTES_MAX: Final = 4 << 20  # thousands of endpoints may change twice while nobody reads, at some 300 bytes each
OVERHEAD: Final = 64  # bytes that an entry costs besides its own, so that short ones are bounded too
PAUSE: Final = 1.0  # s between tries: a journal is back within one, and a disk is not freed faster
TRIES: Final = 10  # then the next entry: the fault may be this one's
EXIT_PATIENCE: Final = 1.0  # s, for a program that ends without `close`


class Sink(Protocol):
    """Where entries go in the end. It may take its time: only the outlet's thread calls it."""

    def write(self, data: bytes) -> int:
        """Write from the beginning of the data, and tell how much of it is done. Raises: OSError."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class StreamSink:
    """A file descriptor that belongs to others too, as standard error does: it is used as it was found."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)  # ours, so that nobody else closes it; and not for children

    def write(self, data: bytes) -> int:
        """Write what fits. Raises: OSError."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another program that shares it made it so; to change it back would break that one
            room = select.poll()
            room.register(self._descriptor, select.POLLOUT)
            room.poll()
            return 0

    def close(self) -> None:
        """Close our own copy."""
        os.close(self._descriptor)


class Outlet:
    """A queue and the thread that empties it into a sink.

    Shape: `tell` makes the entry that says how many were dropped.
    Units: `bytes_max` for all that waits, `pause` in seconds.
    """

    def __init__(
        self, sink: Sink, *, tell: Callable[[int], bytes], bytes_max: int = BYTES_MAX, pause: float = PAUSE
    ) -> None:
        self._sink = sink
        self._tell = tell
        self._bytes_max = bytes_max
        self._pause = pause
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._held = 0
        self._dropped = 0
        self._told = 0
        self._torn = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many entries were not written, and never will be."""
        return self._dropped

    def put(self, entry: bytes) -> None:
        """Let the entry be written, or drop and count it. It never waits and never raises."""
        cost = len(entry) + OVERHEAD
        with self._lock:
            if self._closing.is_set() or self._held + cost > self._bytes_max or not self._started():
                self._dropped += 1
                return
            self._held += cost
            self._queue.put(entry)

    def close(self, patience: float) -> bool:
        """Take no more, and wait so many seconds for what was taken; tell whether it is all out."""
        with self._lock:
            again = self._closing.is_set()
            self._closing.set()
            self._queue.put(None)
            thread = self._thread
        _living.discard(self)
        if thread is not None:
            thread.join(patience)
            return not thread.is_alive()
        if not again:
            self._sink.close()
        return True

    def begin_anew(self) -> None:
        """Be the outlet of a forked child: what is queued is the parent's to write."""
        self._begin()

    def _started(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread = thread  # before it starts: starting it may log
            try:
                thread.start()
            except RuntimeError:  # too many of them, or the interpreter is ending
                self._thread = None
        return self._thread is not None

    # ---- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (entry := self._queue.get()) is not None:
                written = self._written(entry)
                with self._lock:
                    self._held -= len(entry) + OVERHEAD
                    self._dropped += not written
                self._tell_dropped()
        finally:
            self._sink.close()

    def _tell_dropped(self) -> None:
        with self._lock:
            missing = self._dropped - self._told
            if missing == 0 or self._held > self._bytes_max // 2:
                return  # none, or there will be more in a moment
            self._told += missing
        if not self._written(self._tell(missing)):
            with self._lock:
                self._told -= missing

    def _written(self, entry: bytes) -> bool:
        rest = b"\n" + entry if self._torn else entry  # what was cut off stays a line of its own
        whole = len(rest)
        for _ in range(TRIES):
            try:
                while rest:
                    rest = rest[self._sink.write(rest) :]
            except OSError:
                self._closing.wait(self._pause)  # at the end all tries are at once
            else:
                self._torn = False
                return True
        self._torn |= len(rest) < whole
        return False


_living: Final[WeakSet[Outlet]] = WeakSet()


def _begin_anew() -> None:
    for outlet in list(_living):
        outlet.begin_anew()


def _close_all() -> None:
    for outlet in list(_living):
        outlet.close(EXIT_PATIENCE)


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(_close_all)
