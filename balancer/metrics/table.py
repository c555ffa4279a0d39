"""One view of the table → its families of samples.

Theory of operation: the totals live in the table's rows, so nothing is kept here; a removed endpoint is not in
the next view, and its series end with it. Every endpoint's opening label is written once and every combination
of closed labels is written once for the process; a line is then one join of strings.

Choices a reader of the series should know:
- A ratio or a quantile without a call behind it has no sample. NaN would poison every `avg` and `sum`, and a 0
  would be a lie; `balancer_endpoint_window_outcomes` is always there and says how much evidence there is.
- `balancer_endpoint_state` is 1 for the one state that is shown, so a sum by `state` counts each endpoint once.
  In OpenMetrics it is a gauge: that format's state set would want the label to bear the metric's name.
- `balancer_ejections_total` says `enforced="false"` of those that were only watched, so every alert on ejections
  should ask for `enforced="true"`. Of an endpoint there are the series of what is configured now, and of the other
  only what was counted: a reload that changes it makes them at 0, before anything can be counted.
- `balancer_decisions_total` exists for each model, each strategy and each result; of models that are not
  configured, all under one label value, there is only `model_not_found`. A request's own `sort` replaces the
  strategy, and has its series (`sort:price`, …) from the first such request on: few ask for one.
- A `quantile` is Prometheus': the share of calls at or below the value. The view's p99 of a throughput is its slow
  tail, so it is written as the quantile 0.01. A ceiling is told a second, as `rate()` tells what stands beside it.

What this module does not know: how and when it is asked, and HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, get_args

from balancer.core.capacity import MINUTE
from balancer.core.model import SOURCES, STATES, Refusal, Source, StrategyName
from balancer.core.outcome import KINDS
from balancer.core.phases import CAUSES
from balancer.core.refusal import UNKNOWN_MODEL
from balancer.core.view import RANKS, Distribution, EndpointView, TableView
from balancer.core.window import Counts
from balancer.metrics.text import Family, escaped, line

DECISION_RESULTS: Final = ("selected", "trial", "panic", *get_args(Refusal))
"""How questions end: which kind of answer, or which refusal."""

_STRATEGIES: Final = get_args(StrategyName)
_NOT_FOUND: Final = "model_not_found"

# What follows the label `endpoint`, for each combination of closed labels.
_OUTCOMES: Final = [
    ((source, kind), f',source="{source}",outcome="{kind}"}} ') for source in SOURCES for kind in KINDS
]
_STATES: Final = [(state, f',state="{state}"}} ') for state in STATES]
_EJECTIONS: Final = [
    ((cause, enforced), f',reason="{cause}",enforced="{str(enforced).lower()}"}} ')
    for enforced in (True, False)
    for cause in CAUSES
]
_RANKS: Final = [f',quantile="{rank}"}} ' for rank in RANKS]
_RANKS_OF_SPEED: Final = [f',quantile="{round(1 - rank, 2)}"}} ' for rank in RANKS]

Labelled = Sequence[tuple[str, EndpointView]]
"""Endpoints, each with its opening label: `{endpoint="…"`, not yet closed."""


def table_families(view: TableView) -> Iterator[Family]:
    """Write down the whole table, each family when it is asked for: all of a large table takes milliseconds."""
    endpoints = [(f'{{endpoint="{escaped(each.id)}"', each) for each in view.endpoints]
    yield from _counters(endpoints)
    yield from _opinions(endpoints)
    yield from _times(endpoints)
    yield from _capacities(endpoints)
    yield from _decisions(view)
    yield from _models(view)
    yield _announced(view)


def reporter_families(view: TableView, names: Iterable[str]) -> list[Family]:
    """Write down who reports: those that are configured, whether they were heard of yet or not."""
    heard = {each.name: each for each in view.reporters}
    known = [({"reporter": name}, heard.get(name)) for name in names]
    return [
        Family(
            name="balancer_reporter_reports",
            kind="counter",
            help="Reports that were taken from the reporter.",
            lines=[
                line("balancer_reporter_reports_total", labels, 0 if each is None else each.reports)
                for labels, each in known
            ],
        ),
        Family(
            name="balancer_reporter_silence_seconds",
            kind="gauge",
            help="Time since the reporter's last report; no sample before the first.",
            lines=[
                line("balancer_reporter_silence_seconds", labels, each.silence)
                for labels, each in known
                if each is not None
            ],
        ),
        Family(
            name="balancer_reporter_suspect",
            kind="gauge",
            help="1 while the reporter rather than the providers seems to be at fault.",
            lines=[
                line("balancer_reporter_suspect", labels, int(each is not None and each.suspicion is not None))
                for labels, each in known
            ],
        ),
    ]


def _counters(endpoints: Labelled) -> Iterator[Family]:
    yield Family(
        name="balancer_endpoint",
        kind="info",
        help="What is configured: every endpoint with its model and provider.",
        lines=[
            f'balancer_endpoint_info{opening},model="{escaped(each.endpoint.model)}"'
            f',provider="{escaped(each.endpoint.provider)}"}} 1'
            for opening, each in endpoints
        ],
    )
    yield Family(
        name="balancer_outcomes",
        kind="counter",
        help="Finished probes and reported requests, each with its one outcome.",
        lines=[
            f"balancer_outcomes_total{opening}{labels}{each.outcomes.get(key, 0)}"
            for opening, each in endpoints
            for key, labels in _OUTCOMES
        ],
    )
    yield Family(
        name="balancer_endpoint_selections",
        kind="counter",
        help="Decisions that put the endpoint first.",
        lines=[f"balancer_endpoint_selections_total{opening}}} {each.selections}" for opening, each in endpoints],
    )
    yield Family(
        name="balancer_ejections",
        kind="counter",
        help="Ejections of the endpoint by what caused them; not enforced are those that were only watched.",
        lines=[
            f"balancer_ejections_total{opening}{labels}{each.ejections.get(key, 0)}"
            for opening, each in endpoints
            for key, labels in _EJECTIONS
            if key[1] is each.enforced or key in each.ejections
        ],
    )


def _opinions(endpoints: Labelled) -> Iterator[Family]:
    windows = [
        (f'{opening},source="{source}",window="{window}"}} ', counts)
        for opening, each in endpoints
        for source in SOURCES
        for window, counts in each.windows[source].items()
    ]
    yield Family(
        name="balancer_endpoint_state",
        kind="gauge",
        help="1 for the one state that is shown of the endpoint, 0 for the others.",
        lines=[
            f"balancer_endpoint_state{opening}{labels}{int(each.state == state)}"
            for opening, each in endpoints
            for state, labels in _STATES
        ],
    )
    yield Family(
        name="balancer_endpoint_error_ratio",
        kind="gauge",
        help="Failures among the outcomes of the trailing window; no sample while it has none.",
        lines=[
            f"balancer_endpoint_error_ratio{labels}{ratio}"
            for labels, counts in windows
            if (ratio := counts.error_ratio) is not None
        ],
    )
    yield Family(
        name="balancer_endpoint_rate_limited_ratio",
        kind="gauge",
        help="Answers 429 among all tries of the trailing window, of probes and reports together.",
        lines=[
            f'balancer_endpoint_rate_limited_ratio{opening},window="{window}"}} {ratio}'
            for opening, each in endpoints
            for window, counts in _together(each.windows)
            if (ratio := counts.rate_limited_ratio) is not None
        ],
    )
    yield Family(
        name="balancer_endpoint_window_outcomes",
        kind="gauge",
        help="Outcomes in the trailing window that the error ratio stands on.",
        lines=[f"balancer_endpoint_window_outcomes{labels}{counts.outcomes}" for labels, counts in windows],
    )
    yield Family(
        name="balancer_endpoint_success_estimate",
        kind="gauge",
        help="The chance that the next call of the endpoint succeeds, as decisions see it.",
        lines=[
            f"balancer_endpoint_success_estimate{opening}}} {each.success_estimate!r}"
            for opening, each in endpoints
        ],
    )


def _together(windows: Mapping[Source, Mapping[str, Counts]]) -> Iterable[tuple[str, Counts]]:
    return [(name, counts.plus(windows["probe"][name])) for name, counts in windows["report"].items()]


def _times(endpoints: Labelled) -> Iterator[Family]:
    latency, ttft = "balancer_endpoint_latency_seconds", "balancer_endpoint_ttft_seconds"
    speed = "balancer_endpoint_throughput_tokens_per_second"
    yield Family(
        name=latency,
        kind="summary",
        help="Duration of successful calls; quantiles over five minutes.",
        lines=[text for opening, each in endpoints for text in _summary(latency, opening, each.latency)],
    )
    yield Family(
        name=ttft,
        kind="summary",
        help="Time to the first token of successful calls; quantiles over five minutes.",
        lines=[text for opening, each in endpoints for text in _summary(ttft, opening, each.ttft)],
    )
    yield Family(
        name=speed,
        kind="summary",
        help="Answer tokens a second of successful calls; quantiles over five minutes, 0.01 is the slow tail.",
        lines=[
            text
            for opening, each in endpoints
            for text in _summary(speed, opening, each.throughput, _RANKS_OF_SPEED)
        ],
    )


def _capacities(endpoints: Labelled) -> Iterator[Family]:
    ceiling = "balancer_endpoint_ceiling_requests_per_second"
    yield Family(
        name="balancer_endpoint_cache_hit_ratio",
        kind="gauge",
        help="Share of a prompt that is expected in the provider's cache, as prices count it.",
        lines=[
            f"balancer_endpoint_cache_hit_ratio{opening}}} {each.cache_hit_rate!r}" for opening, each in endpoints
        ],
    )
    yield Family(
        name="balancer_endpoint_in_flight",
        kind="gauge",
        help="Decisions for the endpoint that nobody reported on yet, for two minutes.",
        lines=[f"balancer_endpoint_in_flight{opening}}} {each.in_flight}" for opening, each in endpoints],
    )
    yield Family(
        name=ceiling,
        kind="gauge",
        help="Rate of requests beyond which the endpoint answered 429; no sample while it is not known.",
        lines=[
            f"{ceiling}{opening}}} {each.ceiling / MINUTE!r}"
            for opening, each in endpoints
            if each.ceiling is not None
        ],
    )


def _summary(name: str, opening: str, values: Distribution, ranks: Sequence[str] = _RANKS) -> Iterable[str]:
    if values.quantiles is not None:
        for labels, quantile in zip(ranks, values.quantiles, strict=True):
            yield f"{name}{opening}{labels}{quantile!r}"
    yield f"{name}_sum{opening}}} {values.sum!r}"
    yield f"{name}_count{opening}}} {values.count}"


def _decisions(view: TableView) -> Iterator[Family]:
    # Every result at 0 first, so that the first refusal is a step and not the birth of a series; a model that is
    # no longer configured drops out even though the table still counts it.
    decisions = {
        (model.id, strategy, result): 0
        for model in view.models
        for strategy in _STRATEGIES
        for result in DECISION_RESULTS
        if result != _NOT_FOUND
    } | {(UNKNOWN_MODEL, strategy, _NOT_FOUND): 0 for strategy in _STRATEGIES}
    labels = {model for model, _, _ in decisions}
    decisions |= {key: count for key, count in view.decisions.items() if key[0] in labels}
    yield Family(
        name="balancer_decisions",
        kind="counter",
        help="Questions for the best provider, by how they ended.",
        lines=[
            line("balancer_decisions_total", {"model": model, "strategy": strategy, "result": result}, count)
            for (model, strategy, result), count in decisions.items()
        ],
    )


def _models(view: TableView) -> Iterator[Family]:
    models = [(f'{{model="{escaped(each.id)}"}} ', each) for each in view.models]
    yield Family(
        name="balancer_model_panic",
        kind="gauge",
        help="1 while health leaves no eligible endpoint of the model and the least bad one is chosen.",
        lines=[f"balancer_model_panic{labels}{int(each.panic)}" for labels, each in models],
    )
    yield Family(
        name="balancer_model_retry_ratio",
        kind="gauge",
        help="Retries among the requests for the model in the last minute.",
        lines=[f"balancer_model_retry_ratio{labels}{each.retry_budget.share!r}" for labels, each in models],
    )
    yield Family(
        name="balancer_model_retry_budget_exhausted",
        kind="gauge",
        help="1 while more requests for the model are retries than the budget allows.",
        lines=[
            f"balancer_model_retry_budget_exhausted{labels}{int(each.retry_budget.exhausted)}"
            for labels, each in models
        ],
    )
    yield Family(
        name="balancer_sessions",
        kind="gauge",
        help="Sessions that are remembered, those that lapsed and were not forgotten yet among them.",
        lines=[line("balancer_sessions", {}, view.sessions)],
    )
    yield Family(
        name="balancer_self_suspect",
        kind="gauge",
        help="1 while we ourselves seem to be at fault rather than the providers.",
        lines=[line("balancer_self_suspect", {}, int(view.self_suspect))],
    )


def _announced(view: TableView) -> Family:
    return Family(
        name="balancer_provider_announced",
        kind="gauge",
        help="1 for the trouble that a provider's status page tells of; no sample while it tells of none.",
        lines=[
            line("balancer_provider_announced", {"provider": provider, "level": said.level}, 1)
            for provider, said in view.announcements.items()
        ],
    )
