"""A server on real sockets over a real table, with a clock that only a test moves."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import aiohttp
import pytest

from balancer.config import Config, Listen, ProbeSettings, Sealed, Secret, Token
from balancer.core.balancer import Balancer
from balancer.core.history import HistoryQuery, Latencies, Moment, Past, Point, Series, Uptime
from balancer.core.model import Endpoint, Model, Pricing, Provider
from balancer.core.outcome import Outcome
from balancer.http import Hands, Healthy, Ready, Reloaded, Server
from balancer.http.limits import LIMITS, Limits
from balancer.service.log import Log

MODEL = "openai/gpt-4.1"
EAST = f"{MODEL}@azure/eastus2"
OPENAI = f"{MODEL}@openai"
LLAMA = "meta/llama-3.3@local"
QUICK = Limits(first_byte=0.5, header=0.3, body=0.3, answer=0.4, idle=0.6, linger=0.3, comment=0.2)


def make_endpoint(model: str, tag: str, **changes: Any) -> Endpoint:
    provider = tag.partition("/")[0]
    values: dict[str, Any] = {
        "id": f"{model}@{tag}",
        "model": model,
        "tag": tag,
        "provider": provider,
        "provider_name": provider.title(),
        "upstream_model": model.partition("/")[2],
        "base_url": f"https://{provider}.test:8443/v1",
        "pricing": Pricing(prompt=2.0, completion=8.0),
        "context_length": 100_000,
        "identity": f"digest-of-{tag}",
    }
    return Endpoint(**{**values, **changes})


def make_config(**changes: Any) -> Config:
    endpoints = {
        each.id: each
        for each in (
            make_endpoint(MODEL, "openai", supported_parameters=frozenset({"tools", "seed"})),
            make_endpoint(
                MODEL,
                "azure/eastus2",
                region="us",
                quantization="fp8",
                pricing=Pricing(prompt=1.0, completion=4.0),
                data_collection="deny",
                input_modalities=frozenset({"text", "image"}),
            ),
            make_endpoint("meta/llama-3.3", "local", pricing=Pricing(prompt=0.0, completion=0.0)),
        )
    }
    catalog: dict[str, Any] = {
        "providers": {
            "openai": Provider(key="openai", name="OpenAI", tags=("openai",)),
            "azure": Provider(key="azure", name="Azure", tags=("azure/eastus2",)),
            "local": Provider(key="local", name="Local", tags=("local",)),
        },
        "models": {
            MODEL: Model(id=MODEL, name="GPT-4.1", aliases=("gpt-4.1",), endpoints=(OPENAI, EAST)),
            "meta/llama-3.3": Model(id="meta/llama-3.3", name="Llama", endpoints=(LLAMA,)),
        },
        "endpoints": endpoints,
        "listen": (Listen(host="127.0.0.1", port=0),),
        "probes": {key: ProbeSettings() for key in endpoints},
        "credentials": {OPENAI: Secret("sk-very-secret"), EAST: Secret("azure-very-secret"), LLAMA: None},
    }
    return Config(**{**catalog, **changes})


def make_past(query: HistoryQuery, *endpoints: str) -> Past:
    """A past with one of everything at each of these endpoints."""
    point = Point(
        start=query.since,
        outcomes={"report": {"success": 9, "timeout": 1}, "probe": {"success": 1}},
        uptime={"report": Uptime(requests=0.9, minutes=1.0, minutes_counted=1)},
        latency={"report": Latencies(p50=0.5, p75=0.75, p90=0.9, p99=2.0)},
        prompt_tokens=1000,
        completion_tokens=70,
        cost=0.25,
    )
    moment = Moment(
        at=query.since + 1.5, event="endpoint.ejected", endpoint=EAST, model=MODEL, provider=None, reporter=None,
        state="ejected", reason="five failures in a row", next_at=query.since + 11.5, enforced=True,
    )  # fmt: skip
    return Past(
        since=query.since,
        until=query.until,
        step=query.step,
        minutes_from=None,
        hours_from=query.since - 86_400,
        series=[
            Series(endpoint=each, model=each.partition("@")[0], ejections=1, outage_longest=10.0, points=[point])
            for each in endpoints
        ],
        transitions=[moment],
        transitions_left_out=0,
    )


class Lines:
    """Collects what the log would print."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **facts: Any) -> None:
        self.lines.append(("debug", event, facts))

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append(("info", event, facts))

    def warning(self, event: str, **facts: Any) -> None:
        self.lines.append(("warning", event, facts))

    def error(self, event: str, **facts: Any) -> None:
        self.lines.append(("error", event, facts))

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]

    @property
    def deeds(self) -> list[dict[str, Any]]:
        """The facts of every line about an operator, without the peer, whose port is any."""
        told = [facts for _, event, facts in self.lines if event == "operator.acted"]
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+", each["peer"]) for each in told)
        return [{key: value for key, value in each.items() if key != "peer"} for each in told]

    @property
    def others(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Every line but those about operators."""
        return [line for line in self.lines if line[1] != "operator.acted"]


class World:
    """What a daemon would be: a table, a clock at rest, and one callable for each hand."""

    def __init__(self, configuration: Config) -> None:
        self.config = configuration
        self.now = 1000.0
        self.balancer = Balancer(configuration, seed=7, now=self.now)
        self.lines = Lines()
        self.news = asyncio.Event()
        self.stopping = False
        self.changes = 0
        self.decided: list[float] = []
        self.reported: dict[str, int] = {}
        self.healthy = Healthy(healthy=True, event_loop_lag=0.001, problems=[])
        self.ready = Ready(
            ready=True,
            missing=[],
            first_picture=False,
            endpoints=len(configuration.endpoints),
            config_generation=1,
            self_suspect=False,
            self_suspect_reason=None,
            reporters_suspect=[],
            reporters_suspect_reasons={},
            store_trouble_reasons={},
        )
        self.reload: Callable[[], Awaitable[Reloaded]] = self._reload
        self.probe: Callable[[str], Awaitable[dict[str, Any]]] = self._probe
        self.recorded: list[tuple[str, Outcome, float]] = []
        self.queries: list[HistoryQuery] = []
        self.past: Callable[[HistoryQuery], Past] = lambda query: make_past(query, EAST)
        self.url = ""
        self.port = 0
        self.server: Server | None = None

    def hands(self) -> Hands:
        return Hands(
            balancer=self.balancer,
            config=lambda: self.config,
            clock=lambda: self.now,
            wall=lambda: 1_800_000_000.0 + self.now,
            changed=self.changed,
            waiting=self._waiting,
            boot="b00t",
            probe=lambda key: self.probe(key),
            reload=lambda: self.reload(),
            healthy=lambda: self.healthy,
            ready=lambda: self.ready,
            metrics=self._metrics,
            decided=self.decided.append,
            reported=self._reported,
            log=Log(self.lines),
            recorded=lambda *told: self.recorded.append(told),
            history=self._history,
        )

    def changed(self) -> None:
        self.changes += 1
        self.news.set()
        self.news.clear()

    def record(self, key: str, kind: Any, *, times: int = 1, **facts: Any) -> None:
        for _ in range(times):
            self.balancer.record(key, Outcome(kind=kind, **facts), now=self.now)
        self.changed()

    def eject(self, key: str) -> None:
        self.record(key, "server_error", times=5, status=500)

    def stop(self) -> None:
        self.stopping = True
        self.news.set()

    async def _waiting(self, after: int) -> None:
        while not self.stopping and not self.balancer.transitions(after):
            await self.news.wait()

    async def _probe(self, key: str) -> dict[str, Any]:
        if key not in self.config.endpoints:
            raise KeyError(key)
        return {"endpoint": key, "kind": "models", "outcome": "success"}

    async def _reload(self) -> Reloaded:
        self.balancer.apply(self.config, now=self.now)
        changes = {"changed": ["routing.strategy"]}
        return Reloaded(config_generation=self.balancer.generation, at_next_start=[], changes=changes)

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        kind = "application/openmetrics-text" if "openmetrics" in accept else "text/plain"
        return b"balancer_up 1\n", f"{kind}; version=1.0.0; charset=utf-8"

    async def _history(self, query: HistoryQuery) -> Past:
        self.queries.append(query)
        return self.past(query)

    def _reported(self, result: str, count: int) -> None:
        self.reported[result] = self.reported.get(result, 0) + count


@asynccontextmanager
async def serving(configuration: Config | None = None, *, limits: Limits = LIMITS) -> AsyncIterator[World]:
    world = World(make_config() if configuration is None else configuration)
    server = Server(world.hands(), limits=limits)
    (world.url,) = await server.start([Listen(host="127.0.0.1", port=0)])
    world.port = int(world.url.rpartition(":")[2])
    world.server = server
    try:
        yield world
    finally:
        world.stop()
        await server.stop(grace=1.0)


class Passed(NamedTuple):
    """A socket as a service manager hands it over."""

    name: str
    socket: socket.socket


@pytest.fixture
def passed() -> Callable[..., Passed]:
    """Make one: `passed(name, socket)`."""
    return Passed


@pytest.fixture
def make_world() -> Callable[[], World]:
    """Make a world without a server."""
    return lambda: World(make_config())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as served:
        yield served


@pytest.fixture
async def quick() -> AsyncIterator[World]:
    """The same with little patience."""
    async with serving(limits=QUICK) as served:
        yield served


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


TOKENS = (
    Token(name="reader", scopes=frozenset({"read"}), secret=Sealed("token-of-reader")),
    Token(name="reporter", scopes=frozenset({"report"}), secret=Sealed("token-of-reporter")),
    Token(name="proxy", scopes=frozenset({"read", "report"}), secret=Sealed("token-of-proxy")),
    Token(name="ops", scopes=frozenset({"admin"}), secret=Sealed("token-of-ops")),
)


@pytest.fixture
async def guarded() -> AsyncIterator[World]:
    """The same with tokens."""
    async with serving(replace(make_config(), tokens=TOKENS)) as served:
        yield served


async def send(port: int, *pieces: bytes, half_close: bool = False) -> bytes:
    """Send bytes as they are and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        answer = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if half_close:
                writer.write_eof()
        except ConnectionError:
            pass  # the server has had enough; what it said may still be there to read
        async with asyncio.timeout(10):
            try:
                while piece := await reader.read(65536):
                    answer += piece
            except ConnectionError:
                pass
        return answer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    """Make an endpoint: `endpoint(model, tag, **changes)`."""
    return make_endpoint


@pytest.fixture
def config() -> Callable[..., Config]:
    """Make the configuration of the other fixtures: `config(**changes)`."""
    return make_config


@pytest.fixture
def serve() -> Callable[..., Any]:
    """Serve another configuration: `async with serve(configuration, limits=…) as world`."""
    return serving


@pytest.fixture
def raw() -> Callable[..., Awaitable[bytes]]:
    """Send bytes as they are: `await raw(port, b"…", b"…")`."""
    return send


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for a condition: `await until(lambda: …)`."""
    return wait_until
