from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.cheap import FAILED_AGE, FAILURES
from balancer.core.health import (
    EJECTION_DECAY,
    FLAPPING,
    RECOVERING_FAILURES,
    REFUSALS,
    Health,
)
from balancer.core.model import HealthPolicy, Source
from balancer.core.outcome import COUNTS, KINDS, Kind, Outcome
from balancer.core.phases import Change
from balancer.core.recent import RECENT_AGE, Peers

POLICY = HealthPolicy()

OK = Outcome(kind="success", latency=0.0)
BAD = Outcome(kind="server_error", latency=0.0, status=500)
LIMITED = Outcome(kind="rate_limited", latency=0.0, status=429)
REFUSED = Outcome(kind="refused", latency=0.0, status=401)
LISTED = Outcome(kind="success", latency=0.0, shallow=True)
UNLISTED = Outcome(kind="connect", latency=0.0, shallow=True)
SHALLOW_REFUSED = Outcome(kind="refused", latency=0.0, status=401, shallow=True)


def new(seed: int = 1, *, now: float = 0.0) -> Health:
    return Health(random=Random(seed), now=now)


def take(
    health: Health,
    outcome: Outcome,
    now: float,
    *,
    times: int = 1,
    source: Source = "report",
    began: float | None = None,
    decision: str | None = None,
    policy: HealthPolicy = POLICY,
    others: Callable[[], Peers | None] = lambda: None,
) -> Change | None:
    change = None
    for _ in range(times):
        change = health.record(
            outcome,
            source=source,
            began=now if began is None else began,
            ended=now,
            now=now,
            decision=decision,
            policy=policy,
            others=others,
        )
    return change


def facts(health: Health) -> tuple[object, ...]:
    return (
        health.phase,
        health.generation,
        health.until,
        health.since,
        health.ejections,
        health.lease,
        health.ramp_left,
        health.misconfigured,
    )


def ejected(seed: int = 1, *, now: float = 0.0) -> Health:
    health = new(seed, now=now)
    take(health, BAD, now, times=5)
    assert health.phase == "ejected"
    return health


def leased(seed: int = 1) -> Health:
    health = ejected(seed)
    health.start_trial(decision="dec_1", now=100.0, expires=130.0)
    return health


def recovering(seed: int = 1) -> Health:
    health = leased(seed)
    take(health, OK, 101.0, decision="dec_1")
    assert health.phase == "recovering"
    return health


# ---- the table of transitions -------------------------------------------------------------------------


def test_every_row_of_the_table_happens() -> None:
    walked: list[tuple[str, str | None, str]] = []

    def step(health: Health, change: Change | None, before: str) -> None:
        walked.append((before, None if change is None else change.event, health.phase))

    health = new()
    step(health, take(health, BAD, 0.0, times=5), "closed")
    step(health, health.start_trial(decision="a", now=20.0, expires=30.0), "ejected")
    step(health, take(health, BAD, 21.0, decision="a"), "half_open")
    step(health, take(health, BAD, 100.0, source="probe"), "ejected")
    step(health, take(health, OK, 200.0, source="probe"), "ejected")
    step(health, take(health, OK, 201.0, times=10), "recovering")
    health = recovering()
    step(health, take(health, BAD, 102.0, times=2), "recovering")
    health = leased()
    step(health, take(health, OK, 101.0, decision="dec_1"), "half_open")
    health = leased()
    step(health, take(health, LIMITED, 101.0, decision="dec_1"), "half_open")
    assert walked == [
        ("closed", "endpoint.ejected", "ejected"),
        ("ejected", "endpoint.trial_started", "half_open"),
        ("half_open", "endpoint.ejected", "ejected"),
        ("ejected", "endpoint.ejected", "ejected"),
        ("ejected", "endpoint.readmitted", "recovering"),
        ("recovering", "endpoint.recovered", "closed"),
        ("recovering", "endpoint.ejected", "ejected"),
        ("half_open", "endpoint.readmitted", "recovering"),
        ("half_open", "endpoint.trial_lapsed", "ejected"),
    ]


def test_an_endpoint_that_fails_again_and_again_needs_two_good_probes_in_a_row() -> None:
    health = new()
    take(health, BAD, 0.0, times=5)
    now = 0.0
    while health.ejections < FLAPPING:
        now = health.until + 1.0
        take(health, BAD, now, source="probe")
    now = health.until + 1.0
    assert take(health, OK, now, source="probe") is None
    assert take(health, BAD, now + 1.0, source="probe") is not None, "and one bad one between begins it anew"
    now = health.until + 1.0
    assert take(health, OK, now, source="probe") is None
    change = take(health, OK, now + 1.0, source="probe")
    assert change is not None
    assert (change.event, health.phase) == ("endpoint.readmitted", "recovering")


@pytest.mark.parametrize("make", [new, leased, recovering], ids=["closed", "half_open", "recovering"])
def test_a_trial_can_be_leased_only_to_the_ejected(make: object) -> None:
    health = make()  # type: ignore[operator]
    before = facts(health)
    with pytest.raises(KeyError):
        health.start_trial(decision="another", now=102.0, expires=200.0)
    assert facts(health) == before


# ---- tripping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("successes", [0, 1, 4, 20, 200])
def test_a_total_failure_is_found_by_the_fifth_outcome(successes: int) -> None:
    health = new()
    take(health, OK, 0.0, times=successes)
    take(health, BAD, 1.0, times=5)
    assert health.phase == "ejected"


def test_four_failures_in_a_row_are_not_enough_after_good_ones() -> None:
    health = new()
    take(health, OK, 0.0, times=20)
    assert take(health, BAD, 1.0, times=4) is None
    assert health.phase == "closed"
    change = take(health, BAD, 1.0)
    assert change == Change("endpoint.ejected", "5 failures in a row (500)", "consecutive_failures")


def test_a_significant_share_trips_without_five_in_a_row() -> None:
    health = new()
    take(health, OK, 0.0, times=300)
    changes = [take(health, outcome, 0.0) for outcome in (OK, BAD) * 10]
    assert next(change for change in changes if change is not None) == Change(
        "endpoint.ejected", "8 of the last 15 failed; usual is 2% (500)", "failure_share"
    )


def test_one_that_never_did_better_is_judged_by_the_policys_ratio() -> None:
    health = new()
    changes = [take(health, outcome, 0.0) for outcome in (OK, BAD) * 10]
    assert [change for change in changes if change is not None] == [
        Change("endpoint.ejected", "10 of the last 20 failed (500)", "failure_share")
    ]


def test_below_the_minimum_of_outcomes_a_share_is_no_verdict() -> None:
    policy = HealthPolicy(consecutive_failures=100, min_outcomes=20)
    health = new()
    take(health, BAD, 0.0, times=19, policy=policy)
    assert health.phase == "closed"
    take(health, BAD, 0.0, policy=policy)
    assert health.phase == "ejected"


def test_old_outcomes_are_no_evidence() -> None:
    health = new()
    take(health, BAD, 0.0, times=4)
    take(health, BAD, RECENT_AGE, times=4)
    assert health.phase == "closed"
    assert take(health, BAD, RECENT_AGE) is not None


def test_a_share_that_only_just_reaches_the_policys_ratio_is_no_verdict() -> None:
    health = new()
    for _ in range(50):
        take(health, OK, 0.0, times=4)
        take(health, BAD, 0.0)
    assert health.phase == "closed"


def test_where_the_peers_fail_as_well_a_share_is_no_verdict_and_a_row_of_failures_is() -> None:
    asked: list[str] = []

    def others(share: float) -> Callable[[], Peers]:
        def found() -> Peers:
            asked.append("")
            return Peers(share, share + 0.12)

        return found

    for share, phase in ((0.01, "ejected"), (0.6, "closed")):
        health = new()
        take(health, OK, 0.0, times=300, others=others(share))
        assert not asked  # nobody is asked while all is well
        for _ in range(10):
            take(health, OK, 0.0, others=others(share))
            take(health, BAD, 0.0, others=others(share))
        assert health.phase == phase
        asked.clear()
    take(health, BAD, 0.0, times=9, others=others(1.0))
    assert (health.phase, health.cause) == ("ejected", "consecutive_failures")


def test_what_is_usual_is_learned_in_service_only() -> None:
    health = new()
    take(health, OK, 0.0, times=20)
    learned = health.recent.learned
    take(health, BAD, 1.0, times=5)
    health.start_trial(decision="dec_1", now=100.0, expires=200.0)
    take(health, OK, 101.0, decision="dec_1")
    take(health, OK, 102.0, times=5)
    assert (health.phase, health.recent.learned) == ("recovering", learned)
    take(health, OK, 103.0, times=6)
    assert (health.phase, health.recent.learned) == ("closed", learned + 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if COUNTS[kind] in ("none", "rate_limited")])
def test_what_does_not_count_neither_trips_nor_breaks_a_streak(kind: Kind) -> None:
    health = new()
    take(health, Outcome(kind=kind), 0.0, times=50)
    assert facts(health) == facts(new())
    take(health, BAD, 1.0, times=4)
    take(health, Outcome(kind=kind), 1.0, times=50)
    assert health.phase == "closed"
    take(health, BAD, 1.0)
    assert health.phase == "ejected"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if COUNTS[kind] == "failure" and kind != "refused"])
def test_every_failure_counts_alike(kind: Kind) -> None:
    health = new()
    change = take(health, Outcome(kind=kind), 0.0, times=5)
    assert change == Change("endpoint.ejected", f"5 failures in a row ({kind})", "consecutive_failures")


def test_failed_cheap_probes_in_a_row_eject_whatever_the_traffic_says() -> None:
    health = new()
    for _ in range(FAILURES - 1):
        assert take(health, UNLISTED, 0.0, source="probe") is None
    change = take(health, UNLISTED, 0.0, source="probe")
    assert change == Change("endpoint.ejected", "3 probes failed in a row (connect)", "failed_probes")


def test_a_good_request_forgives_failed_cheap_probes() -> None:
    health = new()
    for _ in range(5):
        take(health, UNLISTED, 0.0, times=2, source="probe")
        take(health, OK, 0.0)
    assert health.phase == "closed"


@pytest.mark.parametrize(
    ("probes", "reason"),
    [
        ("xx.", None),
        ("x..x..x..x..x", None),  # one in three, and never three of five
        ("x.x.x", "3 of the last 5 probes failed (connect)"),
        ("xx.x", "3 of the last 5 probes failed (connect)"),
        ("xx..x", "3 of the last 5 probes failed (connect)"),
        ("xx...x", None),
        ("x.xxx", "3 of the last 5 probes failed (connect)"),
        ("...xxx", "3 probes failed in a row (connect)"),
    ],
)
def test_three_of_the_last_five_cheap_probes_eject(probes: str, reason: str | None) -> None:
    health = new()
    changes = [take(health, UNLISTED if each == "x" else LISTED, 0.0, source="probe") for each in probes]
    told = [change for change in changes if change is not None]
    assert told[:1] == ([] if reason is None else [Change("endpoint.ejected", reason, "failed_probes")])


def test_good_cheap_probes_do_not_hide_failing_requests() -> None:
    health = new()
    for _ in range(5):
        take(health, LISTED, 0.0, times=3, source="probe")
        take(health, BAD, 0.0)
    assert health.phase == "ejected"


def test_a_normal_error_floor_trips_nobody_in_four_days() -> None:
    random, health = Random(20), new()
    for request in range(4 * 43_200):  # half a request a second
        assert take(health, BAD if random.random() < 0.02 else OK, request * 2.0) is None


@pytest.mark.parametrize(("share", "median"), [(0.5, 20), (0.3, 100)])
def test_a_partial_failure_is_found_within_its_simulated_delay(share: float, median: int) -> None:
    random = Random(5)
    needed = []
    for _ in range(101):
        health = new()
        take(health, OK, 0.0, times=60)
        count = 1
        while take(health, BAD if random.random() < share else OK, float(count)) is None:
            count += 1
        needed.append(count)
    assert sorted(needed)[50] <= median


# ---- holds -------------------------------------------------------------------------------------------


def failing_trials(health: Health, now: float, times: int) -> list[float]:
    holds = []
    for trial in range(times):
        now = health.until
        health.start_trial(decision=f"dec_{trial}", now=now, expires=now + 100)
        take(health, BAD, now, decision=f"dec_{trial}")
        holds.append(health.until - now)
    return holds


@given(st.integers(0, 10_000))
def test_holds_double_with_equal_jitter_up_to_the_cap(seed: int) -> None:
    health = ejected(seed)
    holds = [health.until, *failing_trials(health, 0.0, 9)]
    for trip, hold in enumerate(holds):
        longest = min(POLICY.hold * 2**trip, POLICY.hold_max)
        assert longest / 2 <= hold <= longest + 1e-6


def test_a_day_of_failed_trials_is_forgotten_as_fast_as_an_hour_of_them() -> None:
    health = ejected()
    failing_trials(health, 0.0, 6)
    after_an_hour = health.ejections
    failing_trials(health, 0.0, 300)
    assert health.ejections == after_an_hour <= 6


def test_good_time_decays_the_count_and_the_next_hold() -> None:
    health = ejected()
    failing_trials(health, 0.0, 3)
    now = health.until
    health.start_trial(decision="dec_good", now=now, expires=now + 100)
    take(health, OK, now, decision="dec_good")
    take(health, OK, now + 1, times=10)
    assert (health.phase, health.ejections) == ("closed", 4)
    later = now + 1 + 4 * EJECTION_DECAY
    take(health, BAD, later, times=5)
    assert health.ejections == 1
    assert POLICY.hold / 2 <= health.until - later <= POLICY.hold


def test_a_clock_that_runs_backwards_does_not_lengthen_holds() -> None:
    health = new(now=1e6)
    take(health, BAD, 1e6, times=4)
    for _ in range(2):
        health.record(BAD, source="report", began=1e6, ended=1e6, now=0.0, decision=None, policy=POLICY)
    assert health.ejections == 1


def test_a_success_during_the_hold_shortens_nothing() -> None:
    health = ejected()
    before = facts(health)
    take(health, OK, 1.0, times=20)
    take(health, OK, 1.0, times=20, source="probe")
    take(health, LISTED, 1.0, times=20, source="probe")
    assert facts(health) == before


# ---- trials ------------------------------------------------------------------------------------------


def test_a_trial_is_due_when_the_hold_is_over_and_not_before() -> None:
    health = ejected()
    assert not health.trial_due(health.until - 0.001)
    assert health.trial_due(health.until)


def test_a_failed_cheap_probe_postpones_the_trial_until_a_good_one_or_until_it_is_old() -> None:
    health = ejected()
    take(health, UNLISTED, 20.0, source="probe")
    assert not health.trial_due(20.0 + FAILED_AGE - 0.001)
    assert health.trial_due(20.0 + FAILED_AGE)
    take(health, LISTED, 21.0, source="probe")
    assert health.trial_due(21.0)
    assert health.phase == "ejected"


def test_an_expired_lease_is_gone_for_readers_at_once_and_its_report_decides_nothing() -> None:
    health = leased()
    assert health.phase_at(129.999) == "half_open"
    assert health.phase_at(130.0) == "ejected"
    assert health.trial_due(130.0)
    assert take(health, OK, 131.0, decision="dec_1") is None
    assert health.phase == "ejected"


def test_a_new_trial_follows_one_whose_report_never_came_and_the_old_report_does_not_decide_it() -> None:
    health = leased()
    health.start_trial(decision="dec_2", now=131.0, expires=200.0)
    assert take(health, OK, 140.0, decision="dec_1") is None
    assert health.phase == "half_open"
    take(health, OK, 141.0, decision="dec_2")
    assert health.phase == "recovering"


def test_a_cheap_probe_that_names_the_lease_does_not_decide_the_trial() -> None:
    health = leased()
    assert take(health, LISTED, 101.0, source="probe", decision="dec_1") is None
    assert health.phase == "half_open"


def test_a_probe_that_does_real_work_is_the_trial_of_an_endpoint_without_traffic() -> None:
    health = ejected()
    assert take(health, OK, health.until - 0.001, source="probe") is None
    change = take(health, OK, health.until, source="probe")
    assert change == Change("endpoint.readmitted", "trial passed")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if COUNTS[kind] in ("none", "rate_limited")])
def test_a_trial_that_says_nothing_about_the_provider_costs_no_longer_hold(kind: Kind) -> None:
    health = leased()
    until, ejections = health.until, health.ejections
    change = take(health, Outcome(kind=kind), 101.0, decision="dec_1")
    assert change == Change("endpoint.trial_lapsed", f"the trial decided nothing ({kind})")
    assert (health.phase, health.until, health.ejections) == ("ejected", until, ejections)
    assert health.trial_due(101.0)


def test_a_failed_trial_holds_longer_and_says_why() -> None:
    health = leased()
    change = take(health, BAD, 101.0, decision="dec_1")
    assert change == Change("endpoint.ejected", "trial failed (500)", "failed_trial")
    assert 10.0 <= health.until - 101.0 <= 20.0


# ---- slow start --------------------------------------------------------------------------------------


def test_the_ramp_grows_by_successes_and_ends_after_exactly_ten() -> None:
    health = recovering()
    shares = []
    for _ in range(9):
        shares.append(health.admission(POLICY))
        assert take(health, OK, 102.0) is None
    shares.append(health.admission(POLICY))
    assert shares == [pytest.approx((done + 1) / 11) for done in range(10)]
    assert take(health, OK, 102.0) == Change("endpoint.recovered", "slow start is over")
    assert (health.phase, health.admission(POLICY)) == ("closed", 1.0)


def test_without_a_ramp_a_passed_trial_leads_straight_back() -> None:
    policy = HealthPolicy(ramp_requests=0)
    health = leased()
    change = take(health, OK, 101.0, decision="dec_1", policy=policy)
    assert change == Change("endpoint.readmitted", "trial passed")
    assert (health.phase, health.admission(policy)) == ("closed", 1.0)


def test_a_ramp_that_a_reload_shortened_still_admits() -> None:
    assert recovering().admission(HealthPolicy(ramp_requests=3)) == pytest.approx(1 / 4)


def test_one_failure_of_the_normal_floor_does_not_end_a_slow_start_and_two_in_a_row_do() -> None:
    health = recovering()
    for _ in range(3):
        take(health, BAD, 102.0, times=RECOVERING_FAILURES - 1)
        take(health, OK, 102.0, times=2)
    assert health.phase == "recovering"
    change = take(health, BAD, 102.0, times=RECOVERING_FAILURES)
    assert change is not None
    assert change.reason == "2 failures in a row while recovering (500)"


def test_a_slow_call_from_before_the_outage_fails_nobodys_recovery() -> None:
    health = recovering()
    before = facts(health)
    take(health, BAD, 105.0, times=20, began=100.5)
    assert facts(health) == before


# ---- misconfigured -----------------------------------------------------------------------------------


def test_refusals_in_a_row_mean_misconfigured_and_a_success_heals() -> None:
    health = new()
    assert take(health, REFUSED, 0.0, times=REFUSALS - 1) is None
    change = take(health, REFUSED, 0.0)
    assert change == Change("endpoint.misconfigured", "refused 3 times without a success between (401)")
    take(health, BAD, 1.0, times=20)
    assert health.phase == "closed"
    change = take(health, OK, 1.0)
    assert change == Change("endpoint.readmitted", "the provider accepts us again")
    assert health.misconfigured is None


def test_a_success_between_refusals_begins_their_count_anew() -> None:
    health = new()
    for _ in range(4):
        take(health, REFUSED, 0.0, times=REFUSALS - 1)
        take(health, OK, 0.0)
    assert health.misconfigured is None


def test_a_cheap_probe_does_not_heal_what_real_requests_found_refused() -> None:
    health = new()
    take(health, REFUSED, 0.0, times=REFUSALS)
    take(health, LISTED, 1.0, times=50, source="probe")
    assert health.misconfigured is not None


def test_a_cheap_probe_heals_what_cheap_probes_found_refused() -> None:
    health = new()
    take(health, SHALLOW_REFUSED, 0.0, times=REFUSALS, source="probe")
    assert health.misconfigured is not None
    take(health, LISTED, 1.0, source="probe")
    assert health.misconfigured is None


def test_the_operators_word_forgives() -> None:
    health = new()
    take(health, REFUSED, 0.0, times=REFUSALS)
    assert health.forgive()
    assert not health.forgive()
    assert health.misconfigured is None
    assert take(health, REFUSED, 1.0, times=REFUSALS - 1) is None


def test_trials_that_are_refused_again_and_again_mean_misconfigured() -> None:
    health = ejected()
    changes = []
    for trial in range(REFUSALS):
        now = health.until
        health.start_trial(decision=f"dec_{trial}", now=now, expires=now + 100)
        changes.append(take(health, REFUSED, now, decision=f"dec_{trial}"))
    assert [None if change is None else (change.event, change.cause) for change in changes] == [
        ("endpoint.ejected", "failed_trial"),
        ("endpoint.ejected", "failed_trial"),
        ("endpoint.misconfigured", "failed_trial"),
    ]
    assert health.misconfigured == "refused 3 times without a success between (401)"


def test_a_passed_trial_forgives_what_cheap_probes_found_refused_meanwhile() -> None:
    health = leased()
    take(health, SHALLOW_REFUSED, 101.0, times=REFUSALS, source="probe")
    assert health.misconfigured is not None
    change = take(health, OK, 102.0, decision="dec_1")
    assert change == Change("endpoint.readmitted", "trial passed")
    assert (health.phase, health.misconfigured) == ("recovering", None)
