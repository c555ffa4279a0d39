"""GET /v1/history: what may be asked, and what of it is refused with words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from balancer.core.history import HistoryAbsent, HistoryQuery, HistoryTooLong, Past
from balancer.http.answers import Refused
from balancer.http.history import question

MODEL = "openai/gpt-4.1"
EAST = f"{MODEL}@azure/eastus2"
WALL = 1_800_001_000.0  # what the fixture's clock says; 2027-01-15T08:16:40Z
NOW = 1_800_001_020  # the end of the minute
HOUR = 3600


def asked(**given: str) -> HistoryQuery:
    return question(given, wall=WALL, model=None)


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ("24h", NOW - 24 * HOUR - 60),
        ("90m", NOW - 90 * 60 - 60),
        ("1800000000", 1_800_000_000),
        ("1800000059.5", 1_800_000_000),
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15T08:00:00", 1_800_000_000),
        ("2027-01-15T09:00:00+01:00", 1_800_000_000),
        ("2027-01-15T09:00:00 01:00", 1_800_000_000),  # a plus that nobody escaped
        ("2027-01-15", 1_800_000_000 - 8 * HOUR),
    ],
)
def test_a_moment_may_be_told_in_three_ways(since: str, first: int) -> None:
    assert asked(since=since).since == first


def test_by_default_the_last_hour_is_told_until_now() -> None:
    query = asked(endpoint=EAST)
    assert (query.since, query.until, query.step) == (NOW - HOUR - 60, NOW, 60)


def test_what_is_still_to_come_is_not_asked_for() -> None:
    assert asked(endpoint=EAST).now == WALL
    assert asked(until="1900000000").until == NOW
    assert asked(since="2h", until="1h").until == NOW - HOUR


@pytest.mark.parametrize(
    ("since", "step"),
    [("1h", 60), ("2h", 300), ("24h", 900), ("7d", 4 * HOUR), ("30d", 12 * HOUR), ("90d", 24 * HOUR)],
)
def test_without_a_step_one_endpoint_gets_some_hundred_points(since: str, step: int) -> None:
    assert asked(since=since, endpoint=EAST).step == step


def test_without_a_step_all_endpoints_are_told_in_one() -> None:
    assert asked(since="24h").step is None


@pytest.mark.parametrize(("text", "step"), [("5m", 300), ("1h30m", 5400), ("60", 60), ("whole", None)])
def test_a_step_is_a_duration_in_whole_minutes_or_all_in_one(text: str, step: int | None) -> None:
    assert asked(step=text).step == step


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"since": "soon"}, "since: soon is no moment; use a span such as 24h"),
        ({"since": "3600"}, "since: 3600 is not of the years 2001 to 9998"),
        ({"since": "nan"}, "since: nan is not of the years"),
        ({"since": "-1e300"}, "since: -1e300 is not of the years"),
        ({"since": "1e400"}, "since: 1e400 is not of the years"),
        ({"since": "9999-12-31T23:59:59-23:00"}, "since: .* is not of the years"),
        ({"since": "99999999d"}, "since: 99999999d is not of the years 2001 to 9998"),
        ({"until": ""}, "until: .* is no moment"),
        ({"since": "1h", "until": "2h"}, "since: is not before until, or now"),
        ({"since": "1900000000"}, "since: is not before until, or now"),
        ({"step": "often"}, "step: often is no step; use a duration such as 5m, or whole"),
        ({"step": "90s"}, "step: 90s is not in whole minutes from 1m to 366d"),
        ({"step": "0"}, "step: 0 is not in whole minutes from 1m to 366d"),
        ({"step": "367d"}, "step: 367d is not in whole minutes from 1m to 366d"),
        ({"step": "\u0663\u0660\u0660"}, "step: .* is no step"),  # 300 in Arabic digits
        ({"step": "-60"}, "step: -60 is no step"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_allowed(given: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        asked(**given)
    assert refused.value.status == 400


async def get(world: Any, client: aiohttp.ClientSession, query: str) -> tuple[int, Any]:
    async with client.get(f"{world.url}/v1/history{query}") as response:
        return response.status, await response.json()


async def test_the_answer_is_sent_as_it_comes(world: Any, client: aiohttp.ClientSession) -> None:
    status, told = await get(world, client, f"?endpoint={EAST}&since=2h&step=1h")
    assert status == 200
    (query,) = world.queries
    assert (query.endpoint, query.model, query.step) == (EAST, None, HOUR)
    assert (told["since"], told["until"], told["step"]) == (query.since, query.until, HOUR)
    assert told["series"][0]["points"][0]["uptime"]["report"] == {
        "requests": 0.9,
        "minutes": 1.0,
        "minutes_counted": 1,
    }
    assert told["transitions"][0]["reason"] == "five failures in a row"


async def test_a_model_may_be_asked_for_by_its_alias(world: Any, client: aiohttp.ClientSession) -> None:
    assert (await get(world, client, "?model=GPT-4.1"))[0] == 200
    assert world.queries[0].model == MODEL


async def test_of_what_is_gone_the_past_is_told_while_there_is_any(
    world: Any, client: aiohttp.ClientSession
) -> None:
    assert (await get(world, client, "?endpoint=old/model@gone"))[0] == 200
    assert (await get(world, client, "?model=old/model"))[0] == 200
    world.past = nothing(world.past)
    status, told = await get(world, client, f"?endpoint={MODEL}@azure/eastus1")
    assert (status, told["error"]["metadata"]["close_endpoints"][0]) == (404, EAST)
    status, told = await get(world, client, "?model=gpt-4.2")
    assert (status, told["error"]["metadata"]["close_models"]) == (404, ["gpt-4.1"])
    status, told = await get(world, client, f"?endpoint={EAST}")
    assert (status, told["series"]) == (200, [])


def nothing(past: Callable[[HistoryQuery], Past]) -> Callable[[HistoryQuery], Past]:
    def empty(query: HistoryQuery) -> Past:
        found = past(query)
        return Past(**{**{name: getattr(found, name) for name in found.__struct_fields__}, "series": []})

    return empty


async def test_a_history_that_cannot_be_told_is_503_with_the_reason(
    world: Any, client: aiohttp.ClientSession
) -> None:
    def absent(query: HistoryQuery) -> Past:
        raise HistoryAbsent("the disk gave no answer within 8 s")

    world.past = absent
    status, told = await get(world, client, "")
    assert (status, told["error"]["message"]) == (503, "the disk gave no answer within 8 s")


@pytest.mark.parametrize(
    ("query", "points", "endpoints", "words"),
    [
        (f"?endpoint={EAST}&since=30d&step=1m", 43_201, 1, "step=30m or longer"),
        (f"?model={MODEL}&since=30d&step=1m", 10 * 43_201, 10, "step=4h or longer"),
        ("?since=30d&step=1m", 3000 * 43_201, 3000, "use step=whole"),
    ],
)
async def test_too_many_points_are_refused_with_what_would_do(
    world: Any, client: aiohttp.ClientSession, query: str, points: int, endpoints: int, words: str
) -> None:
    def long(query: HistoryQuery) -> Past:
        raise HistoryTooLong(points, endpoints)

    world.past = long
    status, told = await get(world, client, query)
    assert status == 400
    assert words in told["error"]["message"]
    assert told["error"]["metadata"]["points_max"] == 2000


async def test_an_endpoint_and_a_model_together_are_refused(world: Any, client: aiohttp.ClientSession) -> None:
    status, told = await get(world, client, f"?endpoint={EAST}&model={MODEL}")
    assert (status, told["error"]["message"]) == (400, "endpoint, model: found both; one is allowed")
    assert world.queries == []


def test_the_clock_of_these_tests_is_what_they_say() -> None:
    assert datetime.fromtimestamp(WALL, UTC).isoformat() == "2027-01-15T08:16:40+00:00"
