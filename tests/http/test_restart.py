"""A process gives way to the next one on the same socket, under clients who count every answer."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "serve_passed.py"
ROOT = Path(__file__).parents[2]
ASKED = b"GET /v1/best-provider?model=openai/gpt-4.1 HTTP/1.1\r\nHost: x\r\n"
PAUSE = 0.4  # s between two requests of one client at the most: shorter than the last call

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def process(listening: socket.socket, loop: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One life of the service; it has begun to serve, and ends by SIGTERM as a good one does."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        str(listening.fileno()),
        loop,
        pass_fds=[listening.fileno()],
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert started.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await started.stdout.readline() == b"serving\n"
        yield started
        started.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await started.wait() == 0
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """Read one whole answer: its status line, and whether it is the connection's last."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return head.partition(b"\r\n")[0], b"connection: close" in head.lower()


def is_there(file: Path) -> bool:
    return file.exists()


class Clients:
    """Those who ask all the time, and what each of them got."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self.answers = 0
        self.last_answers = 0
        self.failures: list[str] = []
        self.stopping = False

    async def keeping(self, rng: random.Random) -> None:
        """Keep a connection for as long as the server does."""
        reader = writer = None
        while not self.stopping:
            if reader is None or reader.at_eof():
                if writer is not None:
                    writer.close()
                reader, writer = await self._connect()
            assert writer is not None
            if await self._ask(reader, writer, b""):
                writer.close()
                reader = None
            await asyncio.sleep(rng.uniform(0.0, PAUSE))
        if writer is not None:
            writer.close()

    async def once(self, rng: random.Random) -> None:
        """Connect for each request, and take some time before it is sent."""
        while not self.stopping:
            reader, writer = await self._connect()
            await asyncio.sleep(rng.uniform(0.0, 0.1))
            await self._ask(reader, writer, b"Connection: close\r\n")
            writer.close()
            await asyncio.sleep(rng.uniform(0.0, PAUSE))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, header: bytes) -> bool:
        request = ASKED + header + b"\r\n"
        part = len(request) // 2
        try:
            writer.write(request[:part])  # in two pieces, so that the end comes between them too
            await asyncio.sleep(0)
            writer.write(request[part:])
            async with asyncio.timeout(20):
                status, last = await answer(reader)
        except (OSError, EOFError) as error:
            self.failures.append(repr(error))
            return True
        self.answers += 1
        self.last_answers += last and not header
        if status != b"HTTP/1.1 200 OK":
            self.failures.append(status.decode())
        return last


@pytest.mark.parametrize(("loop", "family"), [("uvloop", "tcp"), ("asyncio", "unix")])
async def test_a_restart_under_load_refuses_and_resets_nobody(loop: str, family: str, tmp_path: Path) -> None:
    file = tmp_path / "b.sock"
    path = str(file)
    if family == "tcp":
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        port = listening.getsockname()[1]
        clients = Clients(lambda: asyncio.open_connection("127.0.0.1", port))
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(1024)
        clients = Clients(lambda: asyncio.open_unix_connection(path))
    with listening:
        async with asyncio.TaskGroup() as tasks:
            async with process(listening, loop):
                for number in range(30):
                    tasks.create_task(clients.keeping(random.Random(number)), name=f"keeping {number}")
                    tasks.create_task(clients.once(random.Random(-1 - number)), name=f"once {number}")
                async with asyncio.timeout(10):
                    while clients.answers < 200:
                        await asyncio.sleep(0.01)
            before, told = clients.answers, clients.last_answers
            async with process(listening, loop):
                async with asyncio.timeout(10):
                    while clients.answers < before + 200:
                        await asyncio.sleep(0.01)
                clients.stopping = True
    assert clients.failures == []
    assert told >= 15, "kept connections are told to close, and not only cut"
    assert family == "tcp" or is_there(file), "a socket of the service manager's is never removed"
