from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from math import exp, inf
from random import Random
from statistics import median
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.estimate import (
    BOUNDS,
    DEGRADED_ENTER,
    DEGRADED_LEAVE,
    DEGRADED_MAX,
    DRIFT,
    FLOOR,
    HOPEFUL,
    LEVELS,
    REFUSAL,
    ROW_MAX,
    STAY,
    TICK,
    UNSEEN_MAX,
    USUAL,
    USUAL_MEMORY,
    USUAL_WEIGHT,
    Belief,
    failure_probability,
    peers_prior,
)
from balancer.core.kept import BeliefKept

PLACES: Final = range(len(LEVELS))
BAD_LEVELS: Final = [place for place in PLACES if LEVELS[place] < 0.95]  # who fails more than is normal
HOUR: Final = 3600.0
DAY: Final = 86_400.0

pauses = st.one_of(
    st.sampled_from((0.0, 0.25, 1.0, 60.0, UNSEEN_MAX, UNSEEN_MAX + 1, 1800.0, 7200.0, DAY, 30 * DAY)),
    st.floats(0, 400),
)
outcomes = st.sampled_from(("good", "good", "good", "bad", "bad", "limited"))
stories = st.lists(st.tuples(pauses, outcomes), max_size=40)
priors = st.floats(0.0, 1.0)


def likely(what: str, level: float) -> float:
    """How likely an outcome is at a level; a 429 says the less."""
    return level if what == "good" else 1 - level if what == "bad" else (1 - level) ** REFUSAL


class Filter:
    """The same hidden Markov filter as the books write it: vectors, a matrix a step, nothing left out."""

    def __init__(self) -> None:
        self.at = -inf
        self.levels = list(USUAL)
        self.places = [0.0 for _ in PLACES]

    def usual(self) -> list[float]:
        weights = [USUAL_WEIGHT * share for share in USUAL]
        total = sum(self.places) + USUAL_WEIGHT
        return [(place + weight) / total for place, weight in zip(self.places, weights, strict=True)]

    def record(self, what: str, ended: float) -> None:
        passed = ended - self.at
        if passed >= 1.0:
            seen = 0.0 if passed == inf else min(passed, UNSEEN_MAX)
            keep = exp(-passed / USUAL_MEMORY)
            self.places = [
                place * keep + share * seen for place, share in zip(self.places, self.levels, strict=True)
            ]
            self.levels = self.passed(passed)
            self.at = ended
        weighed = [share * likely(what, level) for share, level in zip(self.levels, LEVELS, strict=True)]
        self.levels = [each / sum(weighed) for each in weighed]

    def passed(self, seconds: float) -> list[float]:
        stays = exp(-max(0.0, seconds) / STAY)
        usual = self.usual()
        matrix = [
            [stays * (here == there) + (1 - stays) * usual[there] for there in PLACES]  # it jumps to what is usual
            for here in PLACES
        ]
        return [sum(self.levels[here] * matrix[here][there] for here in PLACES) for there in PLACES]

    def failing(self, now: float, prior: float) -> float:
        """The chance of failure, where `prior` stands for the habits of an endpoint without a past."""
        stays = exp(-max(0.0, now - self.at) / STAY)
        stayed = sum(share * (1 - level) for share, level in zip(self.levels, LEVELS, strict=True))
        kept = [place * exp(-max(0.0, now - self.at) / USUAL_MEMORY) for place in self.places]
        past = sum(place * (1 - level) for place, level in zip(kept, LEVELS, strict=True))
        usual = (past + USUAL_WEIGHT * prior) / (sum(kept) + USUAL_WEIGHT)
        return stays * stayed + (1 - stays) * usual

    def bad(self, now: float) -> float:
        """The belief that it is at one of the lower levels."""
        moved = self.passed(now - self.at)
        return sum(moved[place] for place in BAD_LEVELS)


def take(belief: Belief, what: str, ended: float) -> None:
    belief.record(what == "good", ended, hard=what != "limited")


def lived(story: Iterable[tuple[float, str]]) -> tuple[Belief, Filter, float]:
    belief, reference, now = Belief(), Filter(), 0.0
    for pause, what in story:
        now += pause
        take(belief, what, now)
        reference.record(what, now)
    return belief, reference, now


def chance(belief: Belief, now: float, prior: float = FLOOR) -> float:
    base, slope = belief.terms(now)
    return failure_probability(base, slope, prior)


def used(share: float, *, span: float = DAY, every: float = 10.0, seed: int = 1) -> tuple[Belief, float]:
    """An endpoint that failed that share of its calls all the while."""
    random, belief, now = Random(seed), Belief(), 0.0
    while now < span:
        now += every
        belief.record(random.random() >= share, now)
    return belief, now


# ---- the filter --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(stories, pauses, priors)
def test_it_is_the_filter_of_the_books(story: list[tuple[float, str]], later: float, prior: float) -> None:
    belief, reference, now = lived(story)
    kept = belief.dump(now)
    assert (kept is None) == (not story) == (not belief.seen)
    if kept is not None:
        assert kept.levels == pytest.approx(reference.levels, abs=1e-9)
        assert kept.places == pytest.approx(reference.places, abs=1e-6)
        assert kept.age == now - reference.at
    expected = reference.failing(now + later, prior) if story else prior
    assert chance(belief, now + later, prior) == pytest.approx(min(max(expected, BOUNDS[0]), BOUNDS[1]), abs=1e-9)
    assert belief.own == pytest.approx(
        sum(share * (1 - level) for share, level in zip(reference.usual(), LEVELS, strict=True))
    )


@settings(deadline=None)
@given(stories)
def test_what_is_believed_is_always_a_distribution(story: list[tuple[float, str]]) -> None:
    belief, now = Belief(), 0.0
    for pause, what in story:
        now += pause
        take(belief, what, now)
        kept = belief.dump(now)
        assert kept is not None
        assert sum(kept.levels) == pytest.approx(1.0)
        assert all(0 <= share <= 1 for share in kept.levels)
        assert all(0 <= place <= DAY * 2 for place in kept.places)
        assert 0 < belief.own < 1


def test_a_thousand_of_a_kind_at_one_moment_are_no_accident_of_arithmetic() -> None:
    for what, one in (("bad", 1 - LEVELS[-1]), ("good", 1 - LEVELS[0])):
        belief = Belief()
        for _ in range(5000):
            take(belief, what, 1.0)
        assert chance(belief, 1.0) == pytest.approx(one)
        take(belief, "good", 3600.0)
        kept = belief.dump(3600.0)
        assert kept is not None
        assert sum(kept.levels) == pytest.approx(1.0)


@settings(deadline=None)
@given(stories, pauses, pauses, priors)
def test_a_failure_never_makes_success_likelier_nor_a_success_failure(
    story: list[tuple[float, str]], pause: float, later: float, prior: float
) -> None:
    found = []
    for what in ("good", None, "bad"):
        belief, _, now = lived(story)
        now += pause
        if what is not None:
            take(belief, what, now)
        found.append((chance(belief, now, FLOOR), chance(belief, now + later, prior)))
    assert found[0][1] <= found[2][1] + 1e-12
    if pause < 1 and story:  # else time has passed for the one and not for the other
        assert found[0][0] - 1e-12 <= found[1][0] <= found[2][0] + 1e-12


@given(stories, priors)
def test_nothing_is_certain(story: list[tuple[float, str]], prior: float) -> None:
    belief, _, now = lived(story)
    for later in (0.0, 60.0, DAY):
        assert BOUNDS[0] <= chance(belief, now + later, prior) <= BOUNDS[1]


@given(stories, pauses, priors, priors)
def test_better_company_never_makes_failure_likelier(
    story: list[tuple[float, str]], later: float, one: float, other: float
) -> None:
    belief, _, now = lived(story)
    low, high = sorted((one, other))
    assert chance(belief, now + later, low) <= chance(belief, now + later, high)


@given(st.floats(*BOUNDS))
def test_without_evidence_the_prior_stands(prior: float) -> None:
    assert chance(Belief(), 5.0, prior) == pytest.approx(prior)
    assert Belief().own == FLOOR
    assert Belief().slice(7.0) == (7.0, inf)


@given(stories, st.floats(0, 300), outcomes)
def test_an_outcome_that_comes_late_counts_as_if_it_came_now(
    story: list[tuple[float, str]], late: float, what: str
) -> None:
    one, _, now = lived([*story, (2.0, "good")])
    other, _, _ = lived([*story, (2.0, "good")])
    take(one, what, now - late)
    take(other, what, now)
    assert one.dump(now) == other.dump(now)
    assert one.at == now


@given(st.lists(outcomes, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_of_one_moment_the_order_says_nothing(kinds: list[str], random: Random) -> None:
    shuffled = random.sample(kinds, len(kinds))
    one, _, _ = lived([(100.0, kinds[0]), *[(0.1, what) for what in kinds[1:]]])
    other, _, _ = lived([(100.0, shuffled[0]), *[(0.1, what) for what in shuffled[1:]]])
    assert chance(one, 100.0) == pytest.approx(chance(other, 100.0))


# ---- how long a reading holds ------------------------------------------------------------------------


@given(stories, pauses, st.floats(0, 1))
def test_within_a_slice_time_alone_changes_little_and_whoever_asks_finds_the_same(
    story: list[tuple[float, str]], later: float, part: float
) -> None:
    belief, _, now = lived(story)
    now += later
    begin, end = belief.slice(now)
    assert begin <= now
    assert now < end or end == pytest.approx(now)
    if belief.seen:
        assert end - begin >= TICK * 0.99
        then = begin + (0.001 + 0.998 * part) * (end - begin)
        assert belief.slice(then) == (begin, end)
        assert abs(chance(belief, then) - chance(belief, begin)) <= max(DRIFT, TICK / STAY) + 1e-12


def test_the_less_time_moves_it_the_longer_is_a_slice() -> None:
    belief, now = used(0.02)
    begin, end = belief.slice(now)
    for _ in range(5):
        belief.record(False, now)
    assert belief.slice(now) == (now, pytest.approx(now + TICK))
    assert end - begin > TICK


def test_what_is_degraded_by_old_news_is_so_until_the_moment_that_is_told() -> None:
    belief, now = used(0.02)
    for _ in range(5):
        belief.record(False, now)
    end = belief.degraded_until
    assert now < end < now + STAY
    assert [belief.degraded(at) for at in (now, end - 0.001, end + 0.001)] == [True, True, False]


def test_after_an_hour_without_news_nobody_is_degraded_not_even_who_usually_is() -> None:
    belief, now = used(0.6)
    belief.record(False, now)
    assert belief.degraded_until == now + DEGRADED_MAX
    assert [belief.degraded(now + passed) for passed in (DEGRADED_MAX - 0.001, DEGRADED_MAX)] == [True, False]


def test_habits_that_nobody_has_seen_for_a_week_are_forgotten() -> None:
    belief, now = used(0.3)
    assert chance(belief, now + 2 * HOUR) == pytest.approx(0.3, abs=0.04)
    assert chance(belief, now + 7 * DAY) == pytest.approx(FLOOR, abs=0.005)


# ---- what it is good for -----------------------------------------------------------------------------


def test_two_failures_move_one_that_never_fails_and_hardly_one_that_often_does() -> None:
    rose = {}
    for share in (0.0, 0.1):
        belief, now = used(share)
        belief.record(True, now)
        before = chance(belief, now)
        belief.record(False, now)
        belief.record(False, now)
        rose[share] = chance(belief, now) / before
    assert rose[0.0] > 3 * rose[0.1]
    assert rose[0.1] < 4


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
def test_after_a_day_it_knows_how_often_it_fails(share: float) -> None:
    belief, _ = used(share)
    assert belief.own == pytest.approx(share, abs=0.04)


def test_who_fails_more_is_believed_to() -> None:
    found = [used(share, span=6 * HOUR)[0].own for share in (0.0, 0.02, 0.05, 0.1, 0.3, 0.6, 0.9, 1.0)]
    assert found == sorted(found)
    assert found[0] < FLOOR < 0.6 < found[-1]


def test_an_outage_is_seen_within_a_few_calls_and_its_end_too() -> None:
    belief, now = used(0.01)
    for _ in range(5):
        now += 10
        belief.record(False, now)
    assert chance(belief, now) > 0.6
    for _ in range(8):
        now += 10
        belief.record(True, now)
    assert chance(belief, now) < 0.1


def test_no_average_hides_an_outage_however_good_the_days_before() -> None:
    for span in (HOUR, DAY, 3 * DAY):
        belief, now = used(0.01, span=span, every=20.0)
        for number in range(5):
            belief.record(False, now + 1 + number)
        assert chance(belief, now + 5) > 0.5


def test_with_no_news_belief_sinks_into_what_is_usual_for_it() -> None:
    belief, now = used(0.3, span=DAY)
    for _ in range(30):
        belief.record(True, now)
    assert chance(belief, now) < 0.1
    readings = [chance(belief, now + later) for later in (0.0, 600.0, 1800.0, HOUR, 10 * HOUR)]
    assert readings == sorted(readings)
    assert readings[-1] == pytest.approx(0.3, abs=0.06)


def test_of_long_silence_only_the_beginning_is_held_against_it() -> None:
    dead, now = lived([(1.0, "bad")] * 10)[0], 10.0
    dead.record(False, now + DAY)
    kept = dead.dump(now + DAY)
    assert kept is not None
    assert sum(kept.places) <= (UNSEEN_MAX + 10) * exp(-1) + UNSEEN_MAX


def test_habits_are_forgotten_within_days() -> None:
    belief, now = used(0.9, span=3 * HOUR)
    assert belief.own > 0.5
    for _ in range(3 * 1440):
        now += 60
        belief.record(True, now)
    assert belief.own < 0.05


def test_one_failure_of_one_says_little() -> None:
    fresh = Belief()
    fresh.record(False, 1.0)
    assert FLOOR < chance(fresh, 1.0) < 0.5


# ---- degraded ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(stories, pauses)
def test_degraded_begins_above_one_threshold_and_ends_below_another(
    story: list[tuple[float, str]], later: float
) -> None:
    belief, reference, now = Belief(), Filter(), 0.0
    degraded = False
    for pause, what in story:
        now += pause
        # What is usual is worked out anew with each outcome only, so near the threshold either answer will do.
        ended = reference.bad(now)
        if abs(ended - DEGRADED_LEAVE) < 0.02 or abs(ended - DEGRADED_ENTER) < 1e-9:
            return
        degraded = degraded and ended >= DEGRADED_LEAVE and pause < DEGRADED_MAX
        take(belief, what, now)
        reference.record(what, now)
        bad = reference.bad(now)
        if bad < DEGRADED_LEAVE:
            degraded = False
        elif bad >= DEGRADED_ENTER and what == "bad":
            degraded = True
        assert belief.degraded(now) == degraded
    if degraded and abs(reference.bad(now + later) - DEGRADED_LEAVE) > 0.02:
        ended = later >= DEGRADED_MAX or reference.bad(now + later) < DEGRADED_LEAVE
        assert belief.degraded(now + later) == (not ended)
    elif not degraded:
        assert not belief.degraded(now + later)


@pytest.mark.parametrize("share", [0.0, 0.005, 0.01])
@pytest.mark.parametrize("span", [0.0, 600.0, DAY])
def test_one_failure_degrades_nobody_that_usually_serves(share: float, span: float) -> None:
    belief, now = used(share, span=span)
    for later in (1.0, 60.0, 3600.0):
        now += later
        belief.record(True, now)
        belief.record(True, now)
        belief.record(False, now)
        assert not belief.degraded(now)


def test_a_streak_degrades_whatever_went_before() -> None:
    for share in (0.0, 0.05):
        belief, now = used(share)
        for number in range(4):
            belief.record(False, now + number)
        assert belief.degraded(now + 4)


def test_429s_degrade_nobody() -> None:
    belief = Belief()
    for number in range(50):
        belief.record(False, float(number), hard=False)
        assert not belief.degraded(float(number))
    assert chance(belief, 50.0) > 0.8  # yet nobody goes there


def test_with_no_news_it_ends_within_minutes_and_does_not_begin_again() -> None:
    belief, now = used(0.01)
    for number in range(10):
        belief.record(False, now + number)
    held = [moment for moment in range(0, 7200, 5) if belief.degraded(now + 9 + moment)]
    assert held == list(range(0, len(held) * 5, 5))
    assert 300 <= held[-1] <= 720


def test_what_time_has_ended_begins_anew_only_with_enough() -> None:
    between = 0
    for later in range(600, 7200, 120):
        belief, reference, now = lived([(60.0, "good")] * 50 + [(1.0, "bad")] * 4)
        assert belief.degraded(now)
        now += later
        assert not belief.degraded(now)
        take(belief, "bad", now)
        reference.record("bad", now)
        bad = reference.bad(now)
        assert belief.degraded(now) == (bad >= DEGRADED_ENTER)
        between += DEGRADED_LEAVE < bad < DEGRADED_ENTER
    assert between > 0


@pytest.mark.parametrize("pause", [0.2, 1.0, 10.0, 60.0, 300.0])
@pytest.mark.parametrize("pattern", ["gb", "ggb", "gbb", "gggggb", "gggbbb"])
def test_outcomes_that_alternate_do_not_make_it_flap(pattern: str, pause: float) -> None:
    belief, now, states = Belief(), 0.0, []
    for turn in range(400):
        now += pause
        belief.record(pattern[turn % len(pattern)] == "g", now)
        states.append(belief.degraded(now))
    changes = sum(one != other for one, other in pairwise(states))
    # Where one call in minutes is all that is known of it, each is news.
    assert changes <= (2 if pause < 60 else 2 + 4 * now / HOUR)


# ---- hope and doubt ----------------------------------------------------------------------------------


def test_whose_last_call_was_good_may_be_back_while_it_is_believed_to_be_rather_bad() -> None:
    belief, now = used(0.01)
    assert not belief.hopeful
    hopes = []
    for number in range(60):
        good = number >= 6
        belief.record(good, now + number)
        failing = chance(belief, now + number)
        assert belief.hopeful == (good and belief.own + HOPEFUL[0] < failing < HOPEFUL[1])
        hopes.append(belief.hopeful)
    assert True in hopes
    assert hopes[-1] is False  # now it is believed to be well, and needs no hope


@settings(deadline=None)
@given(
    stories,
    st.lists(st.tuples(st.floats(0.01, 30), st.sampled_from(("bad", "limited")), st.booleans()), max_size=8),
    pauses,
)
def test_to_forgive_failures_in_a_row_is_as_if_only_those_of_others_had_been(
    story: list[tuple[float, str]], row: list[tuple[float, str, bool]], later: float
) -> None:
    story = [*story, (2.0, "good")]
    belief, _, now = lived(story)
    others, _, _ = lived(story)
    doubted = []
    for pause, what, whose in row:
        now += pause
        take(belief, what, now)
        if whose:
            doubted.append(now)
        else:
            take(others, what, now)
    belief.forgive(doubted)
    moment = now + later
    assert chance(belief, moment) == pytest.approx(chance(others, moment))
    assert belief.degraded(moment) == others.degraded(moment)
    assert (belief.at, belief.own, belief.hopeful) == (others.at, others.own, others.hopeful)


def test_what_others_saw_fail_since_a_success_stays() -> None:
    belief, now = used(0.01)
    for number, what in enumerate(("bad", "good", "bad", "bad", "bad")):
        take(belief, what, now + number)
    belief.forgive([now, now + 4])
    assert 10 * belief.own < chance(belief, now + 4) < 0.5  # two of others after a success, and not three


def test_where_a_success_came_since_it_believes_what_is_usual() -> None:
    belief, now = used(0.05)
    usual = belief.own
    for number in range(6):
        belief.record(False, now + 2 * number)
    belief.record(True, now + 20.0)
    belief.forgive([now + 2 * number for number in range(6)])
    assert not belief.degraded(now + 20.0)
    assert chance(belief, now + 20.0) == pytest.approx(usual, abs=0.01)


def test_of_more_failures_than_are_remembered_it_believes_what_is_usual() -> None:
    belief, now = used(0.01)
    for number in range(ROW_MAX + 1):
        belief.record(False, now + 1 + number / 100)
    belief.forgive([now + 1 + number / 100 for number in range(ROW_MAX + 1)])
    assert chance(belief, now + 2.0) == pytest.approx(belief.own, abs=0.01)


# ---- a restart ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(stories, stories, st.floats(0, 3600), st.floats(-1000, 1000))
def test_a_restart_is_not_noticed(
    story: list[tuple[float, str]], more: list[tuple[float, str]], later: float, clock: float
) -> None:
    belief, _, now = lived(story)
    now += later
    kept, other = belief.dump(now), Belief()
    if kept is not None:
        other.restore(kept, then=now + clock)
    assert other.seen == belief.seen
    for pause, what in [(0.0, ""), *more]:
        now += pause
        if what:
            take(belief, what, now)
            take(other, what, now + clock)
        for moment in (now, now + 300.0):
            assert other.terms(moment + clock) == pytest.approx(belief.terms(moment), abs=1e-9)
        assert other.own == pytest.approx(belief.own)
        assert other.degraded(now + clock + 1e-6) <= belief.degraded(now)
        assert other.degraded(now + clock - 1e-6) >= belief.degraded(now)


def test_what_was_seen_since_is_newer_than_any_dump() -> None:
    old, _, now = lived([(1.0, "bad")] * 10)
    kept = old.dump(now)
    assert kept is not None
    fresh = Belief()
    fresh.record(True, 100.0)
    before = fresh.dump(100.0)
    fresh.restore(kept, then=99.0)
    assert fresh.dump(100.0) == before


def test_levels_of_a_dump_that_are_no_distribution_become_one_or_are_passed_over() -> None:
    nothing, halves = (0.0,) * 5, (0.5,) * 5
    belief = Belief()
    belief.restore(BeliefKept(age=5.0, good=True, levels=nothing, places=nothing, degraded=False), then=10.0)
    assert not belief.seen
    belief.restore(BeliefKept(age=5.0, good=True, levels=halves, places=nothing, degraded=False), then=10.0)
    kept = belief.dump(10.0)
    assert kept is not None
    assert (kept.levels, kept.age) == (pytest.approx((0.2,) * 5), 5.0)
    assert chance(belief, 5.0) == pytest.approx(sum(1 - level for level in LEVELS) / 5)


# ---- peers -------------------------------------------------------------------------------------------


def test_peers_are_their_median_so_that_one_dead_host_darkens_nobody() -> None:
    assert peers_prior([]) == FLOOR
    good, dead = used(0.02)[0].own, used(0.99, span=HOUR)[0].own
    assert peers_prior(sorted([good, good, dead])) == pytest.approx(good)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted))
def test_the_peers_prior_is_the_median(shares: list[float]) -> None:
    assert peers_prior(shares) == pytest.approx(median(shares))
