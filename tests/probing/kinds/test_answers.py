"""What an answer says about itself: by which model, how it ended, with which usage."""

import json

import pytest

USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 2}}


def said(model="model-1", reason="stop"):
    choice = {"index": 0, "delta": {"content": "OK"}, "finish_reason": reason}
    return {"choices": [choice]} | ({} if model is None else {"model": model})


async def serve(lab, *events):
    body = lab.stream(*events)
    return await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream"))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("model-1", "success"),
        ("author/Model-1-2025-04-14", "success"),
        ("model", "success"),  # our own id's
        ("author/model", "success"),
        (None, "success"),
        ("", "success"),
        ("another", "malformed"),
    ],
)
async def test_an_answer_is_of_the_model_that_was_asked_for(lab, model, kind):
    server = await serve(lab, said(model), USAGE)
    outcome = (await lab.probe(server.url, "completion")).outcome
    assert outcome.kind == kind
    assert outcome.detail == (
        "the answer is of model another, and model-1 was asked for" if kind != "success" else ""
    )
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (12, 2)


@pytest.mark.parametrize(
    ("asked", "model", "kind", "detail"),
    [
        ("gpt-5", "gpt-5-nano", "malformed", "the answer is of model gpt-5-nano, and gpt-5 was asked for"),
        (
            "deepseek-v4-flash",
            "deepseek-flash",
            "success",
            "the answer is of model deepseek-flash, and deepseek-v4-flash was asked for, which may be the same",
        ),
    ],
)
async def test_a_doubt_about_the_model_is_said_and_ejects_nobody(lab, asked, model, kind, detail):
    server = await serve(lab, said(model), USAGE)
    outcome = (await lab.probe(server.url, "completion", endpoint={"upstream_model": asked})).outcome
    assert (outcome.kind, outcome.detail) == (kind, detail)


@pytest.mark.parametrize(
    ("answer_model", "model", "kind"),
    [
        ("any", "another", "success"),
        ("another", "another-2025-04-14", "success"),
        ("another", "model-1", "malformed"),
        ("model-1-turbo", "model-1", "malformed"),
    ],
)
async def test_the_configuration_may_expect_another_or_any(lab, answer_model, model, kind):
    server = await serve(lab, said(model), USAGE)
    outcome = (await lab.probe(server.url, "completion", answer_model=answer_model)).outcome
    assert outcome.kind == kind


async def test_a_deployment_may_be_of_any_model_and_is_asked_for_by_its_path(lab):
    server = await serve(lab, said("gpt-4.1-2025-04-14"), USAGE)
    url = f"http://127.0.0.1:{server.port}/openai/deployments/large?api-version=2024-10-21"
    assert (await lab.probe(url, "completion")).outcome.kind == "success"
    assert server.requests[0].target == "/openai/deployments/large/chat/completions?api-version=2024-10-21"
    strict = await lab.probe(url, "completion", answer_model="o3")
    assert strict.outcome.kind == "malformed"


@pytest.mark.parametrize(
    ("events", "detail"),
    [
        ([said(), USAGE], ""),
        ([said()], "no usage"),
        ([said(), {"choices": [], "usage": {"prompt_tokens": 12}}], "no usage"),
        ([said(reason="eos"), USAGE], "unknown finish reason eos"),
        ([said(reason=None)], "no finish reason, no usage"),
        ([said(reason="tool_calls"), USAGE], ""),
    ],
)
async def test_what_clients_can_live_with_is_said_of_a_good_answer(lab, events, detail):
    server = await serve(lab, *events)
    outcome = (await lab.probe(server.url, "completion")).outcome
    assert (outcome.kind, outcome.detail) == ("success", detail)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("insufficient_system_resource", "overloaded"), ("abort", "server_error"), ("sensitive", "caller_error")],
)
async def test_a_finish_reason_that_means_failure_is_one(lab, reason, kind):
    server = await serve(lab, said(reason=reason), USAGE)
    outcome = (await lab.probe(server.url, "completion")).outcome
    assert (outcome.kind, outcome.detail) == (kind, f"finish reason {reason}")


async def test_a_strange_answer_holds_nobody(lab):
    body = lab.stream(said("another"), USAGE)
    told = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m30s"}
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream", **told))
    outcome = (await lab.probe(server.url, "completion")).outcome
    assert (outcome.kind, outcome.retry_after) == ("malformed", None)


async def test_a_refusal_is_followed_until_it_asks_for_what_was_sent_before(lab):
    async def never(seen):
        complaint = "max_completion_tokens" if "max_tokens" in json.loads(seen.body) else "no max_completion_tokens"
        await seen.answer(422, {"detail": complaint})

    server = await lab.serve(never)
    result = await lab.probe(server.url, "completion")
    assert result.outcome.kind == "probe_invalid"
    assert len(server.requests) == 2
    assert result.sent == 1  # the other was followed, and cost nothing


async def test_a_limit_that_is_too_low_for_the_thoughts_is_raised(lab):
    async def thinking(seen):
        body = json.loads(seen.body)
        if "max_completion_tokens" not in body:
            await seen.answer(400, {"error": {"message": "use max_completion_tokens"}})
        elif body["max_completion_tokens"] < 1000:
            await seen.answer(400, {"error": {"message": "max_tokens or model output limit was reached"}})
        else:
            await seen.answer(200, lab.stream(said(), USAGE), content_type="text/event-stream")

    server = await lab.serve(thinking)
    result = await lab.probe(server.url, "completion")
    assert result.outcome.kind == "success"
    assert [json.loads(seen.body).get("max_completion_tokens") for seen in server.requests] == [None, 16, 2048]
