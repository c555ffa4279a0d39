"""Pictures of the table over HTTP."""

import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from balancer.config import Listen, ProbeSettings
from balancer.config.proxies import proxies
from balancer.config.secret import Absent, Secret
from balancer.core.model import STATES, Limits, PriceOverride, Pricing, RetryPolicy, Routing, StickyPolicy

MODEL = "openai/gpt-4.1"
EAST = "openai/gpt-4.1@azure/eastus2"
OPENAI = "openai/gpt-4.1@openai"
LLAMA = "meta/llama-3.3@local"
SPANS = ("30s", "5m", "30m", "1d")
NOTHING = {"p50": None, "p75": None, "p90": None, "p99": None}


async def get(client: aiohttp.ClientSession, world: Any, path: str) -> tuple[int, Any]:
    async with client.get(world.url + path) as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


async def test_an_endpoint_in_a_list_has_every_field(world: Any, client: aiohttp.ClientSession) -> None:
    world.record(EAST, "success", times=3)
    world.eject(EAST)
    world.now += 2.0
    status, answer = await get(client, world, "/v1/endpoints?provider=azure")
    assert status == 200
    (item,) = answer["endpoints"]
    next_in, estimate = item.pop("next_in"), item.pop("success_estimate")
    assert 0 < next_in <= 8
    assert 0 < estimate < 0.9
    assert item == {
        "id": EAST,
        "model": MODEL,
        "provider": "azure",
        "tag": "azure/eastus2",
        "eligible": False,
        "enforced": True,
        "state": "ejected",
        "states": ["ejected"],
        "reason": "5 failures in a row (500)",
        "next": "trial",
        "error_ratio": {"probe": dict.fromkeys(SPANS), "report": dict.fromkeys(SPANS, 0.625)},
        "window_outcomes": {"probe": dict.fromkeys(SPANS, 0), "report": dict.fromkeys(SPANS, 8)},
        "rate_limited_ratio": {"probe": dict.fromkeys(SPANS), "report": dict.fromkeys(SPANS, 0.0)},
        "latency": NOTHING,
        "ttft": NOTHING,
        "throughput": NOTHING,
        "cache_hit_rate": 0.0,
        "in_flight": 0,
        "ceiling": None,
        "selections": 0,
        "evidence_age": 2.0,
        "pricing": {"prompt": 1.0, "completion": 4.0, "input_cache_read": None, "overrides": []},
        "context_length": 100_000,
        "quantization": "fp8",
        "region": "us",
        "tier": None,
        "credential": None,
        "limits": None,
        "cache_ttl": None,
        "priority": 0,
        "weight": 1.0,
    }


async def test_what_is_only_watched_is_told_as_it_would_be(world: Any, client: aiohttp.ClientSession) -> None:
    world.record(EAST, "server_error", times=12, status=500)
    world.now += 1000.0
    watched = replace(world.config.models[MODEL], enforce=False)
    world.balancer.apply(replace(world.config, models={**world.config.models, MODEL: watched}), now=world.now)
    world.record(EAST, "server_error", status=500)
    _, listed = await get(client, world, f"/v1/endpoints?model={MODEL}")
    seen = {each["id"]: (each["eligible"], each["enforced"], each["state"]) for each in listed["endpoints"]}
    assert seen == {OPENAI: (True, False, "unverified"), EAST: (True, False, "ejected")}
    _, item = await get(client, world, f"/v1/endpoint?id={EAST}")
    assert (item["reason"], item["next"]) == ("trial failed (500)", "trial")
    assert (item["ejections"], item["would_be_ejections"]) == ({"consecutive_failures": 1}, {"failed_trial": 1})
    _, model = await get(client, world, f"/v1/model?id={MODEL}")
    assert (model["eligible"], model["total"], model["panic"]) == (2, 2, False)
    _, other = await get(client, world, "/v1/model?id=meta/llama-3.3")
    assert [each["enforced"] for each in other["endpoints"]] == [True]


async def test_where_health_only_watches_a_drain_and_a_missing_key_still_rule_out(
    world: Any, client: aiohttp.ClientSession
) -> None:
    keyless = replace(world.config.endpoints[OPENAI], misconfigured="OPENAI_API_KEY is not set")
    watched = replace(
        world.config,
        endpoints={**world.config.endpoints, OPENAI: keyless},
        health=replace(world.config.health, enforce=False),
    )
    world.balancer.apply(watched, now=world.now)
    world.balancer.drain("azure", now=world.now)
    _, listed = await get(client, world, "/v1/endpoints")
    seen = {each["id"]: (each["eligible"], each["state"]) for each in listed["endpoints"]}
    assert seen == {OPENAI: (False, "misconfigured"), EAST: (False, "drained"), LLAMA: (True, "unverified")}


async def test_windows_are_told_shortest_first(world: Any, client: aiohttp.ClientSession) -> None:
    _, answer = await get(client, world, "/v1/endpoints")
    for name in ("error_ratio", "window_outcomes", "rate_limited_ratio"):
        assert tuple(answer["endpoints"][0][name]["report"]) == SPANS


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [OPENAI, EAST, LLAMA]),
        ("?model=openai/gpt-4.1", [OPENAI, EAST]),
        ("?model=gpt-4.1", [OPENAI, EAST]),
        ("?provider=azure", [EAST]),
        ("?provider=azure/eastus2", [EAST]),
        ("?state=ejected", [OPENAI]),
        ("?state=unverified", [EAST, LLAMA]),
        ("?state=drained", []),
        ("?model=gpt-4.1&state=unverified", [EAST]),
        ("?model=gpt-4.1&provider=local", []),
    ],
)
async def test_endpoints_may_be_asked_for_by_model_provider_and_state(
    world: Any, client: aiohttp.ClientSession, query: str, ids: list[str]
) -> None:
    world.eject(OPENAI)
    status, answer = await get(client, world, f"/v1/endpoints{query}")
    assert status == 200
    assert [each["id"] for each in answer["endpoints"]] == ids


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/endpoints?state=ejectd", 400, "state: ejectd is not a state; did you mean ejected?"),
        ("/v1/endpoints?state=", 400, 'state: "" is not a state; allowed: drained, misconfigured, '),
        ("/v1/endpoints?model=gpt-4.2", 404, "no model gpt-4.2; did you mean gpt-4.1"),
        ("/v1/endpoints?provider=nobody", 404, "no provider nobody"),
        ("/v1/endpoints?provider=asure", 404, "no provider asure; did you mean azure?"),
        ("/v1/endpoints?model=a&model=b", 400, "model: given 2 times; once is allowed"),
        ("/v1/endpoints?models=a", 400, "models: unknown parameter; did you mean model?"),
        ("/v1/endpoint", 400, "id: is needed"),
        ("/v1/endpoint?id=", 400, "id: is needed"),
        ("/v1/endpoint?id=openai/gpt-4.1@azure/eastus", 404, f"did you mean {EAST}"),
        ("/v1/endpoint?id=x", 404, "no endpoint x"),
        ("/v1/endpoint?id=a%00b%0Ac", 404, 'no endpoint "a\\u0000b\\nc"'),
        ("/v1/model", 400, "id: is needed"),
        ("/v1/model?id=nobody", 404, "no model nobody"),
        ("/v1/model?id=%ED%A0%80", 400, "the query is not valid UTF-8"),
    ],
)
async def test_what_is_not_there_is_told_with_what_is_near(
    world: Any, client: aiohttp.ClientSession, path: str, status: int, message: str
) -> None:
    async with client.get(aiohttp.client.URL(world.url + path, encoded=True)) as response:
        told = (await response.json())["error"]
    assert (response.status, told["code"]) == (status, status)
    assert message in told["message"]


async def test_every_state_may_be_asked_for(world: Any, client: aiohttp.ClientSession) -> None:
    for state in STATES:
        assert (await get(client, world, f"/v1/endpoints?state={state}"))[0] == 200


async def test_one_endpoint_tells_everything(world: Any, client: aiohttp.ClientSession) -> None:
    for _ in range(30):
        world.record(EAST, "success", latency=2.0, ttft=0.5)
    world.record(EAST, "overloaded", status=503, detail="busy")
    world.now += 4.0
    _, answer = await get(client, world, f"/v1/endpoint?id={EAST}")
    assert answer["windows"]["report"] == {span: {"success": 30, "failure": 1, "rate_limited": 0} for span in SPANS}
    assert answer["windows"]["probe"] == {span: {"success": 0, "failure": 0, "rate_limited": 0} for span in SPANS}
    assert answer["outcomes"] == {"probe": {}, "report": {"success": 30, "overloaded": 1}}
    assert answer["failures"] == [
        {"age": 4.0, "source": "report", "outcome": "overloaded", "status": 503, "detail": "busy"}
    ]
    assert answer["ejections"] == answer["would_be_ejections"] == {}
    assert answer["timeouts"]["total"] == 30.0
    assert answer["upstream"] == {
        "model": "gpt-4.1",
        "base_url": "https://azure.test:8443/v1",
        "api": "openai",
        "max_prompt_tokens": None,
        "max_completion_tokens": None,
        "supported_parameters": None,
        "input_modalities": ["image", "text"],
        "output_modalities": ["text"],
        "data_collection": "deny",
        "zdr": False,
        "distillable": None,
    }
    _, listed = await get(client, world, "/v1/endpoints?provider=azure")
    assert listed["endpoints"][0].items() <= answer.items()


async def test_models_tell_how_many_of_their_endpoints_may_be_chosen(
    world: Any, client: aiohttp.ClientSession
) -> None:
    world.eject(OPENAI)
    _, answer = await get(client, world, "/v1/models")
    assert answer["models"][0] == {
        "id": MODEL,
        "name": "GPT-4.1",
        "aliases": ["gpt-4.1"],
        "created": None,
        "context_length": None,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "distillable": None,
        "eligible": 1,
        "total": 2,
        "panic": False,
        "retry_budget": {"share": 0.0, "exhausted": False},
    }
    world.eject(EAST)
    _, one = await get(client, world, "/v1/model?id=GPT-4.1")
    assert (one["id"], one["eligible"], one["panic"]) == (MODEL, 0, True)
    assert [each["id"] for each in one["endpoints"]] == [OPENAI, EAST]


async def test_providers_tell_their_doors_and_states(world: Any, client: aiohttp.ClientSession) -> None:
    world.eject(OPENAI)
    _, answer = await get(client, world, "/v1/providers")
    assert answer["providers"] == [
        {
            "key": "openai",
            "name": "OpenAI",
            "tags": ["openai"],
            "endpoints": 1,
            "states": {"ejected": 1},
            "announced": None,
        },
        {
            "key": "azure",
            "name": "Azure",
            "tags": ["azure/eastus2"],
            "endpoints": 1,
            "states": {"unverified": 1},
            "announced": None,
        },
        {
            "key": "local",
            "name": "Local",
            "tags": ["local"],
            "endpoints": 1,
            "states": {"unverified": 1},
            "announced": None,
        },
    ]


async def test_the_configuration_is_shown(world: Any, client: aiohttp.ClientSession) -> None:
    _, answer = await get(client, world, "/v1/config")
    assert answer["generation"] == 1
    assert answer["listen"] == ["127.0.0.1:0"]
    assert answer["tokens"] == []
    assert answer["routing"]["strategy"] == "adaptive"
    assert answer["health"]["windows"] == [30.0, 300.0, 1800.0, 86400.0]
    assert [each["id"] for each in answer["models"]] == [MODEL, "meta/llama-3.3"]
    assert answer["endpoints"][0]["probe"]["kind"] == "models"
    assert answer["endpoints"][1]["input_modalities"] == ["image", "text"]


NIGHTLY = PriceOverride(start=0, end=360, days=frozenset({6, 0, 5}), prompt=0.5)
LONG = PriceOverride(min_prompt_tokens=200_000, prompt=4.0, completion=12.0)


async def test_what_is_learned_and_what_is_allowed_is_shown(
    serve: Any, client: aiohttp.ClientSession, config: Any, endpoint: Any
) -> None:
    rich = endpoint(
        MODEL,
        "openai",
        tier="flex",
        credential="env OPENAI_API_KEY",
        quota="openai",
        limits=Limits(rpm=60),
        cache_ttl=300.0,
        pricing=Pricing(prompt=2.0, completion=8.0, overrides=(NIGHTLY, LONG)),
    )
    plain = config()
    async with serve(replace(plain, endpoints={**plain.endpoints, OPENAI: rich})) as world:
        facts = {"latency": 3.0, "ttft": 1.0, "prompt_tokens": 1000, "completion_tokens": 100}
        world.record(OPENAI, "success", times=5, cached_tokens=800, **facts)
        world.record(OPENAI, "success", times=12, **facts)
        world.record(OPENAI, "rate_limited", times=3, status=429)
        wishes = {"model": MODEL, "only": "openai", "service_tier": "flex"}
        async with client.get(f"{world.url}/v1/best-provider", params=wishes) as response:
            assert response.status == 429
        world.now += 30.0
        async with client.get(f"{world.url}/v1/best-provider", params=wishes) as response:
            assert response.status == 200
        _, listed = await get(client, world, "/v1/endpoints?provider=openai")
        (item,) = listed["endpoints"]
        assert item["throughput"]["p50"] == pytest.approx(100 / 3, rel=0.02)
        assert item["cache_hit_rate"] == pytest.approx(0.4)  # 0.8, of which five requests prove the half
        assert (item["in_flight"], item["tier"]) == (1, "flex")
        assert 16.0 <= item["ceiling"] <= 17.0  # a fifth below twenty a minute, and half a minute of rise
        assert item["credential"] == "env OPENAI_API_KEY"
        assert (item["limits"], item["cache_ttl"]) == ({"rpm": 60, "tpm": None}, 300.0)
        nightly, long = item["pricing"]["overrides"]
        assert (nightly["start"], nightly["end"], nightly["days"], nightly["prompt"]) == (0, 360, [0, 5, 6], 0.5)
        assert (long["min_prompt_tokens"], long["completion"], long["days"]) == (200_000, 12.0, None)
        _, whole = await get(client, world, f"/v1/endpoint?id={OPENAI}")
        assert item.items() <= whole.items()


async def test_a_model_tells_its_retry_budget(world: Any, client: aiohttp.ClientSession) -> None:
    for tried in ("", *[f"&exclude={EAST}"] * 12):
        async with client.get(f"{world.url}/v1/best-provider?model={MODEL}{tried}") as response:
            assert response.status == 200
    _, answer = await get(client, world, "/v1/models")
    budgets = {each["id"]: each["retry_budget"] for each in answer["models"]}
    assert budgets[MODEL] == {"share": pytest.approx(12 / 13), "exhausted": True}
    assert budgets["meta/llama-3.3"] == {"share": 0.0, "exhausted": False}


async def test_the_configuration_shows_how_decisions_are_made_and_where_keys_are(
    serve: Any, client: aiohttp.ClientSession, config: Any, endpoint: Any
) -> None:
    rich = endpoint(
        MODEL,
        "openai",
        door="openai",
        credential="env OPENAI_API_KEY",
        quota="openai",
        limits=Limits(tpm=1000),
        cache_ttl=300.0,
        pricing=Pricing(prompt=2.0, completion=8.0, overrides=(NIGHTLY,)),
    )
    plain = config()
    routing = Routing(sticky=StickyPolicy(ttl=60.0), retry_budget=RetryPolicy(ratio=0.1, floor=3))
    rewritten = replace(plain, routing=routing, endpoints={**plain.endpoints, OPENAI: rich})
    async with serve(rewritten) as world:
        _, answer = await get(client, world, "/v1/config")
        async with client.get(f"{world.url}/v1/config") as response:
            assert "very-secret" not in await response.text()
    assert answer["routing"]["sticky"] == {"ttl": 60.0, "max_sessions": 100_000}
    assert answer["routing"]["retry_budget"] == {"ratio": 0.1, "floor": 3}
    assert answer["routing"]["timeouts"]["first_token_min"] == 2.0
    first, second, _ = answer["endpoints"]
    assert (first["credential"], second["credential"]) == ("env OPENAI_API_KEY", None)
    assert (first["quota"], first["limits"], first["cache_ttl"]) == ("openai", {"rpm": None, "tpm": 1000}, 300.0)
    assert first["pricing"]["overrides"][0]["days"] == [0, 5, 6]
    assert "identity" not in first


async def test_no_reading_shows_a_secret(guarded: Any, client: aiohttp.ClientSession, endpoint: Any) -> None:
    private = endpoint(MODEL, "openai", base_url="https://user:hunter2@openai.test/v1?key=hunter2")
    probe = ProbeSettings(kind="http", url="https://user:hunter2@openai.test/health?key=hunter2")
    guarded.config = replace(
        guarded.config,
        endpoints={**guarded.config.endpoints, OPENAI: private},
        probes={**guarded.config.probes, OPENAI: probe},
        listen=(Listen(host="::1", port=8790), Listen(path="/run/balancer.sock")),
    )
    headers = {"Authorization": "Bearer token-of-ops"}
    for path in ("/v1/config", "/v1/endpoints", "/v1/models", "/v1/providers", f"/v1/endpoint?id={OPENAI}"):
        async with client.get(guarded.url + path, headers=headers) as response:
            text = await response.text()
        for secret in ("very-secret", "token-of", "hunter2", "digest-of"):
            assert secret not in text
    async with client.get(f"{guarded.url}/v1/config", headers=headers) as response:
        answer = await response.json()
    assert answer["tokens"][2] == {"name": "proxy", "scopes": ["read", "report"]}
    assert answer["listen"] == ["[::1]:8790", "unix:/run/balancer.sock"]
    assert answer["endpoints"][0]["base_url"] == "https://***@openai.test/v1?***"
    assert json.dumps(answer).count("***") == 4


async def test_reading_changes_nothing(world: Any, client: aiohttp.ClientSession) -> None:
    paths = ("/v1/config", "/v1/endpoints", "/v1/models", "/v1/providers", f"/v1/endpoint?id={OPENAI}")
    first = [await get(client, world, path) for path in paths]
    assert [await get(client, world, path) for path in paths] == first
    assert world.changes == 0


async def test_a_probes_secrets_are_shown_as_such_and_what_is_absent_with_its_reason(
    serve: Any, client: aiohttp.ClientSession, config: Any
) -> None:
    probe = ProbeSettings(
        kind="http",
        url="/health",
        send_headers={"x-plain": "fine", "x-secret": Secret("very-secret"), "x-gone": Absent("GONE is not set")},
        send_body=Secret("very-secret"),
        proxy=proxies({"https_proxy": "http://user:very-secret@proxy.test:3128", "http_proxy": "socks5://s.test"}),
    )
    plain = config()
    async with serve(replace(plain, probes={**plain.probes, OPENAI: probe})) as world:
        _, answer = await get(client, world, "/v1/config")
    shown = answer["endpoints"][0]["probe"]
    assert shown["send_headers"] == {"x-plain": "fine", "x-secret": "***", "x-gone": {"absent": "GONE is not set"}}
    assert shown["send_body"] == "***"
    assert shown["proxy"]["https"] == {"host": "proxy.test", "port": 3128, "login": "***", "password": "***"}
    assert "socks5" in shown["proxy"]["http"]["absent"]
    assert "very-secret" not in str(answer)
