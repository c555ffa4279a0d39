"""The API on its sockets: begins everywhere or nowhere, and lets go without losing an answer.

Theory of operation: stopping goes in this order. No connection is taken any more; event streams end; every answer
from now on says that it is the connection's last. Who has sent something is answered within the grace. Who is
silent gets a last call, because a client may be sending just now, and is hung up on after it, as soon as the kernel
holds nothing of it either. What is left at the end of the grace is cut.

We ask ourselves, too, whether we answer: over a pair of sockets that is kept, because where no more files may be
open a new one could not be made, and a daemon that is well would be thought dead.

What this module does not know: where passed sockets come from, and when certificates are rotated.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from typing import Final

from aiohttp import web

from balancer.config import Listen, Token
from balancer.http.acceptor import Acceptor
from balancer.http.api import Api
from balancer.http.connection import Connection, make_request
from balancer.http.events import Events
from balancer.http.gate import Counts, Gate
from balancer.http.hands import Hands
from balancer.http.limits import LIMITS, Limits
from balancer.http.routes import routes
from balancer.http.sockets import bound, taken_over
from balancer.http.tls import PreparedTls
from balancer.service.log import Log
from balancer.service.sockets import Passed

# s that a silent connection is kept at the end: one that is used twice a second is surely told to close, and not
# cut. Longer, and those who wait for the next process would notice.
LAST_CALL: Final = 0.5
STEP: Final = 0.01  # s between two looks at who is left
CUT: Final = 0.05  # s that a handler has to end once it is cancelled; aiohttp waits twice


class Server:
    """The API on its sockets; with `asks_tokens` false to be reached by those only who may do everything."""

    def __init__(self, hands: Hands, *, limits: Limits = LIMITS, asks_tokens: bool = True) -> None:
        def tokens() -> Sequence[Token]:
            return hands.config().tokens if asks_tokens else ()

        self._log = hands.log
        self._limits = limits
        self._events = Events(hands, limits, tokens)
        self._gate = Gate(limits, hands.log)
        table = routes(hands, limits, self._events, self._gate.complaints)
        self._api = Api(table, tokens=tokens, log=hands.log, gate=self._gate)
        self._listener: _Listener | None = None
        self._acceptor: Acceptor | None = None
        self._inside: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asking = asyncio.Lock()  # one question at a time on one connection

    def counts(self) -> Counts:
        """What came in so far, for the metrics."""
        return self._gate.counts()

    async def start(
        self, listen: Sequence[Listen], *, passed: Sequence[Passed] = (), tls: PreparedTls | None = None
    ) -> list[str]:
        """Serve on the sockets that were handed over, else on every address; tell the addresses as they became.

        Shape: with `tls` on every TCP socket, and never on a unix one.
        Raises: OSError naming the address or the socket that cannot be served; then none is.
        """
        sockets = taken_over(passed) if passed else await bound(listen)
        self._listener = _Listener(self._api, limits=self._limits, log=self._log, gate=self._gate)
        context = None if tls is None else tls.context
        self._acceptor = Acceptor(
            self._listener, tls=context, limits=self._limits, log=self._log, complaints=self._gate.complaints
        )
        for each in sockets:
            self._acceptor.serve(each)
        return [each.address(tls=tls is not None) for each in sockets]

    def use_tls(self, tls: PreparedTls) -> None:
        """Use other certificates, and believe other clients, from the next connection on."""
        if self._acceptor is not None:  # a reload may come while we stop
            self._acceptor.use(tls.context)

    async def stop(self, *, grace: float) -> None:
        """Stop serving: event streams at once, answers under way within `grace` seconds."""
        listener, acceptor = self._listener, self._acceptor
        if listener is None or acceptor is None:
            return
        self._listener = self._acceptor = None
        acceptor.stop()
        if not self._asking.locked():  # a question under way is answered, and lets go by itself
            self._let_go_of_inside()
        self._events.end()
        listener.retire()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (acceptor.opening > 0 or listener.connections) and loop.time() < began + grace:
            if loop.time() >= began + LAST_CALL:
                listener.hang_up()
            await asyncio.sleep(STEP)
        acceptor.abort()
        left = listener.connections
        await listener.shutdown(CUT)
        for each in left:
            if isinstance(each, Connection):
                each.abort()
        await asyncio.sleep(0)  # transports tell their end in the next turn of the loop

    async def ask(self, target: str) -> int:
        """Ask ourselves with HEAD, over a connection that nobody else can have; the status of the answer.

        Shape: everything on the way is what others meet, but the listening socket and the token.
        Raises: OSError, EOFError or ValueError where there is no answer.
        """
        async with self._asking:
            if self._listener is None:
                raise EOFError("the API is closed")
            keeps = False
            try:
                reader, writer = self._inside = await self._connected_inside(self._listener)
                writer.write(b"HEAD %b HTTP/1.1\r\nHost: balancer\r\n\r\n" % target.encode())
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
                keeps = self._listener is not None and b"\r\nconnection: close\r\n" not in head.lower()
                return status
            finally:
                if not keeps:  # it is closed by the other end, or the rest of an answer may still come
                    self._let_go_of_inside()

    async def _connected_inside(self, listener: _Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._inside is not None and not self._inside[0].at_eof():
            return self._inside
        self._let_go_of_inside()
        ours, theirs = socket.socketpair()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(partial(listener, own=True), theirs)
            return await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise

    def _let_go_of_inside(self) -> None:
        inside, self._inside = self._inside, None
        if inside is not None:
            inside[1].close()


class _Listener(web.Server):
    """Makes a `Connection` for every client."""

    def __init__(self, api: Api, *, limits: Limits, log: Log, gate: Gate) -> None:
        super().__init__(api.handle, request_factory=make_request)
        self._limits = limits
        self._log = log
        self._gate = gate
        self._retiring = False

    def __call__(self, *, own: bool = False) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self, loop=loop, limits=self._limits, log=self._log, gate=self._gate, own=own)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._retiring and isinstance(handler, Connection):
            handler.retire()

    def retire(self) -> None:
        """Let every connection, also those to come, end with its next answer."""
        self._retiring = True
        for each in self._ours():
            each.retire()

    def hang_up(self) -> None:
        """Close the connections of which nothing was received."""
        for each in self._ours():
            each.hang_up()

    def _ours(self) -> list[Connection]:
        return [each for each in self.connections if isinstance(each, Connection)]
