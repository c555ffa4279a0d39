from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.estimate import PROVIDER_WEIGHT, STAY
from balancer.core.latency import SLICE, TIMEOUTS_UNKNOWN
from balancer.core.model import STATES, Endpoint, HealthPolicy, Source, TimeoutPolicy, Timeouts
from balancer.core.notes import Drain
from balancer.core.outcome import COUNTS, KINDS, Kind, Outcome
from balancer.core.phases import Change
from balancer.core.row import ELIGIBLE, FAILURES_MAX, PROBES_FIRST, UNUSABLE, Row
from balancer.core.standing import standing

MakeEndpoint = Callable[..., Endpoint]
POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=0.0)
BAD = Outcome(kind="server_error", status=500)
LIMITED = Outcome(kind="rate_limited", status=429, retry_after=30.0)
LISTED = Outcome(kind="success", shallow=True)


@pytest.fixture
def row(endpoint: MakeEndpoint) -> Row:
    return Row(endpoint("a"), POLICY, random=Random(1), now=0.0)


def take(
    row: Row,
    outcome: Outcome,
    now: float,
    *,
    times: int = 1,
    source: Source = "report",
    age: float = 0.0,
    duration: float | None = None,
    decision: str | None = None,
) -> list[Change]:
    changes: list[Change] = []
    for _ in range(times):
        changes += row.record(
            outcome,
            source=source,
            ended=now - age,
            duration=duration,
            now=now,
            decision=decision,
            policy=POLICY,
            random=Random(1),
        )
    return changes


def eject(row: Row, now: float = 1.0) -> float:
    take(row, BAD, now, times=5)
    return row.health.until


# ---- states ------------------------------------------------------------------------------------------


def make_drained(row: Row) -> None:
    row.drains = (Drain("a", "upgrade", 0.0, None),)


def make_misconfigured(row: Row) -> None:
    take(row, Outcome(kind="refused", status=401), 3.0, times=3)


def make_half_open(row: Row) -> None:
    eject(row)
    row.health.start_trial(decision="dec_1", now=2.0, expires=1000.0)


def make_recovering(row: Row) -> None:
    make_half_open(row)
    take(row, OK, 3.0, decision="dec_1")


def make_degraded(row: Row) -> None:
    take(row, OK, 1.0, times=15)
    take(row, BAD, 3.0, times=4)


MAKERS: dict[str, Callable[[Row], Any]] = {
    "drained": make_drained,
    "misconfigured": make_misconfigured,
    "ejected": eject,
    "half_open": make_half_open,
    "throttled": lambda row: take(row, LIMITED, 1.0),
    "recovering": make_recovering,
    "degraded": make_degraded,
    "unverified": lambda _: None,
    "healthy": lambda row: take(row, OK, 1.0),
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_reached_and_told_with_its_reason(row: Row, state: str) -> None:
    MAKERS[state](row)
    found = standing(row, 4.0, POLICY)
    assert row.state(4.0) == found.state == state
    assert bool(found.reason) == (state != "healthy")
    assert (found.next is None) or found.reason


@pytest.mark.parametrize("shown", STATES[:5])
@pytest.mark.parametrize("beside", STATES[:5])
def test_where_several_states_hold_the_first_of_the_list_is_shown_and_all_are_told(
    row: Row, shown: str, beside: str
) -> None:
    if {shown, beside} == {"ejected", "half_open"}:
        return  # two phases of one thing
    cause = ("ejected", "half_open", "throttled", "misconfigured", "drained")
    for state in sorted({shown, beside}, key=cause.index):
        MAKERS[state](row)
    first = min(shown, beside, key=STATES.index)  # type: ignore[arg-type]
    assert row.state(4.0) == first
    assert {shown, beside} <= set(row.states(4.0))


stories = st.lists(
    st.tuples(
        st.sampled_from(("record", "drain", "lease", "resume")),
        st.sampled_from(KINDS),
        st.floats(0, 20),
        st.integers(1, 6),
        st.booleans(),
    ),
    max_size=20,
)


@given(stories)
def test_states_are_in_their_order_without_repeats_and_never_none(endpoint: MakeEndpoint, story: list[Any]) -> None:
    row, now = Row(endpoint("a"), POLICY, random=Random(1), now=0.0), 0.0
    for what, kind, pause, times, shallow in story:
        now += pause
        if what == "record":
            take(
                row, Outcome(kind=kind, shallow=shallow), now, times=times, source="probe" if shallow else "report"
            )
        elif what == "drain":
            row.drains = (Drain("a", "", now, now + pause),)
        elif what == "resume":
            row.drains = ()
        elif row.health.phase_at(now) == "ejected":
            row.health.start_trial(decision="dec_1", now=now, expires=now + pause)
        states = row.states(now)
        assert states
        assert list(states) == sorted(set(states), key=STATES.index)
        assert row.state(now) == states[0]
        found = standing(row, now, POLICY)
        assert (found.state, found.states) == (states[0], states)
        assert found.next_at is None or found.next_at >= now
        if len(states) > 1:
            assert "healthy" not in states


def test_eligible_and_unusable_are_what_the_contract_says() -> None:
    assert set(STATES) - ELIGIBLE == {"drained", "misconfigured", "ejected", "half_open", "throttled"}
    assert set(UNUSABLE) == {"drained", "misconfigured"}


def test_an_expired_lease_and_an_ended_drain_are_gone_without_a_write(row: Row) -> None:
    make_half_open(row)
    row.drains = (Drain("a", "upgrade", 0.0, 50.0),)
    assert [row.state(now) for now in (49.9, 50.0, 999.9, 1000.0)] == [
        "drained",
        "half_open",
        "half_open",
        "ejected",
    ]


def test_failures_in_a_row_are_degraded_whatever_went_before(row: Row) -> None:
    take(row, OK, 1.0, times=500)
    take(row, BAD, 2.0)
    assert row.state(2.0) == "healthy"
    take(row, BAD, 2.0, times=2)
    assert (row.state(2.0), standing(row, 2.0, POLICY).reason) == ("degraded", "3 failures in a row")
    assert row.state(2.0 + 200.0) == "degraded"
    assert row.state(2.0 + STAY) == "healthy"
    take(row, OK, 3.0, times=20)
    assert row.state(3.0) == "healthy"


def test_a_share_of_failures_is_degraded_without_any_in_a_row(row: Row) -> None:
    for turn in range(30):
        take(row, BAD if turn % 4 == 0 else OK, 10.0 * turn)
    assert (row.state(300.0), row.health.phase) == ("degraded", "closed")


def test_what_was_ejected_shows_no_degradation_beside_it(row: Row) -> None:
    eject(row)
    assert row.belief.degraded(2.0)
    assert row.states(2.0) == ("ejected",)


# ---- evidence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latency", "duration", "decides"),
    [(0.5, None, True), (9.0, None, False), (0.5, 9.0, False), (9.0, 0.5, True), (None, None, True)],
)
def test_an_outcome_began_its_duration_before_it_ended_or_else_its_latency(
    row: Row, latency: float | None, duration: float | None, decides: bool
) -> None:
    make_recovering(row)  # at 3
    take(row, Outcome(kind="timeout", latency=latency), 6.0, times=2, duration=duration)
    assert row.health.phase == ("ejected" if decides else "recovering")


def test_probes_count_in_the_estimate_only_while_they_do_real_work(row: Row) -> None:
    take(row, OK, 1.0, times=3)
    take(row, LISTED, 1.0, times=50, source="probe")
    for index in range(len(POLICY.windows)):
        assert row.evidence(index, 1.0).tries == 3
    take(row, OK, 1.0, source="probe")
    for index in range(len(POLICY.windows)):
        assert row.evidence(index, 1.0).tries == 54


def test_beside_probes_that_do_real_work_cheap_ones_fill_no_window(row: Row) -> None:
    day = POLICY.windows[-1]
    take(row, BAD, 1.0, source="probe")
    take(row, LISTED, 2.0, times=50, source="probe")
    assert row.windows["probe"].counts(-1, 2.0).outcomes == 1, "or a list that works would hide what does not"
    assert row.outcomes["probe", "success"] == 50
    take(row, LISTED, 1.0 + day, source="probe")
    take(row, LISTED, 2.0 + day, source="probe")
    assert row.windows["probe"].counts(-1, 2.0 + day).success == 2, "until no other comes any more"


def test_what_a_cheap_probe_says_moves_no_estimate(row: Row) -> None:
    before = row.success_estimate(1.0, prior=0.02)
    take(row, Outcome(kind="connect", shallow=True), 1.0, times=2, source="probe")
    take(row, LISTED, 1.0, times=50, source="probe")
    assert (row.success_estimate(1.0, prior=0.02), row.belief.seen) == (before, False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if COUNTS[kind] == "none"])
def test_what_says_nothing_of_the_provider_moves_no_estimate(row: Row, kind: Kind) -> None:
    take(row, Outcome(kind=kind), 1.0, times=20)
    assert not row.belief.seen


def test_what_its_providers_others_usually_do_is_a_part_of_its_prior(row: Row) -> None:
    assert row.success_estimate(1.0, prior=0.1) == pytest.approx(0.9)
    row.kin = 0.4
    assert row.success_estimate(1.0, prior=0.1) == pytest.approx(
        1 - PROVIDER_WEIGHT * 0.4 - (1 - PROVIDER_WEIGHT) * 0.1
    )
    take(row, OK, 1.0, times=3000)
    assert row.success_estimate(1.0, prior=0.1) > 0.99  # it knows itself, and now better


def test_a_429_is_a_failed_try_and_degrades_nobody(row: Row) -> None:
    take(row, OK, 1.0)
    take(row, LIMITED, 2.0, times=20)
    assert row.success_estimate(2.0, prior=0.02) < 0.5
    assert not row.belief.degraded(2.0)
    assert row.failed_at == -inf


def test_only_successes_of_real_work_are_timed(row: Row) -> None:
    slow = {"latency": 9.0, "ttft": 3.0}
    for outcome in (
        Outcome(kind="server_error", **slow),  # type: ignore[arg-type]
        Outcome(kind="rate_limited", **slow),  # type: ignore[arg-type]
        Outcome(kind="success", shallow=True, **slow),  # type: ignore[arg-type]
    ):
        take(row, outcome, 10.0)
    assert (row.speed.latency.count, row.speed.ttft.count) == (0, 0)
    take(row, Outcome(kind="success", **slow), 10.0)  # type: ignore[arg-type]
    assert (row.speed.latency.count, row.speed.ttft.sum) == (1, 3.0)


def test_timeouts_follow_the_endpoints_own_speed(row: Row) -> None:
    def given_at(now: float) -> Timeouts:
        return row.selected("healthy", -1, now // SLICE, TimeoutPolicy()).timeouts  # of a prompt of unknown length

    assert given_at(0.0) == TIMEOUTS_UNKNOWN
    take(row, Outcome(kind="success", latency=20.0, ttft=1.0), 30.0, times=20)
    assert given_at(30.0).total == pytest.approx(60.0, rel=0.02)
    assert given_at(30.0).first_token == pytest.approx(3.0, rel=0.02)
    take(row, Outcome(kind="success", latency=40.0, ttft=1.0), 60.0, times=500)
    assert given_at(60.0).total == pytest.approx(120.0, rel=0.02)


def test_the_last_failures_are_kept_after_many_successes_and_are_bounded(row: Row) -> None:
    for step in range(FAILURES_MAX + 5):
        take(row, Outcome(kind="server_error", status=500 + step, detail=f"failure {step}"), float(step))
    take(row, OK, 100.0, times=500)
    kept = list(row.failures)
    assert len(kept) == FAILURES_MAX
    assert (kept[-1].detail, kept[-1].status, kept[-1].ended, kept[-1].source) == (
        "failure 24",
        524,
        24.0,
        "report",
    )


@pytest.mark.parametrize("kind", ["success", "caller_error", "cancelled", "local"])
def test_what_is_no_failure_is_not_kept_as_one(row: Row, kind: str) -> None:
    take(row, Outcome(kind=kind), 1.0)  # type: ignore[arg-type]
    assert not row.failures


def test_a_wrong_probe_recipe_is_told_loudly_and_counts_for_nothing(row: Row) -> None:
    take(row, Outcome(kind="probe_invalid", status=422), 1.0, times=9, source="probe")
    assert (row.state(1.0), row.evidence(0, 1.0).tries) == ("unverified", 0)
    assert row.failures[-1].status == 422


def test_trips_are_counted_by_cause(row: Row) -> None:
    eject(row)
    row.health.start_trial(decision="dec_1", now=2.0, expires=1000.0)
    take(row, BAD, 3.0, decision="dec_1")
    assert row.trips == {("consecutive_failures", True): 1, ("failed_trial", True): 1}


# ---- holds -------------------------------------------------------------------------------------------


def test_a_throttle_is_told_once_while_it_holds(row: Row) -> None:
    assert take(row, LIMITED, 1.0, times=3) == [Change("endpoint.throttled", "rate_limited (30.0 s)")]
    assert take(row, LIMITED, 31.0) == [Change("endpoint.throttled", "rate_limited (30.0 s)")]


def test_a_late_429_whose_hold_is_over_is_no_news(row: Row) -> None:
    assert take(row, LIMITED, 100.0, age=40.0) == []
    assert row.state(100.0) != "throttled"


def test_an_overload_that_names_a_time_is_a_failure_and_a_hold(row: Row) -> None:
    take(row, Outcome(kind="overloaded", status=503, retry_after=20.0), 1.0)
    assert row.throttle.until == 21.0
    assert row.evidence(0, 1.0).failure == 1
    take(row, Outcome(kind="overloaded", status=529), 5.0)
    assert row.throttle.until == 21.0


def test_a_success_that_was_the_last_of_its_quota_counts_and_holds(row: Row) -> None:
    take(row, Outcome(kind="rate_limited"), 1.0)
    last = Outcome(kind="success", latency=1.0, retry_after=20.0)
    assert take(row, last, 50.0) == [Change("endpoint.throttled", "quota used up (20.0 s)")]
    assert (row.throttle.until, row.throttle.exponent, row.verified) == (70.0, 0, True)


def test_a_hold_of_another_of_the_account_is_told_with_its_place_and_moves_nothing_else(row: Row) -> None:
    moment = {"began": 0.9, "ended": 1.0, "now": 1.5, "longest": 300.0}
    said = " of the whole account, at x"
    told = [Change("endpoint.throttled", "rate_limited of the whole account, at x (29.5 s)")]
    assert row.hold(LIMITED, said, **moment, random=Random(1)) == told
    assert row.hold(LIMITED, said, **moment, random=Random(1)) == []
    assert row.hold(BAD, said, **moment, random=Random(1)) == []
    assert (row.throttle.until, row.outcomes, row.last_outcome, row.ceiling.learned) == (31.0, {}, None, False)


def test_other_failures_with_a_hint_hold_nothing(row: Row) -> None:
    take(row, Outcome(kind="server_error", status=500, retry_after=20.0), 1.0)
    assert not row.throttle.holds(1.0)


def test_listing_models_does_not_ease_a_quota(row: Row) -> None:
    take(row, Outcome(kind="rate_limited"), 1.0)
    take(row, LISTED, 50.0, source="probe")
    assert row.throttle.exponent == 1
    take(row, OK, 50.0)
    assert row.throttle.exponent == 0


# ---- trials and probes -------------------------------------------------------------------------------


def test_where_a_probe_that_does_real_work_comes_soon_no_request_is_the_trial(row: Row) -> None:
    take(row, OK, 1.0, source="probe")
    due = eject(row, 2.0)
    assert not row.trial_due(due - 0.001)
    assert due < 1.0 + PROBES_FIRST
    assert row.health.trial_due(due)
    assert not row.trial_due(1.0 + PROBES_FIRST - 0.001)
    assert row.trial_due(1.0 + PROBES_FIRST)  # probing stopped, or is rarer than that
    take(row, OK, due + 1.0, source="probe")
    assert row.health.phase == "recovering"


def test_listing_models_is_no_trial_and_keeps_nobody_from_one(row: Row) -> None:
    take(row, LISTED, 1.0, source="probe")
    due = eject(row, 2.0)
    take(row, LISTED, due, source="probe")
    assert row.trial_due(due)


# ---- only watched ------------------------------------------------------------------------------------


def test_what_is_only_watched_has_its_states_and_its_trips_are_told_apart(row: Row) -> None:
    row.enforced = False
    due = eject(row)
    assert (row.state(2.0), row.trips) == ("ejected", {("consecutive_failures", False): 1})
    take(row, OK, due + 1.0)
    assert row.state(due + 1.0) == "recovering"


def test_the_word_of_another_detector_ejects_is_counted_and_touches_the_row(row: Row) -> None:
    assert row.eject("overdue", "3 requests hang", 1.0, POLICY) == [
        Change("endpoint.ejected", "3 requests hang", "overdue")
    ]
    assert row.news == {row}
    row.news.clear()
    assert row.eject("overdue", "3 requests hang", 1.0, POLICY) == []
    assert (row.news, row.trips) == (set(), {("overdue", True): 1})


# ---- company -----------------------------------------------------------------------------------------


def alternating(row: Row, now: float, company: list[Row]) -> None:
    for turn in range(20):
        row.record(
            BAD if turn % 2 else OK, source="report", ended=now, duration=None, now=now, decision=None,
            policy=POLICY, random=Random(1), company=company,
        )  # fmt: skip


@pytest.mark.parametrize(("others", "phase"), [(OK, "ejected"), (BAD, "closed")], ids=["well", "failing as well"])
def test_who_fails_as_its_peers_do_is_not_ejected_for_a_share(
    endpoint: MakeEndpoint, others: Outcome, phase: str
) -> None:
    rows = [Row(endpoint(tag), POLICY, random=Random(1), now=0.0) for tag in "abcde"]
    for each in rows:
        take(each, OK, 1.0, times=300)
    for each in rows[1:]:
        take(each, others, 50.0, times=4)
    alternating(rows[0], 60.0, rows)
    assert rows[0].health.phase == phase


def paced(rows: list[Row], latency: float, start: float, *, times: int = 40, company: list[Row]) -> list[Change]:
    changes: list[Change] = []
    for number in range(times):
        now = start + number * 2.0
        for each in rows:
            changes += each.record(
                Outcome(kind="success", latency=latency, ttft=latency / 2), source="report", ended=now,
                duration=None, now=now, decision=None, policy=POLICY, random=Random(1), company=company,
            )  # fmt: skip
    return changes


def test_whose_answers_became_slow_is_ejected_unless_all_of_them_did(endpoint: MakeEndpoint) -> None:
    for slow in (1, 3):
        rows = [Row(endpoint(tag), POLICY, random=Random(1), now=0.0) for tag in "abc"]
        paced(rows, 1.0, 0.0, times=100, company=rows)
        changes = paced(rows[:slow], 20.0, 300.0, times=20, company=rows)
        phases = [each.health.phase for each in rows]
        if slow == 1:
            assert phases == ["ejected", "closed", "closed"]
            assert [change.cause for change in changes] == ["slow_calls"]
            assert rows[0].trips == {("slow_calls", True): 1}
        else:
            assert "ejected" not in phases[1:]  # by then the first was slow as well


def test_a_slow_trial_of_one_that_was_slow_fails_and_a_quick_one_forgets_how_slow_it_was(
    endpoint: MakeEndpoint,
) -> None:
    row = Row(endpoint("a"), POLICY, random=Random(1), now=0.0)
    paced([row], 1.0, 0.0, times=100, company=[row])
    paced([row], 20.0, 300.0, times=20, company=[row])
    assert row.health.phase == "ejected"
    for latency, phase in ((20.0, "ejected"), (1.0, "recovering")):
        due = row.health.until
        row.health.start_trial(decision="dec_1", now=due, expires=due + 100.0)
        take(row, Outcome(kind="success", latency=latency, ttft=latency / 2), due + 25.0, decision="dec_1")
        assert row.health.phase == phase
    assert row.speed.latency.samples(due + 25.0) == 1
    assert not row.slow
