"""One TCP or TLS connection that carries HTTP/1.1, and the idle ones that are kept between probes.

Theory of operation: h11 holds the protocol's rules, this module moves the bytes, and every size is bounded: headers
by `HEADERS_MAX`, bodies by the reader (`client.Answer`).

A connection is kept after an exchange that ended cleanly. It is kept per endpoint and not per host, so
that one endpoint's broken connection is never another's failure.

What this module does not know: how a connection is opened (`opening`), credentials, dialects, and what an answer
means.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

import h11

from balancer.config.proxies import Proxy
from balancer.config.settings import IpVersion
from balancer.probing.failure import Failure, of
from balancer.probing.lookup import Lookup, Names
from balancer.probing.room import kept_max
from balancer.probing.trace import Trace
from balancer.probing.trust import Contexts, Trust, default_tls

HEADERS_MAX: Final = 65_536  # bytes; ten times what chatty providers send, and nginx's default is 32 KiB
READ_MAX: Final = 16_384  # bytes a read: one TLS record
IDLE_MAX: Final = 110.0  # seconds; load balancers and NATs silently forget idle connections from 2 minutes on
SWEEP: Final = 2.0  # seconds between two looks at all idle connections: 2,000 of them take a millisecond
ANSWERS_MAX: Final = 60.0  # seconds for which the answer of a proxy shows that it works: two usual intervals
TURN: Final = 50  # pieces of an answer between two turns of the loop: one or two milliseconds
CLOSE_MAX: Final = 1.0  # seconds; an aborted transport closes within a turn of the loop
BEGINNING_MAX: Final = 20  # characters of what is no HTTP: enough for the banner of another protocol
URLS_MAX: Final = 8192  # that are taken apart once and not at every probe; it costs 0.4 kB an endpoint
_URL_SAFE: Final = "%/:=&?~#+!$,;'@()*[]"  # what may stand in a target as it is; source: RFC 3986
AT_ONCE_MAX: Final = 65_536  # bytes that a system takes without waiting; our own requests have a hundredth

T = TypeVar("T")
Event = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whom a connection leads to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a connection gets to its origin: what two probes must have in common to share one."""

    origin: Origin
    ip_version: IpVersion = "any"
    trust: Trust = field(default_factory=Trust)
    proxy: Proxy | None = None

    @property
    def tunnels(self) -> bool:
        """Whether a proxy only passes the bytes on; it reads and writes the messages of plain HTTP itself."""
        return self.proxy is not None and self.origin.scheme == "https"


def split(url: str) -> SplitResult:
    """Take a URL apart. Raises: Failure (`probe_invalid`): it comes from a configuration."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read for its check of the range
    except ValueError as problem:
        raise Failure("probe_invalid", f"not a URL: {problem}") from None
    return parts


@lru_cache(maxsize=URLS_MAX)
def origin_of(url: str) -> Origin:
    """Read scheme, host and port of an absolute URL. Raises: Failure (`probe_invalid`)."""
    parts = split(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise Failure("probe_invalid", "not an http:// or https:// URL with a host")
    default = 443 if parts.scheme == "https" else 80
    return Origin(scheme=parts.scheme, host=parts.hostname, port=default if parts.port is None else parts.port)


@lru_cache(maxsize=URLS_MAX)
def target_of(url: str) -> str:
    """Write what a request line asks an absolute URL's origin for. Raises: Failure (`probe_invalid`)."""
    parts = split(url)
    target = quote(parts.path, safe=_URL_SAFE) or "/"
    return f"{target}?{quote(parts.query, safe=_URL_SAFE)}" if parts.query else target


@lru_cache(maxsize=URLS_MAX)
def below(base_url: str, path: str) -> str:
    """Name a URL below another, with both queries; what both give, `path` has the word on.

    Raises: Failure (`probe_invalid`).
    """
    base, wanted = split(base_url), split(path)
    whole = f"{base.path.rstrip('/')}/{wanted.path.lstrip('/')}"
    given = {part.partition("=")[0] for part in wanted.query.split("&")}
    kept = [part for part in base.query.split("&") if part and part.partition("=")[0] not in given]
    query = "&".join([*filter(None, [wanted.query]), *kept])
    return urlunsplit((base.scheme, base.netloc, whole, query, ""))


class Handshake(NamedTuple):
    """What a TLS handshake agreed upon; `certificate_expires` in Unix time, `None` where nobody says."""

    protocol: str
    cipher: str
    certificate_expires: float | None


class Connection:
    """An open connection and the HTTP/1.1 state of both ends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        address: str,
        agreed: Handshake | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._http = _http()
        self._ended = False
        self._spoilt = False
        self._early = b""  # what was answered while the request was still being sent
        self.address = address
        self.agreed = agreed
        self.answered = False
        self._events = 0
        self.probes = 1
        self.slowest = 0.0  # seconds from a request to the head of its answer
        self.kept_at: float | None = None

    @property
    def kept(self) -> bool:
        """True where an earlier probe used this connection."""
        return self.kept_at is not None

    @property
    def ended(self) -> bool:
        """True once one of both ends is closed."""
        return self._reader.at_eof() or self._writer.is_closing()

    @property
    def usable(self) -> bool:
        """False once the server has closed its end, or has said what nobody asked for.

        Source: RFC 9112, 9.2: such an answer would be taken for that of the next request.
        """
        if self._spoilt or self.ended:
            return False
        reading = self._reader.read(1)
        try:
            reading.send(None)  # its first step: it ends where anything has come, and waits otherwise
        except (StopIteration, OSError):
            self._spoilt = True
            return False
        reading.close()
        # A loop that was held up has not read yet what waits in the system.
        waiting = select.poll()
        waiting.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not waiting.poll(0)

    async def send(self, request: h11.Request, body: bytes, trace: Trace) -> None:
        """Send one whole request. Raises: Failure."""
        self.answered = False
        data = self._http.send(request)
        if body:
            data += self._http.send(h11.Data(data=body))
        data += self._http.send(h11.EndOfMessage())
        trace.enter("request")
        self._writer.write(data)
        if len(data) > AT_ONCE_MAX:
            await self._send_rest(trace)
        trace.enter("first_byte")

    async def _send_rest(self, trace: Trace) -> None:
        """Wait until a large request is sent, or the server answers before that. Raises: Failure.

        Source: RFC 9112, 9.6: a server that does not want it answers, closes, and resets what still comes. Of a
        connection that was reset nothing is read any more, so the answer is read as it comes.
        """
        self._writer.transport.set_write_buffer_limits(0)  # sent is what the system has taken
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_tried(self._writer.drain()), name="request")
            reading = tasks.create_task(_tried(self._reader.read(READ_MAX)), name="early answer")
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and sending.result() is not None:
                await asyncio.wait((reading,))  # a connection that is gone ends it
            early = reading.result() if reading.done() else b""
            sending.cancel()
            reading.cancel()
        if isinstance(early, OSError):
            raise known(early, trace, answered=False)
        self._early = early

    async def event(self, trace: Trace) -> Event:
        """Wait for the next piece of the answer. Raises: Failure."""
        self._events += 1
        if self._events % TURN == 0:
            await asyncio.sleep(0)  # a read of what is buffered does not wait, and a decision must not either
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data, self._early = self._early, b""
                if not data:
                    data = await self._reader.read(READ_MAX)
                if data and not self.answered:
                    self._first_bytes(data, trace)
                self._ended = not data
                self._http.receive_data(data)
        except OSError as problem:
            raise known(problem, trace, answered=self.answered) from None
        except h11.RemoteProtocolError as problem:
            if self._ended and not self.answered:
                raise Failure("reset", "the server closed the connection without an answer") from None
            if self._ended:
                raise Failure("stream", "the server closed the connection in the answer") from None
            raise Failure("malformed", f"not HTTP/1.1: {problem}") from None
        assert isinstance(event, Event)  # h11 pauses and closes only after the end of a message
        return event

    def recycled(self) -> bool:
        """Make ready for another request; false when this connection cannot carry one."""
        states = (self._http.our_state, self._http.their_state)
        if self._writer.transport.get_write_buffer_size() > 0:
            return False  # answered early: the rest of the request would be the beginning of the next
        # What else has come by then is looked at when it is taken, with what comes later.
        if states != (h11.DONE, h11.DONE) or self._http.trailing_data[0] or self.ended:
            return False
        self._http.start_next_cycle()
        return True

    def abort(self) -> None:
        """Close at once. TLS says goodbye on the way out and does not wait to hear it back."""
        if not self._writer.is_closing():
            self._writer.close()
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close and wait until the socket is gone."""
        self.abort()
        with suppress(OSError):  # how it ended does not matter any more
            async with asyncio.timeout(CLOSE_MAX):
                await self._writer.wait_closed()

    def _first_bytes(self, data: bytes, trace: Trace) -> None:
        self.answered = True
        trace.enter("transfer")
        # h11 waits for a whole header block before it judges; a banner of some other protocol never has one.
        if not data.startswith(b"HTTP/"[: len(data)]):
            begins = trace.clean(data.decode("latin-1"), BEGINNING_MAX)
            raise Failure("malformed", f"not HTTP: the answer begins with {begins!r}")


def _http() -> h11.Connection:
    return h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=HEADERS_MAX)


async def _tried(work: Awaitable[T]) -> T | OSError:
    """Wait for work that may break, and give what broke instead of raising it."""
    try:
        return await work
    except OSError as problem:
        return problem


def known(problem: OSError, trace: Trace, *, answered: bool) -> Failure:
    """Name the failure behind what broke in the present phase."""
    failure = of(problem, phase=trace.phase, answered=answered)
    assert failure is not None  # every OSError within a phase has a row
    return failure


class Connections:
    """The connections of a process's probes: how names and trust become one, and the idle ones, by endpoint id.

    Shape: at most one idle connection per endpoint, and `kept_max` in all. Every `SWEEP` seconds those are
    closed that the server closed, or that nobody took for `IDLE_MAX`; for that, connections are kept in a running
    loop.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        tls: Callable[[], ssl.SSLContext] | ssl.SSLContext = default_tls,
        lookup: Lookup = socket.getaddrinfo,
        kept_max: Callable[[], float] = kept_max,
    ) -> None:
        self.names = Names(lookup, clock=clock, make_room=self.make_room)
        self._kept_max = kept_max
        self._clock = clock
        self._contexts = Contexts(tls)
        self._idle: dict[str, tuple[Route, Connection]] = {}  # those kept longest first
        self._proxies: dict[Proxy, float] = {}  # when each that was asked for a tunnel last answered
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        return len(self._idle)

    def tls(self, trust: Trust) -> ssl.SSLContext:
        """Give the TLS context of some files. Raises: Failure where one of them cannot be used."""
        return self._contexts.of(trust)

    def take(self, endpoint: str, route: Route) -> Connection | None:
        """Hand out the endpoint's kept connection, if it leads there that way and still looks alive."""
        kept = self._idle.pop(endpoint, None)
        if kept is None:
            return None
        there, connection = kept
        assert connection.kept_at is not None
        fresh = self._clock() - connection.kept_at <= IDLE_MAX
        if there == route and fresh and connection.usable:
            return connection
        connection.abort()
        return None

    def keep(self, endpoint: str, route: Route, connection: Connection) -> None:
        """Keep a recycled connection for the endpoint's next probe, in place of the one it may have."""
        older = self._idle.pop(endpoint, None)
        if older is not None:
            older[1].abort()
        connection.kept_at = self._clock()
        self._idle[endpoint] = (route, connection)
        while len(self._idle) > self._kept_max():
            self._oldest().abort()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def forget(self, endpoints: Iterable[str]) -> None:
        """Close the kept connections of endpoints that are gone or lead elsewhere now."""
        for endpoint in endpoints:
            kept = self._idle.pop(endpoint, None)
            if kept is not None:
                kept[1].abort()

    def hear(self, proxy: Proxy) -> None:
        """Note that a proxy answers."""
        self._proxies[proxy] = self._clock()

    def answers(self, proxy: Proxy) -> bool:
        """Whether a proxy has answered lately."""
        heard_at = self._proxies.get(proxy)
        return heard_at is not None and self._clock() - heard_at <= ANSWERS_MAX

    async def make_room(self) -> bool:
        """Close the connection that is kept longest; false where none is."""
        if not self._idle:
            return False
        await self._oldest().close()
        return True

    def _oldest(self) -> Connection:
        """Take out the connection that is kept longest."""
        _, connection = self._idle.pop(next(iter(self._idle)))
        return connection

    def _sweep(self) -> None:
        now = self._clock()
        for endpoint, (_, connection) in list(self._idle.items()):
            if connection.ended or connection.kept_at is None or now - connection.kept_at > IDLE_MAX:
                del self._idle[endpoint]
                connection.abort()
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP, self._sweep) if self._idle else None

    async def close(self) -> None:
        """Close all idle connections and wait until their sockets are gone."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        idle, self._idle = self._idle, {}
        for _, connection in idle.values():
            await connection.close()
