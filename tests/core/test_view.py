from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from balancer.core.balancer import Balancer
from balancer.core.latency import TIMEOUTS_UNKNOWN
from balancer.core.model import Catalog, Endpoint, HealthPolicy, RetryBudget
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.core.view import RANKS, window_name

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]
Fail = Callable[..., None]

MODEL = "author/slug"
A = f"{MODEL}@a"


@pytest.mark.parametrize(
    ("span", "name"),
    [
        (1.0, "1s"),
        (30.0, "30s"),
        (90.0, "90s"),
        (60.0, "1m"),
        (300.0, "5m"),
        (1800.0, "30m"),
        (3600.0, "1h"),
        (5400.0, "90m"),
        (86400.0, "1d"),
        (259200.0, "3d"),
        (0.5, "0.5s"),
    ],
)
def test_a_window_has_the_name_that_the_configuration_gives_it(span: float, name: str) -> None:
    assert window_name(span) == name


def test_a_snapshot_is_frozen_and_outlives_what_happens_next(
    endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    before = table.view(now=1.0)
    copy = table.view(now=1.0)
    fail(table, "a", now=1.0)
    table.drain("b", now=1.0)
    assert before == copy != table.view(now=1.0)
    with pytest.raises(FrozenInstanceError):
        before.now = 2.0  # type: ignore[misc]


def test_endpoints_stand_in_the_configured_order_by_model(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table = Balancer(catalog(endpoint("z"), endpoint("m", model="author/other"), endpoint("a")), seed=1)
    view = table.view(now=0.0)
    assert [each.id for each in view.endpoints] == [f"{MODEL}@z", A, "author/other@m"]
    assert [(each.id, each.eligible, each.total, each.panic) for each in view.models] == [
        (MODEL, 2, 2, False),
        ("author/other", 1, 1, False),
    ]
    assert all(table.endpoint(each.id, now=0.0) == each for each in view.endpoints)


def test_quantiles_totals_and_estimates_are_those_of_the_reports(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    fresh = table.endpoint(A, now=0.0)
    assert (fresh.latency.quantiles, fresh.latency.count, fresh.evidence_age) == (None, 0, None)
    for step in range(100):
        table.record(A, Outcome(kind="success", latency=1.0 + step / 100, ttft=0.5), now=50.0)
    view = table.endpoint(A, now=60.0)
    assert view.latency.quantiles is not None
    assert len(view.latency.quantiles) == len(RANKS)
    assert view.latency.quantiles[0] == pytest.approx(1.49, rel=0.011)
    assert view.latency.sum == pytest.approx(149.5)
    assert view.ttft.count == 100
    assert (view.evidence_age, view.report_age) == (10.0, 10.0)
    assert view.success_estimate > 0.99
    assert set(view.windows["report"]) == {"30s", "5m", "30m", "1d"}


def test_the_newest_failure_comes_first(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    for step in range(3):
        table.record(A, Outcome(kind="timeout", detail=str(step)), now=float(step))
    assert [each.detail for each in table.endpoint(A, now=3.0).failures] == ["2", "1", "0"]


def test_panic_is_shown_where_health_leaves_nobody_and_not_where_only_the_quota_does(
    endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), health=HealthPolicy()), seed=1)
    for tag in ("a", "b"):
        table.record(f"{MODEL}@{tag}", Outcome(kind="rate_limited", retry_after=60.0), now=1.0)
    assert [(each.eligible, each.panic) for each in table.view(now=2.0).models] == [(0, False)]
    for tag in ("a", "b"):
        fail(table, tag, now=2.0)
    assert [(each.eligible, each.panic) for each in table.view(now=3.0).models] == [(0, False)]
    assert [(each.eligible, each.panic) for each in table.view(now=62.0).models] == [(0, True)]


def test_a_panic_is_told_when_it_is_shown_and_only_then(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", model="author/other")), seed=1)
    fail(table, "a", now=10.0)
    table.record(A, Outcome(kind="rate_limited", retry_after=200.0), now=11.0)
    for now in (12.0, 250.0):
        table.best(ask(models=("author/other",)), now=now)
        told = [each.event for each in table.transitions(0) if each.event.startswith("model.panic")]
        assert (told != []) is table.view(now=now).models[0].panic is (now == 250.0)


def test_loads_limits_and_hits_are_told(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    fresh = table.endpoint(A, now=0.0)
    assert (fresh.in_flight, fresh.ceiling, fresh.cache_hit_rate) == (0, None, 0.0)
    assert (fresh.throughput.quantiles, fresh.timeouts) == (None, TIMEOUTS_UNKNOWN)
    for _ in range(20):
        table.best(ask(), now=10.0)
    answered = Outcome(kind="success", latency=2.0, prompt_tokens=100, completion_tokens=80, cached_tokens=50)
    for _ in range(15):
        table.record(A, answered, now=11.0)
    for _ in range(3):
        table.record(A, Outcome(kind="rate_limited", latency=0.5), now=11.0)
    view = table.endpoint(A, now=12.0)
    assert view.in_flight == 2
    assert view.ceiling == pytest.approx(0.8 * 20, rel=0.01)
    assert view.cache_hit_rate == pytest.approx(0.5 * 15 / 20)
    assert view.throughput.quantiles is not None
    assert view.throughput.quantiles[0] == pytest.approx(40.0, rel=0.011)
    assert (view.throughput.count, view.throughput.sum) == (15, 600.0)


def test_sessions_and_retries_are_told(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    assert (table.view(now=0.0).sessions, table.view(now=0.0).models[0].retry_budget.share) == (0, 0.0)
    for session in ("one", "two", "two"):
        table.best(ask(session_id=session), now=1.0)
    for _ in range(12):
        table.best(ask(exclude=("a",)), now=1.0)
    view = table.view(now=1.0)
    assert view.sessions == 2
    assert view.models[0].retry_budget == RetryBudget(share=12 / 15, exhausted=True)
