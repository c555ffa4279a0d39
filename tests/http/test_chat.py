"""A chat-completions body: what it needs, what it asks of us, and what is wrong with it."""

import json
from typing import Any

import pytest

from balancer.core.request import Cutoffs, Preferences, Request
from balancer.http.answers import Refused
from balancer.http.chat import EXTRAS, PARAMETERS, WISHES, chat
from balancer.http.messages import digest

TEXT = {"role": "user", "content": "hello"}


def read(**body: Any) -> Request:
    return chat(json.dumps({"model": "a", **body}).encode()).request


def test_a_body_with_only_a_model_needs_nothing() -> None:
    assert read() == Request(model="a")


def test_keys_that_an_endpoint_supports_or_not_are_required() -> None:
    used: dict[str, Any] = dict.fromkeys(PARAMETERS, 1)
    request = read(**used, stream=True, user="u", n=1)
    assert request.require == PARAMETERS


@pytest.mark.parametrize("value", [None, [], {}])
def test_a_parameter_that_is_empty_is_not_used(value: Any) -> None:
    assert read(tools=value, stop=value).require == ()


def test_the_default_format_is_no_requirement_and_a_schema_is() -> None:
    assert read(response_format={"type": "text"}).require == ()
    assert read(response_format={"type": "json_schema", "json_schema": {}}).require == ("response_format",)
    assert read(response_format="odd").require == ("response_format",)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": None}, None),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_the_length_of_the_answer_is_read(body: dict[str, Any], tokens: int | None) -> None:
    assert read(**body).max_tokens == tokens


def test_output_modalities_are_read() -> None:
    assert read(modalities=["text", "audio"]).output_modalities == ("text", "audio")


def test_modalities_and_the_length_of_the_prompt_follow_from_the_messages_and_tools() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:" + "A" * 5000, "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    request = read(messages=messages)
    assert request.input_modalities == ("text", "image")
    assert request.prompt_tokens is not None
    tools = [{"type": "function", "function": {"name": "look", "description": "Look closer " * 50}}]
    longer = read(messages=messages, tools=tools).prompt_tokens
    assert longer is not None
    assert longer - request.prompt_tokens > 50


def test_a_body_without_messages_tells_no_length() -> None:
    assert read(tools=[{"type": "function"}]).prompt_tokens is None


def test_a_prompt_length_that_is_told_wins() -> None:
    assert read(messages=[TEXT], balancer={"prompt_tokens": 12_000}).prompt_tokens == 12_000


def test_our_own_object_is_read() -> None:
    body = {"model": "a", "balancer": {"exclude": ["A/B@c"], "count": 1, "region": "eu", "explain": True}}
    asked = chat(json.dumps(body).encode())
    assert asked.request == Request(model="a", exclude=("a/b@c",), count=1, region="eu")
    assert asked.explain is True


def test_preferences_are_openrouters() -> None:
    request = read(
        provider={
            "order": ["OpenAI"],
            "only": ["x"],
            "ignore": ["y"],
            "quantizations": ["fp8"],
            "allow_fallbacks": False,
            "require_parameters": True,
            "data_collection": "deny",
            "zdr": True,
            "enforce_distillable_text": True,
            "max_price": {"prompt": 1.5, "completion": "2"},
            "options": {"openai": {}},
            "sort": {"by": "latency", "partition": "none"},
            "preferred_max_latency": {"p50": 1, "p99": 5.5},
            "preferred_min_throughput": 20,
        }
    )
    assert request.provider == Preferences(
        order=("openai",),
        only=("x",),
        ignore=("y",),
        quantizations=("fp8",),
        allow_fallbacks=False,
        require_parameters=True,
        data_collection="deny",
        zdr=True,
        enforce_distillable_text=True,
        max_price_prompt=1.5,
        max_price_completion=2.0,
        sort="latency",
        partition="none",
        preferred_max_latency=Cutoffs(p50=1, p99=5.5),
        preferred_min_throughput=Cutoffs(p50=20),
    )


def test_what_is_null_is_the_default() -> None:
    names = ("order", "allow_fallbacks", "data_collection", "zdr", "max_price", "require_parameters", "sort")
    assert read(provider=dict.fromkeys(names)) == Request(model="a")
    assert read(**dict.fromkeys((*WISHES[1:], "messages", "max_tokens"))) == Request(model="a")
    assert read(balancer=dict.fromkeys(EXTRAS)) == Request(model="a")


def test_models_may_stand_alone() -> None:
    assert read(model=None, models=["A", "b"]) == Request(models=("a", "b"))


# ---- tiers and partitions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "tier"),
    [
        (None, "default"),
        ("auto", "default"),
        ("default", "default"),
        ("priority", "priority"),
        ("fast", "priority"),
        ("flex", "flex"),
        ("scale", "default"),
        (5, "default"),
    ],
)
def test_a_service_tier_is_ours_or_the_providers_business(word: Any, tier: str) -> None:
    assert read(service_tier=word).service_tier == tier


@pytest.mark.parametrize(
    ("body", "partition"),
    [
        ({"route": "fallback"}, "model"),
        ({"route": "sort"}, "none"),
        ({"route": None}, "model"),
        ({"route": "sort", "provider": {"sort": "price"}}, "none"),
        ({"route": "sort", "provider": {"sort": {"by": "price"}}}, "none"),
        ({"route": "sort", "provider": {"sort": {"by": "price", "partition": None}}}, "none"),
        ({"route": "sort", "provider": {"sort": {"by": "price", "partition": "model"}}}, "model"),
        ({"route": "fallback", "provider": {"sort": {"by": "price", "partition": "none"}}}, "none"),
        ({"route": "fallback", "provider": {"partition": "none"}}, "none"),
    ],
)
def test_the_deprecated_route_is_a_partition_where_none_is_told(body: dict[str, Any], partition: str) -> None:
    request = read(**body)
    assert request.provider.partition == partition
    assert request.provider.sort == ("price" if body.get("provider", {}).get("sort") else None)


# ---- the session's key ---------------------------------------------------------------------------------

TALK = [{"role": "system", "content": "Be brief."}, TEXT]
CASES: list[tuple[dict[str, Any], str | None, str | None, str | None]] = [
    ({"session_id": "s", "prompt_cache_key": "k", "messages": TALK}, "h", "s", None),
    ({"prompt_cache_key": "k", "messages": TALK}, "h", "h", None),
    ({"session_id": None, "messages": TALK}, "h", "h", None),
    ({"prompt_cache_key": "k", "messages": TALK}, None, None, "k"),
    ({"prompt_cache_key": "k" * 256}, None, None, "k" * 256),
    ({"prompt_cache_key": "k" * 257}, None, None, digest("k" * 257)),
    ({"prompt_cache_key": "k" * 1_000_000}, None, None, digest("k" * 1_000_000)),
    ({"prompt_cache_key": "", "messages": []}, None, None, None),
    ({"prompt_cache_key": 5}, None, None, None),
    ({"messages": None}, None, None, None),
    ({"messages": [{"role": "user", "content": ""}]}, None, None, None),
]


@pytest.mark.parametrize(("body", "header", "session", "conversation"), CASES)
def test_the_first_key_of_openrouters_order_is_taken(
    body: dict[str, Any], header: str | None, session: str | None, conversation: str | None
) -> None:
    request = chat(json.dumps({"model": "a", **body}).encode(), header).request
    assert (request.session_id, request.conversation) == (session, conversation)


def test_without_any_key_the_beginning_of_the_messages_is_digested() -> None:
    first = read(messages=TALK).conversation
    later = read(messages=[*TALK, {"role": "assistant", "content": "Hi."}, TEXT], prompt_cache_key="").conversation
    assert first == later
    assert first is not None
    assert len(first) == 64


# ---- what is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"{", "malformed JSON"),
        (b"[]", "expected object, got array"),
        (b"{}", "model: is needed; use a model's id or alias"),
        (b'{"model": 5}', "model: 5 is not a name"),
        (b'{"model": ["a"]}', "model: ['a'] is not a name"),
        (b'{"model": "a", "models": "b"}', "models: 'b' is not a list"),
        (b'{"model": "a", "models": {"b": 1}}', "models: {'b': 1} is not a list"),
        (b'{"model": "a", "models": [["b"]]}', "models: ['b'] is not a name"),
        (b'{"model": "a", "models": [' + b"[]," * 500_000 + b"[]]}", "models: 1500004 bytes; 1048576 are allowed"),
        (b'{"model": "a", "provider": 5}', "provider: 5 is not an object"),
        (b'{"model": "a", "provider": {"sort": {"by": "price", "up": 1}}}', "sort.'up': unknown"),
        (b'{"model": "a", "provider": {"only": {"b": 1}}}', "only: {'b': 1} is not a list"),
        (
            b'{"model": "a", "provider": {"max_price": {"image": 1}}}',
            "max_price.'image': endpoints have no such price",
        ),
        (b'{"model": "a", "provider": {"max_price": {"prompt": ' + b"9" * 400 + b"}}}", "is not a price"),
        (
            b'{"model": "a", "provider": {"preferred_max_latency": {"p95": 1}}}',
            "preferred_max_latency.'p95': unknown",
        ),
        (b'{"model": "a", "balancer": []}', "balancer: [] is not an object"),
        (b'{"model": "a", "balancer": {"sticky": true}}', "balancer.sticky: unknown field; allowed: prompt_tokens"),
        (b'{"model": "a", "balancer": {"explain": 1}}', "explain: 1 is neither true nor false"),
        (b'{"model": "a", "route": "none"}', "route: 'none' is not known; allowed: fallback, sort"),
        (b'{"model": "a", "session_id": 5}', "session_id: 5; use text of 1 to 256 characters"),
        (b'{"model": "a", "max_tokens": -1}', "max_tokens: -1 is not a whole number from 0 to 1000000000"),
        (b'{"model": "a", "max_tokens": "many"}', "max_tokens: "),
        (b'{"model": "a", "max_tokens": 1e999}', "max_tokens: number out of range"),
        (b'{"model": "a", "max_tokens": NaN}', "malformed JSON"),
        (b'{"model": "a", "messages": "hi"}', "messages: expected array | null, got str"),
        (b'{"model": "a", "messages": [{"content": 5}]}', "].content: expected "),
        (b'{"model": "a", "provider": {"zdr": "yes"}}', "zdr: 'yes' is neither true nor false"),
        (
            b'{"model": "a", "provider": {"quantizations": ["fp7"]}}',
            "quantizations: 'fp7' is not known; did you mean fp",
        ),
        (b'{"model": "a", "provider": {"max_price": {"prompt": -1}}}', "max_price.prompt: -1 is not a price"),
        (b'{"model": "a", "provider": {"max_price": {"prompt": "NaN"}}}', "max_price.prompt: 'NaN' is not a price"),
        (b'{"model": "a", "balancer": {"count": 101}}', "count: 101 is not a whole number from 0 to 100"),
        (b'{"model": "a", "messages": [{"content": "\xff"}]}', "malformed JSON: not valid UTF-8"),
        (b'{"model": "a", "tools": ' + b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b'{"model": "a", "x": ' + b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b"[" * 100_000, "expected object, got array"),
        (b'{"model": "\\ud800"}', "malformed JSON"),
        (b'{"model": "\xff"}', "model: malformed JSON: not valid UTF-8"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(body: bytes, message: str) -> None:
    with pytest.raises(Refused) as refused:
        chat(body)
    assert refused.value.status == 400
    assert message in refused.value.message


def test_every_problem_is_told_at_once() -> None:
    body = {
        "models": [5],
        "messages": [{"role": "user", "content": 5}],
        "provider": {"sort": "prise", "zdr": 1},
        "route": "x",
        "session_id": "",
        "max_tokens": -1,
        "balancer": {"stiky": 1, "explain": "x", "count": -1},
    }
    with pytest.raises(Refused) as refused:
        chat(json.dumps(body).encode())
    for problem in (
        "messages[0].content: expected str | array | null, got int",
        "balancer.stiky: unknown field",
        "route: 'x' is not known",
        "explain: 'x' is neither true nor false",
        "sort: 'prise' is not known",
        "zdr: 1 is neither true nor false",
        "models: 5 is not a name",
        "max_tokens: -1 is not a whole number",
        "count: -1 is not a whole number",
        "session_id: 0 characters",
    ):
        assert problem in refused.value.message


def test_a_refusal_is_short_whatever_the_body() -> None:
    extras = {f"key{number}": 1 for number in range(10_000)}
    with pytest.raises(Refused) as refused:
        chat(json.dumps({"model": "a", "balancer": extras}).encode())
    assert len(refused.value.message) < 2000


def test_a_body_of_millions_of_messages_is_refused_before_it_is_built() -> None:
    with pytest.raises(Refused) as refused:
        chat(b'{"model": "a", "messages": [' + b"{}," * 1_000_001 + b"{}]}")
    assert refused.value.status == 413
