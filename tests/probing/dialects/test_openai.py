"""OpenAI's requests and events."""

import json

import pytest

from balancer.config.secret import Secret
from balancer.probing.dialects import Delta
from balancer.probing.dialects.interface import FIRM_PROMPT, Call, Reply, Trouble
from balancer.probing.dialects.openai import OPENAI

JWT = "eyJhbGciOi.eyJhdWQ.c2ln"


@pytest.mark.parametrize(
    ("url", "key", "headers"),
    [
        ("https://api.openai.com/v1", "key", {"authorization": "Bearer key"}),
        ("https://api.openai.com/v1", None, {}),
        ("https://acme.openai.azure.com/openai/v1", "key", {"api-key": "key"}),
        ("https://acme.openai.azure.com/openai/v1", JWT, {"authorization": f"Bearer {JWT}"}),
        ("https://acme.services.ai.azure.com/openai/v1", None, {}),
    ],
)
def test_the_credential_is_a_bearer_token_and_azures_key_has_its_own_header(lab, url, key, headers):
    assert OPENAI.headers(None if key is None else Secret(key), lab.endpoint(url)) == headers


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


def test_a_reasoning_model_is_asked_for_little_thought_and_given_room_for_it(lab):
    body = OPENAI.completion(lab.endpoint("http://host", upstream_model="gpt-5-mini"))
    assert (body["max_completion_tokens"], body["reasoning_effort"]) == (512, "minimal")
    assert "max_tokens" not in body
    assert "temperature" not in body


BODY = {"model": "m", "stream_options": {}, "max_tokens": 16}
NEWER = {"model": "m", "max_completion_tokens": 512}
FORCED = {"type": "function", "function": {"name": "book_table"}}


@pytest.mark.parametrize(
    ("body", "complaint", "amended"),
    [
        (
            BODY,
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            {"model": "m", "stream_options": {}, "max_completion_tokens": 16},
        ),
        (NEWER, "Extra inputs are not permitted: max_completion_tokens", {"model": "m", "max_tokens": 512}),
        (
            NEWER,
            "Could not finish the message because max_tokens or model output limit was reached.",
            {"model": "m", "max_completion_tokens": 2048},
        ),
        (BODY, "max_tokens must be at least 20", BODY | {"max_tokens": 2048}),
        (
            NEWER,
            "Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1024",
            {"model": "m", "max_completion_tokens": 2048},
        ),
        (BODY, "unknown field: stream_options", {"model": "m", "max_tokens": 16}),
        (
            {**NEWER, "reasoning_effort": "minimal"},
            "'minimal' is not supported. Supported values are: 'none', 'low', and 'high'. param: reasoning_effort",
            {**NEWER, "reasoning_effort": "none"},
        ),
        (
            {**NEWER, "reasoning_effort": "none"},
            "Unsupported value: 'none'. Supported values are: 'medium', 'low'. param: reasoning.effort",
            {**NEWER, "reasoning_effort": "low"},
        ),
        ({**NEWER, "reasoning_effort": "low"}, "Model grok-4 does not support parameter reasoningEffort.", NEWER),
        ({**NEWER, "reasoning_effort": "low"}, "Thinking level LOW is not supported for this model.", NEWER),
        ({**BODY, "enable_thinking": False}, "unexpected: enable_thinking", BODY),
        ({**BODY, "tool_choice": FORCED}, "tool_choice must be a string", {**BODY, "tool_choice": "required"}),
        (
            {**BODY, "tool_choice": "required", "messages": []},
            'tool_choice: type "tool" and "any" are not supported for this model.',
            {**BODY, "tool_choice": "auto", "messages": [{"role": "user", "content": FIRM_PROMPT}]},
        ),
        ({**BODY, "tool_choice": "auto"}, "tool_choice must be none", None),
        (
            {**BODY, "tool_choice": FORCED},
            "Thinking mode does not support this tool_choice",
            {**BODY, "tool_choice": FORCED, "thinking": {"type": "disabled"}},
        ),
        (
            {**BODY, "model": "qwen3-32b", "tool_choice": FORCED},
            "The tool_choice parameter does not support being set to required or object in thinking mode",
            {**BODY, "model": "qwen3-32b", "tool_choice": FORCED, "enable_thinking": False},
        ),
        (
            {**BODY, "tool_choice": FORCED, "thinking": {"type": "disabled"}},
            "Thinking mode does not support this tool_choice",
            {**BODY, "tool_choice": "required", "thinking": {"type": "disabled"}},
        ),
        (NEWER | {"max_completion_tokens": 2048}, "max_tokens or model output limit was reached", None),
        (BODY, "the model is unknown", None),
        ({"model": "m"}, "max_tokens: at least 20", None),
        (BODY, "Unrecognized request argument supplied: reasoning_effort", None),
    ],
)
def test_a_body_is_amended_in_a_copy_as_its_refusal_asks(body, complaint, amended):
    before = dict(body)
    assert OPENAI.amended(body, complaint) == amended
    assert body == before


@pytest.mark.parametrize(
    ("data", "delta"),
    [
        ("[DONE]", Delta(end=True)),
        ('{"choices": [{"delta": {"content": "a"}}], "model": "m-1"}', Delta(text="a", model="m-1")),
        ('{"choices": [{"delta": {"content": [{"type": "text", "text": "a"}, 1, {"text": 2}]}}]}', Delta(text="a")),
        (
            '{"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"text": "b"}]}]}}]}',
            Delta(text="b"),
        ),
        ('{"choices": [{"delta": {"content": [{"thinking": 7}]}}]}', Delta()),
        ('{"choices": [{"delta": {"content": null, "reasoning": "b"}}]}', Delta(text="b")),
        ('{"choices": [{"delta": {}, "finish_reason": "stop"}]}', Delta(finish_reason="stop")),
        ('{"choices": [{"delta": null, "finish_reason": ""}]}', Delta()),
        (
            '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}',
            Delta(prompt_tokens=3, completion_tokens=4, hollow=True),
        ),
        ('{"choices": [], "usage": null}', Delta(hollow=True)),
        (
            '{"error": {"code": 429, "message": "slow"}}',
            Delta(error=Trouble(text="429 slow", status=429), end=True),
        ),
        (
            '{"choices": [{"delta": {"content": ""}}], "error": {"message": "m"}}',
            Delta(error=Trouble(text="m"), end=True),
        ),
        ("{}", Delta()),
    ],
)
def test_an_event_says_what_it_says(data, delta):
    assert OPENAI.delta(data) == delta


@pytest.mark.parametrize(
    "data", ["", "[]", "7", "null", "{", '{"usage": {"prompt_tokens": NaN}}', '{"usage": {"prompt_tokens": -1}}']
)
def test_what_is_no_object_is_a_value_error(data):
    with pytest.raises(ValueError):
        OPENAI.delta(data)


def called(arguments, name="book_table"):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_forced_call_is_asked_for(lab):
    body = OPENAI.tools(lab.endpoint("http://host"))
    (tool,) = body["tools"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": tool["function"]["name"]}}
    assert tool["function"]["parameters"]["additionalProperties"] is False
    assert (body["max_tokens"], "stream" in body) == (512, False)
    assert OPENAI.tools(lab.endpoint("http://host", upstream_model="o3"))["max_completion_tokens"] == 512


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (
            {
                "model": "m-1",
                "choices": [{"message": {"tool_calls": [called('{"day": "sunday"}')]}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 80, "completion_tokens": 20},
            },
            Reply(
                model="m-1",
                finish_reason="stop",
                prompt_tokens=80,
                completion_tokens=20,
                calls=(Call(name="book_table", arguments={"day": "sunday"}),),
            ),
        ),
        ({"choices": []}, Reply()),
        ({"choices": [{"message": {"content": "No.", "tool_calls": None}}]}, Reply()),
        (
            {"choices": [{"message": {"tool_calls": [called({"day": "sunday"})]}}]},
            Reply(calls=(Call(name="book_table", broken="the arguments are not a text"),)),
        ),
        (
            {"choices": [{"message": {"tool_calls": ["x"]}}]},
            Reply(calls=(Call(name="None", broken="the arguments are not a text"),)),
        ),
        ({"error": {"code": 503, "message": "m"}}, Reply(error=Trouble(text="503 m", status=503))),
    ],
)
def test_a_whole_answer_says_what_it_says(answer, reply):
    assert OPENAI.reply(json.dumps(answer).encode()) == reply


def test_broken_arguments_are_told():
    body = json.dumps({"choices": [{"message": {"tool_calls": [called('{"day": ')]}}]}).encode()
    (call,) = OPENAI.reply(body).calls
    assert call.broken is not None
    assert call.broken.startswith("the arguments are not JSON")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b'{"choices": {}}', b'{"choices": [], "usage": {"prompt_tokens": "9"}}']
)
def test_what_is_no_completion_is_a_value_error(body):
    with pytest.raises(ValueError):
        OPENAI.reply(body)


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


def test_an_answer_that_was_cut_has_more_room_once():
    assert OPENAI.roomier(BODY) == BODY | {"max_tokens": 2048}
    assert OPENAI.roomier(NEWER) == NEWER | {"max_completion_tokens": 2048}
    assert OPENAI.roomier({"max_tokens": 2048}) is None


def test_only_a_body_that_leaves_no_choice_forces():
    choices = [FORCED, "required", "auto", None]
    assert [OPENAI.forces({"tool_choice": choice}) for choice in choices] == [True, True, False, False]
