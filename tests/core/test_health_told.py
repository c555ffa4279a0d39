"""What health is told from elsewhere: by other detectors, of slowness, by probes that lie, that it only watches."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from balancer.core.cheap import FAILURES, VETO_MAX
from balancer.core.health import REFUSALS, SLOW_HOLD_MAX, Health
from balancer.core.model import HealthPolicy, Source
from balancer.core.outcome import Outcome
from balancer.core.phases import Cause, Change

POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=0.0)
BAD = Outcome(kind="server_error", latency=0.0, status=500)
LIMITED = Outcome(kind="rate_limited", latency=0.0, status=429)
REFUSED = Outcome(kind="refused", latency=0.0, status=401)
LISTED = Outcome(kind="success", latency=0.0, shallow=True)
UNLISTED = Outcome(kind="connect", latency=0.0, shallow=True)


def new() -> Health:
    return Health(random=Random(1), now=0.0)


def take(
    health: Health,
    outcome: Outcome,
    now: float,
    *,
    source: Source = "report",
    began: float | None = None,
    decision: str | None = None,
    enforced: bool = True,
    slow: bool = False,
) -> Change | None:
    return health.record(
        outcome,
        source=source,
        began=now if began is None else began,
        ended=now,
        now=now,
        decision=decision,
        policy=POLICY,
        enforced=enforced,
        slow=slow,
    )


def facts(health: Health) -> tuple[object, ...]:
    return health.phase, health.generation, health.until, health.since, health.ejections, health.lease, health.cause


def ejected() -> Health:
    health = new()
    for _ in range(5):
        take(health, BAD, 0.0)
    assert health.phase == "ejected"
    return health


def leased() -> Health:
    health = ejected()
    health.start_trial(decision="dec_1", now=100.0, expires=130.0)
    return health


def recovering() -> Health:
    health = leased()
    take(health, OK, 101.0, decision="dec_1")
    return health


def misconfigured() -> Health:
    health = new()
    for _ in range(REFUSALS):
        take(health, REFUSED, 0.0)
    return health


# ---- the word of other detectors ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [new, recovering], ids=["closed", "recovering"])
@pytest.mark.parametrize("cause", ["slow_calls", "overdue", "provider_failure"])
def test_the_word_of_another_detector_ejects_whom_is_in_service(make: Callable[[], Health], cause: Cause) -> None:
    health = make()
    generation = health.generation
    change = health.trip(cause, "seen elsewhere", 200.0, POLICY)
    assert change == Change("endpoint.ejected", "seen elsewhere", cause)
    assert (health.phase, health.cause, health.generation) == ("ejected", cause, generation + 1)
    assert POLICY.hold / 2 <= health.until - 200.0 <= POLICY.hold * 2


@pytest.mark.parametrize("make", [ejected, leased, misconfigured], ids=["ejected", "half_open", "misconfigured"])
def test_of_whom_is_out_of_service_no_other_detector_says_anything(make: Callable[[], Health]) -> None:
    health = make()
    before = facts(health)
    assert health.trip("slow_calls", "seen elsewhere", 102.0, POLICY) is None
    assert facts(health) == before


def test_an_ejection_that_is_not_to_grow_leaves_the_next_hold_as_it_was() -> None:
    health = new()
    health.trip("provider_failure", "its provider", 0.0, POLICY, grows=False)
    assert health.ejections == 0
    assert POLICY.hold / 2 <= health.until <= POLICY.hold
    grown = new()
    grown.trip("provider_failure", "its provider", 0.0, POLICY)
    assert grown.ejections == 1


# ---- refusals on a word in doubt ---------------------------------------------------------------------


def refused(*moments: float) -> Health:
    health = new()
    for moment in moments:
        take(health, REFUSED, moment)
    return health


@pytest.mark.parametrize(
    ("moments", "since", "left"),
    [
        ((10.0, 11.0, 12.0), 10.0, False),
        ((10.0, 11.0, 12.0), 10.1, True),  # one of them stands
        ((10.0, 11.0, 12.0, 30.0), 30.0, True),
        ((12.0, 11.0, 10.0), 11.0, True),  # told out of order
    ],
)
def test_refusals_are_forgotten_where_the_first_of_them_is_in_doubt(
    moments: tuple[float, ...], since: float, left: bool
) -> None:
    health = refused(*moments)
    assert health.absolve(since=since) is not left
    assert (health.misconfigured is not None) is left
    take(health, REFUSED, 40.0)
    assert (health.misconfigured is not None) is left  # a run begins anew


def test_refusals_that_are_too_few_are_forgotten_without_a_word() -> None:
    health = refused(10.0, 11.0)
    assert not health.absolve(since=10.0)
    take(health, REFUSED, 20.0)
    assert health.misconfigured is None


def test_a_success_ends_the_run_and_the_next_begins_with_its_own_first() -> None:
    health = refused(10.0, 11.0)
    take(health, OK, 12.0)
    for moment in (20.0, 21.0, 22.0):
        take(health, REFUSED, moment)
    assert health.absolve(since=20.0)
    assert health.misconfigured is None


def test_what_was_refused_before_a_restart_is_in_nobodys_doubt() -> None:
    kept = refused(10.0, 11.0, 12.0).dump(20.0)
    health = new()
    health.restore(kept, then=0.0, now=5.0, policy=POLICY)
    assert not health.absolve(since=-100.0)
    assert health.misconfigured is not None
    assert health.forgive()
    for moment in (10.0, 11.0, 12.0):
        take(health, REFUSED, moment)
    assert health.absolve(since=10.0)


def test_who_was_ejected_and_refused_since_then_stands_where_it_stood() -> None:
    health = new()
    for _ in range(5):
        take(health, BAD, 10.0)
    for moment in (11.0, 12.0, 13.0):
        take(health, REFUSED, moment)
    assert (health.phase, health.misconfigured is None) == ("ejected", False)
    assert health.absolve(since=10.0)
    assert (health.phase, health.misconfigured) == ("closed", None)


# ---- slowness ----------------------------------------------------------------------------------------


def slow_and_leased() -> Health:
    health = new()
    health.trip("slow_calls", "slow", 0.0, POLICY)
    health.start_trial(decision="dec_1", now=100.0, expires=200.0)
    return health


def test_the_hold_of_a_slow_one_stays_short_however_often_its_trials_are_slow() -> None:
    health = new()
    health.trip("slow_calls", "slow", 0.0, POLICY)
    for trial in range(20):
        now = health.until
        health.start_trial(decision=f"dec_{trial}", now=now, expires=now + 100)
        change = take(health, OK, now, decision=f"dec_{trial}", slow=True)
        assert change == Change("endpoint.ejected", "trial was slow", "failed_trial")
        assert (health.phase, health.cause) == ("ejected", "slow_calls")
        assert health.until - now <= SLOW_HOLD_MAX
    assert health.until - now >= SLOW_HOLD_MAX / 2


def test_a_slow_trial_fails_where_slowness_was_the_cause_and_passes_elsewhere() -> None:
    slow, failed = slow_and_leased(), leased()
    take(slow, OK, 101.0, decision="dec_1", slow=True)
    take(failed, OK, 101.0, decision="dec_1", slow=True)
    assert (slow.phase, failed.phase) == ("ejected", "recovering")


def test_a_quick_trial_readmits_the_slow() -> None:
    health = slow_and_leased()
    assert take(health, OK, 101.0, decision="dec_1") == Change("endpoint.readmitted", "trial passed")


def test_a_slow_one_whose_trial_fails_is_held_as_one_that_fails() -> None:
    health = slow_and_leased()
    take(health, BAD, 101.0, decision="dec_1")
    assert health.cause == "failed_trial"
    for _ in range(6):
        now = health.until
        health.start_trial(decision="dec_1", now=now, expires=now + 100)
        take(health, BAD, now, decision="dec_1")
    assert health.until - now > SLOW_HOLD_MAX
    now = health.until
    health.start_trial(decision="dec_1", now=now, expires=now + 100)
    take(health, OK, now, decision="dec_1", slow=True)
    assert health.phase == "recovering"


# ---- only watched ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "phase"), [(OK, "recovering"), (BAD, "ejected"), (LIMITED, "ejected")])
def test_of_one_that_is_only_watched_any_request_after_the_hold_is_the_trial(outcome: Outcome, phase: str) -> None:
    health = ejected()
    due, ejections = health.until, health.ejections
    assert take(health, outcome, due + 5.0, began=due - 0.001, enforced=False) is None
    assert facts(health)[:3] == facts(ejected())[:3]
    take(health, outcome, due + 5.0, began=due, enforced=False)
    assert (health.phase, health.ejections) == (phase, ejections + (outcome is BAD))


def test_of_one_that_is_enforced_a_request_without_the_lease_is_no_trial() -> None:
    health = ejected()
    before = facts(health)
    assert take(health, OK, health.until + 5.0) is None
    assert facts(health) == before


def test_of_one_that_is_only_watched_a_cheap_probe_is_no_trial_either() -> None:
    health = ejected()
    take(health, LISTED, health.until + 5.0, source="probe", enforced=False)
    assert health.phase == "ejected"


def test_cheap_probes_that_never_stop_failing_postpone_a_trial_no_longer_than_their_bound() -> None:
    health = ejected()
    since, now = health.since, health.since
    while now < since + VETO_MAX - 1.0:
        now += 10.0
        take(health, UNLISTED, now, source="probe")
        assert health.trial_due(now) is (now >= since + VETO_MAX)
    assert health.trial_due(since + VETO_MAX)


def test_cheap_probes_that_a_passed_trial_has_refuted_eject_no_more_until_one_succeeds() -> None:
    health = ejected()
    start = max(health.until, health.since + VETO_MAX)
    take(health, UNLISTED, start - 1.0, source="probe")
    health.start_trial(decision="d", now=start, expires=start + 60.0)
    take(health, OK, start + 1.0, decision="d")
    assert health.phase == "recovering"
    for step in range(20):
        take(health, UNLISTED, start + 2.0 + step, source="probe")
    assert health.phase == "recovering"
    take(health, LISTED, start + 30.0, source="probe")
    for step in range(FAILURES):
        take(health, UNLISTED, start + 31.0 + step, source="probe")
    assert health.phase == "ejected"
