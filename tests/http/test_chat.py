"""A chat-completions body: what it needs, what it asks of us, and what is wrong with it."""

import json
from typing import Any

import pytest

from balancer.core.model import Preferences, Request
from balancer.http.answers import Refused
from balancer.http.chat import PARAMETERS, chat

TEXT = {"role": "user", "content": "hello"}


def read(**body: Any) -> Request:
    return chat(json.dumps({"model": "a", **body}).encode()).request


def test_a_body_with_only_a_model_needs_nothing() -> None:
    assert read() == Request(model="a", prompt_tokens=0)


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


@pytest.mark.parametrize(
    ("part", "modality"),
    [
        ({"type": "text", "text": "x"}, ("text",)),
        ({"type": "image_url", "image_url": {"url": "https://x.test"}}, ("image",)),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, ("audio",)),
        ({"type": "file", "file": {"filename": "a.pdf"}}, ("file",)),
        ({"type": "video_url", "video_url": {"url": "https://x.test"}}, ("video",)),
        ({"type": "refusal", "refusal": "no"}, ()),
    ],
)
def test_modalities_follow_from_the_parts(part: dict[str, Any], modality: tuple[str, ...]) -> None:
    assert read(messages=[{"role": "user", "content": [part]}]).input_modalities == modality


def test_output_modalities_are_read() -> None:
    assert read(modalities=["text", "audio"]).output_modalities == ("text", "audio")


def test_the_prompt_is_estimated_from_its_text_tools_and_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:" + "A" * 5000}}
    messages = [
        {"role": "system", "content": "x" * 400},
        {"role": "user", "content": [{"type": "text", "text": "y" * 40}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c" * 10}]},
    ]
    calls = len(json.dumps([{"id": "c" * 10}]))
    tools = [{"type": "function"}]
    length = 440 + calls + len(json.dumps(tools))
    assert read(messages=messages, tools=tools).prompt_tokens == -(-length // 4) + 765


def test_a_prompt_length_that_is_told_wins() -> None:
    assert read(messages=[TEXT], balancer={"prompt_tokens": 12_000}).prompt_tokens == 12_000


def test_our_own_object_is_read() -> None:
    body = {"model": "a", "balancer": {"exclude": ["A/B@c"], "count": 1, "explain": True}}
    asked = chat(json.dumps(body).encode())
    assert (asked.request.exclude, asked.request.count, asked.explain) == (("a/b@c",), 1, True)


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
            "sort": None,
        }
    )
    assert request.require_parameters is True
    assert request.provider == Preferences(
        order=("openai",),
        only=("x",),
        ignore=("y",),
        quantizations=("fp8",),
        allow_fallbacks=False,
        data_collection="deny",
        zdr=True,
        enforce_distillable_text=True,
        max_price_prompt=1.5,
        max_price_completion=2.0,
    )


def test_preferences_that_are_null_are_the_defaults() -> None:
    names = ("order", "allow_fallbacks", "data_collection", "zdr", "max_price", "require_parameters")
    assert read(provider=dict.fromkeys(names)) == Request(model="a", prompt_tokens=0)
    assert read(provider=None, balancer=None, messages=None) == Request(model="a", prompt_tokens=0)


@pytest.mark.parametrize(
    "body",
    [
        {"session_id": "s"},
        {"route": "fallback"},
        {"plugins": []},
        {"whatever": {"a": [1, 2]}},
        {"provider": {"new": 1}},
    ],
)
def test_what_is_the_providers_business_is_ignored(body: dict[str, Any]) -> None:
    assert read(**body) == Request(model="a", prompt_tokens=0)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"models": ["b"]}, "models"),
        ({"models": []}, "models"),
        ({"provider": {"sort": "price"}}, "provider.sort"),
        ({"provider": {"preferred_max_latency": 1}}, "provider.preferred_max_latency"),
        ({"provider": {"preferred_min_throughput": {"p50": 1}}}, "provider.preferred_min_throughput"),
        ({"provider": {"max_price": {"image": 1}}}, "provider.max_price.image"),
        ({"balancer": {"sticky": True}}, "balancer.sticky"),
    ],
)
def test_what_asks_us_for_more_than_we_can_do_is_refused(body: dict[str, Any], name: str) -> None:
    with pytest.raises(Refused) as refused:
        read(**body)
    assert refused.value.status == 400
    assert refused.value.message.startswith(f"{name}: is not supported by this version")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"{", "malformed JSON"),
        (b"[]", "expected object, got array"),
        (b"{}", "object missing required field model"),
        (b'{"model": 5}', "model: expected str, got int"),
        (b'{"model": ""}', "model: expected str of length >= 1"),
        (b'{"model": "a", "max_tokens": -1}', "max_tokens: -1 is not a whole number from 0 to 1000000000"),
        (b'{"model": "a", "max_tokens": "many"}', "max_tokens: "),
        (b'{"model": "a", "max_tokens": 1e999}', "max_tokens: 1e999 is not a whole number"),
        (b'{"model": "a", "max_tokens": NaN}', "malformed JSON"),
        (b'{"model": "a", "messages": "hi"}', "messages: expected array | null, got str"),
        (b'{"model": "a", "messages": [{"content": 5}]}', "].content: expected "),
        (b'{"model": "a", "provider": {"zdr": "yes"}}', "provider.zdr: expected bool | null, got str"),
        (b'{"model": "a", "provider": {"quantizations": ["fp7"]}}', "fp7 is not known; did you mean fp"),
        (b'{"model": "a", "provider": {"max_price": {"prompt": -1}}}', "provider.max_price.prompt: "),
        (b'{"model": "a", "provider": {"max_price": {"prompt": "NaN"}}}', "NaN is not a price"),
        (b'{"model": "a", "balancer": {"count": 101}}', "balancer.count: expected int <= 100"),
        (b'{"model": "a", "messages": [{"content": "\xff"}]}', "malformed JSON: not valid UTF-8"),
        (b'{"model": "a", "tools": ' + b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b'{"model": "a", "x": ' + b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b"[" * 100_000, "expected object, got array"),
        (b'{"model": "\\ud800"}', "malformed JSON"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(body: bytes, message: str) -> None:
    with pytest.raises(Refused) as refused:
        chat(body)
    assert refused.value.status == 400
    assert message in refused.value.message


def test_a_body_of_millions_of_messages_is_refused_before_it_is_built() -> None:
    with pytest.raises(Refused) as refused:
        chat(b'{"model": "a", "messages": [' + b"{}," * 1_000_001 + b"{}]}")
    assert refused.value.status == 413
