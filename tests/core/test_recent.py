from __future__ import annotations

from collections.abc import Sequence
from math import log
from random import Random
from statistics import median
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.model import HealthPolicy
from balancer.core.recent import (
    CUSUM_LIMIT,
    MAD_MIN,
    PEERS_MIN,
    PEERS_SPREAD,
    RATE_LEAST,
    RATE_SPAN,
    RECENT_AGE,
    RECENT_MAX,
    SHIFT,
    SHIFT_MIN,
    STREAK_CHANCE,
    USUAL_MIN,
    USUAL_SOON,
    USUAL_START,
    USUAL_STEPS,
    WILSON_MIN,
    WILSON_Z,
    Peers,
    Recent,
    Verdict,
    cusum,
    peers,
    wilson,
)

POLICY: Final = HealthPolicy()
WELL: Final = Peers(median=0.01, limit=0.13)

ends = st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=60)
shares = st.lists(st.floats(0, 1), max_size=12)


def made(pattern: str, *, every: float = 1.0, usual: float | None = None) -> tuple[Recent, float]:
    """The last outcomes, `g` good and `b` bad, and the moment of the last."""
    recent, now = Recent(), 0.0
    for letter in pattern:
        now += every
        recent.record(letter == "g", now)
    if usual is not None:
        recent.usual = usual
    return recent, now


def found(
    pattern: str, *, usual: float | None = None, others: Peers | None = None, policy: HealthPolicy = POLICY
) -> tuple[Verdict, str] | None:
    recent, now = made(pattern, usual=usual)
    return recent.verdict(now, policy, others)


# ---- Wilson ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "outcomes", "z", "lower", "upper"),
    [
        (0, 0, 1.96, 0.0, 1.0),
        (0, 10, 1.96, 0.0, 0.2775),
        (1, 10, 1.96, 0.0179, 0.4042),
        (5, 10, 1.96, 0.2366, 0.7634),
        (10, 10, 1.96, 0.7225, 1.0),
        (1, 1, 1.96, 0.2065, 1.0),
        (4, 20, 1.96, 0.0807, 0.4160),
        (81, 263, 1.96, 0.2553, 0.3662),
        (5, 5, 2.58, 0.4289, 1.0),
        (8, 20, 2.58, 0.1789, 0.6710),
        (9, 20, 2.58, 0.2136, 0.7114),
    ],
)
def test_wilson_bounds_are_those_of_the_books(
    failures: int, outcomes: int, z: float, lower: float, upper: float
) -> None:
    assert wilson(failures, outcomes, z) == (pytest.approx(lower, abs=1e-4), pytest.approx(upper, abs=1e-4))


@given(st.integers(0, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.1, 4))
def test_wilson_bounds_hold_the_share_and_are_mirrored(pair: tuple[int, int], z: float) -> None:
    failures, outcomes = pair
    lower, upper = wilson(failures, outcomes, z)
    assert 0 <= lower <= upper <= 1
    if outcomes:
        assert lower - 1e-9 <= failures / outcomes <= upper + 1e-9
    mirrored = wilson(outcomes - failures, outcomes, z)
    assert (1 - mirrored[1], 1 - mirrored[0]) == (pytest.approx(lower, abs=1e-9), pytest.approx(upper, abs=1e-9))


# ---- peers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failing", "middle", "spread"),
    [
        ([0.01, 0.01, 0.01, 0.01], 0.01, MAD_MIN),  # all alike: a small difference is no outlier
        ([0.0, 0.02, 0.04, 0.06], 0.03, MAD_MIN),
        ([0.0, 0.1, 0.2, 0.3, 0.4], 0.2, 0.1),
        ([0.01, 0.02, 0.03, 0.9, 1.0], 0.03, MAD_MIN),  # nearly half of them are broken
        ([0.02, 0.1, 0.5, 0.9, 0.98, 1.0], 0.7, 0.29),
        ([1.0, 1.0, 1.0, 1.0], 1.0, MAD_MIN),
    ],
)
def test_what_is_ordinary_is_a_median_and_its_deviations(
    failing: list[float], middle: float, spread: float
) -> None:
    found = peers(failing)
    assert found is not None
    assert found.median == pytest.approx(middle)
    assert found.limit == pytest.approx(middle + PEERS_SPREAD * 1.4826 * spread)


@given(shares, st.randoms(use_true_random=False))
def test_of_a_few_nothing_is_ordinary_and_the_order_says_nothing(failing: list[float], random: Random) -> None:
    found = peers(failing)
    assert (found is None) == (len(failing) < PEERS_MIN)
    assert peers(random.sample(failing, len(failing))) == found
    if found is not None:
        middle = median(failing)
        mad = median([abs(share - middle) for share in failing])
        assert found.median == pytest.approx(middle)
        assert found.limit == pytest.approx(middle + PEERS_SPREAD * 1.4826 * max(mad, MAD_MIN))
        assert found.limit > found.median


@given(st.lists(st.floats(0, 0.05), min_size=3, max_size=7), st.lists(st.floats(0.5, 1), max_size=2))
def test_a_minority_of_broken_peers_hides_nobody(good: list[float], broken: list[float]) -> None:
    found = peers([*good, *broken])
    if found is not None:
        assert found.median <= 0.05
        assert found.limit < 0.5


# ---- CUSUM -------------------------------------------------------------------------------------------


def steps(usual: float) -> tuple[float, float]:
    """What a failure and a success add to the sum."""
    shifted = max(SHIFT, usual + SHIFT_MIN)
    return log(shifted / usual), log((1 - shifted) / (1 - usual))


@given(st.lists(st.booleans(), max_size=RECENT_MAX), st.floats(USUAL_MIN, 0.65))
def test_the_scan_backwards_is_the_recursion_of_the_books(outcomes: list[bool], usual: float) -> None:
    failed, passed = steps(usual)
    total = 0.0
    for good in outcomes:
        total = max(0.0, total) + (passed if good else failed)
    if abs(total - CUSUM_LIMIT) > 1e-9:
        assert (cusum(outcomes, usual=usual, least=1, limit=CUSUM_LIMIT) is not None) == (total >= CUSUM_LIMIT)


@given(st.lists(st.booleans(), max_size=RECENT_MAX), st.floats(USUAL_MIN, 0.65), st.integers(1, 20))
def test_it_tells_the_end_that_shows_it_best(outcomes: list[bool], usual: float, least: int) -> None:
    failed, passed = steps(usual)

    def total(end: Sequence[bool]) -> float:
        return sum(passed if good else failed for good in end)

    ends = [outcomes[place:] for place in range(len(outcomes) - least + 1)]
    told = cusum(outcomes, usual=usual, least=least, limit=CUSUM_LIMIT)
    best = max(map(total, ends), default=0.0)
    if told is None:
        assert best < CUSUM_LIMIT + 1e-9
    else:
        failures, of = told
        end = outcomes[len(outcomes) - of :]
        assert of >= least
        assert failures == end.count(False)
        assert total(end) == pytest.approx(best)
        assert best >= CUSUM_LIMIT - 1e-9


@pytest.mark.parametrize("rate", [RATE_LEAST, 1.0, 5.0])
def test_it_takes_five_failures_in_a_row_where_failures_are_rare(rate: float) -> None:
    good, limit = [True] * 30, CUSUM_LIMIT + log(rate)
    assert cusum([*good, *[False] * 4], usual=USUAL_MIN, least=5, limit=limit) is None
    assert cusum([*good, *[False] * 5], usual=USUAL_MIN, least=5, limit=limit) == (5, 5)


def test_the_more_is_usual_the_more_it_takes() -> None:
    needed = []
    for usual in (0.05, 0.1, 0.2, 0.3, 0.5):
        count = 1
        while cusum([False] * count, usual=usual, least=1, limit=CUSUM_LIMIT) is None:
            count += 1
        needed.append(count)
    assert needed == sorted(set(needed))


# ---- what is kept ------------------------------------------------------------------------------------


@given(ends)
def test_the_last_to_end_are_kept_in_their_order_however_late_they_come(arrivals: list[tuple[float, bool]]) -> None:
    recent = Recent()
    kept: list[tuple[float, bool]] = []
    for ended, good in arrivals:
        recent.record(good, ended)
        kept = sorted([*kept, (ended, good)], key=lambda each: each[0])[-RECENT_MAX:]
    assert list(recent.outcomes) == kept
    assert recent.failing == (bool(kept) and not kept[-1][1])


@given(ends, st.floats(0, 2500), st.floats(0.1, 1000))
def test_a_streak_is_the_failures_at_the_end_that_are_no_older(
    arrivals: list[tuple[float, bool]], now: float, age: float
) -> None:
    recent = Recent()
    for ended, good in arrivals:
        recent.record(good, ended)
    streak = recent.streak(now, age=age)
    counted, before = list(recent.outcomes)[len(recent.outcomes) - streak :], list(recent.outcomes)[::-1][streak:]
    assert all(not good and now - ended < age for ended, good in counted)
    assert not before or before[0][1] or now - before[0][0] >= age


def test_a_success_that_ended_between_failures_breaks_their_streak_though_it_comes_last() -> None:
    recent, now = made("bbbb")
    recent.record(True, 2.5)
    assert recent.streak(now, age=RECENT_AGE) == 2


def test_to_clear_forgets_the_outcomes_and_keeps_what_is_usual() -> None:
    recent, now = made("gbgbg")
    for good in (True, False, True):
        recent.learn(good)
    usual, learned = recent.usual, recent.learned
    recent.clear()
    assert (list(recent.outcomes), recent.streak(now, age=RECENT_AGE)) == ([], 0)
    assert (recent.usual, recent.learned) == (usual, learned)


def test_to_forgive_forgets_the_failures_since_then_and_nothing_else() -> None:
    recent, _ = made("bgbgb")
    recent.forgive(since=3.0)
    assert list(recent.outcomes) == [(1.0, False), (2.0, True), (4.0, True)]


@given(ends, st.floats(0, 1), st.integers(0, 10_000))
def test_what_is_restored_is_in_order_and_bounded(
    told: list[tuple[float, bool]], usual: float, learned: int
) -> None:
    recent = Recent()
    recent.restore(told, usual=usual, learned=learned)
    assert list(recent.outcomes) == sorted(told, key=lambda each: each[0])[-RECENT_MAX:]
    assert (recent.usual, recent.learned) == (usual, learned)


# ---- what is usual -----------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=100))
def test_what_is_usual_is_a_share_and_counts_each_outcome_that_a_success_followed(outcomes: list[bool]) -> None:
    recent = Recent()
    for good in outcomes:
        recent.learn(good)
        assert 0 <= recent.usual <= 1
    known = len(outcomes) - outcomes[::-1].index(True) if True in outcomes else 0
    assert recent.learned == known
    expected = USUAL_START * USUAL_SOON + outcomes[:known].count(False)
    assert recent.usual == pytest.approx(expected / (USUAL_SOON + known))  # a plain mean, the start among it


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
def test_what_is_usual_is_learned_within_a_thousand_outcomes(share: float) -> None:
    random, recent = Random(3), Recent()
    for _ in range(4 * USUAL_STEPS):
        recent.learn(random.random() >= share)
    assert recent.usual == pytest.approx(share, abs=0.05)


def test_an_outage_does_not_make_itself_usual() -> None:
    recent = Recent()
    for _ in range(3):
        recent.learn(True)
    usual = recent.usual
    for _ in range(20):
        recent.learn(False)
    assert recent.usual == usual
    recent.learn(True)
    assert recent.usual > 0.4


# ---- failures in a row -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usual", "often", "seldom"),  # the limits at 5 outcomes a second, and at one in two
    [
        (0.0, 5, 5),
        (0.02, 5, 5),
        (0.05, 5, 5),
        (0.07, 5, 5),
        (0.08, 6, 5),
        (0.1, 6, 5),
        (0.12, 7, 5),
        (0.15, 7, 6),
        (0.2, 9, 7),
        (1.0, 9, 7),
    ],
)
def test_who_often_fails_is_allowed_more_failures_in_a_row(usual: float, often: int, seldom: int) -> None:
    recent, _ = made("", usual=usual)
    assert recent.streak_limit(POLICY, 5.0) == often
    assert recent.streak_limit(POLICY, RATE_LEAST) == seldom


@given(st.floats(0, 1), st.integers(1, RECENT_MAX), st.floats(0.01, 0.5), st.floats(RATE_LEAST, 40))
def test_the_policys_word_is_the_least(usual: float, said: int, ratio: float, rate: float) -> None:
    policy = HealthPolicy(consecutive_failures=said, error_ratio=ratio)
    recent, _ = made("", usual=usual)
    limit = recent.streak_limit(policy, rate)
    assert said <= limit <= RECENT_MAX
    if min(usual, ratio) <= USUAL_MIN:
        assert limit == said
    elif said == POLICY.consecutive_failures:
        assert min(usual, ratio) ** limit * rate <= STREAK_CHANCE * 1.000001


@given(ends, st.floats(0, 3000))
def test_the_rate_is_that_of_the_last_outcomes_between_its_bounds(
    arrivals: list[tuple[float, bool]], later: float
) -> None:
    recent, now = Recent(), later
    for ended, good in arrivals:
        recent.record(good, ended)
        now = max(now, ended)
    kept = recent.outcomes
    assert recent.rate(now) == (
        max(RATE_LEAST, len(kept) / max(RATE_SPAN, now - kept[0][0])) if kept else RATE_LEAST
    )


@pytest.mark.parametrize(("every", "failures"), [(60.0, 5), (2.0, 5), (0.2, 6), (0.02, 7)])
def test_the_busier_an_endpoint_that_often_fails_the_more_failures_it_takes(every: float, failures: int) -> None:
    recent, now = made("gggggggggb" * 4, every=every, usual=0.1)
    recent.record(True, now)
    verdicts = []
    for _ in range(failures):
        now += every
        recent.record(False, now)
        verdicts.append(recent.verdict(now, POLICY, None))
    assert [each is not None for each in verdicts] == [False] * (failures - 1) + [True]


@pytest.mark.parametrize("history", ["", "g", "gggg", "g" * 20, "ggggbgggg", "g" * 100])
def test_a_total_outage_is_a_verdict_at_the_fifth_failure(history: str) -> None:
    recent, now = Recent(), 0.0
    verdicts = []
    for letter in history + "bbbbb":
        now += 10.0
        recent.record(letter == "g", now)
        recent.learn(letter == "g")
        verdicts.append(recent.verdict(now, POLICY, None) if letter == "b" else None)
    assert [each is not None for each in verdicts[-5:]] == [False] * 4 + [True]
    assert verdicts[-1] == ("consecutive_failures", "5 failures in a row")


def test_old_failures_are_none() -> None:
    recent = Recent()
    for _ in range(4):
        recent.record(False, 0.0)
    for _ in range(4):
        recent.record(False, RECENT_AGE)
    assert recent.verdict(RECENT_AGE, POLICY, None) is None
    assert recent.verdict(RECENT_AGE - 1, POLICY, None) is not None


# ---- shares ------------------------------------------------------------------------------------------


def test_a_share_is_a_verdict_without_failures_in_a_row() -> None:
    told = [found("g" * 20 + "gb" * times) for times in range(1, 12)]
    first = next(each for each in told if each is not None)
    assert first == ("failure_share", "6 of the last 11 failed; usual is 2%")
    assert all(told[place] is not None for place in range(told.index(first), len(told)))


def test_below_the_policys_minimum_of_outcomes_a_share_is_none() -> None:
    policy = HealthPolicy(consecutive_failures=100, min_outcomes=12)
    assert found("b" * 11, policy=policy) is None
    assert found("b" * 12, policy=policy) == ("failure_share", "12 of the last 12 failed; usual is 2%")


def test_what_is_usual_for_one_is_an_outage_of_another() -> None:
    pattern = "gggb" * 5 + "bgbgbgbb"
    assert found(pattern, usual=0.02) is not None
    assert found(pattern, usual=0.2) is None


def test_no_past_makes_more_usual_than_the_policy_allows() -> None:
    pattern = "gb" * 20
    assert found(pattern, usual=0.6) is not None
    lenient = HealthPolicy(error_ratio=0.6)
    assert found(pattern, usual=0.6, policy=lenient) is None


@pytest.mark.parametrize("failures", range(RECENT_MAX + 1))
def test_above_the_policys_ratio_by_three_deviations_is_a_verdict_whatever_is_usual(failures: int) -> None:
    usual = 0.65  # so much that the other tests say nothing
    policy = HealthPolicy(error_ratio=0.65, consecutive_failures=100)
    pattern = "".join(Random(failures).sample("b" * failures + "g" * (RECENT_MAX - failures), RECENT_MAX))
    lower, _ = wilson(failures, RECENT_MAX, WILSON_Z)
    told = found(pattern, usual=usual, policy=policy)
    assert (told is not None) >= (lower > 0.65)


def test_of_a_few_no_bound_is_asked() -> None:
    policy = HealthPolicy(consecutive_failures=100, error_ratio=0.2, min_outcomes=1)
    others = Peers(median=0.6, limit=0.65)  # what they do makes the sum say nothing
    assert found("b" * (WILSON_MIN - 1), policy=policy, others=others) is None
    assert found("b" * WILSON_MIN, policy=policy, others=others) is not None


# ---- against peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [Peers(0.5, 0.62), Peers(0.69, 0.81), Peers(0.8, 0.92), Peers(1.0, 1.12)])
@pytest.mark.parametrize("pattern", ["g" * 10 + "bgb" * 10, "gb" * 20])
def test_where_the_peers_fail_as_well_it_waits(pattern: str, others: Peers) -> None:
    assert found(pattern) is not None
    assert found(pattern, others=WELL) is not None
    assert found(pattern, others=others) is None


def test_failures_in_a_row_wait_for_nobody() -> None:
    assert found("g" * 20 + "bbbbb", others=Peers(1.0, 1.12)) == ("consecutive_failures", "5 failures in a row")


def test_far_above_its_peers_is_a_verdict_though_it_is_below_the_policys_ratio() -> None:
    pattern = "gggbgb" * 7  # a third, as usual for it
    policy = HealthPolicy(error_ratio=0.3)
    assert found(pattern, usual=0.3, policy=policy) is None
    told = found(pattern, usual=0.3, policy=policy, others=Peers(0.01, 0.13))
    assert told == ("peers_outlier", "14 of the last 40 failed; its peers fail 1%")
    assert found(pattern, usual=0.3, policy=policy, others=Peers(0.05, 0.25)) is None


@settings(max_examples=200)
@given(st.lists(st.booleans(), max_size=RECENT_MAX), st.floats(0, 1), st.floats(0, 0.9), st.floats(0, 0.9))
def test_worse_peers_never_make_it_look_worse(outcomes: list[bool], usual: float, one: float, other: float) -> None:
    recent, now = made("".join("g" if good else "b" for good in outcomes), usual=usual)
    better, worse = sorted((one, other))
    if recent.verdict(now, POLICY, Peers(worse, worse + 0.12)) is not None:
        assert recent.verdict(now, POLICY, Peers(better, better + 0.12)) is not None


# ---- how often, and how soon -------------------------------------------------------------------------


def verdicts(share: float, outcomes: int, *, rate: float, seed: int) -> int:
    random, recent, count = Random(seed), Recent(), 0
    for number in range(outcomes):
        good, now = random.random() >= share, number / rate
        recent.record(good, now)
        recent.learn(good)
        if not good and recent.verdict(now, POLICY, None) is not None:
            recent.clear()
            count += 1
    return count


def test_of_what_is_normal_there_is_no_verdict_in_a_day() -> None:
    assert verdicts(0.02, 86_400, rate=1.0, seed=4) == 0


def test_of_one_that_always_fails_a_tenth_there_are_few() -> None:
    assert verdicts(0.1, 86_400, rate=1.0, seed=5) <= 2


@pytest.mark.parametrize(("share", "most"), [(1.0, 5), (0.7, 12), (0.5, 20), (0.35, 60)])
def test_an_outage_is_found_within_so_many_outcomes(share: float, most: int) -> None:
    needed = []
    for seed in range(101):
        random, recent, now = Random(seed), Recent(), 0.0
        for _ in range(100):
            now += 2.0
            recent.record(random.random() >= 0.02, now)
            recent.learn(recent.outcomes[-1][1])
        count = 0
        while True:
            now, count = now + 2.0, count + 1
            good = random.random() >= share
            recent.record(good, now)
            recent.learn(good)
            if not good and recent.verdict(now, POLICY, None) is not None:
                break
        needed.append(count)
    assert median(needed) <= most
