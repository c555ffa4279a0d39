"""Headers that were parsed: what they weigh, and which are refused."""

from typing import Any

import pytest

from balancer.http.limits import HEADER_MAX

ASK = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
LINE = b"X: " + b"a" * 8000 + b"\r\n"


def padded(size: int) -> bytes:
    """A good request whose header has this size."""
    head = ASK + LINE * 4
    return head + b"Y: " + b"b" * (size - len(head) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize(("size", "status"), [(HEADER_MAX, b"200"), (HEADER_MAX + 1, b"431")])
async def test_a_complete_header_is_measured_to_the_byte(world: Any, raw: Any, size: int, status: bytes) -> None:
    request = padded(size)
    assert len(request) == size
    assert (await raw(world.port, request)).startswith(b"HTTP/1.1 " + status)
    assert len(world.lines.lines) == (status == b"431")


@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_complete_header_of_a_megabyte_is_refused_and_closed(world: Any, raw: Any, pieces: int) -> None:
    request = ASK.replace(b"Connection: close\r\n", b"") + LINE * 120 + b"\r\n"
    step = len(request) // pieces + 1
    answer = await raw(world.port, *[request[at : at + step] for at in range(0, len(request), step)])
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert b"the header is longer than 32768 bytes" in answer
    ((level, event, facts),) = world.lines.lines
    assert (level, event, facts["status"]) == ("warning", "request.refused", 431)


async def test_a_long_header_behind_other_requests_is_refused_after_their_answers(world: Any, raw: Any) -> None:
    one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await raw(world.port, one * 3 + padded(HEADER_MAX + 1))
    assert (answer.count(b"HTTP/1.1 200 OK"), answer.count(b"HTTP/1.1 431 ")) == (3, 1)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_chunks_are_of_http_1_1_alone(world: Any, raw: Any, version: bytes) -> None:
    body = b'{"target": "azure"}'
    head = b"POST /v1/drain HTTP/" + version + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    request = head + b"Connection: keep-alive\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    answer = await raw(world.port, request, ASK + b"\r\n")
    if version == b"1.1":
        assert answer.count(b"HTTP/1.1 200 OK") == 2
    else:
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert (answer.count(b"Content-Length"), world.changes) == (1, 0)
        assert b"Transfer-Encoding is not of HTTP/1.0" in answer
        assert world.lines.events == ["request.refused"]


async def test_an_error_is_of_our_version(world: Any, raw: Any) -> None:
    answer = await raw(world.port, b"GET /-/healthy HTTP/1.1\r\nno colon here\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in answer
