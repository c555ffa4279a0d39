"""Anthropic's requests and events."""

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
