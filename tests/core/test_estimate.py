from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.estimate import (
    ALARM_Z,
    BOUNDS,
    FLOOR,
    PEERS_WEIGHT,
    WEIGHT,
    failure_probability,
    peers_prior,
    terms,
)
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
    base, slope, least, _ = terms(long, memory, alarm, outcomes_min)
    return failure_probability(base, slope, least, prior)


def shrink(window: Counts, prior: float, weight: float = WEIGHT) -> float:
    """The failure share pulled towards `prior`, which is worth `weight` outcomes: the theory, step by step."""
    return (window.failure + window.rate_limited + weight * prior) / (window.tries + weight)


def own(window: Counts) -> float:
    return terms(window, NOTHING, NOTHING, 5)[3]


@given(counts, counts, counts, priors, st.integers(1, 50))
def test_the_estimate_is_a_ladder_of_shrinkings_and_an_alarm(
    long: Counts, memory: Counts, alarm: Counts, prior: float, outcomes_min: int
) -> None:
    expected = shrink(memory, shrink(long, prior, PEERS_WEIGHT))
    if alarm.tries >= outcomes_min:
        expected = max(expected, wilson(alarm.failure + alarm.rate_limited, alarm.tries, ALARM_Z)[0])
    found = chance(long=long, memory=memory, alarm=alarm, prior=prior, outcomes_min=outcomes_min)
    assert found == pytest.approx(min(max(expected, BOUNDS[0]), BOUNDS[1]), abs=1e-12)


@given(counts, counts, counts, st.floats(0, 1), st.integers(1, 50))
def test_nothing_is_certain(long: Counts, memory: Counts, alarm: Counts, prior: float, outcomes_min: int) -> None:
    found = chance(long=long, memory=memory, alarm=alarm, prior=prior, outcomes_min=outcomes_min)
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
def test_a_days_share_lies_between_the_prior_and_what_was_counted(window: Counts, prior: float) -> None:
    found = chance(long=window, prior=prior)
    share = (window.failure + window.rate_limited) / window.tries if window.tries else prior
    assert max(min(prior, share), BOUNDS[0]) - 1e-12 <= found <= min(max(prior, share), BOUNDS[1]) + 1e-12


def test_the_day_weighs_as_much_as_ten_outcomes_and_the_peers_as_fifty() -> None:
    assert chance(memory=Counts(failure=10), prior=0.0) == 0.5
    assert chance(memory=Counts(failure=1), prior=0.1) == pytest.approx((1 + 0.1 * WEIGHT) / (1 + WEIGHT))
    assert chance(long=Counts(failure=50), prior=0.0) == pytest.approx(0.5)
    assert own(Counts(failure=10)) == pytest.approx((10 + WEIGHT * FLOOR) / (10 + WEIGHT))


def test_one_failure_of_one_is_a_fifth_and_no_certainty() -> None:
    one = Counts(failure=1)
    assert chance(long=one, memory=one, alarm=one) < 0.2
    after_a_good_day = chance(long=Counts(2000, 1), memory=Counts(50, 1), alarm=one)
    assert after_a_good_day < 0.03


def test_a_429_is_a_failed_try() -> None:
    for name in ("long", "memory", "alarm"):
        limited = chance(**{name: Counts(success=5, rate_limited=5)})
        assert limited == chance(**{name: Counts(success=5, failure=5)})
    assert own(Counts(success=5, rate_limited=5)) == own(Counts(success=5, failure=5))


# ---- peers -------------------------------------------------------------------------------------------


def prior_of(*windows: Counts) -> float:
    return peers_prior(sorted(map(own, windows)))


def test_peers_are_their_median_so_that_one_dead_host_darkens_nobody() -> None:
    good = Counts(success=980, failure=20)
    assert peers_prior([]) == FLOOR
    assert prior_of(*[NOTHING] * 3) == pytest.approx(FLOOR)
    with_one_dead = prior_of(good, good, Counts(failure=1000))
    assert with_one_dead == pytest.approx(prior_of(good, good, good))
    assert with_one_dead == pytest.approx(0.02, abs=1e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted))
def test_the_peers_prior_is_the_median(shares: list[float]) -> None:
    assert peers_prior(shares) == pytest.approx(median(shares))


@given(st.lists(counts, min_size=1, max_size=9))
def test_the_peers_prior_lies_among_the_peers(windows: list[Counts]) -> None:
    shares = [shrink(each, FLOOR) for each in windows]
    assert min(shares) - 1e-12 <= prior_of(*windows) <= max(shares) + 1e-12


@given(counts, counts, counts, priors, priors)
def test_better_peers_never_make_failure_likelier(
    long: Counts, memory: Counts, alarm: Counts, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    windows = {"long": long, "memory": memory, "alarm": alarm}
    assert chance(**windows, prior=low) <= chance(**windows, prior=high)
