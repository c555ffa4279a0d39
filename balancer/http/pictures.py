"""The shapes in which the table is read: one `Struct` for each, made from the core's snapshots.

Theory of operation: a struct here is an answer and its own schema in OpenAPI at once, so the two cannot differ.
Ratios and counts are by source, then by window, in the configuration's order. Units: seconds, ratios 0..1,
prices in USD per million tokens, throughput in tokens a second. Percentiles have OpenRouter's meaning: at
p99 are the 99 of 100 calls that do at least so well, so of a throughput it is the slow tail.

What this module does not know: which snapshot was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from balancer.core.model import (
    Dialect,
    Endpoint,
    Limits,
    Model,
    PriceOverride,
    Pricing,
    RetryBudget,
    Source,
    State,
    Tier,
    Timeouts,
)
from balancer.core.outcome import Kind
from balancer.core.phases import Cause
from balancer.core.view import Distribution, EndpointView, ModelView
from balancer.core.window import Counts

T = TypeVar("T")
ByWindow = dict[Source, dict[str, T]]


class Percentiles(Struct, kw_only=True):
    """Successful calls of the last five minutes; `null` where there was none."""

    p50: float | None
    p75: float | None
    p90: float | None
    p99: float | None


class OverrideItem(Struct, kw_only=True):
    """Other prices under conditions, of which all that are given must hold; `null` is not overridden.

    `start` and `end` are minutes of the UTC day, `days` days of the week from 0, Monday.
    """

    min_prompt_tokens: int | None
    start: int | None
    end: int | None
    days: list[int] | None
    prompt: float | None
    completion: float | None
    input_cache_read: float | None


class PricingItem(Struct, kw_only=True):
    """The list prices; of the overrides that match a request a later one wins, price by price."""

    prompt: float | None
    completion: float | None
    input_cache_read: float | None
    overrides: list[OverrideItem]


class EndpointItem(Struct, kw_only=True):
    """One endpoint in a list. `next_in` is `null` where nothing is scheduled.

    `eligible`: a decision may choose it now, outside of panic. `enforced` is false where health is only watched:
    state, reason and next moment are what would be, and choose nothing.

    `cache_hit_rate` is the share of a prompt that is expected to be cached, as prices count it; `in_flight` are the
    decisions of the last two minutes that nobody reported on; `ceiling` the requests a minute beyond which it
    answered 429, `null` while it never did. `credential` says where its key is, `limits` and `cache_ttl` (seconds
    that a prompt stays cached) are configured.
    """

    id: str
    model: str
    provider: str
    tag: str
    eligible: bool
    enforced: bool
    state: State
    states: tuple[State, ...]
    reason: str
    next: str | None
    next_in: float | None
    error_ratio: ByWindow[float | None]
    window_outcomes: ByWindow[int]
    rate_limited_ratio: ByWindow[float | None]
    success_estimate: float
    latency: Percentiles
    ttft: Percentiles
    throughput: Percentiles
    cache_hit_rate: float
    in_flight: int
    ceiling: float | None
    selections: int
    evidence_age: float | None
    pricing: PricingItem
    context_length: int | None
    quantization: str
    region: str | None
    tier: Tier | None
    credential: str | None
    limits: Limits | None
    cache_ttl: float | None
    priority: int
    weight: float


class WindowCounts(Struct, kw_only=True):
    """Outcomes inside one window."""

    success: int
    failure: int
    rate_limited: int


class FailureItem(Struct, kw_only=True):
    """One failed call, newest first."""

    age: float
    source: Source
    outcome: Kind
    status: int | None
    detail: str


class Upstream(Struct, kw_only=True):
    """What a proxy needs to call the endpoint, and what it may be asked for."""

    model: str
    base_url: str
    api: Dialect
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    supported_parameters: list[str] | None
    input_modalities: list[str]
    output_modalities: list[str]
    data_collection: str
    zdr: bool
    distillable: bool | None


class EndpointDetail(EndpointItem, kw_only=True):
    """One endpoint with everything that is known about it. Totals count since it was added.

    `would_be_ejections` are those while health was only watched; `ejections` are all others.
    """

    provider_name: str
    upstream: Upstream
    windows: ByWindow[WindowCounts]
    timeouts: Timeouts
    outcomes: dict[Source, dict[Kind, int]]
    failures: list[FailureItem]
    ejections: dict[Cause, int]
    would_be_ejections: dict[Cause, int]
    report_age: float | None


class EndpointList(Struct, kw_only=True):
    """Endpoints in the configured order."""

    endpoints: list[EndpointItem]


class ModelItem(Struct, kw_only=True):
    """One model. `panic` says that health leaves none of its endpoints.

    `retry_budget.share` is retries among the requests of the last minute.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    created: str | None
    context_length: int | None
    input_modalities: list[str]
    output_modalities: list[str]
    distillable: bool | None
    eligible: int
    total: int
    panic: bool
    retry_budget: RetryBudget


class ModelList(Struct, kw_only=True):
    """Models in the configured order."""

    models: list[ModelItem]


class ModelDetail(ModelItem, kw_only=True):
    """One model with its endpoints."""

    endpoints: list[EndpointItem]


def endpoint_item(view: EndpointView, now: float) -> EndpointItem:
    """Make a list's line."""
    return EndpointItem(**_item(view, now))


def endpoint_detail(view: EndpointView, now: float) -> EndpointDetail:
    """Make the whole picture."""
    outcomes: dict[Source, dict[Kind, int]] = {"probe": {}, "report": {}}
    for (source, kind), count in view.outcomes.items():
        outcomes[source][kind] = count
    return EndpointDetail(
        **_item(view, now),
        provider_name=view.endpoint.provider_name,
        upstream=_upstream(view.endpoint),
        windows=_by_window(view, _counts),
        timeouts=view.timeouts,
        outcomes=outcomes,
        failures=[
            FailureItem(
                age=max(0.0, now - each.ended),
                source=each.source,
                outcome=each.kind,
                status=each.status,
                detail=each.detail,
            )
            for each in view.failures
        ],
        ejections=_ejections(view, enforced=True),
        would_be_ejections=_ejections(view, enforced=False),
        report_age=view.report_age,
    )


def model_item(model: Model, view: ModelView) -> ModelItem:
    """Make a list's line."""
    return ModelItem(**_model(model, view))


def model_detail(model: Model, view: ModelView, endpoints: list[EndpointItem]) -> ModelDetail:
    """Make the whole picture."""
    return ModelDetail(**_model(model, view), endpoints=endpoints)


def _item(view: EndpointView, now: float) -> dict[str, Any]:
    endpoint = view.endpoint
    return {
        "id": view.id,
        "model": endpoint.model,
        "provider": endpoint.provider,
        "tag": endpoint.tag,
        "eligible": view.eligible,
        "enforced": view.enforced,
        "state": view.state,
        "states": view.states,
        "reason": view.reason,
        "next": view.next,
        "next_in": None if view.next_at is None else max(0.0, view.next_at - now),
        "error_ratio": _by_window(view, lambda counts: counts.error_ratio),
        "window_outcomes": _by_window(view, lambda counts: counts.outcomes),
        "rate_limited_ratio": _by_window(view, lambda counts: counts.rate_limited_ratio),
        "success_estimate": view.success_estimate,
        "latency": _percentiles(view.latency),
        "ttft": _percentiles(view.ttft),
        "throughput": _percentiles(view.throughput),
        "cache_hit_rate": view.cache_hit_rate,
        "in_flight": view.in_flight,
        "ceiling": view.ceiling,
        "selections": view.selections,
        "evidence_age": view.evidence_age,
        "pricing": _pricing(endpoint.pricing),
        "context_length": endpoint.context_length,
        "quantization": endpoint.quantization,
        "region": endpoint.region,
        "tier": endpoint.tier,
        "credential": endpoint.credential,
        "limits": endpoint.limits,
        "cache_ttl": endpoint.cache_ttl,
        "priority": endpoint.priority,
        "weight": endpoint.weight,
    }


def _model(model: Model, view: ModelView) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "aliases": model.aliases,
        "created": model.created,
        "context_length": model.context_length,
        "input_modalities": sorted(model.input_modalities),
        "output_modalities": sorted(model.output_modalities),
        "distillable": model.distillable,
        "eligible": view.eligible,
        "total": view.total,
        "panic": view.panic,
        "retry_budget": view.retry_budget,
    }


def _upstream(endpoint: Endpoint) -> Upstream:
    parameters = endpoint.supported_parameters
    return Upstream(
        model=endpoint.upstream_model,
        base_url=endpoint.base_url,
        api=endpoint.api,
        max_prompt_tokens=endpoint.max_prompt_tokens,
        max_completion_tokens=endpoint.max_completion_tokens,
        supported_parameters=None if parameters is None else sorted(parameters),
        input_modalities=sorted(endpoint.input_modalities),
        output_modalities=sorted(endpoint.output_modalities),
        data_collection=endpoint.data_collection,
        zdr=endpoint.zdr,
        distillable=endpoint.distillable,
    )


def _pricing(pricing: Pricing) -> PricingItem:
    return PricingItem(
        prompt=pricing.prompt,
        completion=pricing.completion,
        input_cache_read=pricing.input_cache_read,
        overrides=[_override(each) for each in pricing.overrides],
    )


def _override(override: PriceOverride) -> OverrideItem:
    return OverrideItem(
        min_prompt_tokens=override.min_prompt_tokens,
        start=override.start,
        end=override.end,
        days=None if override.days is None else sorted(override.days),  # a set has no order of its own
        prompt=override.prompt,
        completion=override.completion,
        input_cache_read=override.input_cache_read,
    )


def _ejections(view: EndpointView, *, enforced: bool) -> dict[Cause, int]:
    return {cause: count for (cause, chose), count in view.ejections.items() if chose is enforced}


def _by_window(view: EndpointView, number: Callable[[Counts], T]) -> ByWindow[T]:
    return {source: {name: number(counts) for name, counts in spans.items()} for source, spans in _spans(view)}


def _spans(view: EndpointView) -> Iterable[tuple[Source, Mapping[str, Counts]]]:
    return view.windows.items()


def _counts(counts: Counts) -> WindowCounts:
    return WindowCounts(success=counts.success, failure=counts.failure, rate_limited=counts.rate_limited)


def _percentiles(distribution: Distribution) -> Percentiles:
    at = distribution.quantiles
    if at is None:
        return Percentiles(p50=None, p75=None, p90=None, p99=None)
    return Percentiles(p50=at[0], p75=at[1], p90=at[2], p99=at[3])
