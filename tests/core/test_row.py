from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.health import Change
from balancer.core.latency import TIMEOUTS_UNKNOWN
from balancer.core.model import STATES, Endpoint, HealthPolicy, Source
from balancer.core.outcome import KINDS, Outcome
from balancer.core.row import ELIGIBLE, FAILURES_MAX, UNUSABLE, Drain, Row

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
    standing = row.standing(4.0, POLICY)
    assert row.state(4.0) == standing.state == state
    assert bool(standing.reason) == (state != "healthy")
    assert (standing.next is None) or standing.reason


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
        standing = row.standing(now, POLICY)
        assert (standing.state, standing.states) == (states[0], states)
        assert standing.next_at is None or standing.next_at >= now
        if len(states) > 1:
            assert "healthy" not in states


def test_eligible_and_unusable_are_what_the_contract_says() -> None:
    assert set(STATES) - ELIGIBLE == {"drained", "misconfigured", "ejected", "half_open", "throttled"}
    assert set(UNUSABLE) == {"drained", "misconfigured"}


@pytest.mark.parametrize(
    ("make", "following", "next_at"),
    [
        (eject, "trial", 6.671821220562006),
        (make_half_open, "trial lapses", 1000.0),
        (MAKERS["throttled"], "hold ends", 31.0),
        (make_misconfigured, "waits for a change of configuration", None),
        (make_drained, None, None),
        (make_recovering, None, None),
    ],
    ids=["ejected", "half_open", "throttled", "misconfigured", "drained", "recovering"],
)
def test_every_state_tells_what_happens_next(
    row: Row, make: Callable[[Row], Any], following: str | None, next_at: float | None
) -> None:
    make(row)
    standing = row.standing(4.0, POLICY)
    assert (standing.next, standing.next_at) == (following, next_at)


def test_a_trial_that_is_due_waits_for_a_request_or_for_a_good_probe(row: Row) -> None:
    until = eject(row)
    assert row.standing(until, POLICY).next == "trial with the next request"
    take(row, Outcome(kind="connect", shallow=True), until, source="probe")
    assert row.standing(until, POLICY).next == "trial after a good probe"


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
    assert (row.state(2.0), row.standing(2.0, POLICY).reason) == ("degraded", "3 failures in a row")
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
    assert row.tier(1.0, POLICY) == tier
    assert row.tier(400.0, POLICY) == 0


def test_after_the_shortest_window_an_outage_is_a_degradation(row: Row) -> None:
    take(row, OK, 1.0, times=5)
    take(row, BAD, 1.0, times=3)
    assert (row.tier(1.0, POLICY), row.tier(31.0, POLICY)) == (2, 1)


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
    assert (row.latency.count, row.ttft.count) == (0, 0)
    take(row, Outcome(kind="success", **slow), 10.0)  # type: ignore[arg-type]
    assert (row.latency.count, row.ttft.sum) == (1, 3.0)


def test_timeouts_follow_the_endpoints_own_speed(row: Row) -> None:
    assert row.timeouts == TIMEOUTS_UNKNOWN
    take(row, Outcome(kind="success", latency=20.0, ttft=1.0), 30.0, times=20)
    assert row.timeouts.total == pytest.approx(60.0, rel=0.02)
    assert row.timeouts.first_token == pytest.approx(3.0, rel=0.02)
    take(row, Outcome(kind="success", latency=40.0, ttft=1.0), 60.0, times=500)
    assert row.timeouts.total == pytest.approx(120.0, rel=0.02)


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
