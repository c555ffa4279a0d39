"""Which endpoints can serve a request at all: hard filters, each with its name from `excluded_by`.

Theory of operation: a filter is a pure question about one endpoint and one request. All of them are asked, so
that a refusal names every reason and not the first. What is unknown about the request (a prompt size that was
not given) lets the endpoint pass; what is unknown about the endpoint passes too where the filter is about room
(context length), and fails where the user asked for a guarantee (price, region, quantization, data policy).

What this module does not know: health. It is no filter: it may be overruled in panic, a filter never is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from balancer.core.model import SOFT_PARAMETERS, Endpoint, Tier
from balancer.core.pricing import prices_at
from balancer.core.request import OR_BETTER, Preferences, Request

Rule = Callable[[Endpoint, Request], bool]

QUANTIZATION_FAMILIES: Final[Mapping[str, frozenset[str]]] = {
    "fp4": frozenset({"fp4", "mxfp4", "nvfp4"}),
    "fp8": frozenset({"fp8", "mxfp8"}),
}
"""Asking for the family takes its members; asking for a member takes only that one. Source: OpenRouter."""

QUANTIZATION_BITS: Final[Mapping[str, int]] = {
    "int4": 4, "fp4": 4, "mxfp4": 4, "nvfp4": 4, "fp6": 6, "int8": 8, "fp8": 8, "mxfp8": 8,
    "fp16": 16, "bf16": 16, "fp32": 32,
}  # fmt: skip
"""What "or better" compares. Equal widths are equally good: int8 or fp8 is the model's affair."""

PRIVACY: Final = frozenset({"data_policy:training", "data_policy:zdr"})


def matches(slug: str, endpoint: Endpoint) -> bool:
    """Whether a slug of `order`, `only` or `ignore` means this endpoint; `exclude` takes exact ids and tags alone.

    Shape: a provider's key or display name takes all its doors but those of a tier; a tag or an endpoint id takes
    that one, a tag also its copies for further credentials. Case does not matter.
    Source: OpenRouter, provider slug matching.
    """
    word = slug.lower()
    if word in (endpoint.tag, endpoint.id, endpoint.door):
        return True
    return endpoint.tier is None and word in (endpoint.provider, endpoint.provider_name.lower())


def asked(request: Request, *, wall: float | None = None) -> list[tuple[str, Rule]]:
    """The filters that this request can fail at all: most requests ask for nothing, and pay for nothing.

    `wall`: the Unix time at which a limit on prices is judged, where somebody knows it.
    """
    preferences = request.provider
    wanted = {
        "context_length": request.prompt_tokens is not None or request.max_tokens is not None,
        "max_prompt_tokens": request.prompt_tokens is not None,
        "max_completion_tokens": request.max_tokens is not None,
        "allowed_providers": preferences.only or (preferences.order and not preferences.allow_fallbacks),
        "ignored_providers": preferences.ignore,
        "quantization": preferences.quantizations,
        "data_policy:training": preferences.data_collection == "deny",
        "data_policy:zdr": preferences.zdr,
        "distillable_text": preferences.enforce_distillable_text,
        "require_parameters": (request.require_parameters or preferences.require_parameters) and request.require,
        "input_modalities": request.input_modalities,
        "output_modalities": request.output_modalities,
        "data_region": request.region is not None,
        "already_tried": request.exclude,
    }
    rules = [(name, FILTERS[name]) for name, matter in wanted.items() if matter]
    if preferences.max_price_prompt is not None or preferences.max_price_completion is not None:
        rules.append(("max_price", partial(_max_price, wall=wall)))
    return rules


def excluded_by(endpoint: Endpoint, request: Request, rules: list[tuple[str, Rule]]) -> tuple[str, ...]:
    """Name every filter of `rules` (from `asked`) that rules this endpoint out."""
    return tuple([name for name, rules_out in rules if rules_out(endpoint, request)])


def supports(endpoint: Endpoint, parameter: str) -> bool:
    """Whether the endpoint supports a parameter as far as anybody knows: one that lists none may support all."""
    return endpoint.supported_parameters is None or parameter in endpoint.supported_parameters


def soft_excluded(endpoints: list[Endpoint], request: Request) -> dict[str, str]:
    """Name the parameter for which an endpoint gives way to others that support it.

    Shape: endpoint id → parameter. Never rules out all: a parameter that nobody supports is ignored.
    """
    gone: dict[str, str] = {}
    for parameter in SOFT_PARAMETERS:
        if parameter not in request.require:
            continue
        left = [endpoint for endpoint in endpoints if endpoint.id not in gone]
        lacking = [endpoint.id for endpoint in left if not supports(endpoint, parameter)]
        if len(lacking) < len(left):
            gone.update(dict.fromkeys(lacking, parameter))
    return gone


def order_rank(endpoint: Endpoint, preferences: Preferences) -> int:
    """The place of an endpoint in the user's `order`; one past the end when it is not in it."""
    for place, slug in enumerate(preferences.order):
        if matches(slug, endpoint):
            return place
    return len(preferences.order)


def _context_length(endpoint: Endpoint, request: Request) -> bool:
    prompt = 0 if request.prompt_tokens is None else request.prompt_tokens
    answer = 0 if request.max_tokens is None else request.max_tokens
    return endpoint.context_length is not None and prompt + answer > endpoint.context_length


def _exceeds(asked: int | None, limit: int | None) -> bool:
    return asked is not None and limit is not None and asked > limit


def _not_allowed(endpoint: Endpoint, request: Request) -> bool:
    preferences = request.provider
    if preferences.only and not any(matches(slug, endpoint) for slug in preferences.only):
        return True
    outside = order_rank(endpoint, preferences) == len(preferences.order)
    return bool(preferences.order) and not preferences.allow_fallbacks and outside


def _quantization(endpoint: Endpoint, request: Request) -> bool:
    return not any(_precise(endpoint.quantization, word) for word in request.provider.quantizations)


def _precise(found: str, wanted: str) -> bool:
    if wanted.endswith(OR_BETTER):
        # A closed model never says; a floor is meant against the cheap copies of open ones.
        least = QUANTIZATION_BITS[wanted.removesuffix(OR_BETTER)]
        return found == "unknown" or QUANTIZATION_BITS[found] >= least
    return found == wanted or found in QUANTIZATION_FAMILIES.get(wanted, ())


def _unlisted(endpoint: Endpoint, request: Request) -> bool:
    known = endpoint.supported_parameters
    return known is None or not known.issuperset(request.require)


def _max_price(endpoint: Endpoint, request: Request, *, wall: float | None) -> bool:
    prices = prices_at(endpoint.pricing, prompt_tokens=request.prompt_tokens, wall=wall)
    pairs = (
        (prices.prompt, request.provider.max_price_prompt),
        (prices.completion, request.provider.max_price_completion),
    )
    return any(limit is not None and (price is None or price > limit) for price, limit in pairs)


def _region(endpoint: Endpoint, request: Request) -> bool:
    if request.region is None:
        return False
    wanted = request.region.lower()
    found = "" if endpoint.region is None else endpoint.region.lower()
    return found != wanted and not found.startswith(f"{wanted}-")  # eu takes eu-west-1


def out_of_tier(endpoint: Endpoint, request: Request, tiers: Collection[Tier]) -> bool:
    """Whether an endpoint is of a service tier that was not asked for: by `tiers`, or by its own name."""
    if endpoint.tier is None or endpoint.tier in tiers:
        return False
    named = request.provider.order + request.provider.only
    return not any(slug in (endpoint.tag, endpoint.id, endpoint.door) for slug in named)


FILTERS: Final[Mapping[str, Rule]] = {
    "context_length": _context_length,
    "max_prompt_tokens": lambda e, r: _exceeds(r.prompt_tokens, e.max_prompt_tokens),
    "max_completion_tokens": lambda e, r: _exceeds(r.max_tokens, e.max_completion_tokens),
    "allowed_providers": _not_allowed,
    "ignored_providers": lambda e, r: any(matches(slug, e) for slug in r.provider.ignore),
    "quantization": _quantization,
    "data_policy:training": lambda e, _: e.data_collection != "deny",
    "data_policy:zdr": lambda e, _: not e.zdr,
    "distillable_text": lambda e, _: e.distillable is not True,
    "require_parameters": _unlisted,
    "input_modalities": lambda e, r: not e.input_modalities.issuperset(r.input_modalities),
    "output_modalities": lambda e, r: not e.output_modalities.issuperset(r.output_modalities),
    "data_region": _region,
    "already_tried": lambda e, r: any(slug in (e.id, e.tag) for slug in r.exclude),
}
"""Each rule is asked only where `asked` says that the request can fail it."""
