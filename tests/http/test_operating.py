"""The operator's verbs, health, readiness and metrics."""

from typing import Any

import aiohttp
import pytest
from msgspec.structs import asdict, replace

from balancer.config import ConfigError, ConfigProblem
from balancer.http.hands import Unreloadable

MODEL = "openai/gpt-4.1"
EAST = "openai/gpt-4.1@azure/eastus2"
OPENAI = "openai/gpt-4.1@openai"


async def post(client: aiohttp.ClientSession, world: Any, path: str, body: Any = None) -> tuple[int, Any]:
    async with client.post(world.url + path, json=body) as response:
        return response.status, await response.json()


async def state(client: aiohttp.ClientSession, world: Any, key: str) -> tuple[Any, ...]:
    async with client.get(f"{world.url}/v1/endpoint?id={key}") as response:
        seen = await response.json()
    return seen["state"], seen["reason"], seen["next"], seen["next_in"]


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (EAST, [EAST]),
        ("azure/eastus2", [EAST]),
        ("azure", [EAST]),
        (MODEL, [OPENAI, EAST]),
        ("gpt-4.1", [OPENAI, EAST]),
    ],
)
async def test_a_target_is_drained_and_resumed(
    world: Any, client: aiohttp.ClientSession, target: str, meant: list[str]
) -> None:
    assert await post(client, world, "/v1/drain", {"target": target, "reason": "new keys"}) == (
        200,
        {"target": target, "endpoints": meant, "ends_in": None},
    )
    for key in meant:
        assert await state(client, world, key) == ("drained", "new keys", None, None)
    assert await post(client, world, "/v1/resume", {"target": target, "reason": "done"}) == (
        200,
        {"target": target, "endpoints": meant},
    )
    assert (await state(client, world, EAST))[0] == "unverified"
    assert world.changes == 2
    by = {"token": None, "result": "done", "target": target}
    assert world.lines.deeds == [
        {"verb": "drain", **by, "span": None, "reason": "new keys"},
        {"verb": "resume", **by, "reason": "done"},
    ]
    assert world.lines.others == []


@pytest.mark.parametrize("span", [600, 600.0, "10m", "0h10m"])
async def test_a_drain_may_end_by_itself(world: Any, client: aiohttp.ClientSession, span: Any) -> None:
    status, answer = await post(client, world, "/v1/drain", {"target": "azure", "for": span})
    assert (status, answer["ends_in"]) == (200, 600.0)
    world.now += 599.0
    assert await state(client, world, EAST) == ("drained", "drained by the operator", "drain ends", 1.0)
    world.now += 1.0
    assert (await state(client, world, EAST))[0] == "unverified"


async def test_resuming_what_was_not_drained_changes_nothing(world: Any, client: aiohttp.ClientSession) -> None:
    assert await post(client, world, "/v1/resume", {"target": "azure"}) == (
        200,
        {"target": "azure", "endpoints": []},
    )


@pytest.mark.parametrize("path", ["/v1/drain", "/v1/resume"])
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"target": "nobody"}, 404, "nobody names no endpoint, tag, provider or model"),
        ({}, 400, "object missing required field target"),
        ({"target": ""}, 400, "target: expected str of length >= 1"),
        ({"target": 5}, 400, "target: expected str, got int"),
        ({"target": "azure", "reasn": "x"}, 400, "reasn: unknown field; did you mean reason?"),
        ({"target": "azure", "reason": "x" * 501}, 400, "reason: expected str of length <= 500"),
    ],
)
async def test_a_wrong_word_is_refused_and_changes_nothing(
    world: Any, client: aiohttp.ClientSession, path: str, body: Any, status: int, message: str
) -> None:
    told, answer = await post(client, world, path, body)
    assert told == answer["error"]["code"] == status
    assert message in answer["error"]["message"]
    assert (world.changes, world.lines.others) == (0, [])
    (deed,) = world.lines.deeds
    assert (deed["verb"], deed["result"], deed["status"]) == (path[4:], "refused", status)
    assert deed["refusal"] == answer["error"]["message"]
    assert deed.get("target") == ("nobody" if status == 404 else None)


@pytest.mark.parametrize("span", [0, -1, 31_536_001, "0s", "366d", "10 minutes", "NaN", "", True, [1]])
async def test_a_wrong_span_is_refused(world: Any, client: aiohttp.ClientSession, span: Any) -> None:
    status, answer = await post(client, world, "/v1/drain", {"target": "azure", "for": span})
    assert status == 400
    assert answer["error"]["message"].startswith("for: ")
    assert (await state(client, world, EAST))[0] == "unverified"


async def test_a_probe_is_made_now(world: Any, client: aiohttp.ClientSession) -> None:
    assert await post(client, world, "/v1/probe", {"endpoint": EAST}) == (
        200,
        {"endpoint": EAST, "kind": "models", "outcome": "success"},
    )
    status, answer = await post(client, world, "/v1/probe", {"endpoint": "openai/gpt-4.1@azure"})
    assert (status, answer["error"]["metadata"]["close_endpoints"][0]) == (404, EAST)


async def test_a_reload_tells_the_generation(world: Any, client: aiohttp.ClientSession) -> None:
    assert await post(client, world, "/-/reload", {}) == (
        200,
        {"config_generation": 2, "at_next_start": [], "changes": {"changed": ["routing.strategy"]}},
    )
    async with client.post(f"{world.url}/-/reload") as response:
        assert await response.json() == {
            "config_generation": 3,
            "at_next_start": [],
            "changes": {"changed": ["routing.strategy"]},
        }


async def test_a_refused_reload_tells_every_problem(world: Any, client: aiohttp.ClientSession) -> None:
    problems = [
        ConfigProblem(file="balancer.yaml", line=line, path="routing", found="is wrong", allowed="use right")
        for line in (3, 4)
    ]

    async def refuse() -> None:
        raise ConfigError(problems)

    world.reload = refuse
    status, answer = await post(client, world, "/-/reload", {})
    assert status == answer["error"]["code"] == 422
    assert answer["error"]["message"] == "the configuration has 2 problems; the old one stays in force"
    assert answer["error"]["metadata"]["problems"] == [
        "balancer.yaml:3: routing: is wrong; use right",
        "balancer.yaml:4: routing: is wrong; use right",
    ]


async def test_a_reload_without_a_file_is_409(world: Any, client: aiohttp.ClientSession) -> None:
    async def refuse() -> None:
        raise Unreloadable("started without a configuration file")

    world.reload = refuse
    status, answer = await post(client, world, "/-/reload", {})
    assert (status, answer["error"]["message"]) == (409, "started without a configuration file")


async def test_health_and_readiness_are_told(world: Any, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{world.url}/-/healthy") as response:
        assert (response.status, await response.json()) == (200, asdict(world.healthy))
    async with client.get(f"{world.url}/-/ready") as response:
        assert (response.status, await response.json()) == (200, asdict(world.ready))


async def test_neither_ready_nor_healthy_is_503_with_the_same_fields_beside_the_error(
    world: Any, client: aiohttp.ClientSession
) -> None:
    world.ready = replace(world.ready, ready=False, missing=["sockets", "it is stopping"])
    world.healthy = replace(world.healthy, healthy=False, problems=["the event loop has not run for 11 s"])
    for path, state, told in (
        ("/-/ready", world.ready, "not ready: sockets; it is stopping"),
        ("/-/healthy", world.healthy, "not healthy: the event loop has not run for 11 s"),
    ):
        async with client.get(f"{world.url}{path}") as response:
            answer = await response.json()
        error = answer.pop("error")
        assert (response.status, error["code"], error["message"]) == (503, 503, told)
        assert answer == asdict(state)
        assert error["metadata"] == {"error_type": "unavailable", **asdict(state)}


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
async def test_metrics_come_as_they_are_asked_for(world: Any, client: aiohttp.ClientSession, accept: str) -> None:
    async with client.get(f"{world.url}/metrics", headers={"Accept": accept}) as response:
        assert await response.read() == b"balancer_up 1\n"
        assert response.headers["Content-Type"] == f"{accept}; version=1.0.0; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
