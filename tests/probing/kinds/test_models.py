"""Listing models: what is a list, and what is asked."""

import pytest


@pytest.mark.parametrize(
    "body", [{"data": []}, {"object": "list", "data": [{"id": "a"}]}, {"models": [{"name": "a"}]}, [], [{"id": 1}]]
)
async def test_a_list_of_models_is_a_shallow_success_without_latency(lab, body):
    server = await lab.serve(lambda seen: seen.answer(200, body))
    result = await lab.probe(server.url, "models")
    outcome = result.outcome
    assert (outcome.kind, outcome.status, outcome.shallow) == ("success", 200, True)
    assert (outcome.latency, outcome.ttft) == (None, None)
    assert any(line.endswith("bytes)") for line in result.transcript)


@pytest.mark.parametrize(
    "body",
    ["", "<html>welcome</html>", "null", "7", '"text"', {}, {"data": {}}, {"error": "no"}, "[" * 100_000, b"\xff"],
)
async def test_anything_else_with_a_good_status_is_malformed(lab, body):
    server = await lab.serve(lambda seen: seen.answer(200, body))
    result = await lab.probe(server.url, "models")
    assert (result.outcome.kind, result.outcome.status) == ("malformed", 200)
    assert result.bug is None


async def test_openai_is_asked_with_a_bearer_token(lab):
    server = await lab.serve(lambda seen: seen.answer(200, []))
    await lab.probe(server.url, "models", secret="key")
    seen = server.requests[0]
    assert (seen.method, seen.target) == ("GET", "/v1/models")
    assert seen.headers["authorization"] == "Bearer key"
    assert seen.headers["user-agent"] == "balancer-probe"


async def test_anthropic_is_asked_with_a_key_and_a_version(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"data": []}))
    result = await lab.probe(server.url, "models", secret="key", api="anthropic")
    seen = server.requests[0]
    assert result.outcome.kind == "success"
    assert (seen.headers["x-api-key"], seen.headers["anthropic-version"]) == ("key", "2023-06-01")
    assert "authorization" not in seen.headers


async def test_a_provider_without_a_credential_is_sent_none(lab):
    server = await lab.serve(lambda seen: seen.answer(200, []))
    await lab.probe(server.url, "models")
    assert "authorization" not in server.requests[0].headers
