"""What one call asks for: the request's needs, and OpenRouter's `provider` preferences.

Theory of operation: a value that exists is well-formed. Whatever way it came (a query, a chat body, a Python
proxy), it is judged here when it is made, and everything that is wrong with it is told at once. So GET, POST and
the embedded call refuse the same requests in the same words.

What is allowed and means something: an empty list is no wish at all; a provider that is in both `only` and `ignore`
is ignored; a name that nobody has matches nobody.

What this module does not know: which models, providers and endpoints there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from itertools import islice
from re import compile as pattern
from typing import Any, Final, Literal, get_args

from balancer.core.model import MODALITIES, QUANTIZATIONS, Sort

TOKENS_MAX: Final = 1_000_000_000  # of one request
COUNT_MAX: Final = 100  # fallbacks that can be asked for
WORDS_MAX: Final = 100  # entries of a list
NAME_MAX: Final = 200  # characters of a name
SESSION_MAX: Final = 256  # characters of a session's key; OpenRouter's limit
PRICE_MAX: Final = 1_000_000.0  # USD per million tokens; a configuration allows no more either
PROBLEMS_MAX: Final = 10  # told of one request; ten thousand wrong keys are one mistake
SHOWN_MAX: Final = 60  # characters of somebody's text that a message repeats
HUGE_BITS: Final = 1000  # of a whole number; Python refuses to spell those of 4,300 digits

_NUMBER: Final = pattern(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")

Partition = Literal["model", "none"]
ServiceTier = Literal["default", "flex", "priority"]
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
PARTITIONS: Final[tuple[Partition, ...]] = get_args(Partition)
SERVICE_TIERS: Final[tuple[ServiceTier, ...]] = get_args(ServiceTier)

OR_BETTER: Final = "-or-better"
PRECISIONS: Final = (*QUANTIZATIONS, *(f"{word}{OR_BETTER}" for word in QUANTIZATIONS if word != "unknown"))
"""What `quantizations` may hold. "fp8-or-better" also keeps those who do not say, as closed models never do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoffs:
    """Wished percentiles, all of which must hold. Units: seconds or tokens a second.

    A percentile says how many requests do at least so well: p99 of a throughput is its slow tail.
    """

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None

    def given(self) -> Iterator[tuple[str, float]]:
        """Those that are wished, in the order of their names."""
        for name in CUTOFF_NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value


CUTOFF_NAMES: Final = tuple(each.name for each in fields(Cutoffs))


class _Said:
    """A place for what a value says beyond its defaults, worked out once: each decision looks it up."""

    __slots__ = ("said",)

    said: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences(_Said):
    """OpenRouter's `provider` object. Prices in USD per million tokens, latencies in seconds to the first token.

    Raises: ValueError that names everything that is wrong.
    """

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    data_collection: Literal["allow", "deny"] = "allow"
    zdr: bool = False
    enforce_distillable_text: bool = False
    max_price_prompt: float | None = None
    max_price_completion: float | None = None
    sort: Sort | None = None
    partition: Partition = "model"
    preferred_max_latency: Cutoffs | None = None
    preferred_min_throughput: Cutoffs | None = None

    def __post_init__(self) -> None:
        for name in ("order", "only", "ignore", "quantizations"):
            object.__setattr__(self, name, _lower(getattr(self, name)))
        _refuse(_wrong_preferences(self))
        values = [(name, getattr(self, name), default) for name, default in _WISHES]
        object.__setattr__(self, "said", tuple([(name, value) for name, value, usual in values if value != usual]))

    def __hash__(self) -> int:
        return hash(self.said)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, ({each.name: getattr(self, each.name) for each in fields(self)},)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one call needs. `None` is unknown: a filter that needs an unknown number lets it pass.

    `model` may carry suffixes (`:nitro`, `:floor`, `:exacto`); `models` are tried after it. `session_id` is the
    caller's own key, `conversation` one that was derived from the prompt: it sticks only where a cache was seen to
    hit. `provider` is a `Preferences`, or OpenRouter's object as a mapping. Lists may be any sequence; `None` is
    the default everywhere.
    Raises: ValueError that names everything that is wrong.
    """

    model: str = ""
    models: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    require: tuple[str, ...] = ()
    require_parameters: bool = False
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    region: str | None = None
    session_id: str | None = None
    conversation: str | None = None
    service_tier: ServiceTier = "default"
    exclude: tuple[str, ...] = ()
    count: int | None = None
    provider: Preferences = field(default_factory=Preferences)

    def __post_init__(self) -> None:
        if None in (
            self.model,
            self.models,
            self.require,
            self.require_parameters,
            self.input_modalities,
            self.output_modalities,
            self.service_tier,
            self.exclude,
            self.provider,
        ):
            for name, default in _DEFAULTS:
                if getattr(self, name) is None:
                    object.__setattr__(self, name, default)
        if isinstance(self.model, str):
            object.__setattr__(self, "model", self.model.strip())
        problems: list[str] = []
        given: Any = self.provider
        if type(given) is not Preferences:
            try:
                object.__setattr__(self, "provider", preferences(given))
            except ValueError as error:
                problems.append(str(error))
        for name in ("models", "require", "input_modalities", "output_modalities", "exclude"):
            object.__setattr__(self, name, _lower(getattr(self, name)))
        problems += islice(_wrong_request(self), PROBLEMS_MAX + 1)
        _refuse(problems)


def _remade(wishes: Mapping[str, Any]) -> Preferences:
    return Preferences(**wishes)


def preferences(given: Mapping[str, Any]) -> Preferences:
    """Read OpenRouter's `provider` object: keys that are not known are ignored, as there; `null` is no wish.

    Shape: `sort` is a word or `{by, partition}`, cutoffs are a number (p50) or `{p50, p75, p90, p99}`, prices
    numbers or their text. Raises: ValueError that names everything that is wrong.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"provider: {shown(given)} is not an object")
    wishes = {name: value for name, value in given.items() if name in _PLAIN and value is not None}
    problems: list[str] = []
    sort = given.get("sort")
    if isinstance(sort, Mapping):
        wishes |= {"sort": sort.get("by"), "partition": sort.get("partition", "model")}
        problems += [
            f"sort.{shown(key)}: unknown; use by and partition"
            for key, said in sort.items()
            if key not in ("by", "partition") and said is not None
        ]
    for name in ("preferred_max_latency", "preferred_min_throughput"):
        value = given.get(name)
        if isinstance(value, Mapping):
            unknown = [key for key, said in value.items() if key not in CUTOFF_NAMES and said is not None]
            problems += [f"{name}.{shown(key)}: unknown; use {', '.join(CUTOFF_NAMES)}" for key in unknown]
            value = Cutoffs(**{key: value[key] for key in CUTOFF_NAMES if key in value})
        elif value is not None:
            value = Cutoffs(p50=value)
        wishes[name] = value
    problems += _read_prices(given.get("max_price"), wishes)
    try:
        made = Preferences(**{name: value for name, value in wishes.items() if value is not None})
    except ValueError as error:
        problems.append(str(error))
    _refuse(problems)
    return made


_PLAIN: Final = frozenset(each.name for each in fields(Preferences)) - {"max_price_prompt", "max_price_completion"}


def _read_prices(given: Any, wishes: dict[str, Any]) -> Iterator[str]:
    if given is None:
        return
    if not isinstance(given, Mapping):
        yield f"max_price: {shown(given)} is not an object; use prompt and completion"
        return
    for key, value in given.items():
        if value is None:
            continue
        if key not in ("prompt", "completion"):
            yield f"max_price.{shown(key)}: endpoints have no such price here; use prompt and completion"
            continue
        if isinstance(value, str):
            # What is no number is told with the other prices, as it was written.
            value = float(value) if _NUMBER.fullmatch(value) else value
        wishes[f"max_price_{key}"] = value


def _refuse(problems: Iterable[str]) -> None:
    """Raise ValueError with the problems, if there are any."""
    told = list(islice(problems, PROBLEMS_MAX + 1))
    if told:
        more = "; and more" if len(told) > PROBLEMS_MAX else ""
        raise ValueError("; ".join(told[:PROBLEMS_MAX]) + more)


# ---- what is wrong -----------------------------------------------------------------------------------


def _wrong_preferences(wishes: Preferences) -> Iterator[str]:
    for name in ("order", "only", "ignore"):
        yield from _wrong_words(name, getattr(wishes, name))
    yield from _wrong_words("quantizations", wishes.quantizations, PRECISIONS)
    for name in ("allow_fallbacks", "require_parameters", "zdr", "enforce_distillable_text"):
        if not isinstance(getattr(wishes, name), bool):
            yield f"{name}: {shown(getattr(wishes, name))} is neither true nor false"
    yield from _wrong_word("data_collection", wishes.data_collection, ("allow", "deny"))
    if wishes.sort is not None:
        yield from _wrong_word("sort", wishes.sort, SORTS)
    yield from _wrong_word("partition", wishes.partition, PARTITIONS)
    for name in ("prompt", "completion"):
        price = getattr(wishes, f"max_price_{name}")
        if price is not None and not _is_number(price, PRICE_MAX):
            allowed = f"use USD per million tokens, 0 to {PRICE_MAX:.0f}"
            yield f"max_price.{name}: {shown(price)} is not a price; {allowed}"
    if wishes.preferred_max_latency is not None:
        yield from _wrong_cutoffs("preferred_max_latency", wishes.preferred_max_latency, rising=True)
    if wishes.preferred_min_throughput is not None:
        yield from _wrong_cutoffs("preferred_min_throughput", wishes.preferred_min_throughput, rising=False)


def _wrong_request(request: Request) -> Iterator[str]:
    if not isinstance(request.model, str):
        yield f"model: {shown(request.model)} is not a name"
    elif not request.model and not request.models:
        yield "model: is needed; use a model's id or alias"
    elif len(request.model) > NAME_MAX:
        yield f"model: {shown(request.model)} has {len(request.model)} characters; {NAME_MAX} are allowed"
    for name in ("models", "require", "exclude"):
        yield from _wrong_words(name, getattr(request, name))
    for name in ("input_modalities", "output_modalities"):
        yield from _wrong_words(name, getattr(request, name), MODALITIES)
    for name, high in (("prompt_tokens", TOKENS_MAX), ("max_tokens", TOKENS_MAX), ("count", COUNT_MAX)):
        value = getattr(request, name)
        if value is not None and not (type(value) is int and 0 <= value <= high):
            yield f"{name}: {shown(value)} is not a whole number from 0 to {high}"
    if not isinstance(request.require_parameters, bool):
        yield f"require_parameters: {shown(request.require_parameters)} is neither true nor false"
    for name, longest in (("region", NAME_MAX), ("session_id", SESSION_MAX), ("conversation", SESSION_MAX)):
        text = getattr(request, name)
        if text is not None and not (isinstance(text, str) and 1 <= len(text) <= longest):
            found = f"{len(text)} characters" if isinstance(text, str) else shown(text)
            yield f"{name}: {found}; use text of 1 to {longest} characters"
    yield from _wrong_word("service_tier", request.service_tier, SERVICE_TIERS)


def _wrong_words(name: str, words: Any, allowed: Sequence[str] | None = None) -> Iterator[str]:
    if not isinstance(words, tuple):
        yield f"{name}: {shown(words)} is not a list"
        return
    if len(words) > WORDS_MAX:
        yield f"{name}: {len(words)} entries; {WORDS_MAX} are allowed"
        return
    for word in words:
        if not isinstance(word, str) or not 1 <= len(word) <= NAME_MAX:
            yield f"{name}: {shown(word)} is not a name; use 1 to {NAME_MAX} characters"
        elif allowed is not None and word not in allowed:
            yield f"{name}: {shown(word)} is not known; {_hint(word, allowed)}"


def _wrong_word(name: str, word: Any, allowed: Sequence[str]) -> Iterator[str]:
    if word not in allowed:
        yield f"{name}: {shown(word)} is not known; {_hint(word, allowed)}"


def _wrong_cutoffs(name: str, cutoffs: Any, *, rising: bool) -> Iterator[str]:
    if not isinstance(cutoffs, Cutoffs):
        yield f"{name}: {shown(cutoffs)} is not a Cutoffs; a mapping as `provider` takes a number too"
        return
    before: tuple[str, float] | None = None
    for rank, value in cutoffs.given():
        if not _is_number(value, TOKENS_MAX):
            yield f"{name}.{rank}: {shown(value)} is not a number from 0 to {TOKENS_MAX}"
            return
        if before is not None and (value < before[1] if rising else value > before[1]):
            than = "below" if rising else "above"
            yield f"{name}: {rank} ({value:g}) is {than} {before[0]} ({before[1]:g}); percentiles are out of order"
        before = rank, value


def _is_number(value: Any, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= high


def _lower(words: Any) -> Any:
    """Fold a list's case, and drop what is blank; what is no list of text is left for the judge."""
    if words == ():
        return words
    if isinstance(words, str | Mapping) or not isinstance(words, Collection):
        return words
    folded = [word.strip().lower() if isinstance(word, str) else word for word in words]
    return tuple([word for word in folded if word != ""])


def _hint(word: Any, allowed: Sequence[str]) -> str:
    near = get_close_matches(str(word)[:NAME_MAX].lower(), allowed, n=1)
    return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(allowed)}"


def shown(value: object) -> str:
    """Repeat somebody's value in a message: short, printable, on one line."""
    if isinstance(value, int) and value.bit_length() > HUGE_BITS:
        return "a huge number"
    text = repr(value if len(str(value)) <= SHOWN_MAX else f"{str(value)[:SHOWN_MAX]}…")
    return text if text.isprintable() else ascii(text)


_WISHES: Final = tuple((each.name, each.default) for each in fields(Preferences))

_DEFAULTS: Final = (
    ("model", ""),
    ("models", ()),
    ("require", ()),
    ("require_parameters", False),
    ("input_modalities", ()),
    ("output_modalities", ()),
    ("service_tier", "default"),
    ("exclude", ()),
    ("provider", Preferences()),
)
