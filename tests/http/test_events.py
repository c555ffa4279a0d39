"""The event stream: what is news, from where it goes on, and how it ends."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from balancer.core.journal import TRANSITIONS_MAX
from balancer.core.outcome import Outcome
from balancer.http.limits import LIMITS

EAST = "openai/gpt-4.1@azure/eastus2"


@asynccontextmanager
async def following(client: aiohttp.ClientSession, world: Any, last: str | None = None) -> Any:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with asyncio.timeout(10), client.get(f"{world.url}/v1/events", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert await block(response) == {"retry": "2000"}
        yield response


async def block(response: aiohttp.ClientResponse) -> dict[str, str] | None:
    """Read one event; `None` at the end of the stream."""
    fields: dict[str, str] = {}
    while line := (await response.content.readline()).decode():
        if line == "\n":
            return fields
        name, _, value = line.rstrip("\n").partition(": ")
        fields[name] = value
    return None


async def first(response: aiohttp.ClientResponse, event: str) -> dict[str, str]:
    """Read on to an event of that name; others may come before it."""
    while told := await block(response):
        if told["event"] == event:
            return told
    raise AssertionError(f"the stream ended before {event}")


async def test_a_change_of_state_is_an_event(world: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, world) as stream:
        world.eject(EAST)
        told = await first(stream, "endpoint.ejected")
        data = json.loads(told["data"])
        assert told["id"] == f"b00t-{data['number']}"
        assert told["event"] == "endpoint.ejected"
        assert 0 < data.pop("next_in") <= 10
        assert data == {
            "number": data["number"],
            "event": "endpoint.ejected",
            "at": 1_800_001_000.0,
            "endpoint": EAST,
            "model": "openai/gpt-4.1",
            "state": "ejected",
            "reason": "5 failures in a row (500)",
            "enforced": True,
        }


async def test_what_health_only_watches_is_an_event_that_says_so(world: Any, client: aiohttp.ClientSession) -> None:
    world.balancer.apply(replace(world.config, health=replace(world.config.health, enforce=False)), now=world.now)
    async with following(client, world) as stream:
        world.record(EAST, "server_error", times=12, status=500)
        told = json.loads((await first(stream, "endpoint.ejected"))["data"])
        assert (told["endpoint"], told["state"], told["enforced"]) == (EAST, "ejected", False)
        world.balancer.drain("azure", now=world.now)
        world.changed()
        told = json.loads((await first(stream, "endpoint.drained"))["data"])
        assert (told["endpoint"], told["enforced"]) == (EAST, True)  # the operator's word is not health's


async def test_a_new_stream_begins_with_news_only(world: Any, client: aiohttp.ClientSession) -> None:
    world.eject(EAST)
    async with following(client, world) as stream:
        world.balancer.drain("azure", now=world.now)
        world.changed()
        told = await block(stream)
        assert told is not None
        assert told["event"] == "endpoint.drained"


async def test_a_stream_goes_on_after_the_last_event(world: Any, client: aiohttp.ClientSession) -> None:
    world.eject(EAST)
    numbers = [each.number for each in world.balancer.transitions(0)]
    async with following(client, world, f"b00t-{numbers[-2]}") as stream:
        told = await block(stream)
        assert told is not None
        assert told["id"] == f"b00t-{numbers[-1]}"


async def test_a_mark_of_another_process_starts_from_the_oldest(world: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, world, "other-5") as stream:
        told = await block(stream)
        assert told is not None
        assert (told["id"], told["event"]) == ("b00t-1", "endpoint.added")


async def test_a_mark_from_the_future_misses_nothing_new(world: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, world, "b00t-999999") as stream:
        world.eject(EAST)
        told = await block(stream)
        assert told is not None
        assert told["event"] == "endpoint.degraded"
        assert await first(stream, "endpoint.ejected")


async def test_what_was_forgotten_is_told_as_a_gap(world: Any, client: aiohttp.ClientSession) -> None:
    for _ in range(TRANSITIONS_MAX // 2 + 5):
        world.balancer.drain("azure", now=world.now)
        world.balancer.resume("azure", now=world.now)
    oldest = world.balancer.transitions(0)[0].number
    async with following(client, world, "b00t-1") as stream:
        told = await block(stream)
        assert told == {"event": "gap", "data": json.dumps({"missed": oldest - 2}, separators=(",", ":"))}
        told = await block(stream)
        assert told is not None
        assert told["id"] == f"b00t-{oldest}"


@pytest.mark.parametrize("last", ["x", "b00t", "b00t-", "b00t-x", "-5", "b00t-" + "9" * 30, "b00t-\u00b2"])
async def test_a_mark_that_nobody_gave_is_refused(world: Any, client: aiohttp.ClientSession, last: str) -> None:
    async with client.get(f"{world.url}/v1/events", headers={"Last-Event-ID": last}) as response:
        if last == "-5":
            assert response.status == 200
            return
        assert response.status == 400
        assert "<boot>-<number>" in (await response.json())["error"]["message"]


async def test_a_quiet_stream_shows_that_it_lives(quick: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, quick) as stream:
        assert await block(stream) == {"": "still here"}
        assert await block(stream) == {"": "still here"}


async def test_streams_end_at_once_when_the_server_stops(world: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, world) as stream:
        async with asyncio.timeout(1):
            await world.server.stop(grace=5.0)
        assert await block(stream) is None


async def test_streams_end_when_the_daemon_says_so(world: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, world) as stream:
        world.stop()
        assert await block(stream) is None


async def test_a_client_that_leaves_gives_its_place_back(
    world: Any, client: aiohttp.ClientSession, until: Any
) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as many:
        streams = [await many.get(f"{world.url}/v1/events") for _ in range(LIMITS.streams)]
        async with client.get(f"{world.url}/v1/events") as response:
            assert response.status == 503
            assert (await response.json())["error"][
                "message"
            ] == f"{LIMITS.streams} event streams are open, which is the most"
        for stream in streams:
            stream.close()
    async with asyncio.timeout(5):
        while True:
            async with client.get(f"{world.url}/v1/events") as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.01)
    assert world.lines.lines == []


async def test_a_client_that_does_not_read_is_dropped(quick: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.port, limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        # Fill what the kernel and the transport hold, until the server gives up on it.
        for _ in range(40):
            for _ in range(TRANSITIONS_MAX // 2):
                quick.balancer.drain("azure", now=quick.now, reason="x" * 500)
                quick.balancer.resume("azure", now=quick.now)
            quick.changed()
            await asyncio.sleep(0.01)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
    writer.close()
    assert quick.lines.lines == []


async def test_doubt_in_a_reporter_is_an_event_with_its_name(world: Any, client: aiohttp.ClientSession) -> None:
    async with following(client, world) as stream:
        for place in ("openai/gpt-4.1@openai", EAST, "meta/llama-3.3@local") * 2:
            outcome = Outcome(kind="connect")
            world.balancer.record(place, outcome, now=world.now, reporter="proxy")
        world.changed()
        data = json.loads((await first(stream, "reporter.suspected"))["data"])
        assert (data["reporter"], data["endpoint"], data["model"], data["state"]) == ("proxy", None, None, None)
        assert data["reason"] == "5 calls in a row got no answer, at 3 unrelated providers (connect)"
        world.eject(EAST)
        assert "reporter" not in json.loads((await first(stream, "endpoint.ejected"))["data"])


async def test_a_token_that_was_taken_back_ends_its_streams_before_it_hears_more(
    guarded: Any, client: aiohttp.ClientSession
) -> None:
    async def follow(token: str) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {token}"}
        return await client.get(f"{guarded.url}/v1/events", headers=headers)

    async with asyncio.timeout(10), await follow("token-of-reader") as taken, await follow("token-of-ops") as kept:
        for stream in (taken, kept):
            assert await block(stream) == {"retry": "2000"}
        guarded.config = replace(guarded.config, tokens=guarded.config.tokens[1:])
        guarded.eject(EAST)
        assert await block(taken) is None
        assert json.loads((await first(kept, "endpoint.ejected"))["data"])["endpoint"] == EAST
