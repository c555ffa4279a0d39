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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from balancer.core.outcome import Outcome
from balancer.probing.client import Answer, Client
from balancer.probing.connection import TURN
from balancer.probing.dialects import Delta
from balancer.probing.dialects.errors import trouble_in
from balancer.probing.dialects.interface import Trouble, parsed
from balancer.probing.failure import Failure
from balancer.probing.kinds.answers import Whole, asked, judged_whole, troubled
from balancer.probing.kinds.interface import Check
from balancer.probing.sse import EventParser

REST_WAIT: Final = 2.0  # seconds for usage and the end mark after the finish reason


async def run(client: Client) -> Outcome:
    """Ask for the completion, and judge the stream."""
    return await asked(client, client.dialect.completion(client.endpoint), _judged, accept="text/event-stream")


@dataclass(slots=True)
class _Heard:
    """What a stream has said so far. Times are moments of the probe's clock."""

    size: int = 0
    events: int = 0
    spoke: bool = False
    solid: bool = False
    first_at: float | None = None
    last_at: float | None = None
    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: Trouble | None = None
    complaint: str = ""
    ended: bool = False

    @property
    def hollow(self) -> bool:
        """Whether there were events, and nothing was in them."""
        return self.events > 0 and not self.solid

    def take(self, delta: Delta, now: float) -> None:
        self.events += 1
        self.solid = self.solid or not (delta.hollow or delta.end)
        if self.model is None:
            self.model = delta.model
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


async def _judged(client: Client, answer: Answer, body: Mapping[str, Any]) -> Outcome:
    del body  # an answer is the same, whatever was asked
    if answer.content_type == "application/json":
        return await _not_streamed(client, answer)
    client.trace.rename("first_token")
    heard = _Heard()
    parser = EventParser()
    await _listen(client, answer, parser, heard, whole=False)
    if not heard.ended and heard.finish_reason is not None:
        try:
            async with asyncio.timeout(client.spare(REST_WAIT)):
                await _listen(client, answer, parser, heard, whole=True)
        except (Failure, TimeoutError) as problem:
            if isinstance(problem, Failure) and problem.kind == "malformed":
                raise  # a client that reads to the end stumbles over it
            client.trace.say("* the rest of the stream did not come")  # all that was asked for has
    if heard.error is not None:
        return replace(
            troubled(client, answer, heard.error, heard.complaint, where="error in the stream"),
            prompt_tokens=heard.prompt_tokens,
            completion_tokens=heard.completion_tokens,
        )
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
            client.trace.say_event(data)
            _take(client, answer, heard, data)
        if not chunk:
            return


def _take(client: Client, answer: Answer, heard: _Heard, data: str) -> None:
    if heard.ended:
        return
    try:
        delta = client.dialect.delta(data)
    except ValueError as problem:
        raise Failure("malformed", f"the stream is broken: {problem}", status=answer.status) from None
    heard.take(delta, client.clock())
    if heard.spoke and client.trace.phase == "first_token":
        client.trace.enter("transfer")
    if delta.error is not None:
        heard.complaint = data


def _outcome(client: Client, answer: Answer, heard: _Heard) -> Outcome:
    if not heard.ended and heard.finish_reason is None and not heard.hollow:
        raise Failure("stream", "the stream stopped without a finish reason", status=answer.status)
    outcome = judged_whole(
        client,
        answer,
        Whole(
            model=heard.model,
            finish_reason=heard.finish_reason,
            prompt_tokens=heard.prompt_tokens,
            completion_tokens=heard.completion_tokens,
            latency=None if heard.last_at is None else heard.last_at - answer.sent_at,
            ttft=None if heard.first_at is None else heard.first_at - answer.sent_at,
        ),
    )
    if outcome.kind == "success" and not heard.spoke and heard.finish_reason != "length":
        said = "no choices" if heard.hollow else f"no text, finish reason {heard.finish_reason}"
        return replace(outcome, kind="empty", retry_after=None, detail=said)
    return outcome


async def _not_streamed(client: Client, answer: Answer) -> Outcome:
    """Judge a 200 whose body is JSON: an error that forgot its status, or a server that cannot stream."""
    body = await answer.read()
    text = body.decode("utf-8", "replace")
    client.trace.say(f"< {text}")
    if not body.strip():
        raise Failure("empty", "the answer has no body", status=answer.status)
    try:
        value = parsed(body)
    except ValueError as problem:
        raise Failure("malformed", f"the answer is {problem}", status=answer.status) from None
    trouble = trouble_in(value)
    if trouble is not None:
        return troubled(client, answer, trouble, text, where=f"an error with status {answer.status}")
    if isinstance(value, dict) and value.get("choices") == []:
        raise Failure("empty", "no choices", status=answer.status)
    raise Failure(
        "malformed", f"a stream was asked for, not JSON: {client.explained(answer, text)}", status=answer.status
    )


COMPLETION: Final = Check(run=run, shallow=False, paid=True)
