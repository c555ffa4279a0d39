"""GET /v1/best-provider: a query string → what is asked.

Theory of operation: `PARAMETERS` is the whole vocabulary: where a value goes, how its text is read, and the schema
by which OpenAPI describes it. Reading only makes values of text, as JSON would have said them; whether a value is
allowed is for `core.request` to judge, so that GET, POST and the embedded call refuse in the same words. Text that
reads as nothing better goes to the judge as it is. All that is wrong is told at once. Questions repeat, and what
they become is frozen, so the last few hundred are kept.

What this module does not know: models and endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import parse_qs

from balancer.core.model import MODALITIES
from balancer.core.request import (
    COUNT_MAX,
    NAME_MAX,
    PARTITIONS,
    PRECISIONS,
    PRICE_MAX,
    SERVICE_TIERS,
    SESSION_MAX,
    SORTS,
    TOKENS_MAX,
    WORDS_MAX,
    Request,
    shown,
)
from balancer.http.answers import Refused
from balancer.http.query import FIELDS_MAX, pairs, split

CACHE_MAX: Final = 256  # questions of up to 8 KiB
REFUSE_WITH: Final = (403, 429, 503)  # what nginx, Envoy and Caddy take for "try elsewhere"
DIGITS_MAX: Final = 40  # of a number; more is told as the text that it is

_NUMBER: Final = re.compile(r"-?[0-9]+(?P<fraction>(\.[0-9]+)?([eE][+-]?[0-9]+)?)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request, and how its answer is wanted."""

    request: Request
    explain: bool = False
    refuse_with: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name: the field that it fills, how its text is read, and how it is described.

    Shape: a field of a request is a path into the arguments of `Request`, `provider.max_price.prompt` for one.
    `read` takes the texts of the values, of which only a list may have more than one. Raises: ValueError.
    """

    place: Literal["request", "question"]
    field: str
    read: Callable[[list[str]], Any]
    schema: Mapping[str, Any]
    told: str

    @property
    def many(self) -> bool:
        return bool(self.schema["type"] == "array")


# ---- reading values ----------------------------------------------------------------------------------


def _text(values: list[str]) -> str:
    return values[0]


def _number(values: list[str]) -> int | float | str:
    text = values[0]
    found = _NUMBER.fullmatch(text)
    if found is None or len(text) > DIGITS_MAX:
        return text
    return float(text) if found["fraction"] else int(text)


def _flag(values: list[str]) -> bool | str:
    return {"true": True, "1": True, "false": False, "0": False}.get(values[0], values[0])


def _words(values: list[str]) -> tuple[str, ...]:
    return tuple([word for value in values for word in map(str.strip, value.split(",")) if word])


def explain_flag(value: Any) -> bool:
    """Judge the one wish that is no part of a request. Raises: ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def _refuse_with(values: list[str]) -> int:
    text = values[0]
    if text not in map(str, REFUSE_WITH):
        raise ValueError(f"{shown(text)} is not allowed; use {', '.join(map(str, REFUSE_WITH))}")
    return int(text)


# ---- the vocabulary ----------------------------------------------------------------------------------

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": NAME_MAX}
_TOKENS: Final = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}
_BOOLEAN: Final = {"type": "boolean"}
_LIST: Final = {"type": "array", "items": _TEXT, "maxItems": WORDS_MAX}
_USD: Final = {"type": "number", "minimum": 0, "maximum": PRICE_MAX}
_CUTOFF: Final = {"type": "number", "minimum": 0, "maximum": TOKENS_MAX}


def _one_of(words: Sequence[str]) -> Mapping[str, Any]:
    return {"type": "string", "enum": list(words)}


def _list_of(words: Sequence[str]) -> Mapping[str, Any]:
    return {"type": "array", "items": _one_of(words), "maxItems": WORDS_MAX}


def _need(
    field: str, read: Callable[[list[str]], Any], schema: Mapping[str, Any], told: str
) -> dict[str, Parameter]:
    return {field: Parameter("request", field, read, schema, told)}


def _wish(
    name: str, read: Callable[[list[str]], Any], schema: Mapping[str, Any], told: str
) -> dict[str, Parameter]:
    return {name: Parameter("request", f"provider.{name}", read, schema, told)}


def _cutoffs(name: str, told: str) -> dict[str, Parameter]:
    plain = {name: Parameter("request", f"provider.{name}.p50", _number, _CUTOFF, f"{told}, at the median.")}
    ranks = ("p50", "p75", "p90", "p99")
    return plain | {
        key: parameter
        for rank in ranks
        for key, parameter in _wish(f"{name}.{rank}", _number, _CUTOFF, f"{told}, at {rank}.").items()
    }


PARAMETERS: Final[Mapping[str, Parameter]] = {
    **_need("model", _text, _TEXT, "Model id or alias, with suffixes; needed where `models` is not given."),
    **_need("models", _words, _LIST, "Models to fall back to, in this order."),
    **_need("prompt_tokens", _number, _TOKENS, "Length of the prompt."),
    **_need("max_tokens", _number, _TOKENS, "Longest answer wanted."),
    **_need("require", _words, _LIST, "Parameters that the request uses."),
    **_need("require_parameters", _flag, _BOOLEAN, "Only endpoints that list all of `require`."),
    **_need("input_modalities", _words, _list_of(MODALITIES), "What the prompt holds."),
    **_need("output_modalities", _words, _list_of(MODALITIES), "What the answer shall hold."),
    **_need("region", _text, _TEXT, "Only endpoints of this region."),
    **_need(
        "session_id",
        _text,
        {"type": "string", "minLength": 1, "maxLength": SESSION_MAX},
        "Key of a conversation, which stays with its provider; wins over the header `x-session-id`.",
    ),
    **_need("service_tier", _text, _one_of(SERVICE_TIERS), "Which of the providers' service tiers may be chosen."),
    **_need("exclude", _words, _LIST, "Endpoint ids or tags already tried."),
    **_need(
        "count",
        _number,
        {"type": "integer", "minimum": 0, "maximum": COUNT_MAX},
        "How many fallbacks; default routing.fallbacks.",
    ),
    "explain": Parameter(
        "question",
        "explain",
        lambda values: explain_flag(_flag(values)),
        _BOOLEAN,
        "Add `explain`; nothing is leased.",
    ),
    "refuse_with": Parameter(
        "question",
        "refuse_with",
        _refuse_with,
        {"type": "integer", "enum": list(REFUSE_WITH)},
        "Status line of a refusal, for proxies that read statuses their own way.",
    ),
    **_wish("order", _words, _LIST, "Providers to try first, in this order."),
    **_wish("only", _words, _LIST, "Only these providers."),
    **_wish("ignore", _words, _LIST, "Not these providers."),
    **_wish("quantizations", _words, _list_of(PRECISIONS), "Only these precisions."),
    **_wish("sort", _text, _one_of(SORTS), "The best of this first, instead of the strategy."),
    **_wish(
        "partition", _text, _one_of(PARTITIONS), "none: sort over all `models`; model (the default): one by one."
    ),
    **_wish("allow_fallbacks", _flag, _BOOLEAN, "False: no fallbacks outside of `order`; default true."),
    **_wish("data_collection", _text, _one_of(("allow", "deny")), "deny: only providers that collect no data."),
    **_wish("zdr", _flag, _BOOLEAN, "Only endpoints with zero data retention."),
    **_wish("enforce_distillable_text", _flag, _BOOLEAN, "Only models that may be distilled."),
    **_wish("max_price.prompt", _number, _USD, "USD per million prompt tokens, at most."),
    **_wish("max_price.completion", _number, _USD, "USD per million completion tokens, at most."),
    **_cutoffs("preferred_max_latency", "Seconds to the first token; who takes longer comes last"),
    **_cutoffs("preferred_min_throughput", "Tokens a second; who is slower comes last"),
}
_NAMES: Final = tuple(PARAMETERS)


# ---- asking ------------------------------------------------------------------------------------------


def question(query: str, session: str | None = None) -> Question:
    """Read a query string; `session` is a header's, for a query without one. Raises: Refused with every problem."""
    if session is None:
        return _remembered(query)
    with suppress(Refused):
        asked = _remembered(query)
        if asked.request.session_id is not None:
            return asked
        with suppress(ValueError):
            return replace(asked, request=replace(asked.request, session_id=session))
    return _read(query, session)  # what is wrong with the header is told beside the rest


def _read(query: str, session: str | None = None) -> Question:
    try:
        given, problems = split(query, _NAMES)
    except Refused as refusal:
        raise _remapped(refusal, query) from None
    needs: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    for name, values in given.items():
        parameter = PARAMETERS[name]
        if len(values) > 1 and not parameter.many:
            problems.append(f"{name}: given {len(values)} times; once is allowed")
        try:
            value = parameter.read(values)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if not _put(needs if parameter.place == "request" else wanted, parameter.field, value):
            problems.append(f"{name}: given twice, also as {parameter.field.partition('.')[2]}; once is allowed")
    if session is not None:
        needs.setdefault("session_id", session)
    return Question(request=judged(needs, problems, line=wanted.get("refuse_with")), **wanted)


_remembered: Final = lru_cache(maxsize=CACHE_MAX)(_read)


def _put(tree: dict[str, Any], field: str, value: Any) -> bool:
    *outer, last = field.split(".")
    for step in outer:
        tree = tree.setdefault(step, {})
    free = last not in tree
    tree.setdefault(last, value)
    return free


def judged(needs: Mapping[str, Any], problems: Sequence[str] = (), *, line: int | None = None) -> Request:
    """Make the request. Raises: Refused with what is wrong with it, after the `problems` that are known already."""
    try:
        request = Request(**needs)
    except ValueError as error:
        raise Refused(400, "; ".join([*problems, str(error)]), line=line) from None
    if problems:
        raise Refused(400, "; ".join(problems), line=line)
    return request


def refuse_with(query: str) -> int | None:
    """Read the one parameter that a POSTed question takes beside its body. Raises: Refused."""
    try:
        values = pairs(query, ("refuse_with",)).get("refuse_with")
    except Refused as refusal:
        raise _remapped(refusal, query) from None
    if values is None:
        return None
    if len(values) > 1:
        raise Refused(400, f"refuse_with: given {len(values)} times; once is allowed")
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


def told(value: Any) -> dict[str, Any]:
    """What was asked, as it was understood: every field of a request that differs from its default."""
    said: dict[str, Any] = {}
    for each in fields(value):
        given = getattr(value, each.name)
        if is_dataclass(given):
            given = told(given)
        if given != each.default and given not in ((), {}):
            said[each.name.replace("max_price_", "max_price.")] = given
    return said
