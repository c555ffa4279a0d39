"""Anthropic's messages. `base_url` names the version, as it does for OpenAI: `https://api.anthropic.com/v1`.

A body begins as the model's recipe says (`recipes`), and `amended` follows a refusal: some models think unless they
are told not to, some cannot be told, and some take no forced tool. Nobody knows the next one, but its refusal says.

Their words for how an answer ended are told in OpenAI's, which `core.outcome` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from balancer.config.secret import Secret
from balancer.core.model import Endpoint
from balancer.probing.dialects.errors import complained, trouble_in
from balancer.probing.dialects.interface import (
    FIRM_PROMPT,
    MORE_TOKENS,
    PROMPT,
    TOO_FEW,
    TOOL,
    TOOL_PROMPT,
    TOOL_PURPOSE,
    TOOL_SCHEMA,
    TOOL_TOKENS_MAX,
    Call,
    Delta,
    Reply,
    Trouble,
    count,
    mapping,
    parsed,
    text_of,
    used_up,
)
from balancer.probing.dialects.recipes import THINKING_TOKENS, recipe

VERSION: Final = "2023-06-01"  # the one published version of the API; required on every request

_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
}

# Their tokens are rounded to thousands: 0 may be some hundreds, too few for a prompt worth sending.
_LIMITS: Final = [
    (f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset")
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
]
_FORCED: Final = {"type": "tool", "name": TOOL}
_UNFORCED: Final = {"tool_choice": {"type": "auto"}, "messages": [{"role": "user", "content": FIRM_PROMPT}]}
_OFF: Final = {"thinking": {"type": "disabled"}}
_BETWEEN: Final = {"type": "between_tools"}  # Sonnet 5.5's lowest, which its refusal of `disabled` names
_SPENT: Final = "enforced_spend_limit_reached"  # the month's, and no model there answers until the next


class Anthropic:
    """The rules of `api: anthropic`."""

    models_path = "/models?limit=1000"  # the most; without it a page holds 20
    completion_path = "/messages"

    def headers(self, credential: Secret | None, endpoint: Endpoint) -> Mapping[str, str]:
        del endpoint  # Azure and the others that offer this dialect take the same header
        headers = {"anthropic-version": VERSION}
        if credential is not None:
            headers["x-api-key"] = credential.reveal()
        return headers

    def completion(self, endpoint: Endpoint) -> dict[str, Any]:
        wanted = recipe(endpoint)
        return {
            "model": endpoint.upstream_model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "max_tokens": wanted.tokens,
            **wanted.besides,
        }

    def tools(self, endpoint: Endpoint) -> dict[str, Any]:
        wanted = recipe(endpoint)
        return {
            "model": endpoint.upstream_model,
            "messages": [{"role": "user", "content": TOOL_PROMPT}],
            "tools": [{"name": TOOL, "description": TOOL_PURPOSE, "input_schema": TOOL_SCHEMA}],
            "tool_choice": _FORCED,
            "max_tokens": max(wanted.tokens, TOOL_TOKENS_MAX),
            **wanted.besides,
            **({} if wanted.forced else _UNFORCED),
        }

    def amended(self, body: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
        said = complaint.lower()
        amended = dict(body)
        if self.forces(body) and "tool_choice" in said:
            # "Thinking may not be enabled when tool_choice forces tool use": without it the choice stands.
            amended |= _OFF if "thinking" in said and "thinking" not in body else _UNFORCED
        elif "thinking" in body and "thinking" in said:
            amended |= self._thinking(body, said)
            if amended["thinking"] is None:
                del amended["thinking"]
        elif "output_config" in body and ("effort" in said or "output_config" in said):
            del amended["output_config"]
        elif body["max_tokens"] < MORE_TOKENS and "max_tokens" in said and TOO_FEW.search(said) is not None:
            amended["max_tokens"] = MORE_TOKENS
        else:
            return None
        return amended

    def _thinking(self, body: Mapping[str, Any], said: str) -> dict[str, Any]:
        """What to send instead of a way of thinking that is refused: the lowest that the refusal names."""
        between = _BETWEEN if _BETWEEN["type"] in said and body["thinking"] != _BETWEEN else None
        return {
            "thinking": between,
            "max_tokens": max(body["max_tokens"], THINKING_TOKENS),
            **({"output_config": {"effort": "low"}} if "effort" in said else {}),
            # It was turned off so that a tool could be forced.
            **(_UNFORCED if self.forces(body) else {}),
        }

    def roomier(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return {**body, "max_tokens": MORE_TOKENS} if body["max_tokens"] < MORE_TOKENS else None

    def forces(self, body: Mapping[str, Any]) -> bool:
        return body.get("tool_choice") == _FORCED

    def delta(self, data: str) -> Delta:
        event = parsed(data)
        if not isinstance(event, Mapping):
            raise ValueError("an event of the stream is not an object")
        kind = event.get("type")
        error = trouble_in(event)
        if kind == "error" or error is not None:
            return Delta(error=Trouble(text="an error without a message") if error is None else error, end=True)
        if kind == "message_stop":
            return Delta(end=True)
        if kind == "message_start":
            message = mapping(event.get("message"))
            # Its output_tokens are those so far; the last message_delta has the sum.
            prompt_tokens = count(mapping(message.get("usage")), "input_tokens")
            return Delta(model=text_of(message.get("model")), prompt_tokens=prompt_tokens)
        said = mapping(event.get("delta"))
        if kind == "content_block_delta":
            texts = [said.get(key) for key in ("text", "thinking")]
            return Delta(text="".join(text for text in texts if isinstance(text, str)))
        if kind == "message_delta":
            usage = mapping(event.get("usage"))
            return Delta(
                finish_reason=_finish(said.get("stop_reason")),
                prompt_tokens=count(usage, "input_tokens"),
                completion_tokens=count(usage, "output_tokens"),
            )
        return Delta()  # ping, content_block_start and whatever is added later

    def reply(self, body: bytes) -> Reply:
        message = parsed(body)
        error = trouble_in(message)
        if error is not None:
            return Reply(error=error)
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
            raise ValueError("no message with a list of content")
        usage = mapping(message.get("usage"))
        blocks = [mapping(block) for block in message["content"]]
        return Reply(
            model=text_of(message.get("model")),
            finish_reason=_finish(message.get("stop_reason")),
            prompt_tokens=count(usage, "input_tokens"),
            completion_tokens=count(usage, "output_tokens"),
            calls=tuple(
                Call(name=str(block.get("name")), arguments=block.get("input"))
                for block in blocks
                if block.get("type") == "tool_use"
            ),
            # Forced tools and thinking exclude each other: where a door does not say so, the tool gives way.
            freed=any(block.get("type") in ("thinking", "redacted_thinking") for block in blocks),
        )

    def used_up(self, headers: Mapping[str, str], *, wall: float) -> float | None:
        return used_up(headers, _LIMITS, wall=wall)

    def of_account(self, complaint: str) -> bool:
        # A plain `rate_limit_error` is of one class of models.
        error = complained(complaint)
        return error.get("type") == "billing_error" or mapping(error.get("details")).get("error_code") == _SPENT


def _finish(reason: object) -> str | None:
    """Say in OpenAI's word how an answer ended, and in theirs where there is none."""
    return _FINISH.get(reason, reason) if isinstance(reason, str) and reason else None


ANTHROPIC: Final = Anthropic()
