"""Longer stories over the whole table, each of which once ended badly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.core.balancer import Balancer
from balancer.core.estimate import STAY
from balancer.core.journal import TRANSITIONS_MAX
from balancer.core.model import Catalog, Endpoint, Pricing, Routing
from balancer.core.outcome import Outcome
from balancer.core.request import Request

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]
Fail = Callable[..., None]

MODEL = "author/slug"
A = f"{MODEL}@a"
B = f"{MODEL}@b"
OK = Outcome(kind="success", latency=1.0, ttft=0.2)
BAD = Outcome(kind="server_error", status=500)


@pytest.fixture
def pair(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Balancer:
    return Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)


def test_an_outage_of_seconds_under_load_does_not_end_in_holds_of_minutes(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("c")), seed=1)
    for step in range(300):
        now = step / 10
        decision = table.best(ask(), now=now)
        outcome = BAD if now < 10.0 else OK
        table.record(decision.selected.id, outcome, now=now, decision=decision.id)
    for key in ("a", "b", "c"):
        view = table.endpoint(f"{MODEL}@{key}", now=30.0)
        assert view.state != "ejected" or (view.next_at is not None and view.next_at < 40.0)


def test_a_requests_own_panic_is_not_the_models(pair: Balancer, ask: MakeRequest, fail: Fail) -> None:
    fail(pair, "a", now=1.0)
    number = pair.transitions(0)[-1].number
    for _ in range(5):
        assert not pair.best(ask(), now=2.0).panic
        assert pair.best(ask(only=("a",)), now=2.0).panic
    assert not [each for each in pair.transitions(number) if each.event.startswith("model.")]


def test_late_failures_do_not_follow_newer_successes(pair: Balancer) -> None:
    for step in range(100):
        pair.record(A, OK, now=1000.0 + step / 100)
    for _ in range(5):
        pair.record(A, Outcome(kind="timeout"), now=1002.0, age=600.0)
    assert pair.endpoint(A, now=1002.0).state == "healthy"


def test_what_counts_for_nothing_is_no_fresh_evidence(pair: Balancer) -> None:
    pair.record(A, OK, now=1.0)
    pair.record(A, Outcome(kind="local"), now=1000.0, source="probe")
    pair.record(A, Outcome(kind="cancelled"), now=1000.0)
    assert pair.endpoint(A, now=1000.0).evidence_age == 999.0
    assert pair.evidence(A, now=1000.0).report_age == 999.0


def test_time_is_priced_by_the_last_minutes_and_not_by_all_time(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), routing=Routing(value_of_time=0.001)), seed=1)
    for step in range(5000):
        table.record(A, Outcome(kind="success", latency=1.0), now=step / 10)
    for step in range(600):
        table.record(A, Outcome(kind="success", latency=5.0), now=1000.0 + step)
        table.record(B, Outcome(kind="success", latency=1.5), now=1000.0 + step)
    assert table.best(ask(), now=1600.0).selected.id == B


def test_a_degraded_endpoint_spills_to_the_next_priority(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", priority=1)), seed=1)
    for step in range(70):
        table.record(A, BAD if step % 7 == 0 else OK, now=1.0 + step)
        table.record(B, OK, now=1.0 + step)
        table.best(ask(), now=1.0 + step)
    assert table.endpoint(A, now=71.0).state == "degraded"
    assert table.best(ask(), now=71.0).selected.id == B


def test_a_catalog_larger_than_the_memory_of_transitions_is_told_whole(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    many = [endpoint(f"p{number}", misconfigured="KEY is not set") for number in range(TRANSITIONS_MAX)]
    told = [each.event for each in Balancer(catalog(*many), seed=1).transitions(0)]
    assert told.count("endpoint.misconfigured") == TRANSITIONS_MAX


def test_a_report_that_began_long_before_the_lease_decides_no_trial(
    pair: Balancer, ask: MakeRequest, fail: Fail
) -> None:
    fail(pair, "a", now=1.0)
    trial = pair.best(ask(), now=100.0)
    assert trial.trial
    pair.record(A, Outcome(kind="success", latency=50.0), now=100.5, decision=trial.id)
    assert pair.endpoint(A, now=100.5).state == "half_open"
    pair.record(A, Outcome(kind="success", latency=0.9), now=100.5, decision=trial.id)
    assert pair.endpoint(A, now=100.5).state == "recovering"


def test_what_is_degraded_spills_past_what_is_degraded_too(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", priority=1), endpoint("c", priority=2)), seed=1)
    for key in (A, B):
        for step in range(20):
            table.record(key, OK, now=1.0 + step / 100)
        for _ in range(4):
            table.record(key, BAD, now=2.0)
    assert [table.endpoint(key, now=2.0).state for key in (A, B)] == ["degraded", "degraded"]
    assert table.best(ask(), now=2.0).selected.tag == "c"
    assert table.best(ask(), now=2.0 + STAY).selected.tag == "a"  # the news is old


def test_where_nobody_is_better_the_operators_order_stays(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", priority=1)), seed=1)
    for key in (A, B):
        table.record(key, OK, now=1.0)
        for _ in range(3):
            table.record(key, BAD, now=2.0)
    assert table.best(ask(), now=2.0).selected.tag == "a"


def test_a_catalog_that_shrinks_is_told_whole(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table = Balancer(catalog(*[endpoint(f"p{number}") for number in range(2000)]), seed=1)
    number = table.transitions(0)[-1].number
    table.apply(catalog(endpoint("p0")), now=1.0)
    assert len(table.transitions(number)) == 1999


def test_a_tier_keeps_no_model_out_of_panic(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", tier="flex")), seed=1)
    fail(table, "a", now=1.0)
    assert table.best(ask(), now=2.0).panic
    assert [each.event for each in table.transitions(0)][-2:] == ["model.panic_entered", "endpoint.trial_started"]
    assert table.view(now=2.0).models[0].panic


def test_a_drain_that_ended_by_itself_is_not_resumed(pair: Balancer) -> None:
    pair.drain("a", now=1.0, until=2.0)
    assert pair.resume("a", now=3.0) == []


def test_a_price_forgets_the_cache_hits_when_their_half_hour_is_over(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    cached = Pricing(prompt=1.0, completion=1.0, input_cache_read=0.1)
    table = Balancer(catalog(endpoint("a", pricing=cached), endpoint("b", price=0.7)), seed=1)
    hit = Outcome(kind="success", latency=1.0, prompt_tokens=1000, cached_tokens=900)
    for _ in range(30):
        table.record(A, hit, now=1.0)
    firsts = {now: table.best(ask(), now=now, dry=True).selected.id for now in (1.0, 300.0, 1700.0, 1900.0)}
    assert firsts == {1.0: A, 300.0: A, 1700.0: A, 1900.0: B}


def test_a_fallback_model_that_the_operator_drained_is_not_in_panic(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", model="author/other")), seed=1)
    table.drain("a", now=1.0)
    for _ in range(3):
        decision = table.best(ask(models=("author/other",)), now=2.0)
        assert (decision.model, decision.panic) == ("author/other", False)
    assert not [each for each in table.transitions(0) if each.event.startswith("model.")]
    assert not any(each.panic for each in table.view(now=2.0).models)


def test_an_alarm_that_was_over_still_rings_for_who_asks_of_the_time_before(
    pair: Balancer, ask: MakeRequest
) -> None:
    for key in (A, B):
        pair.record(key, OK, now=1.0)
    for _ in range(4):
        pair.record(A, BAD, now=1.0)
    before = pair.endpoint(A, now=2.0).success_estimate
    pair.view(now=1000.0)
    assert pair.endpoint(A, now=2.0).success_estimate == before


def test_an_outage_is_one_after_a_restart_too_though_429s_came_between(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    world = catalog(endpoint("a"), endpoint("b"), routing=Routing(strategy="price"))

    def told(table: Balancer, now: float) -> str:
        lines = table.best(ask(), now=now, explain=True).considered
        return next(line.why for line in lines if line.id == A)

    before, after = Balancer(world, seed=1), Balancer(world, seed=1)
    before.record(A, Outcome(kind="server_error", status=500), now=1.0)
    for _ in range(19):
        before.record(A, Outcome(kind="rate_limited", status=429, retry_after=0.1), now=2.0)
    before.record(A, Outcome(kind="server_error", status=500), now=3.0)
    assert "outage" in told(before, 4.0)
    after.restore(before.dump(now=4.0), now=4.0, away=0.0)
    assert "outage" in told(after, 4.0)
