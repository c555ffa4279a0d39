"""The API's description of itself: the same routes as the server, and every real answer fits it."""

import json
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from balancer.config import ConfigError, ConfigProblem
from balancer.core.request import SESSION_MAX
from balancer.http.complaints import Complaints
from balancer.http.events import Events
from balancer.http.hands import Unreloadable
from balancer.http.limits import LIMITS
from balancer.http.openapi import document
from balancer.http.reports import UNUSED
from balancer.http.routes import routes

MODEL = "openai/gpt-4.1"
EAST = "openai/gpt-4.1@azure/eastus2"
OPENAI = "openai/gpt-4.1@openai"
PAGE = json.loads(document())


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": PAGE["components"]})


def operations() -> dict[tuple[str, str], Any]:
    return {(method.upper(), path): each for path, item in PAGE["paths"].items() for method, each in item.items()}


def test_it_describes_every_route_and_no_other(world_of_routes: Any) -> None:
    assert set(operations()) == {(route.method, route.path) for route in world_of_routes}


def test_it_tells_every_scope(world_of_routes: Any) -> None:
    for route in world_of_routes:
        operation = operations()[route.method, route.path]
        assert operation.get("description") == (None if route.scope is None else f"Scope: {route.scope}.")
        assert ("security" in operation) is (route.scope is not None)


@pytest.fixture
async def world_of_routes(world: Any) -> Any:
    hands = world.hands()
    return routes(hands, LIMITS, Events(hands, LIMITS, lambda: ()), Complaints(hands.log))


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    names = set(PAGE["components"]["schemas"])
    for schema in PAGE["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for part in json.dumps(PAGE).split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in names
    assert len({each["operationId"] for each in operations().values()}) == len(operations())


def test_it_describes_the_session_header_and_what_400_means_wherever_one_may_ask() -> None:
    for method in ("GET", "HEAD", "POST"):
        operation = operations()[method, "/v1/best-provider"]
        (header,) = [each for each in operation["parameters"] if each["in"] == "header"]
        assert (header["name"], header["required"]) == ("x-session-id", False)
        assert header["schema"]["maxLength"] == SESSION_MAX
        assert "same words" in operation["responses"]["400"]["description"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": ""},
        {"model": "a", "models": ["b"] * 101},
        {"model": "a", "session_id": "x" * 257},
        {"model": "a", "route": "none"},
        {"model": "a", "max_tokens": -1},
        {"model": "a", "provider": {"sort": "prise"}},
        {"model": "a", "provider": {"sort": {"by": "price", "up": 1}}},
        {"model": "a", "provider": {"quantizations": ["fp7"]}},
        {"model": "a", "provider": {"max_price": {"image": 1}}},
        {"model": "a", "provider": {"preferred_max_latency": -1}},
        {"model": "a", "balancer": {"count": 101}},
        {"model": "a", "balancer": {"stiky": True}},
    ],
)
async def test_the_schema_of_a_chat_body_refuses_what_the_server_refuses(
    world: Any, client: aiohttp.ClientSession, body: dict[str, Any]
) -> None:
    assert not validator({"$ref": "#/components/schemas/ChatCompletion"}).is_valid(body)
    await holds(world, client, "POST", "/v1/best-provider", body, 400)


def test_it_says_which_fields_of_a_report_do_nothing_yet() -> None:
    properties = PAGE["components"]["schemas"]["Report"]["properties"]
    told = {name for name, each in properties.items() if "not used" in each.get("description", "")}
    assert told == set(UNUSED)


GOOD: list[tuple[str, str, Any]] = [
    ("GET", f"/v1/best-provider?model={MODEL}&explain=true", None),
    ("GET", f"/v1/best-provider?model={MODEL}", None),
    ("HEAD", f"/v1/best-provider?model={MODEL}", None),
    ("POST", "/v1/best-provider", {"model": MODEL, "messages": [], "balancer": {"explain": True}}),
    (
        "POST",
        "/v1/best-provider",
        {"models": [MODEL, "b"], "messages": None, "service_tier": "auto", "stream": True},
    ),
    (
        "POST",
        "/v1/best-provider",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Hi."}],
            "session_id": "s",
            "prompt_cache_key": "k",
            "route": "fallback",
            "max_tokens": 5,
            "modalities": ["text"],
            "provider": {
                "order": ["openai"],
                "quantizations": ["fp8-or-better", "unknown"],
                "sort": {"by": "price", "partition": None},
                "max_price": {"prompt": "9", "completion": 9.5},
                "preferred_max_latency": {"p50": 5},
                "preferred_min_throughput": 1,
                "zdr": None,
                "options": {"openai": {}},
            },
            "balancer": {"prompt_tokens": 9, "region": None, "exclude": [], "count": 1},
        },
    ),
    ("POST", "/v1/reports", {"endpoint": EAST, "status": 500, "latency": 1}),
    (
        "POST",
        "/v1/reports",
        {"reports": [{"endpoint": EAST, "error": "timeout"}, {"endpoint": EAST, "status": 200}]},
    ),
    ("GET", "/v1/models", None),
    ("GET", "/v1/model?id=gpt-4.1", None),
    ("GET", "/v1/providers", None),
    ("GET", "/v1/endpoints", None),
    ("GET", "/v1/endpoints?model=gpt-4.1&provider=azure&state=ejected", None),
    ("GET", f"/v1/endpoint?id={EAST}", None),
    ("GET", f"/v1/endpoint?id={OPENAI}", None),
    ("GET", "/v1/history", None),
    ("GET", f"/v1/history?endpoint={EAST}&since=24h&until=1h&step=1h", None),
    ("GET", "/v1/events", None),
    ("GET", "/v1/config", None),
    ("POST", "/v1/drain", {"target": "local", "for": "10m", "reason": "x"}),
    ("POST", "/v1/resume", {"target": "local"}),
    ("POST", "/v1/probe", {"endpoint": EAST}),
    ("POST", "/-/reload", None),
    ("GET", "/-/healthy", None),
    ("GET", "/-/ready", None),
    ("GET", "/metrics", None),
    ("GET", "/openapi.json", None),
]
REFUSED: list[tuple[str, str, Any, int]] = [
    ("GET", "/v1/best-provider", None, 400),
    ("GET", "/v1/best-provider?model=gpt-9", None, 404),
    ("GET", f"/v1/best-provider?model={MODEL}&zdr=1&explain=1", None, 404),
    ("GET", "/v1/best-provider?model=limited/model", None, 404),
    ("GET", "/v1/best-provider?model=gpt-9&refuse_with=429", None, 429),
    ("HEAD", "/v1/best-provider?model=gpt-9", None, 404),
    ("POST", "/v1/best-provider", {"model": "gpt-9"}, 404),
    ("POST", "/v1/best-provider?refuse_with=503", {"model": "gpt-9"}, 503),
    ("POST", "/v1/best-provider", {"model": MODEL, "models": "b"}, 400),
    ("POST", "/v1/reports", {"endpoint": "nobody@x", "status": 200}, 422),
    ("POST", "/v1/reports", {"endpoint": EAST, "latancy": 1}, 422),
    ("POST", "/v1/reports", "no", 400),
    ("GET", "/v1/model?id=gpt-9", None, 404),
    ("GET", "/v1/endpoints?state=dead", None, 400),
    ("GET", "/v1/endpoints?model=gpt-9", None, 404),
    ("GET", "/v1/endpoint?id=gpt-9", None, 404),
    ("GET", "/v1/history?since=soon", None, 400),
    ("GET", "/v1/models?x=1", None, 400),
    ("GET", "/v1/providers?x=1", None, 400),
    ("GET", "/v1/config?x=1", None, 400),
    ("GET", "/v1/events?x=1", None, 400),
    ("POST", "/v1/drain", {"target": "nobody"}, 404),
    ("POST", "/v1/drain", {"target": "azure", "for": -1}, 400),
    ("POST", "/v1/resume", {"target": "nobody"}, 404),
    ("POST", "/v1/probe", {"endpoint": "nobody"}, 404),
    ("GET", "/-/healthy?x=1", None, 400),
    ("GET", "/-/ready?x=1", None, 400),
    ("GET", "/metrics?x=1", None, 400),
    ("GET", "/openapi.json?x=1", None, 400),
]


async def holds(
    world: Any, client: aiohttp.ClientSession, method: str, target: str, body: Any, status: int
) -> None:
    operation = operations()[method, target.partition("?")[0]]
    async with client.request(method, world.url + target, json=body) as response:
        assert response.status == status
        described = operation["responses"][str(status)]
        for name in described.get("headers", {}):
            assert name in response.headers or status != 200 or not described["headers"][name].get("required")
        if "content" not in described or method == "HEAD":
            assert await response.read() == b""
            return
        schema = described["content"][response.content_type]["schema"]
        if response.content_type == "application/json":
            validator(schema).validate(await response.json())
        elif method != "HEAD":
            assert schema == {"type": "string"}
    if status == 200 and body is not None:
        validator(operation["requestBody"]["content"]["application/json"]["schema"]).validate(body)


@pytest.mark.parametrize(("method", "target", "body"), GOOD)
async def test_every_good_answer_is_as_described(
    world: Any, client: aiohttp.ClientSession, method: str, target: str, body: Any
) -> None:
    world.record(OPENAI, "success", latency=1.0, ttft=0.5)
    world.record(OPENAI, "rate_limited", status=429, retry_after=5.0)
    if "best" not in target:
        world.eject(EAST)
    if target != "/v1/events":
        await holds(world, client, method, target, body, 200)
        return
    content = operations()[method, target]["responses"]["200"]["content"]
    async with client.get(world.url + target, headers={"Last-Event-ID": "b00t-1"}) as response:
        assert (response.status, [response.content_type]) == (200, list(content))
        while not (line := await response.content.readline()).startswith(b"data: "):
            pass
    validator({"$ref": "#/components/schemas/Event"}).validate(json.loads(line[6:]))


@pytest.mark.parametrize(("method", "target", "body", "status"), REFUSED)
async def test_every_refusal_is_as_described(
    world: Any, client: aiohttp.ClientSession, method: str, target: str, body: Any, status: int
) -> None:
    await holds(world, client, method, target, body, status)


async def test_refusals_for_want_of_health_are_as_described(world: Any, client: aiohttp.ClientSession) -> None:
    for key in (OPENAI, EAST):
        world.record(key, "rate_limited", status=429, retry_after=30.0)
    await holds(world, client, "GET", f"/v1/best-provider?model={MODEL}&explain=1", None, 429)
    world.balancer.drain(MODEL, now=world.now)
    await holds(world, client, "GET", f"/v1/best-provider?model={MODEL}&explain=1", None, 503)


async def test_refused_reloads_and_readiness_are_as_described(world: Any, client: aiohttp.ClientSession) -> None:
    world.ready = replace(world.ready, ready=False, missing=["sockets"])
    await holds(world, client, "GET", "/-/ready", None, 503)
    world.healthy = replace(world.healthy, healthy=False, problems=["the event loop has not run for 11 s"])
    await holds(world, client, "GET", "/-/healthy", None, 503)

    async def no_file() -> None:
        raise Unreloadable("no file")

    async def wrong_file() -> None:
        raise ConfigError([ConfigProblem(file="a", line=1, path="b", found="c", allowed="d")])

    world.reload = no_file
    await holds(world, client, "POST", "/-/reload", None, 409)
    world.reload = wrong_file
    await holds(world, client, "POST", "/-/reload", None, 422)


async def test_refusals_for_want_of_a_token_are_as_described(guarded: Any, client: aiohttp.ClientSession) -> None:
    for method, path in operations():
        if operations()[method, path].get("security"):
            await holds(guarded, client, method, path, None, 401)


async def test_bugs_are_as_described(world: Any, client: aiohttp.ClientSession) -> None:
    async def explode(endpoint: str) -> dict[str, Any]:
        raise RuntimeError

    world.probe = explode
    await holds(world, client, "POST", "/v1/probe", {"endpoint": "a"}, 500)


def test_every_route_is_asked_for_a_good_answer_and_for_a_refusal() -> None:
    good = {(method, target.partition("?")[0]) for method, target, _ in GOOD}
    refused = {(method, target.partition("?")[0]) for method, target, _, _ in REFUSED}
    assert good == set(operations())
    assert refused | {("POST", "/-/reload")} == set(operations())  # a reload has a test of its own


@pytest.mark.parametrize(
    ("report", "good"),
    [
        ({"status": 200}, True),
        ({"error": "timeout"}, True),
        ({"status": 200, "error": None}, True),
        ({}, False),
        ({"status": 200, "error": "timeout"}, False),
    ],
)
async def test_the_schema_of_a_report_says_what_the_server_says(
    world: Any, client: aiohttp.ClientSession, report: dict[str, Any], good: bool
) -> None:
    body = {"endpoint": EAST, **report}
    schema = {**json.loads(document()), "$ref": "#/components/schemas/Report"}
    assert Draft202012Validator(schema).is_valid(body) is good
    async with client.post(f"{world.url}/v1/reports", json=body) as response:
        assert (response.status == 200) is good
