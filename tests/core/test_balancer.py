from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.balancer import LOCAL_AGE, TRANSITIONS_MAX, Balancer
from balancer.core.model import Catalog, Decision, Endpoint, HealthPolicy, Model, NoEndpoint, Request, Routing
from balancer.core.outcome import COUNTS, KINDS, Outcome
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


@pytest.fixture
def pair(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Balancer:
    return Balancer(catalog(endpoint("a"), endpoint("b"), aliases={MODEL: ("slug",)}), seed=1)


def events(table: Balancer, after: int = 0) -> list[tuple[str, str | None]]:
    return [(each.event, each.endpoint) for each in table.transitions(after)]


def last_number(table: Balancer) -> int:
    return table.transitions(0)[-1].number


def answer(table: Balancer, request: Request, now: float) -> Decision | tuple[str, float | None]:
    try:
        return table.best(request, now=now)
    except NoEndpoint as refusal:
        return refusal.code, refusal.retry_after


# ---- same seed, same calls, same answers -------------------------------------------------------------

calls = st.lists(
    st.tuples(
        st.sampled_from(("best", "best", "best", "record", "record", "drain", "resume", "apply")),
        st.integers(0, 4),
        st.sampled_from(KINDS),
        st.floats(0, 40),
        st.integers(1, 6),
        st.booleans(),
    ),
    max_size=30,
)


class Played:
    """A table that lives through a story, with or without somebody who reads all the time."""

    def __init__(self, catalogs: list[Catalog], asks: list[Request], *, seed: int, read: bool) -> None:
        self.table = Balancer(catalogs[0], seed=seed)
        self.catalogs, self.asks, self.read = catalogs, asks, read
        self.now = 0.0
        self.answers: list[object] = []
        self.decision: Decision | None = None

    def play(self, what: str, place: int, kind: str, pause: float, times: int, carries: bool) -> None:
        self.now += pause
        self.look()
        target = f"{MODEL}@p{place}"
        if what == "best":
            for _ in range(times):
                found = answer(self.table, self.asks[place % len(self.asks)], self.now)
                self.answers.append(found)
                if isinstance(found, Decision):
                    self.decision = found
        elif what == "record":
            decision = self.decision if carries else None
            for _ in range(times):
                self.answers.append(
                    self.table.record(
                        target if decision is None else decision.selected.id,
                        Outcome(kind=kind, latency=pause / 10, shallow=times == 2),  # type: ignore[arg-type]
                        now=self.now,
                        age=pause if times == 3 else 0.0,
                        decision=None if decision is None else decision.id,
                        source="probe" if times == 2 else "report",
                    )
                )
        elif what == "drain":
            self.answers.append(self.table.drain(target, now=self.now, until=self.now + pause))
        elif what == "resume":
            self.answers.append(self.table.resume(target, now=self.now))
        else:
            self.table.apply(self.catalogs[place % len(self.catalogs)], now=self.now)
        self.look()

    def look(self) -> None:
        if not self.read:
            return
        self.table.view(now=self.now + 5)
        self.table.transitions(0)
        self.table.endpoint(f"{MODEL}@p0", now=self.now)
        self.table.self_suspect(self.now)
        for request in self.asks:
            for flags in ({"explain": True}, {"dry": True}):
                try:
                    self.table.best(request, now=self.now, **flags)
                except NoEndpoint:
                    continue


@settings(deadline=None)
@given(calls, st.integers(0, 99), st.sampled_from(("adaptive", "price")))
def test_the_same_calls_give_the_same_answers_however_much_is_read_between(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, story: list[Any], seed: int, strategy: str
) -> None:
    routing = Routing(strategy=strategy)  # type: ignore[arg-type]
    health = HealthPolicy(ramp_requests=3, hold=2.0, hold_max=8.0)
    endpoints = [endpoint(f"p{place}", price=1.0 + place % 2) for place in range(5)]
    catalogs = [
        catalog(*endpoints, routing=routing, health=health),
        catalog(*endpoints, routing=replace(routing, failure_price=1.0), health=health),
        catalog(*(replace(each, identity="2") for each in endpoints), routing=routing, health=health),
    ]
    asks = [ask(), ask(order=("p3",)), ask(exclude=("p1",)), ask(ignore=("p0", "p2"))]
    unread = Played(catalogs, asks, seed=seed, read=False)
    read = Played(catalogs, asks, seed=seed, read=True)
    for step in story:
        unread.play(*step)
        read.play(*step)
    assert read.answers == unread.answers
    assert read.table.view(now=read.now) == unread.table.view(now=unread.now)
    assert read.table.transitions(0) == unread.table.transitions(0)


def test_another_seed_may_choose_otherwise(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    world = catalog(endpoint("a"), endpoint("b"))
    assert {Balancer(world, seed=seed).best(ask(), now=0.0).selected.id for seed in range(20)} == {A, B}


def test_what_would_be_chosen_is_what_is_chosen_next(pair: Balancer, ask: MakeRequest) -> None:
    for now in range(20):
        dry = pair.best(ask(), now=float(now), dry=True)
        told = pair.best(ask(), now=float(now), explain=True)
        assert dry.selected == told.selected == pair.best(ask(), now=float(now)).selected


def test_decision_ids_are_unique(pair: Balancer, ask: MakeRequest) -> None:
    assert len({pair.best(ask(), now=0.0).id for _ in range(1000)}) == 1000


# ---- what a decision counts --------------------------------------------------------------------------


def test_decisions_and_selections_are_counted_by_their_result(pair: Balancer, ask: MakeRequest, fail: Fail) -> None:
    first = pair.best(ask(), now=0.0).selected.id
    with pytest.raises(NoEndpoint):
        pair.best(ask(region="eu"), now=0.0)
    for tag in ("a", "b"):
        fail(pair, tag, now=1.0)
    for _ in range(3):
        pair.best(ask(), now=2.0)
    view = pair.view(now=2.0)
    assert dict(view.decisions) == {
        (MODEL, "adaptive", "selected"): 1,
        (MODEL, "adaptive", "constraint_filtered"): 1,
        (MODEL, "adaptive", "panic"): 3,
    }
    assert sum(each.selections for each in view.endpoints) == 4
    assert next(each for each in view.endpoints if each.id == first).selections >= 1


def test_a_decision_says_how_old_its_evidence_is(pair: Balancer, ask: MakeRequest) -> None:
    assert pair.best(ask(), now=0.0).evidence_age is None
    for key in (A, B):
        pair.record(key, OK, now=10.0, age=4.0)
    assert pair.best(ask(), now=12.0).evidence_age == 6.0


# ---- records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["probe", "report"])
def test_every_outcome_moves_exactly_its_own_counters(pair: Balancer, kind: str, source: str) -> None:
    pair.record(A, Outcome(kind=kind), now=1.0, source=source)  # type: ignore[arg-type]
    view = pair.endpoint(A, now=1.0)
    other = "report" if source == "probe" else "probe"
    counts = COUNTS[kind]  # type: ignore[index]
    expected = Counts(counts == "success", counts == "failure", counts == "rate_limited")
    assert dict(view.outcomes) == {(source, kind): 1}
    assert set(view.windows[source].values()) == {expected}  # type: ignore[index]
    assert set(view.windows[other].values()) == {Counts()}  # type: ignore[index]
    assert pair.endpoint(B, now=1.0).outcomes == {}


def test_a_late_report_counts_in_the_bucket_in_which_it_ended(pair: Balancer) -> None:
    assert pair.record(A, BAD, now=1000.0, age=400.0)
    windows = pair.endpoint(A, now=1000.0).windows["report"]
    assert {name: counts.failure for name, counts in windows.items()} == {"30s": 0, "5m": 0, "30m": 1, "1d": 1}


def test_what_is_older_than_the_longest_window_is_stale_and_changes_nothing(pair: Balancer) -> None:
    before, number = pair.view(now=1e6), last_number(pair)
    for outcome in (OK, BAD, LIMITED, Outcome(kind="refused"), Outcome(kind="local")):
        assert pair.record(A, outcome, now=1e6, age=86_400.0) is False
    assert pair.view(now=1e6) == before
    assert last_number(pair) == number
    assert pair.record(A, OK, now=1e6, age=86_399.0) is True


def test_an_unknown_endpoint_is_a_key_error_and_changes_nothing(pair: Balancer) -> None:
    before = pair.view(now=1.0)
    for call in (
        lambda: pair.record("nobody@home", BAD, now=1.0),
        lambda: pair.endpoint("nobody@home", now=1.0),
        lambda: pair.drain("nobody", now=1.0),
        lambda: pair.resume("nobody", now=1.0),
    ):
        with pytest.raises(KeyError, match="nobody"):
            call()
    assert pair.view(now=1.0) == before


def test_a_429_holds_and_is_no_error(pair: Balancer, ask: MakeRequest) -> None:
    for _ in range(50):
        pair.record(A, LIMITED, now=1.0)
    view = pair.endpoint(A, now=1.0)
    assert (view.state, view.next_at, view.ejections) == ("throttled", 31.0, {})
    assert view.windows["report"]["30s"].error_ratio is None
    assert view.windows["report"]["30s"].rate_limited_ratio == 1.0
    assert view.success_estimate < 0.5
    assert pair.best(ask(), now=30.9).selected.id == B
    assert pair.endpoint(A, now=31.0).state != "throttled"


def test_the_watcher_doubts_itself_until_something_works(pair: Balancer) -> None:
    assert not pair.self_suspect(0.0)
    pair.record(A, Outcome(kind="local"), now=10.0, source="probe")
    assert pair.self_suspect(10.0)
    assert pair.view(now=69.9).self_suspect
    assert not pair.self_suspect(10.0 + LOCAL_AGE)
    pair.record(B, BAD, now=20.0)
    assert pair.self_suspect(20.0)
    pair.record(B, OK, now=21.0)
    assert not pair.self_suspect(21.0)


def test_report_ages_are_of_reports_only(pair: Balancer) -> None:
    assert pair.report_age(A, now=5.0) is None
    assert pair.report_age("nobody", now=5.0) is None
    pair.record(A, OK, now=5.0, source="probe")
    assert pair.report_age(A, now=5.0) is None
    pair.record(A, OK, now=6.0, age=2.0)
    pair.record(A, OK, now=6.0, age=3.0)
    assert pair.report_age(A, now=10.0) == 6.0
    assert pair.endpoint(A, now=10.0).evidence_age == 5.0


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


# ---- transitions -------------------------------------------------------------------------------------


def test_every_change_is_told_once_with_its_reason_and_its_next_moment(
    pair: Balancer, ask: MakeRequest, fail: Fail
) -> None:
    number = last_number(pair)
    pair.record(A, OK, now=5.0)
    fail(pair, "a", now=6.0)
    until = pair.endpoint(A, now=6.0).next_at
    trial = pair.best(ask(), now=100.0)
    pair.record(A, OK, now=101.0, decision=trial.id)
    for _ in range(10):
        pair.record(A, OK, now=110.0)
    pair.record(A, LIMITED, now=120.0)
    told = [(each.event, each.endpoint, each.state, each.next_at) for each in pair.transitions(number)]
    assert told == [
        ("endpoint.healthy", A, "healthy", None),
        ("endpoint.degraded", A, "degraded", None),
        ("endpoint.ejected", A, "ejected", until),
        ("endpoint.trial_started", A, "half_open", 100.0 + trial.selected.timeouts.total),
        ("endpoint.readmitted", A, "recovering", None),
        ("endpoint.recovered", A, "degraded", None),
        ("endpoint.throttled", A, "throttled", 150.0),
    ]


def test_an_endpoint_whose_every_call_failed_is_not_called_healthy(pair: Balancer) -> None:
    number = last_number(pair)
    pair.record(A, BAD, now=1.0)
    assert pair.endpoint(A, now=1.0).state == "unverified"
    assert ("endpoint.healthy", A) not in events(pair, number)


def test_numbers_grow_by_one_and_history_is_bounded(pair: Balancer) -> None:
    for step in range(TRANSITIONS_MAX):
        pair.drain("a", now=float(step))
    told = pair.transitions(0)
    assert len(told) == TRANSITIONS_MAX
    numbers = [each.number for each in told]
    assert numbers == list(range(numbers[0], numbers[0] + TRANSITIONS_MAX))
    assert [each.number for each in pair.transitions(numbers[-3])] == numbers[-2:]
    assert pair.transitions(numbers[-1]) == []
    assert pair.transitions(10**9) == []


def test_panic_is_told_when_it_begins_and_when_it_ends(pair: Balancer, ask: MakeRequest, fail: Fail) -> None:
    number = last_number(pair)
    for tag in ("a", "b"):
        fail(pair, tag, now=1.0)
    pair.best(ask(), now=2.0)
    trial = pair.best(ask(), now=2.0)
    pair.best(ask(), now=2.0)
    pair.record(trial.selected.id, OK, now=3.0, decision=trial.id)
    pair.best(ask(), now=3.0)
    told = [(each.event, each.model) for each in pair.transitions(number) if each.event.startswith("model.")]
    assert told == [("model.panic_entered", MODEL), ("model.panic_left", MODEL)]


def test_a_model_without_endpoints_is_refused(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    world = catalog(endpoint("a"))
    empty = replace(world, models={**world.models, "author/empty": Model(id="author/empty", name="Empty")})
    with pytest.raises(NoEndpoint, match="none of the 0 endpoints"):
        Balancer(empty, seed=1).best(ask("author/empty"), now=0.0)


# ---- what a reader is not told, and what is refused ----------------------------------------------------


def test_a_reader_is_not_told_the_name_of_the_next_decision(pair: Balancer, ask: MakeRequest) -> None:
    read = {pair.best(ask(), now=1.0, dry=True).id, pair.best(ask(), now=1.0, explain=True).id}
    assert pair.best(ask(), now=1.0).id not in read


def test_reading_is_never_a_trial(pair: Balancer, ask: MakeRequest, fail: Fail) -> None:
    fail(pair, "a", now=1.0)
    due = 100.0
    for reading in ({"dry": True}, {"explain": True}):
        decision = pair.best(ask(), now=due, **reading)
        assert (decision.trial, decision.selected.id, decision.valid_for) == (False, B, 5.0)
    decision = pair.best(ask(), now=due)
    assert (decision.trial, decision.selected.id, decision.valid_for) == (True, A, 0.0)


def test_a_trial_that_was_never_reported_is_told_to_have_lapsed(
    pair: Balancer, ask: MakeRequest, fail: Fail
) -> None:
    fail(pair, "a", now=1.0)
    assert pair.best(ask(), now=100.0).trial
    number = last_number(pair)
    assert pair.best(ask(), now=1000.0).trial
    assert events(pair, number)[:2] == [("endpoint.trial_lapsed", A), ("endpoint.trial_started", A)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"age": float("nan")},
        {"age": -1.0},
        {"age": float("inf")},
        {"duration": -0.1},
        {"outcome": Outcome(kind="success", latency=float("nan"))},
        {"outcome": Outcome(kind="success", ttft=-1.0)},
        {"outcome": Outcome(kind="rate_limited", retry_after=float("inf"))},
    ],
    ids=str,
)
def test_a_span_that_is_none_is_refused_and_nothing_is_recorded(pair: Balancer, wrong: dict[str, Any]) -> None:
    before = pair.view(now=10.0)
    with pytest.raises(ValueError, match="is no span of time"):
        pair.record(A, now=10.0, **{"outcome": OK, **wrong})
    assert pair.view(now=10.0) == before
