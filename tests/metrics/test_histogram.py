"""A classic histogram counts every duration in each bucket that is at least as long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.metrics.histogram import Histogram

BOUNDS = (0.1, 1.0, 10.0)


def test_a_value_on_a_bound_belongs_to_that_bucket() -> None:
    histogram = Histogram("wait_seconds", {"who": "a"}, BOUNDS)
    for value in (0.1, 0.5, 1.0, 99.0):
        histogram.observe(value)
    assert histogram.lines() == [
        'wait_seconds_bucket{who="a",le="0.1"} 1',
        'wait_seconds_bucket{who="a",le="1.0"} 3',
        'wait_seconds_bucket{who="a",le="10.0"} 3',
        'wait_seconds_bucket{who="a",le="+Inf"} 4',
        'wait_seconds_sum{who="a"} 100.6',
        'wait_seconds_count{who="a"} 4',
    ]


def test_a_series_without_labels_starts_at_zero() -> None:
    assert Histogram("wait_seconds", {}, (1.0,)).lines() == [
        'wait_seconds_bucket{le="1.0"} 0',
        'wait_seconds_bucket{le="+Inf"} 0',
        "wait_seconds_sum 0.0",
        "wait_seconds_count 0",
    ]


def test_bounds_that_do_not_ascend_are_a_programmers_error() -> None:
    with pytest.raises(AssertionError, match="do not ascend"):
        Histogram("wait_seconds", {}, (1.0, 0.5))


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_bucket_equals_a_recount(values: list[float]) -> None:
    histogram = Histogram("x", {}, BOUNDS)
    for value in values:
        histogram.observe(value)
    counts = [int(text.rpartition(" ")[2]) for text in histogram.lines() if "_bucket" in text]
    assert counts == [*(sum(value <= bound for value in values) for bound in BOUNDS), len(values)]
