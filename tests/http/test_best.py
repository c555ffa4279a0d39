"""The best provider over HTTP: the answer, its headers, and every refusal."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from balancer.core.model import Provider

MODEL = "openai/gpt-4.1"
EAST = "openai/gpt-4.1@azure/eastus2"
OPENAI = "openai/gpt-4.1@openai"
LLAMA = "meta/llama-3.3@local"


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
        "retry_budget": {"share": 0.0, "exhausted": False},
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
        "timeouts": selected["timeouts"],
        "credential": None,
    }
    assert selected["timeouts"].keys() == {"connect", "first_token", "total"}
    assert all(seconds > 0 for seconds in selected["timeouts"].values())
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


async def test_the_place_of_the_key_is_told_and_never_the_key(
    config: Any, endpoint: Any, serve: Any, client: aiohttp.ClientSession
) -> None:
    keyed = endpoint(MODEL, "openai", credential="env OPENAI_API_KEY")
    configuration = config()
    configuration = replace(configuration, endpoints={**configuration.endpoints, OPENAI: keyed})
    async with serve(configuration) as world:
        _, answer = await ask(client, world, f"model={MODEL}&only=openai")
    assert answer["selected"]["credential"] == "env OPENAI_API_KEY"
    assert "sk-very-secret" not in str(answer)


async def test_explain_extends_openrouters_metadata(world: Any, client: aiohttp.ClientSession) -> None:
    query = "model=gpt-4.1:nitro&only=azure&region=us&exclude=local&prompt_tokens=5&explain=true"
    _, answer = await ask(client, world, query)
    explain = answer["explain"]
    first, second = explain.pop("considered")
    assert explain == {
        "requested": "gpt-4.1:nitro",
        "strategy": "sort:throughput",
        "region": "us",
        "summary": "available=1, selected=Azure",
        "attempt": 2,
        "is_byok": True,
        "endpoints": {"total": 2, "available": [{"provider": "Azure", "model": "gpt-4.1", "selected": True}]},
        "understood": {
            "model": "gpt-4.1:nitro",
            "prompt_tokens": 5,
            "region": "us",
            "exclude": ["local"],
            "provider": {"only": ["azure"]},
        },
    }
    assert answer["strategy"] == "sort:throughput"
    assert set(first) == {"id", "state", "score", "weight", "share", "excluded_by", "why"}
    assert (first["id"], first["share"], first["excluded_by"]) == (EAST, 1.0, [])
    assert (second["id"], second["score"]) == (OPENAI, None)
    assert set(second["excluded_by"]) == {"allowed_providers", "data_region"}


async def test_explain_tells_every_endpoint_of_every_asked_model_once(
    world: Any, client: aiohttp.ClientSession
) -> None:
    _, answer = await ask(client, world, "models=gpt-4.1,meta/llama-3.3&explain=true")
    explain = answer["explain"]
    assert (explain["requested"], explain["attempt"]) == ("gpt-4.1", 1)
    assert sorted(each["id"] for each in explain["considered"]) == sorted([OPENAI, EAST, LLAMA])
    assert explain["endpoints"]["total"] == 3
    assert [each["selected"] for each in explain["endpoints"]["available"]].count(True) == 1
    assert explain["summary"].startswith("available=3, selected=")


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
    assert error["availability"]["retryable"] is False
    constraint = error["availability"]["constraint"]
    assert constraint.keys() == {"field", "detail"}
    assert all(constraint.values())


async def test_a_refusal_repeats_all_asked_models_in_order(world: Any, client: aiohttp.ClientSession) -> None:
    _, error = await refused(world, client, "model=openai/gpt-9:nitro&models=gpt-8,GPT-7,gpt-8")
    assert error["availability"]["requested_models"] == ["openai/gpt-9:nitro", "gpt-8", "gpt-7"]
    _, error = await refused(world, client, "models=gpt-4.1,meta/llama-3.3&zdr=1")
    assert error["availability"]["requested_models"] == ["gpt-4.1", "meta/llama-3.3"]
    assert error["availability"]["excluded_by"] == ["data_policy:zdr"]


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
    for query in ("model=a&foo=1&refuse_with=503", "modles=a&refuse_with=503", "refuse_with=503"):
        response, error = await refused(world, client, query)
        assert (response.status, error["code"]) == (503, 400)
    response, error = await refused(world, client, "model=a&refuse_with=200")
    assert response.status == error["code"] == 400


async def test_a_refusal_is_explained_too(world: Any, client: aiohttp.ClientSession) -> None:
    _, error = await refused(world, client, f"model={MODEL}&zdr=1&explain=true")
    explain = error["metadata"]["explain"]
    considered = explain.pop("considered")
    assert explain == {
        "requested": MODEL,
        "strategy": None,
        "region": None,
        "summary": "available=0",
        "attempt": 1,
        "is_byok": True,
        "endpoints": {"total": 2, "available": []},
        "understood": {"model": MODEL, "provider": {"zdr": True}},
    }
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
    understood = answer["explain"]["understood"]
    assert understood.pop("prompt_tokens") > 700
    assert understood == {"model": "gpt-4.1", "input_modalities": ["text", "image"], "session_id": "s1"}


# ---- sessions ------------------------------------------------------------------------------------------


async def sticky(
    client: aiohttp.ClientSession, world: Any, *, query: str = "", header: str = "", body: Any = None
) -> tuple[str, bool]:
    headers = {"x-session-id": header} if header else {}
    url = f"{world.url}/v1/best-provider"
    if body is None:
        asking = client.get(f"{url}?model={MODEL}&{query}", headers=headers)
    else:
        asking = client.post(url, json={"model": MODEL, **body}, headers=headers)
    async with asking as response:
        assert response.status == 200
        answer = await response.json()
    return answer["selected"]["id"], answer["sticky"]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"query": "session_id=s"}, {"query": "session_id=s"}),
        ({"query": "session_id=s"}, {"header": "s"}),
        ({"header": "s"}, {"header": "s", "body": {"prompt_cache_key": "k"}}),
        ({"body": {"session_id": "s"}}, {"query": "session_id=s", "header": "other"}),
        ({"header": "caf\u00e9"}, {"header": "caf\u00e9"}),
    ],
)
async def test_a_session_stays_where_it_was_whatever_way_its_key_comes(
    world: Any, client: aiohttp.ClientSession, first: dict[str, Any], again: dict[str, Any]
) -> None:
    order = "order=openai" if "body" not in first else ""
    chosen, _ = await sticky(client, world, **{**first, "query": f"{first.get('query', '')}&{order}"})
    assert await sticky(client, world, **again) == (chosen, True)
    _, kept = await sticky(client, world, query="session_id=somebody-else")
    assert kept is False


async def test_a_report_of_a_session_takes_it_along(world: Any, client: aiohttp.ClientSession) -> None:
    report = {"endpoint": OPENAI, "status": 200, "latency": 1.0, "session_id": "s"}
    async with client.post(f"{world.url}/v1/reports", json=report) as response:
        assert response.status == 200
    assert await sticky(client, world, query="session_id=s") == (OPENAI, True)


async def test_a_session_key_of_bytes_that_are_no_text_is_a_key_too(world: Any, raw: Any) -> None:
    head = b"GET /v1/best-provider?model=gpt-4.1&explain=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = await raw(world.port, head + b"X-Session-Id: a\xff\r\n\r\n")
    assert b" 200 " in answer.partition(b"\r\n")[0]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["explain"]["understood"]["session_id"] == "a\\xff"


async def test_a_query_of_bytes_that_are_no_text_is_refused(world: Any, raw: Any) -> None:
    head = b"GET /v1/best-provider?model=\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b" 400 " in (await raw(world.port, head)).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("&session_id=" + "x" * 300, {"session_id": "x" * 300}),
        ("&sort=prise&preferred_max_latency=-1", {"provider": {"sort": "prise", "preferred_max_latency": -1}}),
        ("&models=" + ",".join("b" * 101), {"models": ["b"] * 101}),
    ],
)
async def test_bad_input_is_the_same_400_for_get_and_post(
    world: Any, client: aiohttp.ClientSession, query: str, body: dict[str, Any]
) -> None:
    response, error = await refused(world, client, f"model=gpt-4.1{query}")
    async with client.post(f"{world.url}/v1/best-provider", json={"model": "gpt-4.1", **body}) as posted:
        told = (await posted.json())["error"]
    assert response.status == posted.status == 400
    assert error == told
    assert world.decided == []


async def test_a_megabyte_of_a_session_key_is_refused_beside_all_else(
    world: Any, client: aiohttp.ClientSession
) -> None:
    body = json.dumps({"model": MODEL, "session_id": "x" * 2**20, "models": ["b"] * 10_000}).encode()
    async with client.post(f"{world.url}/v1/best-provider", data=BytesIO(body)) as response:
        error = (await response.json())["error"]
    assert response.status == 400
    assert error["message"] == (
        "models: 10000 entries; 100 are allowed; session_id: 1048576 characters; use text of 1 to 256 characters"
    )
    assert world.decided == []


# ---- the retry budget ----------------------------------------------------------------------------------


async def test_an_exhausted_retry_budget_is_told_in_the_body_and_a_header(
    world: Any, client: aiohttp.ClientSession
) -> None:
    for _ in range(20):
        response, answer = await ask(client, world, f"model={MODEL}")
    assert answer["retry_budget"] == {"share": 0.0, "exhausted": False}
    assert "X-Balancer-Retry-Budget" not in response.headers
    for _ in range(40):
        response, answer = await ask(client, world, f"model={MODEL}&exclude={OPENAI}")
    assert answer["retry_budget"]["exhausted"] is True
    assert answer["retry_budget"]["share"] == pytest.approx(40 / 60, abs=0.02)
    assert response.headers["X-Balancer-Retry-Budget"] == "exhausted"


# ---- posting -------------------------------------------------------------------------------------------


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
