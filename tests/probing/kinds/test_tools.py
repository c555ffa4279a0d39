"""A forced tool call, in both dialects: what fits the schema, and what does not."""

import json

import pytest

from balancer.probing import cost_of
from balancer.probing.dialects.interface import Call, Reply
from balancer.probing.kinds.answers import TRIES_MAX
from balancer.probing.kinds.tools import fault

GOOD = {"day": "saturday", "guests": 4}


def openai(arguments, *, name="book_table", reason="stop", model="model-1"):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": text}}
    return {
        "model": model,
        "choices": [{"message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 80, "completion_tokens": 20},
    }


def anthropic(arguments, *, name="book_table", reason="tool_use"):
    return {
        "type": "message",
        "model": "model-1",
        "content": [{"type": "tool_use", "id": "t", "name": name, "input": arguments}],
        "stop_reason": reason,
        "usage": {"input_tokens": 300, "output_tokens": 40},
    }


async def probed(lab, answer, *, status=200, api="openai", **settings):
    server = await lab.serve(lambda seen: seen.answer(status, answer))
    return await lab.probe(server.url, "tools", api=api, **settings)


async def test_a_good_call_is_a_deep_success_with_its_cost(lab):
    server = await lab.serve(lambda seen: seen.answer(200, openai(GOOD)))
    result = await lab.probe(server.url, "tools", secret="key")
    outcome = result.outcome
    assert (outcome.kind, outcome.tool_call_errors, outcome.shallow, outcome.detail) == ("success", 0, False, "")
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.ttft) == (80, 20, None)
    assert result.cost == pytest.approx((80 * 2.0 + 20 * 8.0) / 1e6)
    assert outcome.latency is not None
    assert result.tokens_per_second == pytest.approx(20 / outcome.latency)
    (seen,) = server.requests
    body = json.loads(seen.body)
    assert (seen.target, seen.headers["authorization"]) == ("/v1/chat/completions", "Bearer key")
    assert body["tools"][0]["function"]["name"] == body["tool_choice"]["function"]["name"]


async def test_a_good_call_of_anthropics_is_one_too(lab):
    result = await probed(lab, anthropic(GOOD), api="anthropic")
    assert (result.outcome.kind, result.outcome.tool_call_errors) == ("success", 0)
    assert (result.prompt_tokens, result.completion_tokens) == (300, 40)


@pytest.mark.parametrize(
    ("answer", "api", "detail"),
    [
        (openai(GOOD, name="cancel_table"), "openai", "tool cancel_table was called instead of book_table"),
        (openai('{"day": "satur'), "openai", "the arguments are not JSON"),
        (openai({"day": "monday", "guests": 4}), "openai", "argument day is 'monday'; it may be friday, saturday"),
        ({"choices": [{"message": {"content": "Done."}}]}, "openai", "no tool was called"),
        ({"choices": []}, "openai", "no tool was called"),
        (anthropic({"day": "sunday"}), "anthropic", "the arguments have the keys day instead of day, guests"),
        ({"content": [{"type": "text", "text": "Done."}]}, "anthropic", "no tool was called"),
    ],
)
async def test_a_missing_or_broken_call_is_malformed_and_counted(lab, answer, api, detail):
    outcome = (await probed(lab, answer, api=api)).outcome
    assert (outcome.kind, outcome.tool_call_errors, outcome.status) == ("malformed", 1, 200)
    assert outcome.detail.startswith(detail)


@pytest.mark.parametrize("guests", [1, 8, 4.0])
@pytest.mark.parametrize("day", ["friday", "saturday", "sunday"])
def test_whatever_fits_the_schema_is_good(day, guests):
    assert fault(Reply(calls=(Call(name="book_table", arguments={"day": day, "guests": guests}),))) is None


@pytest.mark.parametrize(
    "arguments",
    [
        None, [], "text", {}, {"day": "sunday"}, {"guests": 4}, GOOD | {"note": ""}, GOOD | {"day": "Sunday"},
        GOOD | {"day": ["sunday"]}, GOOD | {"day": None}, GOOD | {"guests": 0}, GOOD | {"guests": 9},
        GOOD | {"guests": "4"}, GOOD | {"guests": True}, GOOD | {"guests": 4.5}, GOOD | {"guests": None},
        GOOD | {"guests": 1e300},
    ],
)  # fmt: skip
def test_whatever_does_not_fit_is_told(arguments):
    assert fault(Reply(calls=(Call(name="book_table", arguments=arguments),))) is not None
    both = (Call(name="book_table", arguments=GOOD), Call(name="book_table", arguments=arguments))
    assert fault(Reply(calls=both)) is not None


async def test_a_call_that_our_own_limit_cut_is_our_fault(lab):
    outcome = (await probed(lab, openai('{"day": "satur', reason="length"))).outcome
    assert (outcome.kind, outcome.tool_call_errors) == ("probe_invalid", None)
    assert "used up its tokens" in outcome.detail


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, '"auto" tool choice requires --enable-auto-tool-choice', "probe_invalid"),
        (422, "tools: extra inputs are not permitted", "probe_invalid"),
        (404, "No endpoints found that support tool use", "probe_invalid"),
        (400, "no such thing", "probe_invalid"),
        (404, "no such model", "refused"),
        (500, "the tool server is down", "server_error"),
        (429, "too many tools at once", "rate_limited"),
    ],
)
async def test_that_tools_are_not_supported_is_the_probes_fault(lab, status, message, kind):
    outcome = (await probed(lab, {"error": {"message": message}}, status=status)).outcome
    assert outcome.kind == kind
    hinted = outcome.detail.startswith("tools are not supported, choose another probe.kind: ")
    assert hinted is (status < 429 and "tool" in message)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Tool choice is required, but model did not call a tool", "code": "tool_use_failed"},
        {"message": "Failed to call a function. Please adjust your prompt.", "code": "tool_use_failed"},
        {"message": f"tool call validation failed: parameters did not match schema: {'x' * 300}"},
    ],
)
async def test_a_call_that_the_provider_itself_found_broken_is_a_broken_call(lab, error):
    outcome = (await probed(lab, {"error": error}, status=400)).outcome
    assert (outcome.kind, outcome.tool_call_errors, outcome.status) == ("malformed", 1, 400)
    assert "not supported" not in outcome.detail


async def test_a_forced_tool_that_is_refused_is_asked_for_in_the_other_way(lab):
    async def picky(seen):
        if json.loads(seen.body)["tool_choice"] != "required":
            await seen.answer(400, {"error": {"message": "tool_choice must be a string"}})
        else:
            await seen.answer(200, openai(GOOD))

    server = await lab.serve(picky)
    assert (await lab.probe(server.url, "tools")).outcome.kind == "success"
    assert len(server.requests) == 2


NO_THINKING = "Thinking may not be enabled when tool_choice forces tool use."
NO_FORCE = 'tool_choice: type "tool" and "any" are not supported for this model.'
NO_OFF = '"thinking.type.disabled" is not supported for this model. Use "output_config.effort" to control thinking.'
NO_EFFORT = "This model does not support the effort parameter."


def unheard_of(*, forced: str | None, off: str | None, effort: str | None):
    """A model of Anthropic's that no table has: how it refuses a forced tool, to think nothing, and an effort."""

    async def behaviour(seen):
        body = json.loads(seen.body)
        complaint = None
        if body["tool_choice"]["type"] == "tool" and (forced == NO_FORCE or "thinking" not in body):
            complaint = forced
        if "thinking" in body:
            complaint = off
        if complaint is None and "output_config" in body:
            complaint = effort
        if complaint is None:
            await seen.answer(200, anthropic(GOOD))
        else:
            await seen.answer(400, {"error": {"type": "invalid_request_error", "message": complaint}})

    return behaviour


@pytest.mark.parametrize(
    ("refusals", "requests"),
    [
        ({"forced": None, "off": None, "effort": None}, 1),
        ({"forced": NO_THINKING, "off": None, "effort": None}, 2),
        ({"forced": NO_FORCE, "off": NO_OFF, "effort": None}, 2),
        ({"forced": NO_THINKING, "off": NO_OFF, "effort": None}, 3),
        ({"forced": NO_THINKING, "off": NO_OFF, "effort": NO_EFFORT}, 4),
    ],
)
async def test_a_model_that_nobody_knows_is_asked_as_its_refusals_say(lab, refusals, requests):
    server = await lab.serve(unheard_of(**refusals))
    result = await lab.probe(server.url, "tools", api="anthropic", endpoint={"upstream_model": "model-1"})
    assert (result.outcome.kind, result.outcome.detail) == ("success", "")
    assert len(server.requests) == requests


async def test_a_model_that_refuses_whatever_is_sent_is_asked_a_few_times_only(lab):
    complaint = f"{NO_THINKING} {NO_OFF} {NO_EFFORT} max_tokens at least"
    server = await lab.serve(lambda seen: seen.answer(400, {"error": {"message": complaint}}))
    for api, model in (("anthropic", "claude-sonnet-5-5"), ("openai", "o3"), ("anthropic", "m")):
        before = len(server.requests)
        outcome = (await lab.probe(server.url, "tools", api=api, endpoint={"upstream_model": model})).outcome
        assert outcome.kind == "probe_invalid"
        assert len(server.requests) - before <= TRIES_MAX


async def test_a_model_that_takes_no_force_may_decline_to_call(lab):
    answer = {"content": [{"type": "text", "text": "Done."}], "stop_reason": "end_turn"}
    server = await lab.serve(lambda seen: seen.answer(200, answer))
    outcome = (
        await lab.probe(server.url, "tools", api="anthropic", endpoint={"upstream_model": "claude-opus-5-5"})
    ).outcome
    assert (outcome.kind, outcome.tool_call_errors) == ("probe_invalid", None)
    assert outcome.detail == "no tool was called, and this model cannot be forced to; choose another probe.kind"


async def test_a_model_that_thought_although_a_call_was_forced_was_not_forced(lab):
    thought = {"type": "thinking", "thinking": "", "signature": "s"}
    text = {"type": "text", "text": "Done."}
    outcome = (await probed(lab, {"content": [thought, text], "stop_reason": "end_turn"}, api="anthropic")).outcome
    assert (outcome.kind, outcome.tool_call_errors) == ("probe_invalid", None)
    broken = anthropic({"day": "monday", "guests": 4})
    broken["content"].insert(0, thought)
    assert (await probed(lab, broken, api="anthropic")).outcome.kind == "malformed"


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_a_model_that_thinks_longer_than_was_thought_has_more_room_once(lab, api):
    good, cut = (openai, "length") if api == "openai" else (anthropic, "max_tokens")

    async def thinker(seen):
        short = json.loads(seen.body)["max_tokens"] < 2048
        await seen.answer(200, good({} if short else GOOD, **({"reason": cut} if short else {})))

    server = await lab.serve(thinker)
    result = await lab.probe(server.url, "tools", api=api)
    assert (result.outcome.kind, result.outcome.tool_call_errors) == ("success", 0)
    assert [json.loads(seen.body)["max_tokens"] for seen in server.requests] == [512, 2048]
    once = cost_of(result.outcome, lab.endpoint(server.url).pricing)
    assert result.cost == pytest.approx(2 * once)  # both answers were paid for


async def test_more_room_takes_half_of_the_time_that_is_left_and_its_end_is_no_verdict(lab):
    async def slow(seen):
        if json.loads(seen.body)["max_tokens"] < 2048:
            await seen.answer(200, openai('{"day": "satur', reason="length"))
        else:
            await seen.hang()

    server = await lab.serve(slow)
    result = await lab.probe(server.url, "tools", timeout=0.5)
    assert result.outcome.kind == "probe_invalid"
    assert "used up its tokens" in result.outcome.detail
    assert (len(server.requests), result.bug) == (2, None)
    once, prompt = cost_of(result.outcome, lab.endpoint(server.url).pricing), result.prompt_tokens
    assert result.cost == pytest.approx(once + (prompt * 2.0 + 2048 * 8.0) / 1e6)  # all that it was allowed
    assert result.sent == 2


@pytest.mark.parametrize("sends", [True, False])
async def test_a_second_request_that_broke_may_have_cost_all_that_it_was_allowed(lab, sends):
    async def breaks(seen):
        if json.loads(seen.body)["max_tokens"] == 2048:
            seen.reset()
            return
        if not sends:
            server.stop()
        await seen.answer(200, openai('{"day": "satur', reason="length"))

    server = await lab.serve(breaks)
    result = await lab.probe(server.url, "tools")
    assert (result.outcome.kind, result.sent) == (("reset", 2) if sends else ("connect", 1))
    first, second = (80 * 2.0 + 20 * 8.0) / 1e6, (80 * 2.0 + 2048 * 8.0) / 1e6
    assert result.cost == pytest.approx(first + second if sends else first)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b"<html>log in</html>", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"error": {"code": 429, "message": "slow"}}', "rate_limited"),
        (b'{"error": "words"}', "server_error"),
        (json.dumps(openai(GOOD, model="another")).encode(), "malformed"),
        (json.dumps(openai(GOOD, reason="content_filter")).encode(), "caller_error"),
        (json.dumps(openai(GOOD, reason="error")).encode(), "server_error"),
        (json.dumps(openai(GOOD)).replace("80", "-80").encode(), "malformed"),
        (b'{"choices": [' + b" " * 5000, "probe_invalid"),
    ],
)
async def test_a_200_that_is_no_answer_is_not_a_success(lab, body, kind):
    server = await lab.serve(lambda seen: seen.answer(200, body))
    result = await lab.probe(server.url, "tools", size_max=4000)
    assert (result.outcome.kind, result.outcome.tool_call_errors, result.bug) == (kind, None, None)


async def test_a_call_that_echoes_the_credential_is_told_without_it(lab):
    result = await probed(lab, openai({"day": "sk-1", "guests": 4}), secret="sk-1")
    assert result.outcome.kind == "malformed"
    assert any(line.startswith('> {"model":"model-1"') for line in result.transcript)
    assert "sk-1" not in repr(result)
