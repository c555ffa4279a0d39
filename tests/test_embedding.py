"""A chat body means to an embedded core what it means to the daemon."""

import json
import subprocess
import sys

import pytest

from balancer import Balancer, NoEndpoint, Request, request_from_chat
from balancer.config import parse_config
from balancer.http.chat import chat

BODY = {
    "model": "Large:floor",
    "models": ["small"],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Is this a cat?"}, {"type": "image_url"}]}],
    "max_completion_tokens": 50,
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "provider": {"ignore": ["Azure"], "sort": {"by": "price", "partition": "none"}},
    "balancer": {"exclude": ["large@openai"]},
}


def test_it_is_what_the_daemon_would_read() -> None:
    body = json.dumps(BODY).encode()
    request = request_from_chat(body)
    assert request == chat(body).request
    assert (request.max_tokens, request.require) == (50, ("max_completion_tokens", "tools"))
    assert set(request.input_modalities) == {"text", "image"}
    assert request.provider.ignore == ("azure",)
    assert request.exclude == ("large@openai",)
    assert request.prompt_tokens is not None
    assert "cat" not in repr(request)


def test_a_session_of_the_body_wins_over_the_callers() -> None:
    assert request_from_chat(b'{"model": "m"}', session_id="ours").session_id == "ours"
    assert request_from_chat(b'{"model": "m"}', session_id="").session_id is None
    assert request_from_chat(b'{"model": "m", "session_id": "theirs"}', session_id="ours").session_id == "theirs"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is empty"),
        (b"{", "malformed JSON"),
        (b"[]", "expected object"),
        (b"{}", "model: is needed"),
        (b'{"model": "m", "max_tokens": -1, "provider": {"sort": "prise"}}', "did you mean price?"),
        (b'{"model": "m", "messages": 1}', "messages"),
    ],
)
def test_what_is_wrong_is_a_value_error_in_the_daemons_words(body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        request_from_chat(body)


def test_it_asks_a_table_that_knows_no_network() -> None:
    text = "providers: {p: {base_url: 'http://127.0.0.1:9'}}\n"
    text += "models: {a/m: {aliases: [m], endpoints: [{provider: p, model: m}]}}"
    table = Balancer(parse_config(text, source="test"), seed=1)
    assert table.best(request_from_chat(b'{"model": "M"}'), now=1.0).selected.id == "a/m@p"
    with pytest.raises(NoEndpoint):
        table.best(Request(model="other"), now=1.0)


def test_importing_the_core_brings_no_web_server() -> None:
    code = "import balancer, sys; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
