"""The example of an embedded core, as the process that a reader starts, before real upstreams."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from balancer.demo.mock import Mock
from balancer.demo.timetable import Condition

ROOT = Path(__file__).parents[2]
WORDS = "Six mocks, one model."
REQUESTS = 20
AT_ONCE = 4

# The one that fails is the cheaper one: it is asked first.
CONFIG = """
providers:
  first: {{base_url: "{first}"}}
  second: {{base_url: "{second}"}}
  other: {{base_url: "{first}", api: anthropic}}
models:
  demo/llama:
    aliases: [llama]
    endpoints:
      - {{provider: first, model: llama-70b, pricing: {{prompt: 0.1, completion: 0.1}}}}
      - {{provider: second, model: llama-70b, pricing: {{prompt: 1, completion: 1}}}}
  demo/claude: {{endpoints: [{{provider: other, model: claude}}]}}
routing: {{timeouts: {{first_token_min: 1s, first_token_max: 1s, total_min: 2s, total_max: 2s}}}}
"""


@pytest.fixture
async def mocks() -> AsyncIterator[tuple[Mock, Mock]]:
    first, second = (Mock(key, model="llama-70b", seed=1) for key in ("first", "second"))
    await first.start()
    await second.start()
    yield first, second
    await first.stop()
    await second.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def proxy(
    program: Callable[..., Awaitable[Any]], free_port: Callable[[], int], tmp_path: Path
) -> Callable[[str, str], Awaitable[Any]]:
    """Start the example before two upstreams: `await proxy(first_url, second_url)`."""

    async def start(first: str, second: str) -> Any:
        file, port = tmp_path / "balancer.yaml", free_port()
        file.write_text(CONFIG.format(first=first, second=second))
        argv = (sys.executable, str(ROOT / "examples" / "proxy.py"), str(file), "--port", str(port))
        return await program("proxy", f"http://127.0.0.1:{port}", *argv)

    return start


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "llama", "messages": [{"role": "user", "content": "Who are you?"}], **more}


async def complete(client: aiohttp.ClientSession, url: str, body: Any, **headers: str) -> tuple[int, Any, Any]:
    """Send one request; status, body as text, and headers."""
    async with client.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


def spoken(text: str, *, stream: bool) -> str:
    """What the model said."""
    if not stream:
        return json.loads(text)["choices"][0]["message"]["content"]
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [each["delta"] for event in events[:-1] for each in json.loads(event)["choices"]]
    return "".join(each.get("content", "") for each in deltas)


@asynccontextmanager
async def upstream(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """An upstream that answers as a test wants it."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("condition", ["error", "refuse", "limited", "hang"])
async def test_no_client_notices_that_a_provider_fails(
    proxy: Any, mocks: tuple[Mock, Mock], client: aiohttp.ClientSession, condition: Condition
) -> None:
    await mocks[0].become(condition, lasting=30.0)
    running = await proxy(mocks[0].base_url, mocks[1].base_url)
    gate = asyncio.Semaphore(AT_ONCE)

    async def once(*, stream: bool) -> tuple[int, str, str]:
        async with gate:
            status, text, headers = await complete(client, running.url, chat(stream=stream))
            return status, spoken(text, stream=stream), headers["x-balancer-endpoint"]

    answers = await asyncio.gather(*(once(stream=number % 2 == 1) for number in range(REQUESTS)))
    assert answers == [(200, WORDS, "demo/llama@second")] * REQUESTS


async def test_half_an_answer_is_retried_and_half_a_stream_never_looks_whole(
    proxy: Any, mocks: tuple[Mock, Mock], client: aiohttp.ClientSession
) -> None:
    await mocks[0].become("cut")
    running = await proxy(mocks[0].base_url, mocks[1].base_url)
    status, text, _ = await complete(client, running.url, chat())
    assert (status, spoken(text, stream=False)) == (200, WORDS)
    await mocks[1].become("cut")
    with pytest.raises(aiohttp.ClientPayloadError):
        await complete(client, running.url, chat(stream=True))


async def test_the_upstream_gets_the_body_but_for_what_was_meant_for_the_router(
    proxy: Any, client: aiohttp.ClientSession
) -> None:
    got: list[tuple[Any, Any]] = []

    async def echo(request: web.Request) -> web.StreamResponse:
        got.append((await request.json(), request.headers))
        return web.json_response({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})

    async with upstream(echo) as url:
        running = await proxy(url, url)
        body = chat(
            temperature=0.5,
            models=["demo/other"],
            provider={"only": ["second"]},
            session_id="s",
            balancer={"prompt_tokens": 9},
        )
        status, _, headers = await complete(client, running.url, body, Authorization="Bearer the-clients")
    assert (status, headers["x-balancer-endpoint"]) == (200, "demo/llama@second")
    ((sent, sent_headers),) = got
    assert sent == {"model": "llama-70b", "messages": body["messages"], "temperature": 0.5}
    assert "Authorization" not in sent_headers


async def test_a_session_stays_where_it_was_answered(
    proxy: Any, mocks: tuple[Mock, Mock], client: aiohttp.ClientSession
) -> None:
    running = await proxy(mocks[0].base_url, mocks[1].base_url)
    first = await complete(client, running.url, chat(provider={"only": ["second"]}), **{"x-session-id": "s"})
    assert first[2]["x-balancer-endpoint"] == "demo/llama@second"
    for session, endpoint in (("s", "demo/llama@second"), ("t", "demo/llama@first")):
        _, _, headers = await complete(client, running.url, chat(), **{"x-session-id": session})
        assert headers["x-balancer-endpoint"] == endpoint


async def test_refusals_tell_the_client_why_and_when(
    proxy: Any, mocks: tuple[Mock, Mock], client: aiohttp.ClientSession
) -> None:
    running = await proxy(mocks[0].base_url, mocks[1].base_url)

    async def refused(body: Any) -> tuple[int, str, str | None]:
        status, text, headers = await complete(client, running.url, body)
        return status, json.loads(text)["error"]["message"], headers.get("Retry-After")

    assert await refused(chat(max_tokens=-1)) == (
        400,
        "max_tokens: -1 is not a whole number from 0 to 1000000000",
        None,
    )
    status, message, _ = await refused({**chat(), "model": "lama"})
    assert status == 404
    assert "did you mean llama" in message
    status, message, _ = await refused({**chat(), "model": "demo/claude"})
    assert status == 503
    assert "this proxy speaks OpenAI's dialect only" in message
    for mock in mocks:
        await mock.become("limited", lasting=40.0)
    status, message, wait = await refused(chat())
    assert (status, message) == (429, "nobody answered (first: rate_limited, second: rate_limited)")
    assert wait is not None
    assert 30 <= int(wait) <= 40
    for mock in mocks:
        await mock.become("well")
    status, message, wait = await refused(chat())  # the providers said how long to stay away
    assert status == 429
    assert wait is not None
    assert int(wait) <= 40


async def test_a_wrong_request_is_answered_with_its_providers_words_and_harms_nobody(
    proxy: Any, client: aiohttp.ClientSession
) -> None:
    async def judge(request: web.Request) -> web.StreamResponse:
        if (await request.json()).get("temperature") == 9:
            return web.json_response({"error": {"message": "too hot"}}, status=400)
        return web.json_response({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})

    async with upstream(judge) as url:
        running = await proxy(url, url)
        for _ in range(8):
            status, text, headers = await complete(client, running.url, chat(temperature=9))
            assert (status, json.loads(text)) == (400, {"error": {"message": "too hot"}})
            assert headers["x-balancer-endpoint"] == "demo/llama@first"
        status, _, headers = await complete(client, running.url, chat())
        assert (status, headers["x-balancer-endpoint"]) == (200, "demo/llama@first")


async def test_a_client_that_goes_away_ends_the_call_and_blames_nobody(
    proxy: Any, client: aiohttp.ClientSession
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    patient = True

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": null}]}\n\n')
        try:
            while patient:
                begun.set()
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)
            await response.write(b"data: [DONE]\n\n")
        except ConnectionError:
            ended.set()
        return response

    async with upstream(slow) as url:
        running = await proxy(url, url)
        for _ in range(6):
            begun.clear()
            ended.clear()
            async with client.post(f"{running.url}/v1/chat/completions", json=chat(stream=True)) as answer:
                await answer.content.readany()
                answer.close()
            async with asyncio.timeout(10):
                await ended.wait()
        patient = False
        _, _, headers = await complete(client, running.url, chat(stream=True))
        assert headers["x-balancer-endpoint"] == "demo/llama@first"
    assert "Traceback" not in running.log()


async def test_a_wrong_configuration_is_told(tmp_path: Path) -> None:
    file = tmp_path / "balancer.yaml"
    file.write_text("providers: {}\nmodles: {}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "proxy.py"), str(file), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert "did you mean models?" in errors.decode()
    assert "Traceback" not in errors.decode()
