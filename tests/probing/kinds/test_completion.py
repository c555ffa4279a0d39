"""A few streamed tokens, in both dialects: what is a whole answer, and what is none."""

import asyncio
import json

import pytest

USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 2}}
ANTHROPIC_START = {"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 1}}}
ANTHROPIC_STOP = {"type": "message_stop"}


def said(text, reason=None, key="content"):
    return {"choices": [{"index": 0, "delta": {key: text}, "finish_reason": reason}]}


def anthropic_said(text):
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def anthropic_end(reason, tokens=2):
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": tokens}}


async def probed(lab, *events, api="openai", done=True, **settings):
    body = lab.stream(*events, done=done and api == "openai", event_names=api == "anthropic")
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream"))
    return await lab.probe(server.url, "completion", api=api, **settings)


async def test_a_whole_openai_stream_is_a_deep_success_with_times_tokens_and_cost(lab):
    async def speak(seen):
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in (": PROCESSING\n\n", said(""), said("O"), said("K"), said("", "stop"), USAGE, "[DONE]"):
            text = event if event == ": PROCESSING\n\n" else lab.stream(event, done=False).decode()
            if event == "[DONE]":
                text = "data: [DONE]\n\n"
            await seen.send(f"{len(text):x}\r\n{text}\r\n".encode())
            await asyncio.sleep(0.01)
        await seen.send(b"0\r\n\r\n")

    server = await lab.serve(speak)
    result = await lab.probe(server.url, "completion", secret="key")
    outcome = result.outcome
    assert (outcome.kind, outcome.status, outcome.shallow) == ("success", 200, False)
    assert outcome.ttft is not None
    assert outcome.latency is not None
    assert 0.02 <= outcome.ttft < outcome.latency < result.ended - result.began
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (12, 2)
    assert (result.prompt_tokens, result.completion_tokens) == (12, 2)
    assert result.cost == pytest.approx((12 * 2.0 + 2 * 8.0) / 1e6)
    assert lab.connections.idle == 1
    seen = server.requests[0]
    assert (seen.method, seen.target) == ("POST", "/v1/chat/completions")
    assert json.loads(seen.body) == {
        "model": "model-1",
        "messages": [{"role": "user", "content": "Reply with the word OK."}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 16,
    }


async def test_a_whole_anthropic_stream_is_a_deep_success(lab):
    events = [ANTHROPIC_START, {"type": "ping"}, anthropic_said("OK"), anthropic_end("end_turn"), ANTHROPIC_STOP]
    result = await probed(lab, *events, api="anthropic")
    assert result.outcome.kind == "success"
    assert result.outcome.ttft is not None
    assert (result.prompt_tokens, result.completion_tokens) == (12, 2)


async def test_anthropic_is_asked_for_messages(lab):
    body = lab.stream(anthropic_said("OK"), ANTHROPIC_STOP, done=False, event_names=True)
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream"))
    result = await lab.probe(server.url, "completion", secret="key", api="anthropic")
    seen = server.requests[0]
    assert result.outcome.kind == "success"
    assert result.cost is None
    assert (seen.target, seen.headers["x-api-key"]) == ("/v1/messages", "key")
    assert json.loads(seen.body)["max_tokens"] == 16


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([said("OK", "stop")], "success"),
        ([said("OK")], "success"),  # [DONE] alone is an end
        ([said("thinking", "length", key="reasoning_content")], "success"),
        ([said("", "length"), USAGE], "success"),  # all tokens were spent on hidden thoughts
        ([said("", "stop")], "empty"),
        ([said("")], "empty"),
        ([], "empty"),
        ([said("OK", "content_filter")], "caller_error"),
        ([said("OK", "error")], "server_error"),
        ([said("O"), {"error": {"code": 502, "message": "upstream"}}], "server_error"),
        ([{"error": "plain words"}], "server_error"),
        ([said("O"), {"error": {"code": 429, "message": "upstream"}}], "rate_limited"),
        ([said("O"), {"error": {"message": "The engine is overloaded"}}], "overloaded"),
        ([{"error": {"code": "invalid_api_key"}}], "refused"),
        ([{"error": {"code": 400, "message": "recipe"}}], "probe_invalid"),
        ([USAGE], "empty"),
        (["not json"], "malformed"),
        (["[1, 2]"], "malformed"),
        ([said("OK", "stop"), "not json"], "malformed"),
        ([said("OK", "stop"), '{"usage": {"prompt_tokens": NaN}}'], "malformed"),
        ([said("OK", "stop"), {"usage": {"prompt_tokens": -1}}], "malformed"),
        ([said("OK", "stop"), {"usage": {"completion_tokens": "many"}}], "malformed"),
        ([said("OK", "stop"), {"usage": {"completion_tokens": 1e12}}], "malformed"),
        ([{"choices": "none"}, said("OK", "stop")], "success"),
    ],
)
async def test_an_openai_stream_is_judged_by_what_it_says(lab, events, kind):
    result = await probed(lab, *events)
    assert result.outcome.kind == kind
    assert result.bug is None


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([anthropic_said("OK"), anthropic_end("end_turn")], "success"),
        ([anthropic_said("OK"), ANTHROPIC_STOP], "success"),
        ([anthropic_end("max_tokens", 16), ANTHROPIC_STOP], "success"),
        ([ANTHROPIC_START, anthropic_end("end_turn", 0), ANTHROPIC_STOP], "empty"),
        ([anthropic_end("refusal"), ANTHROPIC_STOP], "caller_error"),
        ([{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}], "overloaded"),
        ([{"type": "error"}], "server_error"),
        ([ANTHROPIC_START, anthropic_said("O")], "stream"),
        (["not json"], "malformed"),
    ],
)
async def test_an_anthropic_stream_is_judged_by_what_it_says(lab, events, kind):
    result = await probed(lab, *events, api="anthropic")
    assert result.outcome.kind == kind
    assert result.bug is None


async def test_an_error_in_the_stream_holds_like_one_with_a_status(lab):
    body = lab.stream(said("O"), {"error": {"code": "insufficient_quota", "message": "m"}})
    told = {"content_type": "text/event-stream", "retry_after": "1m30s"}
    server = await lab.serve(lambda seen: seen.answer(200, body, **told))
    outcome = (await lab.probe(server.url, "completion")).outcome
    assert (outcome.kind, outcome.status) == ("rate_limited", 200)
    assert (outcome.retry_after, outcome.account) == (90.0, True)


async def test_a_stream_of_hollow_events_is_empty_even_without_its_end_mark(lab):
    result = await probed(lab, {"choices": []}, USAGE, done=False)
    assert (result.outcome.kind, result.outcome.detail) == ("empty", "no choices")


async def test_an_error_in_the_stream_is_told_without_the_credential(lab):
    body = lab.stream({"error": {"code": 500, "type": "server", "message": "key sk-1 is odd"}})
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream"))
    result = await lab.probe(server.url, "completion", secret="sk-1")
    assert result.outcome.detail == "error in the stream: 500 server key *** is odd"
    assert "sk-1" not in repr(result)


@pytest.mark.parametrize("events", [[said("O")], [said("O"), USAGE]])
async def test_a_stream_that_ends_cleanly_without_saying_why_is_cut(lab, events):
    result = await probed(lab, *events, done=False)
    assert (result.outcome.kind, result.outcome.status) == ("stream", 200)


async def test_a_stream_that_breaks_off_is_cut(lab):
    async def cut(seen):
        await seen.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n")
        seen.writer.close()

    server = await lab.serve(cut)
    assert (await lab.probe(server.url, "completion")).outcome.kind == "stream"


async def test_a_stream_that_breaks_off_after_its_finish_reason_is_whole(lab):
    async def cut(seen):
        data = lab.stream(said("OK", "stop"), done=False)
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + data)
        seen.writer.close()

    server = await lab.serve(cut)
    assert (await lab.probe(server.url, "completion")).outcome.kind == "success"


async def test_a_stream_that_hangs_after_its_finish_reason_is_whole_and_not_slow(lab):
    async def hang(seen):
        data = lab.stream(said("OK", "stop"), done=False)
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + data)
        await seen.hang()

    server = await lab.serve(hang)
    result = await lab.probe(server.url, "completion")
    assert result.outcome.kind == "success"
    assert result.outcome.latency is not None
    assert result.outcome.latency < 1.0
    assert lab.connections.idle == 0


@pytest.mark.parametrize(
    ("end", "kind"), [("", "success"), ("0\r\n", "success"), ("zz\r\n", "malformed"), ("4\r\nda", "success")]
)
async def test_after_the_finish_reason_a_cut_is_no_matter_and_garbage_is(lab, end, kind):
    async def cut(seen):
        data = lab.stream(said("OK", "stop"), done=False).decode()
        chunk = f"{len(data):x}\r\n{data}\r\n{end}".encode()
        await seen.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk)
        seen.writer.close()

    server = await lab.serve(cut)
    result = await lab.probe(server.url, "completion")
    assert (result.outcome.kind, result.bug) == (kind, None)


async def test_comments_alone_keep_no_stream_alive(lab):
    async def comment(seen):
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while True:
            await seen.send(b": PROCESSING\n\n")
            await asyncio.sleep(0.02)

    server = await lab.serve(comment)
    result = await lab.probe(server.url, "completion", timeout=0.3)
    assert (result.outcome.kind, result.outcome.detail) == ("timeout", "not done after 0.3 s (in first_token)")


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (b"", "text/event-stream", "empty"),
        (b"", "application/json", "empty"),
        (b": only a comment\n\n", "text/event-stream", "stream"),
        (b"<html>log in</html>", "text/html", "malformed"),
        (b'{"error": {"message": "no credit"}}', "application/json; charset=utf-8", "server_error"),
        (b'{"choices": []}', "application/json", "empty"),
        (b'{"choices": [{}]}', "application/json", "malformed"),
        (b"{", "application/json", "malformed"),
        (b"data: " + b"x" * 5000, "text/event-stream", "probe_invalid"),
    ],
)
async def test_a_200_that_is_no_stream_is_not_a_success(lab, body, content_type, kind):
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type=content_type))
    result = await lab.probe(server.url, "completion", size_max=4000)
    assert (result.outcome.kind, result.bug) == (kind, None)


async def test_a_refused_parameter_is_amended_as_the_refusal_asks(lab):
    async def picky(seen):
        body = json.loads(seen.body)
        if "max_tokens" in body:
            await seen.answer(400, {"error": {"message": "use 'max_completion_tokens' instead"}})
        elif "stream_options" in body:
            await seen.answer(422, {"detail": "extra input: stream_options"})
        else:
            await seen.answer(200, lab.stream(said("OK", "stop")), content_type="text/event-stream")

    server = await lab.serve(picky)
    result = await lab.probe(server.url, "completion")
    assert result.outcome.kind == "success"
    assert json.loads(server.requests[-1].body)["max_completion_tokens"] == 16
    assert (len(server.requests), result.sent) == (3, 1)  # a refusal costs nothing


async def test_a_refusal_that_amending_does_not_heal_is_a_wrong_recipe(lab):
    complaint = {"error": {"message": "max_completion_tokens and stream_options and all else are wrong"}}
    server = await lab.serve(lambda seen: seen.answer(400, complaint))
    result = await lab.probe(server.url, "completion")
    assert result.outcome.kind == "probe_invalid"
    bodies = [seen.body for seen in server.requests]
    assert len(set(bodies)) == len(bodies) == 4


@pytest.mark.parametrize(("left", "hold"), [("0", 90.0), ("1", None)])
@pytest.mark.parametrize(("reason", "kind"), [("stop", "success"), ("content_filter", "caller_error")])
async def test_a_whole_answer_may_be_the_last_of_the_quota(lab, left, hold, reason, kind):
    body = lab.stream(said("OK", reason))
    told = {"x_ratelimit_remaining_requests": left, "x_ratelimit_reset_requests": "1m30s"}
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream", **told))
    outcome = (await lab.probe(server.url, "completion")).outcome
    assert (outcome.kind, outcome.retry_after) == (kind, hold if kind == "success" else None)


async def test_anthropics_moment_is_read_by_the_wall_clock_of_the_caller(lab):
    body = lab.stream(ANTHROPIC_START, anthropic_said("OK"), anthropic_end("end_turn"), ANTHROPIC_STOP, done=False)
    told = {"anthropic_ratelimit_requests_remaining": "0"}
    told["anthropic_ratelimit_requests_reset"] = "2023-11-14T22:13:50Z"
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream", **told))
    result = await lab.probe(server.url, "completion", api="anthropic", wall=lambda: 1_700_000_000.0)
    assert (result.outcome.kind, result.outcome.retry_after) == ("success", 30.0)


async def test_the_first_token_is_a_phase_of_its_own(lab):
    async def slow(seen):
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: thinking\n\n")
        await asyncio.sleep(0.1)
        await seen.send(lab.stream({"model": "model-1", "choices": [{"delta": {"content": "OK"}}]}, done=False))
        await asyncio.sleep(0.05)
        await seen.send(lab.stream({"model": "model-1", "choices": [{"delta": {}, "finish_reason": "stop"}]}))
        seen.writer.close()

    server = await lab.serve(slow)
    result = await lab.probe(server.url, "completion")
    assert result.outcome.kind == "success"
    assert list(result.phases) == ["connect", "request", "first_byte", "first_token", "transfer"]
    assert result.phases["first_token"] >= 0.1 > result.phases["first_byte"]
    assert result.phases["transfer"] >= 0.05


async def test_an_answer_that_is_no_stream_has_no_first_token(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"error": {"message": "no"}}))
    result = await lab.probe(server.url, "completion")
    assert list(result.phases) == ["connect", "request", "first_byte", "transfer"]


@pytest.mark.parametrize("nothing", [{}, "", None])
async def test_a_chunk_whose_error_is_empty_is_a_good_one(lab, nothing):
    body = lab.stream(said("OK", "stop") | {"error": nothing})
    server = await lab.serve(lambda seen: seen.answer(200, body, content_type="text/event-stream"))
    assert (await lab.probe(server.url, "completion")).outcome.kind == "success"
