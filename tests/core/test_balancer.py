from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.balancer import Balancer
from balancer.core.doubt import SILENCE
from balancer.core.model import (
    Catalog,
    Decision,
    Endpoint,
    HealthPolicy,
    Limits,
    Model,
    NoEndpoint,
    PriceOverride,
    Pricing,
    Routing,
)
from balancer.core.outcome import COUNTS, KINDS, Outcome
from balancer.core.request import Cutoffs, Request
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
        self.table.self_suspicion(self.now)
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


# ---- the memo and the truth --------------------------------------------------------------------------

QUARTERS = st.integers(0, 160).map(lambda number: number / 4)
PAUSES = st.one_of(QUARTERS, st.sampled_from((0.0, 30.0, 299.75, 300.0, 1800.0, 7200.0, 90_000.0)))
HAPPENINGS = st.one_of(
    st.tuples(st.just("report"), st.integers(0, 5), st.sampled_from(KINDS), st.integers(1, 6), PAUSES),
    st.tuples(st.just("probe"), st.integers(0, 5), st.sampled_from(KINDS), st.integers(1, 4), PAUSES),
    st.tuples(st.just("success"), st.integers(0, 5), st.just("success"), st.integers(1, 30), st.just(0.0)),
    st.tuples(st.sampled_from(("drain", "resume")), st.integers(0, 5), st.none(), st.just(1), PAUSES),
    st.tuples(st.just("best"), st.integers(0, 9), st.none(), st.integers(1, 12), st.just(0.0)),
)
STORIES = st.lists(st.tuples(PAUSES, HAPPENINGS), max_size=20)
Happening = tuple[str, int, Any, int, float]


@pytest.fixture(scope="module")
def questions(ask: MakeRequest) -> list[Request]:
    """One for each way through the router."""
    return [
        ask(),
        ask(prompt_tokens=5000, max_tokens=100, max_price_prompt=2.0),
        ask(order=("p3", "p1")),
        ask(exclude=("p1",), require=("tools",)),
        ask(f"{MODEL}:nitro"),
        ask(f"{MODEL}:floor"),
        ask(f"{MODEL}:exacto", session_id="s"),
        ask(models=("author/other",), partition="none", sort="latency"),
        ask("author/other", models=(MODEL,), conversation="c"),
        ask(preferred_max_latency=Cutoffs(p90=0.5), preferred_min_throughput=Cutoffs(p50=30.0)),
    ]


@pytest.fixture(scope="module")
def worlds(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Callable[[Routing], Catalog]:
    """Two models with prices that change by the hour and the cache, limits, tiers, shared fates and priorities."""
    hourly = PriceOverride(start=0, end=60, prompt=0.5)
    long = PriceOverride(min_prompt_tokens=1000, prompt=3.0)
    endpoints = [
        endpoint("p0", pricing=Pricing(prompt=1.0, completion=2.0, input_cache_read=0.1)),
        endpoint("p1", pricing=Pricing(prompt=1.5, completion=1.0, overrides=(hourly, long))),
        endpoint("p2", price=1.1, limits=Limits(rpm=8, tpm=100_000), quota="p2"),
        endpoint("p3", price=0.9, priority=1, supported_parameters=frozenset({"seed"})),
        endpoint("p4/flex", price=0.2, tier="flex"),
        endpoint("p5", price=1.2, base_url="https://p0.example/v2", cache_ttl=60.0),
        endpoint("p0", model="author/other", price=0.7),
        endpoint("p6", model="author/other", price=None),
    ]
    health = HealthPolicy(ramp_requests=3, hold=2.0, hold_max=8.0)
    return lambda routing: catalog(*endpoints, routing=routing, health=health)


class World:
    """A table to which things happen, and which is asked for everything at these moments before and after now."""

    def __init__(
        self, catalog: Catalog, questions: list[Request], *, seed: int, looks: tuple[float, ...] = ()
    ) -> None:
        self.table = Balancer(catalog, seed=seed)
        self.keys, self.questions, self.looks = list(catalog.endpoints), questions, looks
        self.now = 0.0
        self.table.set_wall(3000.0, now=0.0)  # ten minutes before the hour of lower prices ends

    def happen(self, pause: float, happening: Happening) -> None:
        what, place, kind, times, span = happening
        self.now += pause
        self.look()
        if what == "drain":
            self.table.drain(self.keys[place], now=self.now, until=self.now + span)
        elif what == "resume":
            self.table.resume(self.keys[place], now=self.now)
        elif what == "best":
            for _ in range(times):
                self.decide(self.questions[place % len(self.questions)])
        else:
            for number in range(times):
                told = Outcome(
                    kind=kind,
                    latency=1.0 + place,
                    ttft=0.2 + place / 10,
                    prompt_tokens=1000,
                    completion_tokens=10 * (1 + place),
                    cached_tokens=900 if number % 2 else 0,
                    tool_call_errors=number % 3,
                    retry_after=span if times == 2 else None,
                    shallow=what == "probe" and times % 2 == 0,
                )
                self.table.record(
                    self.keys[place],
                    told,
                    now=self.now,
                    age=span if number % 2 else 0.0,
                    source="probe" if what == "probe" else "report",
                )
        self.look()

    def decide(self, request: Request) -> None:
        try:
            decision = self.table.best(request, now=self.now)
        except NoEndpoint:
            return
        bad = decision.trial and self.now % 2 > 1
        self.table.record(decision.selected.id, BAD if bad else OK, now=self.now, decision=decision.id)

    def look(self) -> None:
        for look in self.looks:
            self.seen(max(0.0, self.now + look))

    def seen(self, now: float) -> list[object]:
        """All that can be read of it: what each request would get and why, and the view."""
        found: list[object] = [self.table.view(now=now)]
        for request in self.questions:
            for flags in ({"dry": True}, {"explain": True}):
                try:
                    found.append(self.table.best(request, now=now, **flags))
                except NoEndpoint as refusal:
                    found.append((refusal.code, str(refusal), refusal.retry_after, refusal.considered))
        return found


LOOKS = st.sampled_from(((0.0,), (40.0,), (-40.0,), (0.0, 40.0, -40.0), (300.0, -300.0, 0.0)))
ROUTINGS = st.sampled_from(
    (
        Routing(),
        Routing(value_of_time=0.0001),
        Routing(strategy="price"),
        Routing(strategy="weighted"),
        Routing(strategy="least_loaded"),
    )
)


@settings(deadline=None, max_examples=60)
@given(STORIES, PAUSES, LOOKS, st.integers(0, 9), ROUTINGS)
def test_a_table_that_is_asked_all_the_time_answers_as_one_that_is_asked_once(
    worlds: Callable[[Routing], Catalog],
    questions: list[Request],
    story: list[tuple[float, Happening]],
    pause: float,
    looks: tuple[float, ...],
    seed: int,
    routing: Routing,
) -> None:
    asked = World(worlds(routing), questions, seed=seed, looks=looks)
    unasked = World(worlds(routing), questions, seed=seed)
    for each in story:
        asked.happen(*each)
        unasked.happen(*each)
    now = asked.now + pause
    assert asked.seen(now) == unasked.seen(now)


@settings(deadline=None, max_examples=60)
@given(STORIES, PAUSES, LOOKS, st.integers(0, 9), ROUTINGS)
def test_what_is_remembered_of_a_table_answers_as_a_router_that_remembers_nothing(
    worlds: Callable[[Routing], Catalog],
    questions: list[Request],
    story: list[tuple[float, Happening]],
    pause: float,
    looks: tuple[float, ...],
    seed: int,
    routing: Routing,
) -> None:
    world = World(worlds(routing), questions, seed=seed, looks=looks)
    for each in story:
        world.happen(*each)
    now = world.now + pause
    before = world.seen(now)[1:]
    world.table.apply(worlds(routing), now=now)
    assert world.seen(now)[1:] == before


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
    assert pair.self_suspicion(0.0) is None
    pair.record(A, Outcome(kind="local"), now=10.0, source="probe")
    assert pair.self_suspicion(10.0) is not None
    assert pair.view(now=69.9).self_suspect
    assert pair.self_suspicion(10.0 + SILENCE) is None
    pair.record(B, Outcome(kind="timeout"), now=20.0)
    assert pair.self_suspicion(20.0) is not None
    pair.record(B, OK, now=21.0)
    assert pair.self_suspicion(21.0) is None


def test_report_ages_are_of_reports_only(pair: Balancer) -> None:
    assert pair.evidence(A, now=5.0) == (None, None, "calm")
    with pytest.raises(KeyError):
        pair.evidence("nobody", now=5.0)
    pair.record(A, OK, now=5.0, source="probe")
    assert pair.evidence(A, now=5.0).report_age is None
    pair.record(A, OK, now=6.0, age=2.0)
    pair.record(A, OK, now=6.0, age=3.0)
    assert pair.evidence(A, now=10.0).report_age == 6.0
    assert pair.evidence(B, now=10.0) == (None, 6.0, "calm")
    assert pair.endpoint(A, now=10.0).evidence_age == 5.0


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


def test_a_model_without_endpoints_is_refused(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    world = catalog(endpoint("a"))
    empty = replace(world, models={**world.models, "author/empty": Model(id="author/empty", name="Empty")})
    with pytest.raises(NoEndpoint, match="none of the 0 endpoints"):
        Balancer(empty, seed=1).best(ask("author/empty"), now=0.0)


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
