"""Puts the demo together: mocks, configuration, daemon, traffic, timetable, watcher and screen.

Theory of operation: everything is real and in one process: six HTTP servers, the daemon with its own sockets, two
HTTP clients. The daemon is told nothing: it sees what its probes see and what the client reports. The watcher
reads `/v1/endpoints` as any operator could, and what it sees is what the summary judges.

The health settings are the defaults. What is not default is the probe's kind, interval and timeout, and it is
printed.

What this module does not know: how a decision is made.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Any, Final, TextIO

import aiohttp

from balancer.config import parse_config
from balancer.config.settings import Config, ProbeSettings
from balancer.daemon import Daemon
from balancer.demo.client import FIRST_TOKEN_TIME, TRY_TIME
from balancer.demo.ledger import Ledger, Opinion
from balancer.demo.mock import HOST, Mock
from balancer.demo.screen import Frame, Painter, closing
from balancer.demo.summary import summarise
from balancer.demo.timetable import Fault, plan
from balancer.demo.traffic import RATE, Target, send_all, session

MODEL: Final = "demo/llama-70b"
UPSTREAM: Final = "llama-70b"
PORT: Final = 8790  # the daemon's own default, so that `balancer status` finds the demo
# A list of models would not show who cannot complete, and a second try must not be where that is found out.
PROBE_KIND: Final = "completion"
PROBE_INTERVAL: Final = 2.0
PROBE_TIMEOUT: Final = 1.0
POLL: Final = 0.25  # s between looks at the daemon's opinions
REPAINT: Final = 0.5  # s between tables on a terminal
RELINE: Final = 5.0  # s between lines elsewhere

# (key, USD per million prompt tokens, per million completion tokens, context). Neighbours of the ring are not
# neighbours in price, as a list of providers usually is not sorted by price.
PROVIDERS: Final = (
    ("alpine", 0.20, 0.60, 131_072),
    ("boreal", 0.29, 0.87, 65_536),
    ("cobalt", 0.23, 0.69, 131_072),
    ("dune", 0.32, 0.96, 131_072),
    ("ember", 0.26, 0.78, 32_768),
    ("fjord", 0.36, 1.08, 131_072),
)
KEYS: Final = tuple(key for key, *_ in PROVIDERS)


def config_text(mocks: Sequence[Mock], *, port: int) -> str:
    """The demo's `balancer.yaml`; port 0 lets the kernel choose."""
    lines = [f"listen: {HOST}:{port}", "state_dir: none", "providers:"]
    lines += [f"  {mock.key}: {{base_url: {mock.base_url}}}" for mock in mocks]
    lines += ["models:", f"  {MODEL}:", "    context_length: 131072", "    endpoints:"]
    lines += [
        f"      - {{provider: {key}, model: {UPSTREAM}, context_length: {context},"
        f" pricing: {{prompt: {prompt}, completion: {completion}}}}}"
        for key, prompt, completion, context in PROVIDERS
    ]
    lines.append(f"probe: {{kind: {PROBE_KIND}, interval: {PROBE_INTERVAL:g}s, timeout: {PROBE_TIMEOUT:g}s}}")
    return "\n".join(lines) + "\n"


async def run_demo(*, port: int | None, duration: float, seed: int, as_json: bool, out: TextIO) -> int:
    """Run the demo to its end, or until it is interrupted, and say what came of it.

    Units: `duration` in seconds, at least `DURATION_MIN`. Shape: 0, or 1 when the port is taken; words go to
    `out`, or to standard error where `out` is for the JSON object alone.
    Raises: ValueError when `duration` is too short.
    """
    faults = plan(duration=duration, seed=seed, providers=KEYS)
    words = sys.stderr if as_json else out
    if port is None:
        port = PORT if _free(PORT) else 0
        if port == 0:
            print(f"port {PORT} is taken: the API is on another one", file=words)
    async with _mocks(seed) as mocks:
        config = parse_config(config_text(mocks, port=port), source="demo", environ={})
        # Without a log: the screen tells every change of state, and a log line would tear it.
        daemon = Daemon(config, seed=seed)
        try:
            async with daemon.running():
                _introduce(config, api=daemon.addresses[0], duration=duration, words=words)
                run = _Run(daemon.addresses[0], mocks, faults, duration=duration, seed=seed)
                await run.to_its_end(None if as_json else Painter(out))
        except OSError as error:
            print(f"balancer demo: {error.strerror}; without --port it takes a free one", file=sys.stderr)
            return 1
    summary = summarise(run.ledger, duration=run.ended_at, seed=seed)
    print(json.dumps(summary) if as_json else "\n".join(closing(summary)), file=out, flush=True)
    if run.ledger.reports_lost > 0:
        print(f"{run.ledger.reports_lost} reports were not taken by the daemon", file=words)
    return 0


class _Run:
    """One run over mocks and a daemon that are up. Moments are seconds since it was made."""

    def __init__(
        self, api: str, mocks: Sequence[Mock], faults: Sequence[Fault], *, duration: float, seed: int
    ) -> None:
        self._api = api
        self._mocks = {mock.key: mock for mock in mocks}
        self._faults = faults
        self._duration = duration
        self._seed = seed
        self._began = monotonic()
        self._stop = asyncio.Event()
        self.ledger = Ledger(KEYS)
        self.ended_at = 0.0

    def elapsed(self) -> float:
        return monotonic() - self._began

    async def to_its_end(self, painter: Painter | None) -> None:
        """Run until the time is over or a signal comes; then end every task and draw once more."""
        with _interrupts(self._stop):
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._conduct(), name="demo timetable"),
                    tasks.create_task(self._watch(), name="demo watcher"),
                ]
                if painter is not None:
                    background.append(tasks.create_task(self._paint(painter), name="demo screen"))
                await send_all(
                    targets=[
                        Target(provider=mock.key, base_url=mock.base_url, model=mock.model)
                        for mock in self._mocks.values()
                    ],
                    api=self._api,
                    model=MODEL,
                    ledger=self.ledger,
                    elapsed=self.elapsed,
                    duration=self._duration,
                    stop=self._stop,
                )
                self.ended_at = self.elapsed()
                for task in background:
                    task.cancel()

    async def _conduct(self) -> None:
        """Change the mocks' true conditions at the moments of the timetable."""
        moments = [(fault.start, True, fault) for fault in self._faults]
        moments += [(fault.end, False, fault) for fault in self._faults]
        for at, begins, fault in sorted(moments, key=lambda moment: moment[:2]):
            await asyncio.sleep(max(0.0, at - self.elapsed()))
            mock = self._mocks[fault.provider]
            if begins:
                # Noted before it is done, and the end after: the daemon is never judged too kindly.
                self.ledger.began(fault, at=self.elapsed())
                await mock.become(fault.kind, lasting=fault.end - at)
            else:
                await mock.become("well")
                self.ledger.ended(fault, at=self.elapsed())

    async def _watch(self) -> None:
        """Look at the daemon's opinions again and again, over HTTP."""
        async with session() as client:
            while True:
                with suppress(TimeoutError, aiohttp.ClientError, OSError):
                    for endpoint in await _endpoints(client, self._api):
                        self.ledger.saw(
                            str(endpoint["id"]).rpartition("@")[2],
                            Opinion(
                                state=endpoint["state"],
                                reason=endpoint["reason"],
                                next=endpoint["next"],
                                next_in=endpoint["next_in"],
                                estimate=endpoint.get("success_estimate"),
                            ),
                            at=self.elapsed(),
                        )
                await asyncio.sleep(POLL)

    async def _paint(self, painter: Painter) -> None:
        try:
            while True:
                painter.paint(self.ledger, self._frame())
                await asyncio.sleep(REPAINT if painter.live else RELINE)
        except BrokenPipeError:
            self._stop.set()  # nobody reads any more
            return
        finally:
            with suppress(BrokenPipeError):
                painter.paint(self.ledger, self._frame())
                painter.close()

    def _frame(self) -> Frame:
        return Frame(now=self.elapsed(), duration=self._duration, api=self._api, model=MODEL, seed=self._seed)


@asynccontextmanager
async def _mocks(seed: int) -> AsyncIterator[list[Mock]]:
    async with AsyncExitStack() as stack:
        mocks = [Mock(key, model=UPSTREAM, seed=seed) for key in KEYS]
        for mock in mocks:
            await mock.start()
            stack.push_async_callback(mock.stop)
        yield mocks


@contextmanager
def _interrupts(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the run cleanly; a second one is Python's own."""
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not on the main thread, or a platform without it: then the caller's own handling stands.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, end, number)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


async def _endpoints(client: aiohttp.ClientSession, api: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(POLL * 4), client.get(f"{api}/v1/endpoints") as response:
        response.raise_for_status()
        endpoints: list[dict[str, Any]] = (await response.json())["endpoints"]
        return endpoints


def _introduce(config: Config, *, api: str, duration: float, words: TextIO) -> None:
    usual = ProbeSettings()
    print(
        f"six mock providers on {HOST}, one model ({MODEL}), {len(config.endpoints)} endpoints, {duration:g} s\n"
        f"shortened for the demo: a probe every {PROBE_INTERVAL:g} s (default {usual.interval:g} s), given up after"
        f" {PROBE_TIMEOUT:g} s ({usual.timeout:g} s)\n"
        f"probes: a {PROBE_KIND} where there is no traffic (default: {usual.kind}); health settings: the defaults\n"
        f"both ways: the same {RATE:g} requests a second, up to two tries of {TRY_TIME:g} s each,"
        f" {FIRST_TOKEN_TIME:g} s to the first token\n"
        "faults come to two neighbours of the list at a time, as a bad region does\n"
        f"API: {api}\n",
        file=words,
        flush=True,
    )


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does: TIME_WAIT is not taken
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
