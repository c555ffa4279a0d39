"""One client's connection: aiohttp's protocol, with the envelope on its own errors and a limit on slow headers.

Theory of operation: aiohttp answers a request that it cannot parse by itself, in text and with a traceback in
the log. Here such an error is one log line and the envelope. aiohttp has no limit on the time that a header may
take either: the first byte outside of a request starts a watch, and the request's beginning ends it. One timer
at a time is kept per connection, so that a busy one pays a comparison and not a timer per request. A connection
that never says anything is closed when it has been idle for long; older aiohttp keeps it for ever.

At the end of the daemon a connection retires: what it sent is answered, and the last of these answers says so. Of a
silent one nobody knows whether its client is sending just now; so before it is closed the kernel is asked what it
holds of it.

What this module does not know: routes and what they answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from array import array
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from balancer.http.answers import Refused, encode
from balancer.http.limits import Limits
from balancer.http.words import shown
from balancer.service.log import Log


class Connection(web.RequestHandler):
    """What aiohttp makes for each connection. `lost` is called when the client is gone; we are it of an `own`."""

    __slots__ = (
        "_busy",
        "_ending",
        "_limits",
        "_log",
        "_retiring",
        "_silence",
        "_since",
        "_watch",
        "_wire",
        "lost",
        "own",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        log: Log,
        own: bool = False,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=limits.idle,
            lingering_time=limits.linger,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own word for "none"
            auto_decompress=False,  # a small body must not become a big one; `body` refuses encoded ones
        )
        self._limits = limits
        self._log = log
        self.own = own
        self._busy = False
        self._ending = False
        self._retiring = False
        self._since: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._wire: asyncio.WriteTransport | None = None
        self.lost: Callable[[], None] | None = None

    # ---- the time a header takes ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.WriteTransport", transport)  # uvloop's is none by birth, only by its methods
        self._silence = asyncio.get_running_loop().call_later(self._limits.idle, self.force_close)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if data and self._since is None and not self._busy and not self._ending:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            if self._watch is None:
                self._watch = loop.call_later(self._limits.header, self._look)
        super().data_received(data)

    def begin(self) -> None:
        """A request's header is complete."""
        self._busy = True
        self._since = None

    def end(self, *, closing: bool) -> None:
        """Its handler is done; `closing` when no other request will be read."""
        self._busy = False
        self._ending = self._ending or closing

    def _look(self) -> None:
        self._watch = None
        if self._since is None or self.transport is None or self._ending:
            return
        loop = asyncio.get_running_loop()
        due = self._since + self._limits.header
        if loop.time() < due:
            self._watch = loop.call_at(due, self._look)
            return
        refusal = Refused(408, f"the header was not complete within {self._limits.header:g} s")
        self._log.warning("request.refused", status=408, reason=refusal.message)
        body = encode(refusal.body())
        self.transport.write(
            b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self._ending = True
        self.force_close()

    # ---- the end -------------------------------------------------------------------------------------

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ending = True
        self._wire = None
        for timer in (self._watch, self._silence):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if self.lost is not None:
            self.lost()

    def retire(self) -> None:
        """Answer what was sent already, and take no more."""
        self._retiring = True

    @property
    def retired(self) -> bool:
        """Whether the answer that is made now is the last one."""
        return self._retiring and not self._messages

    def hang_up(self) -> None:
        """Close the connection if nothing was received that has no answer yet."""
        waits = self._waiter is not None and not self._waiter.done()
        if not waits or self._since is not None or self._messages or self._wire is None:
            return
        file = self._wire.get_extra_info("socket").fileno()
        if file < 0 or _held(file) > 0:
            return
        if self._wire.get_extra_info("sslcontext") is None and self._wire.get_write_buffer_size() == 0:
            # The transport closes in a later turn of the loop; a client that sends until then would be cut.
            with suppress(OSError), socket.socket(fileno=os.dup(file)) as same:
                same.shutdown(socket.SHUT_WR)
        self.force_close()

    def abort(self) -> None:
        """Close without waiting for a client that does not read."""
        if self._wire is not None:
            self._wire.abort()

    # ---- aiohttp's own errors ------------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's; the exception has it too
    ) -> web.StreamResponse:
        """Answer what could not be parsed. Raises: ConnectionError when there is nobody to answer."""
        if isinstance(exc, ConnectionError):
            raise exc
        if isinstance(exc, HttpProcessingError):
            self._ending = True
            refusal = _unparsed(exc)
            self._log.warning("request.refused", status=refusal.status, reason=refusal.message)
        else:
            refusal = Refused(500, "an error of ours; the log tells more")
            self._log.error("request.crashed", status=status, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun and cannot become an error")
        response = refusal.response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Take what aiohttp would log with a traceback.

        Shape: a body that breaks off after its answer was given is the client's fault, and was told already.
        """
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError | HttpProcessingError | ConnectionError):
            return
        self._log.error("request.crashed", reason=str(args[0]) if args else "", exc_info=error)


def _held(file: int) -> int:
    """How many bytes the kernel has received that nobody has read."""
    count = array("i", [0])
    ioctl(file, termios.FIONREAD, count)
    return count[0]


def _unparsed(error: HttpProcessingError) -> Refused:
    if isinstance(error, LineTooLong):
        return Refused(431, "a line of the header is too long; 8190 bytes are allowed")
    first = str(error.message).partition("\n")[0].strip().rstrip(":")
    return Refused(400, f"not a well-formed HTTP request: {shown(first)}")
