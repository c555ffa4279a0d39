from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.estimate import DRIFT, FLOOR, PROVIDER_WEIGHT, STAY, TICK, failure_probability
from balancer.core.model import Endpoint, HealthPolicy
from balancer.core.notes import Drain
from balancer.core.outcome import KINDS, Outcome
from balancer.core.picture import OUTAGE_FAILURES, Picture, picture
from balancer.core.row import PROBES_FIRST, Row

MakeEndpoint = Callable[..., Endpoint]
POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=0.0)
BAD = Outcome(kind="server_error", status=500)
LIMITED = Outcome(kind="rate_limited", status=429, retry_after=30.0)


@pytest.fixture
def row(endpoint: MakeEndpoint) -> Row:
    return Row(endpoint("a"), POLICY, random=Random(1), now=0.0)


def take(row: Row, outcome: Outcome, now: float, *, times: int = 1) -> None:
    for _ in range(times):
        row.record(
            outcome, source="report", ended=now, duration=None, now=now, decision=None, policy=POLICY,
            random=Random(1),
        )  # fmt: skip


def seen(row: Row, now: float) -> Picture:
    return picture(row, now, POLICY)


# ---- tiers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "failures", "outage"),
    [(0, 0, False), (0, 1, False), (0, OUTAGE_FAILURES, True), (8, 2, True), (18, 2, False), (50, 0, False)],
    ids=["nothing", "one failure is no outage", "two of two", "a fifth", "less than a fifth", "well"],
)
def test_an_outage_is_two_failures_that_are_a_fifth_of_the_last_seconds(
    row: Row, successes: int, failures: int, outage: bool
) -> None:
    take(row, OK, 1.0, times=successes)
    take(row, BAD, 1.0, times=failures)
    assert (seen(row, 1.0).tier == 2) == outage
    assert seen(row, 1.0 + POLICY.windows[0]).tier < 2
    assert seen(row, 1.0 + STAY).tier == 0


def test_after_the_shortest_window_an_outage_is_a_degradation_while_it_is_believed(row: Row) -> None:
    take(row, OK, 1.0, times=5)
    take(row, BAD, 3.0, times=4)
    tiers = [seen(row, now).tier for now in (3.0, 32.0, 33.0, 3.0 + STAY)]
    assert tiers == [2, 2, 1, 0]
    assert [seen(row, now).degraded for now in (3.0, 33.0, 3.0 + STAY)] == [True, True, False]


def test_two_failures_told_in_the_wrong_order_are_an_outage_too_and_two_far_apart_are_none(row: Row) -> None:
    take(row, BAD, 100.0)
    take(row, BAD, 72.0)
    assert [seen(row, now).tier for now in (100.0, 102.5)] == [2, 1]
    take(row, BAD, 90.0)
    assert seen(row, 102.5).tier == 2
    take(row, BAD, 60.0)
    assert seen(row, 102.5).tier == 2


# ---- figures -----------------------------------------------------------------------------------------


def test_of_whom_nothing_is_known_all_is_the_prior_and_nothing_changes(row: Row) -> None:
    assert seen(row, 5.0) == Picture("unverified", False, pytest.approx(0.0), 1.0, FLOOR, 0, True, inf)  # type: ignore[arg-type]


def test_its_providers_others_have_their_part_of_the_prior(row: Row) -> None:
    take(row, OK, 1.0, times=3)
    alone = seen(row, 600.0)
    row.kin = 0.3
    together = seen(row, 600.0)
    assert together.slope == pytest.approx(alone.slope * (1 - PROVIDER_WEIGHT))
    assert together.base == pytest.approx(alone.base + alone.slope * PROVIDER_WEIGHT * 0.3)
    for prior in (0.0, 0.02, 0.5):
        told = failure_probability(together.base, together.slope, prior)
        assert told == pytest.approx(1 - row.success_estimate(600.0, prior=prior), abs=max(DRIFT, TICK / STAY))


def test_it_is_stale_when_nothing_was_seen_for_the_second_window(row: Row) -> None:
    take(row, OK, 10.0)
    border = 10.0 + POLICY.windows[1]
    assert [seen(row, now).stale for now in (10.0, border - 0.001, border)] == [False, False, True]
    assert seen(row, 10.0).until <= border


def test_who_may_well_be_back_is_looked_at_unless_a_probe_will_find_out(row: Row) -> None:
    take(row, OK, 0.0, times=20)
    take(row, BAD, 2.0, times=3)
    assert not seen(row, 2.0).stale
    now = 2.0
    while not row.belief.hopeful:
        now += 5.0
        take(row, OK, now)
        assert now < 100.0
    assert seen(row, now).stale
    row.record(
        OK, source="probe", ended=now, duration=None, now=now, decision=None, policy=POLICY, random=Random(1)
    )  # fmt: skip
    assert row.belief.hopeful
    found = seen(row, now)
    assert (found.stale, found.until <= now + PROBES_FIRST) == (False, True)
    assert seen(row, now + PROBES_FIRST).stale


# ---- only watched ------------------------------------------------------------------------------------


def ejected(row: Row) -> None:
    take(row, BAD, 1.0, times=5)


def degraded(row: Row) -> None:
    take(row, OK, 0.0, times=20)
    take(row, BAD, 2.0, times=4)


def limited(row: Row) -> None:
    take(row, LIMITED, 1.0)


def refused(row: Row) -> None:
    take(row, Outcome(kind="refused", status=401), 1.0, times=3)


@pytest.mark.parametrize("befalls", [ejected, degraded, limited, refused])
def test_what_is_only_watched_looks_well_whatever_befalls_it(row: Row, befalls: Callable[[Row], None]) -> None:
    row.enforced = False
    befalls(row)
    found = seen(row, 3.0)
    assert row.state(3.0) not in ("healthy", "unverified")
    assert found.state == ("healthy" if row.verified else "unverified")
    assert (found.degraded, found.tier, found.base, found.slope) == (False, 0, FLOOR, 0.0)


def test_what_is_only_watched_still_heeds_the_operator_and_its_configuration(
    endpoint: MakeEndpoint, row: Row
) -> None:
    row.enforced = False
    row.drains = (Drain("a", "upgrade", 0.0, 50.0),)
    assert [seen(row, now).state for now in (1.0, 49.9, 50.0)] == ["drained", "drained", "unverified"]
    assert seen(row, 1.0).until == 50.0
    keyless = Row(endpoint("b", misconfigured="B_KEY is not set"), POLICY, random=Random(1), now=0.0)
    keyless.enforced = False
    assert seen(keyless, 1.0).state == "misconfigured"


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
        return picture(self.row, now, self.policy)


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
            for index in range(len(policy.windows)):
                asked.row.evidence(index, max(0.0, asked.now - look))
    unasked = lived(endpoint("a"), policy, story)
    now = asked.now + pause
    assert asked.picture(now) == unasked.picture(now)
    for index in range(len(policy.windows)):
        again = lived(endpoint("a"), policy, story).row
        assert asked.row.evidence(index, now) == again.evidence(index, now)
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
        if now <= moment < told.until - 1e-6:  # or a moment may be rounded into the next slice
            assert lived(endpoint("a"), policy, story).picture(moment) == told
