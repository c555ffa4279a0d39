"""POST /v1/best-provider: an OpenAI chat-completions body as it is → what it needs of an endpoint.

Theory of operation: only what routing asks about is built; the rest is passed over. What the request needs follows
from what it uses: parameters from the keys that are there, modalities and the conversation from the messages, the
prompt's length from their text. Content is counted, digested and let go: nothing of it is kept, answered or logged.
What the body asks of *us* goes to `core.request` as it was written, which judges it in the words of every other way
of asking. A key that is the provider's business is ignored, and so is a service tier that we do not know.

What this module does not know: how the prompt's tokens are guessed. `prompt_tokens` in the body's `balancer` object
is better than any guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from balancer.core.request import SESSION_MAX, Partition, ServiceTier, shown
from balancer.http.answers import Refused
from balancer.http.body import decode
from balancer.http.limits import WISHES_MAX
from balancer.http.messages import Message, conversation, digest, modalities
from balancer.http.query import UNKNOWN_MAX
from balancer.http.question import Question, explain_flag, judged
from balancer.http.tokens import estimated_tokens
from balancer.http.words import UNREADABLE, fault, hint
from balancer.http.words import shown as named

BRACES_MAX: Final = 1_000_000  # objects that a body may hold; each is built for a moment, whatever its size

PARAMETERS: Final = (
    "temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "max_tokens", "max_completion_tokens", "logit_bias", "logprobs", "top_logprobs",
    "prediction", "seed", "response_format", "structured_outputs", "stop", "tools", "tool_choice",
    "parallel_tool_calls", "include_reasoning", "reasoning", "reasoning_effort", "web_search_options", "verbosity",
)  # fmt: skip
"""Keys of a body that an endpoint supports or not. Source: OpenRouter's `supported_parameters`."""

EXTRAS: Final = ("prompt_tokens", "region", "exclude", "count", "explain")
"""What a chat body cannot say, and its `balancer` object does."""

ROUTES: Final[Mapping[str, Partition]] = {"fallback": "model", "sort": "none"}
"""OpenRouter's deprecated key `route`, and the partition that it means."""

TIERS: Final[Mapping[str, ServiceTier]] = {"priority": "priority", "fast": "priority", "flex": "flex"}
"""What `service_tier` says in a body; `auto`, `default` and words that only a provider knows ask for nothing."""

WISHES: Final = (
    "model", "models", "session_id", "prompt_cache_key", "service_tier", "route", "modalities", "provider",
    "balancer",
)  # fmt: skip
"""Keys of a body that routing reads."""

_UNUSED: Final = frozenset({b"", b"null", b"[]", b"{}"})


class _Format(Struct):
    type: str = ""


# Every key is a field that is passed over as raw JSON: of most, it is enough that they are there.
_Asked: Final[Any] = msgspec.defstruct(
    "Asked", [(name, Raw, msgspec.field(default=Raw())) for name in (*WISHES, *PARAMETERS)]
)
_Chat: Final[Any] = msgspec.defstruct("Chat", [("messages", list[Message] | None, None)], bases=(_Asked,))
_asked: Final = msgspec.json.Decoder(_Asked)
_chat: Final = msgspec.json.Decoder(_Chat)
_format: Final = msgspec.json.Decoder(_Format)
_any: Final = msgspec.json.Decoder()


def chat(body: bytes | bytearray, session: str | None = None) -> Question:
    """Read a chat-completions body; `session` is a header's, for a body without one. Raises: Refused."""
    if body.count(b"{") > BRACES_MAX:
        raise Refused(413, f"the body holds more than {BRACES_MAX} objects")
    problems: list[str] = []
    said = _decoded(body, problems)
    messages: Sequence[Message] | None = getattr(said, "messages", None)
    extras = _extras(said, problems)
    needs: dict[str, Any] = {
        "model": _value(said, "model"),
        "models": _value(said, "models"),
        "max_tokens": _max_tokens(said),
        "require": tuple(name for name in PARAMETERS if _used(name, getattr(said, name))),
        "output_modalities": _value(said, "modalities"),
        "service_tier": _service_tier(said),
        "provider": _provider(said, problems),
        **{name: extras.get(name) for name in EXTRAS if name != "explain"},
    }
    if messages is not None:
        needs["input_modalities"] = modalities(messages)
        if needs["prompt_tokens"] is None:
            needs["prompt_tokens"] = estimated_tokens(messages, said.tools)
    needs |= _session(said, messages, session)
    explain = extras.get("explain")
    if explain is not None:
        try:
            explain_flag(explain)
        except ValueError as error:
            problems.append(f"explain: {error}")
    request = judged({name: value for name, value in needs.items() if value is not None}, problems)
    return Question(request=request, explain=explain is True)


def _decoded(body: bytes | bytearray, problems: list[str]) -> Any:
    try:
        return decode(body, _chat, ())
    except Refused as refusal:
        # What is no object at all is refused here; else the messages are wrong, and are one problem of many.
        said = decode(body, _asked, ())
        problems.append(refusal.message)
        return said


def _value(said: Any, name: str) -> Any:
    """One value as it was written; absent and null are `None`. Raises: Refused when it cannot be read at all."""
    raw = _raw(getattr(said, name))
    if len(raw) > WISHES_MAX and not raw.startswith(b'"'):  # text is judged by its length, whatever that is
        raise Refused(400, f"{name}: {len(raw)} bytes; {WISHES_MAX} are allowed")
    try:
        return _any.decode(raw) if raw else None
    except UNREADABLE as error:
        raise Refused(400, f"{name}: {fault(error)}") from None


def _extras(said: Any, problems: list[str]) -> Mapping[str, Any]:
    extras = _value(said, "balancer")
    if extras is None:
        return {}
    if not isinstance(extras, dict):
        problems.append(f"balancer: {shown(extras)} is not an object")
        return {}
    unknown = [key for key in extras if key not in EXTRAS]
    problems += [f"balancer.{named(key)}: unknown field; {hint(key, EXTRAS)}" for key in unknown[:UNKNOWN_MAX]]
    return extras


def _provider(said: Any, problems: list[str]) -> Any:
    wishes, route = _value(said, "provider"), _value(said, "route")
    if route is None:
        return wishes
    partition = ROUTES.get(route) if isinstance(route, str) else None
    if partition is None:
        problems.append(f"route: {shown(route)} is not known; allowed: {', '.join(ROUTES)}")
        return wishes
    if wishes is None:
        return {"partition": partition}
    if not isinstance(wishes, dict):
        return wishes
    sort = wishes.get("sort")
    place = sort if isinstance(sort, dict) else wishes
    if place.get("partition") is not None:  # the newer way to say it wins
        return wishes
    meant = {**place, "partition": partition}
    return {**wishes, "sort": meant} if place is sort else meant


def _service_tier(said: Any) -> ServiceTier | None:
    tier = _value(said, "service_tier")
    return TIERS.get(tier) if isinstance(tier, str) else None


def _session(said: Any, messages: Sequence[Message] | None, header: str | None) -> dict[str, str | None]:
    """The key of the conversation, from the first place that has one. Source: OpenRouter's order."""
    session = _value(said, "session_id")
    if session is None:
        session = header
    if session is not None:
        return {"session_id": session}
    key = _value(said, "prompt_cache_key")
    if isinstance(key, str) and key:
        return {"conversation": key if len(key) <= SESSION_MAX else digest(key)}
    return {"conversation": None if messages is None else conversation(messages)}


def _used(name: str, value: Raw) -> bool:
    if _raw(value) in _UNUSED:
        return False
    if name == "response_format":
        try:
            return _format.decode(value).type != "text"  # the default, spelt out
        except UNREADABLE:
            return True
    return True


def _max_tokens(said: Any) -> Any:
    for name in ("max_completion_tokens", "max_tokens"):  # the newer name wins, as at OpenAI
        tokens = _value(said, name)
        if tokens is not None:
            return tokens
    return None


def _raw(value: Raw) -> bytes:
    return bytes(value).strip()
