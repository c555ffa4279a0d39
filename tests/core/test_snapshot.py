"""A dump tells ages and never moments: most of these tests restore into a table whose clock says something else."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from balancer.core.affinity import session_key
from balancer.core.balancer import Balancer
from balancer.core.kept import part as kept
from balancer.core.model import Catalog, Endpoint, HealthPolicy, Limits, NoEndpoint, Pricing, Provider
from balancer.core.model import Model as CatalogModel
from balancer.core.outcome import KINDS, Outcome
from balancer.core.request import Request
from balancer.core.view import EndpointView
from balancer.core.window import Counts

MODEL = "author/slug"
A, B, C = (f"{MODEL}@{tag}" for tag in ("alpha", "beta", "gamma"))
GOOD = Outcome(kind="success", latency=1.0)
BAD = Outcome(kind="server_error", status=500)
LIMITED = Outcome(kind="rate_limited", status=429)
REFUSED = Outcome(kind="refused", status=401)
SPANS = HealthPolicy().windows
LATER = 5000.5  # what the next process's clock says: another phase of every bucket but those of a second


def world(*, identity: str = "1", windows: tuple[float, ...] = SPANS, tags: str = "alpha beta gamma") -> Catalog:
    endpoints = [
        Endpoint(
            id=f"{MODEL}@{tag}",
            model=MODEL,
            tag=tag,
            provider=tag,
            provider_name=tag,
            upstream_model="upstream",
            base_url=f"https://{tag}.example",
            pricing=Pricing(prompt=price, completion=price),
            identity=identity,
            quota=tag,
            limits=Limits(rpm=100) if tag == "gamma" else None,
        )
        for price, tag in enumerate(tags.split(), start=1)
    ]
    return Catalog(
        providers={each.tag: Provider(key=each.tag, name=each.tag) for each in endpoints},
        models={MODEL: CatalogModel(id=MODEL, name=MODEL, endpoints=tuple(each.id for each in endpoints))},
        endpoints={each.id: each for each in endpoints},
        health=HealthPolicy(windows=windows),
    )


def table(catalog: Catalog | None = None, *, now: float = 0.0) -> Balancer:
    return Balancer(world() if catalog is None else catalog, seed=1, now=now)


def report(of: Balancer, endpoint: str, outcome: Outcome, *, now: float, times: int = 1) -> None:
    for _ in range(times):
        of.record(endpoint, outcome, now=now)


def restarted(old: Balancer, *, now: float, away: float, later: float = LATER) -> Balancer:
    """A fresh table of the same catalog, `away` after `now`, by a clock that says `later` then."""
    new = table(old.catalog, now=later)
    new.restore(json.loads(json.dumps(old.dump(now=now), allow_nan=False)), now=later, away=away)
    return new


def counts(of: Balancer, endpoint: str, name: str, now: float) -> Counts:
    return of.endpoint(endpoint, now=now).windows["report"][name]


def selected(of: Balancer, now: float) -> str:
    return of.best(Request(model=MODEL), now=now, dry=True).selected.id


# ---- health ------------------------------------------------------------------------------------------


def test_what_is_left_of_a_hold_goes_on_after_the_restart() -> None:
    old = table()
    report(old, A, BAD, now=100.0, times=5)
    ends = old.endpoint(A, now=100.0).next_at
    assert ends is not None
    new = restarted(old, now=101.0, away=2.0)
    view = new.endpoint(A, now=LATER)
    assert (view.state, view.reason) == ("ejected", "5 failures in a row (500)")
    assert view.next_at == pytest.approx(LATER + ends - 103.0)
    assert selected(new, LATER) == B


def test_a_hold_that_ended_meanwhile_leaves_an_endpoint_whose_trial_is_due() -> None:
    old = table()
    report(old, A, BAD, now=100.0, times=5)
    new = restarted(old, now=101.0, away=60.0)
    view = new.endpoint(A, now=LATER)
    by = "request that would go there"
    assert (view.state, view.next, view.next_at) == ("ejected", f"trial with the next {by}", LATER)
    decision = new.best(Request(model=MODEL), now=LATER)
    assert (decision.selected.id, decision.trial) == (A, True)


def test_who_was_ejected_first_is_tried_first_though_every_hold_is_over() -> None:
    old = table()
    for now, endpoint in ((100.0, C), (110.0, A), (120.0, B)):
        report(old, endpoint, BAD, now=now, times=5)
    new = restarted(old, now=120.0, away=60.0)
    order = new.best(Request(model=MODEL, count=2), now=LATER)
    assert [order.selected.id, *[each.id for each in order.fallbacks]] == [C, A, B]


def test_a_trial_does_not_outlive_its_process() -> None:
    old = table()
    report(old, A, BAD, now=100.0, times=5)
    trial = old.best(Request(model=MODEL), now=120.0)
    assert trial.trial
    new = restarted(old, now=121.0, away=1.0)
    assert new.endpoint(A, now=LATER).state == "ejected"
    new.record(A, GOOD, now=LATER, decision=trial.id)
    assert new.endpoint(A, now=LATER).state == "ejected"
    assert new.best(Request(model=MODEL), now=LATER).trial


def test_slow_start_goes_on_where_it_was() -> None:
    old = table()
    report(old, A, BAD, now=100.0, times=5)
    trial = old.best(Request(model=MODEL), now=120.0)
    old.record(A, GOOD, now=121.0, decision=trial.id)
    report(old, A, GOOD, now=124.0, times=3)
    new = restarted(old, now=125.0, away=1.0)
    assert new.endpoint(A, now=LATER).reason == "trial passed; 3 of 10 requests of the ramp"
    report(new, A, GOOD, now=LATER + 2.0, times=7)
    assert new.endpoint(A, now=LATER + 2.0).state != "recovering"


@pytest.mark.parametrize(("away", "holds"), [(1.0, (10.0, 20.0)), (100_000.0, (5.0, 10.0))])
def test_ejections_decay_while_we_are_away(away: float, holds: tuple[float, float]) -> None:
    old = table()
    report(old, A, BAD, now=100.0, times=5)
    new = restarted(old, now=100.0, away=away)
    now = LATER + 20.0
    failed = new.best(Request(model=MODEL), now=now)
    assert failed.trial
    new.record(A, BAD, now=now + 2.0, decision=failed.id)
    until = new.endpoint(A, now=now + 2.0).next_at
    assert until is not None
    assert holds[0] <= until - (now + 2.0) <= holds[1]


def test_a_streak_goes_on_over_a_restart() -> None:
    old = table()
    report(old, A, BAD, now=100.0, times=4)
    new = restarted(old, now=101.0, away=1.0)
    new.record(A, BAD, now=LATER + 1.0)
    assert new.endpoint(A, now=LATER + 1.0).state == "ejected"


def test_an_account_that_was_refused_is_refused_until_the_credential_changes() -> None:
    old = table()
    report(old, A, REFUSED, now=100.0, times=3)
    new = restarted(old, now=100.0, away=90_000.0)
    assert new.endpoint(A, now=LATER).state == "misconfigured"
    changed = table(world(identity="2"))
    changed.restore(old.dump(now=100.0), now=LATER, away=1.0)
    assert changed.endpoint(A, now=LATER).state == "unverified"


def test_health_that_the_table_saw_itself_is_newer_and_stays() -> None:
    old, new = table(), table()
    report(old, A, BAD, now=100.0, times=5)
    report(old, B, GOOD, now=100.0)
    report(new, A, GOOD, now=9.0)
    report(new, B, BAD, now=9.0, times=5)
    new.restore(old.dump(now=100.0), now=10.0, away=1.0)
    assert new.endpoint(A, now=10.0).state == "healthy"  # and no hold
    assert new.endpoint(B, now=10.0).state == "ejected"


# ---- limits ------------------------------------------------------------------------------------------


def test_a_429_hold_goes_on_and_so_does_its_exponent() -> None:
    old = table()
    old.record(A, replace(LIMITED, retry_after=40.0), now=100.0)
    report(old, B, LIMITED, now=100.0)
    report(old, B, LIMITED, now=110.0)
    new = restarted(old, now=111.0, away=9.0)
    assert new.endpoint(A, now=LATER).next_at == pytest.approx(LATER + 20.0)
    assert new.endpoint(B, now=LATER).state != "throttled"
    new.record(B, LIMITED, now=LATER + 1.0)
    third = new.endpoint(B, now=LATER + 1.0).next_at
    assert third is not None
    assert 10.0 <= third - (LATER + 1.0) <= 20.0  # 5 s doubled twice, with jitter


def test_of_two_429_holds_the_later_end_stands() -> None:
    old, new = table(), table()
    old.record(A, replace(LIMITED, retry_after=40.0), now=100.0)
    for endpoint, hint in ((A, 10.0), (B, 30.0)):
        new.record(endpoint, replace(LIMITED, retry_after=hint), now=100.0)
    old.record(B, replace(LIMITED, retry_after=10.0), now=100.0)
    new.restore(old.dump(now=100.0), now=101.0, away=1.0)
    assert new.endpoint(A, now=101.0).next_at == pytest.approx(140.0)
    assert new.endpoint(B, now=101.0).next_at == pytest.approx(130.0)


def test_no_dump_holds_longer_than_the_policy_allows() -> None:
    old = table()
    old.record(A, replace(LIMITED, retry_after=40.0), now=100.0)
    report(old, B, BAD, now=100.0, times=5)
    state = old.dump(now=100.0)
    state["endpoints"][A]["throttle"]["hold"] = state["endpoints"][B]["health"]["hold"] = 1e9
    new = table()
    new.restore(state, now=LATER, away=0.0)
    assert [new.endpoint(key, now=LATER).next_at for key in (A, B)] == [LATER + 300.0, LATER + 300.0]


def test_a_learned_ceiling_goes_on_rising_and_an_outgrown_one_is_dropped() -> None:
    old = table()
    for second in range(60):
        report(old, A, GOOD, now=100.0 + second)
    report(old, A, LIMITED, now=160.0, times=4)
    ceiling = old.endpoint(A, now=220.0).ceiling
    assert ceiling is not None
    assert restarted(old, now=161.0, away=59.0).endpoint(A, now=LATER).ceiling == pytest.approx(ceiling)
    assert restarted(old, now=161.0, away=5000.0).endpoint(A, now=LATER).ceiling is None


def test_what_a_credential_was_sent_in_the_last_minute_counts_against_its_limit() -> None:
    old = table(world(tags="gamma"))
    for _ in range(100):
        old.best(Request(model=MODEL), now=100.0)
    for away, free in ((20.0, False), (61.0, True)):
        new = restarted(old, now=101.0, away=away)
        if free:
            assert new.best(Request(model=MODEL), now=LATER)
        else:
            with pytest.raises(NoEndpoint, match=r"limit|quota|capacity"):
                new.best(Request(model=MODEL), now=LATER)


# ---- counts ------------------------------------------------------------------------------------------


def test_long_windows_come_back_and_what_is_too_old_does_not() -> None:
    old = table()
    report(old, A, GOOD, now=0.0, times=3)
    report(old, A, BAD, now=400.0, times=2)
    old.record(A, GOOD, now=400.0, source="probe")
    new = restarted(old, now=410.0, away=100.0)
    windows = new.endpoint(A, now=LATER).windows
    assert list(windows["report"].values()) == [(0, 0, 0), (0, 2, 0), (3, 2, 0), (3, 2, 0)]
    assert list(windows["probe"].values()) == [(0, 0, 0), (1, 0, 0), (1, 0, 0), (1, 0, 0)]
    assert counts(new, A, "30m", LATER + 1800.0) == (0, 0, 0)


def test_counts_of_the_dump_join_those_that_the_table_has_itself() -> None:
    old, new = table(), table()
    report(old, A, GOOD, now=1000.0, times=3)
    report(new, A, BAD, now=2000.0, times=2)
    new.restore(old.dump(now=1000.0), now=2000.0, away=100.0)
    assert counts(new, A, "30s", 2000.0) == (0, 2, 0)
    assert counts(new, A, "5m", 2000.0) == (3, 2, 0)


def test_nothing_counts_twice_by_a_second_restore_nor_in_the_table_that_made_the_dump() -> None:
    old = table()
    report(old, A, BAD, now=90.0, times=2)
    report(old, B, LIMITED, now=99.0)
    before = old.dump(now=100.0)
    old.restore(before, now=100.0, away=0.0)
    assert counts(old, A, "1d", 100.0) == (0, 2, 0)
    assert len(old.endpoint(A, now=100.0).failures) == 2
    new = restarted(old, now=100.0, away=10.0)
    once = new.dump(now=LATER)
    new.restore(before, now=LATER, away=10.0)
    assert new.dump(now=LATER) == once


def test_other_spans_of_the_windows_drop_the_counts_and_nothing_else() -> None:
    old = table()
    report(old, A, GOOD, now=10.0, times=3)
    report(old, B, BAD, now=10.0, times=5)
    new = table(world(windows=(30.0, 600.0, 1800.0)))
    new.restore(old.dump(now=10.0), now=LATER, away=1.0)
    assert counts(new, A, "30m", LATER) == (0, 0, 0)
    assert (new.endpoint(A, now=LATER).state, new.endpoint(B, now=LATER).state) == ("healthy", "ejected")


def test_evidence_is_as_old_as_it_was_and_the_time_away() -> None:
    old = table()
    old.record(A, GOOD, now=100.0)
    old.record(A, GOOD, now=103.0, source="probe")
    new = restarted(old, now=110.0, away=12.0)
    view = new.endpoint(A, now=LATER)
    assert (view.evidence_age, view.report_age) == (19.0, 22.0)
    assert new.best(Request(model=MODEL, exclude=(B, C)), now=LATER).evidence_age == 19.0
    assert new.endpoint(B, now=LATER).evidence_age is None


def test_the_last_failures_come_back_with_their_ages() -> None:
    old = table()
    old.record(A, Outcome(kind="timeout", detail="no first byte"), now=100.0)
    old.record(A, BAD, now=101.0, source="probe")
    new = restarted(old, now=110.0, away=5.0)
    failures = new.endpoint(A, now=LATER).failures
    assert [(LATER - each.ended, each.source, each.kind, each.status, each.detail) for each in failures] == [
        (14.0, "probe", "server_error", 500, ""),
        (15.0, "report", "timeout", None, "no first byte"),
    ]


def test_totals_begin_anew_with_the_process() -> None:
    old = table()
    old.best(Request(model=MODEL), now=1.0)
    report(old, A, BAD, now=2.0, times=5)
    new = restarted(old, now=3.0, away=1.0)
    view = new.endpoint(A, now=LATER)
    assert (dict(view.outcomes), dict(view.ejections), view.selections) == ({}, {}, 0)
    assert dict(new.view(now=LATER).decisions) == {}


def test_decisions_go_by_what_was_restored_at_once() -> None:
    old, new = table(), table(now=LATER)
    report(old, A, GOOD, now=99.0, times=3)
    report(old, B, GOOD, now=99.0)
    report(old, A, BAD, now=100.0, times=5)
    assert selected(new, LATER) == A
    new.restore(old.dump(now=100.0), now=LATER, away=0.0)
    assert selected(new, LATER) == B


def test_a_restore_is_no_transition() -> None:
    old, new = table(), table()
    report(old, A, BAD, now=100.0, times=5)
    report(old, B, GOOD, now=100.0, times=100)
    report(old, B, BAD, now=110.0, times=3)
    before = new.transitions(0)
    new.restore(old.dump(now=110.0), now=LATER, away=0.0)
    assert new.endpoint(B, now=LATER).state == "degraded"
    report(new, B, BAD, now=LATER)
    assert new.transitions(0) == before


# ---- endpoints, drains, sessions ---------------------------------------------------------------------


def test_an_endpoint_that_is_gone_is_dropped_and_a_new_one_begins_anew() -> None:
    old = table(world(tags="alpha beta"))
    report(old, A, GOOD, now=10.0)
    report(old, B, GOOD, now=10.0)
    new = table(world(tags="alpha gamma"))
    new.restore(old.dump(now=10.0), now=LATER, away=0.0)
    assert [(view.id, view.state) for view in new.view(now=LATER).endpoints] == [(A, "healthy"), (C, "unverified")]
    assert set(new.dump(now=LATER)["endpoints"]) == {A, C}


def test_another_address_model_or_credential_begins_anew() -> None:
    old = table()
    report(old, A, GOOD, now=10.0)
    old.best(Request(model=MODEL, session_id="chat"), now=10.0)
    new = table(world(identity="2"))
    blank = new.dump(now=LATER)
    new.restore(old.dump(now=10.0), now=LATER, away=0.0)
    assert new.dump(now=LATER) == blank


def test_drains_come_back_with_what_is_left_of_them() -> None:
    old = table()
    old.drain("alpha", now=100.0, until=200.0, reason="maintenance")
    old.drain("beta", now=100.0)
    old.drain("gamma", now=100.0, until=115.0)
    new = restarted(old, now=110.0, away=10.0)
    assert [new.endpoint(key, now=LATER).state for key in (A, B, C)] == ["drained", "drained", "unverified"]
    first = new.endpoint(A, now=LATER)
    assert (first.reason, first.next_at) == ("maintenance", pytest.approx(LATER + 80.0))
    assert new.endpoint(B, now=LATER + 1e6).state == "drained"
    assert new.resume("beta", now=LATER) == [B]
    drain = new.view(now=LATER).drains[0]
    assert (drain.target, LATER - drain.since) == ("alpha", 20.0)


def test_a_drain_since_then_is_newer_than_the_dumped_one() -> None:
    old, new = table(), table()
    old.drain("alpha", now=100.0, reason="then")
    new.drain("alpha", now=LATER, until=LATER + 5.0, reason="now")
    new.restore(old.dump(now=100.0), now=LATER, away=1.0)
    assert (new.endpoint(A, now=LATER).reason, new.endpoint(A, now=LATER + 6.0).state) == ("now", "unverified")


def test_a_drain_without_end_by_any_spelling_can_be_dumped() -> None:
    old = table()
    old.drain("alpha", now=100.0, until=inf)
    assert restarted(old, now=100.0, away=1e6).endpoint(A, now=LATER).state == "drained"


def test_a_session_goes_home_after_a_restart_within_its_lifetime() -> None:
    old = table()
    old.best(Request(model=MODEL, session_id="chat", exclude=(A, B)), now=100.0)
    for away, home in ((500.0, C), (601.0, A)):
        decision = restarted(old, now=100.0, away=away).best(Request(model=MODEL, session_id="chat"), now=LATER)
        assert (decision.selected.id, decision.sticky) == (home, home == C)


def test_a_session_that_is_here_already_stays() -> None:
    old, new = table(), table()
    old.best(Request(model=MODEL, session_id="chat", exclude=(A, B)), now=100.0)
    new.best(Request(model=MODEL, session_id="chat", exclude=(A, C)), now=LATER)
    new.restore(old.dump(now=100.0), now=LATER, away=1.0)
    assert new.best(Request(model=MODEL, session_id="chat"), now=LATER).selected.id == B


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [-1.0, nan, inf, True, "12", None])
def test_an_impossible_absence_is_refused_and_nothing_changes(away: Any) -> None:
    old, new = table(), table()
    report(old, A, BAD, now=100.0, times=5)
    before = new.dump(now=LATER)
    with pytest.raises(ValueError, match=r"^away: .* use 0 to 1000000000 seconds"):
        new.restore(old.dump(now=100.0), now=LATER, away=away)
    assert new.dump(now=LATER) == before


def test_one_bad_session_keeps_everything_else_out_too() -> None:
    old, new = table(), table()
    report(old, A, BAD, now=100.0, times=5)
    old.drain("beta", now=100.0)
    state = old.dump(now=100.0)
    state["sessions"] = [[session_key("chat", MODEL).hex(), [A, -1.0, None, True, 0], None]]
    before = new.dump(now=LATER)
    with pytest.raises(ValueError, match=r"^sessions\[0\]\[1\]\[1\]: -1\.0 .* use 0 to"):
        new.restore(state, now=LATER, away=0.0)
    assert new.dump(now=LATER) == before


def test_a_bad_value_of_an_endpoint_that_is_gone_is_refused_as_any_other() -> None:
    state = table(world(tags="alpha beta")).dump(now=0.0)
    state["endpoints"][B]["verified"] = "yes"
    with pytest.raises(
        ValueError, match=r"^state\.endpoints\['author/slug@beta'\]\.verified: Expected `bool`, got"
    ):
        table(world(tags="alpha")).restore(state, now=LATER, away=0.0)


# ---- any history -------------------------------------------------------------------------------------

steps = st.tuples(
    st.integers(0, 40),
    st.sampled_from((A, B, C)),
    st.one_of(
        st.tuples(
            st.builds(Outcome, kind=st.sampled_from(KINDS), retry_after=st.sampled_from((None, 7.0))),
            st.sampled_from(("report", "probe")),
            st.integers(0, 40),
        ),
        st.sampled_from((BAD, GOOD)).map(lambda outcome: (outcome, "report", 0)),
        st.sampled_from(("ask", "chat-1", "chat-2", "drain", "drain a while", "resume")),
    ),
)
histories = st.lists(steps, max_size=60)


def lived(history: list[Any]) -> tuple[Balancer, float]:
    """A table with that history, and the time at its end: a whole number of seconds."""
    of, now = table(), 0.0
    for seconds, endpoint, what in history:
        now += seconds
        match what:
            case (outcome, source, age):
                of.record(endpoint, outcome, now=now, source=source, age=min(float(age), now))
            case "drain" | "drain a while":
                of.drain(endpoint, now=now, until=None if what == "drain" else now + 100.0)
            case "resume":
                of.resume(endpoint, now=now)
            case session:
                with suppress(NoEndpoint):
                    of.best(Request(model=MODEL, session_id=None if session == "ask" else session), now=now)
    return of, now


@given(histories)
def test_a_dump_changes_nothing_and_json_spells_it(history: list[Any]) -> None:
    of, now = lived(history)
    before = of.view(now=now)
    state = of.dump(now=now)
    assert kept(json.loads(json.dumps(state, allow_nan=False)))[1] == kept(state)[1]
    assert of.dump(now=now) == state
    assert of.view(now=now) == before


def seen(view: EndpointView) -> tuple[object, ...]:
    return (
        view.id, view.state, view.states, view.reason, view.next, view.windows, view.ceiling, view.evidence_age,
        view.report_age,
    )  # fmt: skip


@given(histories)
def test_a_table_that_was_not_away_decides_as_before(history: list[Any]) -> None:
    of, now = lived(history)
    again = restarted(of, now=now, away=0.0, later=now)
    before, after = of.view(now=now), again.view(now=now)
    for one, other in zip(before.endpoints, after.endpoints, strict=True):
        if "half_open" in one.states:  # its trial lapsed with the process
            assert "ejected" in other.states
            return
        assert seen(one) == seen(other)
        assert one.next_at == pytest.approx(other.next_at)
        assert one.success_estimate == pytest.approx(other.success_estimate)
        assert [each.kind for each in one.failures] == [each.kind for each in other.failures]
    assert [drain.target for drain in before.drains] == [drain.target for drain in after.drains]
    for request in (Request(model=MODEL), Request(model=MODEL, session_id="chat-1")):
        ours, theirs = explained(of, request, now), explained(again, request, now)
        assert ours[0] == theirs[0]
        assert ours[1] == pytest.approx(theirs[1], abs=1e-6)


def explained(of: Balancer, request: Request, now: float) -> tuple[object, dict[str, float]]:
    """The answer, and each one's score and share."""
    try:
        decision = of.best(request, now=now, explain=True)
    except NoEndpoint as refusal:
        return (refusal.code, [(each.id, each.state, each.excluded_by) for each in refusal.considered]), {}
    lines = [(each.id, each.state, each.excluded_by) for each in decision.considered]
    figures = {f"{each.id} share": each.share for each in decision.considered}
    figures |= {each.id: each.score for each in decision.considered if each.score is not None}
    return (decision.sticky, decision.panic, decision.strategy, sorted(lines)), figures


# ---- any damage --------------------------------------------------------------------------------------

damage = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.text(max_size=5),
    st.just([]), st.just({}), st.just("cut"), st.lists(st.integers(0, 40), min_size=4, max_size=4),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[place for key, each in inner for place in places(each, (*path, key))]]


def damaged(state: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    state = deepcopy(state)
    at = state
    for key in path[:-1]:
        at = at[key]
    if value == "cut":
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return state


def refusal(of: Balancer, state: object, now: float) -> str | None:
    try:
        of.restore(state, now=now, away=3.0)
    except ValueError as problem:
        return str(problem)
    return None


@settings(max_examples=300)
@given(histories, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), damage), min_size=1, max_size=3), histories)
def test_a_damaged_dump_is_restored_or_refused_whole(
    history: list[Any], hits: list[tuple[float, Any]], own: list[Any]
) -> None:
    old, then = lived(history)
    state: Any = old.dump(now=then)
    for where, value in hits:
        found = places(state)
        state = damaged(state, found[int(where * len(found))], value)
    new, now = lived(own)
    before = new.dump(now=now)
    refused = refusal(new, state, now)
    if refused is not None:
        assert refused.startswith(("state", "key in state", "sessions"))
        assert new.dump(now=now) == before
        return
    # What came in is good enough to live with and to be told again.
    new.view(now=now)
    explained(new, Request(model=MODEL), now)
    report(new, A, BAD, now=now + 1.0, times=6)
    table().restore(new.dump(now=now + 1.0), now=now + 1.0, away=0.0)
