"""OpenAI's chat completions, as OpenAI and the many that imitate it speak them.

A body begins as the model's recipe says (`recipes`), and `amended` follows a refusal that names a parameter: newer
OpenAI models want `max_completion_tokens`, older imitations know only `max_tokens`, some refuse `stream_options`,
an effort or a forced tool. A refusal costs nothing. An endpoint whose `supported_parameters` decide the name of the
limit is asked rightly at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from balancer.config.secret import Secret
from balancer.core.model import Endpoint
from balancer.probing.dialects.azure import is_azure, is_token
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
    count,
    mapping,
    parsed,
    text_of,
    used_up,
)
from balancer.probing.dialects.recipes import LIMIT, NEWER_LIMIT, recipe

# Where what a model produced appears: thinking has OpenRouter's name, and that of DeepSeek and vLLM.
_TEXTS: Final = ("content", "reasoning", "reasoning_content")

# OpenAI's (spans as Go writes them) and Azure's (whole seconds); Cerebras' and DigitalOcean's, of each span of
# time; the pair without a name is of those that count one quota only, OpenRouter among them (Unix time in
# milliseconds).
_SPANS: Final = ("", *(f"{joint}{span}" for joint in ("-", "-per-") for span in ("minute", "hour", "day")))
_LIMITS: Final = [
    (f"x-ratelimit-remaining{what}", f"x-ratelimit-reset{what}")
    for what in ("", *(f"-{counted}{span}" for counted in ("requests", "tokens") for span in _SPANS))
]

# What the account lacks is money, and no model there will answer. A `rate_limit_exceeded` is of one model (or of a
# few that share a limit, which nobody says).
_OF_ACCOUNT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

_EFFORT: Final = re.compile(r"reasoning[._ ]?effort|thinking level", re.IGNORECASE)
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")  # from the lowest
_OPTIONAL: Final = ("stream_options", "enable_thinking", "thinking")  # what an answer comes without, too
_FORCED: Final = {"type": "function", "function": {"name": TOOL}}


class OpenAI:
    """The rules of `api: openai`."""

    models_path = "/models"
    completion_path = "/chat/completions"

    def headers(self, credential: Secret | None, endpoint: Endpoint) -> Mapping[str, str]:
        if credential is None:
            return {}
        text = credential.reveal()
        if is_azure(endpoint.base_url) and not is_token(text):
            return {"api-key": text}
        return {"authorization": f"Bearer {text}"}

    def completion(self, endpoint: Endpoint) -> dict[str, Any]:
        return {
            "model": endpoint.upstream_model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "stream_options": {"include_usage": True},
            **_limited(endpoint),
        }

    def tools(self, endpoint: Endpoint) -> dict[str, Any]:
        function = {"name": TOOL, "description": TOOL_PURPOSE, "parameters": TOOL_SCHEMA}
        return {
            "model": endpoint.upstream_model,
            "messages": [{"role": "user", "content": TOOL_PROMPT}],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": _FORCED,
            **_limited(endpoint, TOOL_TOKENS_MAX),
        }

    def amended(self, body: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
        limit = NEWER_LIMIT if NEWER_LIMIT in body else LIMIT
        named = next((key for key in _OPTIONAL if key in body and key in complaint), None)
        amended = dict(body)
        if limit == LIMIT and NEWER_LIMIT in complaint:
            amended[NEWER_LIMIT] = amended.pop(LIMIT)
        elif body.get(limit, MORE_TOKENS) < MORE_TOKENS and _is_too_few(complaint):
            amended[limit] = MORE_TOKENS
        elif "reasoning_effort" in body and _EFFORT.search(complaint) is not None:
            refused = amended.pop("reasoning_effort")
            if (effort := _lowest(complaint, refused)) is not None:
                amended["reasoning_effort"] = effort
        elif self.forces(body) and "tool_choice" in complaint:
            amended |= _unforced(body, complaint)
        elif named is not None:
            del amended[named]
        elif limit == NEWER_LIMIT and NEWER_LIMIT in complaint:
            amended[LIMIT] = amended.pop(NEWER_LIMIT)
        else:
            return None
        return amended

    def roomier(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        limit = NEWER_LIMIT if NEWER_LIMIT in body else LIMIT
        return {**body, limit: MORE_TOKENS} if body.get(limit, MORE_TOKENS) < MORE_TOKENS else None

    def forces(self, body: Mapping[str, Any]) -> bool:
        return body.get("tool_choice") in (_FORCED, "required")

    def delta(self, data: str) -> Delta:
        if data.strip() == "[DONE]":
            return Delta(end=True)
        event = parsed(data)
        if not isinstance(event, Mapping):
            raise ValueError("an event of the stream is not an object")
        error = trouble_in(event)
        if error is not None:
            return Delta(error=error, end=True)
        choices = event.get("choices")
        choice = _first(choices)
        said = mapping(choice.get("delta"))
        usage = mapping(event.get("usage"))
        return Delta(
            model=text_of(event.get("model")),
            text="".join(_text(said.get(key)) for key in _TEXTS),
            hollow=choices == [],
            finish_reason=text_of(choice.get("finish_reason")),
            prompt_tokens=count(usage, "prompt_tokens"),
            completion_tokens=count(usage, "completion_tokens"),
        )

    def reply(self, body: bytes) -> Reply:
        answer = parsed(body)
        error = trouble_in(answer)
        if error is not None:
            return Reply(error=error)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("choices"), list):
            raise ValueError("no completion with a list of choices")
        choice = _first(answer["choices"])
        usage = mapping(answer.get("usage"))
        calls = mapping(choice.get("message")).get("tool_calls")
        return Reply(
            model=text_of(answer.get("model")),
            finish_reason=text_of(choice.get("finish_reason")),
            prompt_tokens=count(usage, "prompt_tokens"),
            completion_tokens=count(usage, "completion_tokens"),
            calls=tuple(_call(mapping(call)) for call in calls) if isinstance(calls, list) else (),
        )

    def used_up(self, headers: Mapping[str, str], *, wall: float) -> float | None:
        return used_up(headers, _LIMITS, wall=wall)

    def of_account(self, complaint: str) -> bool:
        error = complained(complaint)
        return not _OF_ACCOUNT.isdisjoint(str(error.get(key)) for key in ("code", "type"))


def _limited(endpoint: Endpoint, tokens: int = 0) -> dict[str, Any]:
    """The limit and what else the model's family wants; at least so many tokens."""
    wanted = recipe(endpoint)
    known = endpoint.supported_parameters
    newer = known is not None and NEWER_LIMIT in known and LIMIT not in known
    return {NEWER_LIMIT if newer else wanted.limit: max(wanted.tokens, tokens), **wanted.besides}


def _is_too_few(complaint: str) -> bool:
    """Whether a complaint is of a limit that is too low."""
    return (LIMIT in complaint or NEWER_LIMIT in complaint) and TOO_FEW.search(complaint) is not None


def _unforced(body: Mapping[str, Any], complaint: str) -> dict[str, Any]:
    """What to send besides or instead of a forced call that is refused.

    Source: deepseek-ai/DeepSeek-V3 issue 1376, "Thinking mode does not support this tool_choice": without thinking
    it does. Qwen says "in thinking mode", and has a switch of its own. Models that take no forced tool at all, such
    as Claude's 5.5 behind this dialect, are asked firmly.
    """
    if "thinking mode" in complaint.lower() and body.keys().isdisjoint(("thinking", "enable_thinking")):
        qwen = "qwen" in str(body.get("model")).lower()
        return {"enable_thinking": False} if qwen else {"thinking": {"type": "disabled"}}
    if body["tool_choice"] == _FORCED:
        return {"tool_choice": "required"}
    return {"tool_choice": "auto", "messages": [{"role": "user", "content": FIRM_PROMPT}]}


def _lowest(complaint: str, refused: object) -> str | None:
    """The lowest effort that a complaint lists besides the refused one; `None` where it lists none."""
    listed = complaint.partition("upported values")[2]
    found = set(re.findall(r"[a-z]+", listed)) - {refused}
    return next((effort for effort in _EFFORTS if effort in found), None)


def _first(choices: object) -> Mapping[str, Any]:
    return mapping(choices[0]) if isinstance(choices, list) and choices else {}


def _text(value: object) -> str:
    """Take a text, also from Mistral's lists of pieces: `{"type": "thinking", "thinking": [{"text": …}]}`."""
    if isinstance(value, list):
        pieces = [mapping(piece) for piece in value]
        thoughts = [piece["thinking"] for piece in pieces if isinstance(piece.get("thinking"), list)]
        pieces += [mapping(piece) for thought in thoughts for piece in thought]
        return "".join(text for piece in pieces if isinstance(text := piece.get("text"), str))
    return value if isinstance(value, str) else ""


def _call(call: Mapping[str, Any]) -> Call:
    function = mapping(call.get("function"))
    name, arguments = str(function.get("name")), function.get("arguments")
    if not isinstance(arguments, str):
        return Call(name=name, broken="the arguments are not a text")
    try:
        return Call(name=name, arguments=parsed(arguments))
    except ValueError as problem:
        return Call(name=name, broken=f"the arguments are {problem}")


OPENAI: Final = OpenAI()
