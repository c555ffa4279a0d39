from __future__ import annotations

import tracemalloc
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.latency import (
    ERROR,
    SLICES,
    SPAN,
    TIMEOUTS_UNKNOWN,
    VALUE_MAX,
    VALUE_MIN,
    Quantiles,
    timeouts,
)

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


def test_timeouts_are_the_unknown_ones_below_twenty_samples() -> None:
    latency, ttft = Quantiles(), Quantiles()
    assert timeouts(latency, ttft, 0.0) == TIMEOUTS_UNKNOWN
    for _ in range(19):
        latency.record(0.0, 20.0)
        ttft.record(0.0, 2.0)
    assert timeouts(latency, ttft, 0.0) == TIMEOUTS_UNKNOWN


@pytest.mark.parametrize(
    ("latency", "ttft", "total", "first_token"),
    [
        (20.0, 2.0, 60.0, 6.0),
        (1.0, 0.1, 30.0, 2.0),
        (900.0, 90.0, 600.0, 60.0),
    ],
    ids=["three times the p99", "never below the floors", "never above the caps"],
)
def test_timeouts_follow_the_endpoints_own_p99(
    latency: float, ttft: float, total: float, first_token: float
) -> None:
    slow, first = Quantiles(), Quantiles()
    for _ in range(20):
        slow.record(0.0, latency)
        first.record(0.0, ttft)
    found = timeouts(slow, first, 0.0)
    assert found.total == pytest.approx(total, rel=ERROR + 1e-3)
    assert found.first_token == pytest.approx(first_token, rel=ERROR + 1e-3)
    assert timeouts(slow, first, 300.0) == TIMEOUTS_UNKNOWN
