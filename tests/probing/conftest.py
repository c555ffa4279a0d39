"""A laboratory for probes: real servers on loopback that behave as badly as a test wants them to."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from balancer.config.secret import Secret
from balancer.config.settings import ProbeSettings
from balancer.core.evidence import Evidence
from balancer.core.model import Endpoint, Pricing
from balancer.core.outcome import Outcome
from balancer.probing import KINDS, Check, Connections, ProbeResult, Scheduler, probe

PEM = Path(__file__).parent / "self_signed.pem"  # certificate and key for localhost and 127.0.0.1, until 2120
FAST = ProbeSettings(kind="models", interval=0.02, floor=0.02, timeout=2.0)
NOTHING = Evidence(None, None, "calm")
HEARD = Evidence(0.0, 0.0, "calm")
DEADLINE = 10.0  # seconds that a test waits for a condition before it fails


@dataclass
class Seen:
    """One request as a server read it, and the means to answer it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes | str | object = b"", **headers: str) -> None:
        await self.send(answer(status, body, **headers))

    async def hang(self) -> None:
        await asyncio.Event().wait()

    def reset(self) -> None:
        """Close with a RST: what is unread or unsent is thrown away."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER, 0 s
        self.writer.transport.abort()


Kinds = Mapping[Any, Check]
Behaviour = Callable[[Seen], Awaitable[None]]


def answer(status: int, body: bytes | str | object = b"", **headers: str) -> bytes:
    """Write a whole answer; an object becomes JSON."""
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
        headers.setdefault("content_type", "application/json")
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Because"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "transfer_encoding" not in headers and "content_length" not in headers:
        lines.append(f"content-length: {len(data)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def stream(*events: object, done: bool = True, event_names: bool = False) -> bytes:
    """Write a whole event stream as the body of a closing answer."""
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if event_names and isinstance(event, dict) else ""
        lines.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    if done:
        lines.append("data: [DONE]\n\n")
    return "".join(lines).encode()


@dataclass
class Server:
    """One listening server: what it was asked, and over how many connections."""

    port: int
    tls: bool
    listening: asyncio.Server
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def stop(self) -> None:
        """Let nobody connect any more; who is there stays."""
        self.listening.close()


class Laboratory:
    """Starts servers, makes values, probes, and cleans up."""

    pem = PEM
    answer = staticmethod(answer)
    stream = staticmethod(stream)

    @staticmethod
    def gate() -> tuple[dict[str, Any], Kinds]:
        return gate()

    @staticmethod
    def counted(outcome: Outcome | None = None, *, paid: bool = False) -> tuple[list[str], Kinds]:
        return counted(outcome, paid=paid)

    def __init__(self) -> None:
        self.trusting = ssl.create_default_context(cafile=str(PEM))
        self.connections = Connections(clock=time.monotonic, tls=self.trusting)
        self.servers: list[Server] = []
        self._listening: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sockets: list[socket.socket] = []

    def holds(self, sock: socket.socket) -> socket.socket:
        """Keep a socket open until the laboratory closes."""
        self._sockets.append(sock)
        return sock

    async def serve(
        self,
        behaviour: Behaviour,
        *,
        tls: bool = False,
        asking: Callable[[ssl.SSLContext], None] | None = None,
        host: str = "127.0.0.1",
    ) -> Server:
        """Answer each request of each connection by `behaviour`, until that closes the connection.

        Shape: `asking` may change the server's TLS context.
        """
        server: Server

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            number = server.connections
            while (seen := await _request(reader, writer, number)) is not None:
                server.requests.append(seen)
                await behaviour(seen)
                if writer.is_closing():
                    return

        server = await self.serve_raw(connected, tls=tls, asking=asking, host=host)
        return server

    async def serve_raw(
        self,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        *,
        tls: bool = False,
        asking: Callable[[ssl.SSLContext], None] | None = None,
        host: str = "127.0.0.1",
    ) -> Server:
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(PEM)
            if asking is not None:
                asking(context)

        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await connected(reader, writer)
            except asyncio.CancelledError:
                pass  # the laboratory closes
            finally:
                self._tasks.discard(task)
                if not writer.is_closing():
                    writer.close()

        listening = await asyncio.start_server(guarded, host, 0, ssl=context)
        self._listening.append(listening)
        server = Server(port=listening.sockets[0].getsockname()[1], tls=tls, listening=listening)
        self.servers.append(server)
        return server

    def endpoint(self, url: str, **changes: Any) -> Endpoint:
        values: dict[str, Any] = {
            "id": "author/model@door",
            "model": "author/model",
            "tag": "door",
            "provider": "door",
            "provider_name": "Door",
            "upstream_model": "model-1",
            "base_url": url,
            "pricing": Pricing(prompt=2.0, completion=8.0),
        }
        return Endpoint(**(values | changes))

    def settings(self, kind: str, **changes: Any) -> ProbeSettings:
        return ProbeSettings(**({"kind": kind, "timeout": 5.0} | changes))

    async def probe(
        self,
        url: str,
        kind: str,
        /,
        *,
        secret: str | None = None,
        api: str = "openai",
        wall: Callable[[], float] = time.time,
        endpoint: dict[str, Any] | None = None,
        **settings: Any,
    ) -> ProbeResult:
        changes = {"api": api} | ({} if endpoint is None else endpoint)
        return await probe(
            self.endpoint(url, **changes),
            self.settings(kind, **settings),
            None if secret is None else Secret(secret),
            connections=self.connections,
            wall=wall,
        )

    def desk(self, **changes: Any) -> Desk:
        return Desk(self, **changes)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. Raises: TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        await self.connections.close()
        for listening in (*self._listening, *self._sockets):
            listening.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # aborted TLS transports need a few turns of the loop to let go


class Desk:
    """A scheduler, what it found, and the time that a test gives it."""

    def __init__(self, lab, *, now=None, look=None, kinds=KINDS, on_result=None, seed=7):
        self.lab = lab
        self.now = now
        self.wall = 1_000_000.0
        self.results = []
        self.spent = []
        self.late = []
        self.scheduler = Scheduler(
            clock=self.clock,
            wall=lambda: self.wall,
            rng=random.Random(seed),
            on_result=self.results.append if on_result is None else on_result,
            look=(lambda *_: NOTHING) if look is None else look,
            on_spent=lambda *said: self.spent.append(said),
            on_start=self.late.append,
            connections=Connections(clock=self.clock, tls=lab.trusting),
            kinds=kinds,
        )

    def clock(self):
        return time.monotonic() if self.now is None else self.now

    def endpoints(self, count, url="http://127.0.0.1:1", provider="door", **changes):
        names = [f"model@{provider}/{number}" for number in range(count)]
        return {name: self.lab.endpoint(url, id=name, provider=provider, identity=url, **changes) for name in names}

    def apply(self, endpoints, settings=FAST, credential=None):
        self.scheduler.apply(endpoints, dict.fromkeys(endpoints, settings), dict.fromkeys(endpoints, credential))

    async def turns(self, endpoints, count=2):
        """Wait until every endpoint's turn has come some times more."""
        for name in endpoints:
            for _ in range(count):
                before = self.scheduler.due_at(name)
                await self.lab.until(lambda n=name, b=before: self.scheduler.due_at(n) not in (b, None))

    def due(self, endpoints):
        return [self.scheduler.due_at(name) for name in endpoints]

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.scheduler.run(), name="probe schedule")
            try:
                await asyncio.sleep(0)
                yield
            finally:
                task.cancel()
        await self.scheduler.close()


def gate() -> tuple[dict[str, Any], Kinds]:
    """A kind of probe that waits to be let through, and counts how many wait together."""
    state = {"inside": 0, "most": 0, "open": asyncio.Event()}

    async def run(client):
        state["inside"] += 1
        state["most"] = max(state["most"], state["inside"])
        try:
            await state["open"].wait()
        finally:
            state["inside"] -= 1
        return Outcome(kind="success")

    return state, {**KINDS, "models": Check(run=run, shallow=True)}


def counted(outcome: Outcome | None = None, *, paid: bool = False) -> tuple[list[str], Kinds]:
    """A kind of probe that is done at once, and the list of those it was run for.

    A paid one has a free one beside it, which answers well and is not listed.
    """
    done = []

    async def run(client):
        done.append(client.endpoint.id)
        client.sent += 1 if paid else 0
        return Outcome(kind="success") if outcome is None else outcome

    if not paid:
        return done, {**KINDS, "models": Check(run=run, shallow=True)}

    async def well(client):
        return Outcome(kind="success")

    models = Check(run=well, shallow=True)
    return done, {**KINDS, "models": models, "completion": Check(run=run, shallow=False, paid=True)}


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body, number, reader, writer)


@pytest.fixture
async def lab() -> AsyncIterator[Laboratory]:
    laboratory = Laboratory()
    yield laboratory
    await laboratory.close()


@pytest.fixture
def laboratory() -> type[Laboratory]:
    """A laboratory for a loop of a test's own, which closes it."""
    return Laboratory
