"""Each true condition, as a client on a real socket meets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from balancer.demo.mock import FLAKY_SHARE, Mock, luck
from balancer.demo.timetable import Condition


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    made = Mock("alpine", model="llama", seed=7)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as made:
        yield made


def body(*, stream: bool = True, **changes: Any) -> dict[str, Any]:
    asked = {"model": "llama", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return asked | ({"stream_options": {"include_usage": True}} if stream else {}) | changes


async def complete(
    client: aiohttp.ClientSession, mock: Mock, *, stream: bool = True, number: int = 1
) -> tuple[int, bytes]:
    headers = {"X-Demo-Request": str(number), "X-Demo-Attempt": "1"}
    async with client.post(
        f"{mock.base_url}/chat/completions", json=body(stream=stream), headers=headers
    ) as response:
        return response.status, await response.read()


async def test_a_well_provider_lists_its_model(mock: Mock, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{mock.base_url}/models") as response:
        assert response.status == 200
        assert [model["id"] for model in (await response.json())["data"]] == ["llama"]


async def test_a_well_provider_streams_words_usage_and_the_end(mock: Mock, client: aiohttp.ClientSession) -> None:
    status, text = await complete(client, mock)
    events = [line[6:] for line in text.split(b"\n\n") if line]
    assert status == 200
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    words = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(words) == "Six mocks, one model."
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 4


async def test_usage_is_streamed_only_when_asked_for(mock: Mock, client: aiohttp.ClientSession) -> None:
    async with client.post(f"{mock.base_url}/chat/completions", json=body(stream_options={})) as response:
        assert b"usage" not in await response.read()


async def test_a_well_provider_answers_whole(mock: Mock, client: aiohttp.ClientSession) -> None:
    status, text = await complete(client, mock, stream=False)
    answer = json.loads(text)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "Six mocks, one model."
    assert answer["usage"]["total_tokens"] == 13


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("condition", "expected"), [("error", 500), ("limited", 429), ("well", 200), ("slow", 200)]
)
async def test_a_condition_decides_the_status_of_completions(
    mock: Mock, client: aiohttp.ClientSession, condition: Condition, expected: int, stream: bool
) -> None:
    await mock.become(condition)
    status, _ = await complete(client, mock, stream=stream)
    assert status == expected
    async with client.get(f"{mock.base_url}/models") as response:
        assert response.status == 200


@pytest.mark.parametrize(("lasting", "told"), [(7.9, "8"), (0.0, "1")])
async def test_a_limited_provider_says_in_whole_seconds_when_to_come_back(
    mock: Mock, client: aiohttp.ClientSession, lasting: float, told: str
) -> None:
    await mock.become("limited", lasting=lasting)
    async with client.post(f"{mock.base_url}/chat/completions", json=body()) as response:
        assert response.headers["Retry-After"] == told


async def test_a_refusing_provider_cannot_be_connected_to_until_it_recovers_on_the_same_port(
    mock: Mock, client: aiohttp.ClientSession
) -> None:
    before = mock.base_url
    assert (await complete(client, mock))[0] == 200
    for _ in range(3):
        await mock.become("refuse")
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as fresh:  # without a kept connection that may be found dead
                await complete(fresh, mock)
        await mock.become("well")
        assert mock.base_url == before
        assert (await complete(client, mock))[0] == 200


async def test_a_provider_that_begins_to_refuse_drops_the_requests_in_flight(
    mock: Mock, client: aiohttp.ClientSession
) -> None:
    await mock.become("slow")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_failure(client, mock), name="in flight")
        await asyncio.sleep(0.1)  # a slow answer takes 0.6 s and more: this one is on its way
        await mock.become("refuse")
    assert isinstance(running.result(), aiohttp.ClientError)


async def test_a_hanging_provider_accepts_and_stays_silent_on_every_path(
    mock: Mock, client: aiohttp.ClientSession
) -> None:
    await mock.become("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await complete(client, mock)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.get(f"{mock.base_url}/models")


async def test_what_hung_is_dropped_on_recovery_and_the_next_request_is_answered(
    mock: Mock, client: aiohttp.ClientSession
) -> None:
    await mock.become("hang")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_failure(client, mock), name="hung")
        await asyncio.sleep(0.1)  # nothing tells that a request hangs; if it has not begun it is answered
        await mock.become("well")
    assert isinstance(running.result(), aiohttp.ClientError)
    assert (await complete(client, mock))[0] == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_answer_has_a_beginning_and_no_end(
    mock: Mock, client: aiohttp.ClientSession, stream: bool
) -> None:
    await mock.become("cut")
    async with client.post(f"{mock.base_url}/chat/completions", json=body(stream=stream)) as response:
        assert response.status == 200
        assert await response.content.readany() != b""
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await response.content.read()


async def test_a_slow_provider_takes_ten_times_as_long(mock: Mock, client: aiohttp.ClientSession) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    await complete(client, mock, stream=False)
    between = clock()
    await mock.become("slow")
    await complete(client, mock, stream=False)
    assert clock() - between > 3 * (between - began)


async def test_a_flaky_provider_fails_its_share_and_the_same_requests_each_time(
    mock: Mock, client: aiohttp.ClientSession
) -> None:
    await mock.become("flaky")

    async def statuses() -> list[int]:
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(complete(client, mock, number=n), name=str(n)) for n in range(40)]
        return [run.result()[0] for run in runs]

    first, second = await statuses(), await statuses()
    assert first == second
    assert set(first) == {200, 500}


def test_luck_is_even_and_depends_on_every_part() -> None:
    draws = [luck(7, "alpine", "flaky", str(number), "1") for number in range(4000)]
    assert sum(draw < FLAKY_SHARE for draw in draws) / 4000 == pytest.approx(FLAKY_SHARE, abs=0.03)
    assert luck(7, "alpine", 12) != luck(7, "alpine", 1, 2)
    assert luck(7, "a") == luck(7, "a") != luck(8, "a")


@pytest.mark.parametrize(
    ("path", "data", "status", "code"),
    [
        ("/chat/completions", b"{", 400, "invalid_request_error"),
        ("/chat/completions", b"[]", 400, "invalid_request_error"),
        ("/chat/completions", b'{"model": "' + b"x" * 70_000 + b'"}', 400, "invalid_request_error"),
        ("/chat/completions", b'{"model": "other"}', 404, "model_not_found"),
        ("/embeddings", b"{}", 404, "invalid_request_error"),
    ],
)
async def test_what_it_does_not_understand_is_refused_in_the_dialect(
    mock: Mock, client: aiohttp.ClientSession, path: str, data: bytes, status: int, code: str
) -> None:
    async with client.post(f"{mock.base_url}{path}", data=data) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == code


async def test_stopping_ends_what_hangs() -> None:
    mock = Mock("alpine", model="llama", seed=7)
    await mock.start()
    await mock.become("hang")
    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_failure(client, mock), name="hung")
        await asyncio.sleep(0.1)  # as above: either way the request ends
        await mock.stop()
    assert isinstance(running.result(), aiohttp.ClientError)


async def _failure(client: aiohttp.ClientSession, mock: Mock) -> Exception | None:
    try:
        await complete(client, mock)
    except aiohttp.ClientError as error:
        return error
    return None
