"""From a listening socket to connections: taking them, and shaking hands where there is TLS.

Theory of operation: connections are taken here and not by the loop's own server, for three reasons. Stopping is one
synchronous step between two connections: each is either taken, and will be answered, or still in the backlog, where
the next process on the same socket finds it. The context of a handshake is the one in force when its connection was
taken, so that rotated certificates and another client authority hold from one connection to the next, on the same
sockets. And handshakes are ours to bound: they have a time and a number, and the oldest gives way, so that who
opens many and never finishes keeps nobody else out.

Where no more files may be open connections wait in the backlog, and are looked at again every second. Clients never
get the last few files: a daemon that cannot open one more answers no operator and reads no configuration.

What this module does not know: HTTP, files of certificates, and where the sockets come from.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Callable
from functools import partial
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812 - beside the module's own words
from typing import Final

from balancer.http.complaints import Complaints
from balancer.http.limits import Limits, file_max, handshakes_max
from balancer.http.peers import address
from balancer.http.sockets import BACKLOG, Listening
from balancer.service.log import Log

BATCH: Final = 64  # connections taken in one turn of the loop; the others' answers wait no longer for it than 2 ms
PAUSE: Final = 1.0  # s without taking any where there is no room. Source: asyncio's own server

# Trouble of the one connection that was next, which is gone with it. Source: accept(2), "Error handling", and EPERM
# of a firewall. Whatever else there is, room or not, is of the socket.
_GONE: Final = frozenset(
    {
        errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENONET,
        errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPERM, errno.EPROTO,
    }
)  # fmt: skip


class Acceptor:
    """Takes the connections of several sockets, and gives each a protocol of its own."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None,
        limits: Limits,
        log: Log,
        complaints: Complaints,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._tls = tls
        self._limits = limits
        self._log = log
        self._complaints = complaints
        self._listening: list[Listening] = []
        self._opening: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._opening_max = handshakes_max(limits)
        self._paused: dict[Listening, asyncio.TimerHandle] = {}
        self._crowded: dict[Listening, float] = {}  # where somebody may still wait, and since which pause

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
        gone = 0
        for _ in range(most):
            try:
                self._check_room(listening)
                connection, name = listening.socket.accept()
            except BlockingIOError:
                self._tell_end(listening)
                return
            except OSError as error:
                gone += 1
                if error.errno in _GONE and gone < BATCH:  # so many of one turn are trouble that stays
                    continue
                self._pause(listening, error)
                return
            self._begin(connection, name)

    def _check_room(self, listening: Listening) -> None:
        """Look which number the next file gets. Raises: OSError where no more are for clients."""
        number = os.dup(listening.socket.fileno())
        os.close(number)
        if number >= file_max(self._limits):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _begin(self, connection: Socket, name: object) -> None:
        connection.setblocking(False)
        tls = None if connection.family == AF_UNIX else self._tls
        # Not of the daemon's TaskGroup: a connection that fails ends nobody else.
        task = self._loop.create_task(self._open(connection, name, tls), name="opening a connection")
        self._opening[task] = None
        task.add_done_callback(partial(self._opened, connection))
        if tls is not None and len(self._opening) > self._opening_max:
            oldest = next(iter(self._opening))
            del self._opening[oldest]  # it ends in another turn of the loop, and more may come within this one
            oldest.cancel()

    def _opened(self, connection: Socket, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)
        if task.cancelled():
            connection.close()  # a task that is cancelled before its first step never knew of it

    async def _open(self, connection: Socket, name: object, tls: ssl.SSLContext | None) -> None:
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
            said = getattr(error, "verify_message", "") or reason
            self._complaints.tell("handshake.failed", level="info", reason=said, peer=address(name))
        except OSError:
            connection.close()  # gone, or out of time

    def _pause(self, listening: Listening, error: OSError) -> None:
        if listening not in self._listening:
            return  # the last round before the end
        self._loop.remove_reader(listening.socket)
        self._paused[listening] = self._loop.call_later(PAUSE, self._resume, listening)
        if not self._crowded:
            self._log.error("accept.paused", reason=error.strerror)
        self._crowded.setdefault(listening, self._loop.time())

    def _resume(self, listening: Listening) -> None:
        del self._paused[listening]
        self._loop.add_reader(listening.socket, self._take, listening, BATCH)
        self._take(listening, BATCH)  # or the end would be told only when the next client comes

    def _tell_end(self, listening: Listening) -> None:
        """Nobody waits at a socket any more."""
        since = self._crowded.pop(listening, None)
        if since is not None and not self._crowded:
            self._log.info("accept.resumed", after=round(self._loop.time() - since, 3))
