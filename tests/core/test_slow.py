from __future__ import annotations

from math import log
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.kept import SlownessKept, read
from balancer.core.latency import CLASS_BOUNDS
from balancer.core.slow import (
    DRIFT_MAX,
    FACTOR,
    KNOWN,
    LEAST,
    RECENT_AGE,
    RECENT_MAX,
    SETTLED,
    SLOW_LEAST,
    USUAL,
    USUAL_BOUNDS,
    Slowness,
)

USUALLY = 1.0  # s to the first token, in the median


def take(
    slowness: Slowness,
    ended: float,
    ttft: float | None = USUALLY,
    *,
    latency: float | None = None,
    prompt_tokens: int | None = 1000,
    completion_tokens: int | None = None,
) -> bool:
    return slowness.record(
        ended, ttft=ttft, latency=latency, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
    )


def knowing(times: int = 1000, *, until: float = 0.0, every: float = 1.0) -> Slowness:
    """So many answers that each took exactly as long as usual, the last just before `until`."""
    slowness = Slowness()
    for number in range(times):
        take(slowness, until - (times - number) * every)
    return slowness


class Traffic:
    """Poisson requests whose times to a first token are log-normal, seeded."""

    def __init__(self, *, rate: float, spread: float, seed: int) -> None:
        self.random, self.rate, self.spread, self.now = Random(seed), rate, spread, 0.0
        self.slowness = Slowness()

    def answer(self, slower: float = 1.0) -> tuple[bool, tuple[int, int] | None]:
        """One more answer: whether it was slow, and the verdict then."""
        self.now += self.random.expovariate(self.rate)
        slow = take(self.slowness, self.now, slower * self.random.lognormvariate(log(USUALLY), self.spread))
        return slow, self.slowness.verdict(self.now) if slow else None

    def spend(self, seconds: float, slower: float = 1.0) -> int:
        """Answers for so long; tells how often there was a verdict, after each of which it begins anew."""
        verdicts, end = 0, self.now + seconds
        while self.now < end:
            if self.answer(slower)[1] is not None:
                verdicts += 1
                self.slowness.forget()
        return verdicts

    @property
    def normal(self) -> float:
        found = self.slowness.normal(1000)
        assert found is not None
        return found


# ---- what is normal ----------------------------------------------------------------------------------


def test_before_enough_was_seen_nothing_is_normal_and_nothing_slow() -> None:
    slowness = Slowness()
    for number in range(KNOWN - 1):
        assert not take(slowness, float(number), 100.0 if number % 2 else 1.0)
        assert slowness.normal(1000) is None
    take(slowness, float(KNOWN))
    assert slowness.normal(1000) == 1.0
    assert take(slowness, KNOWN + 1.0, 100.0)
    assert slowness.verdict(KNOWN + 1.0) is None


@pytest.mark.parametrize(
    ("usually", "value", "slow"),
    [
        (2.0, FACTOR * 2.0, False),
        (2.0, FACTOR * 2.0 + 0.01, True),
        (0.1, LEAST, False),
        (0.1, LEAST + 0.01, True),
        (0.5, FACTOR * 0.5 + 0.01, True),
        (0.0, LEAST, False),
        (0.0, LEAST + 0.01, True),
        (1e9, 1e9, False),
    ],
)
def test_slow_is_above_three_times_the_normal_and_above_a_second(usually: float, value: float, slow: bool) -> None:
    slowness = Slowness()
    for number in range(KNOWN):
        take(slowness, float(number), usually)
    assert take(slowness, 100.0, value) is slow


def test_times_to_a_first_token_and_latencies_are_never_mixed() -> None:
    slowness = Slowness()
    for number in range(100):
        take(slowness, float(number), 1.0)
        take(slowness, float(number), None, latency=30.0)
    assert slowness.normal(1000) == 1.0
    assert not take(slowness, 100.0, None, latency=30.0)
    assert not take(slowness, 100.0, 1.0, latency=1000.0)
    assert take(slowness, 100.0, 30.0)
    assert take(slowness, 100.0, None, latency=100.0)
    assert not take(slowness, 100.0, None)


def test_each_size_of_prompt_has_its_own_normal() -> None:
    slowness = Slowness()
    sizes = [0, *CLASS_BOUNDS, None]
    for number in range(100):
        for place, size in enumerate(sizes):
            take(slowness, float(number), 1.0 + place, prompt_tokens=size)
    assert [slowness.normal(size) for size in sizes] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_long_answer_is_no_slow_one() -> None:
    slowness = Slowness()
    for number in range(100):
        take(slowness, float(number), None, latency=2.0, completion_tokens=100)
        take(slowness, float(number), None, latency=40.0, completion_tokens=2000)
    assert not take(slowness, 100.0, None, latency=40.0, completion_tokens=2000)
    assert take(slowness, 100.0, None, latency=40.0, completion_tokens=100)
    assert not take(slowness, 100.0, None, latency=40.0, completion_tokens=None), "of unknown length, never seen"


@given(
    st.lists(st.tuples(st.floats(-10, 3600), st.floats(0, 1e4)), max_size=80),
    st.lists(st.floats(0.001, 1e4), min_size=KNOWN, max_size=KNOWN),
)
def test_the_normal_stays_among_the_times_that_were_seen_and_moves_a_step_at_most(
    story: list[tuple[float, float]], first: list[float]
) -> None:
    slowness, seen = Slowness(), list(first)
    for value in first:
        take(slowness, 0.0, value)
    now = 0.0
    assert slowness.normal(1000) == median(first)
    for passed, value in story:
        now += passed
        before = slowness.normal(1000)
        slow = take(slowness, now, value)
        seen.append(max(value, 0.001))
        after = slowness.normal(1000)
        assert before is not None
        assert after is not None
        assert slow == (value > FACTOR * before and value > LEAST)
        assert min(seen) <= after <= max(seen)
        assert abs(log(after / before)) <= log(1 + max(DRIFT_MAX, 1 / len(seen))) + 1e-9
        assert (after - before) * (seen[-1] - before) >= 0.0
        assert USUAL_BOUNDS[0] <= slowness.usual <= USUAL_BOUNDS[1]


@pytest.mark.parametrize("rate", [0.05, 0.5, 5.0])
def test_the_normal_and_the_usual_share_of_slow_ones_are_those_of_the_traffic(rate: float) -> None:
    traffic = Traffic(rate=rate, spread=0.8, seed=3)
    traffic.spend(4000 / rate)
    assert traffic.normal == pytest.approx(USUALLY, rel=0.15)
    assert traffic.slowness.usual == pytest.approx(0.085, abs=0.03)


@pytest.mark.parametrize("rate", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("slower", [4.0, 10.0])
def test_twenty_minutes_of_slowness_are_not_the_new_normal(rate: float, slower: float) -> None:
    traffic = Traffic(rate=rate, spread=0.8, seed=4)
    traffic.spend(400 / rate)
    before = traffic.normal
    assert traffic.spend(1200.0, slower) >= 1
    assert traffic.normal < 1.2 * before
    assert slower * USUALLY > FACTOR * traffic.normal, "most of them are slow to the end"
    traffic.spend(1800.0)
    assert traffic.normal == pytest.approx(before, rel=0.2)


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_a_lasting_change_becomes_normal_within_hours(rate: float) -> None:
    traffic = Traffic(rate=rate, spread=0.8, seed=5)
    traffic.spend(400 / rate)
    assert traffic.spend(3600.0, 10.0) >= 1
    traffic.spend(6 * 3600.0, 10.0)
    assert traffic.normal == pytest.approx(10 * USUALLY, rel=0.3)
    assert traffic.spend(3600.0, 10.0) == 0


# ---- the verdict -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "row"), [(0.02, 6), (0.2, 6), (2.0, 5), (20.0, 5), (100.0, 5)])
def test_a_few_slow_answers_in_a_row_are_a_verdict_and_more_where_there_are_many(every: float, row: int) -> None:
    slowness = knowing(every=every)
    found = []
    for number in range(10):
        assert take(slowness, number * every, 10.0)
        found.append(slowness.verdict(number * every))
    assert found == [None] * (row - 1) + [(number, number) for number in range(row, 11)]


def test_quick_ones_between_ask_for_more_slow_ones_and_half_at_least() -> None:
    for quick, found in ((0, True), (3, True), (8, True), (12, False), (20, False)):
        slowness = knowing(every=2.0)
        story = [1.0] * quick + [10.0] * 10
        Random(2).shuffle(story)
        for number, ttft in enumerate(story):
            take(slowness, number * 2.0, ttft)
        verdict = slowness.verdict(len(story) * 2.0)
        assert (verdict is not None) == found, quick
        if verdict is not None:
            slow, of = verdict
            assert SLOW_LEAST <= slow <= 10
            assert slow <= of <= 2 * slow


def test_slow_answers_of_long_ago_say_nothing() -> None:
    slowness = knowing()
    for number in range(10):
        take(slowness, float(number), 10.0)
    assert slowness.verdict(9.0 + RECENT_AGE - SLOW_LEAST) == (SLOW_LEAST + 1, SLOW_LEAST + 1)
    assert slowness.verdict(9.0 + RECENT_AGE) is None


def test_asking_changes_nothing_and_forgetting_keeps_what_is_normal() -> None:
    slowness = knowing()
    for number in range(10):
        take(slowness, float(number), 10.0)
    assert [slowness.verdict(9.0) for _ in range(3)] == [(10, 10)] * 3
    slowness.forget()
    assert slowness.verdict(9.0) is None
    assert slowness.normal(1000) == pytest.approx(1.0, abs=0.02)
    for number in range(10, 20):
        take(slowness, float(number), 10.0)
    assert slowness.verdict(19.0) == (10, 10)


@given(st.permutations(range(30)))
def test_the_order_of_late_reports_does_not_matter(order: list[int]) -> None:
    slowness, other = knowing(), knowing()
    for number in order:
        take(slowness, float(number), 10.0 if number >= 22 else 1.0)
    for number in range(30):
        take(other, float(number), 10.0 if number >= 22 else 1.0)
    assert slowness.verdict(30.0) == other.verdict(30.0) == (8, 8)


@given(st.lists(st.booleans(), max_size=2 * RECENT_MAX), st.sampled_from((0.2, 2.0, 20.0)))
def test_a_verdict_counts_the_last_answers_and_there_is_none_below_the_minimum(
    story: list[bool], every: float
) -> None:
    slowness = knowing(every=every)
    for number, slow in enumerate(story):
        assert take(slowness, number * every, 10.0 if slow else 1.0) is slow
    verdict = slowness.verdict(len(story) * every)
    if verdict is not None:
        slow, of = verdict
        assert sum(story[-of:]) == slow >= SLOW_LEAST
        assert story[-of]
        assert of <= min(2 * slow, RECENT_MAX)
    assert verdict is not None or story[-7:] != [True] * 7


@pytest.mark.parametrize("spread", [0.8, 1.0])
@pytest.mark.parametrize(("rate", "days"), [(0.05, 12.0), (0.5, 1.2), (5.0, 0.12)])
def test_ordinary_traffic_is_not_slow(rate: float, days: float, spread: float) -> None:
    assert Traffic(rate=rate, spread=spread, seed=6).spend(days * 86400.0) <= 0.1 * days


@pytest.mark.parametrize(
    ("rate", "spread", "slower", "slow_answers", "answers"),
    [
        (0.05, 0.8, 10.0, 6, 8),
        (0.5, 0.8, 10.0, 8, 9),
        (5.0, 0.8, 10.0, 8, 9),
        (0.5, 1.0, 10.0, 8, 10),
        (5.0, 1.0, 10.0, 10, 14),
        (0.05, 0.8, 4.0, 10, 16),
        (0.5, 0.8, 4.0, 12, 20),
        (5.0, 0.8, 4.0, 14, 22),
        (0.05, 0.8, 3.0, 14, 26),
    ],
)
def test_slowness_is_seen_within_few_answers(
    rate: float, spread: float, slower: float, slow_answers: int, answers: int
) -> None:
    seen = []
    for seed in range(25):
        traffic = Traffic(rate=rate, spread=spread, seed=seed)
        for _ in range(300):
            traffic.answer()
        traffic.slowness.forget()
        for _ in range(30):
            traffic.answer()
        slow = number = 0
        while number < 500:
            late, verdict = traffic.answer(slower)
            number, slow = number + 1, slow + late
            if verdict is not None:
                break
        seen.append((slow, number))
    assert median(slow for slow, _ in seen) <= slow_answers
    assert median(number for _, number in seen) <= answers


# ---- a restart ---------------------------------------------------------------------------------------


def mixed() -> Slowness:
    slowness, random = Slowness(), Random(7)
    for number in range(2000):
        size = random.choice((None, 100, 5000, 100_000))
        time = random.lognormvariate(0.0, 0.8)
        streamed = number % 3 == 0
        take(
            slowness,
            float(number),
            time if streamed else None,
            latency=time * 9,
            prompt_tokens=size,
            completion_tokens=random.choice((None, 10, 3000)),
        )
    return slowness


def test_a_restart_keeps_what_is_normal_and_what_is_usual_but_not_the_last_answers() -> None:
    before, after = mixed(), Slowness()
    kept = before.dump(2000.0)
    after.restore(kept, then=5.0)
    assert after.dump(5.0) == kept
    assert after.usual == before.usual
    assert [after.normal(size) for size in (None, 100, 5000, 100_000)] == [
        before.normal(size) for size in (None, 100, 5000, 100_000)
    ]
    assert after.normal(2000) is None
    assert after.verdict(5.0) is None
    for number in range(10):
        assert take(after, 6.0 + number, 50.0, prompt_tokens=100)
    assert after.verdict(15.0) == (10, 10)


def test_what_was_learned_since_is_newer_than_a_dump() -> None:
    kept, after = mixed().dump(2000.0), Slowness()
    for number in range(KNOWN + 1):
        take(after, float(number), 7.0, prompt_tokens=100)
    take(after, 30.0, 3.0, prompt_tokens=5000)
    usual = after.usual
    after.restore(kept, then=30.0)
    assert after.normal(100) == 7.0
    assert after.usual == usual
    assert after.normal(5000) == mixed().normal(5000)


def test_a_dump_is_plain_and_within_its_bounds() -> None:
    slowness = Slowness()
    for number in range(KNOWN):
        take(slowness, 10.0 + number, 0.0)
        take(slowness, 10.0 + number, 1e9, prompt_tokens=10**9)
        take(slowness, 10.0 + number, None, latency=1e9, prompt_tokens=None, completion_tokens=10**9)
    kept = slowness.dump(0.0)
    assert {each.normal for each in kept.normals} == {0.001, 100_000.0}
    assert {each.age for each in kept.normals} == {0.0}
    assert kept.usual == USUAL
    plain = {
        "usual": kept.usual,
        "judged": kept.judged,
        "normals": [[each.place, each.normal, each.samples, each.age] for each in kept.normals],
    }
    assert read(plain, SlownessKept, "here") == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"usual": 1.5}, "here.usual: Expected `float` <= 1.0"),
        ({"normals": [[48, 1.0, 20, 0.0]]}, "here.normals[0][0]: Expected `int` <= 47"),
        ({"normals": [[0, 0.0, 20, 0.0]]}, "here.normals[0][1]: Expected `float` >= 0.001"),
        ({"normals": [[0, 1.0, 20, 0.0]] * 49}, "here.normals: Expected `array` of length <= 48"),
    ],
)
def test_a_dump_of_another_shape_is_refused(change: dict[str, object], message: str) -> None:
    plain: dict[str, object] = {"usual": 0.1, "judged": 5, "normals": []}
    with pytest.raises(ValueError) as refused:
        read(plain | change, SlownessKept, "here")
    assert str(refused.value) == message


def test_a_restored_normal_of_any_age_moves_a_step_at_most() -> None:
    slowness = Slowness()
    kept = read({"usual": 0.1, "judged": 2**31 - 1, "normals": [[0, 1.0, 2**31 - 1, 1e9]]}, SlownessKept, "here")
    slowness.restore(kept, then=0.0)
    take(slowness, 1.0, 1000.0)
    assert slowness.normal(1000) == pytest.approx(1.0 + DRIFT_MAX)
    assert slowness.dump(1.0).normals[0].samples == SETTLED
