"""Clients that send nonsense, too much, too little or too slowly: the envelope or a closed connection, one line."""

import asyncio
import json
import socket
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from aiohttp import web

from balancer.http.connection import Connection
from balancer.http.gate import Gate
from balancer.http.limits import LIMITS, Limits
from balancer.service.log import silent

HEAD = b"Host: x\r\nConnection: close\r\n"


def split(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert b"Content-Type: application/json" in lines
    return int(lines[0].split()[1]), json.loads(body)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes, in whichever way."""
    answer = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65_536):
            answer += piece
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        ("GET /\u20ac HTTP/1.1\r\n".encode() + HEAD + b"\r\n", 400),
        (b"GET / HTTP/9.9\r\n" + HEAD + b"\r\n", 400),
        (b"CONNECT  \r\n" + HEAD + b"\r\n", 400),
        (b"GET /-/healthy HTTP/0.9\r\n" + HEAD + b"\r\n", 400),
        (b"GET /-/healthy HTTP/2.0\r\n" + HEAD + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n", 400),
        (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n", 400),
        (b"POST /v1/reports HTTP/1.1\r\n" + HEAD + b"Content-Length: many\r\n\r\n", 400),
        (b"POST /v1/reports HTTP/1.1\r\n" + HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (b"POST /v1/reports HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 431),
        (b"GET /v1/models?" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X-" + b"a" * 20_000 + b": 1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n", 400),
    ],
)
async def test_what_is_no_request_is_answered_in_the_envelope_with_one_line(
    world: Any, raw: Any, request_bytes: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    sent = await raw(world.port, request_bytes)
    told, answer = split(sent)
    assert told == answer["error"]["code"] == status
    assert sent.startswith((b"HTTP/1.0 ", b"HTTP/1.1 "))
    assert answer["error"]["metadata"]["error_type"] in ("invalid_request", "header_too_large")
    assert "\n" not in answer["error"]["message"]
    ((level, event, facts),) = world.lines.lines
    assert (level, event, facts["status"]) == ("warning", "request.refused", status)
    assert caplog.records == []


@pytest.mark.parametrize(
    "piece",
    [b"X-Long: " + b"a" * 10_000_000, b"X-Short: 1\r\n" * 900_000],
    ids=["one line", "many lines"],
)
async def test_a_header_of_ten_megabytes_is_refused_or_cut_off(
    world: Any, raw: Any, piece: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(world.port, b"GET /-/healthy HTTP/1.1\r\n" + HEAD + piece + b"\r\n\r\n")
    if answer:
        assert split(answer)[0] in (400, 431)
    assert len(world.lines.lines) == 1
    assert caplog.records == []


async def test_a_header_that_is_never_complete_is_answered_and_closed(
    quick: Any, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    status, answer = split(await raw(quick.port, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"))
    assert status == answer["error"]["code"] == 408
    assert quick.lines.events == ["request.refused"]
    assert caplog.records == []


async def test_a_header_that_drips_is_answered_and_closed(quick: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.port)

    async def drip() -> None:
        for byte in b"GET /-/healthy HTTP/1.1\r\n" + b"X-Slow: 1\r\n" * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with asyncio.timeout(5):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(drip(), name="drip")
            answer = await rest_of(reader)  # a drop that met a closed socket resets the connection
            task.cancel()
    assert split(answer)[0] == 408
    writer.close()


POST = b'POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 19\r\n\r\n{"target": "azure"}'


@pytest.mark.parametrize(
    "begun", [b"P", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nX: \r\n\r"]
)
@pytest.mark.parametrize("first", [b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", POST])
async def test_a_header_that_began_behind_a_request_has_no_more_time_than_others(
    serve: Any, raw: Any, first: bytes, begun: bytes
) -> None:
    async with serve(limits=Limits(header=0.2)) as world:
        answer = await raw(world.port, first + begun)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"HTTP/1.1 408 " in answer
        assert world.server.counts().timeouts["header"] == 1


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"\r\n\r\n\r\n"])
async def test_a_body_is_not_taken_for_the_beginning_of_a_header(serve: Any, until: Any, rest: bytes) -> None:
    async with serve(limits=Limits(header=0.1)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        for _ in range(3):
            writer.write(POST + rest)
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
                await reader.readuntil(b"}")
            await asyncio.sleep(0.3)  # three times as long as a header may take
        writer.close()
        await until(lambda: world.server.counts().connections == 0)
        assert world.server.counts().timeouts["header"] == 0


async def test_a_connection_that_says_nothing_is_closed(quick: Any, raw: Any) -> None:
    assert await raw(quick.port) == b""
    assert quick.lines.lines == []
    assert quick.server.counts().timeouts == {"first_byte": 1, "header": 0, "body": 0, "answer": 0}


async def test_a_header_that_is_too_long_in_all_is_431_before_it_is_complete(world: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 5)
    async with asyncio.timeout(5):
        status, answer = split(await rest_of(reader))
    writer.close()
    assert (status, answer["error"]["message"]) == (431, "the header is longer than 32768 bytes")


async def test_a_body_behind_another_request_is_not_taken_for_a_header(world: Any, raw: Any) -> None:
    body = b'{"target": "azure", "reason": "' + b"x" * 400 + b'"}' + b" " * 60_000
    post = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    pieces = [(post + b"\r\n" + body)[at : at + 20_000] for at in range(0, 65_000, 20_000)] * 10
    answer = await raw(world.port, *pieces, post + b"Connection: close\r\n\r\n" + body)
    assert answer.count(b"HTTP/1.1 200 OK") == 11
    assert world.lines.others == []


async def test_a_client_that_does_not_take_its_answers_is_cut_off(quick: Any, until: Any) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", quick.port))
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        await until(lambda: quick.server.counts().timeouts["answer"] == 1)
        await until(lambda: quick.server.counts().connections == 0)


async def test_a_client_that_leaves_the_end_of_its_answers_keeps_no_connection(quick: Any, until: Any) -> None:
    one = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
    with ExitStack() as stack:
        for count in range(60):  # of some all answers fit into the buffers of the kernel and of the transport
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", quick.port))
            client.sendall((one + b"\r\n") * count + one + b"Connection: close\r\n\r\n")
        await until(lambda: quick.server.counts().connections > 0)
        await until(lambda: quick.server.counts().connections == 0)
    assert quick.server.counts().timeouts["answer"] > 0


async def test_a_full_house_lets_in_the_new_and_closes_who_waited_the_longest(serve: Any, until: Any) -> None:
    async with serve(limits=Limits(connections=4)) as world:
        idle = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(4)]
        await until(lambda: world.server.counts().connections == 4)
        told: list[str] = []
        for path in (b"/-/healthy", b"/-/ready"):
            idle[0][1].write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")  # now it waited the shortest
            assert (await idle[0][0].readuntil(b"}")).startswith(b"HTTP/1.1 200")
        for path in (b"/-/healthy", b"/-/ready", b"/v1/models", b"/metrics"):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            idle.append((reader, writer))
            told.append(world.lines.lines[-1][2]["peer"])
        ports = [writer.get_extra_info("sockname")[1] for _, writer in idle]
        assert told == [f"127.0.0.1:{ports[number]}" for number in (1, 2, 3, 0)]
        async with asyncio.timeout(5):
            assert [await rest_of(idle[number][0]) for number in range(4)] == [b""] * 4
        counts = world.server.counts()
        assert (counts.connections, counts.evicted) == (4, 4)
        assert {facts["waited_for"] for *_, facts in world.lines.lines} == {"nothing"}
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize(
    ("begun", "waited_for"),
    [
        (b"GET /-/healthy HTTP/1.1\r\n", "header"),
        (b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", "body"),
        (b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300, "answer"),
    ],
)
async def test_who_goes_on_with_nothing_makes_room_as_well(
    serve: Any, raw: Any, until: Any, begun: bytes, waited_for: str
) -> None:
    async with serve(limits=Limits(connections=1)) as world:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", world.port))
            client.sendall(begun)
            await asyncio.sleep(0.1)  # longer than the server needs to come to a stand with it
            answer = await raw(world.port, b"GET /-/healthy HTTP/1.1\r\n" + HEAD + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK")
        (told,) = [facts["waited_for"] for _, event, facts in world.lines.lines if event == "connection.evicted"]
        assert told == waited_for
        await until(lambda: world.server.counts().connections == 0)


async def test_an_idle_connection_is_not_taken_for_a_slow_header(quick: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.port)
    async with asyncio.timeout(5):
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.4)  # longer than a header may take, shorter than a connection may be idle
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert quick.lines.lines == []


async def test_a_body_that_is_never_complete_is_408_and_records_nothing(
    quick: Any, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"endpoint": "openai/gpt-4.1@openai", "status": 200}'
    head = b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1)
    status, answer = split(await raw(quick.port, head + body))
    assert status == answer["error"]["code"] == 408
    assert quick.reported == {}
    assert quick.lines.lines == []
    assert caplog.records == []


@pytest.mark.parametrize("length", [20, 100_000])
async def test_half_a_request_and_a_hang_up_leaves_no_trace(
    world: Any, raw: Any, until: Any, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (length * 2)
    for pieces in ((b"GET /v1/mod",), (b"GET / HTTP/1.1\r\nHost",), (head, b"x" * length)):
        assert await raw(world.port, *pieces, half_close=True) == b""
    assert world.reported == {}
    assert world.lines.lines == []
    assert caplog.records == []


@pytest.mark.parametrize("chunks", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX5\r\n", b"-1\r\n\r\n"])
@pytest.mark.parametrize("path", [b"/v1/reports", b"/nowhere"])
@pytest.mark.parametrize("apart", [True, False])
async def test_broken_chunks_are_refused_without_a_traceback(
    world: Any, raw: Any, path: bytes, chunks: bytes, apart: bool, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await (raw(world.port, head, chunks) if apart else raw(world.port, head + chunks))
    status, told = split(answer[: answer.rfind(b"}") + 1] if answer.count(b"HTTP/1.") == 1 else first(answer))
    assert status in (400, 404)
    assert told["error"]["code"] == status
    assert world.reported == {}
    assert len(world.lines.lines) <= 1
    assert all(event == "request.refused" for event in world.lines.events)
    assert caplog.records == []


def first(answer: bytes) -> bytes:
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return head + b"\r\n\r\n" + rest[:length]


async def test_a_body_left_unread_is_never_taken_for_the_next_request(quick: Any, raw: Any) -> None:
    inner = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(inner) + 100)
    answer = await raw(quick.port, head, inner)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 404")
    assert quick.lines.lines == []


async def test_requests_in_a_row_on_one_connection_are_all_answered(world: Any, raw: Any) -> None:
    one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /-/healthy HTTP/1.1\r\n" + HEAD + b"\r\n"
    assert (await raw(world.port, one * 40 + last)).count(b"HTTP/1.1 200 OK") == 41


@pytest.mark.parametrize(("head", "body"), [(b"", b""), (b"Content-Length: 2\r\n", b"{}")])
async def test_behind_an_event_stream_little_is_read_and_the_stream_goes_on(
    world: Any, head: bytes, body: bytes
) -> None:
    loop = asyncio.get_running_loop()
    lines = (b"X: " + b"y" * 8100 + b"\r\n") * 120
    big = b"POST /v1/reports HTTP/1.1\r\nHost: x\r\n" + head + lines + b"\r\n" + body
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", world.port))
        await loop.sock_sendall(client, b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        told = b""
        while b"retry: " not in told:
            told += await loop.sock_recv(client, 4096)
        with pytest.raises(TimeoutError):  # the kernel holds some megabytes, and 31 of them do not fit
            async with asyncio.timeout(1.0):
                await loop.sock_sendall(client, big * 32)
        world.eject("openai/gpt-4.1@azure/eastus2")
        async with asyncio.timeout(5):
            while b"event: endpoint.ejected" not in told:
                told += await loop.sock_recv(client, 65_536)
    assert world.lines.lines == []


async def test_what_is_sent_behind_a_long_request_waits_for_its_turn(serve: Any, raw: Any) -> None:
    gate = asyncio.Event()

    async def probe(key: str) -> dict[str, Any]:
        await gate.wait()
        return {"endpoint": key, "kind": "models", "outcome": "success"}

    async with serve() as world:
        world.probe = probe
        body = b'{"endpoint": "openai/gpt-4.1@azure/eastus2"}'
        first = b"POST /v1/probe HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2000 + b"\r\n\r\n"
        long = b'{"target": "azure"}' + b" " * 60_000
        post = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(long) + long
        last = b"GET /-/ready HTTP/1.1\r\n" + HEAD + b"\r\n"
        fat = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 4 + b"\r\n"
        for behind, count in ((one * 300, 300), (fat * 31, 31), (post * 20, 20), ((one + post) * 20, 40)):
            gate.clear()
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(raw(world.port, first, behind, last), name="client")
                await asyncio.sleep(0.1)  # the client has sent what it could by then
                gate.set()
            assert answer.result().count(b"HTTP/1.1 200 OK") == count + 2
        assert world.lines.others == []


@pytest.mark.parametrize("protocol", [b"h2c", b"tcp", b"websocket"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_answer_to_a_wish_for_another_protocol_is_the_last(
    world: Any, raw: Any, protocol: bytes, method: str
) -> None:
    wish = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    chunks = b"Transfer-Encoding: chunked\r\n\r\n13\r\n" + b'{"target": "azure"}' + b"\r\n0\r\n\r\n"
    if method == "GET":
        first = b"GET /-/healthy HTTP/1.1\r\n" + wish + b"\r\n"
    else:
        first = b"POST /v1/drain HTTP/1.1\r\n" + wish + chunks
    one = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await raw(world.port, first + one, one)
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in answer


async def test_no_answer_tells_what_we_are_made_of(world: Any, raw: Any) -> None:
    for target in (b"/-/healthy", b"/nowhere"):
        answer = await raw(world.port, b"GET " + target + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert b"Server: balancer\r\n" in answer
        assert b"aiohttp" not in answer


# ---- the end ----------------------------------------------------------------------------------------------


async def test_only_a_silent_connection_is_hung_up_on(until: Any) -> None:
    made: list[Connection] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        made[0].begin()
        made[0].end(closing=False)
        return web.Response(text="fine")

    def connection() -> Connection:
        made.append(Connection(manager, loop=loop, limits=LIMITS, log=silent(), gate=Gate(LIMITS, silent())))
        return made[-1]

    loop = asyncio.get_running_loop()
    manager = web.Server(handle)
    server = await loop.create_server(connection, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.settimeout(5)
        await until(lambda: len(manager.connections) == 1)
        await asyncio.sleep(0.02)  # until it waits for its first request
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # in the kernel: the loop has had no turn to read it
        made[0].hang_up()
        await asyncio.sleep(0.02)
        made[0].hang_up()  # half of a header was read
        client.sendall(b"\r\n")
        assert b"fine" in await asyncio.to_thread(client.recv, 4096)
        await asyncio.sleep(0.02)
        made[0].hang_up()
        assert client.recv(1) == b"", "at once: the transport had no turn to close"
    server.close()
    await until(lambda: manager.connections == [])
