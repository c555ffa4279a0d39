from __future__ import annotations

import tracemalloc
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.latency import (
    BATCH,
    CLASS_BOUNDS,
    ERROR,
    PREFILL,
    SLICES,
    SPAN,
    TIMEOUTS_UNKNOWN,
    VALUE_MAX,
    VALUE_MIN,
    Quantiles,
    Speed,
    size_class,
)
from balancer.core.model import TimeoutPolicy, Timeouts
from balancer.core.request import TOKENS_MAX

RANKS = (0.5, 0.75, 0.9, 0.99)
SLICE = SPAN / SLICES

values = st.floats(VALUE_MIN, VALUE_MAX, allow_nan=False)
moments = st.one_of(
    st.floats(-2 * SPAN, 4 * SPAN, allow_nan=False),
    st.integers(-10, 30).map(lambda index: index * SLICE),
)


def live(all_of: list[tuple[float, float]], now: float) -> list[float]:
    """The values whose slice is one of the last five at `now`, or at the newest value where that is later."""
    newest = max([now, *(ended for ended, _ in all_of)])
    return sorted(value for ended, value in all_of if floor(newest / SLICE) - floor(ended / SLICE) < SLICES)


@given(st.lists(st.tuples(moments, values), min_size=1, max_size=80), moments)
def test_quantiles_are_within_one_percent_of_the_nearest_rank(
    recorded: list[tuple[float, float]], now: float
) -> None:
    quantiles = Quantiles()
    for ended, value in recorded:
        quantiles.record(ended, value)
    expected = live(recorded, now)
    found = quantiles.at(now, RANKS)
    assert quantiles.samples(now) == len(expected)
    if not expected:
        assert found is None
        return
    assert found is not None
    for rank, value in zip(RANKS, found, strict=True):
        true = expected[max(1, ceil(rank * len(expected))) - 1]
        assert abs(value - true) <= true * (ERROR + 1e-9)


@given(st.lists(st.tuples(moments, values), max_size=40), st.lists(moments, max_size=10))
def test_reading_changes_nothing(recorded: list[tuple[float, float]], reads: list[float]) -> None:
    read, unread = Quantiles(), Quantiles()
    for ended, value in recorded:
        read.record(ended, value)
        unread.record(ended, value)
        for now in reads:
            read.at(now, RANKS)
            read.samples(now)
    for now in [*reads, 0.0, SPAN]:
        assert read.at(now, RANKS) == unread.at(now, RANKS)


def test_quantiles_ascend_with_their_ranks() -> None:
    quantiles = Quantiles()
    for step in range(200):
        quantiles.record(10.0, 0.01 * 1.05**step)
    found = quantiles.at(10.0, (0.0, 0.5, 0.5, 1.0))
    assert found is not None
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("now", "samples"), [(0.0, 1), (299.9, 1), (300.0, 0), (1e9, 0)], ids=["at once", "last", "gone", "much later"]
)
def test_a_slice_expires_whole(now: float, samples: int) -> None:
    quantiles = Quantiles()
    quantiles.record(59.9, 1.0)
    assert quantiles.samples(now) == samples
    assert (quantiles.at(now, (0.5,)) is None) == (samples == 0)


def test_count_and_sum_are_of_all_time_and_take_late_values_too() -> None:
    quantiles = Quantiles()
    quantiles.record(0.0, 1.0)
    quantiles.record(10_000.0, 2.0)
    quantiles.record(0.0, 4.0)
    assert (quantiles.count, quantiles.sum) == (3, 7.0)
    assert quantiles.samples(10_000.0) == 1


@pytest.mark.parametrize(("value", "shown"), [(0.0, VALUE_MIN), (1e9, VALUE_MAX)])
def test_values_beyond_the_bounds_count_as_the_bound(value: float, shown: float) -> None:
    quantiles = Quantiles()
    quantiles.record(0.0, value)
    assert quantiles.at(0.0, (0.5,)) == (pytest.approx(shown, rel=ERROR),)


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    quantiles = Quantiles()

    def day(start: float) -> None:
        for step in range(20_000):
            quantiles.record(start + step * 4.32, 0.001 * 1.00075 ** (step * 7919 % 20_000))

    day(0.0)
    tracemalloc.start()
    day(86_400.0)
    before, _ = tracemalloc.get_traced_memory()
    day(172_800.0)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 50_000


@given(st.lists(st.tuples(moments, values, st.integers(0, 5)), min_size=1, max_size=80), moments)
def test_a_class_is_counted_apart_and_all_of_them_together(
    recorded: list[tuple[float, float, int]], now: float
) -> None:
    classed, together = Quantiles(), Quantiles()
    apart = [Quantiles() for _ in range(6)]
    newest = max(ended for ended, _, _ in recorded)
    for each in apart:
        each.record(newest, 1.0)  # one clock for all
    classed.record(newest, 1.0, 5)
    together.record(newest, 1.0)
    for ended, value, kind in recorded:
        classed.record(ended, value, kind)
        together.record(ended, value)
        apart[kind].record(ended, value)
    assert classed.at(now, RANKS) == together.at(now, RANKS)
    assert (classed.samples(now), classed.mean(now)) == (together.samples(now), together.mean(now))
    for kind, each in enumerate(apart):
        extra = 0 if kind == 5 or not each.samples(now) else 1
        assert classed.samples(now, kind) == each.samples(now) - extra
    assert classed.at(now, RANKS, 5) == apart[5].at(now, RANKS)


# ---- one endpoint's speed ----------------------------------------------------------------------------

POLICY = TimeoutPolicy()


def seen(
    speed: Speed,
    times: int,
    *,
    now: float = 0.0,
    latency: float | None = 20.0,
    ttft: float | None = 2.0,
    prompt_tokens: int | None = 500,
    completion_tokens: int | None = 100,
) -> None:
    """Record the same success some times."""
    for _ in range(times):
        speed.record(
            ended=now,
            latency=latency,
            ttft=ttft,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            now=now,
        )


def within(found: Timeouts, first_token: float, total: float) -> None:
    assert found.first_token == pytest.approx(first_token, rel=ERROR + 1e-3)
    assert found.total == pytest.approx(total, rel=ERROR + 1e-3)


@pytest.mark.parametrize(
    ("prompt_tokens", "kind"),
    [
        (0, 0),
        (1023, 0),
        (1024, 1),
        (4095, 1),
        (4096, 2),
        (16_384, 3),
        (65_535, 3),
        (65_536, 4),
        (10**9, 4),
        (None, 5),
    ],
)
def test_prompts_fall_into_classes_by_powers_of_four(prompt_tokens: int | None, kind: int) -> None:
    assert size_class(prompt_tokens) == kind
    if prompt_tokens is not None:
        assert kind == len([bound for bound in CLASS_BOUNDS if prompt_tokens >= bound])


@pytest.mark.parametrize(
    ("prompt_tokens", "allowance"),
    [(None, 0.0), (0, 0.0), (1000, 1024 / PREFILL), (1024, 2048 / PREFILL), (30_000, 32_768 / PREFILL)],
)
def test_where_nothing_is_known_the_prompts_length_is_allowed_for(
    prompt_tokens: int | None, allowance: float
) -> None:
    found = Speed().timeouts(prompt_tokens, now=0.0, policy=POLICY)
    assert found.connect == POLICY.connect
    within(found, TIMEOUTS_UNKNOWN.first_token + allowance, TIMEOUTS_UNKNOWN.total + allowance)


def test_a_class_that_was_seen_often_has_timeouts_of_its_own() -> None:
    speed = Speed()
    seen(speed, 20, prompt_tokens=500)
    seen(speed, 20, prompt_tokens=30_000, ttft=10.0, latency=60.0)
    within(speed.timeouts(500, now=0.0, policy=POLICY), 6.0, 60.0)
    within(speed.timeouts(20_000, now=0.0, policy=POLICY), 30.0, 180.0)


def test_a_class_that_was_seldom_seen_has_those_of_all_and_time_to_read() -> None:
    speed = Speed()
    seen(speed, 20, prompt_tokens=500)
    seen(speed, 5, prompt_tokens=None)
    within(speed.timeouts(2000, now=0.0, policy=POLICY), 6.0 + 2048 / PREFILL, 60.0 + 2048 / PREFILL)
    within(speed.timeouts(None, now=0.0, policy=POLICY), 6.0, 60.0)


def test_below_twenty_samples_an_endpoint_is_unknown_and_what_it_never_told_stays_so() -> None:
    speed = Speed()
    seen(speed, 19)
    assert speed.timeouts(None, now=0.0, policy=POLICY) == TIMEOUTS_UNKNOWN
    seen(speed, 1, ttft=None)
    found = speed.timeouts(None, now=0.0, policy=POLICY)
    within(found, TIMEOUTS_UNKNOWN.first_token, 60.0)


@pytest.mark.parametrize(
    ("latency", "ttft", "total", "first_token"),
    [(20.0, 2.0, 60.0, 6.0), (1.0, 0.1, 30.0, 2.0), (900.0, 90.0, 600.0, 60.0)],
    ids=["three times the p99", "never below the floors", "never above the caps"],
)
def test_timeouts_follow_the_endpoints_own_p99(
    latency: float, ttft: float, total: float, first_token: float
) -> None:
    speed = Speed()
    seen(speed, 20, latency=latency, ttft=ttft)
    within(speed.timeouts(500, now=0.0, policy=POLICY), first_token, total)


def test_timeouts_keep_the_policys_floors_and_caps() -> None:
    policy = TimeoutPolicy(connect=1.0, first_token_min=3.0, first_token_max=20.0, total_min=40.0, total_max=90.0)
    speed = Speed()
    assert speed.timeouts(1_000_000, now=0.0, policy=policy) == Timeouts(connect=1.0, first_token=20.0, total=90.0)
    seen(speed, 20, latency=0.5, ttft=0.1)
    assert speed.timeouts(500, now=0.0, policy=policy) == Timeouts(connect=1.0, first_token=3.0, total=40.0)
    assert speed.timeouts(500, now=0.0, policy=POLICY) == Timeouts(connect=2.0, first_token=2.0, total=30.0)


def test_a_total_is_never_below_the_time_of_the_first_token() -> None:
    policy = TimeoutPolicy(first_token_min=50.0, first_token_max=60.0, total_min=1.0, total_max=10.0)
    assert Speed().timeouts(500, now=0.0, policy=policy) == Timeouts(connect=2.0, first_token=50.0, total=50.0)
    odd = Speed()
    for _ in range(200):  # those who stream are slow, and those who do not are quick
        odd.record(ended=0.0, latency=None, ttft=40.0, prompt_tokens=500, completion_tokens=None, now=0.0)
        odd.record(ended=0.0, latency=0.5, ttft=None, prompt_tokens=500, completion_tokens=None, now=0.0)
    found = odd.timeouts(500, now=0.0, policy=POLICY)
    assert found.total >= found.first_token


def test_an_absurd_number_of_tokens_is_bounded_and_a_negative_one_is_no_sample() -> None:
    speed = Speed()
    for tokens in (10**400, -5, 0, None):
        speed.record(ended=0.0, latency=2.0, ttft=None, prompt_tokens=500, completion_tokens=tokens, now=0.0)
    assert (speed.throughput.count, speed.throughput.sum) == (1, TOKENS_MAX / 2.0)


def test_timeouts_are_forgotten_with_their_samples() -> None:
    speed = Speed()
    seen(speed, 50)
    within(speed.timeouts(500, now=SPAN - 0.1, policy=POLICY), 6.0, 60.0)
    assert speed.timeouts(None, now=SPAN, policy=POLICY) == TIMEOUTS_UNKNOWN
    assert speed.percentiles("latency", SPAN) is None


def test_asked_again_with_nothing_new_it_is_the_same_value() -> None:
    speed = Speed()
    seen(speed, 50)
    assert speed.timeouts(500, now=0.0, policy=POLICY) is speed.timeouts(501, now=1.0, policy=POLICY)
    assert speed.percentiles("ttft", 0.0) is speed.percentiles("ttft", 1.0)


def test_percentiles_say_how_many_requests_do_better_so_that_a_throughputs_p99_is_slow() -> None:
    speed = Speed()
    assert speed.percentiles("throughput", 0.0) is None
    for step in range(1, 41):
        seen(speed, 1, now=step * 1.0, latency=step / 4, ttft=step / 40, completion_tokens=step * step)
    latency, ttft, throughput = [speed.percentiles(which, 40.0) for which in ("latency", "ttft", "throughput")]
    assert latency == pytest.approx((5.0, 7.5, 9.0, 10.0), rel=2 * ERROR)
    assert ttft == pytest.approx((0.5, 0.75, 0.9, 1.0), rel=2 * ERROR)
    assert throughput is not None
    assert throughput == pytest.approx((80.0, 40.0, 16.0, 4.0), rel=2 * ERROR)
    assert throughput.p99 < throughput.p50


def test_totals_of_all_time_are_exact_at_once() -> None:
    speed = Speed()
    seen(speed, 101)
    seen(speed, 1, latency=None, completion_tokens=None)
    assert (speed.latency.count, speed.ttft.count, speed.throughput.count) == (101, 102, 101)
    assert (speed.latency.sum, speed.ttft.sum, speed.throughput.sum) == (2020.0, 204.0, pytest.approx(505.0))


def test_what_shows_no_time_is_no_sample() -> None:
    speed = Speed()
    seen(speed, 5, latency=None, ttft=None)
    assert (speed.version, speed.latency.count, speed.percentiles("latency", 0.0)) == (0, 0, None)


def test_quantiles_lag_by_less_than_a_batch_and_by_half_a_slice_at_most() -> None:
    speed = Speed()
    seen(speed, 200)
    before = speed.version
    seen(speed, BATCH - 1, now=0.5)
    assert speed.version in (before, before + 1)
    assert speed.latency.samples(0.5) > 200
    seen(speed, 1, now=0.5 + SLICE / 2)
    assert speed.latency.samples(0.5 + SLICE / 2) == 200 + BATCH


def test_a_slow_endpoints_samples_are_taken_one_by_one() -> None:
    speed = Speed()
    for step in range(100):
        seen(speed, 1, now=step * SLICE / 2)
        assert speed.version == step + 1


def test_who_became_another_is_known_by_its_new_samples_at_once() -> None:
    speed = Speed()
    seen(speed, 200, latency=40.0)
    version = speed.version
    speed.forget()
    assert speed.percentiles("latency", 1.0) is None
    assert speed.version > version
    assert (speed.latency.count, speed.latency.samples(1.0)) == (200, 0)  # the totals are of all time
    seen(speed, 1, now=1.0, latency=2.0)
    found = speed.percentiles("latency", 1.0)
    assert found is not None
    assert found.p50 == pytest.approx(2.0, rel=2 * ERROR)


def test_the_batches_of_a_busy_endpoint_are_a_sixteenth_of_what_it_has() -> None:
    speed = Speed()
    seen(speed, 16_000)
    before, version = speed.latency.samples(0.0), speed.version
    seen(speed, 4000)
    assert 16_000 * 15 / 16 <= before <= 16_000
    assert 2 <= speed.version - version <= 5


stories = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.one_of(st.none(), values),
        st.one_of(st.none(), values),
        st.one_of(st.none(), st.integers(0, 100_000)),
        st.one_of(st.none(), st.integers(0, 5000)),
        st.integers(1, 40),
    ),
    max_size=30,
)


@given(stories, st.integers(0, 100_000))
def test_reading_a_speed_changes_no_later_answer(
    story: list[tuple[float, float | None, float | None, int | None, int | None, int]], asked: int
) -> None:
    read, unread, now = Speed(), Speed(), 0.0

    def answers(speed: Speed, now: float) -> list[object]:
        return [
            speed.timeouts(asked, now=now, policy=POLICY),
            speed.timeouts(None, now=now, policy=TimeoutPolicy(total_min=1.0)),
            *[speed.percentiles(which, now) for which in ("latency", "ttft", "throughput")],
            speed.version,
        ]

    for passed, latency, ttft, prompt_tokens, completion_tokens, times in story:
        now += passed
        for speed in (read, unread):
            seen(
                speed,
                times,
                now=now,
                latency=latency,
                ttft=ttft,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        for moment in (now, now + 61.0, now - 61.0):
            answers(read, moment)
    for moment in (now, now + 61.0, now + 200.0, now - 61.0):
        assert answers(read, moment) == answers(unread, moment)
