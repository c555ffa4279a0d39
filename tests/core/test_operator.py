"""What the operator does to the table: new configurations, drains, and the end of drains."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, HealthPolicy, NoEndpoint, Routing, TimeoutPolicy
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.core.window import Counts

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]
Fail = Callable[..., None]

MODEL = "author/slug"
A = f"{MODEL}@a"
B = f"{MODEL}@b"
OK = Outcome(kind="success", latency=1.0, ttft=0.2)
BAD = Outcome(kind="server_error", status=500)
LIMITED = Outcome(kind="rate_limited", status=429, retry_after=30.0)


def events(table: Balancer, after: int = 0) -> list[tuple[str, str | None]]:
    return [(each.event, each.endpoint) for each in table.transitions(after)]


def last_number(table: Balancer) -> int:
    return table.transitions(0)[-1].number


# ---- applying a configuration ------------------------------------------------------------------------


def test_an_unchanged_endpoint_keeps_its_evidence_whatever_else_changes(
    endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    fail(table, "a", now=1.0)
    table.record(B, LIMITED, now=1.0)
    before = {each.id: each for each in table.view(now=2.0).endpoints}
    table.apply(catalog(endpoint("a", price=7.0, weight=2.0, region="eu"), endpoint("b"), endpoint("c")), now=2.0)
    after = {each.id: each for each in table.view(now=2.0).endpoints}
    for key in (A, B):
        assert (after[key].state, after[key].next_at) == (before[key].state, before[key].next_at)
        assert (after[key].windows, after[key].outcomes) == (before[key].windows, before[key].outcomes)
    assert after[A].endpoint.weight == 2.0
    assert after[f"{MODEL}@c"].state == "unverified"
    assert table.generation == 2


def test_a_changed_identity_starts_anew(endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    fail(table, "a", now=1.0)
    number = last_number(table)
    table.apply(catalog(endpoint("a", identity="2"), endpoint("b")), now=2.0)
    view = table.endpoint(A, now=2.0)
    assert (view.state, view.outcomes, view.ejections, view.failures) == ("unverified", {}, {}, ())
    assert [(each.event, each.reason) for each in table.transitions(number)] == [
        ("endpoint.added", "address, model or credential changed")
    ]


def test_a_changed_credential_clears_misconfigured(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table = Balancer(catalog(endpoint("a", misconfigured="A_KEY is not set"), endpoint("b")), seed=1)
    assert table.endpoint(A, now=0.0).state == "misconfigured"
    for _ in range(3):
        table.record(B, Outcome(kind="refused", status=401), now=1.0)
    assert table.endpoint(B, now=1.0).state == "misconfigured"
    table.apply(catalog(endpoint("a", identity="2"), endpoint("b", identity="2")), now=2.0)
    assert [each.state for each in table.view(now=2.0).endpoints] == ["unverified", "unverified"]


def test_a_removed_endpoint_is_gone_with_all_that_was_its(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("x", model="author/gone")), seed=1)
    number = last_number(table)
    table.apply(catalog(endpoint("a")), now=1.0)
    assert [each.id for each in table.view(now=1.0).endpoints] == [A]
    assert [each.id for each in table.view(now=1.0).models] == [MODEL]
    with pytest.raises(KeyError):
        table.record(B, OK, now=1.0)
    with pytest.raises(NoEndpoint, match="no model 'author/gone'"):
        table.best(ask("author/gone"), now=1.0)
    assert events(table, number) == [("endpoint.removed", B), ("endpoint.removed", "author/gone@x")]


def test_whose_providers_others_are_removed_is_judged_without_them(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    x, y = endpoint("p/x"), endpoint("p/y", model="author/other")
    table = Balancer(catalog(x, y), seed=1)
    before = table.endpoint(x.id, now=1.0).success_estimate
    for step in range(20):
        table.record(y.id, BAD, now=1.0 + step * 60.0)
    assert table.endpoint(x.id, now=1200.0).success_estimate < before
    table.apply(catalog(x), now=1200.0)
    assert table.endpoint(x.id, now=1200.0).success_estimate == pytest.approx(before)


def test_removals_are_told_in_the_configured_order(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    tags = [f"p{place}" for place in range(40)]
    table = Balancer(catalog(*(endpoint(tag) for tag in tags)), seed=1)
    number = last_number(table)
    table.apply(catalog(endpoint("p0")), now=1.0)
    assert events(table, number) == [("endpoint.removed", f"{MODEL}@{tag}") for tag in tags[1:]]


def test_new_spans_empty_the_windows_and_nothing_else(
    endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    fail(table, "a", now=1.0)
    before = table.endpoint(A, now=2.0)
    table.apply(catalog(endpoint("a"), endpoint("b"), health=HealthPolicy(windows=(60.0, 600.0))), now=2.0)
    after = table.endpoint(A, now=2.0)
    assert after.windows["report"] == {"1m": Counts(), "10m": Counts()}
    assert (after.state, after.next_at, after.outcomes) == ("ejected", before.next_at, before.outcomes)
    assert table.record(A, OK, now=700.0, age=600.0) is False


def test_a_new_strategy_holds_from_the_next_question(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    assert table.best(ask(), now=0.0).strategy == "adaptive"
    table.apply(catalog(endpoint("a"), routing=Routing(strategy="price", valid_for=1.0)), now=0.0)
    decision = table.best(ask(), now=0.0)
    assert (decision.strategy, decision.valid_for) == ("price", 1.0)
    assert table.catalog.routing.strategy == "price"


def test_new_bounds_of_timeouts_hold_from_the_next_question(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    assert table.best(ask(), now=0.0).selected.timeouts.total == 120.0
    table.apply(catalog(endpoint("a"), routing=Routing(timeouts=TimeoutPolicy(total_max=40.0))), now=0.0)
    assert table.best(ask(), now=0.0).selected.timeouts.total == 40.0


def test_what_a_reload_changed_of_an_endpoint_is_in_the_next_answer(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    assert table.best(ask(), now=0.0).selected.api == "openai"
    table.apply(catalog(endpoint("a", api="anthropic", region="eu")), now=0.0)
    assert table.best(ask(region="eu"), now=0.0).selected.api == "anthropic"


def test_a_session_of_an_endpoint_that_is_another_now_begins_anew(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=2.0)), seed=1)
    table.best(ask(session_id="s", only=("b",)), now=0.0)
    table.apply(catalog(endpoint("a"), endpoint("b", price=3.0)), now=1.0)
    kept = table.best(ask(session_id="s"), now=1.0, dry=True)
    assert (kept.selected.tag, kept.sticky) == ("b", True)
    table.apply(catalog(endpoint("a"), endpoint("b", price=3.0, identity="2")), now=2.0)
    anew = table.best(ask(session_id="s"), now=2.0, dry=True)
    assert (anew.selected.tag, anew.sticky) == ("a", False)


# ---- drains ------------------------------------------------------------------------------------------


@pytest.fixture
def doors(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Balancer:
    return Balancer(
        catalog(
            endpoint("a/eu"),
            endpoint("a/us"),
            endpoint("b"),
            endpoint("a/eu", model="author/other"),
            aliases={MODEL: ("slug",)},
        ),
        seed=1,
    )


EU, US, OTHER = f"{MODEL}@a/eu", f"{MODEL}@a/us", "author/other@a/eu"


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (EU, [EU]),
        ("a/eu", [EU, OTHER]),
        ("a", [EU, US, OTHER]),
        (MODEL, [EU, US, B]),
        ("slug", [EU, US, B]),
        ("author/other", [OTHER]),
    ],
    ids=["endpoint", "tag", "provider", "model", "alias", "other model"],
)
def test_a_drain_means_an_endpoint_a_tag_a_provider_or_a_model(
    doors: Balancer, target: str, meant: list[str]
) -> None:
    assert doors.drain(target, now=1.0, reason="upgrade") == meant
    drained = [each for each in doors.view(now=2.0).endpoints if each.state == "drained"]
    assert [each.id for each in drained] == meant
    assert {each.reason for each in drained} == {"upgrade"}
    assert doors.resume(target, now=3.0) == meant
    assert all(each.state != "drained" for each in doors.view(now=3.0).endpoints)
    assert doors.view(now=3.0).drains == ()


def test_a_drain_ends_at_its_time(doors: Balancer, ask: MakeRequest) -> None:
    doors.drain(MODEL, now=1.0, until=61.0)
    with pytest.raises(NoEndpoint):
        doors.best(ask(), now=60.9)
    assert len(doors.view(now=60.9).drains) == 1
    assert doors.best(ask(), now=61.0).selected.state == "unverified"
    assert doors.view(now=61.0).drains == ()


def test_only_the_exact_target_is_resumed_and_the_longest_drain_shows(doors: Balancer) -> None:
    doors.drain("a", now=1.0, reason="whole provider")
    doors.drain(EU, now=1.0, until=100.0, reason="one door")
    view = doors.endpoint(EU, now=2.0)
    assert (view.reason, view.next_at) == ("whole provider", None)
    assert doors.resume("a", now=3.0) == [EU, US, OTHER]
    view = doors.endpoint(EU, now=3.0)
    assert (view.state, view.reason, view.next_at) == ("drained", "one door", 100.0)
    assert doors.endpoint(US, now=3.0).state == "unverified"
    assert doors.resume(US, now=3.0) == []
    assert doors.resume(EU, now=3.0) == [EU]


def test_a_model_drained_by_its_alias_is_resumed_by_its_id(doors: Balancer) -> None:
    doors.drain("slug", now=1.0)
    assert doors.resume(MODEL, now=2.0) == [EU, US, B]
    assert doors.endpoint(EU, now=2.0).state == "unverified"


def test_a_drain_outlives_a_reload_and_meets_newcomers(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    table.drain("a", now=1.0)
    table.apply(catalog(endpoint("a", identity="2"), endpoint("a/eu"), endpoint("b")), now=2.0)
    assert [each.state for each in table.view(now=2.0).endpoints] == ["drained", "drained", "unverified"]


def test_to_resume_is_also_to_forgive_refusals(pair: Balancer) -> None:
    for _ in range(3):
        pair.record(A, Outcome(kind="refused", status=401), now=1.0)
    assert pair.endpoint(A, now=1.0).state == "misconfigured"
    assert pair.resume(A, now=2.0) == [A]
    assert pair.endpoint(A, now=2.0).state != "misconfigured"


def test_a_drain_of_a_door_means_its_copies_and_a_drain_of_a_copy_only_that(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    first, second = endpoint("a/eu"), endpoint("a/eu:2", door="a/eu")
    table = Balancer(catalog(first, second, endpoint("a/us")), seed=1)
    assert table.drain("a/eu:2", now=1.0) == [second.id]
    assert table.drain("a/eu", now=1.0) == [first.id, second.id]
    assert table.resume("a/eu:2", now=2.0) == [second.id]
    assert table.endpoint(second.id, now=2.0).state == "drained"


def test_the_empty_target_means_nobody(doors: Balancer) -> None:
    with pytest.raises(KeyError):
        doors.drain("", now=1.0)
    assert all(each.state != "drained" for each in doors.view(now=1.0).endpoints)
