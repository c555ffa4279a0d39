"""OpenAI's requests and events."""

import json

import pytest

from balancer.config.secret import Secret
from balancer.probing.dialects import Delta
from balancer.probing.dialects.openai import OPENAI


def test_the_credential_is_a_bearer_token():
    assert OPENAI.headers(Secret("key")) == {"authorization": "Bearer key"}
    assert OPENAI.headers(None) == {}


@pytest.mark.parametrize(
    ("supported", "name"),
    [
        (None, "max_tokens"),
        (frozenset({"temperature"}), "max_tokens"),
        (frozenset({"max_tokens", "max_completion_tokens"}), "max_tokens"),
        (frozenset({"max_completion_tokens"}), "max_completion_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_endpoint_supports(lab, supported, name):
    body = OPENAI.completion(lab.endpoint("http://host", supported_parameters=supported))
    limits = {key: value for key, value in body.items() if key.startswith("max_")}
    assert limits == {name: 16}
    assert "temperature" not in body


def test_each_amendment_is_made_once_and_changes_only_a_copy():
    body = {"max_tokens": 16, "stream_options": {}, "model": "m"}
    complaint = "stream_options and max_completion_tokens"
    first = OPENAI.amended(body, complaint)
    assert first == {"max_completion_tokens": 16, "stream_options": {}, "model": "m"}
    second = OPENAI.amended(first, complaint)
    assert second == {"max_completion_tokens": 16, "model": "m"}
    assert OPENAI.amended(second, complaint) is None
    assert OPENAI.amended(body, "the model is unknown") is None
    assert body == {"max_tokens": 16, "stream_options": {}, "model": "m"}


@pytest.mark.parametrize(
    ("data", "delta"),
    [
        ("[DONE]", Delta(end=True)),
        ('{"choices": [{"delta": {"content": "a"}}]}', Delta(text="a")),
        ('{"choices": [{"delta": {"content": null, "reasoning": "b"}}]}', Delta(text="b")),
        ('{"choices": [{"delta": {}, "finish_reason": "stop"}]}', Delta(finish_reason="stop")),
        ('{"choices": [{"delta": null, "finish_reason": ""}]}', Delta()),
        (
            '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}',
            Delta(prompt_tokens=3, completion_tokens=4),
        ),
        ('{"choices": [], "usage": null}', Delta()),
        ('{"choices": [{"delta": {"content": ""}}], "error": {"message": "m"}}', Delta(error="m", end=True)),
        ("{}", Delta()),
    ],
)
def test_an_event_says_what_it_says(data, delta):
    assert OPENAI.delta(data) == delta


@pytest.mark.parametrize("data", ["", "[]", "7", "null", "{"])
def test_what_is_no_object_is_a_value_error(data):
    with pytest.raises(ValueError):
        OPENAI.delta(data)


@pytest.mark.parametrize(
    ("what", "text", "seconds"),
    [
        ("-tokens", "6m0s", 360.0),
        ("-requests", "12ms", 0.012),
        ("-tokens", "37", 37.0),  # Azure
        ("", "1700000030000", 30.0),  # OpenRouter
        ("", "1700000030", 30.0),
        ("-tokens", "soon", None),
        ("-images", "30", None),
    ],
)
def test_a_quota_that_is_used_up_says_when_it_is_back(what, text, seconds):
    headers = {f"x-ratelimit-remaining{what}": "0", f"x-ratelimit-reset{what}": text}
    assert OPENAI.used_up(headers, wall=1_700_000_000.0) == seconds


@pytest.mark.parametrize(
    ("error", "account"),
    [
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, True),
        ({"code": None, "type": "insufficient_quota"}, True),
        ({"code": "billing_hard_limit_reached"}, True),
        ({"code": "billing_not_active", "type": "requests"}, True),
        ({"code": "rate_limit_exceeded", "type": "tokens", "message": "insufficient_quota"}, False),
        ({"code": 429}, False),
        ({"code": ["insufficient_quota"]}, False),
        ("insufficient_quota", False),
        (None, False),
    ],
)
def test_money_is_the_accounts_and_a_rate_is_the_models(error, account):
    assert OPENAI.of_account(json.dumps({"error": error})) is account


@pytest.mark.parametrize("text", ["", "insufficient_quota", '{"error": {"code": "insufficient_q', "[]", "null"])
def test_what_is_no_error_object_is_said_of_nobody(text):
    assert OPENAI.of_account(text) is False
