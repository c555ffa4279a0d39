"""Five hundred clients that take their time for everything: they are cut off, and nobody else notices them."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from statistics import median
from time import perf_counter

import pytest

from balancer.http.limits import LIMITS

EACH = 125  # slow clients of each of four kinds
SLACK = 10.0  # s more than the limits, for a loaded machine
ROUNDS = 3
ASKED = 200  # decisions in each half of a round
CONFIG = """\
probe: {kind: none}
providers:
  cheap: {base_url: "http://127.0.0.1:9"}
  dear: {base_url: "http://127.0.0.1:9"}
models:
  acme/large:
    endpoints:
      - {provider: cheap, model: large, pricing: {prompt: 1, completion: 1}}
      - {provider: dear, model: large, pricing: {prompt: 50, completion: 50}}
"""
HEAD = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
BODY = b"POST /v1/best-provider HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


class Slow:
    """One slow client: what it says at once, and whether it goes on with a byte a second."""

    def __init__(self, said: bytes, *, drips: bool, reads: bool, offset: float) -> None:
        self.said = said
        self.offset = offset  # s; together they would be bursts, at which this process is late as well
        self.drips = drips
        self.reads = reads
        self.heard = b""
        self.lasted = 0.0

    async def go_on(self, port: int) -> None:
        """Be slow until the server has had enough."""
        await asyncio.sleep(self.offset)
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.setblocking(False)
        loop = asyncio.get_running_loop()
        with wire, suppress(ConnectionError):
            await loop.sock_connect(wire, ("127.0.0.1", port))
            began = loop.time()
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):  # who does not read cannot say everything
                        await loop.sock_sendall(wire, self.said)
                while True:
                    if self.drips:
                        with suppress(ConnectionError):  # it is closed, and there is an answer to read
                            wire.send(b"x")
                    if self.reads:
                        with suppress(BlockingIOError):
                            while piece := wire.recv(65_536):
                                self.heard += piece
                            return
                    elif wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        return  # reset: the only end that is seen without reading
                    await asyncio.sleep(1.0)
            finally:
                self.lasted = loop.time() - began


KINDS = {
    "header": (HEAD, True, True, LIMITS.header),
    "body": (BODY, True, True, LIMITS.body),
    "answer": ((HEAD + b"\r\n") * 500, False, False, LIMITS.answer),
    "nothing": (b"", False, True, LIMITS.first_byte),
}


@asynccontextmanager
async def besieged(port: int) -> AsyncIterator[tuple[dict[str, list[Slow]], list[asyncio.Task[None]]]]:
    """As many slow clients of each kind, until the context ends."""
    clients = {
        kind: [Slow(said, drips=drips, reads=reads, offset=n / EACH) for n in range(EACH)]
        for kind, (said, drips, reads, _) in KINDS.items()
    }
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(each.go_on(port), name=kind) for kind, group in clients.items() for each in group
        ]
        try:
            await asyncio.sleep(2.0)  # all of them have begun, and do nothing but wait by then
            yield clients, running
        finally:
            for task in running:
                task.cancel()


async def decided(http, url, numbers) -> float:
    """Ask for decisions, all of which must be right; the 99th percentile of their times in seconds."""
    times = []
    for _ in range(ASKED):
        began = perf_counter()
        params = {"model": "acme/large", "session_id": f"s{next(numbers)}"}
        async with http.get(f"{url}/v1/best-provider", params=params) as answer:
            assert answer.status == 200
            assert (await answer.json())["selected"]["provider"] == "cheap"
        times.append(perf_counter() - began)
    return sorted(times)[int(ASKED * 0.99) - 1]


@pytest.mark.timeout(240)
async def test_five_hundred_slow_clients_disturb_nobody_and_are_cut_off(daemon, http):
    running = await daemon(CONFIG)
    port = int(running.url.rpartition(":")[2])
    alone, besides, numbers = [], [], count()
    await decided(http, running.url, numbers)
    for number in range(ROUNDS):
        alone.append(await decided(http, running.url, numbers))
        async with besieged(port) as (clients, tasks):
            besides.append(await decided(http, running.url, numbers))
            if number == ROUNDS - 1:
                limit = max(limit for *_, limit in KINDS.values()) + SLACK
                done, left = await asyncio.wait(tasks, timeout=limit)
                assert not left, {task.get_name() for task in left}
                assert not [task for task in done if task.exception()]
    print(f"\np99 of decisions: {median(alone) * 1000:.2f} ms alone, {median(besides) * 1000:.2f} ms besides them")
    # No measure of speed: whoever is made to wait for slow clients waits for seconds.
    assert median(besides) < 10 * median(alone) + 0.1
    for kind, (*_, limit) in KINDS.items():
        assert max(each.lasted for each in clients[kind]) < limit + SLACK, kind
    for kind in ("header", "body"):
        heard = [each.heard[:13] for each in clients[kind]]
        assert set(heard) == {b"HTTP/1.1 408 "}, (kind, {each: heard.count(each) for each in set(heard)})
        for each in clients[kind]:
            head, _, body = each.heard.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert json.loads(body)["error"]["code"] == 408
    assert all(each.heard == b"" for each in clients["nothing"])
    assert await decided(http, running.url, numbers) < 1.0
    refused = [json.loads(line) for line in running.log().splitlines() if "request.refused" in line]
    assert {each["status"] for each in refused} == {408}
    assert len(refused) <= 20  # of 125, in a minute


async def test_where_there_is_no_room_slow_clients_drive_out_each_other(program, free_port, http, tmp_path):
    port = free_port()
    file = tmp_path / "balancer.yaml"
    file.write_text(f"listen: 127.0.0.1:{port}\n{CONFIG}")
    files = 1000  # of which a fifth is for connections
    start = f"ulimit -n {files} && exec {sys.executable} -m balancer run -c {file}"
    running = await program("balancer", f"http://127.0.0.1:{port}", "/bin/sh", "-c", start)
    numbers = count()
    async with besieged(port):
        await decided(http, running.url, numbers)
        for path in ("/-/healthy", "/-/ready", "/v1/best-provider?model=acme/large"):
            async with http.get(f"{running.url}{path}", headers={"Connection": "close"}) as answer:
                assert answer.status == 200
    evicted = [json.loads(line) for line in running.log().splitlines() if "connection.evicted" in line]
    assert len(evicted) == 20  # and the rest is counted
    assert all(each["peer"].startswith("127.0.0.1:") for each in evicted)
