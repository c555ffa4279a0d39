"""Makes the model call a tool, and holds the call against the tool's schema: what agents live on. It costs money.

Theory of operation: the call is forced and not streamed, so that the answer holds a call or is broken. The schema
is closed and small: one word of three, one number from 1 to 8, nothing else. Whether the values are those that were
asked for is not judged: a weak model is no broken endpoint. An answer that was cut by our own limit is our fault,
and so is one without a call of a model that takes no force: it had the choice.

What this module does not know: how a dialect writes tools and calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from balancer.core.outcome import Outcome
from balancer.probing.client import Answer, Client
from balancer.probing.dialects.interface import TOOL, TOOL_SCHEMA, TOOL_TOKENS_MAX, Call, Reply
from balancer.probing.failure import Failure
from balancer.probing.kinds.answers import UsedUp, Whole, asked, judged_whole, troubled
from balancer.probing.kinds.interface import Check

# 400, 422, and OpenRouter's 404 "No endpoints found that support tool use".
_UNSUPPORTED: Final = (400, 404, 422)
_TOOLS: Final = re.compile(r"\btool|function.?call", re.IGNORECASE)
# Groq holds the model's call against the schema itself, and answers 400 where none fits. Source: its code
# `tool_use_failed`, with "Failed to call a function", "model did not call a tool", "tool call validation failed".
_FAILED: Final = re.compile(
    r"tool_use_failed|failed to call a function|did not call a tool|tool call validation failed", re.IGNORECASE
)


async def run(client: Client) -> Outcome:
    """Ask for the call, and judge it."""
    outcome = await asked(client, client.dialect.tools(client.endpoint), _judged, accept="application/json")
    if outcome.status in _UNSUPPORTED and _FAILED.search(outcome.detail) is not None:
        return replace(outcome, kind="malformed", retry_after=None, tool_call_errors=1)
    if outcome.status in _UNSUPPORTED and _TOOLS.search(outcome.detail) is not None:
        said = f"tools are not supported, choose another probe.kind: {outcome.detail}"
        return replace(outcome, kind="probe_invalid", retry_after=None, detail=said)
    return outcome


async def _judged(client: Client, answer: Answer, sent: Mapping[str, Any]) -> Outcome:
    body = await answer.read()
    ended = client.clock()
    text = body.decode("utf-8", "replace")
    client.trace.say(f"< {text}")
    if not body.strip():
        raise Failure("empty", "the answer has no body", status=answer.status)
    try:
        reply = client.dialect.reply(body)
    except ValueError as problem:
        raise Failure("malformed", f"the answer is broken: {problem}", status=answer.status) from None
    if reply.error is not None:
        return troubled(client, answer, reply.error, text, where=f"an error with status {answer.status}")
    outcome = judged_whole(
        client,
        answer,
        Whole(
            model=reply.model,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            latency=ended - answer.sent_at,
        ),
    )
    if outcome.kind != "success":
        return outcome
    wrong = fault(reply)
    if wrong is None:
        return replace(outcome, tool_call_errors=0)
    if reply.finish_reason == "length":
        said = f"{wrong}: the model used up its tokens (at least {TOOL_TOKENS_MAX}) before"
        raise UsedUp(replace(outcome, kind="probe_invalid", retry_after=None, detail=said))
    if not reply.calls and (reply.freed or not client.dialect.forces(sent)):
        said = f"{wrong}, and this model cannot be forced to; choose another probe.kind"
        return replace(outcome, kind="probe_invalid", retry_after=None, detail=said)
    return replace(outcome, kind="malformed", retry_after=None, tool_call_errors=1, detail=wrong)


def fault(reply: Reply) -> str | None:
    """Say what is wrong with the call of an answer; `None` where every call fits the schema."""
    if not reply.calls:
        return "no tool was called"
    return next((wrong for wrong in map(_misfit, reply.calls) if wrong is not None), None)


def _misfit(call: Call) -> str | None:
    if call.name != TOOL:
        return f"tool {call.name} was called instead of {TOOL}"
    if call.broken is not None:
        return call.broken
    if not isinstance(call.arguments, dict):
        return "the arguments are not an object"
    properties = TOOL_SCHEMA["properties"]
    if set(call.arguments) != set(properties):
        found = ", ".join(sorted(call.arguments)) or "none"
        return f"the arguments have the keys {found} instead of {', '.join(properties)}"
    day, guests = call.arguments["day"], call.arguments["guests"]
    if day not in properties["day"]["enum"]:
        return f"argument day is {day!r}; it may be {', '.join(properties['day']['enum'])}"
    least, most = properties["guests"]["minimum"], properties["guests"]["maximum"]
    # JSON Schema: 4.0 is an integer too, true is none.
    if isinstance(guests, bool) or not isinstance(guests, int | float) or guests != int(guests):
        return f"argument guests is {guests!r}, and no integer"
    if not least <= guests <= most:
        return f"argument guests is {guests!r}; it may be {least} to {most}"
    return None


TOOLS: Final = Check(run=run, shallow=False, paid=True)
