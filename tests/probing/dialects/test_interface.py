"""Reading what servers send without believing its shape."""

import json
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.model import Dialect, Endpoint
from balancer.probing.dialects import DIALECTS
from balancer.probing.dialects.interface import count, mapping, parsed, text_of, used_up


def test_every_dialect_has_its_rules():
    assert set(DIALECTS) == set(get_args(Dialect))


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match="not JSON"):
        parsed(text)


@pytest.mark.parametrize(
    ("value", "tokens"), [(0, 0), (7, 7), (12.0, 12), (1_000_000_000, 1_000_000_000), (None, None)]
)
def test_tokens_are_whole_numbers_from_zero_up_or_not_said(value, tokens):
    assert count({"prompt_tokens": value}, "prompt_tokens") == tokens
    assert count({}, "prompt_tokens") is None


@pytest.mark.parametrize(
    "value", [-1, 1.5, True, "3", [], {}, 1_000_000_001, 10**30, 1e300, float("nan"), float("inf")]
)
def test_tokens_that_nobody_can_have_counted_are_a_value_error(value):
    with pytest.raises(ValueError, match=r"completion_tokens is .*, and no number of tokens"):
        count({"completion_tokens": value}, "completion_tokens")


def test_only_texts_with_something_in_them_are_texts():
    assert [text_of(value) for value in ("a", "", None, 1, ["a"])] == ["a", *[None] * 4]


def test_only_objects_are_mappings():
    assert mapping({"a": 1}) == {"a": 1}
    assert mapping([1]) == {}


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"a-left": "0", "a-reset": "30"}, 30.0),
        ({"a-left": "1", "a-reset": "30"}, None),
        ({"a-left": "0"}, None),
        ({"a-reset": "30"}, None),
        ({"a-left": "", "a-reset": "30"}, None),
        ({"a-left": "0", "a-reset": "30", "b-left": "0", "b-reset": "40"}, 40.0),
        ({"a-left": "0", "a-reset": "30", "b-left": "5", "b-reset": "40"}, 30.0),
        ({"a-left": "0", "a-reset": "-1", "b-left": "0", "b-reset": "inf"}, None),
        ({"a-left": "0", "a-reset": "1m30s", "b-left": "0", "b-reset": "1700000080"}, 90.0),
        ({"a-left": "0", "a-reset": "nonsense", "b-left": "0", "b-reset": "2023-11-14T22:13:50Z"}, 30.0),
        ({"a-left": "-1", "a-reset": "0"}, None),  # Azure, where it does not count
    ],
)
def test_the_wait_is_the_longest_of_the_limits_of_which_nothing_is_left(headers, wait):
    assert used_up(headers, [("a-left", "a-reset"), ("b-left", "b-reset")], wall=1_700_000_000.0) == wait


KEYS = st.sampled_from(
    [
        "choices", "delta", "message", "content", "thinking", "text", "tool_calls", "function", "name", "arguments",
        "usage", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "finish_reason",
        "stop_reason", "error", "code", "type", "status", "object", "model", "input",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    ["error", "message_start", "content_block_delta", "message_delta", "tool_use", "429", "{", ""]
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=20,
)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@given(value=ANYTHING)
def test_whatever_a_server_answers_is_read_or_a_value_error(dialect, value):
    data = json.dumps(value)
    with suppress(ValueError):
        dialect.delta(data)
    with suppress(ValueError):
        dialect.reply(data.encode())
    assert dialect.of_account(data) in (True, False)


COMPLAINTS = st.lists(
    st.sampled_from(
        [
            "max_tokens", "max_completion_tokens", "at least", "limit was reached", "stream_options",
            "reasoning_effort", "Supported values are: 'low', 'none'", "Supported values are: 'high'",
            "tool_choice", "thinking mode", "enable_thinking", "not supported", "Thinking level", "",
            "thinking.type", "between_tools", "output_config.effort",
        ]
    ),
    max_size=4,
).map(" ".join)  # fmt: skip


@pytest.mark.parametrize("api", DIALECTS)
@given(
    data=st.data(), model=st.sampled_from(["m", "gpt-5", "o3", "qwen3-32b", "claude-opus-5", "claude-sonnet-5-5"])
)
def test_whatever_is_complained_of_changes_the_body_or_nothing(api, data, model):
    dialect = DIALECTS[api]
    endpoint = Endpoint(
        id="a/m@p", model="a/m", tag="p", provider="p", provider_name="P", upstream_model=model, base_url="http://h",
        api=api,
    )  # fmt: skip
    body = dialect.tools(endpoint) if data.draw(st.booleans()) else dialect.completion(endpoint)
    for _ in range(12):
        before = dict(body)
        amended = dialect.amended(body, data.draw(COMPLAINTS))
        assert body == before
        if amended is None:
            break
        assert amended != body
        assert amended["model"] == model
        body = amended
