"""The best provider over HTTP: the answer, its headers, and every refusal."""

from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from balancer.core.model import Provider

MODEL = "openai/gpt-4.1"
EAST = "openai/gpt-4.1@azure/eastus2"
OPENAI = "openai/gpt-4.1@openai"


async def ask(client: aiohttp.ClientSession, world: Any, query: str) -> tuple[aiohttp.ClientResponse, Any]:
    async with client.get(f"{world.url}/v1/best-provider?{query}") as response:
        return response, await response.json()


async def test_an_answer_has_every_field_of_the_contract(world: Any, client: aiohttp.ClientSession) -> None:
    response, answer = await ask(client, world, "model=gpt-4.1&prompt_tokens=12000&max_tokens=800")
    assert response.status == 200
    assert answer["id"].startswith("dec_")
    selected = answer.pop("selected")
    fallbacks = answer.pop("fallbacks")
    assert answer == {
        "id": answer["id"],
        "model": MODEL,
        "strategy": "adaptive",
        "panic": False,
        "trial": False,
        "sticky": False,
        "config_generation": 1,
        "valid_for": 5.0,
        "evidence_age": None,
    }
    assert selected == {
        "id": EAST,
        "tag": "azure/eastus2",
        "provider": "azure",
        "model": "gpt-4.1",
        "base_url": "https://azure.test:8443/v1",
        "api": "openai",
        "state": "unverified",
        "timeouts": {"connect": 2.0, "first_token": 30.0, "total": 120.0},
    }
    assert [each["id"] for each in fallbacks] == [OPENAI]


async def test_the_same_facts_are_in_headers(world: Any, client: aiohttp.ClientSession) -> None:
    response, answer = await ask(client, world, f"model={MODEL}")
    headers = {name: value for name, value in response.headers.items() if name.startswith("X-Balancer-")}
    assert headers == {
        "X-Balancer-Endpoint": EAST,
        "X-Balancer-Provider": "azure",
        "X-Balancer-Model": "gpt-4.1",
        "X-Balancer-Base-Url": "https://azure.test:8443/v1",
        "X-Balancer-Host": "azure.test:8443",
        "X-Balancer-Fallbacks": OPENAI,
        "X-Balancer-Decision": answer["id"],
    }
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "application/json"


async def test_a_name_that_no_header_can_hold_is_encoded(
    config: Any, endpoint: Any, serve: Any, client: aiohttp.ClientSession
) -> None:
    odd = endpoint(MODEL, "openai", upstream_model="modèle\r\nSet-Cookie: a", base_url="https://u:p@höst/v1")
    configuration = config()
    configuration = replace(configuration, endpoints={**configuration.endpoints, OPENAI: odd})
    async with serve(configuration) as world:
        response, answer = await ask(client, world, f"model={MODEL}&only=openai")
    assert response.headers["X-Balancer-Model"] == "mod%C3%A8le%0D%0ASet-Cookie: a"
    assert response.headers["X-Balancer-Host"] == "h%C3%B6st"
    assert "Set-Cookie" not in response.headers
    assert answer["selected"]["model"] == "modèle\r\nSet-Cookie: a"


async def test_a_long_list_of_fallbacks_ends_at_a_whole_id_in_its_header(
    config: Any, endpoint: Any, serve: Any, client: aiohttp.ClientSession
) -> None:
    many = [endpoint(MODEL, f"p{number:03}/{'x' * 100}") for number in range(60)]
    configuration = config()
    model = replace(configuration.models[MODEL], endpoints=tuple(each.id for each in many))
    providers = {each.provider: Provider(key=each.provider, name=each.provider) for each in many}
    configuration = config(providers=providers, models={MODEL: model}, endpoints={each.id: each for each in many})
    async with serve(configuration) as world:
        response, answer = await ask(client, world, f"model={MODEL}&count=59")
    told = response.headers["X-Balancer-Fallbacks"].split(",")
    assert len(answer["fallbacks"]) == 59
    assert 0 < len(told) < 59
    assert told == [each["id"] for each in answer["fallbacks"]][: len(told)]


async def test_asking_counts_and_tells_and_is_timed(world: Any, client: aiohttp.ClientSession) -> None:
    await ask(client, world, f"model={MODEL}")
    assert world.balancer.endpoint(EAST, now=world.now).selections == 1
    assert (world.changes, world.decided) == (1, [0.0])


@pytest.mark.parametrize("way", ["HEAD", "explain"])
async def test_head_and_explain_lease_and_count_nothing(
    world: Any, client: aiohttp.ClientSession, way: str
) -> None:
    world.eject(EAST)
    world.now += 60.0
    url = f"{world.url}/v1/best-provider?model={MODEL}"
    if way == "HEAD":
        async with client.head(url) as response:
            assert response.status == 200
            assert response.headers["X-Balancer-Decision"].startswith("dec_")
            assert await response.read() == b""
    else:
        _, answer = await ask(client, world, f"model={MODEL}&explain=true")
        assert answer["trial"] is False
    view = world.balancer.endpoint(EAST, now=world.now)
    assert (view.state, view.selections) == ("ejected", 0)
    _, answer = await ask(client, world, f"model={MODEL}")
    assert (answer["trial"], answer["valid_for"]) == (True, 0.0)
    assert world.balancer.endpoint(EAST, now=world.now).state == "half_open"


async def test_explain_tells_what_was_understood_and_where_each_endpoint_stands(
    world: Any, client: aiohttp.ClientSession
) -> None:
    _, answer = await ask(client, world, f"model={MODEL}&only=azure&prompt_tokens=5&explain=true")
    assert answer["explain"]["requested"] == {
        "model": MODEL,
        "prompt_tokens": 5,
        "provider": {"only": ["azure"]},
    }
    first, second = answer["explain"]["considered"]
    assert set(first) == {"id", "state", "score", "share", "excluded_by", "why"}
    assert (first["id"], first["share"], first["excluded_by"]) == (EAST, 1.0, [])
    assert (second["id"], second["score"], second["excluded_by"]) == (OPENAI, None, ["allowed_providers"])


async def test_an_answer_without_explain_has_no_explain(world: Any, client: aiohttp.ClientSession) -> None:
    _, answer = await ask(client, world, f"model={MODEL}&explain=false")
    assert "explain" not in answer


async def refused(world: Any, client: aiohttp.ClientSession, query: str) -> tuple[Any, dict[str, Any]]:
    response, answer = await ask(client, world, query)
    assert set(answer) == {"error"}
    error = answer["error"]
    assert error["metadata"]["error_type"]
    return response, error


async def test_an_unknown_model_is_404_with_close_names(world: Any, client: aiohttp.ClientSession) -> None:
    response, error = await refused(world, client, "model=openai/gpt-4.2")
    assert response.status == error["code"] == 404
    assert error["availability"] == {
        "code": "model_not_found",
        "excluded_by": [],
        "requested_models": ["openai/gpt-4.2"],
        "retryable": False,
        "close_models": error["availability"]["close_models"],
    }
    assert MODEL in error["availability"]["close_models"]


@pytest.mark.parametrize(
    ("query", "code", "excluded_by"),
    [
        ("max_price.prompt=0.5", "constraint_filtered", ["max_price"]),
        ("zdr=true", "privacy_restricted", ["data_policy:zdr"]),
        (f"exclude={OPENAI},azure/eastus2", "constraint_filtered", ["already_tried"]),
        ("only=nobody&region=us", "constraint_filtered", ["allowed_providers", "data_region"]),
        ("prompt_tokens=200000", "constraint_filtered", ["context_length"]),
    ],
)
async def test_filters_that_leave_nothing_are_named(
    world: Any, client: aiohttp.ClientSession, query: str, code: str, excluded_by: list[str]
) -> None:
    response, error = await refused(world, client, f"model={MODEL}&{query}")
    assert response.status == error["code"] == 404
    assert error["availability"]["code"] == code
    assert set(error["availability"]["excluded_by"]) == set(excluded_by)
    assert error["metadata"] == {"error_type": "not_found"}


async def test_only_drained_endpoints_are_503(world: Any, client: aiohttp.ClientSession) -> None:
    world.balancer.drain(MODEL, now=world.now)
    response, error = await refused(world, client, f"model={MODEL}")
    assert response.status == error["code"] == 503
    assert error["availability"]["code"] == "unavailable"
    assert error["availability"]["excluded_by"] == ["drained"]
    assert "Retry-After" not in response.headers


async def test_quota_everywhere_is_429_with_the_smallest_wait_rounded_up(
    world: Any, client: aiohttp.ClientSession
) -> None:
    world.record(OPENAI, "rate_limited", status=429, retry_after=30.0)
    world.record(EAST, "rate_limited", status=429, retry_after=12.3)
    response, error = await refused(world, client, f"model={MODEL}")
    assert response.status == error["code"] == 429
    assert response.headers["Retry-After"] == "13"
    assert error["availability"] == {
        "code": "capacity_exhausted",
        "excluded_by": ["throttled"],
        "requested_models": [MODEL],
        "retryable": True,
        "retry_after": pytest.approx(12.3),
    }


@pytest.mark.parametrize("line", [403, 429, 503])
async def test_refuse_with_changes_the_status_line_and_nothing_else(
    world: Any, client: aiohttp.ClientSession, line: int
) -> None:
    plain, told = await refused(world, client, "model=nobody/nothing")
    response, error = await refused(world, client, f"model=nobody/nothing&refuse_with={line}")
    assert (plain.status, response.status) == (404, line)
    assert error == told


async def test_refuse_with_changes_the_line_of_a_malformed_question_too(
    world: Any, client: aiohttp.ClientSession
) -> None:
    response, error = await refused(world, client, "model=a&count=x&refuse_with=503")
    assert (response.status, error["code"]) == (503, 400)
    async with client.post(f"{world.url}/v1/best-provider?refuse_with=403", data=b"{") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, 400)
    for query in ("model=a&foo=1&refuse_with=503", "models=a&refuse_with=503", "refuse_with=503"):
        response, error = await refused(world, client, query)
        assert (response.status, error["code"]) == (503, 400)
    response, error = await refused(world, client, "model=a&refuse_with=200")
    assert response.status == error["code"] == 400


async def test_a_refusal_is_explained_too(world: Any, client: aiohttp.ClientSession) -> None:
    _, error = await refused(world, client, f"model={MODEL}&zdr=1&explain=true")
    considered = error["metadata"]["explain"]["considered"]
    assert {each["id"]: each["excluded_by"] for each in considered} == {
        OPENAI: ["data_policy:zdr"],
        EAST: ["data_policy:zdr"],
    }


async def test_a_posted_chat_body_is_answered_by_what_it_needs(world: Any, client: aiohttp.ClientSession) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}}
    body = {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}],
        "session_id": "s1",
        "balancer": {"explain": True},
    }
    async with client.post(f"{world.url}/v1/best-provider", json=body) as response:
        answer = await response.json()
    assert response.status == 200
    assert answer["selected"]["id"] == EAST
    assert answer["sticky"] is False
    assert answer["explain"]["requested"] == {
        "model": "gpt-4.1",
        "prompt_tokens": 3 + 765,
        "input_modalities": ["text", "image"],
    }


async def test_a_posted_question_may_say_how_it_is_refused(world: Any, client: aiohttp.ClientSession) -> None:
    url = f"{world.url}/v1/best-provider?refuse_with=503"
    async with client.post(url, json={"model": "nobody/nothing"}) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (503, 404)


async def test_content_is_never_answered_or_logged(world: Any, client: aiohttp.ClientSession) -> None:
    for model, extra in ((MODEL, {}), ("nobody/nothing", {}), (MODEL, {"max_tokens": "x"}), (MODEL, {"sort": 1})):
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "my secret prompt"}],
            "balancer": {"explain": True},
            **extra,
        }
        async with client.post(f"{world.url}/v1/best-provider", json=body) as response:
            assert "secret prompt" not in await response.text()
    assert "secret prompt" not in repr(world.lines.lines)
