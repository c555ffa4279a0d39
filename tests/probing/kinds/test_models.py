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
    assert result.transcript[-2].endswith(" bytes)")
    assert result.transcript[-3].startswith(("< {", "< ["))


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


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"id": "other"}, {"id": "model-1"}]},
        {"models": [{"name": "models/model-1", "displayName": "Model 1"}]},
        [{"name": "other", "model": "other"}, "model-1", 7],
    ],
)
@pytest.mark.parametrize("model", ["model-1", "models/model-1"])
async def test_a_model_that_is_listed_needs_no_word(lab, body, model):
    server = await lab.serve(lambda seen: seen.answer(200, body))
    result = await lab.probe(server.url, "models", endpoint={"upstream_model": model}, listed=True)
    assert (result.outcome.kind, result.outcome.detail) == ("success", "")


@pytest.mark.parametrize(("listed", "kind"), [(False, "success"), (True, "refused")])
async def test_a_model_that_is_not_listed_is_told_and_only_on_demand_a_failure(lab, listed, kind):
    names = ["gpt-9", "model-10", "model-1-mini", "unlike"]
    server = await lab.serve(lambda seen: seen.answer(200, {"data": [{"id": name} for name in names]}))
    outcome = (await lab.probe(server.url, "models", listed=listed)).outcome
    assert (outcome.kind, outcome.status, outcome.shallow) == (kind, 200, True)
    assert outcome.detail == "model-1 is not among the 4 models listed; nearest: model-10, model-1-mini"


ANTHROPIC = [
    ("/v1/models?limit=1000", {"data": [{"id": "a"}, {"id": "b/é"}], "has_more": True, "last_id": "b/é"}),
    ("/v1/models?limit=1000&after_id=b%2F%C3%A9", {"data": [{"id": "model-1"}], "has_more": False, "last_id": "m"}),
]
GOOGLE = [
    ("/v1/models", {"models": [{"name": "models/a"}], "nextPageToken": "x=&y"}),
    ("/v1/models?pageToken=x%3D%26y", {"models": [{"name": "models/model-1"}]}),
]


@pytest.mark.parametrize(("api", "pages"), [("anthropic", ANTHROPIC), ("openai", GOOGLE)])
async def test_a_list_that_goes_on_is_followed_to_the_model(lab, api, pages):
    server = await lab.serve(lambda seen: seen.answer(200, dict(pages)[seen.target]))
    result = await lab.probe(server.url, "models", api=api, listed=True)
    assert (result.outcome.kind, result.outcome.detail) == ("success", "")
    assert [seen.target for seen in server.requests] == [target for target, _ in pages]
    assert server.connections == 1


async def test_a_list_without_an_end_is_left_and_proves_no_absence(lab):
    async def more(seen):
        number = len(server.requests)
        await seen.answer(200, {"data": [{"id": f"m{number}"}], "has_more": True, "last_id": f"m{number}"})

    server = await lab.serve(more)
    outcome = (await lab.probe(server.url, "models", listed=True)).outcome
    assert (outcome.kind, len(server.requests)) == ("success", 10)
    assert outcome.detail.startswith("model-1 is not among the first 10 models listed")


async def test_a_server_that_ignores_the_page_asked_for_is_not_asked_again(lab):
    page = {"data": [{"id": "a"}], "has_more": True, "last_id": "a"}
    server = await lab.serve(lambda seen: seen.answer(200, page))
    outcome = (await lab.probe(server.url, "models", listed=True)).outcome
    assert (outcome.kind, len(server.requests)) == ("success", 2)
    assert outcome.detail == "model-1 is not among the first 1 models listed"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "success"), (404, "success"), (429, "rate_limited"), (500, "server_error")]
)
async def test_a_further_page_that_is_refused_counts_only_where_the_provider_is_at_fault(lab, status, kind):
    page = lab.answer(200, {"data": [{"id": "a"}], "has_more": True, "last_id": "a"})
    server = await lab.serve(lambda seen: seen.send(page if "?" not in seen.target else lab.answer(status, b"no")))
    outcome = (await lab.probe(server.url, "models", listed=True)).outcome
    assert outcome.kind == kind
    assert len(server.requests) == 2
