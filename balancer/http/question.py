"""GET /v1/best-provider: a query string → what is asked.

Theory of operation: `PARAMETERS` is the whole vocabulary: where a value goes, how it is read, and the schema by
which OpenAPI describes it. All that is wrong with a question is told at once. Questions repeat, and what they
become is frozen, so the last few hundred are kept.

What this module does not know: models and endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from math import isfinite
from typing import Any, Final, Literal
from urllib.parse import parse_qs

from balancer.core.model import MODALITIES, QUANTIZATIONS, Preferences, Request
from balancer.http.answers import Refused
from balancer.http.limits import COUNT_MAX, NAME_MAX, TOKENS_MAX, WORDS_MAX
from balancer.http.query import FIELDS_MAX, pairs
from balancer.http.words import hint, shown

CACHE_MAX: Final = 256  # questions of up to 8 KiB
PRICE_MAX: Final = 1_000_000.0  # USD per million tokens; `config` allows no more either
REFUSE_WITH: Final = (403, 429, 503)  # what nginx, Envoy and Caddy take for "try elsewhere"

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request, and how its answer is wanted."""

    request: Request
    explain: bool = False
    refuse_with: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name: the field that it fills, how its text is read (raises ValueError), and how it is described."""

    place: Literal["request", "provider", "question"]
    field: str
    read: Callable[[list[str]], Any]
    schema: Mapping[str, Any]
    told: str


# ---- reading values ----------------------------------------------------------------------------------


def _one(values: list[str]) -> str:
    if len(values) != 1:
        raise ValueError(f"given {len(values)} times; once is allowed")
    return values[0]


def _name(values: list[str]) -> str:
    text = _one(values)
    if not 1 <= len(text) <= NAME_MAX:
        raise ValueError(f"{shown(text)} is not a name; use 1 to {NAME_MAX} characters")
    return text


def _between(high: int) -> Callable[[list[str]], int]:
    def read(values: list[str]) -> int:
        text = _one(values)
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= high):
            raise ValueError(f"{shown(text)} is not a whole number from 0 to {high}")
        return int(text)

    return read


def _flag(values: list[str]) -> bool:
    text = _one(values)
    if text not in ("true", "false", "1", "0"):
        raise ValueError(f"{shown(text)} is neither true nor false")
    return text in ("true", "1")


def _words(values: list[str]) -> tuple[str, ...]:
    words = tuple(word for value in values for word in map(str.strip, value.split(",")) if word)
    if len(words) > WORDS_MAX:
        raise ValueError(f"{len(words)} entries; {WORDS_MAX} are allowed")
    for word in words:
        if len(word) > NAME_MAX:
            raise ValueError(f"{shown(word)} has {len(word)} characters; {NAME_MAX} are allowed")
    return words


def _slugs(values: list[str]) -> tuple[str, ...]:
    return tuple(word.lower() for word in _words(values))


def _of(allowed: tuple[str, ...]) -> Callable[[list[str]], tuple[str, ...]]:
    def read(values: list[str]) -> tuple[str, ...]:
        return known_words(_slugs(values), allowed)

    return read


def known_words(words: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Check that all words are in a closed list. Raises: ValueError."""
    for word in words:
        if word not in allowed:
            raise ValueError(f"{shown(word)} is not known; {hint(word, allowed)}")
    return words


def _policy(values: list[str]) -> str:
    text = _one(values)
    if text not in ("allow", "deny"):
        raise ValueError(f"{shown(text)} is neither allow nor deny")
    return text


def _price(values: list[str]) -> float:
    return price(_one(values))


def price(text: str) -> float:
    """Read USD per million tokens. Raises: ValueError."""
    value = float(text) if _NUMBER.fullmatch(text) and len(text) <= 40 else -1.0
    if not (isfinite(value) and 0 <= value <= PRICE_MAX):
        raise ValueError(f"{shown(text)} is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}")
    return value


def _refuse_with(values: list[str]) -> int:
    text = _one(values)
    if text not in map(str, REFUSE_WITH):
        raise ValueError(f"{shown(text)} is not allowed; use {', '.join(map(str, REFUSE_WITH))}")
    return int(text)


# ---- the vocabulary ----------------------------------------------------------------------------------

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": NAME_MAX}
_TOKENS: Final = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}
_BOOLEAN: Final = {"type": "boolean"}
_LIST: Final = {"type": "array", "items": {"type": "string", "maxLength": NAME_MAX}, "maxItems": WORDS_MAX}
_USD: Final = {"type": "number", "minimum": 0, "maximum": PRICE_MAX}


def _list_of(words: tuple[str, ...]) -> Mapping[str, Any]:
    return {"type": "array", "items": {"type": "string", "enum": list(words)}}


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "model": Parameter("request", "model", _name, _TEXT, "Model id or alias."),
    "prompt_tokens": Parameter("request", "prompt_tokens", _between(TOKENS_MAX), _TOKENS, "Length of the prompt."),
    "max_tokens": Parameter("request", "max_tokens", _between(TOKENS_MAX), _TOKENS, "Longest answer wanted."),
    "require": Parameter("request", "require", _slugs, _LIST, "Parameters that the request uses."),
    "require_parameters": Parameter(
        "request", "require_parameters", _flag, _BOOLEAN, "Only endpoints that list all of `require`."
    ),
    "input_modalities": Parameter(
        "request", "input_modalities", _of(MODALITIES), _list_of(MODALITIES), "What the prompt holds."
    ),
    "output_modalities": Parameter(
        "request", "output_modalities", _of(MODALITIES), _list_of(MODALITIES), "What the answer shall hold."
    ),
    "region": Parameter("request", "region", _name, _TEXT, "Only endpoints of this region."),
    "exclude": Parameter("request", "exclude", _slugs, _LIST, "Endpoint ids or tags already tried."),
    "count": Parameter(
        "request",
        "count",
        _between(COUNT_MAX),
        {"type": "integer", "minimum": 0, "maximum": COUNT_MAX},
        "How many fallbacks; default routing.fallbacks.",
    ),
    "explain": Parameter("question", "explain", _flag, _BOOLEAN, "Add `explain`; nothing is leased."),
    "refuse_with": Parameter(
        "question",
        "refuse_with",
        _refuse_with,
        {"type": "integer", "enum": list(REFUSE_WITH)},
        "Status line of a refusal, for proxies that read statuses their own way.",
    ),
    "order": Parameter("provider", "order", _slugs, _LIST, "Providers to try first, in this order."),
    "only": Parameter("provider", "only", _slugs, _LIST, "Only these providers."),
    "ignore": Parameter("provider", "ignore", _slugs, _LIST, "Not these providers."),
    "quantizations": Parameter(
        "provider", "quantizations", _of(QUANTIZATIONS), _list_of(QUANTIZATIONS), "Only these precisions."
    ),
    "allow_fallbacks": Parameter(
        "provider", "allow_fallbacks", _flag, _BOOLEAN, "False: no fallbacks outside of `order`; default true."
    ),
    "data_collection": Parameter(
        "provider",
        "data_collection",
        _policy,
        {"type": "string", "enum": ["allow", "deny"]},
        "deny: only providers that collect no data.",
    ),
    "zdr": Parameter("provider", "zdr", _flag, _BOOLEAN, "Only endpoints with zero data retention."),
    "enforce_distillable_text": Parameter(
        "provider", "enforce_distillable_text", _flag, _BOOLEAN, "Only models that may be distilled."
    ),
    "max_price.prompt": Parameter(
        "provider", "max_price_prompt", _price, _USD, "USD per million prompt tokens, at most."
    ),
    "max_price.completion": Parameter(
        "provider", "max_price_completion", _price, _USD, "USD per million completion tokens, at most."
    ),
}
_NAMES: Final = tuple(PARAMETERS)


@lru_cache(maxsize=CACHE_MAX)
def question(query: str) -> Question:
    """Read a query string. Raises: Refused with every problem."""
    places: dict[str, dict[str, Any]] = {"request": {}, "provider": {}, "question": {}}
    problems: list[str] = []
    try:
        given = pairs(query, _NAMES)
    except Refused as refusal:
        raise _remapped(refusal, query) from None
    for name, values in given.items():
        parameter = PARAMETERS[name]
        try:
            places[parameter.place][parameter.field] = parameter.read(values)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if "model" not in places["request"] and not any(each.startswith("model: ") for each in problems):
        problems.append("model: is needed; use a model's id or alias")
    if problems:
        raise Refused(400, "; ".join(problems), line=places["question"].get("refuse_with"))
    if places["provider"]:
        places["request"]["provider"] = Preferences(**places["provider"])
    return Question(request=Request(**places["request"]), **places["question"])


def refuse_with(query: str) -> int | None:
    """Read the one parameter that a POSTed question takes beside its body. Raises: Refused."""
    try:
        values = pairs(query, ("refuse_with",)).get("refuse_with")
    except Refused as refusal:
        raise _remapped(refusal, query) from None
    if values is None:
        return None
    try:
        return _refuse_with(values)
    except ValueError as error:
        raise Refused(400, f"refuse_with: {error}") from None


def _remapped(refusal: Refused, query: str) -> Refused:
    """Give a refusal of the query itself the status line that the query asks for, if it asks well."""
    with suppress(ValueError):  # too many fields, or a word that is no status
        values = parse_qs(query, max_num_fields=FIELDS_MAX).get("refuse_with")
        if values is not None:
            refusal.line = _refuse_with(values)
    return refusal


def told(value: Request | Preferences) -> dict[str, Any]:
    """What was asked, as it was understood: every field that differs from its default."""
    said: dict[str, Any] = {}
    for each in fields(value):
        given = getattr(value, each.name)
        if isinstance(given, Preferences):
            given = told(given)
        if given != each.default and given not in ((), {}):
            said[each.name] = given
    return said
