"""Sockets: bind them all or none, and let go of them without losing an answer.

Theory of operation: aiohttp's low-level server makes one `Connection` per client. Stopping goes in this order:
no new connections, event streams end, idle connections close, answers under way get the grace, what is left is
cut.

What this module does not know: TLS, and sockets that a service manager hands over.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from os import strerror
from pathlib import Path
from typing import Final

from aiohttp import web

from balancer.config import Listen
from balancer.http.api import Api
from balancer.http.connection import Connection, make_request
from balancer.http.events import Events
from balancer.http.gate import Counts, Gate
from balancer.http.hands import Hands
from balancer.http.limits import LIMITS, Limits
from balancer.http.routes import routes
from balancer.service.log import Log

BACKLOG: Final = 1024  # connections that the kernel holds while the loop is busy
FLUSH_STEP: Final = 0.01  # s between two looks at what clients have not yet taken
ALIVE_TIMEOUT: Final = 1.0  # s; a unix socket that somebody serves accepts at once


class Server:
    """The API on its sockets."""

    def __init__(self, hands: Hands, *, limits: Limits = LIMITS) -> None:
        self._log = hands.log
        self._limits = limits
        self._events = Events(hands, limits)
        self._gate = Gate(limits, hands.log)
        self._api = Api(routes(hands, limits, self._events), config=hands.config, log=hands.log, gate=self._gate)
        self._listener: _Listener | None = None
        self._servers: list[asyncio.Server] = []
        self._paths: list[tuple[Path, int]] = []

    def counts(self) -> Counts:
        """What came in so far, for the metrics."""
        return self._gate.counts()

    async def start(self, listen: Sequence[Listen]) -> list[str]:
        """Bind every address and serve on it; tell the addresses as they became.

        Raises: OSError naming the address that cannot be bound; then none is.
        """
        self._listener = _Listener(self._api, limits=self._limits, log=self._log, gate=self._gate)
        bound: list[str] = []
        for each in listen:
            try:
                bound += await self._bind(each, self._listener)
            except OSError as error:
                self._close()
                reason = str(error) if error.strerror is None else error.strerror
                if error.errno is not None and reason.startswith("error while attempting to bind"):
                    reason = strerror(error.errno)  # asyncio's sentence has the address again
                raise OSError(error.errno, f"cannot listen on {each}: {reason}") from error
        return bound

    async def stop(self, *, grace: float) -> None:
        """Stop serving: event streams at once, answers under way within `grace` seconds."""
        self._close()
        self._events.end()
        listener = self._listener
        if listener is None:
            return
        self._listener = None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        connections = [each for each in listener.connections if isinstance(each, Connection)]
        listener.pre_shutdown()
        await listener.shutdown(grace / 2)  # aiohttp waits twice: for the handlers, then for their tasks
        while any(each.unsent for each in connections) and loop.time() < deadline:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(FLUSH_STEP)
        for each in connections:
            each.abort()
        await asyncio.sleep(0)  # transports tell their end in the next turn of the loop

    async def _bind(self, listen: Listen, listener: _Listener) -> list[str]:
        loop = asyncio.get_running_loop()
        if listen.path is not None:
            await _refuse_if_served(listen.path)
            self._servers.append(await loop.create_unix_server(listener, listen.path, backlog=BACKLOG))
            self._paths.append((Path(listen.path), _inode(listen.path)))
            return [str(listen)]
        assert listen.port is not None, "an address is a path, or a host and a port"
        server = await loop.create_server(listener, listen.host, listen.port, backlog=BACKLOG)
        self._servers.append(server)
        return [_url(each) for each in server.sockets]

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path, inode in self._paths:
            # Only our own: a successor may have bound the same path by now.
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._paths.clear()


class _Listener(web.Server):
    """Makes a `Connection` for every client."""

    def __init__(self, api: Api, *, limits: Limits, log: Log, gate: Gate) -> None:
        super().__init__(api.handle, request_factory=make_request)
        self._limits = limits
        self._log = log
        self._gate = gate

    def __call__(self) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self, loop=loop, limits=self._limits, log=self._log, gate=self._gate)


async def _refuse_if_served(path: str) -> None:
    # The loop removes a socket file that is in the way: right for a dead daemon's, a theft from a living one.
    try:
        async with asyncio.timeout(ALIVE_TIMEOUT):
            _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except TimeoutError:
        pass  # its queue is full: somebody has it
    else:
        writer.close()
        await writer.wait_closed()
    raise OSError(errno.EADDRINUSE, "another process serves this socket")


def _inode(path: str) -> int:
    return Path(path).stat().st_ino


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if bound.family == socket.AF_INET6 else f"http://{host}:{port}"
