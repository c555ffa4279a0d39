"""From a listening socket to connections: taking them, and shaking hands where there is TLS.

Theory of operation: connections are taken here and not by the loop's own server, for three reasons. Stopping is one
synchronous step between two connections: each is either taken, and will be answered, or still in the backlog, where
the next process on the same socket finds it. The context of a handshake is the one in force when its connection was
taken, so that rotated certificates and another client authority hold from one connection to the next, on the same
sockets. And handshakes are ours to bound: they have a time and a number, and the oldest gives way, so that who
opens many and never finishes keeps nobody else out.

What this module does not know: HTTP, files of certificates, and where the sockets come from.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from functools import partial
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812 - beside the module's own words
from typing import Final

from balancer.http.limits import Limits
from balancer.http.sockets import BACKLOG, Listening
from balancer.service.log import Log

BATCH: Final = 64  # connections taken in one turn of the loop; the others' answers wait no longer for it than 2 ms
OPENING_MAX: Final = 256  # handshakes at a time: of an honest client one takes milliseconds
PAUSE: Final = 1.0  # s without taking any where no more files may be open. Source: asyncio's own server

# The process or the machine has no room for another connection; it stays in the backlog meanwhile.
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Takes the connections of several sockets, and gives each a protocol of its own."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None,
        limits: Limits,
        log: Log,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._tls = tls
        self._limits = limits
        self._log = log
        self._listening: list[Listening] = []
        self._opening: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._paused: dict[Listening, asyncio.TimerHandle] = {}

    @property
    def opening(self) -> int:
        """How many connections were taken whose protocol has not begun yet."""
        return len(self._opening)

    def serve(self, listening: Listening) -> None:
        """Take connections of a socket from now on."""
        self._listening.append(listening)
        self._loop.add_reader(listening.socket, self._take, listening, BATCH)

    def use(self, tls: ssl.SSLContext) -> None:
        """Shake hands in another way with whoever comes from now on."""
        assert self._tls is not None, "a server that began without TLS goes on without it"
        self._tls = tls

    def stop(self) -> None:
        """Take no more connections, but for those that wait at a socket that is ours alone."""
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        listening, self._listening = self._listening, []
        for each in listening:
            self._loop.remove_reader(each.socket)
            if each.ours:
                self._take(each, BACKLOG)
            each.close()

    def abort(self) -> None:
        """Cut what is still shaking hands."""
        for task in self._opening:
            task.cancel()

    def _take(self, listening: Listening, most: int) -> None:
        for _ in range(most):
            try:
                connection, _ = listening.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._pause(listening, error)
                return
            self._begin(connection)

    def _begin(self, connection: Socket) -> None:
        connection.setblocking(False)
        tls = None if connection.family == AF_UNIX else self._tls
        # Not of the daemon's TaskGroup: a connection that fails ends nobody else.
        task = self._loop.create_task(self._open(connection, tls), name="opening a connection")
        self._opening[task] = None
        task.add_done_callback(partial(self._opened, connection))
        if tls is not None and len(self._opening) > OPENING_MAX:
            oldest = next(iter(self._opening))
            del self._opening[oldest]  # it ends in another turn of the loop, and more may come within this one
            oldest.cancel()

    def _opened(self, connection: Socket, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)
        if task.cancelled():
            connection.close()  # a task that is cancelled before its first step never knew of it

    async def _open(self, connection: Socket, tls: ssl.SSLContext | None) -> None:
        limits = self._limits
        try:
            if tls is None:
                await self._loop.connect_accepted_socket(self._protocol, connection)
            else:
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=tls,
                    ssl_handshake_timeout=limits.handshake,
                    ssl_shutdown_timeout=limits.linger,
                )
        except ssl.SSLError as error:
            # Who goes away in the middle says nothing: load balancers look at ports that way all day.
            reason = error.reason if error.reason is not None else error.strerror
            self._log.info("handshake.failed", reason=getattr(error, "verify_message", "") or reason)
        except OSError:
            connection.close()  # gone, or out of time

    def _pause(self, listening: Listening, error: OSError) -> None:
        self._loop.remove_reader(listening.socket)
        if listening not in self._listening:
            return  # the last round before the end
        self._log.error("accept.paused", reason=error.strerror, for_seconds=PAUSE)
        self._paused[listening] = self._loop.call_later(PAUSE, self._resume, listening)

    def _resume(self, listening: Listening) -> None:
        del self._paused[listening]
        self._loop.add_reader(listening.socket, self._take, listening, BATCH)
