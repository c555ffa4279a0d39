"""One client's connection: aiohttp's protocol, with the envelope on its own errors and a limit on every wait.

Theory of operation: aiohttp answers a request that it cannot parse by itself, in text and with a traceback in
the log. Here such an error is one log line and the envelope. aiohttp has no limit on the time that a header may
take or on its whole size either: the first byte outside of a request starts a watch, and the request's beginning
ends it. One timer at a time is kept per connection: a busy one pays a comparison and not a timer per request.

Behind a request that takes its time, as an event stream does, it reads on: 32 requests of whatever size. Here
little is read beyond what is under way, and the rest waits in the kernel until its turn comes.

Nor has it one for clients that do not take their answers: it begins no other request before the last answer fits
into the transport's buffer, but it waits for that for ever, and so does a transport that is closing. Here both end.

At the end of the daemon a connection retires: what it sent is answered, and the last of these answers says so. Of a
silent one nobody knows whether its client is sending just now; so before it is closed the kernel is asked what it
holds of it.

What this module does not know: routes and what they answer, and how many connections there may be.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from yarl import URL  # what aiohttp takes addresses for

from balancer.http.answers import Refused
from balancer.http.bodies import Body
from balancer.http.gate import Gate
from balancer.http.header import begun, fault, too_long, unparsed
from balancer.http.limits import HEADER_MAX, Limits
from balancer.http.peers import peer
from balancer.http.wire import half_close, held
from balancer.service.log import Log

BUFFER: Final = (
    65_536  # bytes that aiohttp reads ahead of a handler; twice that is held before the client must wait
)
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # struct linger: on, for no time
AHEAD_MAX: Final = HEADER_MAX  # bytes; a full row of 32 usual requests is half of it
OWN_IDLE: Final = 86_400.0  # s: we ask ourselves as often as the service manager wants, and it may want it rarely
DOUBT: Final = 0.02  # s; a request whose header is complete begins within two turns of the loop
DOUBTS: Final = 3  # looks after the first, so that a late loop has had those turns


class Connection(web.RequestHandler):
    """What aiohttp makes for each connection. `lost` is called when the client is gone; we are it of an `own`."""

    __slots__ = (
        "_ahead", "_behind", "_body", "_busy", "_doubt", "_ending", "_fault", "_gate", "_header", "_last",
        "_leaving", "_limits", "_log", "_retiring", "_silence", "_since", "_stuck", "_watch", "_whole", "_wire",
        "lost", "own",
    )  # fmt: skip

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        log: Log,
        gate: Gate,
        own: bool = False,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=OWN_IDLE if own else limits.idle,
            lingering_time=limits.linger,
            read_bufsize=BUFFER,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own word for "none"
            auto_decompress=False,  # a small body must not become a big one; `body` refuses encoded ones
        )
        self._limits = limits
        self._log = log
        self._gate = gate
        self.own = own
        self._busy = False
        self._ending = False
        self._retiring = False
        self._ahead = 0  # bytes that came behind the request under way and wait for their turn
        self._header = 0  # bytes since the first one; only a header's while no request begins
        self._since: float | None = None  # when a header began
        self._behind: float | None = None  # when a request ended behind which one may have begun
        self._whole = True  # whether what came last ended as headers do
        self._watch: asyncio.TimerHandle | None = None
        self._doubt: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._wire: asyncio.WriteTransport | None = None
        self._body: Body | None = None
        self._fault: Refused | None = None
        self._last = False  # aiohttp loses what comes behind a wish for another protocol, and would mix up answers
        self.lost: Callable[[], None] | None = None

    @property
    def peer(self) -> str:
        """Who is at the other end."""
        return peer(self._wire)

    # ---- the time and the size of a header -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.WriteTransport", transport)  # uvloop's is none by birth, only by its methods
        if not self.own:  # it asks whether we are well, and is never in the way of others
            self._silence = asyncio.get_running_loop().call_later(self._limits.first_byte, self._give_up_silence)
            self._gate.crowd.arrive(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        behind = self._messages or (self._busy and not self._takes_body())  # of a body its reader says how much
        if data and not (behind or self._busy or self._ending):
            loop = asyncio.get_running_loop()
            if self._since is None:
                self._since = loop.time()
                self._behind = None
                self._header = 0
                self._gate.crowd.wait(self)
                if self._watch is None:
                    self._watch = loop.call_later(self._limits.header, self._look)
            self._header += len(data)
            if self._header > HEADER_MAX and self._doubt is None:
                self._doubt = loop.call_later(DOUBT, self._measure, self._since, DOUBTS)
        if data:
            self._whole = data.endswith(b"\r\n\r\n")
        super().data_received(data)
        if behind:  # only now, as aiohttp reads on at the end of each body
            self._read_ahead(len(data))

    def judge(self, message: RawRequestMessage) -> None:
        """Look at a header before its request begins."""
        self._fault = fault(message)
        self._last = message.upgrade

    def begin(self) -> None:
        """A request's header is complete. Raises: Refused, and then nothing begins."""
        if self._fault is not None:
            raise self._fault
        self._busy = True
        self._since = self._behind = None
        if self._ahead > 0:
            self._catch_up()
        self._gate.crowd.work(self)

    def end(self, *, closing: bool) -> None:
        """Its handler is done; `closing` when no other request will be read."""
        self._busy = False
        self._ending = self._ending or closing
        self._gate.crowd.wait(self)
        if self._body is not None:
            self._body.close()
            self._body = None
        if self._ahead > 0:
            self._catch_up()
        if not (self._whole or self._messages or self._ending):  # after a body, or in the middle of a header
            loop = asyncio.get_running_loop()
            self._behind = loop.time()
            if self._watch is None:
                self._watch = loop.call_later(self._limits.header, self._look)

    def _read_ahead(self, size: int) -> None:
        self._ahead += size
        if self._ahead > AHEAD_MAX and self._wire is not None:
            with suppress(RuntimeError):  # uvloop's word for "closing"
                cast("asyncio.Transport", self._wire).pause_reading()

    def _catch_up(self) -> None:
        """Read on as soon as nothing more is held, or what is under way needs it."""
        if self._messages or (self._busy and not self._takes_body()):
            return
        paused, self._ahead = self._ahead > AHEAD_MAX, 0
        if paused and not self._ending and not self._reading_paused:
            self.resume_reading(resume_parser=False)

    def _takes_body(self) -> bool:
        return self._current_request is not None and not self._current_request.content.is_eof()

    def _measure(self, since: float, left: int) -> None:
        self._doubt = None
        if self._since != since or self._ending or self._messages:
            return  # it was a whole request, and the rest of it a body or others
        if left > 0:
            self._doubt = asyncio.get_running_loop().call_later(DOUBT, self._measure, since, left - 1)
            return
        self._refuse(too_long())

    def _look(self) -> None:
        self._watch = None
        began = self._behind if self._since is None else self._since
        if began is None or self.transport is None or self._ending:
            return
        loop = asyncio.get_running_loop()
        due = began + self._limits.header
        if loop.time() < due:
            self._watch = loop.call_at(due, self._look)
            return
        if self._messages:  # it is complete, and only waits until its client takes the answer before
            self._since = self._behind = None
            return
        if self._since is None and not begun(self._parser):
            self._behind = None
            return
        self._gate.lost_patience("header")
        self._refuse(Refused(408, f"the header was not complete within {self._limits.header:g} s"))

    def refuse_version(self) -> None:
        """Answer a request in another version of HTTP in our own: aiohttp would say that it speaks theirs too.

        Raises: ConnectionError, as nobody is to be answered any more.
        """
        self._refuse(Refused(400, "not a well-formed HTTP request: its version is not supported; use HTTP/1.1"))
        raise ConnectionError("the answer is out")

    def _refuse(self, refusal: Refused) -> None:
        """Answer without aiohttp, and close."""
        self._gate.complaints.tell("request.refused", status=refusal.status, reason=refusal.message, peer=self.peer)
        self._ending = True
        if self.transport is not None:
            self.transport.write(refusal.last_words())
        self.force_close()

    def _give_up_silence(self) -> None:
        self._gate.lost_patience("first_byte")
        self.force_close()

    # ---- bodies and answers --------------------------------------------------------------------------

    def read_body(self) -> Body:
        """Begin to read a request's body; its room is given back when the request is answered."""
        assert self._body is None, "a request has one body"
        self._body = self._gate.bodies.begin()
        return self._body

    def wait(self, *, waiting: bool) -> None:
        """Say whether a request under way waits for its client."""
        if waiting:
            self._gate.crowd.wait(self)
        else:
            self._gate.crowd.work(self)

    def lost_patience(self) -> None:
        """The body took too long."""
        self._gate.lost_patience("body")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = asyncio.get_running_loop().call_later(self._limits.answer, self._cut_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._let_go_of_stuck()

    def _let_go_of_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _cut_off(self) -> None:
        self._gate.lost_patience("answer")
        self._reset()

    # ---- the end -------------------------------------------------------------------------------------

    async def start(self) -> None:
        try:
            await super().start()
        except Exception as error:  # not of a handler: of aiohttp itself, and nobody else would hear of it
            self._log.error("request.crashed", exc_info=error)
            self.abort()
        finally:
            # The transport is closing by now, and does so once the client has taken everything.
            if self._wire is not None:
                self._leaving = asyncio.get_running_loop().call_later(self._limits.answer, self._cut_off)

    def evict(self) -> None:
        """Close at once: somebody else needs the place."""
        if self.writing_paused:
            doing = "answer"
        elif self._busy:
            doing = "body"
        else:
            doing = "header" if self._since is not None else "nothing"
        self._gate.complaints.tell("connection.evicted", peer=self.peer, waited_for=doing)
        self._reset()

    def _reset(self) -> None:
        """Close and forget what was not taken: otherwise the kernel keeps it for the client, megabytes of it."""
        wire = None if self._wire is None else self._wire.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ending = True
        self._wire = None
        self._gate.crowd.leave(self)
        self._let_go_of_stuck()
        for timer in (self._watch, self._doubt, self._silence, self._leaving):
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
        return self._last or (self._retiring and not self._messages)

    def hang_up(self) -> None:
        """Close the connection if nothing was received that has no answer yet."""
        waits = self._waiter is not None and not self._waiter.done()
        if not waits or self._since is not None or self._messages or self._wire is None:
            return
        file = self._wire.get_extra_info("socket").fileno()
        if file < 0 or held(file) > 0:
            return
        if self._wire.get_extra_info("sslcontext") is None and self._wire.get_write_buffer_size() == 0:
            # The transport closes in a later turn of the loop; a client that sends until then would be cut.
            half_close(file)
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
        if isinstance(exc, HttpProcessingError):  # nobody knows the version of it, and aiohttp would say HTTP/1.0
            self._refuse(unparsed(exc))
            raise ConnectionError("the answer is out")
        if isinstance(exc, Refused):
            self._ending = True
            refusal = exc
            self._gate.complaints.tell("request.refused", status=exc.status, reason=exc.message, peer=self.peer)
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


def make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Make a request of what was parsed.

    Source: for `CONNECT` without a target aiohttp's parser (3.14) gives no address, and its own request crashes.
    """
    if cast("URL | None", message.url) is None:
        message = message._replace(path="*", url=URL("/"))
    if isinstance(protocol, Connection):
        protocol.judge(message)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())
