"""Asks for a few tokens and reads the stream: the one probe that shows that the model works. It costs money.

Theory of operation: an answer is whole when its stream said why it finished or that it ended; otherwise it was
cut, however cleanly the connection closed. After the finish reason the rest (usage, `[DONE]`) is worth only a
short wait. `latency` and `ttft` count from the moment the request was sent: resolving and connecting are phases
of their own, and a proxy's kept connections do not pay them again.

An answer without any text is `empty`, except one that used up its tokens: a reasoning model may spend all of
them on thoughts that it does not show.

A whole answer may say that it was the last of the quota: the next would be a 429, so none is sent until it is back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import msgspec

from balancer.core.outcome import Outcome, classify
from balancer.probing.client import Answer, Client
from balancer.probing.connection import TURN
from balancer.probing.dialects import Delta
from balancer.probing.dialects.interface import error_in, parsed
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check, good, refusal
from balancer.probing.sse import EventParser

REST_WAIT: Final = 2.0  # seconds for usage and the end mark after the finish reason
_AMENDABLE: Final = (400, 422)  # the statuses by which servers refuse a parameter


async def run(client: Client) -> Outcome:
    """Ask for the completion, following the provider's complaints about the body, and judge the stream."""
    dialect = client.dialect
    url = client.below(dialect.completion_path)
    headers = {"content-type": "application/json", "accept": "text/event-stream", **client.identity}
    body = dialect.completion(client.endpoint)
    while True:
        async with client.request("POST", url, headers=headers, body=msgspec.json.encode(body)) as answer:
            if good(answer.status):
                return await _judged(client, answer)
            complaint = await answer.beginning()
            amended = dialect.amended(body, complaint) if answer.status in _AMENDABLE else None
            if amended is None:
                return refusal(client, answer, complaint)
            client.trace.say(f"< {complaint}")
            body = amended


@dataclass(slots=True)
class _Heard:
    """What a stream has said so far. Times are moments of the probe's clock."""

    size: int = 0
    events: int = 0
    spoke: bool = False
    first_at: float | None = None
    last_at: float | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    ended: bool = False

    def take(self, delta: Delta, now: float) -> None:
        self.events += 1
        if delta.text:
            self.spoke = True
            self.first_at = now if self.first_at is None else self.first_at
        if delta.text or delta.finish_reason is not None or delta.end:
            self.last_at = now
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
        if delta.prompt_tokens is not None:
            self.prompt_tokens = delta.prompt_tokens
        if delta.completion_tokens is not None:
            self.completion_tokens = delta.completion_tokens
        if delta.error is not None:
            self.error = delta.error
        self.ended = self.ended or delta.end


async def _judged(client: Client, answer: Answer) -> Outcome:
    if answer.content_type == "application/json":
        return await _not_streamed(client, answer)
    heard = _Heard()
    parser = EventParser()
    await _listen(client, answer, parser, heard, whole=False)
    if not heard.ended and heard.finish_reason is not None:
        try:
            async with asyncio.timeout(REST_WAIT):
                await _listen(client, answer, parser, heard, whole=True)
        except (Failure, TimeoutError):
            client.trace.say("* the rest of the stream did not come")  # all that was asked for has
    if heard.size == 0:
        raise Failure("empty", "the answer has no body", status=answer.status)
    if heard.events == 0 and answer.content_type != "text/event-stream":
        raise Failure("malformed", f"not an event stream: {answer.content_type}", status=answer.status)
    return _outcome(client, answer, heard)


async def _listen(client: Client, answer: Answer, parser: EventParser, heard: _Heard, *, whole: bool) -> None:
    """Read on until the stream ends or, unless `whole`, until it said why it finished. Raises: Failure."""
    while not heard.ended and (whole or heard.finish_reason is None):
        chunk = await answer.chunk()
        heard.size += len(chunk)
        for number, data in enumerate(parser.feed(chunk) if chunk else parser.end(), start=1):
            if number % TURN == 0:
                await asyncio.sleep(0)
            client.trace.say(f"< {data}")
            _take(client, answer, heard, data)
        if not chunk:
            return


def _take(client: Client, answer: Answer, heard: _Heard, data: str) -> None:
    if heard.ended:
        return
    try:
        heard.take(client.dialect.delta(data), client.clock())
    except ValueError as problem:
        raise Failure("malformed", f"the stream is broken: {problem}", status=answer.status) from None


def _outcome(client: Client, answer: Answer, heard: _Heard) -> Outcome:
    if heard.error is not None:
        return Outcome(
            kind="server_error",
            status=answer.status,
            prompt_tokens=heard.prompt_tokens,
            completion_tokens=heard.completion_tokens,
            detail=f"error in the stream: {heard.error}",
        )
    if not heard.ended and heard.finish_reason is None:
        raise Failure("stream", "the stream stopped without a finish reason", status=answer.status)
    kind = classify(
        status=answer.status,
        finish_reason=heard.finish_reason,
        completion_tokens=heard.completion_tokens,
        source="probe",
    )
    detail = "" if kind == "success" else f"finish reason {heard.finish_reason}"
    if kind == "success" and not heard.spoke and heard.finish_reason != "length":
        kind, detail = "empty", f"no text, finish reason {heard.finish_reason}"
    return Outcome(
        kind=kind,
        status=answer.status,
        latency=None if heard.last_at is None else heard.last_at - answer.sent_at,
        ttft=None if heard.first_at is None else heard.first_at - answer.sent_at,
        retry_after=client.dialect.used_up(answer.headers, wall=client.wall()) if kind == "success" else None,
        prompt_tokens=heard.prompt_tokens,
        completion_tokens=heard.completion_tokens,
        detail=detail,
    )


async def _not_streamed(client: Client, answer: Answer) -> Outcome:
    """Judge a 200 whose body is JSON: an error that forgot its status, or a server that cannot stream."""
    body = await answer.read()
    text = body.decode("utf-8", "replace")
    client.trace.say(f"< {text[:2000]}")
    if not body.strip():
        raise Failure("empty", "the answer has no body", status=answer.status)
    try:
        error = error_in(parsed(body))
    except ValueError as problem:
        raise Failure("malformed", f"the answer is {problem}", status=answer.status) from None
    if error is None:
        raise Failure(
            "malformed",
            f"a stream was asked for, not JSON: {client.explained(answer, text)}",
            status=answer.status,
        )
    return Outcome(
        kind="server_error", status=answer.status, detail=f"an error with status {answer.status}: {error}"
    )


COMPLETION: Final = Check(run=run, shallow=False, paid=True)
