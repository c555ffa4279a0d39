"""Origins, and the keeping of idle connections."""

import pytest

from balancer.probing.connection import (
    IDLE_MAX,
    Connections,
    Origin,
    default_tls,
    open_connection,
    origin_of,
)
from balancer.probing.failure import Failure
from balancer.probing.trace import Trace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def silent(reader, writer):
    await reader.read()


async def opened(origin, connections):
    trace = Trace(clock=lambda: 0.0, credential=None)
    return await open_connection(origin, tls=connections.tls, secure=False, trace=trace)


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


def test_there_is_one_tls_context_per_process():
    assert default_tls() is default_tls()


async def test_a_connection_is_kept_until_it_is_too_old_or_leads_elsewhere(lab):
    server = await lab.serve_raw(silent)
    clock = Clock()
    connections = Connections(clock=clock)
    origin = Origin(scheme="http", host="127.0.0.1", port=server.port)
    other = Origin(scheme="http", host="127.0.0.1", port=1)

    connection = await opened(origin, connections)
    connections.keep("a", origin, connection)
    assert connections.take("b", origin) is None
    clock.now += IDLE_MAX
    assert connections.take("a", origin) is connection
    assert connections.take("a", origin) is None

    connections.keep("a", origin, connection)
    clock.now += IDLE_MAX + 1.0
    assert connections.take("a", origin) is None
    assert not connection.usable

    connection = await opened(origin, connections)
    connections.keep("a", origin, connection)
    assert connections.take("a", other) is None
    assert not connection.usable


async def test_keeping_a_second_one_closes_the_first_and_forgetting_closes_what_is_kept(lab):
    server = await lab.serve_raw(silent)
    connections = Connections(clock=Clock())
    origin = Origin(scheme="http", host="127.0.0.1", port=server.port)
    first, second = await opened(origin, connections), await opened(origin, connections)
    connections.keep("a", origin, first)
    connections.keep("a", origin, second)
    assert (first.usable, second.usable, connections.idle) == (False, True, 1)
    connections.forget(["a", "never seen"])
    assert (second.usable, connections.idle) == (False, 0)


async def test_closing_closes_all(lab):
    server = await lab.serve_raw(silent)
    connections = Connections(clock=Clock())
    origin = Origin(scheme="http", host="127.0.0.1", port=server.port)
    kept = [await opened(origin, connections) for _ in range(3)]
    for number, connection in enumerate(kept):
        connections.keep(str(number), origin, connection)
    await connections.close()
    assert connections.idle == 0
    assert not any(connection.usable for connection in kept)
