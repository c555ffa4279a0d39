"""Sockets: where they are bound, what is refused, and how they are let go."""

import asyncio
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import asdict

from balancer.config import Listen
from balancer.http import Server
from balancer.http.server import LAST_CALL

HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
QUICK_MAX = 0.8  # s; longer than the patience of the world `quick`
KEPT = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


async def ask_unix(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(HEALTHY)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_several_addresses_are_served(world: Any, raw: Any, tmp_path: Path) -> None:
    server = Server(world.hands())
    path = tmp_path / "b.sock"
    addresses = await server.start([Listen(host="127.0.0.1", port=0), Listen(path=str(path))])
    port = int(addresses[0].rpartition(":")[2])
    assert addresses == [f"http://127.0.0.1:{port}", f"unix:{path}"]
    assert port > 0
    assert (await raw(port, HEALTHY)).startswith(b"HTTP/1.1 200 OK")
    assert (await ask_unix(path)).startswith(b"HTTP/1.1 200 OK")
    await server.stop(grace=1.0)
    assert not path.exists()


async def test_an_ipv6_address_is_told_in_brackets(world: Any) -> None:
    server = Server(world.hands())
    try:
        (address,) = await server.start([Listen(host="::1", port=0)])
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert address.startswith("http://[::1]:")
    await server.stop(grace=1.0)


async def test_an_address_in_use_is_named_and_nothing_is_bound(world: Any, tmp_path: Path) -> None:
    server = Server(world.hands())
    path = tmp_path / "b.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            await server.start([Listen(path=str(path)), Listen(host="127.0.0.1", port=port)])
    assert not path.exists()


async def test_a_host_that_does_not_exist_is_named(world: Any) -> None:
    with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.7:0: "):
        await Server(world.hands()).start([Listen(host="203.0.113.7", port=0)])


async def test_a_dead_daemons_socket_file_is_taken_over_and_a_living_ones_is_not(
    world: Any, tmp_path: Path
) -> None:
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    first, second = Server(world.hands()), Server(world.hands())
    await first.start([Listen(path=str(path))])
    with pytest.raises(OSError, match="another process serves this socket"):
        await second.start([Listen(path=str(path))])
    assert (await ask_unix(path)).startswith(b"HTTP/1.1 200 OK")
    await first.stop(grace=1.0)


async def test_a_file_that_is_no_socket_is_left_alone(world: Any, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="cannot listen on unix:"):
        await Server(world.hands()).start([Listen(path=str(path))])
    assert path.read_text() == "data"


async def test_an_answer_under_way_is_finished(world: Any, client: aiohttp.ClientSession) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(endpoint: str) -> dict[str, Any]:
        begun.set()
        await finish.wait()
        return {"endpoint": endpoint}

    world.probe = slow
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(probe(client, world), name="probe")
        await begun.wait()
        late = aiohttp.ClientSession()
        stopped = tasks.create_task(world.server.stop(grace=5.0), name="stop")
        await asyncio.sleep(0.05)
        assert not stopped.done()
        with pytest.raises(aiohttp.ClientConnectorError):
            await late.get(world.url)
        await late.close()
        finish.set()
    assert asked.result() == (200, {"endpoint": "x"})
    assert world.lines.others == []


async def probe(client: aiohttp.ClientSession, world: Any) -> tuple[int, Any]:
    async with client.post(f"{world.url}/v1/probe", json={"endpoint": "x"}) as response:
        return response.status, await response.json()


async def test_an_answer_that_takes_longer_than_the_grace_is_cut(
    world: Any, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def endless(endpoint: str) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    world.probe = endless
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(cut_off(client, world), name="probe")
        await begun.wait()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await world.server.stop(grace=0.2)
        assert loop.time() - began < 2.0
    assert asked.result() is True
    assert world.lines.others == []
    assert caplog.records == []


async def cut_off(client: aiohttp.ClientSession, world: Any) -> bool:
    try:
        await probe(client, world)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        return True
    return False


async def test_idle_connections_do_not_hold_up_the_end(world: Any, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{world.url}/-/healthy"):
        pass
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    async with client.get(f"{world.url}/-/healthy"):
        pass
    async with asyncio.timeout(1):
        await world.server.stop(grace=30.0)
        assert await reader.read() == b""
    writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status of one answer, and whether it is the connection's last."""
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return int(head.split(b" ")[1]), b"\r\nconnection: close\r\n" in head


@pytest.mark.parametrize("asked_before", [False, True], ids=["new", "kept"])
async def test_what_is_sent_just_after_the_end_began_is_answered_and_told_to_close(
    world: Any, asked_before: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    if asked_before:
        writer.write(KEPT)
        assert await read_answer(reader) == (200, False)
    else:
        await asyncio.sleep(0.05)  # until the connection is taken
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.server.stop(grace=5.0), name="stop")
        await asyncio.sleep(LAST_CALL / 2)
        writer.write(KEPT[:10])
        await asyncio.sleep(LAST_CALL)  # half of a header is no silence
        writer.write(KEPT[10:])
        assert await read_answer(reader) == (200, True)
        assert await reader.read() == b""
    writer.close()
    assert world.lines.lines == []


async def test_of_several_requests_at_the_end_all_are_answered_and_the_last_says_so(world: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(KEPT)
    assert await read_answer(reader) == (200, False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.server.stop(grace=5.0), name="stop")
        await asyncio.sleep(0.05)
        writer.write(KEPT * 3)
        assert [await read_answer(reader) for _ in range(3)] == [(200, False), (200, False), (200, True)]
        assert await reader.read() == b""
    writer.close()


async def test_passed_sockets_go_before_addresses_and_outlive_the_server(
    world: Any, raw: Any, passed: Any, tmp_path: Path
) -> None:
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(path))
        unix.listen()
        port = tcp.getsockname()[1]
        for _ in range(2):
            server = Server(world.hands())
            given = [passed("local", unix.dup()), passed("api", tcp.dup())]
            addresses = await server.start([Listen(path=str(tmp_path / "other.sock"))], passed=given)
            assert addresses == [f"unix:{path}", f"http://127.0.0.1:{port}"]
            assert (await raw(port, HEALTHY)).startswith(b"HTTP/1.1 200 OK")
            assert (await ask_unix(path)).startswith(b"HTTP/1.1 200 OK")
            await server.stop(grace=1.0)
            assert [each.socket.fileno() for each in given] == [-1, -1]
            assert [each.name for each in tmp_path.iterdir()] == ["b.sock"]


async def test_who_waits_at_a_passed_socket_is_answered_by_the_next_server(
    world: Any, passed: Any, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        first, second = Server(world.hands()), Server(world.hands())
        await first.start([], passed=[passed("api", tcp.dup())])
        async with asyncio.TaskGroup() as tasks:
            with socket.create_connection(tcp.getsockname()) as waiting:  # in one turn with the end
                stopping = tasks.create_task(first.stop(grace=1.0), name="stop")
                waiting.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(waiting, HEALTHY)
                await stopping
                await second.start([], passed=[passed("api", tcp.dup())])
                async with asyncio.timeout(5):
                    answer = await asyncio.get_running_loop().sock_recv(waiting, 4096)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        await second.stop(grace=1.0)


async def test_who_waits_at_a_socket_of_our_own_is_answered_before_it_goes(world: Any) -> None:
    waiting = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(100)]
    for each in waiting:  # all in one turn of the loop: none of them is taken yet
        each.sendall(HEALTHY)
    await world.server.stop(grace=5.0)
    for each in waiting:
        with each:
            each.settimeout(5)
            assert each.recv(4096).startswith(b"HTTP/1.1 200 OK")


async def test_a_stream_of_events_ends_at_the_end(world: Any, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{world.url}/v1/events") as response:
        await response.content.readline()
        async with asyncio.timeout(1):
            await world.server.stop(grace=30.0)
            await response.content.read()


async def test_half_a_body_does_not_hold_up_the_end(world: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        await world.server.stop(grace=0.2)
        await reader.read()
    writer.close()
    assert (world.reported, world.lines.lines) == ({}, [])


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(world: Any) -> None:
    with socket.create_connection(("127.0.0.1", world.port)) as lazy:
        lazy.setblocking(False)
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400
        await asyncio.get_running_loop().sock_sendall(lazy, asked)
        await asyncio.sleep(0.3)  # until the kernel's buffers are full of what nobody reads
        async with asyncio.timeout(2):
            await world.server.stop(grace=0.4)
        lazy.setblocking(True)
        lazy.settimeout(2)
        with suppress(ConnectionResetError):
            while lazy.recv(1 << 20):
                pass
    assert world.lines.lines == []


async def test_stopping_before_starting_and_twice_is_fine(world: Any) -> None:
    server = Server(world.hands())
    await server.stop(grace=1.0)
    await server.start([Listen(host="127.0.0.1", port=0)])
    await server.stop(grace=1.0)
    await server.stop(grace=1.0)


async def test_an_address_can_be_bound_again_at_once(world: Any, raw: Any) -> None:
    for _ in range(2):
        server = Server(world.hands())
        (address,) = await server.start([Listen(host="127.0.0.1", port=0)])
        port = int(address.rpartition(":")[2])
        answer = await raw(port, HEALTHY)
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == asdict(world.healthy)
        await server.stop(grace=1.0)
        again = Server(world.hands())
        await again.start([Listen(host="127.0.0.1", port=port)])
        await again.stop(grace=1.0)


async def test_our_own_question_has_one_connection_that_outlives_every_patience_but_not_the_end(quick: Any) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    assert await quick.server.ask("/-/healthy") == 200
    assert open_files() == before + 2
    await asyncio.sleep(QUICK_MAX)  # longer than anybody else may be silent: this is the test's subject
    assert await quick.server.ask("/nowhere") == 404
    assert await asyncio.gather(*(quick.server.ask("/-/healthy") for _ in range(3))) == [200] * 3
    assert open_files() == before + 2
    assert set(quick.server.counts().timeouts.values()) == {0}
    async with asyncio.timeout(LAST_CALL / 2):  # the end does not wait for it
        await quick.server.stop(grace=5.0)
    assert open_files() <= before
    with pytest.raises(EOFError, match="closed"):
        await quick.server.ask("/-/healthy")


async def test_a_question_that_was_given_up_is_no_answer_to_the_next(world: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await world.server.ask("/nowhere")
    assert await world.server.ask("/-/healthy") == 200
