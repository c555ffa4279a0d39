"""Bodies: their size, their content type, and how they are sent."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from balancer.http.bodies import YOUNG
from balancer.http.limits import BODY_MAX, CHAT_BODY_MAX, REPORTS_BODY_MAX, Limits

LIMITS = {
    "/v1/reports": REPORTS_BODY_MAX,
    "/v1/best-provider": CHAT_BODY_MAX,
    "/v1/drain": BODY_MAX,
    "/v1/resume": BODY_MAX,
    "/v1/probe": BODY_MAX,
    "/-/reload": BODY_MAX,
}


def told(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(("path", "limit"), LIMITS.items())
async def test_a_body_that_is_told_to_be_too_large_is_refused_unread(
    quick: Any, raw: Any, path: str, limit: int
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {limit + 1}\r\nExpect: 100-continue\r\n\r\n"
    status, error = told(await raw(quick.port, head.encode()))
    assert (status, error["code"], error["metadata"]["size_max"]) == (413, 413, limit)
    assert quick.changes == 0
    assert quick.lines.others == []


@pytest.mark.parametrize("path", ["/v1/drain", "/v1/reports"])
async def test_a_body_that_becomes_too_large_is_refused(
    quick: Any, raw: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = await raw(quick.port, head, *[chunk] * (LIMITS[path] // 0x10000 + 2), b"0\r\n\r\n")
    status, error = told(answer)
    assert (status, error["metadata"]["error_type"]) == (413, "payload_too_large")
    assert quick.lines.others == []
    assert caplog.records == []


async def test_a_prompt_of_many_megabytes_is_answered(world: Any, raw: Any) -> None:
    body = json.dumps({"model": "gpt-4.1", "messages": [{"role": "user", "content": "x" * 30_000_000}]}).encode()
    head = b"POST /v1/best-provider HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    status, error = told(await raw(world.port, head % len(body), body))
    assert (status, error["availability"]["excluded_by"]) == (404, ["context_length"])


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        None,
    ],
)
async def test_json_may_come_under_the_names_that_clients_use(world: Any, raw: Any, kind: str | None) -> None:
    name = "" if kind is None else f"Content-Type: {kind}\r\n"
    body = b'{"target": "azure"}'
    head = f"POST /v1/drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{name}Content-Length: {len(body)}\r\n\r\n"
    assert (await raw(world.port, head.encode() + body)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x"}, "Content-Type multipart/form-data is not supported"),
        ({"Content-Type": "application/xml"}, "Content-Type application/xml is not supported"),
        ({"Content-Encoding": "gzip"}, "Content-Encoding gzip is not supported"),
        ({"Content-Encoding": "br"}, "Content-Encoding br is not supported"),
    ],
)
async def test_other_content_is_415(
    world: Any, client: aiohttp.ClientSession, headers: dict[str, str], message: str
) -> None:
    async with client.post(
        f"{world.url}/v1/reports", data=b"\x1f\x8b", headers=headers, skip_auto_headers=["Content-Encoding"]
    ) as response:
        assert response.status == 415
        assert message in (await response.json())["error"]["message"]
    assert world.lines.lines == []


async def test_a_client_that_asks_first_is_told_to_go_on(world: Any, raw: Any) -> None:
    body = b'{"target": "azure"}'
    head = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    answer = await raw(world.port, head % len(body), body)
    assert answer.startswith((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 200 OK"))


async def test_bodies_that_are_too_many_together_are_503_and_small_ones_and_questions_go_on(
    serve: Any, raw: Any, until: Any
) -> None:
    body = json.dumps({"model": "gpt-4.1", "metadata": "x" * 300_000}).encode()
    head = b"POST /v1/best-provider HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    async with serve(limits=Limits(bodies=500_000, linger=0.3)) as world:
        writers = [(await asyncio.open_connection("127.0.0.1", world.port))[1] for _ in range(2)]
        for writer in writers:
            writer.write(head % 300_000 + body[:240_000])
        await until(lambda: world.server.counts().body_bytes == 480_000)
        answer = await raw(world.port, head % len(body), body)
        status, error = told(answer)
        assert (status, error["metadata"]["error_type"]) == (503, "unavailable")
        assert b"\r\nRetry-After: 1\r\n" in answer
        small = b'{"model": "gpt-4.1"}'
        assert (await raw(world.port, head % len(small), small)).startswith(b"HTTP/1.1 200 OK")
        for path in (b"/-/healthy", b"/-/ready", b"/v1/best-provider?model=gpt-4.1"):
            asked = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert (await raw(world.port, asked)).startswith(b"HTTP/1.1 200 OK")
        await asyncio.sleep(YOUNG)  # the clock is the loop's own: from now on the two are slow
        assert (await raw(world.port, head % len(body), body)).startswith(b"HTTP/1.1 200 OK")
        counts = world.server.counts()
        assert (counts.bodies_refused, counts.timeouts["body"]) == (3, 0)  # the one above, and both slow ones
        for writer in writers:
            writer.close()
        await until(lambda: world.server.counts().body_bytes == 0)


async def test_another_expectation_is_417(quick: Any, raw: Any) -> None:
    head = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\nContent-Length: 5\r\n\r\n"
    assert told(await raw(quick.port, head))[0] == 417


@pytest.mark.parametrize("expected", [b"100-continue", b"a-miracle"])
async def test_what_a_client_of_http_1_0_expects_is_ignored(world: Any, until: Any, expected: bytes) -> None:
    body = b'{"target": "azure"}'
    head = b"POST /v1/drain HTTP/1.0\r\nExpect: " + expected + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(head + body[:1])
    await until(lambda: world.server.counts().body_bytes == 1)
    writer.write(body[1:])
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.0 200 OK")
    writer.close()
