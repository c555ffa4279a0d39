"""OpenAI's chat completions, as OpenAI and the many that imitate it speak them.

The recipe: 16 tokens, streamed with usage, no temperature (reasoning models refuse one). Newer OpenAI models
want `max_completion_tokens`, older imitations know only `max_tokens`, and some refuse `stream_options`: the body
begins with what most accept, and `amended` follows a refusal that names the parameter. A refusal costs
nothing. An endpoint whose `supported_parameters` decide it is asked rightly at once.
"""

from __future__ import annotations

from collections.abc import Mapping
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

# Where the thinking of reasoning models appears: OpenRouter's name, and that of DeepSeek and vLLM.
_THINKING: Final = ("reasoning", "reasoning_content")

# OpenAI's (spans as Go writes them) and Azure's (whole seconds); the last pair is of those that count one quota
# only, OpenRouter among them (Unix time in milliseconds).
_LIMITS: Final = [
    (f"x-ratelimit-remaining{what}", f"x-ratelimit-reset{what}") for what in ("-requests", "-tokens", "")
]

# What the account lacks is money, and no model there will answer. A `rate_limit_exceeded` is of one model (or of a
# few that share a limit, which nobody says).
_OF_ACCOUNT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class OpenAI:
    """The rules of `api: openai`."""

    models_path = "/models"
    completion_path = "/chat/completions"

    def headers(self, credential: Secret | None) -> Mapping[str, str]:
        return {} if credential is None else {"authorization": f"Bearer {credential.reveal()}"}

    def completion(self, endpoint: Endpoint) -> dict[str, Any]:
        known = endpoint.supported_parameters
        newer = known is not None and "max_completion_tokens" in known and "max_tokens" not in known
        return {
            "model": endpoint.upstream_model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens" if newer else "max_tokens": TOKENS_MAX,
        }

    def amended(self, body: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
        amended = dict(body)
        if "max_tokens" in body and "max_completion_tokens" in complaint:
            amended["max_completion_tokens"] = amended.pop("max_tokens")
        elif "stream_options" in body and "stream_options" in complaint:
            del amended["stream_options"]
        else:
            return None
        return amended

    def delta(self, data: str) -> Delta:
        if data.strip() == "[DONE]":
            return Delta(end=True)
        event = parsed(data)
        if not isinstance(event, Mapping):
            raise ValueError("an event of the stream is not an object")
        error = error_in(event)
        if error is not None:
            return Delta(error=error, end=True)
        choices = event.get("choices")
        choice = mapping(choices[0]) if isinstance(choices, list) and choices else {}
        said = mapping(choice.get("delta"))
        texts = [said.get(key) for key in ("content", *_THINKING)]
        reason = choice.get("finish_reason")
        usage = mapping(event.get("usage"))
        return Delta(
            text="".join(text for text in texts if isinstance(text, str)),
            finish_reason=reason if isinstance(reason, str) and reason else None,
            prompt_tokens=count(usage.get("prompt_tokens")),
            completion_tokens=count(usage.get("completion_tokens")),
        )

    def used_up(self, headers: Mapping[str, str], *, wall: float) -> float | None:
        return used_up(headers, _LIMITS, wall=wall)

    def of_account(self, complaint: str) -> bool:
        error = complained(complaint)
        return not _OF_ACCOUNT.isdisjoint(str(error.get(key)) for key in ("code", "type"))


OPENAI: Final = OpenAI()
