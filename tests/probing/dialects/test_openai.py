"""OpenAI's requests and events."""

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
