"""The explanation, asked through the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.balancer import Balancer
from balancer.core.estimate import FLOOR
from balancer.core.explain import RAMPS_MAX
from balancer.core.model import Catalog, Considered, Decision, Endpoint, Limits, NoEndpoint, Routing
from balancer.core.outcome import Outcome
from balancer.core.request import Cutoffs, Request
from balancer.core.strategies.price import SUCCESS_POWER

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]

MODEL, SECOND = "author/slug", "author/second"
OK = Outcome(kind="success", latency=1.0)
BAD = Outcome(kind="server_error", status=500)


def key_of(table: Balancer, tag: str) -> str:
    return next(key for key, each in table.catalog.endpoints.items() if each.tag == tag)


def take(table: Balancer, tag: str, outcome: Outcome, now: float, *, times: int = 1, **fields: Any) -> None:
    for _ in range(times):
        table.record(key_of(table, tag), outcome, now=now, **fields)


def recover(table: Balancer, request: Request, tag: str, now: float) -> None:
    """Let it fail, and its trial pass."""
    take(table, tag, BAD, now - 900.0, times=5)
    trial = table.best(request, now=now - 500.0)
    assert (trial.trial, trial.selected.tag) == (True, tag)
    take(table, tag, OK, now - 499.0, decision=trial.id)


def explained(table: Balancer, request: Request, now: float) -> tuple[Decision | None, tuple[Considered, ...]]:
    """The decision, if there is one, and the lines."""
    try:
        decision = table.best(request, now=now, explain=True)
    except NoEndpoint as refusal:
        return None, refusal.considered
    return decision, decision.considered


def lines(table: Balancer, request: Request, now: float) -> dict[str, Considered]:
    return {line.id.partition("@")[2]: line for line in explained(table, request, now)[1]}


# ---- whole -------------------------------------------------------------------------------------------

TAGS = ("a/one", "a/two", "b", "c", "d/flex", "e")
operations = st.lists(
    st.tuples(
        st.sampled_from((*TAGS, *TAGS, "drain", "ask")),
        st.sampled_from(("success", "success", "server_error", "server_error", "rate_limited", "refused")),
        st.sampled_from((0.0, 1.0, 20.0, 400.0)),
        st.integers(1, 5),
    ),
    max_size=12,
)
WISHES: list[dict[str, Any]] = [
    {},
    {"models": (SECOND,)},
    {"models": (SECOND,), "partition": "none", "sort": "price"},
    {"order": ("b", "a")},
    {"only": ("a",)},
    {"ignore": ("a", "b", "c", "e")},
    {"require": ("tools",)},
    {"service_tier": "flex"},
    {"session_id": "s"},
    {"preferred_max_latency": Cutoffs(p50=0.5)},
    {"exclude": ("b",)},
    {"region": "eu"},
    {"max_tokens": 100},
    {"sort": "exacto"},
    {"allow_fallbacks": False},
]
wanted = st.sampled_from(WISHES)


@pytest.fixture(scope="session")
def build(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Callable[[str], Balancer]:
    def make(strategy: str) -> Balancer:
        routing = Routing(strategy=strategy)  # type: ignore[arg-type]
        fields: list[dict[str, Any]] = [
            {},
            {"price": 2.0, "limits": Limits(rpm=3), "quota": "q"},
            {"price": None, "supported_parameters": frozenset()},
            {"priority": 1, "max_completion_tokens": 50},
            {"tier": "flex", "region": "eu"},
            {"model": SECOND, "misconfigured": None},
        ]
        endpoints = [endpoint(tag, **each) for tag, each in zip(TAGS, fields, strict=True)]
        return Balancer(catalog(*endpoints, routing=routing), seed=4)

    return make


def play(table: Balancer, drawn: list[tuple[str, str, float, int]], ask: MakeRequest, between: Any) -> float:
    """Do what happened, with something between any two steps; tells the moment after."""
    now = 0.0
    for what, kind, pause, times in drawn:
        now += pause
        if what == "drain":
            table.drain("b", now=now, until=now + 30.0)
        elif what == "ask":
            answer(table, ask(session_id="s"), now)
        else:
            take(table, what, Outcome(kind=kind, latency=1.0), now, times=times)  # type: ignore[arg-type]
        between(now)
    return now


def answer(table: Balancer, request: Request, now: float, *, dry: bool = False) -> object:
    try:
        return table.best(request, now=now, dry=dry)
    except NoEndpoint as refusal:
        return refusal.code, refusal.message, refusal.excluded_by, refusal.retry_after


strategies = st.sampled_from(("adaptive", "price", "weighted", "least_loaded"))


@given(strategy=strategies, drawn=operations, wishes=wanted)
def test_every_endpoint_of_the_asked_models_has_one_line_and_the_shares_are_one_or_nothing(
    build: Callable[[str], Balancer],
    ask: MakeRequest,
    strategy: str,
    drawn: list[tuple[str, str, float, int]],
    wishes: dict[str, Any],
) -> None:
    table, request = build(strategy), ask(**wishes)
    now = play(table, drawn, ask, lambda _: None)
    models = {MODEL, *request.models}
    expected = sorted(each.id for each in table.catalog.endpoints.values() if each.model in models)
    decision, found = explained(table, request, now)
    assert sorted(line.id for line in found) == expected
    assert all(line.why for line in found)
    if decision is None:
        assert all(line.excluded_by and line.share == 0 for line in found)
        return
    assert sum(line.share for line in found) == pytest.approx(1.0)
    standing = [decision.selected.id, *(each.id for each in decision.fallbacks)]
    assert [line.id for line in found[: len(standing)]] == standing
    for line in found:
        assert (line.score is None) == (line.weight is None) == bool(line.excluded_by)
        assert not (line.excluded_by and line.share)
    assert next(line for line in found if line.id == decision.selected.id).share > 0


@given(strategy=strategies, drawn=operations, wishes=wanted)
def test_explaining_changes_no_later_answer_and_nothing_that_can_be_seen(
    build: Callable[[str], Balancer],
    ask: MakeRequest,
    strategy: str,
    drawn: list[tuple[str, str, float, int]],
    wishes: dict[str, Any],
) -> None:
    request = ask(**wishes)
    quiet, asked_about = build(strategy), build(strategy)
    now = play(quiet, drawn, ask, lambda _: None)

    def read(now: float) -> None:
        for _ in range(2):
            lines(asked_about, request, now)
            answer(asked_about, request, now, dry=True)

    play(asked_about, drawn, ask, read)
    assert asked_about.view(now=now) == quiet.view(now=now)
    assert asked_about.transitions(0) == quiet.transitions(0)
    for _ in range(3):
        assert answer(asked_about, request, now) == answer(quiet, request, now)
    assert asked_about.dump(now=now) == quiet.dump(now=now)


def test_an_explanation_has_the_selection_of_the_next_decision_and_not_its_id(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    routing = Routing(strategy="price", fallbacks=9)
    table = Balancer(catalog(*(endpoint(f"p{place}") for place in range(6)), routing=routing), seed=3)

    def order(decision: Decision) -> list[str]:
        return [decision.selected.id, *(each.id for each in decision.fallbacks)]

    ids: set[str] = set()
    for _ in range(10):
        told = table.best(ask(), now=0.0, explain=True)
        told_again = table.best(ask(), now=0.0, explain=True)
        found = table.best(ask(), now=0.0)
        assert order(told) == order(told_again) == order(found)
        assert told.id == told_again.id != found.id
        ids |= {told.id, found.id}
    assert len(ids) == 20


# ---- shares ------------------------------------------------------------------------------------------


def shares(table: Balancer, request: Request, now: float) -> dict[str, float]:
    return {tag: line.share for tag, line in lines(table, request, now).items()}


def firsts(table: Balancer, request: Request, now: float, draws: int = 3000) -> dict[str, float]:
    found = Counter(table.best(request, now=now).selected.tag for _ in range(draws))
    return {tag: count / draws for tag, count in found.items()}


def test_the_share_of_a_slow_start_is_its_ramp_times_its_chance(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=4.0), routing=Routing(strategy="price")), seed=1)
    recover(table, ask(), "a", 1000.0)
    told = shares(table, ask(), 1000.0)
    # It failed lately, and its weight in the lottery follows that.
    weights = {
        tag: table.endpoint(key_of(table, tag), now=1000.0).success_estimate ** (2 * SUCCESS_POWER) / price**2
        for tag, price in (("a", 1.0), ("b", 4.0))
    }
    chance = weights["a"] / sum(weights.values())
    assert told == pytest.approx({"a": chance / 11, "b": 1 - chance / 11}, rel=0.05)
    assert firsts(table, ask(), 1000.0) == pytest.approx(told, abs=0.03)


def test_two_slow_starts_are_drawn_apart(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=2.0), endpoint("c", price=9.0)), seed=1)
    for tag in ("a", "b"):
        recover(table, ask(only=(tag,)), tag, 1000.0)
    take(table, "c", OK, 1000.0)
    told = shares(table, ask(), 1000.0)
    assert told == pytest.approx({"a": 1 / 11, "b": 10 / 11 / 11, "c": (10 / 11) ** 2})
    assert firsts(table, ask(), 1000.0) == pytest.approx(told, abs=0.03)


def test_beyond_the_most_that_are_enumerated_the_shares_are_still_one(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    tags = [f"p{place}" for place in range(RAMPS_MAX + 2)]
    table = Balancer(catalog(*map(endpoint, tags)), seed=1)
    for tag in tags:
        recover(table, ask(only=(tag,)), tag, 1000.0)
    assert sum(shares(table, ask(), 1000.0).values()) == pytest.approx(1.0)


def test_a_session_is_at_home_where_it_was_sent(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=9.0)), seed=1)
    request = ask(session_id="s", ignore=("a",))
    assert table.best(request, now=0.0).selected.tag == "b"
    told = lines(table, ask(session_id="s"), 1.0)
    assert {tag: line.share for tag, line in told.items()} == {"a": 0.0, "b": 1.0}
    assert told["b"].why.startswith("the session's own; price 9.00×")
    assert "session" not in told["a"].why
    assert shares(table, ask(), 1.0)["a"] > 0.5


def test_a_session_is_at_home_at_a_fallback_model_where_all_models_are_one_field(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(
        catalog(endpoint("dear", price=9.0), endpoint("b", model=SECOND), endpoint("c", model=SECOND)), seed=1
    )
    request = ask(models=(SECOND,), partition="none", sort="price", session_id="s")
    home = table.best(request, now=0.0).selected.tag
    for now in range(1, 9):
        decision = table.best(request, now=float(now))
        assert (decision.selected.tag, decision.sticky) == (home, True)
    assert shares(table, request, 9.0) == {"dear": 0.0, "b": 0.0, "c": 0.0} | {home: 1.0}


def test_a_home_in_slow_start_leads_no_more_than_its_ramp(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=9.0)), seed=1)
    recover(table, ask(), "a", 1000.0)
    take(table, "a", OK, 999.0, session_id="s")
    take(table, "b", OK, 999.0)
    request = ask(session_id="s")
    told = shares(table, request, 1000.0)
    assert told == pytest.approx({"a": 2 / 11, "b": 9 / 11})
    found: Counter[str] = Counter()
    for _ in range(2000):  # `dry` would draw the same each time, and a real decision would stick the session
        state = table.best(ask(), now=1000.0)
        assert state.selected
        found[table.best(request, now=1000.0, dry=True).selected.tag] += 1
    assert found["a"] / 2000 == pytest.approx(told["a"], abs=0.05)


def test_in_panic_the_one_that_would_be_first_has_all(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    take(table, "b", BAD, 1.0, times=5)
    take(table, "a", BAD, 30.0, times=5)
    decision = table.best(ask(), now=31.0, explain=True)
    assert decision.panic
    assert not decision.trial
    assert {line.id.partition("@")[2]: line.share for line in decision.considered} == {"b": 1.0, "a": 0.0}


# ---- the line for every reason -----------------------------------------------------------------------


def nothing(table: Balancer) -> None:
    take(table, "b", OK, 90.0)


def drain(table: Balancer) -> None:
    table.drain("b", now=90.0, until=160.0, reason="upgrade")


def refuse(table: Balancer) -> None:
    take(table, "b", Outcome(kind="refused", status=401), 90.0, times=3)


def eject(table: Balancer) -> None:
    take(table, "b", BAD, 99.0, times=5)


def half_open(table: Balancer) -> None:
    take(table, "b", BAD, 50.0, times=5)
    assert table.best(Request(model=MODEL), now=99.0).trial


def throttle(table: Balancer) -> None:
    take(table, "b", Outcome(kind="rate_limited", status=429, retry_after=60.0), 90.0)


def degrade(table: Balancer) -> None:
    take(table, "b", OK, 90.0, times=15)
    take(table, "b", BAD, 95.0, times=4)


def use_up(table: Balancer) -> None:
    for _ in range(2):
        table.best(Request(model=MODEL, provider={"only": ["c"]}), now=90.0)


def use_up_and_drain(table: Balancer) -> None:
    use_up(table)
    table.drain("c", now=90.0, reason="upgrade")


def slow_down(table: Balancer) -> None:
    take(table, "b", Outcome(kind="success", latency=9.0, ttft=9.0), 90.0)


def recovering(table: Balancer) -> None:
    take(table, "b", BAD, 1.0, times=5)
    trial = table.best(Request(model=MODEL), now=80.0)
    take(table, "b", OK, 81.0, decision=trial.id)


def ceiling(table: Balancer) -> None:
    take(table, "b", OK, 97.0, times=60)
    take(table, "b", Outcome(kind="rate_limited", status=429, retry_after=1.0), 98.0, times=4)


COST = "price 1.00× + failure"

# what happened, what is asked, which line, excluded by, how it begins, how it ends
LINES: dict[str, tuple[Callable[[Balancer], None], dict[str, Any], str, tuple[str, ...], str, str]] = {
    "filtered": (nothing, {"ignore": ("b",)}, "b", ("ignored_providers",), "filtered: ignored_providers", ""),
    "two filters": (
        nothing, {"ignore": ("b",), "zdr": True}, "b", ("ignored_providers", "data_policy:zdr"),
        "filtered: ignored_providers, data_policy:zdr", "",
    ),
    "soft filter": (
        nothing, {"require": ("tools",)}, "d", ("supported_parameters:tools",),
        "filtered: supported_parameters:tools", "",
    ),
    "service tier": (nothing, {}, "t", ("service_tier",), "filtered: service_tier", ""),
    "drained": (drain, {}, "b", ("drained",), "upgrade; drain ends in 60 s", ""),
    "misconfigured": (refuse, {}, "b", ("misconfigured",), "refused 3 times without a success between (401)", ""),
    "ejected": (eject, {}, "b", ("ejected",), "5 failures in a row (500); trial in ", " s"),
    "half open": (half_open, {}, "b", ("half_open",), "one trial is out, after 5 failures in a row", " s"),
    "throttled": (throttle, {}, "b", ("throttled",), "held after a 429 or a hint; hold ends in 50 s", ""),
    "limits": (
        use_up, {}, "c", ("limits",), "at the operator's limit of 2 rpm and 100000 tpm; room in ", " s",
    ),
    "drained at a limit": (use_up_and_drain, {}, "c", ("drained",), "upgrade", ""),
    "equal": (nothing, {}, "a", (), f"{COST} {FLOOR:.1%} × 15", "no evidence yet"),
    "well": (nothing, {}, "b", (), COST, "% × 15"),
    "degraded": (degrade, {}, "b", (), COST, "; 4 failures in a row"),
    "percentile": (
        slow_down, {"preferred_max_latency": Cutoffs(p50=1.0)}, "b", (),
        COST, "× 15; misses a preferred percentile: last",
    ),
    "fallback model": (nothing, {"models": (SECOND,)}, "m", (), COST, "× 15; a fallback model; no evidence yet"),
    "order": (nothing, {"order": ("a",)}, "b", (), COST, "× 15; later in order"),
    "later in order": (nothing, {"order": ("a", "b")}, "b", (), COST, "× 15; later in order"),
    "asked tier": (
        nothing, {"service_tier": "priority"}, "b", (), COST, "× 15; not of the asked tier",
    ),
    "slow start": (
        recovering, {}, "b", (), COST, "; trial passed; 0 of 10 requests of the ramp",
    ),
    "ceiling": (ceiling, {}, "b", (), COST, "× 15; at its learned ceiling"),
    "priority": (nothing, {}, "p", (), COST, "× 15; priority 7; no evidence yet"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_there_are_words_for_every_reason(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, name: str
) -> None:
    happened, wishes, tag, excluded_by, begins, ends = LINES[name]
    table = Balancer(
        catalog(
            endpoint("a"),
            endpoint("b"),
            endpoint("c", limits=Limits(rpm=2, tpm=100_000), quota="q"),
            endpoint("d", supported_parameters=frozenset()),
            endpoint("t", tier="priority"),
            endpoint("p", priority=7),
            endpoint("m", model=SECOND),
        ),
        seed=1,
    )
    happened(table)
    line = lines(table, ask(**wishes), 100.0)[tag]
    assert line.excluded_by == excluded_by
    assert line.why.startswith(begins), line.why
    assert line.why.endswith(ends), line.why


def test_a_refusal_is_explained_like_a_decision(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", misconfigured="B_KEY is not set")), seed=1)
    throttled = Outcome(kind="rate_limited", status=429, retry_after=30.0)
    take(table, "a", throttled, 0.0)
    with pytest.raises(NoEndpoint) as caught:
        table.best(ask(), now=10.0, explain=True)
    assert [(line.state, line.excluded_by, line.why) for line in caught.value.considered] == [
        ("throttled", ("throttled",), "held after a 429 or a hint; hold ends in 20 s"),
        ("misconfigured", ("misconfigured",), "B_KEY is not set"),
    ]
