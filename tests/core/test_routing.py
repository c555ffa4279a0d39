"""From a request to an order: precedence, trials, panic, refusals, explanations. Asked through the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.balancer import Balancer
from balancer.core.estimate import FLOOR
from balancer.core.model import Catalog, Considered, Decision, Endpoint, HealthPolicy, NoEndpoint, Routing
from balancer.core.outcome import Outcome
from balancer.core.refusal import SHOWN_MAX, UNKNOWN_MODEL
from balancer.core.request import NAME_MAX, Request
from balancer.core.routing import TRIAL_ANYWAY
from balancer.core.row import PROBES_FIRST

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]
Fail = Callable[..., None]

MODEL = "author/slug"
OK = Outcome(kind="success")
BAD = Outcome(kind="server_error", status=500)


def tags(decision: Decision) -> list[str]:
    return [decision.selected.tag, *(fallback.tag for fallback in decision.fallbacks)]


def refused(table: Balancer, request: Request, *, now: float, explain: bool = False) -> NoEndpoint:
    with pytest.raises(NoEndpoint) as caught:
        table.best(request, now=now, explain=explain)
    return caught.value


def hold_is_over(table: Balancer, tag: str, now: float) -> float:
    """The moment at which the endpoint's trial is due."""
    moment = table.endpoint(f"{MODEL}@{tag}", now=now).next_at
    assert moment is not None
    return moment


# ---- precedence --------------------------------------------------------------------------------------


def test_the_users_order_stands_above_priority_and_price(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(
        catalog(endpoint("a", price=1.0), endpoint("b", price=9.0, priority=5), endpoint("c", price=5.0)), seed=1
    )
    assert tags(table.best(ask(order=("b", "c")), now=0.0)) == ["b", "c", "a"]
    assert tags(table.best(ask(order=("b", "c"), allow_fallbacks=False), now=0.0)) == ["b", "c"]
    assert tags(table.best(ask(), now=0.0)) == ["a", "c", "b"]


def test_the_operators_priority_stands_above_the_score(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(
        catalog(endpoint("a", priority=1), endpoint("b", price=9.0), endpoint("c", priority=2)), seed=1
    )
    assert tags(table.best(ask(), now=0.0)) == ["b", "a", "c"]


def test_what_is_not_healthy_spills_to_the_next_priority(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", priority=1)), seed=1)
    fail(table, "a", now=1.0)
    decision = table.best(ask(), now=2.0)
    assert (tags(decision), decision.panic, decision.trial) == (["b"], False, False)


def test_a_slow_start_leads_its_share_of_picks_even_where_it_stands_first_by_priority(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", priority=1)), seed=1)
    fail(table, "a", now=1.0)
    trial = table.best(ask(), now=100.0)
    assert trial.trial
    table.record(trial.selected.id, OK, now=101.0, decision=trial.id)
    firsts = Counter(table.best(ask(), now=102.0).selected.tag for _ in range(2200))
    assert 130 <= firsts["a"] <= 270  # 1/11 of them, ± 5 standard deviations
    decision = table.best(ask(order=("a",)), now=102.0)
    assert decision.selected.tag == "a"


@pytest.mark.parametrize(
    ("routing", "wanted", "length"),
    [
        (Routing(), {}, 4),
        (Routing(fallbacks=0), {}, 1),
        (Routing(fallbacks=9), {}, 6),
        (Routing(), {"count": 1}, 2),
        (Routing(), {"count": 0}, 1),
        (Routing(), {"count": 99}, 6),
        (Routing(), {"allow_fallbacks": False}, 1),
        (Routing(), {"allow_fallbacks": False, "only": ("p1", "p2")}, 1),
        (Routing(), {"allow_fallbacks": False, "order": ("p1", "p2")}, 2),
    ],
)
def test_there_are_as_many_distinct_fallbacks_as_were_asked_for(
    endpoint: MakeEndpoint,
    catalog: MakeCatalog,
    ask: MakeRequest,
    routing: Routing,
    wanted: dict[str, object],
    length: int,
) -> None:
    table = Balancer(catalog(*(endpoint(f"p{place}") for place in range(6)), routing=routing), seed=1)
    found = tags(table.best(ask(**wanted), now=0.0))
    assert len(found) == len(set(found)) == length


# ---- trials ------------------------------------------------------------------------------------------


@pytest.fixture
def held(endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail) -> Balancer:
    """`a` is ejected, and its hold is over at 100; `b` is well, and dearer."""
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=2.0)), seed=1)
    fail(table, "a", now=1.0)
    table.record(f"{MODEL}@b", OK, now=1.0)
    return table


def test_before_the_hold_is_over_nobody_tries(held: Balancer, ask: MakeRequest) -> None:
    due = hold_is_over(held, "a", 2.0)
    assert not held.best(ask(), now=due - 0.001).trial
    assert held.best(ask(), now=due).trial


def test_a_trial_is_leased_once_and_only_the_selected_is_one(held: Balancer, ask: MakeRequest) -> None:
    first, second = held.best(ask(), now=100.0), held.best(ask(), now=100.0)
    assert (first.trial, first.selected.tag, first.selected.state, first.valid_for) == (True, "a", "half_open", 0.0)
    assert tags(first) == ["a", "b"]
    assert (second.trial, tags(second), second.valid_for) == (False, ["b"], 5.0)


def test_a_retry_is_no_place_for_an_experiment(held: Balancer, ask: MakeRequest) -> None:
    decision = held.best(ask(exclude=(f"{MODEL}@c",)), now=100.0)
    assert (decision.trial, tags(decision)) == (False, ["b"])


@pytest.mark.parametrize(
    ("wanted", "trial"), [({"order": ("b",)}, False), ({"order": ("b", "a")}, False), ({"order": ("a",)}, True)]
)
def test_a_trial_does_not_overrule_the_users_order(
    held: Balancer, ask: MakeRequest, wanted: dict[str, object], trial: bool
) -> None:
    assert held.best(ask(**wanted), now=100.0).trial == trial


def test_a_filter_keeps_an_endpoint_out_of_its_trial_too(held: Balancer, ask: MakeRequest) -> None:
    assert not held.best(ask(ignore=("a",)), now=100.0).trial


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(OK, "recovering"), (BAD, "ejected"), (Outcome(kind="caller_error"), "ejected")],
    ids=["passed", "failed", "undecided"],
)
def test_a_trial_ends_by_the_report_of_its_decision_and_by_no_other(
    held: Balancer, ask: MakeRequest, outcome: Outcome, state: str
) -> None:
    decision = held.best(ask(), now=100.0)
    key = decision.selected.id
    for other in (None, "dec_other"):
        held.record(key, outcome, now=101.0, decision=other)
        assert held.endpoint(key, now=101.0).state == "half_open"
    held.record(key, outcome, now=101.0, decision=decision.id)
    assert held.endpoint(key, now=101.0).state == state


def test_an_undecided_trial_is_tried_again_at_once(held: Balancer, ask: MakeRequest) -> None:
    decision = held.best(ask(), now=100.0)
    held.record(decision.selected.id, Outcome(kind="cancelled"), now=101.0, decision=decision.id)
    assert held.best(ask(), now=101.0).trial


def test_a_429_of_the_trial_waits_for_the_quota_and_not_for_a_longer_hold(held: Balancer, ask: MakeRequest) -> None:
    decision = held.best(ask(), now=100.0)
    limited = Outcome(kind="rate_limited", status=429, retry_after=60.0)
    held.record(decision.selected.id, limited, now=101.0, decision=decision.id)
    assert not held.best(ask(), now=160.9).trial
    assert held.best(ask(), now=161.0).trial


def test_a_trial_that_is_never_reported_expires(held: Balancer, ask: MakeRequest) -> None:
    first = held.best(ask(), now=100.0)
    expires = 100.0 + first.selected.timeouts.total
    assert held.endpoint(first.selected.id, now=100.0).next_at == expires
    assert not held.best(ask(), now=expires - 0.001).trial
    second = held.best(ask(), now=expires)
    assert (second.trial, second.id != first.id) == (True, True)


def test_the_one_whose_trial_is_longest_due_is_tried_first(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("c", price=2.0)), seed=1)
    fail(table, "b", now=1.0)
    fail(table, "a", now=50.0)
    trials = [table.best(ask(), now=100.0) for _ in range(3)]
    assert [(each.selected.tag, each.trial) for each in trials] == [("b", True), ("a", True), ("c", False)]


def test_a_request_is_a_trial_only_where_it_would_go_were_the_endpoint_well(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a", price=2.0), endpoint("b")), seed=1)
    table.record(f"{MODEL}@b", OK, now=1.0)
    fail(table, "a", now=1.0)
    due = hold_is_over(table, "a", 1.0)
    assert not any(table.best(ask(), now=due + later).trial for later in (0.0, 60.0, TRIAL_ANYWAY - 0.001))
    assert table.best(ask(), now=due + TRIAL_ANYWAY).trial  # lest nobody ever knows whether it is a fallback


@pytest.mark.parametrize(
    ("priority", "wanted", "trial"),
    [
        (0, {}, True),
        (2, {}, False),
        (1, {}, False),
        (2, {"order": ("a",)}, True),
        (0, {"order": ("b",)}, False),
        (1, {"only": ("a",)}, True),
    ],
    ids=["a level above", "a level below", "dearer", "asked for first", "asked for last", "nobody else"],
)
def test_what_stands_above_the_strategy_stands_above_the_question_who_would_lead(
    endpoint: MakeEndpoint,
    catalog: MakeCatalog,
    ask: MakeRequest,
    fail: Fail,
    priority: int,
    wanted: dict[str, object],
    trial: bool,
) -> None:
    table = Balancer(catalog(endpoint("a", price=9.0, priority=priority), endpoint("b", priority=1)), seed=1)
    table.record(f"{MODEL}@b", OK, now=1.0)
    fail(table, "a", now=1.0)
    assert table.best(ask(**wanted), now=100.0).trial == trial


def test_where_probes_do_real_work_one_of_them_is_the_trial(held: Balancer, ask: MakeRequest) -> None:
    held.record(f"{MODEL}@a", BAD, now=30.0, source="probe")
    due = hold_is_over(held, "a", 30.0)
    assert not held.best(ask(), now=due).trial
    assert not held.best(ask(), now=30.0 + PROBES_FIRST - 0.001).trial
    assert held.best(ask(), now=max(due, 30.0 + PROBES_FIRST)).trial


def test_where_health_only_watches_nobody_is_a_trial_nor_passed_over(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    policy = HealthPolicy(enforce=False)
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=2.0), health=policy), seed=1)
    table.record(f"{MODEL}@b", OK, now=1.0)
    fail(table, "a", now=1.0)
    for now in (1.0, 100.0, 1000.0):
        decision = table.best(ask(), now=now)
        assert (tags(decision), decision.trial, decision.panic) == (["a", "b"], False, False)
    assert table.endpoint(f"{MODEL}@a", now=1.0).state == "ejected"


# ---- panic -------------------------------------------------------------------------------------------


@pytest.fixture
def burning(endpoint: MakeEndpoint, catalog: MakeCatalog, fail: Fail) -> Balancer:
    """All three are ejected: `b` first, then `c`, then `a`."""
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("c")), seed=1)
    for now, tag in ((1.0, "b"), (20.0, "c"), (40.0, "a")):
        fail(table, tag, now=now)
    return table


def test_when_health_leaves_nobody_the_soonest_trial_leads_and_the_answer_says_so(
    burning: Balancer, ask: MakeRequest
) -> None:
    decision = burning.best(ask(), now=41.0)
    assert (tags(decision), decision.panic, decision.trial) == (["b", "c", "a"], True, True)
    assert burning.view(now=41.0).models[0].panic


def test_in_panic_who_shows_that_it_is_back_leads_long_before_its_hold_is_over(
    burning: Balancer, ask: MakeRequest
) -> None:
    for now in (42.0, 43.0):
        burning.record(f"{MODEL}@a", OK, now=now, source="probe")
    decision = burning.best(ask(), now=44.0)
    assert (decision.selected.tag, decision.panic) == ("a", True)


def test_in_panic_the_users_order_still_stands(burning: Balancer, ask: MakeRequest) -> None:
    assert tags(burning.best(ask(order=("a", "c")), now=41.0)) == ["a", "c", "b"]


def test_in_panic_everybody_is_tried_and_one_success_ends_it(burning: Balancer, ask: MakeRequest) -> None:
    decisions = [burning.best(ask(), now=41.0) for _ in range(4)]
    assert [each.selected.tag for each in decisions[:3]] == ["b", "c", "a"]
    assert [(each.panic, each.trial) for each in decisions] == [(True, True)] * 3 + [(True, False)]
    burning.record(decisions[2].selected.id, OK, now=42.0, decision=decisions[2].id)
    after = burning.best(ask(), now=42.0)
    assert (after.selected.tag, after.panic) == ("a", False)
    events = [each.event for each in burning.transitions(0) if each.event.startswith("model.")]
    assert events == ["model.panic_entered", "model.panic_left"]


def test_panic_overrules_health_and_nothing_else(burning: Balancer, ask: MakeRequest) -> None:
    burning.drain("b", now=40.0)
    burning.record(f"{MODEL}@c", Outcome(kind="rate_limited", status=429, retry_after=60.0), now=40.0)
    assert tags(burning.best(ask(), now=41.0)) == ["a"]
    assert refused(burning, ask(exclude=("a",)), now=41.0).code == "capacity_exhausted"
    assert refused(burning, ask(ignore=("a", "c")), now=41.0).code == "unavailable"


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("author/slg", ("author/slug",)),
        ("AUTHOR/SLUGG", ("author/slug",)),
        ("slug-alia", ("slug-alias",)),
        ("nothing/like-it-at-all", ()),
        ("x" * NAME_MAX, ()),
    ],
)
def test_an_unknown_model_is_refused_with_close_names(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, name: str, near: tuple[str, ...]
) -> None:
    table = Balancer(catalog(endpoint(), aliases={MODEL: ("slug-alias",)}), seed=1)
    refusal = refused(table, ask(name), now=0.0)
    assert (refusal.code, refusal.near[:1], refusal.model) == ("model_not_found", near, UNKNOWN_MODEL)
    assert len(refusal.message) <= SHOWN_MAX + 200
    assert all(close in refusal.message for close in near)
    assert dict(table.view(now=0.0).decisions) == {(UNKNOWN_MODEL, "adaptive", "model_not_found"): 1}


@pytest.mark.parametrize("name", [MODEL, "slug", "Author/Slug", "SLUG"])
def test_a_model_is_found_by_id_and_alias_in_any_case(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, name: str
) -> None:
    table = Balancer(catalog(endpoint(), aliases={MODEL: ("slug",)}), seed=1)
    assert table.best(ask(name), now=0.0).model == MODEL


@pytest.mark.parametrize(
    ("wanted", "code", "excluded_by"),
    [
        ({"region": "eu"}, "constraint_filtered", ("data_region",)),
        ({"exclude": ("a", "b")}, "constraint_filtered", ("already_tried",)),
        ({"only": ("nobody",)}, "constraint_filtered", ("allowed_providers",)),
        ({"zdr": True}, "privacy_restricted", ("data_policy:zdr",)),
        ({"data_collection": "deny"}, "privacy_restricted", ("data_policy:training",)),
        ({"zdr": True, "region": "eu"}, "constraint_filtered", ("data_policy:zdr", "data_region")),
        ({"zdr": True, "ignore": ("a",)}, "privacy_restricted", ("ignored_providers", "data_policy:zdr")),
    ],
)
def test_filters_that_leave_nobody_are_named(
    endpoint: MakeEndpoint,
    catalog: MakeCatalog,
    ask: MakeRequest,
    wanted: dict[str, object],
    code: str,
    excluded_by: tuple[str, ...],
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    refusal = refused(table, ask(**wanted), now=0.0)
    assert (refusal.code, refusal.excluded_by, refusal.retry_after) == (code, excluded_by, None)


def test_soft_filters_give_way_only_where_somebody_is_left(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    bare = frozenset[str]()
    both = Balancer(catalog(endpoint("a", supported_parameters=bare), endpoint("b", price=9.0)), seed=1)
    assert tags(both.best(ask(require=("tools",)), now=0.0)) == ["b"]
    alone = Balancer(catalog(endpoint("a", supported_parameters=bare)), seed=1)
    assert tags(alone.best(ask(require=("tools",)), now=0.0)) == ["a"]


def test_when_all_are_held_by_quota_the_smallest_wait_is_told(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("c", misconfigured="no key")), seed=1)
    for tag, wait in (("a", 40.0), ("b", 25.0)):
        table.record(f"{MODEL}@{tag}", Outcome(kind="rate_limited", status=429, retry_after=wait), now=10.0)
    refusal = refused(table, ask(), now=15.0)
    assert (refusal.code, refusal.retry_after) == ("capacity_exhausted", 20.0)
    assert refusal.excluded_by == ("throttled", "misconfigured")
    assert tags(table.best(ask(), now=35.0)) == ["b"]


def test_what_only_the_operator_can_mend_is_unavailable_and_says_why(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", misconfigured="B_KEY is not set")), seed=1)
    table.drain("a", now=0.0, reason="maintenance")
    refusal = refused(table, ask(), now=1.0)
    assert (refusal.code, refusal.excluded_by) == ("unavailable", ("drained", "misconfigured"))
    assert "maintenance" in refusal.message
    assert "B_KEY is not set" in refusal.message


# ---- explanations ------------------------------------------------------------------------------------

operations = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(("success", "success", "server_error", "rate_limited", "refused")),
        st.floats(0, 30),
        st.integers(1, 6),
    ),
    max_size=25,
)
questions = st.fixed_dictionaries(
    {},
    optional={
        "order": st.sampled_from((("p1",), ("p3", "p0"))),
        "ignore": st.sampled_from((("p0",), ("p1", "p2"))),
        "exclude": st.sampled_from((("p0",), ("p1", "p2"))),
        "region": st.just("eu"),
        "require": st.just(("tools",)),
    },
)


@given(operations, questions, st.sampled_from(("adaptive", "price")))
def test_an_explanation_names_each_endpoint_once_and_its_shares_are_one(
    endpoint: MakeEndpoint,
    catalog: MakeCatalog,
    ask: MakeRequest,
    story: list[tuple[int, str, float, int]],
    wanted: dict[str, object],
    strategy: str,
) -> None:
    endpoints = [
        endpoint("p0"),
        endpoint("p1", price=2.0, region="eu"),
        endpoint("p2", priority=1, region="eu"),
        endpoint("p3", supported_parameters=frozenset()),
        endpoint("p4", price=None),
    ]
    policy = HealthPolicy(ramp_requests=2, hold=1.0)
    table = Balancer(catalog(*endpoints, routing=Routing(strategy=strategy), health=policy), seed=1)  # type: ignore[arg-type]
    now = 0.0
    for place, kind, pause, times in story:
        now += pause
        for _ in range(times):
            table.record(endpoints[place].id, Outcome(kind=kind), now=now)  # type: ignore[arg-type]
        try:
            decision = table.best(ask(), now=now)
            table.record(decision.selected.id, OK, now=now, decision=decision.id)
        except NoEndpoint:
            pass
    request = ask(**wanted)
    told = explained(table, request, now)
    assert sorted(line.id for line in told) == sorted(each.id for each in endpoints)
    try:
        decision = table.best(request, now=now, explain=True)
    except NoEndpoint:
        assert all(line.excluded_by and line.share == 0 for line in told)
        return
    lines = {line.id: line for line in decision.considered}
    assert sum(line.share for line in decision.considered) == pytest.approx(1.0)
    for line in decision.considered:
        assert (line.score is None) == bool(line.excluded_by)
        assert line.why or line.excluded_by
        assert line.excluded_by == () or line.share == 0
    if not decision.trial:
        assert lines[decision.selected.id].share > 0
    for fallback in decision.fallbacks:
        assert lines[fallback.id].excluded_by == ()


def explained(table: Balancer, request: Request, now: float) -> tuple[Considered, ...]:
    try:
        return table.best(request, now=now, explain=True).considered
    except NoEndpoint as refusal:
        return refusal.considered


def test_a_share_is_the_chance_to_be_first_slow_start_included(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=4.0), routing=Routing(strategy="price")), seed=1)
    fail(table, "a", now=1.0)
    trial = table.best(ask(), now=1000.0)
    table.record(trial.selected.id, OK, now=1001.0, decision=trial.id)
    told = {
        line.id.partition("@")[2]: line.share for line in table.best(ask(), now=1002.0, explain=True).considered
    }
    assert 0 < told["a"] < 1 / 11 * 16 / 17  # less than its price alone would give it: it failed
    firsts = Counter(table.best(ask(), now=1002.0).selected.tag for _ in range(4000))
    assert firsts["a"] / 4000 == pytest.approx(told["a"], abs=0.03)


def test_an_explanation_says_in_words_why_each_stands_where_it_does(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, fail: Fail
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("c", region="eu"), endpoint("d")), seed=1)
    fail(table, "a", now=1.0)
    table.drain("b", now=1.0, until=61.0, reason="upgrade")
    decision = table.best(ask(ignore=("c",)), now=1.0, explain=True)
    words = {line.id.partition("@")[2]: line.why for line in decision.considered}
    assert words["a"].startswith("5 failures in a row (500); trial in ")
    assert words["b"] == "upgrade; drain ends in 60 s"
    assert words["c"] == "filtered: ignored_providers"
    assert words["d"] == f"price 1.00× + failure {FLOOR:.1%} × 15; no evidence yet"
