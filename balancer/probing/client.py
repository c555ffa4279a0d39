"""One probe's HTTP/1.1 client: requests go out, answers come in bounded pieces, connections go back.

Theory of operation: a request that may be repeated takes the endpoint's kept connection, if there is one. A server
may close it at any moment, so a kept connection that breaks before the first byte of an answer (or says 408, which
is what some servers say on their way out) is tried once more on a fresh one before it counts. So is one that stays
silent: the network may have forgotten it. That takes a share of the probe's time, and where it would leave none for
an answer as slow as the slowest, a fresh connection is opened at once.

What costs money or acts is sent once, and always on a fresh connection: of a kept one that breaks nobody can tell
whether the server had begun with it, or had closed it already.

The credential goes only into `identity`, and a kind decides whom it sends that to. `Accept-Encoding:
identity` asks for plain bodies; gzip and deflate are read all the same, since a server that compresses unasked
still serves its clients well.

What this module does not know: which answers are good (`kinds`), and the total timeout (`probe`).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import h11

from balancer.config.secret import Absent, Secret
from balancer.config.settings import ProbeSettings
from balancer.core.model import Endpoint
from balancer.core.outcome import Outcome
from balancer.probing.connection import (
    Connection,
    Connections,
    Handshake,
    Route,
    below,
    origin_of,
    target_of,
)
from balancer.probing.dialects import DIALECTS, DialectRules
from balancer.probing.failure import Failure
from balancer.probing.inflate import Inflate
from balancer.probing.lookup import resolved
from balancer.probing.opening import open_connection
from balancer.probing.trace import SNIPPET_MAX, Trace
from balancer.probing.trust import Trust
from balancer.probing.tunnel import login

USER_AGENT: Final = "balancer-probe"
ERROR_BODY_MAX: Final = 16_384  # bytes of an error's body that are looked at: the message comes first
ERROR_BODY_WAIT: Final = 1.0  # seconds; the status is the verdict, its explanation is not worth a timeout
INFORMATIONAL_MAX: Final = 20  # 1xx answers before the real one; more is a game
DRAIN_WAIT: Final = 0.25  # seconds given to an answer's end so that its connection can be kept
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # Source: RFC 9110, 9.2.2


class Answer:
    """One answer: its head at once, its body in pieces. `sent_at` is when its request went out."""

    def __init__(
        self,
        connection: Connection,
        trace: Trace,
        head: h11.Response,
        *,
        size_max: int,
        sent_at: float,
        spare: Callable[[float], float],
    ) -> None:
        self._spare = spare
        self._connection = connection
        self._trace = trace
        self._size_max = size_max
        self._received = 0  # bytes as they came, which may be more than they hold
        self._size = 0
        self._ended = False
        self.sent_at = sent_at
        self.status: int = head.status_code
        self.reason = bytes(head.reason).decode("latin-1")
        self.headers: Mapping[str, str] = _joined(head)
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        self._inflate = Inflate(encoding == "deflate") if encoding in ("gzip", "x-gzip", "deflate") else None
        self._unreadable = None if self._inflate is not None or encoding in ("identity", "") else encoding

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def chunk(self) -> bytes:
        """Wait for the next piece of the body; empty at its end.

        Raises: Failure, `probe_invalid` where the body is over the limit, `malformed` where it cannot be decoded.
        """
        if self._unreadable is not None:
            raise Failure("malformed", f"content-encoding {self._unreadable!r} was not asked for")
        while not self._ended:
            event = await self._connection.event(self._trace)
            if isinstance(event, h11.EndOfMessage):
                self._finish()
            elif isinstance(event, h11.Data):
                self._received += len(event.data)
                data = self._decoded(bytes(event.data))
                self._size += len(data)
                if max(self._size, self._received) > self._size_max:
                    said = f"the body is larger than probe.size_max ({self._size_max} bytes)"
                    raise Failure("probe_invalid", said)  # the limit is ours: no verdict about the provider
                if data:
                    return data
        return b""

    async def read(self) -> bytes:
        """Wait for the whole body. Raises: Failure."""
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    async def beginning(self) -> str:
        """Read as much of an error's body as comes soon and is worth a look. Raises: nothing."""
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(self._spare(ERROR_BODY_WAIT)):
                while sum(map(len, pieces)) < ERROR_BODY_MAX and (piece := await self.chunk()):
                    pieces.append(piece)
        except (Failure, TimeoutError):
            pass  # the status was read; half an explanation is better than none
        return b"".join(pieces)[:ERROR_BODY_MAX].decode("utf-8", "replace")

    async def ends_soon(self) -> bool:
        """Wait a moment for the body's end, throwing away what comes. Raises: nothing."""
        if self._ended:
            return True
        try:
            async with asyncio.timeout(self._spare(DRAIN_WAIT)):
                while await self.chunk():
                    pass
        except (Failure, TimeoutError):
            return False
        return True

    def _decoded(self, data: bytes) -> bytes:
        if self._inflate is None:
            return data
        try:
            # One byte more than allowed is enough to know: a bomb never unfolds.
            return self._inflate.decoded(data, self._size_max - self._size + 1)
        except zlib.error as problem:
            raise Failure("malformed", f"the compressed body is broken: {problem}") from None

    def _finish(self) -> None:
        self._ended = True
        self._trace.leave()
        if self._inflate is not None and self._size > 0 and not self._inflate.whole:
            raise Failure("malformed", "the compressed body ends early")


class Client:
    """Everything that a kind of probe needs to talk to its endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: ProbeSettings,
        credential: Secret | None,
        *,
        connections: Connections,
        trace: Trace,
        clock: Callable[[], float],
        wall: Callable[[], float],
        another: Callable[[], bool],
    ) -> None:
        self.endpoint = endpoint
        self.settings = settings
        self.trace = trace
        self.clock = clock
        self.wall = wall
        self.another = another  # counts a second request that costs money, or says that none is left
        self._began = clock()
        self._credential = credential
        self._last: Connection | None = None
        self.sent = 0  # requests that may have to be paid for, whether an answer came or not
        self.discarded: list[Outcome] = []  # what was paid for besides the answer that is told
        self.url_good = False  # whether `probe.url` is known to lead somewhere
        self._connections = connections

    @property
    def dialect(self) -> DialectRules:
        return DIALECTS[self.endpoint.api]

    @property
    def identity(self) -> Mapping[str, str]:
        """The headers that say who we are. Raises: Failure where no header can carry the credential."""
        text = None if self._credential is None else self._credential.reveal()
        if text is not None and not (text and text.isascii() and text.isprintable() and text == text.strip()):
            raise Failure("refused", "the credential is empty or holds characters that no header can carry")
        return self.dialect.headers(self._credential, self.endpoint)

    def spare(self, wanted: float) -> float:
        """Give at most `wanted` seconds to what no verdict hangs on, and never all that the probe has left."""
        left = self.settings.timeout - (self.clock() - self._began)
        return max(0.0, min(wanted, left / 2))

    def _sent_headers(self) -> dict[str, str]:
        """The operator's own headers, by lower-case name. Raises: Failure where the value of one is not there."""
        headers: dict[str, str] = {}
        for name, value in self.settings.send_headers.items():
            if isinstance(value, Absent):
                raise Failure("probe_invalid", f"no value for probe.send_headers {name}: {value.why}")
            text = value.reveal() if isinstance(value, Secret) else value
            if not (text.isascii() and text.isprintable() and text == text.strip()):
                raise Failure("probe_invalid", f"probe.send_headers {name} holds what no header can carry")
            headers[name.lower()] = text
        return headers

    def below(self, path: str) -> str:
        """Name a URL below the endpoint's `base_url`. Raises: Failure."""
        return below(self.endpoint.base_url, path)

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """Send one request and hand out its answer; after the block the connection is kept or closed.

        Raises: Failure.
        """
        route = self._route(url)
        target = target_of(url)
        lines = {"host": str(route.origin), "user-agent": USER_AGENT, "accept-encoding": "identity", **headers}
        lines |= self._sent_headers()
        if route.proxy is not None and not route.tunnels:
            target = f"http://{route.origin}{target}"
            lines |= dict(login(route.proxy))
        if body or method in ("POST", "PUT"):  # without a length some servers wait, and others say 411
            lines["content-length"] = str(len(body))
        if not self._reuses:
            lines["connection"] = "close"
        request = h11.Request(method=method, target=target, headers=list(lines.items()))
        self.trace.say(f"> {method} {target} HTTP/1.1")
        for name, value in lines.items():
            self.trace.say(f"> {name}: {value}")
        if body:
            self.trace.say(f"> {body.decode('utf-8', 'replace')}")
        connection, answer = await self._answered(route, request, body)
        kept = False
        try:
            if answer.status == 407 and route.proxy is not None and not route.tunnels:
                # As to a CONNECT: it is about our login there, and the provider has seen nothing of it.
                said = self.trace.clean(f"{answer.status} {answer.reason}", SNIPPET_MAX)
                raise Failure("probe_invalid", f"the proxy {route.proxy} refuses: {said}")
            yield answer
            kept = self._reuses and await answer.ends_soon() and connection.recycled()
            # Not after a failure: the phase that it happened in is what a timeout is told by.
            self.trace.leave()
        finally:
            if kept:
                self._connections.keep(self.endpoint.id, route, connection)
            else:
                await connection.close()

    async def resolve(self, url: str) -> list[str]:
        """Find the addresses of the URL's host. Raises: Failure."""
        names, origin = self._connections.names, origin_of(url)
        return await resolved(origin.host, origin.port, names, self.trace, ip_version=self.settings.ip_version)

    async def connect(self, url: str, *, secure: bool = False) -> Handshake | None:
        """Open a connection to the URL's host and port, for TLS when `secure`, and close it. Raises: Failure."""
        route = self._route(url)
        if route.proxy is not None and not route.tunnels:
            raise Failure(
                "probe_invalid", f"only the proxy {route.proxy} would be tried; choose another probe.kind"
            )
        connection = await open_connection(route, connections=self._connections, secure=secure, trace=self.trace)
        await connection.close()
        return connection.agreed

    @property
    def _reuses(self) -> bool:
        return self.settings.reuse and self.settings.fresh_every > 1

    def _route(self, url: str) -> Route:
        settings = self.settings
        trust = Trust(settings.ca_file, settings.client_cert.cert_file, settings.client_cert.key_file)
        origin = origin_of(url)
        proxy = settings.proxy.to(origin.scheme, origin.host, origin.port)
        if isinstance(proxy, Absent):
            raise Failure("probe_invalid", proxy.why)
        return Route(origin=origin, ip_version=settings.ip_version, trust=trust, proxy=proxy)

    def _kept(self, route: Route) -> Connection | None:
        """Take the endpoint's kept connection, unless it has served all the probes that it may."""
        kept = self._connections.take(self.endpoint.id, route) if self._reuses else None
        if kept is None or kept is self._last:  # one probe's requests count once
            return kept
        if kept.probes >= self.settings.fresh_every:
            self.trace.say(f"* the kept connection has served {kept.probes} probes (probe.fresh_every)")
            kept.abort()
            return None
        kept.probes += 1
        return kept

    def _patience(self, kept: Connection) -> float | None:
        """How long a kept connection may be silent: half of what is left, or twice what it took before.

        Shape: `None` where too little would be left for another to answer.
        """
        left = self.settings.timeout - (self.clock() - self._began)
        patience = max(left / 2, 2 * kept.slowest)
        return patience if patience + kept.slowest <= left else None

    async def _answered(self, route: Route, request: h11.Request, body: bytes) -> tuple[Connection, Answer]:
        repeatable = request.method.decode() in _REPEATABLE
        kept = self._kept(route) if repeatable else None
        patience = None if kept is None else self._patience(kept)
        if kept is not None and patience is None:
            self.trace.say(f"* the kept connection once took {kept.slowest:.2f} s: no time to try another after it")
            await kept.close()
        elif kept is not None:
            self.trace.address = kept.address
            self.trace.certificate_expires = None if kept.agreed is None else kept.agreed.certificate_expires
            self.trace.say(f"* kept connection to {kept.address} port {route.origin.port}")
            self._last = kept
            try:
                async with asyncio.timeout(patience):
                    return kept, await self._exchange(kept, request, body)
            except TimeoutError:
                said = f"* no answer on the kept connection after {patience:.2f} s"
                self.trace.say(f"{said}; trying once more on a fresh connection")
                self.trace.restart()
            except Failure as failure:
                if failure.kind != "reset":
                    raise
                self.trace.say(f"* {failure.detail}; trying once more on a fresh connection")
                self.trace.restart()
        secure = route.origin.scheme == "https"
        fresh = await open_connection(route, connections=self._connections, secure=secure, trace=self.trace)
        self._last = fresh
        self.sent += 0 if repeatable else 1
        return fresh, await self._exchange(fresh, request, body)

    async def _exchange(self, connection: Connection, request: h11.Request, body: bytes) -> Answer:
        """Send, and wait for the head of the answer; the connection does not outlive a failure."""
        try:
            sent_at = self.clock()
            await connection.send(request, body, self.trace)
            informational = 0
            while isinstance(head := await connection.event(self.trace), h11.InformationalResponse):
                self.trace.say(f"< HTTP/1.1 {head.status_code}")
                informational += 1
                if informational > INFORMATIONAL_MAX:
                    raise Failure("malformed", f"more than {INFORMATIONAL_MAX} informational answers")
            assert isinstance(head, h11.Response)
            if head.status_code == 408 and connection.kept:
                raise Failure("reset", "the kept connection was timed out by the server")
            if head.status_code > 599:
                raise Failure("malformed", f"status {head.status_code} is not an HTTP status")
        except BaseException:
            await connection.close()
            raise
        connection.slowest = max(connection.slowest, self.clock() - sent_at)
        size_max = self.settings.size_max
        answer = Answer(connection, self.trace, head, size_max=size_max, sent_at=sent_at, spare=self.spare)
        self.trace.say(f"< HTTP/1.1 {answer.status} {answer.reason}")
        for name, value in answer.headers.items():
            self.trace.say(f"< {name}: {value}")
        return answer

    def explained(self, answer: Answer, text: str) -> str:
        """Say a status and the beginning of its body in one line without the credential.

        Shape: of a redirect, which is not followed, it says where it leads.
        """
        head = self.trace.clean(f"{answer.status} {answer.reason}", SNIPPET_MAX)
        if 300 <= answer.status <= 399 and "location" in answer.headers:
            text = f"not followed: {answer.headers['location']}"
        snippet = self.trace.clean(text, SNIPPET_MAX)
        return f"{head}: {snippet}" if snippet else head


def _joined(head: h11.Response) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
