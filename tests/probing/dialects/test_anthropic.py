"""Anthropic's requests and events."""

import json

import pytest

from balancer.config.secret import Secret
from balancer.probing.dialects import Delta
from balancer.probing.dialects.anthropic import ANTHROPIC


def test_the_version_is_always_sent_and_the_key_where_there_is_one():
    assert ANTHROPIC.headers(None) == {"anthropic-version": "2023-06-01"}
    assert ANTHROPIC.headers(Secret("key")) == {"anthropic-version": "2023-06-01", "x-api-key": "key"}


def test_nothing_is_amended():
    assert ANTHROPIC.amended({"max_tokens": 16}, "max_completion_tokens") is None


@pytest.mark.parametrize(
    ("data", "delta"),
    [
        ('{"type": "message_start", "message": {"usage": {"input_tokens": 9}}}', Delta(prompt_tokens=9)),
        ('{"type": "message_start"}', Delta()),
        ('{"type": "content_block_start", "content_block": {"text": ""}}', Delta()),
        ('{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}', Delta(text="a")),
        ('{"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "b"}}', Delta(text="b")),
        ('{"type": "ping"}', Delta()),
        (
            '{"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}}',
            Delta(finish_reason="length", completion_tokens=5),
        ),
        ('{"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}', Delta(finish_reason="pause_turn")),
        ('{"type": "message_stop"}', Delta(end=True)),
        (
            '{"type": "error", "error": {"type": "overloaded_error", "message": "m"}}',
            Delta(error="overloaded_error m", end=True),
        ),
    ],
)
def test_an_event_says_what_it_says(data, delta):
    assert ANTHROPIC.delta(data) == delta


@pytest.mark.parametrize("data", ["", "[]", "[DONE]", "null"])
def test_what_is_no_object_is_a_value_error(data):
    with pytest.raises(ValueError):
        ANTHROPIC.delta(data)


WALL = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14T22:13:50Z", 30.0),
        ("2023-11-14T22:00:00Z", 0.0),
        ("30", 30.0),
        ("soon", None),
    ],
)
def test_a_quota_that_is_used_up_says_when_it_is_back(text, seconds):
    headers = {"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": text}
    assert ANTHROPIC.used_up(headers, wall=WALL) == seconds


@pytest.mark.parametrize(
    ("error", "account"),
    [
        ({"type": "billing_error"}, True),
        ({"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}, True),
        ({"type": "rate_limit_error", "details": {"error_code": "something_else"}}, False),
        ({"type": "rate_limit_error", "details": "enforced_spend_limit_reached"}, False),
        ({"type": "rate_limit_error", "message": "This request would exceed your account's rate limit"}, False),
        ({"type": "overloaded_error"}, False),
        ("billing_error", False),
    ],
)
def test_money_is_the_accounts_and_a_rate_is_the_models(error, account):
    assert ANTHROPIC.of_account(json.dumps({"type": "error", "error": error})) is account
