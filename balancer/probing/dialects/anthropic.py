"""Anthropic's messages. `base_url` names the version, as it does for OpenAI: `https://api.anthropic.com/v1`.

Their words for how an answer ended are told in OpenAI's, which `core.outcome` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from balancer.config.secret import Secret
from balancer.core.model import Endpoint
from balancer.probing.dialects.interface import (
    PROMPT,
    TOKENS_MAX,
    Delta,
    complained,
    count,
    error_in,
    mapping,
    parsed,
    used_up,
)

VERSION: Final = "2023-06-01"  # the one published version of the API; required on every request

_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

# Their tokens are rounded to thousands: 0 may be some hundreds, too few for a prompt worth sending.
_LIMITS: Final = [
    (f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset")
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
]
_SPENT: Final = "enforced_spend_limit_reached"  # the month's, and no model there answers until the next


class Anthropic:
    """The rules of `api: anthropic`."""

    models_path = "/models?limit=1000"  # the most; without it a page holds 20
    completion_path = "/messages"

    def headers(self, credential: Secret | None) -> Mapping[str, str]:
        headers = {"anthropic-version": VERSION}
        if credential is not None:
            headers["x-api-key"] = credential.reveal()
        return headers

    def completion(self, endpoint: Endpoint) -> dict[str, Any]:
        return {
            "model": endpoint.upstream_model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "max_tokens": TOKENS_MAX,
        }

    def amended(self, body: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
        del body, complaint  # every parameter of the body is required, or asked for by this client
        return None

    def delta(self, data: str) -> Delta:
        event = parsed(data)
        if not isinstance(event, Mapping):
            raise ValueError("an event of the stream is not an object")
        kind = event.get("type")
        error = error_in(event)
        if kind == "error" or error is not None:
            return Delta(error=error if error is not None else "an error without a message", end=True)
        if kind == "message_stop":
            return Delta(end=True)
        if kind == "message_start":
            usage = mapping(mapping(event.get("message")).get("usage"))
            # Its output_tokens are those so far; the last message_delta has the sum.
            return Delta(prompt_tokens=count(usage.get("input_tokens")))
        said = mapping(event.get("delta"))
        if kind == "content_block_delta":
            texts = [said.get(key) for key in ("text", "thinking")]
            return Delta(text="".join(text for text in texts if isinstance(text, str)))
        if kind == "message_delta":
            reason = said.get("stop_reason")
            usage = mapping(event.get("usage"))
            return Delta(
                finish_reason=_FINISH.get(reason, reason) if isinstance(reason, str) else None,
                prompt_tokens=count(usage.get("input_tokens")),
                completion_tokens=count(usage.get("output_tokens")),
            )
        return Delta()  # ping, content_block_start and whatever is added later

    def used_up(self, headers: Mapping[str, str], *, wall: float) -> float | None:
        return used_up(headers, _LIMITS, partial(_until, wall=wall))

    def of_account(self, complaint: str) -> bool:
        # A plain `rate_limit_error` is of one class of models.
        error = complained(complaint)
        return error.get("type") == "billing_error" or mapping(error.get("details")).get("error_code") == _SPENT


def _until(text: str, *, wall: float) -> float | None:
    """Seconds until a moment of RFC 3339; one that has passed is 0."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else max(0.0, moment.timestamp() - wall)


ANTHROPIC: Final = Anthropic()
