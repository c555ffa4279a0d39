"""Status pages at the table: who is behind whom for their word, what is told of it, and that it ejects nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.core.announcement import FRESH, OUTRANKED, Level
from balancer.core.balancer import Balancer
from balancer.core.model import Endpoint, HealthPolicy
from balancer.core.outcome import Outcome
from balancer.core.request import Request

MODEL = "author/slug"
A, B = f"{MODEL}@a", f"{MODEL}@b"
ASK = Request(model=MODEL)
OK = Outcome(kind="success", latency=1.0)


@pytest.fixture
def pair(endpoint: Callable[..., Endpoint], catalog: Callable[..., Any]) -> Balancer:
    """Two idle endpoints, the first the cheaper one; both answered long ago."""
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=1.1)), seed=1)
    for key in (A, B):
        table.record(key, OK, now=-1000.0)
    return table


def first(table: Balancer, now: float) -> str:
    return table.best(ASK, now=now, dry=True).selected.id


def events(table: Balancer) -> list[tuple[str, str | None, str | None, str]]:
    return [
        (each.event, each.provider, each.endpoint, each.reason)
        for each in table.transitions(0)
        if each.now >= 100.0
    ]


def test_trouble_puts_idle_endpoints_behind_their_equals_until_the_page_says_that_it_is_over(
    pair: Balancer,
) -> None:
    assert first(pair, 100.0) == A
    pair.announce("a", "partial_outage", detail="API", now=100.0, lasting=300.0)
    assert first(pair, 100.0) == B
    view = pair.endpoint(A, now=100.0)
    assert (view.state, view.reason) == ("degraded", "its status page says partial outage (API)")
    assert view.eligible
    pair.announce("a", "operational", now=160.0, lasting=300.0)
    assert first(pair, 160.0) == A
    assert pair.endpoint(A, now=160.0).state == "healthy"
    assert events(pair) == [
        ("provider.announced", "a", None, "its status page says partial outage (API)"),
        ("endpoint.degraded", None, A, "its status page says partial outage (API)"),
        ("provider.announced", "a", None, "its status page tells of no trouble any more"),
        ("endpoint.healthy", None, A, ""),
    ]


def test_the_same_word_again_is_no_news_and_stands_longer(pair: Balancer) -> None:
    for now in (100.0, 160.0, 220.0):
        pair.announce("a", "major_outage", now=now, lasting=100.0)
    assert len(pair.view(now=300.0).announcements) == 1
    assert pair.view(now=300.0).announcements["a"].since == 100.0
    assert [event for event, *_ in events(pair)] == ["provider.announced", "endpoint.degraded"]


def test_a_page_that_is_no_longer_read_says_nothing(pair: Balancer) -> None:
    pair.announce("a", "major_outage", now=100.0, lasting=100.0)
    assert first(pair, 199.0) == B
    assert first(pair, 200.0) == A
    assert pair.view(now=200.0).announcements == {}
    pair.settle(now=200.0)
    assert events(pair)[-2:] == [
        ("provider.announced", "a", None, "its status page has not been read for too long"),
        ("endpoint.healthy", None, A, ""),
    ]


def test_what_is_seen_outranks_it(pair: Balancer) -> None:
    pair.announce("a", "major_outage", now=100.0, lasting=100_000.0)
    pair.record(A, OK, now=101.0)
    assert first(pair, 101.0) == A
    assert pair.endpoint(A, now=101.0).state == "healthy"
    assert first(pair, 101.0 + OUTRANKED) == B
    pair.record(A, Outcome(kind="success", shallow=True), now=102.0 + OUTRANKED, source="probe")  # no real work
    assert first(pair, 102.0 + OUTRANKED) == B


def test_who_has_traffic_is_not_moved_by_it(pair: Balancer) -> None:
    pair.record(A, OK, now=99.0)
    pair.announce("a", "major_outage", now=100.0, lasting=100_000.0)
    assert first(pair, 100.0) == A
    assert first(pair, 99.0 + FRESH) == B


@pytest.mark.parametrize("level", ["under_maintenance", "degraded_performance", "partial_outage", "major_outage"])
def test_no_word_ejects_nor_empties_a_model(pair: Balancer, level: Level) -> None:
    for provider in ("a", "b"):
        pair.announce(provider, level, now=100.0, lasting=1e6)
    for now in range(100, 4000, 60):
        decision = pair.best(ASK, now=float(now))
        assert not decision.panic
        assert len(decision.fallbacks) == 1
        assert all(each.eligible for each in pair.view(now=float(now)).endpoints)
    assert {each.event for each in pair.transitions(0)}.isdisjoint({"endpoint.ejected", "model.panic_entered"})


def test_a_worse_word_weighs_more(pair: Balancer) -> None:
    estimates = []
    for level in ("degraded_performance", "partial_outage", "major_outage"):
        pair.announce("a", level, now=100.0, lasting=1e6)  # type: ignore[arg-type]
        estimates.append(pair.endpoint(A, now=100.0).success_estimate)
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[0] < pair.endpoint(B, now=100.0).success_estimate


def test_a_prober_looks_sooner(pair: Balancer) -> None:
    assert pair.evidence(A, now=100.0).urgency == "calm"
    pair.announce("a", "degraded_performance", now=100.0, lasting=1e6)
    assert pair.evidence(A, now=100.0).urgency == "warned"
    assert pair.evidence(B, now=100.0).urgency == "calm"


def test_where_health_only_watches_it_is_shown_and_chooses_nothing(
    endpoint: Callable[..., Endpoint], catalog: Callable[..., Any]
) -> None:
    policy = HealthPolicy(enforce=False)
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=1.1), health=policy), seed=1)
    table.announce("a", "major_outage", now=100.0, lasting=1e6)
    assert table.endpoint(A, now=100.0).state == "degraded"
    assert first(table, 100.0) == A


def test_a_reload_hands_it_to_new_endpoints_and_forgets_it_with_the_provider(
    endpoint: Callable[..., Endpoint], catalog: Callable[..., Any]
) -> None:
    table = Balancer(catalog(endpoint("b")), seed=1)
    table.announce("b", "major_outage", now=100.0, lasting=1e6)
    table.apply(catalog(endpoint("b"), endpoint("b/eu")), now=101.0)
    assert table.endpoint(f"{MODEL}@b/eu", now=101.0).state == "degraded"
    table.apply(catalog(endpoint("a")), now=102.0)
    table.apply(catalog(endpoint("a"), endpoint("b")), now=103.0)
    assert table.endpoint(B, now=103.0).state == "unverified"


def test_a_page_that_is_asked_no_more_says_nothing(pair: Balancer) -> None:
    for provider in ("a", "b"):
        pair.announce(provider, "major_outage", now=100.0, lasting=1e6)
    pair.retain(reporters=(), targets=(), pages=["b"], now=101.0)
    assert list(pair.view(now=101.0).announcements) == ["b"]
    assert pair.endpoint(A, now=101.0).state == "healthy"
    assert ("provider.announced", "a", None, "its status page is not asked any more") in events(pair)


def test_nobody_speaks_for_a_provider_that_is_not_there(pair: Balancer) -> None:
    with pytest.raises(KeyError):
        pair.announce("c", "major_outage", now=100.0, lasting=1e6)


def test_readers_who_ask_about_the_same_moment_see_the_same(pair: Balancer) -> None:
    pair.announce("a", "partial_outage", now=100.0, lasting=500.0)
    before = pair.dump(now=100.0)
    seen = [(first(pair, now), pair.endpoint(A, now=now).state) for now in (100.0, 599.0, 600.0, 100.0)]
    assert seen == [(B, "degraded"), (B, "degraded"), (A, "healthy"), (B, "degraded")]
    assert pair.dump(now=100.0) == before
