"""Anthropic's requests and events."""

import json

import pytest

from balancer.config.secret import Secret
from balancer.probing.dialects import Delta
from balancer.probing.dialects.anthropic import ANTHROPIC
from balancer.probing.dialects.interface import FIRM_PROMPT, TOOL_PROMPT, Call, Reply, Trouble


def test_the_version_is_always_sent_and_the_key_where_there_is_one(lab):
    here = lab.endpoint("https://api.anthropic.com/v1")
    assert ANTHROPIC.headers(None, here) == {"anthropic-version": "2023-06-01"}
    assert ANTHROPIC.headers(Secret("key"), here) == {"anthropic-version": "2023-06-01", "x-api-key": "key"}


FORCED = {"type": "tool", "name": "book_table"}
OFF = {"type": "disabled"}
BETWEEN = {"type": "between_tools"}
LOW = {"effort": "low"}
BODY = {"model": "m", "max_tokens": 16, "messages": []}
FREE = {"tool_choice": {"type": "auto"}, "messages": [{"role": "user", "content": FIRM_PROMPT}]}
NO_THINKING = "Thinking may not be enabled when tool_choice forces tool use."
NO_OFF = (
    '"thinking.type.disabled" is not supported for this model. '
    'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
)
ONLY_BETWEEN = 'To turn thinking off on this model, send "thinking": {"type": "between_tools"}.'


@pytest.mark.parametrize(
    ("body", "complaint", "amended"),
    [
        (BODY | {"tool_choice": FORCED}, NO_THINKING, BODY | {"tool_choice": FORCED, "thinking": OFF}),
        (BODY | {"tool_choice": FORCED, "thinking": OFF}, NO_THINKING, BODY | FREE | {"thinking": OFF}),
        (
            BODY | {"tool_choice": FORCED},
            'tool_choice: type "tool" and "any" are not supported for this model.',
            BODY | FREE,
        ),
        (
            BODY | {"tool_choice": FORCED, "thinking": OFF},
            NO_OFF,
            BODY | FREE | {"max_tokens": 512, "output_config": LOW},
        ),
        (BODY | {"thinking": OFF}, NO_OFF, BODY | {"max_tokens": 512, "output_config": LOW}),
        (BODY | {"thinking": OFF}, ONLY_BETWEEN, BODY | {"max_tokens": 512, "thinking": BETWEEN}),
        (BODY | {"thinking": BETWEEN}, ONLY_BETWEEN, BODY | {"max_tokens": 512}),
        (BODY | {"thinking": OFF}, "thinking: Extra inputs are not permitted", BODY | {"max_tokens": 512}),
        (BODY | {"output_config": LOW}, "This model does not support the effort parameter.", BODY),
        (BODY | {"output_config": LOW}, "output_config: Extra inputs are not permitted", BODY),
        (BODY, "max_tokens: must be greater than or equal to 20", BODY | {"max_tokens": 2048}),
        (BODY, "max_tokens must be at least 20", BODY | {"max_tokens": 2048}),
        (BODY | FREE, "tool_choice: not supported", None),
        (BODY, "max_completion_tokens", None),
        (BODY, "messages: at least one message is required", None),
    ],
)
def test_a_body_is_amended_in_a_copy_as_its_refusal_asks(body, complaint, amended):
    before = dict(body)
    assert ANTHROPIC.amended(body, complaint) == amended
    assert body == before


def test_an_answer_that_was_cut_has_more_room_once():
    assert ANTHROPIC.roomier(BODY) == BODY | {"max_tokens": 2048}
    assert ANTHROPIC.roomier(BODY | {"max_tokens": 2048}) is None


@pytest.mark.parametrize(
    ("model", "besides", "forced"),
    [
        ("claude-opus-5", {"thinking": OFF}, True),
        ("claude-opus-5-5", {"output_config": LOW}, False),
        ("claude-sonnet-5-5", {"thinking": BETWEEN, "output_config": LOW}, False),
        ("claude-haiku-4-5-20251001", {}, True),
    ],
)
def test_a_model_that_thinks_is_told_not_to_as_far_as_it_listens(lab, model, besides, forced):
    endpoint = lab.endpoint("https://api.anthropic.com/v1", upstream_model=model, api="anthropic")
    tools, completion = ANTHROPIC.tools(endpoint), ANTHROPIC.completion(endpoint)
    assert {key: tools[key] for key in ("thinking", "output_config") if key in tools} == besides
    assert {key: completion[key] for key in ("thinking", "output_config") if key in completion} == besides
    assert ANTHROPIC.forces(tools) is forced
    assert (tools["tool_choice"], tools["messages"]) == (
        (FORCED, [{"role": "user", "content": TOOL_PROMPT}]) if forced else tuple(FREE.values())
    )
    assert (tools["max_tokens"], completion["max_tokens"]) == (512, 512 if besides else 16)


@pytest.mark.parametrize(
    ("data", "delta"),
    [
        ('{"type": "message_start", "message": {"usage": {"input_tokens": 9}}}', Delta(prompt_tokens=9)),
        ('{"type": "message_start", "message": {"model": "claude-x"}}', Delta(model="claude-x")),
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
            Delta(error=Trouble(text="overloaded_error m", status=529), end=True),
        ),
        ('{"type": "error"}', Delta(error=Trouble(text="an error without a message"), end=True)),
    ],
)
def test_an_event_says_what_it_says(data, delta):
    assert ANTHROPIC.delta(data) == delta


@pytest.mark.parametrize(
    "data", ["", "[]", "[DONE]", "null", '{"type": "message_delta", "usage": {"output_tokens": -1}}']
)
def test_what_is_no_object_is_a_value_error(data):
    with pytest.raises(ValueError):
        ANTHROPIC.delta(data)


CALL = {"type": "tool_use", "id": "t", "name": "book_table", "input": {"day": "sunday", "guests": 2}}


def test_a_forced_call_is_asked_for(lab):
    body = ANTHROPIC.tools(lab.endpoint("http://host"))
    (tool,) = body["tools"]
    assert body["tool_choice"] == {"type": "tool", "name": tool["name"]}
    assert tool["input_schema"]["additionalProperties"] is False
    assert "stream" not in body


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (
            {
                "type": "message",
                "model": "claude-x",
                "content": [{"type": "text", "text": "Sure."}, CALL],
                "stop_reason": "tool_use",
                "usage": {"input_tokens": 300, "output_tokens": 40},
            },
            Reply(
                model="claude-x",
                finish_reason="tool_calls",
                prompt_tokens=300,
                completion_tokens=40,
                calls=(Call(name="book_table", arguments={"day": "sunday", "guests": 2}),),
            ),
        ),
        ({"content": []}, Reply()),
        ({"content": [None, {"type": "tool_use"}]}, Reply(calls=(Call(name="None"),))),
        (
            {"type": "error", "error": {"type": "rate_limit_error"}},
            Reply(error=Trouble(text="rate_limit_error", status=429)),
        ),
    ],
)
def test_a_whole_answer_says_what_it_says(answer, reply):
    assert ANTHROPIC.reply(json.dumps(answer).encode()) == reply


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b'{"content": "text"}', b'{"content": [], "usage": {"input_tokens": NaN}}']
)
def test_what_is_no_message_is_a_value_error(body):
    with pytest.raises(ValueError):
        ANTHROPIC.reply(body)


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
