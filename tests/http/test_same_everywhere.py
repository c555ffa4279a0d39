"""One question, three ways of asking: GET, POST and the embedded call answer the same, and refuse the same.

Three tables of one configuration and one seed hear the same history and then the same questions, each its own way.
Whatever an answer holds that depends on the table (its id, which is random, too) is then the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balancer.config import Config, ProbeSettings
from balancer.core.balancer import Balancer
from balancer.core.model import Decision, Endpoint, Limits, Model, NoEndpoint, Pricing, Routing, Selected
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.http.best import STATUS

LARGE, SMALL = "author/large", "author/small"
SEED, NOW = 7, 1000.0  # as the fixture's servers have them

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
USED: Mapping[str, Any] = {"tools": TOOLS, "response_format": {"type": "json_object"}, "seed": 1, "max_tokens": 1}
"""What a body holds so that it uses a parameter."""

IN_BALANCER = ("prompt_tokens", "region", "exclude", "count")  # what a chat body cannot say by itself
CUTOFFS = ("preferred_max_latency", "preferred_min_throughput")


# ---- the world ---------------------------------------------------------------------------------------


def world(endpoint: Callable[..., Endpoint], config: Callable[..., Config], strategy: str) -> Config:
    made = [
        endpoint(
            LARGE, "alpha", pricing=Pricing(prompt=1.0, completion=1.0), supported_parameters=frozenset({"tools"})
        ),
        endpoint(LARGE, "alpha/east", pricing=Pricing(prompt=2.0, completion=2.0), region="eu", quantization="fp8"),
        endpoint(LARGE, "alpha/rush", pricing=Pricing(prompt=4.0, completion=4.0), tier="priority"),
        endpoint(LARGE, "beta", zdr=True, data_collection="deny", limits=Limits(rpm=2), quota="beta"),
        endpoint(LARGE, "gamma", input_modalities=frozenset({"text", "image"}), context_length=2000),
        endpoint(SMALL, "delta", pricing=Pricing(prompt=0.0, completion=0.0), supported_parameters=frozenset()),
        endpoint(SMALL, "beta", distillable=True, max_completion_tokens=100),
    ]
    endpoints = {each.id: each for each in made}
    return config(
        endpoints=endpoints,
        models={
            name: Model(
                id=name,
                name=name,
                aliases=(name.partition("/")[2],),
                endpoints=tuple(key for key in endpoints if endpoints[key].model == name),
            )
            for name in (LARGE, SMALL)
        },
        probes=dict.fromkeys(endpoints, ProbeSettings()),
        credentials=dict.fromkeys(endpoints),
        routing=Routing(strategy=strategy),  # type: ignore[arg-type]
    )


def remember(table: Balancer, history: Sequence[tuple[int, Outcome, int]]) -> None:
    ids = list(table.catalog.endpoints)
    for place, outcome, times in history:
        for _ in range(times):
            table.record(ids[place], outcome, now=NOW)


# ---- three ways of asking ----------------------------------------------------------------------------


def embedded(asked: Mapping[str, Any]) -> Request:
    return Request(**asked)


def query(asked: Mapping[str, Any]) -> str:
    pairs: list[tuple[str, Any]] = []
    for name, value in [*asked.items(), *asked.get("provider", {}).items()]:
        if name == "provider":
            continue
        if isinstance(value, dict):
            pairs += [(f"{name}.{key}", each) for key, each in value.items()]
        elif isinstance(value, list):
            pairs.append((name, ",".join(value)))
        else:
            pairs.append((name, str(value).lower() if isinstance(value, bool) else value))
    return urlencode(pairs)


def body(asked: Mapping[str, Any]) -> bytes:
    said = {
        name: value for name, value in asked.items() if name not in (*IN_BALANCER, "require", "input_modalities")
    }
    said |= {name: value for name, value in USED.items() if name in asked.get("require", ())}
    if "max_tokens" in asked:
        said["max_tokens"] = asked["max_tokens"]
    if "output_modalities" in said:
        said["modalities"] = said.pop("output_modalities")
    if "input_modalities" in asked:
        parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        said["messages"] = [{"role": "user", "content": parts}]
    own = {name: asked[name] for name in IN_BALANCER if name in asked}
    return json.dumps(said | ({"balancer": own} if own else {})).encode()


# ---- what they say -----------------------------------------------------------------------------------


def of(selected: Selected) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(selected)))


def answered(decision: Decision) -> dict[str, Any]:
    """What an answer over HTTP says of a decision."""
    return {
        "id": decision.id,
        "model": decision.model,
        "strategy": decision.strategy,
        "selected": of(decision.selected),
        "fallbacks": [of(each) for each in decision.fallbacks],
        "panic": decision.panic,
        "trial": decision.trial,
        "sticky": decision.sticky,
        "valid_for": decision.valid_for,
        "retry_budget": asdict(decision.retry_budget),
    }


def refused(refusal: NoEndpoint) -> dict[str, Any]:
    """What an error over HTTP says of a refusal."""
    told: dict[str, Any] = {"code": refusal.code, "excluded_by": list(refusal.excluded_by)}
    if refusal.constraint is not None:
        told["constraint"] = asdict(refusal.constraint)
    if refusal.retry_after is not None:
        told["retry_after"] = refusal.retry_after
    if refusal.near:
        told["close_models"] = list(refusal.near)
    return {"status": STATUS[refusal.code], "message": refusal.message, "retryable": refusal.retryable, **told}


def call(table: Balancer, asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        request = embedded(asked)
    except ValueError as wrong:
        return "malformed", {"status": 400, "message": str(wrong)}
    try:
        return "answer", answered(table.best(request, now=NOW))
    except NoEndpoint as refusal:
        return "refusal", refused(refusal)


async def heard(response: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    told = await response.json()
    if response.status == 200:
        return "answer", {
            name: value for name, value in told.items() if name not in ("config_generation", "evidence_age")
        }
    error = told["error"]
    assert error["code"] == response.status
    if "availability" not in error:
        return "malformed", {"status": response.status, "message": error["message"]}
    available = error["availability"]
    del available["requested_models"]
    return "refusal", {"status": response.status, "message": error["message"], "retryable": False, **available}


# ---- questions ---------------------------------------------------------------------------------------

slugs = st.lists(
    st.sampled_from(("alpha", "alpha/east", "alpha/rush", "Beta", "gamma", "nobody")), max_size=3, unique=True
)
WISHES: Mapping[str, st.SearchStrategy[Any]] = {
    "order": slugs,
    "only": slugs,
    "ignore": slugs,
    "quantizations": st.lists(st.sampled_from(("fp8", "unknown", "fp8-or-better", "fp7")), max_size=2),
    "allow_fallbacks": st.booleans(),
    "require_parameters": st.booleans(),
    "data_collection": st.sampled_from(("deny", "allow", "maybe")),
    "zdr": st.booleans(),
    "enforce_distillable_text": st.booleans(),
    "max_price": st.fixed_dictionaries(
        {}, optional={name: st.sampled_from((0, 1.5, -1)) for name in ("prompt", "completion")}
    ),
    "sort": st.sampled_from(("price", "latency", "throughput", "exacto", "prise")),
    "partition": st.sampled_from(("model", "none", "all")),
    "preferred_max_latency": st.sampled_from((1, {"p50": 1, "p90": 2}, {"p50": 2, "p90": 1}, -1)),
    "preferred_min_throughput": st.sampled_from((50, {"p50": 50, "p99": 10}, {"p50": 50, "p99": 60})),
}
names = st.sampled_from((LARGE, "LARGE", f"{LARGE}:floor", f"{SMALL}:nitro", "small", "author/larg", ""))
NEEDS: Mapping[str, st.SearchStrategy[Any]] = {
    "models": st.one_of(st.lists(names.filter(bool), max_size=2), st.just(["m"] * 101)),
    "prompt_tokens": st.sampled_from((0, 1000, 5000, -1)),
    "max_tokens": st.sampled_from((50, 5000, 10**10)),
    "require": st.lists(st.sampled_from(("response_format", "seed", "tools")), max_size=3, unique=True).map(sorted),
    "input_modalities": st.just(["text", "image"]),
    "output_modalities": st.sampled_from((["text"], ["audio"], ["smell"])),
    "region": st.sampled_from(("eu", "us", "")),
    "session_id": st.sampled_from(("s", "t", "k" * 257)),
    "service_tier": st.sampled_from(("default", "priority", "flex")),
    "exclude": st.lists(st.sampled_from((f"{LARGE}@alpha", "beta", "gamma")), max_size=3, unique=True),
    "count": st.sampled_from((0, 1, 9, 101)),
    "provider": st.nothing(),
}


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    """A few needs and wishes, in the words of the embedded call."""
    asked: dict[str, Any] = {"model": draw(names)}
    for name in draw(st.lists(st.sampled_from(sorted(NEEDS)), max_size=3, unique=True)):
        if name != "provider":
            asked[name] = draw(NEEDS[name])
    wished = draw(st.lists(st.sampled_from(sorted(WISHES)), max_size=2, unique=True))
    asked["provider"] = {name: draw(WISHES[name]) for name in wished}
    if "input_modalities" in asked:
        asked.setdefault("prompt_tokens", 100)  # or it would be guessed from the messages, which only POST has
    if "max_tokens" in asked:  # a body that says it uses it
        asked["require"] = [*asked.get("require", []), "max_tokens"]
    return asked


kinds = st.sampled_from(("success", "server_error", "server_error", "rate_limited", "refused"))
histories = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.builds(Outcome, kind=kinds, ttft=st.just(1.5), latency=st.just(4.0)),
        st.integers(1, 6),
    ),
    max_size=6,
)


@given(
    strategy=st.sampled_from(("adaptive", "price", "weighted", "least_loaded")),
    history=histories,
    asked=st.lists(questions(), min_size=1, max_size=6),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_get_post_and_the_embedded_call_agree(
    endpoint: Callable[..., Endpoint],
    config: Callable[..., Config],
    serve: Callable[..., Any],
    strategy: str,
    history: Sequence[tuple[int, Outcome, int]],
    asked: Sequence[dict[str, Any]],
) -> None:
    configuration = world(endpoint, config, strategy)
    table = Balancer(configuration, seed=SEED, now=NOW)
    remember(table, history)
    async with serve(configuration) as got, serve(configuration) as posted, aiohttp.ClientSession() as session:
        remember(got.balancer, history)
        remember(posted.balancer, history)
        for each in asked:
            expected = call(table, each)
            async with session.get(f"{got.url}/v1/best-provider?{query(each)}") as response:
                assert await heard(response) == expected, query(each)
            async with session.post(f"{posted.url}/v1/best-provider", data=body(each)) as response:
                assert await heard(response) == expected, body(each)


# ---- one of each kind, so that none is left to chance ------------------------------------------------

KINDS: Mapping[str, tuple[str, Sequence[tuple[int, Outcome, int]], dict[str, Any]]] = {
    "an answer": ("answer", [], {"model": LARGE}),
    "an answer in panic": (
        "answer",
        [(5, Outcome(kind="timeout"), 5), (6, Outcome(kind="timeout"), 5)],
        {"model": SMALL},
    ),
    "no such model": ("refusal", [], {"model": "author/larg"}),
    "a filter": ("refusal", [], {"model": LARGE, "provider": {"max_price": {"prompt": 0.5}, "ignore": ["gamma"]}}),
    "privacy": ("refusal", [], {"model": SMALL, "provider": {"zdr": True}}),
    "only the tried are left": ("refusal", [], {"model": SMALL, "exclude": ["delta", "beta"]}),
    "misconfigured": (
        "refusal",
        [(5, Outcome(kind="refused"), 3), (6, Outcome(kind="refused"), 3)],
        {"model": SMALL},
    ),
    "rate limited": (
        "refusal",
        [(place, Outcome(kind="rate_limited", retry_after=30.0 + place), 1) for place in (5, 6)],
        {"model": SMALL},
    ),
    "malformed": ("malformed", [], {"model": "", "count": 101, "provider": {"sort": "prise", "zdr": True}}),
}


@pytest.mark.parametrize(("kind", "history", "asked"), KINDS.values(), ids=KINDS)
async def test_each_kind_of_answer_is_the_same_every_way(
    endpoint: Callable[..., Endpoint],
    config: Callable[..., Config],
    serve: Callable[..., Any],
    client: aiohttp.ClientSession,
    kind: str,
    history: Sequence[tuple[int, Outcome, int]],
    asked: dict[str, Any],
) -> None:
    configuration = world(endpoint, config, "adaptive")
    table = Balancer(configuration, seed=SEED, now=NOW)
    remember(table, history)
    expected = call(table, asked)
    assert expected[0] == kind
    async with serve(configuration) as got, serve(configuration) as posted:
        remember(got.balancer, history)
        remember(posted.balancer, history)
        async with client.get(f"{got.url}/v1/best-provider?{query(asked)}") as response:
            assert await heard(response) == expected
        async with client.post(f"{posted.url}/v1/best-provider", data=body(asked)) as response:
            assert await heard(response) == expected
