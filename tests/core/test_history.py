"""The arithmetic of the past: buckets, quantiles, both uptimes, and outages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.history import (
    BUCKET_MAX,
    LATENCY_MIN,
    Minutes,
    Outages,
    Uptime,
    bucket,
    bucket_value,
    judged,
    latencies,
    uptime,
)

WITHIN = 2 ** (1 / 8) + 1e-9  # half a bucket, as a factor


@given(st.floats(LATENCY_MIN, 1000.0))
def test_a_bucket_stands_for_its_latencies_to_within_nine_percent(latency: float) -> None:
    number = bucket(latency)
    assert 0 <= number <= BUCKET_MAX
    assert 1 / WITHIN <= bucket_value(number) / latency <= WITHIN
    assert bucket(bucket_value(number)) == number


def test_what_is_below_or_beyond_falls_into_the_last_bucket_there_is() -> None:
    assert [bucket(value) for value in (0.0, 1e-9, LATENCY_MIN)] == [0, 0, 0]
    assert [bucket(value) for value in (1048.6, 86_400.0)] == [BUCKET_MAX, BUCKET_MAX]
    assert bucket_value(0) == LATENCY_MIN


@given(st.lists(st.floats(LATENCY_MIN, 1000.0), min_size=1, max_size=200))
def test_quantiles_are_the_nearest_ranks_to_within_nine_percent(values: list[float]) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket(value)] = counts.get(bucket(value), 0) + 1
    found = latencies(counts)
    assert found is not None
    ascending = sorted(values)
    for rank, told in ((50, found.p50), (75, found.p75), (90, found.p90), (99, found.p99)):
        true = ascending[-(-rank * len(values) // 100) - 1]
        assert 1 / WITHIN <= told / true <= WITHIN


def test_no_latency_has_no_quantile() -> None:
    assert latencies({}) is None


@pytest.mark.parametrize(
    ("successes", "failures", "minutes"),
    [
        (9, 0, Minutes(0, 0)),  # too few to be judged
        (10, 0, Minutes(1, 1)),
        (8, 2, Minutes(1, 1)),  # 80 % is good
        (79, 21, Minutes(1, 0)),
        (0, 10, Minutes(1, 0)),
        (0, 0, Minutes(0, 0)),
    ],
)
def test_a_minute_is_judged_as_openrouter_does(successes: int, failures: int, minutes: Minutes) -> None:
    assert judged(successes, failures) == minutes


def test_both_uptimes_leave_out_what_counts_neither_for_nor_against() -> None:
    outcomes = {"success": 90, "timeout": 6, "server_error": 4, "rate_limited": 50, "caller_error": 7}
    assert uptime(outcomes, Minutes(4, 3)) == Uptime(requests=0.9, minutes=0.75, minutes_counted=4)  # type: ignore[arg-type]
    assert uptime({"rate_limited": 3}, Minutes(0, 0)) == Uptime(requests=None, minutes=None, minutes_counted=0)


@pytest.mark.parametrize(
    ("changes", "longest"),
    [
        ([], 0.0),
        ([(10.0, "healthy")], 0.0),
        ([(110.0, "ejected"), (140.0, "recovering")], 30.0),
        ([(110.0, "ejected"), (120.0, "half_open"), (130.0, "ejected"), (140.0, "recovering")], 30.0),
        ([(110.0, "ejected"), (112.0, "recovering"), (150.0, "misconfigured"), (155.0, "healthy")], 5.0),
        ([(50.0, "ejected"), (130.0, "recovering")], 30.0),  # what lies before the span is not told
        ([(190.0, "ejected")], 10.0),  # nor what lies behind it
        ([(50.0, "ejected")], 100.0),
        ([(110.0, "ejected"), (120.0, None)], 10.0),  # the daemon was started
        ([(110.0, "ejected"), (120.0, None), (120.0, "ejected"), (150.0, "recovering")], 40.0),  # and knew
        ([(110.0, "ejected"), (120.0, None), (121.0, "ejected"), (150.0, "recovering")], 29.0),
        ([(110.0, "throttled"), (120.0, "drained"), (130.0, "degraded")], 0.0),
    ],
)
def test_the_longest_outage_is_told_as_far_as_it_lies_in_the_span(changes: list, longest: float) -> None:  # type: ignore[type-arg]
    outages = Outages(since=100.0, until=200.0)
    for at, state in changes:
        outages.change(at, state)
    assert outages.longest == longest
