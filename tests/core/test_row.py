from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.health import Change
from balancer.core.latency import SLICE, TIMEOUTS_UNKNOWN
from balancer.core.model import STATES, Endpoint, HealthPolicy, Source, TimeoutPolicy, Timeouts
from balancer.core.notes import Drain
from balancer.core.outcome import KINDS, Outcome
from balancer.core.row import ELIGIBLE, FAILURES_MAX, UNUSABLE, Picture, Row
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
    take(row, BAD, 1.0, times=4)


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


@pytest.mark.parametrize(
    ("successes", "failures", "degraded"),
    [(0, 0, False), (0, 2, False), (4, 1, False), (3, 2, True), (18, 2, False), (17, 3, True), (950, 40, False)],
)
def test_degraded_is_a_significant_share_and_not_one_bad_call(
    row: Row, successes: int, failures: int, degraded: bool
) -> None:
    for number in range(failures):
        row.record(
            BAD, source="report", ended=1.0 + number / 100, duration=None, now=2.0, decision=None,
            policy=HealthPolicy(consecutive_failures=20, min_outcomes=20), random=Random(1),
        )  # fmt: skip
    take(row, OK, 1.9, times=successes)
    assert row.degraded(2.0) == degraded
    assert not row.degraded(302.0)


def test_three_failures_in_a_row_are_degraded_whatever_went_before(row: Row) -> None:
    take(row, OK, 1.0, times=500)
    take(row, BAD, 2.0, times=2)
    assert row.state(2.0) == "healthy"
    take(row, BAD, 2.0)
    assert (row.state(2.0), standing(row, 2.0, POLICY).reason) == ("degraded", "3 failures in a row")
    assert row.state(2.0 + 299.0) == "degraded"
    assert row.state(2.0 + 300.0) == "healthy"
    take(row, OK, 3.0)
    assert row.state(3.0) == "healthy"


@pytest.mark.parametrize(
    ("successes", "failures", "tier"),
    [(0, 0, 0), (0, 1, 0), (0, 2, 2), (8, 2, 2), (18, 2, 0), (50, 0, 0)],
    ids=["nothing", "one failure is no outage", "two of two", "a fifth", "less than a fifth", "well"],
)
def test_an_outage_is_two_failures_that_are_a_fifth_of_the_last_seconds(
    row: Row, successes: int, failures: int, tier: int
) -> None:
    take(row, OK, 1.0, times=successes)
    take(row, BAD, 1.0, times=failures)
    assert row.picture(1.0, POLICY).tier == tier
    assert row.picture(400.0, POLICY).tier == 0


def test_after_the_shortest_window_an_outage_is_a_degradation(row: Row) -> None:
    take(row, OK, 1.0, times=5)
    take(row, BAD, 1.0, times=3)
    assert (row.picture(1.0, POLICY).tier, row.picture(31.0, POLICY).tier) == (2, 1)


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
    assert row.evidence(1.0).alarm.tries == 3
    take(row, OK, 1.0, source="probe")
    assert row.evidence(1.0).alarm.tries == 54


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
    assert (row.state(1.0), row.evidence(1.0).alarm.tries) == ("unverified", 0)
    assert row.failures[-1].status == 422


def test_trips_are_counted_by_cause(row: Row) -> None:
    eject(row)
    row.health.start_trial(decision="dec_1", now=2.0, expires=1000.0)
    take(row, BAD, 3.0, decision="dec_1")
    assert row.trips == {"consecutive_failures": 1, "failed_trial": 1}


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
    assert row.evidence(1.0).alarm.failure == 1
    take(row, Outcome(kind="overloaded", status=529), 5.0)
    assert row.throttle.until == 21.0


def test_other_failures_with_a_hint_hold_nothing(row: Row) -> None:
    take(row, Outcome(kind="server_error", status=500, retry_after=20.0), 1.0)
    assert not row.throttle.holds(1.0)


def test_listing_models_does_not_ease_a_quota(row: Row) -> None:
    take(row, Outcome(kind="rate_limited"), 1.0)
    take(row, LISTED, 50.0, source="probe")
    assert row.throttle.exponent == 1
    take(row, OK, 50.0)
    assert row.throttle.exponent == 0


# ---- the memo and the truth --------------------------------------------------------------------------

SHORT = HealthPolicy(windows=(3.0, 12.0, 60.0), min_outcomes=3, hold=2.0, hold_max=8.0, ramp_requests=2)
QUARTERS = st.integers(0, 200).map(lambda number: number / 4)
PAUSES = st.one_of(st.just(0.0), QUARTERS, st.sampled_from((29.75, 30.0, 299.75, 300.0, 1800.0, 90_000.0)))
EVENTS = st.one_of(
    st.tuples(st.just("report"), st.sampled_from(KINDS), st.integers(1, 6), PAUSES, st.just(False)),
    st.tuples(st.just("probe"), st.sampled_from(KINDS), st.integers(1, 4), PAUSES, st.booleans()),
    st.tuples(st.sampled_from(("drain", "resume", "lease")), st.none(), st.just(1), PAUSES, st.just(False)),
)
LIVES = st.lists(st.tuples(PAUSES, EVENTS), max_size=25)
Event = tuple[str, Any, int, float, bool]


class Life:
    """What befalls one row. `span` is the age of an outcome, or for how long a drain or a lease lasts."""

    def __init__(self, endpoint: Endpoint, policy: HealthPolicy) -> None:
        self.row = Row(endpoint, policy, random=Random(1), now=0.0)
        self.policy = policy
        self.now = 0.0

    def live(self, pause: float, event: Event) -> None:
        row, (what, kind, times, span, shallow) = self.row, event
        self.now += pause
        if what == "drain":
            row.drains = (Drain("a", "", self.now, self.now + span),)
        elif what == "resume":
            row.drains = ()
        elif what == "lease":
            if row.health.phase_at(self.now) == "ejected":
                row.health.start_trial(decision="dec_1", now=self.now, expires=self.now + 1 + span)
        else:
            for number in range(times):
                row.record(
                    Outcome(kind=kind, latency=0.25, shallow=shallow, retry_after=span if times == 2 else None),
                    source="probe" if what == "probe" else "report",
                    ended=self.now - (span if times % 2 else 0.0),
                    duration=None,
                    now=self.now,
                    decision="dec_1" if number == 3 else None,
                    policy=self.policy,
                    random=Random(1),
                )

    def picture(self, now: float) -> Picture:
        return self.row.picture(now, self.policy)


def lived(endpoint: Endpoint, policy: HealthPolicy, story: list[tuple[float, Event]]) -> Life:
    """A row that nobody ever asked."""
    life = Life(endpoint, policy)
    for pause, event in story:
        life.live(pause, event)
    return life


@settings(deadline=None)
@given(LIVES, PAUSES, st.sampled_from((POLICY, SHORT)), st.lists(st.sampled_from((-30.0, -0.25, 0.0, 5.0, 400.0))))
def test_a_row_that_is_asked_all_the_time_shows_the_picture_of_one_that_never_was(
    endpoint: MakeEndpoint,
    story: list[tuple[float, Event]],
    pause: float,
    policy: HealthPolicy,
    looks: list[float],
) -> None:
    asked = Life(endpoint("a"), policy)
    for each in story:
        asked.live(*each)
        for look in looks:  # at the past and the future, too
            asked.picture(max(0.0, asked.now + look))
            asked.row.evidence(max(0.0, asked.now - look))
    unasked = lived(endpoint("a"), policy, story)
    now = asked.now + pause
    assert asked.picture(now) == unasked.picture(now)
    assert asked.row.evidence(now) == lived(endpoint("a"), policy, story).row.evidence(now)
    assert asked.row.states(now) == unasked.row.states(now)


@settings(deadline=None)
@given(LIVES, PAUSES, st.sampled_from((POLICY, SHORT)), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_a_picture_stays_true_until_the_moment_that_it_names(
    endpoint: MakeEndpoint,
    story: list[tuple[float, Event]],
    pause: float,
    policy: HealthPolicy,
    parts: list[float],
) -> None:
    life = lived(endpoint("a"), policy, story)
    now = life.now + pause
    told = life.picture(now)
    assert told.until > now
    end = min(told.until, now + 200_000.0)
    for moment in (*[now + part * (end - now) for part in parts], end - 0.125, now + 0.125):
        if now <= moment < told.until:
            later = lived(endpoint("a"), policy, story).picture(moment)
            assert later._replace(until=0.0) == told._replace(until=0.0)
