"""What it costs to probe thousands of endpoints on kept connections, beside a bare aiohttp client of the same ones.

Run `python tests/benchmarks/probing.py`; nine minutes. Each prober runs alone in a process of its own, pinned to
one core, and the servers in another process on another core, as far as the machine has and lends them; the first
line says what was done. Plain HTTP on loopback, each target on a port of its own.

Ours is the whole daemon, built from a configuration file: schedule, table, log, API and metrics, with a key for
each provider and fifty models in its list. The bounds are for its default kind, `models`; the last lines say which
are broken, and then the exit status is 1. `tcp` opens a connection a probe and says nothing. The client is that of
aiohttp with a task for each target: it sends, reads and forgets.

Core, probes and connections are counted over a span that begins when every target was probed once. It ends before
`probe.fresh_every` opens the first connection anew, unless `--span` is some minutes. Lateness is of the whole life,
the first round with all its new connections included, as the daemon's own metric tells it. Memory is how much the
resident memory grew by from just before the first probe to the end, whatever for, per target; the last line but one
says what two parts of it are alone: the table's rows after an hour, and the kept connections with all that a first
probe brings along. The machine's speed drifts: compare ratios, each of a pass of its own. Linux only: resident
memory is read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import accumulate
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from balancer.cli.run import loop_factory
from balancer.config import Config, load_config
from balancer.core.balancer import Balancer
from balancer.core.outcome import Outcome
from balancer.daemon import Daemon
from balancer.probing import Connections, probe
from balancer.service.log import Log, configure

CORE_MAX = 15.0  # % of one
LATE_MAX = 0.020  # s, of 99 of 100 starts
MEMORY_MAX = 15.0  # kB a target

KEPT = "models"  # the default kind, on kept connections: the bounds are about it
FRESH = "tcp"  # a connection a probe, and nothing else
BARE = "bare aiohttp"

MODELS = 50  # of one provider, all in its list: some 5 kB, as real ones are
HOUR = 3600.0
JITTER = 0.1  # of the interval: every target was probed once when interval and jitter are over
PAGE = 4096  # bytes; what /proc/self/statm counts in
DEADLINE = 60.0  # s that a process may be silent beyond what it was asked to wait
FILES = 500  # that a process has open besides its connections
SHORT = 0.95  # of the probes that are due: fewer were left out, and cost nothing
LATE = "balancer_probe_lateness_seconds_bucket"
FOUND = "balancer_outcomes_total"
GOOD = 'outcome="success"'
# The metric's, by which the client's own times are counted, too.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


# ---- the world ---------------------------------------------------------------------------------------


def key(provider: int) -> str:
    return f"sk-{provider:045d}"


def written(ports: Sequence[int], *, kind: str, interval: int) -> str:
    """The configuration: a provider for every fifty targets, and each target an endpoint of one of fifty models."""
    lines = ["listen: 127.0.0.1:0", "log: {format: json}", f"probe: {{kind: {kind}, interval: {interval}s}}"]
    providers = range(0, len(ports), MODELS)
    lines += ["providers:", *[f"  provider-{each}: {{credential: {{env: KEY_{each}}}}}" for each in providers]]
    lines.append("models:")
    for model in range(min(MODELS, len(ports))):
        lines += [f"  author/model-{model}:", "    endpoints:"]
        for place in range(model, len(ports), MODELS):
            lines += [
                f"      - provider: provider-{place - model}",
                f"        model: model-{model}",
                f"        base_url: http://127.0.0.1:{ports[place]}/v1",
                "        pricing: {prompt: 1.0, completion: 2.0}",
                "        context_length: 128000",
            ]
    return "\n".join(lines)


def read(file: Path, targets: int) -> Config:
    keys = {f"KEY_{each}": key(each) for each in range(0, targets, MODELS)}
    return load_config(file, environ={**keys, "STATE_DIRECTORY": str(file.parent / "state")})


def listing() -> bytes:
    """The answer of every server."""
    models = [
        {"id": f"model-{number}", "object": "model", "created": 1_700_000_000 + number, "owned_by": "somebody"}
        for number in range(MODELS)
    ]
    body = json.dumps({"object": "list", "data": models}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


# ---- in processes of their own -----------------------------------------------------------------------


def settle_down(core: int | None, files: int) -> None:
    """Pin this process, and let it open as many files. Raises: SystemExit where it may not."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        if hard != resource.RLIM_INFINITY and hard < files:
            sys.exit(f"{files} open files are needed, and {hard} allowed; raise ulimit -n, or give fewer --targets")
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def tidied() -> int:
    """The same, with what is not used any more given back, lest what comes next be hidden in it."""
    gc.collect()
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return resident()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One moment of a process. Units: seconds, bytes."""

    at: float
    cpu: float
    resident: int


def mark() -> Mark:
    return Mark(at=time.monotonic(), cpu=time.process_time(), resident=resident())


class Served(asyncio.Protocol):
    """One connection of a server, and what all of them have in common."""

    answer = listing()
    requests = 0
    connections = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.rest = b""
        Served.connections += 1

    def data_received(self, data: bytes) -> None:
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        Served.requests += len(requests)
        for _ in requests:
            self.transport.write(self.answer)


def serve(pipe: Pipe, core: int | None, targets: int) -> None:
    """Listen on as many ports, tell them, and how many requests and connections came whenever somebody asks."""
    settle_down(core, 5 * targets + FILES)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(pipe, targets))


async def _serve(pipe: Pipe, targets: int) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Served, "127.0.0.1", 0) for _ in range(targets)]
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    while await asyncio.to_thread(pipe.recv):
        pipe.send((Served.requests, Served.connections))


async def _lived(pipe: Pipe, warm: float, span: float) -> None:
    """Tell the span's begin and end, and wait until the parent has seen enough."""
    await asyncio.sleep(warm)
    pipe.send(mark())
    await asyncio.sleep(span)
    pipe.send(mark())


def run_daemon(pipe: Pipe, core: int | None, file: Path, targets: int, warm: float, span: float) -> None:
    """Be the daemon of a configuration."""
    settle_down(core, targets + FILES)
    config = read(file, targets)

    async def life(log: Log) -> None:
        daemon = Daemon(config, log=log)
        pipe.send(tidied())
        async with daemon.running():
            await _lived(pipe, warm, span)
            pipe.send(daemon.addresses[0])
            await asyncio.to_thread(pipe.recv)

    with Path(os.devnull).open("w") as nowhere, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(life(configure(level=config.log.level, style=config.log.format, stream=nowhere)))


def run_bare(pipe: Pipe, core: int | None, ports: Sequence[int], interval: int, warm: float, span: float) -> None:
    """Be a client that asks each target once an interval, and reads."""
    settle_down(core, len(ports) + FILES)
    import aiohttp

    counts = [0] * (len(BOUNDS) + 1)

    async def ask(session: aiohttp.ClientSession, port: int) -> None:
        due = time.monotonic() + random.uniform(0.0, interval)
        headers = {"authorization": f"Bearer {key(port)}"}
        while True:
            await asyncio.sleep(due - time.monotonic())
            began = time.monotonic()
            counts[bisect_left(BOUNDS, began - due)] += 1
            async with session.get(f"http://127.0.0.1:{port}/v1/models", headers=headers) as answer:
                assert answer.status == 200
                await answer.read()
            due = max(time.monotonic(), due + interval * random.uniform(1 - JITTER, 1 + JITTER))

    async def life() -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=10 * interval)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
            pipe.send(tidied())
            asking = [tasks.create_task(ask(session, port), name=f"target {port}") for port in ports]
            await _lived(pipe, warm, span)
            pipe.send(list(accumulate(counts)))
            await asyncio.to_thread(pipe.recv)
            for task in asking:
                task.cancel()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(life())


def weigh_rows(pipe: Pipe, core: int | None, file: Path, targets: int, interval: int) -> None:
    """Tell the growth of a table that an hour of good probes is recorded in. Units: bytes."""
    settle_down(core, FILES)
    config = read(file, targets)
    table = Balancer(config, seed=1, now=0.0)
    outcome = Outcome(kind="success", status=200, shallow=True)
    before = tidied()
    for round_ in range(int(HOUR / interval)):
        for place, endpoint in enumerate(config.endpoints):
            now = interval * (round_ + place / targets)
            table.record(endpoint, outcome, now=now, source="probe", age=0.0, duration=0.001)
    pipe.send(resident() - before)


def weigh_connections(pipe: Pipe, core: int | None, file: Path, targets: int) -> None:
    """Tell the growth of a process that probes each target once and keeps its connection. Units: bytes."""
    settle_down(core, targets + FILES)
    config = read(file, targets)

    async def life() -> None:
        connections = Connections(clock=time.monotonic)
        before = tidied()
        for name, endpoint in config.endpoints.items():
            result = await probe(endpoint, config.probes[name], config.credentials[name], connections=connections)
            assert result.outcome.kind == "success", result.outcome
        assert connections.idle == targets
        pipe.send(resident() - before)
        await connections.close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(life())


# ---- measuring ---------------------------------------------------------------------------------------


@contextmanager
def process(run: Callable[..., None], *arguments: Any) -> Iterator[Pipe]:
    """Start a process that is handed its end of a pipe before its arguments; it ends when it is told anything."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=run, args=(theirs, *arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours
        with suppress(OSError):  # it has ended by itself
            ours.send(None)
        child.join(DEADLINE)
    except EOFError:
        child.join(DEADLINE)
        sys.exit(f"{run.__name__} ended early with status {child.exitcode}")
    finally:
        child.terminate()


def heard(pipe: Pipe, wait: float = 0.0) -> Any:
    """What a process says within its time."""
    if not pipe.poll(wait + DEADLINE):
        sys.exit(f"a process said nothing for {wait + DEADLINE:g} s")
    return pipe.recv()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One prober's span. Units: seconds of its core a second, a second, seconds a probe, kB a target.

    `late` counts the starts of its life that were late by at most each of `BOUNDS`, and last all of them.
    """

    core: float
    probes: float
    connects: float
    cost: float
    memory: float
    late: Sequence[float]


def quantile(late: Sequence[float], share: float) -> float:
    """A quantile of lateness in seconds, interpolated as Prometheus does it: never above the last bound."""
    rank = share * late[-1]
    place = next(place for place, count in enumerate(late) if count >= rank)
    if place == len(BOUNDS):
        return BOUNDS[-1]
    lower, before = (BOUNDS[place - 1], late[place - 1]) if place else (0.0, 0.0)
    return lower + (BOUNDS[place] - lower) * (rank - before) / max(1.0, late[place] - before)


def scraped(address: str) -> list[float]:
    """How late the daemon's probes were. Raises: SystemExit where one of them failed."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=DEADLINE)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    samples = [line.rpartition(" ") for line in text.splitlines() if line.startswith((LATE, FOUND))]
    failed = [name for name, _, n in samples if name.startswith(FOUND) and GOOD not in name and float(n) > 0]
    if failed:
        sys.exit(f"probes failed: {', '.join(failed[:5])}")
    return [float(count) for name, _, count in samples if name.startswith(LATE)]


class World:
    """The servers, and what every prober of them is given."""

    def __init__(self, servers: Pipe, folder: Path, given: argparse.Namespace, core: int | None) -> None:
        self._servers = servers
        self._ports: list[int] = heard(servers)
        self._folder = folder
        self._given = given
        self._core = core

    def file(self, kind: str) -> Path:
        """Write the configuration of that kind of probe."""
        file = self._folder / f"{kind}.yaml"
        file.write_text(written(self._ports, kind=kind, interval=self._given.interval))
        return file

    def measured(self, cell: str) -> Measured:
        """Let one prober live, and say how it went."""
        given, targets = self._given, self._given.targets
        times = ((1 + JITTER) * given.interval + 1.0, given.span)
        if cell == BARE:
            child = process(run_bare, self._core, self._ports, given.interval, *times)
        else:
            child = process(run_daemon, self._core, self.file(cell), targets, *times)
        with child as pipe:
            before: int = heard(pipe)
            begin, asked, opened = heard(pipe, times[0]), *self._served()
            end, asked_then, opened_then = heard(pipe, times[1]), *self._served()
            told = heard(pipe)
            late = scraped(told) if isinstance(told, str) else told
        lasted = end.at - begin.at
        probes = (opened_then - opened if cell == FRESH else asked_then - asked) / lasted
        return Measured(
            core=(end.cpu - begin.cpu) / lasted,
            probes=probes,
            connects=(opened_then - opened) / lasted,
            cost=(end.cpu - begin.cpu) / lasted / probes,
            memory=(end.resident - before) / targets / 1000,
            late=late,
        )

    def _served(self) -> tuple[int, int]:
        """Requests and connections so far."""
        self._servers.send(True)
        requests, connections = heard(self._servers)
        return requests, connections

    def weighed(self) -> tuple[float, float]:
        """The table's rows after an hour, and kept connections, each alone. Units: kB a target."""
        given, file = self._given, self.file(KEPT)
        with process(weigh_rows, self._core, file, given.targets, given.interval) as pipe:
            rows: int = heard(pipe)
        with process(weigh_connections, self._core, file, given.targets) as pipe:
            connections: int = heard(pipe)
        return rows / given.targets / 1000, connections / given.targets / 1000


def cores() -> tuple[int | None, int | None, str]:
    """The core of the probers, that of everything else, and what there is to say about it."""
    if not hasattr(os, "sched_setaffinity"):
        return None, None, "no process pinned: this system cannot"
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return allowed[0], allowed[0], f"everything on the only core, {allowed[0]}: lateness is the servers', too"
    return allowed[-1], allowed[0], f"probers on core {allowed[-1]}, servers on core {allowed[0]}"


def within(found: Measured) -> float:
    """The share of starts that were late by no more than is allowed."""
    return found.late[BOUNDS.index(LATE_MAX)] / found.late[-1]


def row(name: str, found: Measured, ratio: float) -> str:
    late, latest = [quantile(found.late, share) * 1000 for share in (0.5, 0.99)]
    return (
        f"{name:<13} {found.probes:>8.1f} {found.connects:>10.1f} {found.core:>6.1%} {found.cost * 1e6:>8.0f}"
        f" {ratio:>7.2f} {late:>9.1f} {latest:>8.1f} {within(found):>8.2%} {found.memory:>8.1f}"
    )


def broken(found: Sequence[Measured], wanted: float) -> list[str]:
    """Say which bounds the default kind breaks: core in the middle of its passes, the others in each.

    Shape: `wanted` are the probes that are due a second.
    """
    core, memory = median([each.core for each in found]) * 100, max([each.memory for each in found])
    least, probes = min(map(within, found)), min([each.probes for each in found])
    told = []
    if core >= CORE_MAX:
        told.append(f"{core:.1f} % of the core; under {CORE_MAX:g} % are allowed")
    if least < 0.99:
        told.append(f"{least:.2%} of the starts within {LATE_MAX * 1000:g} ms; 99 % must be")
    if memory >= MEMORY_MAX:
        told.append(f"{memory:.1f} kB a target; under {MEMORY_MAX:g} kB are allowed")
    if probes < SHORT * wanted:
        told.append(f"{probes:.1f} probes a second; {wanted:.1f} are due")
    return told


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Cost of probing many endpoints, beside a bare aiohttp client.")
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--interval", type=int, default=15, help="seconds between two probes of one target")
    parser.add_argument("--span", type=float, default=60.0, help="seconds that are counted of each life")
    parser.add_argument("--passes", type=int, default=2)
    given = parser.parse_args()
    for name, value in vars(given).items():
        if value <= 0:
            parser.error(f"--{name} must be above 0")
    return given


def main() -> int:
    """Measure and print."""
    given = asked()
    core, other, told = cores()
    settle_down(other, FILES)
    loop = "uvloop" if find_spec("uvloop") is not None else "asyncio's own loop"
    print(f"{given.targets} targets at {given.interval} s, spans of {given.span:g} s; {told}; {loop}")
    print(
        f"{'Python ' + platform.python_version():<13} {'probes/s':>8} {'connects/s':>10} {'core':>6} {'µs each':>8}"
        f" {'× bare':>7} {'late p50':>9} {'p99, ms':>8} {'< 20 ms':>8} {'kB each':>8}"
    )
    found: dict[str, list[Measured]] = {KEPT: [], FRESH: [], BARE: []}
    with tempfile.TemporaryDirectory() as folder, process(serve, other, given.targets) as servers:
        world = World(servers, Path(folder), given, core)
        for _ in range(given.passes):
            for cell, measured in found.items():
                measured.append(world.measured(cell))
            for cell, measured in found.items():
                print(row(cell, measured[-1], measured[-1].cost / found[BARE][-1].cost), flush=True)
        rows, connections = world.weighed()
    print(f"of these kB: the table's rows alone {rows:.1f} after an hour, kept connections alone {connections:.1f}")
    problems = broken(found[KEPT], given.targets / given.interval)
    if problems:
        print(*[f"TOO MUCH: {problem}" for problem in problems], sep="\n")
        return 1
    bounds = f"under {CORE_MAX:g} % of the core, 99 % within {LATE_MAX * 1000:g} ms, under {MEMORY_MAX:g} kB each"
    print(f"good: {KEPT} keeps its bounds: {bounds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
