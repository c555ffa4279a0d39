"""Programs as real processes: the daemon under test, and what it is tried with."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

READY_MAX = 20.0  # s; a loaded machine with two cores starts Python in two
STOP_MAX = 5.0  # s; the daemon promises 2 s on a machine that does nothing else
POLL = 0.02  # s between two looks at a condition

ROOT = Path(__file__).parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that began us in the background said so, and our children would ignore Ctrl-C for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Program:
    """A running process that serves HTTP at `url` and writes everything it says to `log_path`."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    log_path: Path
    killed: bool = False

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    async def told(self, event: str, *, count: int = 1) -> list[dict[str, Any]]:
        """Wait until its log has so many lines of an event; the lines of that event, decoded."""
        try:
            async with asyncio.timeout(READY_MAX):
                while len(found := [each for each in self.events() if each["event"] == event]) < count:
                    await asyncio.sleep(POLL)
        except TimeoutError:
            pytest.fail(self._story(f"told of {event} {len(found)} times and not {count}"))
        return found

    def events(self) -> list[dict[str, Any]]:
        """Every whole line of JSON in its log; what was told a moment ago may still be on its way."""
        whole = self.log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    async def ready(self) -> None:
        """Wait until it says so, or is gone, or has taken too long."""
        try:
            async with asyncio.timeout(READY_MAX), aiohttp.ClientSession() as session:
                while not await self._says_ready(session):
                    if self.process.returncode is not None:
                        pytest.fail(self._story(f"ended with {self.process.returncode}"))
                    await asyncio.sleep(POLL)
        except TimeoutError:
            pytest.fail(self._story(f"was not ready in {READY_MAX:g} s"))

    async def _says_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> int:
        """Ask it to end with SIGTERM; return its exit status, however often this is called."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), STOP_MAX)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            pytest.fail(self._story(f"did not end within {STOP_MAX:g} s of SIGTERM"))

    async def kill(self) -> None:
        """End it with SIGKILL, which is no complaint afterwards."""
        self.killed = True
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def check_end(self) -> None:
        """Stop it; it must have had nothing to complain of."""
        status = await self.stop()
        if status != (-signal.SIGKILL if self.killed else 0):
            pytest.fail(self._story(f"ended with {status}"))
        if "Traceback" in self.log():
            pytest.fail(self._story("left a traceback"))

    def _story(self, what: str) -> str:
        return f"{self.name} {what}; its log:\n{self.log()}"


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """Find a program that is not ours: skip without it, but fail where CI is set."""

    def find(program: str) -> str:
        path = shutil.which(program)
        reason = f"the program {program} is not on PATH; .ci/run brings it"
        if path is None and os.environ.get("CI"):
            pytest.fail(reason)
        if path is None:
            pytest.skip(reason)
        return path

    return find


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Find a port of loopback that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Program]]]:
    """Start `program(name, url, *argv, environ=…)`, wait until it is ready, and see it end with 0 afterwards."""
    started: list[Program] = []

    async def start(name: str, url: str, *argv: str, environ: Mapping[str, str] | None = None) -> Program:
        log_path = tmp_path / f"{name}-{len(started)}.log"
        state = tmp_path / f"state-{len(started)}"
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=ROOT,
                env={**os.environ, "STATE_DIRECTORY": str(state), **({} if environ is None else environ)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        running = Program(name, url, process, log_path)
        try:
            await running.ready()
        except BaseException:
            await running.stop()
            raise
        started.append(running)
        return running

    yield start
    ends = await asyncio.gather(*(each.check_end() for each in started), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end


@pytest.fixture
def daemon(
    program: Callable[..., Awaitable[Program]], free_port: Callable[[], int], tmp_path: Path
) -> Callable[..., Awaitable[Program]]:
    """Start `balancer run` with a configuration text that names no `listen`: `await daemon(text, environ=…)`."""

    async def start(config: str, *, environ: Mapping[str, str] | None = None) -> Program:
        port = free_port()
        path = tmp_path / f"balancer-{port}.yaml"
        path.write_text(f"listen: 127.0.0.1:{port}\n{config}")
        argv = (sys.executable, "-m", "balancer", "run", "-c", str(path))
        return await program("balancer", f"http://127.0.0.1:{port}", *argv, environ=environ)

    return start


@pytest.fixture
async def models_server():
    """A provider that lists models, as a real server."""

    async def listing(_request):
        return web.json_response({"data": [{"id": "large"}]})

    app = web.Application()
    app.router.add_get("/v1/models", listing)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
