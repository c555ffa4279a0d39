"""Each true condition ends as one status or one error word, and as a report that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from balancer.core.outcome import ErrorWord
from balancer.demo.client import FIRST_TOKEN_TIME, TRY_TIME, Call, call
from balancer.demo.mock import Mock
from balancer.demo.timetable import Condition


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    made = Mock("alpine", model="llama", seed=7)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def once(session: aiohttp.ClientSession, mock: Mock) -> Call:
    return await call(session, base_url=mock.base_url, model="llama", number=1, attempt=1)


async def test_a_good_answer_has_everything(mock: Mock, session: aiohttp.ClientSession) -> None:
    result = await once(session, mock)
    assert result.ok
    assert (result.status, result.error, result.finish_reason) == (200, None, "stop")
    assert (result.prompt_tokens, result.completion_tokens) == (9, 4)
    assert result.ttft is not None
    assert 0.0 < result.ttft < result.latency < TRY_TIME


@pytest.mark.parametrize(
    ("condition", "status", "error"),
    [("error", 500, None), ("limited", 429, None), ("cut", None, "stream"), ("hang", None, "timeout")],
)
async def test_a_condition_ends_as_its_status_or_word(
    mock: Mock,
    session: aiohttp.ClientSession,
    condition: Condition,
    status: int | None,
    error: ErrorWord | None,
) -> None:
    await mock.become(condition)
    result = await once(session, mock)
    assert (result.status, result.error) == (status, error)
    assert not result.ok


async def test_a_hang_is_given_up_without_a_first_token(mock: Mock, session: aiohttp.ClientSession) -> None:
    await mock.become("hang")
    result = await once(session, mock)
    assert FIRST_TOKEN_TIME <= result.latency < FIRST_TOKEN_TIME + 0.4
    assert result.ttft is None


async def test_an_answer_that_goes_on_and_on_is_given_up_at_the_end_of_the_try(
    session: aiohttp.ClientSession,
) -> None:
    result = await against(dripping, session)
    assert TRY_TIME <= result.latency < TRY_TIME + 0.4
    assert (result.error, result.ttft is None) == ("timeout", False)


async def test_a_refused_connection_is_told_apart_from_a_reset(mock: Mock, session: aiohttp.ClientSession) -> None:
    await mock.become("refuse")
    assert (await once(session, mock)).error == "connect"


async def test_retry_after_is_read_from_a_429(mock: Mock, session: aiohttp.ClientSession) -> None:
    await mock.become("limited", lasting=5.9)
    assert (await once(session, mock)).retry_after == 6.0


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def saying(text: bytes) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=text, content_type="text/event-stream")

    return handle


async def dropping(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def dripping(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": null}]}\n\n')
        await asyncio.sleep(0.05)


async def against(handler: Handler, session: aiohttp.ClientSession) -> Call:
    server = web.Server(handler, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0]
        return await call(session, base_url=f"http://{host}:{port}/v1", model="m", number=1, attempt=1)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (saying(b"data: [DONE]\n\n"), "empty"),
        (saying(b"data: {]\n\n"), "malformed"),
        (saying(b'data: {"no": "choices"}\n\n'), "malformed"),
        (saying(b"data: 7\n\n"), "malformed"),
        (saying(b""), "stream"),
        (saying(b': ping\n\ndata: {"choices": []}\n\n'), "stream"),
        (dropping, "reset"),
    ],
)
async def test_nonsense_has_its_word(session: aiohttp.ClientSession, handler: Handler, error: ErrorWord) -> None:
    result = await against(handler, session)
    assert (result.status, result.error) == (None, error)


def test_a_report_says_what_is_known_and_nothing_else() -> None:
    good = Call(status=200, latency=0.1, ttft=0.04, finish_reason="stop", prompt_tokens=9, completion_tokens=4)
    assert good.report(endpoint="m@alpine", decision="dec_1") == {
        "endpoint": "m@alpine",
        "decision": "dec_1",
        "status": 200,
        "latency": 0.1,
        "ttft": 0.04,
        "finish_reason": "stop",
        "prompt_tokens": 9,
        "completion_tokens": 4,
    }
    limited = Call(status=429, latency=0.01, retry_after=2.0)
    assert limited.report(endpoint="m@alpine", decision="dec_1") == {
        "endpoint": "m@alpine",
        "decision": "dec_1",
        "status": 429,
        "latency": 0.01,
        "retry_after": 2.0,
    }
    lost = Call(error="connect", latency=0.01)
    assert lost.report(endpoint="m@alpine", decision="dec_1")["error"] == "connect"
    assert "status" not in lost.report(endpoint="m@alpine", decision="dec_1")


@pytest.mark.parametrize(
    ("result", "ok"),
    [
        (Call(status=200, latency=0.1, completion_tokens=4, finish_reason="stop"), True),
        (Call(status=200, latency=0.1, finish_reason="error"), False),
        (Call(status=500, latency=0.1), False),
        (Call(status=429, latency=0.1), False),
        (Call(status=404, latency=0.1), False),
        (Call(error="timeout", latency=0.1), False),
    ],
)
def test_only_a_good_answer_is_ok(result: Call, ok: bool) -> None:
    assert result.ok is ok
