"""Why nothing can be chosen, in a way that the asker can act on.

Theory of operation: the request's own filters come first (they are never overruled, and only the asker can relax
them), then what only the operator can change (drains, credentials), then what time heals (quota). The constraint
that is named is the filter that rules out most endpoints, with what would have met it.

What this module does not know: HTTP statuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from balancer.core.eligibility import PRIVACY
from balancer.core.model import Considered, Constraint, Endpoint, HealthPolicy, NoEndpoint
from balancer.core.names import Names
from balancer.core.pool import Entry
from balancer.core.pricing import prices_at
from balancer.core.request import Request
from balancer.core.row import UNUSABLE
from balancer.core.standing import standing

UNKNOWN_MODEL: Final = "unknown"  # one label value for all models that are not configured
STORIES_MAX: Final = 10  # endpoints whose reasons a message tells; `explain` tells all
SHOWN_MAX: Final = 200  # characters of an unknown name that are repeated and compared
OFFERS_MAX: Final = 8  # values that a constraint's detail lists

FIELDS: Final[Mapping[str, str]] = {
    "context_length": "prompt_tokens",
    "max_prompt_tokens": "prompt_tokens",
    "max_completion_tokens": "max_tokens",
    "allowed_providers": "provider.only",
    "ignored_providers": "provider.ignore",
    "quantization": "provider.quantizations",
    "max_price": "provider.max_price",
    "data_policy:training": "provider.data_collection",
    "data_policy:zdr": "provider.zdr",
    "distillable_text": "provider.enforce_distillable_text",
    "require_parameters": "provider.require_parameters",
    "input_modalities": "input_modalities",
    "output_modalities": "output_modalities",
    "data_region": "region",
    "service_tier": "service_tier",
    "already_tried": "exclude",
}
"""Which part of a request a filter's name in `excluded_by` comes from."""


def unknown(request: Request, names: Names) -> NoEndpoint:
    """No asked model is configured."""
    asked = [name for name in (request.model, *request.models) if name]
    shown = asked[0][:SHOWN_MAX]
    near = names.near(shown.lower())
    others = f" nor {len(asked) - 1} more" if len(asked) > 1 else ""
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return NoEndpoint("model_not_found", f"no model {shown!r}{others}{hint}", model=UNKNOWN_MODEL, near=near)


def refused(
    request: Request,
    models: Sequence[str],
    entries: Sequence[Entry],
    reasons: Mapping[str, tuple[str, ...]],
    held: Mapping[str, float],
    *,
    now: float,
    wall: float | None,
    policy: HealthPolicy,
    considered: tuple[Considered, ...],
) -> NoEndpoint:
    """None of `entries`, which are those of the asked `models`, can be chosen.

    Shape: `reasons` are the request's filters by endpoint, `held` the seconds until an operator's limit has room.
    `wall` is the Unix time at `now`, for prices.
    """
    model, of = models[0], ", ".join(models)
    passing = [entry for entry in entries if entry.endpoint.id not in reasons]
    if not passing:
        names = _in_order(name for entry in entries for name in reasons[entry.endpoint.id])
        private = any(PRIVACY.issuperset(reasons[entry.endpoint.id]) for entry in entries)
        endpoints = [entry.endpoint for entry in entries]
        constraint = _constraint(request, endpoints, reasons, wall) if endpoints else None
        return NoEndpoint(
            "privacy_restricted" if private else "constraint_filtered",
            f"none of the {len(entries)} endpoints of {of} passes the request's filters: {', '.join(names)}",
            model=model,
            excluded_by=names,
            constraint=constraint,
            considered=considered,
        )
    waiting = [entry for entry in passing if entry.state not in UNUSABLE]
    excluded = _in_order(
        "limits" if entry.endpoint.id in held and entry.state not in UNUSABLE else entry.state for entry in passing
    )
    if waiting:  # what is usable and was not ranked is held by its quota
        wait = min(max(held.get(entry.endpoint.id, 0.0), entry.row.throttle.until - now) for entry in waiting)
        return NoEndpoint(
            "capacity_exhausted",
            f"every usable endpoint of {of} that passes the request's filters is rate limited; "
            f"the first hold ends in {wait:.1f} s",
            model=model,
            excluded_by=excluded,
            retry_after=wait,
            considered=considered,
        )
    told = [f"{entry.endpoint.id}: {standing(entry.row, now, policy).told(now)}" for entry in passing[:STORIES_MAX]]
    if len(passing) > STORIES_MAX:
        told.append(f"and {len(passing) - STORIES_MAX} more")
    return NoEndpoint(
        "unavailable",
        f"no endpoint of {of} can be called: {'; '.join(told)}",
        model=model,
        excluded_by=excluded,
        considered=considered,
    )


def _constraint(
    request: Request, endpoints: Sequence[Endpoint], reasons: Mapping[str, tuple[str, ...]], wall: float | None
) -> Constraint:
    counts: dict[str, int] = {}
    for endpoint in endpoints:
        for name in reasons[endpoint.id]:
            counts[name] = counts.get(name, 0) + 1
    worst = max(counts, key=lambda name: counts[name])
    ruled_out = [endpoint for endpoint in endpoints if worst in reasons[endpoint.id]]
    detail = f"rules out {counts[worst]} of {len(endpoints)} endpoints"
    offer = _offer(worst, request, ruled_out, wall)
    field = FIELDS.get(worst, worst.partition(":")[0])
    if worst == "allowed_providers" and not request.provider.only:
        field = "provider.order"  # without fallbacks
    return Constraint(field=field, detail=f"{detail}; {offer}" if offer else detail)


def _offer(name: str, request: Request, endpoints: Sequence[Endpoint], wall: float | None) -> str:
    """What the endpoints that a filter rules out would have allowed."""
    match name:
        case "context_length":
            longest = max(each.context_length for each in endpoints if each.context_length is not None)
            answer = 0 if request.max_tokens is None else request.max_tokens
            prompt = 0 if request.prompt_tokens is None else request.prompt_tokens
            return f"{prompt + answer} tokens in and out were asked for, the longest context is {longest}"
        case "max_prompt_tokens":
            longest = max(each.max_prompt_tokens for each in endpoints if each.max_prompt_tokens is not None)
            return f"{request.prompt_tokens} tokens were asked for, at most {longest} are allowed"
        case "max_completion_tokens":
            longest = max(
                each.max_completion_tokens for each in endpoints if each.max_completion_tokens is not None
            )
            return f"{request.max_tokens} tokens were asked for, at most {longest} are allowed"
        case "max_price":
            found = [prices_at(each.pricing, prompt_tokens=request.prompt_tokens, wall=wall) for each in endpoints]
            known = [(a, b) for a, b, _ in found if a is not None and b is not None]
            if not known:
                return "none of them tells both prices"
            sent, received = min(known, key=sum)
            return f"the cheapest asks {sent:g} and {received:g} USD per million tokens sent and received"
        case "quantization":
            return f"there is {_listed(each.quantization for each in endpoints)}"
        case "data_region":
            return f"there is {_listed('unknown' if each.region is None else each.region for each in endpoints)}"
        case "allowed_providers" | "ignored_providers":
            return f"there is {_listed(each.tag for each in endpoints)}"
        case _:
            return ""


def _listed(values: Iterable[str]) -> str:
    found = _in_order(values)
    more = f" and {len(found) - OFFERS_MAX} more" if len(found) > OFFERS_MAX else ""
    return ", ".join(found[:OFFERS_MAX]) + more


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
