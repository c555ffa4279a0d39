"""Origins, and the keeping of idle connections."""

import asyncio
import socket

import pytest

from balancer.probing.connection import (
    IDLE_MAX,
    Connections,
    Origin,
    Route,
    origin_of,
)
from balancer.probing.failure import Failure
from balancer.probing.opening import open_connection
from balancer.probing.trace import Trace
from balancer.probing.trust import Trust


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def silent(reader, writer):
    await reader.read()


def route_to(port, **changes):
    return Route(origin=Origin(scheme="http", host="127.0.0.1", port=port), **changes)


async def opened(route, connections):
    trace = Trace(clock=lambda: 0.0, credential=None)
    return await open_connection(route, connections=connections, secure=False, trace=trace)


@pytest.mark.parametrize(
    ("url", "origin", "said"),
    [
        ("http://Host.example/v1", Origin(scheme="http", host="host.example", port=80), "host.example"),
        ("https://host:8443", Origin(scheme="https", host="host", port=8443), "host:8443"),
        ("https://[::1]:443/", Origin(scheme="https", host="::1", port=443), "[::1]"),
        ("https://user:word@host/", Origin(scheme="https", host="host", port=443), "host"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, origin, said):
    assert origin_of(url) == origin
    assert str(origin) == said


@pytest.mark.parametrize("url", ["", "host/path", "unix:/run/socket", "http:///path", "http://host:0x1"])
def test_what_is_no_http_url_is_a_wrong_recipe(url):
    with pytest.raises(Failure) as caught:
        origin_of(url)
    assert caught.value.kind == "probe_invalid"


async def test_a_connection_is_kept_until_it_is_too_old_or_leads_elsewhere(lab):
    server = await lab.serve_raw(silent)
    clock = Clock()
    connections = Connections(clock=clock)
    route = route_to(server.port)
    other = route_to(1)

    connection = await opened(route, connections)
    connections.keep("a", route, connection)
    assert connections.take("b", route) is None
    clock.now += IDLE_MAX
    assert connections.take("a", route) is connection
    assert connections.take("a", route) is None

    connections.keep("a", route, connection)
    clock.now += IDLE_MAX + 1.0
    assert connections.take("a", route) is None
    assert not connection.usable

    connection = await opened(route, connections)
    connections.keep("a", route, connection)
    assert connections.take("a", other) is None
    assert not connection.usable


@pytest.mark.parametrize("end", [b"HTTP/1.1 503 Shutting down\r\ncontent-length: 0\r\n\r\n", b"H", b""])
async def test_a_connection_on_which_something_has_come_is_not_taken(lab, end):
    said = asyncio.Event()

    async def says(reader, writer):
        await said.wait()
        writer.write(end) if end else writer.close()
        await reader.read()

    server = await lab.serve_raw(says)
    connections = Connections(clock=Clock())
    route = route_to(server.port)
    connection = await opened(route, connections)
    assert connection.usable
    assert connection.usable  # to ask is not to read
    connections.keep("a", route, connection)
    said.set()
    await lab.until(lambda: not connection.usable)
    assert connections.take("a", route) is None
    await connection.close()


async def test_what_the_loop_has_not_read_yet_counts_as_come(lab):
    listening = lab.holds(socket.create_server(("127.0.0.1", 0)))
    connection = await opened(route_to(listening.getsockname()[1]), Connections(clock=Clock()))
    there = lab.holds(listening.accept()[0])
    assert connection.usable
    there.sendall(b"H")  # and the loop has no turn
    assert not connection.usable
    await connection.close()


async def test_keeping_a_second_one_closes_the_first_and_forgetting_closes_what_is_kept(lab):
    server = await lab.serve_raw(silent)
    connections = Connections(clock=Clock())
    route = route_to(server.port)
    first, second = await opened(route, connections), await opened(route, connections)
    connections.keep("a", route, first)
    connections.keep("a", route, second)
    assert (first.usable, second.usable, connections.idle) == (False, True, 1)
    connections.forget(["a", "never seen"])
    assert (second.usable, connections.idle) == (False, 0)


async def test_what_the_server_closed_and_what_nobody_took_for_long_is_swept(lab):
    closing = asyncio.Event()

    async def closes(reader, writer):
        await closing.wait()
        writer.close()

    async def keeps(reader, writer):
        await reader.read()

    clock = Clock()
    connections = Connections(clock=clock)
    routes = {name: route_to((await lab.serve_raw(end)).port) for name, end in (("a", closes), ("b", keeps))}
    kept = {name: await opened(route, connections) for name, route in routes.items()}
    for name, route in routes.items():
        connections.keep(name, route, kept[name])
    closing.set()
    await lab.until(lambda: connections.idle == 1)
    assert kept["b"].usable
    clock.now += IDLE_MAX + 1.0
    await lab.until(lambda: connections.idle == 0)
    assert not kept["b"].usable
    await connections.close()


async def test_room_is_made_by_the_connection_that_is_kept_longest(lab):
    server = await lab.serve_raw(silent)
    connections = Connections(clock=Clock())
    kept = {name: await opened(route_to(server.port), connections) for name in "abc"}
    for name in "abca":
        connection = kept[name]
        connections.keep(name, route_to(server.port), connections.take(name, route_to(server.port)) or connection)
    assert await connections.make_room()
    assert [name for name in "abc" if not kept[name].usable] == ["b"]
    await connections.close()
    assert not await connections.make_room()


async def test_no_more_are_kept_than_there_is_room_for(lab):
    server = await lab.serve_raw(silent)
    room = {"for": 2.0}
    connections = Connections(clock=Clock(), kept_max=lambda: room["for"])
    kept = {name: await opened(route_to(server.port), connections) for name in "abcd"}
    for name in "abc":
        connections.keep(name, route_to(server.port), kept[name])
    assert [name for name in "abcd" if kept[name].usable] == ["b", "c", "d"]
    room["for"] = 0.5
    connections.keep("d", route_to(server.port), kept["d"])
    assert connections.idle == 0
    assert not any(connection.usable for connection in kept.values())
    await connections.close()


async def test_closing_closes_all(lab):
    server = await lab.serve_raw(silent)
    connections = Connections(clock=Clock())
    route = route_to(server.port)
    kept = [await opened(route, connections) for _ in range(3)]
    for number, connection in enumerate(kept):
        connections.keep(str(number), route, connection)
    await connections.close()
    assert connections.idle == 0
    assert not any(connection.usable for connection in kept)


async def test_a_connection_is_kept_for_its_very_route(lab):
    server = await lab.serve_raw(silent)
    connections = Connections(clock=Clock())
    for change in ({"ip_version": "4"}, {"trust": Trust(ca_file="other.pem")}):
        connection = await opened(route_to(server.port), connections)
        connections.keep("a", route_to(server.port), connection)
        assert connections.take("a", route_to(server.port, **change)) is None
        assert not connection.usable
