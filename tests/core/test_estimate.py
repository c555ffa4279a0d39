from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.estimate import ALARM_Z, BOUNDS, FLOOR, WEIGHT, failure_probability, peers_prior, shrink
from balancer.core.health import wilson
from balancer.core.window import Counts

NOTHING = Counts()
numbers = st.integers(0, 5000)
counts = st.builds(Counts, numbers, numbers, numbers)
priors = st.floats(0.001, 0.999)


def chance(
    *,
    long: Counts = NOTHING,
    memory: Counts = NOTHING,
    alarm: Counts = NOTHING,
    prior: float = FLOOR,
    outcomes_min: int = 5,
) -> float:
    return failure_probability(long=long, memory=memory, alarm=alarm, prior=prior, outcomes_min=outcomes_min)


@given(counts, counts, counts, st.floats(0, 1), st.integers(1, 50))
def test_nothing_is_certain(long: Counts, memory: Counts, alarm: Counts, prior: float, outcomes_min: int) -> None:
    found = failure_probability(long=long, memory=memory, alarm=alarm, prior=prior, outcomes_min=outcomes_min)
    assert BOUNDS[0] <= found <= BOUNDS[1]


@given(priors)
def test_without_evidence_the_prior_stands(prior: float) -> None:
    assert chance(prior=prior) == pytest.approx(prior)


@given(counts, counts, counts, priors, st.sampled_from(("long", "memory", "alarm", "all")), st.booleans())
def test_one_more_failure_never_makes_success_likelier(
    long: Counts, memory: Counts, alarm: Counts, prior: float, where: str, limited: bool
) -> None:
    worse = Counts(rate_limited=1) if limited else Counts(failure=1)
    windows = {"long": long, "memory": memory, "alarm": alarm}
    more = {name: window.plus(worse) if where in (name, "all") else window for name, window in windows.items()}
    assert chance(**more, prior=prior) >= chance(**windows, prior=prior) - 1e-12


@given(counts, counts, priors)
def test_one_more_success_never_makes_failure_likelier_where_no_alarm_rings(
    long: Counts, memory: Counts, prior: float
) -> None:
    good = Counts(success=1)
    before = chance(long=long, memory=memory, prior=prior)
    assert chance(long=long.plus(good), memory=memory.plus(good), prior=prior) <= before + 1e-12


@given(counts, counts, counts, priors)
def test_the_alarm_only_raises_and_only_to_what_it_shows(
    long: Counts, memory: Counts, alarm: Counts, prior: float
) -> None:
    quiet = chance(long=long, memory=memory, prior=prior)
    found = chance(long=long, memory=memory, alarm=alarm, prior=prior)
    shown, _ = wilson(alarm.failure + alarm.rate_limited, alarm.tries, ALARM_Z)
    assert found >= quiet
    assert found == quiet or found == pytest.approx(min(shown, BOUNDS[1]))


def test_below_the_minimum_of_outcomes_the_alarm_is_silent() -> None:
    assert chance(alarm=Counts(failure=4)) == chance()
    assert chance(alarm=Counts(failure=5)) > 0.5


def test_a_total_outage_of_the_last_seconds_overrules_a_good_day() -> None:
    good_day = Counts(success=5000)
    assert chance(long=good_day, memory=Counts(success=50), alarm=NOTHING) < FLOOR
    burning = chance(long=Counts(5000, 10), memory=Counts(50, 10), alarm=Counts(failure=10))
    assert burning > 0.7


@given(counts, priors)
def test_shrinking_stays_between_the_prior_and_the_share(window: Counts, prior: float) -> None:
    found = shrink(window, prior)
    share = (window.failure + window.rate_limited) / window.tries if window.tries else prior
    assert min(prior, share) - 1e-12 <= found <= max(prior, share) + 1e-12


def test_a_prior_weighs_as_much_as_ten_outcomes() -> None:
    assert shrink(Counts(failure=10), 0.0) == 0.5
    assert shrink(Counts(failure=1), 0.1) == pytest.approx((1 + 0.1 * WEIGHT) / (1 + WEIGHT))


def test_one_failure_of_one_is_a_fifth_and_no_certainty() -> None:
    one = Counts(failure=1)
    assert chance(long=one, memory=one, alarm=one) < 0.2
    after_a_good_day = chance(long=Counts(2000, 1), memory=Counts(50, 1), alarm=one)
    assert after_a_good_day < 0.03


def test_a_429_is_a_failed_try() -> None:
    assert shrink(Counts(success=5, rate_limited=5), FLOOR) == shrink(Counts(success=5, failure=5), FLOOR)
    assert chance(alarm=Counts(rate_limited=9)) == chance(alarm=Counts(failure=9))


def test_peers_are_their_median_so_that_one_dead_host_darkens_nobody() -> None:
    good = Counts(success=980, failure=20)
    assert peers_prior([]) == FLOOR
    assert peers_prior([NOTHING] * 3) == pytest.approx(FLOOR)
    with_one_dead = peers_prior([good, good, Counts(failure=1000)])
    assert with_one_dead == pytest.approx(peers_prior([good, good, good]))
    assert with_one_dead == pytest.approx(0.02, abs=1e-3)


@given(st.lists(counts, min_size=1, max_size=9))
def test_the_peers_prior_lies_among_the_peers(long: list[Counts]) -> None:
    shares = [shrink(each, FLOOR) for each in long]
    assert min(shares) <= peers_prior(long) <= max(shares)
