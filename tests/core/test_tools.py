from __future__ import annotations

from math import floor
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.tools import (
    PEERS_MIN,
    SIGMA_MIN,
    THROUGHPUT_SIGMAS,
    TOOL_SIGMAS,
    TOOLS_SPAN,
    ToolCalls,
    deranked,
)
from balancer.core.window import BUCKETS

BUCKET = TOOLS_SPAN / BUCKETS

moments = st.one_of(
    st.floats(-TOOLS_SPAN, 4 * TOOLS_SPAN, allow_nan=False),
    st.integers(-BUCKETS, 4 * BUCKETS).map(lambda bucket: bucket * BUCKET),
)


@given(st.lists(st.tuples(moments, st.integers(0, 3)), max_size=60), moments)
def test_requests_and_their_rate_equal_a_recount(story: list[tuple[float, int]], now: float) -> None:
    calls = ToolCalls()
    for ended, errors in story:
        calls.record(ended, errors)
    clock = max([now, *(ended for ended, _ in story)])
    live = [errors for ended, errors in story if floor(clock / BUCKET) - floor(ended / BUCKET) < BUCKETS]
    assert calls.requests(now) == len(live)
    assert calls.rate(now) == ((len(live) - live.count(0)) / len(live) if live else None)


def test_a_request_with_three_broken_calls_is_one_bad_request() -> None:
    calls = ToolCalls()
    calls.record(0.0, 3)
    for _ in range(3):
        calls.record(0.0, 0)
    assert (calls.requests(0.0), calls.rate(0.0)) == (4, 0.25)


@pytest.mark.parametrize(
    ("values", "far"),
    [
        ([], []),
        ([50.0, 51.0, 5.0], [False] * 3),
        ([50.0, 51.0, 5.0, None], [False] * 4),
        ([50.0, 51.0, 49.0, 5.0], [False, False, False, True]),
        ([50.0, 51.0, 49.0, 500.0], [False] * 4),
        ([50.0, None, 51.0, 49.0, 5.0], [False, False, False, False, True]),
        ([50.0, 50.0, 50.0, 49.9], [False] * 4),
        ([50.0, 50.0, 50.0, 40.0], [False, False, False, True]),
        ([10.0, 50.0, 52.0, 48.0, 11.0, 51.0, 49.0], [True, False, False, False, True, False, False]),
        ([0.0, 0.0, 0.0, 0.0], [False] * 4),
    ],
    ids=[
        "nobody", "three are too few", "three known are too few", "one is slow", "one is fast", "one is unknown",
        "alike but for a hair", "alike but for one", "a slow one does not hide another", "all nothing",
    ],
)  # fmt: skip
def test_a_slow_one_is_told_from_its_peers(values: list[float | None], far: list[bool]) -> None:
    assert deranked(values, sigmas=THROUGHPUT_SIGMAS, low_is_bad=True) == far


def test_a_host_that_breaks_tool_calls_is_told_among_perfect_ones() -> None:
    assert deranked([1.0, 1.0, 0.97, 0.62], sigmas=TOOL_SIGMAS, low_is_bad=True) == [False, False, False, True]


def test_high_is_bad_is_the_mirror() -> None:
    assert deranked([1.0, 1.1, 0.9, 5.0], sigmas=2.0, low_is_bad=False) == [False, False, False, True]
    assert deranked([1.0, 1.1, 0.9, 0.0], sigmas=2.0, low_is_bad=False) == [False] * 4


quantities = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=12)


@given(quantities, st.floats(0.1, 5.0), st.booleans())
def test_far_is_beyond_the_median_by_that_many_robust_deviations(
    values: list[float | None], sigmas: float, low_is_bad: bool
) -> None:
    known = [value for value in values if value is not None]
    found = deranked(values, sigmas=sigmas, low_is_bad=low_is_bad)
    if len(known) < PEERS_MIN:
        assert not any(found)
        return
    middle = median(known)
    sigma = max(1.4826 * median([abs(value - middle) for value in known]), SIGMA_MIN * abs(middle))
    for value, far in zip(values, found, strict=True):
        if value is None:
            assert not far
        elif low_is_bad:
            assert far == (value < middle - sigmas * sigma)
        else:
            assert far == (value > middle + sigmas * sigma)
    assert sum(found) <= len(known) / 2
