"""One TCP or TLS connection that carries HTTP/1.1, and the idle ones that are kept between probes.

Theory of operation: opening is three phases that are timed apart: `resolve`, `connect`, `tls`. One address is
tried, the resolver's first of the wanted version, because a prober must be able to say what it tested; the failure
names the others that it left out. h11 holds the protocol's rules, this module moves the bytes, and every size is
bounded: headers by `HEADERS_MAX`, bodies by the reader (`client.Answer`).

A connection is kept after an exchange that ended cleanly. It is kept per endpoint and not per host, so
that one endpoint's broken connection is never another's failure.

What this module does not know: credentials, dialects, and what an answer means.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11

from balancer.config.proxies import Proxy
from balancer.config.settings import IpVersion
from balancer.probing.failure import Failure, of
from balancer.probing.lookup import Lookup, Names, literal, resolved
from balancer.probing.trace import Trace
from balancer.probing.trust import Contexts, Trust, default_tls
from balancer.probing.tunnel import tunnel

HEADERS_MAX: Final = 65_536  # bytes; ten times what chatty providers send, and nginx's default is 32 KiB
READ_MAX: Final = 16_384  # bytes a read: one TLS record
IDLE_MAX: Final = 110.0  # seconds; load balancers and NATs silently forget idle connections from 2 minutes on
HANDSHAKE_MAX: Final = 3600.0  # seconds; the probe's own timeout rules, not asyncio's 60 s
TURN: Final = 50  # pieces of an answer between two turns of the loop: one or two milliseconds
CLOSE_MAX: Final = 1.0  # seconds; an aborted transport closes within a turn of the loop
BEGINNING_MAX: Final = 20  # characters of what is no HTTP: enough for the banner of another protocol
ADDRESSES_SAID_MAX: Final = 3  # addresses named in a failure besides the one that was tried

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


def origin_of(url: str) -> Origin:
    """Read scheme, host and port of an absolute URL. Raises: Failure (`probe_invalid`)."""
    parts = split(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise Failure("probe_invalid", "not an http:// or https:// URL with a host")
    default = 443 if parts.scheme == "https" else 80
    return Origin(scheme=parts.scheme, host=parts.hostname, port=default if parts.port is None else parts.port)


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
        self.address = address
        self.agreed = agreed
        self.answered = False
        self._events = 0
        self.probes = 1
        self.kept_at: float | None = None

    @property
    def kept(self) -> bool:
        """True where an earlier probe used this connection."""
        return self.kept_at is not None

    @property
    def usable(self) -> bool:
        """False once the server has closed its end."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def send(self, request: h11.Request, body: bytes, trace: Trace) -> None:
        """Send one whole request. Raises: Failure."""
        self.answered = False
        data = self._http.send(request)
        if body:
            data += self._http.send(h11.Data(data=body))
        data += self._http.send(h11.EndOfMessage())
        trace.enter("first_byte")
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as problem:
            raise _known(problem, trace, answered=False) from None

    async def event(self, trace: Trace) -> Event:
        """Wait for the next piece of the answer. Raises: Failure."""
        self._events += 1
        if self._events % TURN == 0:
            await asyncio.sleep(0)  # a read of what is buffered does not wait, and a decision must not either
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(READ_MAX)
                if data and not self.answered:
                    self._first_bytes(data, trace)
                self._ended = not data
                self._http.receive_data(data)
        except OSError as problem:
            raise _known(problem, trace, answered=self.answered) from None
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
        if states != (h11.DONE, h11.DONE) or self._http.trailing_data[0] or not self.usable:
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


def _known(problem: OSError, trace: Trace, *, answered: bool) -> Failure:
    failure = of(problem, phase=trace.phase, answered=answered)
    assert failure is not None  # every OSError within a phase has a row
    return failure


async def open_connection(route: Route, *, connections: Connections, secure: bool, trace: Trace) -> Connection:
    """Resolve, connect and, when `secure`, shake hands. Raises: Failure."""
    # Made before any phase: a broken certificate store is our failure and not the server's.
    context = connections.tls(route.trust) if secure else None
    way = _direct if route.proxy is None else _proxied
    reader, writer, address = await way(route, connections.names, trace)
    agreed = None
    if context is not None:
        trace.enter("tls")
        try:
            await writer.start_tls(context, server_hostname=route.origin.host, ssl_handshake_timeout=HANDSHAKE_MAX)
        except BaseException as problem:
            # No waiting: after a failed handshake nobody tells the stream that its transport is gone.
            writer.transport.abort()
            if isinstance(problem, OSError):
                raise _known(problem, trace, answered=False) from None
            raise
        agreed = _agreed(writer)
        trace.certificate_expires = agreed.certificate_expires
        trace.say(f"* {agreed.protocol} {agreed.cipher}")
    trace.leave()
    return Connection(reader, writer, address=address, agreed=agreed)


async def _direct(
    route: Route, names: Names, trace: Trace
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Resolve and connect; answer the address too. Raises: Failure."""
    port = route.origin.port
    address, *others = await _addresses(route, names, trace)
    trace.address = address
    trace.enter("connect")
    trace.say(f"* connecting to {address} port {port}")
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError as problem:
        failure = _known(problem, trace, answered=False)
        said = f"; not tried: {', '.join(others[:ADDRESSES_SAID_MAX])}" if others else ""
        raise Failure(failure.kind, f"{failure.detail} ({address} port {port}{said})") from None
    return reader, writer, address


async def _proxied(
    route: Route, names: Names, trace: Trace
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Connect to the proxy, and for TLS through it; answer the proxy's address too. Raises: Failure.

    Shape: `local` where the proxy cannot be reached, which says nothing about the provider.
    """
    assert route.proxy is not None
    trace.proxy = str(route.proxy)
    trace.say(f"* by way of the proxy {route.proxy}")
    hop = Route(origin=Origin(scheme="http", host=route.proxy.host, port=route.proxy.port))
    try:
        reader, writer, address = await _direct(hop, names, trace)
    except Failure as failure:
        raise Failure("local", f"the proxy {route.proxy}: {failure.detail}") from None
    trace.proxy = None
    if route.tunnels:
        host = f"[{route.origin.host}]" if ":" in route.origin.host else route.origin.host
        try:
            await tunnel(reader, writer, route.proxy, f"{host}:{route.origin.port}", trace)
        except BaseException as problem:
            writer.transport.abort()
            if isinstance(problem, OSError):
                raise Failure(
                    "local", f"the proxy {route.proxy}: {_known(problem, trace, answered=False)}"
                ) from None
            raise
    return reader, writer, address


async def _addresses(route: Route, names: Names, trace: Trace) -> list[str]:
    address = literal(route.origin.host)
    if address is None:
        return await resolved(route.origin.host, route.origin.port, names, trace, ip_version=route.ip_version)
    if route.ip_version not in ("any", str(address.version)):
        raise Failure("probe_invalid", f"probe.ip_version is {route.ip_version}, and the host is {address}")
    return [route.origin.host]


def _agreed(writer: asyncio.StreamWriter) -> Handshake:
    cipher, protocol, _ = writer.get_extra_info("cipher")
    # Empty where a context of the caller's verifies nothing.
    until = writer.get_extra_info("peercert", {}).get("notAfter")
    expires = None if until is None else float(ssl.cert_time_to_seconds(until))
    return Handshake(protocol, cipher, expires)


class Connections:
    """The connections of a process's probes: how names and trust become one, and the idle ones, by endpoint id.

    Shape: at most one idle connection per endpoint, and none older than `IDLE_MAX`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        tls: Callable[[], ssl.SSLContext] | ssl.SSLContext = default_tls,
        lookup: Lookup = socket.getaddrinfo,
    ) -> None:
        self.names = Names(lookup, clock=clock)
        self._clock = clock
        self._contexts = Contexts(tls)
        self._idle: dict[str, tuple[Route, Connection]] = {}

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

    def forget(self, endpoints: Iterable[str]) -> None:
        """Close the kept connections of endpoints that are gone or lead elsewhere now."""
        for endpoint in endpoints:
            kept = self._idle.pop(endpoint, None)
            if kept is not None:
                kept[1].abort()

    async def close(self) -> None:
        """Close all idle connections and wait until their sockets are gone."""
        idle, self._idle = self._idle, {}
        for _, connection in idle.values():
            await connection.close()
