"""The rule under test: an outcome at t counts at `now` iff floor(now/width) − floor(t/width) < BUCKETS."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.window import BUCKETS, FAILURE, RATE_LIMITED, SUCCESS, Column, Counts, Ring, Windows

SPANS = (30.0, 300.0, 1800.0, 86400.0, 7.0, 0.5)


class Recount:
    """The same question answered from a list of everything, by the rule as it is written."""

    def __init__(self, span: float) -> None:
        self.width = span / BUCKETS
        self.all: list[tuple[float, Column]] = []

    def counts(self, now: float) -> Counts:
        clock = max([now, *(ended for ended, _ in self.all)])
        live = [
            column for ended, column in self.all if floor(clock / self.width) - floor(ended / self.width) < BUCKETS
        ]
        return Counts(live.count(SUCCESS), live.count(FAILURE), live.count(RATE_LIMITED))


@st.composite
def steps(draw: st.DrawFn) -> tuple[float, list[tuple[str, float, Column]]]:
    """A span, and moments on, just beside and far from its bucket borders, in any order."""
    span = draw(st.sampled_from(SPANS))
    width = span / BUCKETS
    on_border = st.integers(-3 * BUCKETS, 6 * BUCKETS).map(lambda bucket: bucket * width)
    jump = st.integers(-10, 10).map(lambda spans: spans * span)
    anywhere = st.floats(-4 * span, 12 * span, allow_nan=False)
    far = st.floats(-1e9, 1e9, allow_nan=False)
    moment = st.one_of(on_border, on_border.map(lambda at: at - width * 1e-6), jump, anywhere, far)
    column: st.SearchStrategy[Column] = st.sampled_from((SUCCESS, FAILURE, RATE_LIMITED))
    return span, draw(st.lists(st.tuples(st.sampled_from(("record", "read")), moment, column), max_size=60))


@given(steps())
def test_a_ring_equals_a_recount_of_everything(story: tuple[float, list[tuple[str, float, Column]]]) -> None:
    span, events = story
    ring, recount = Ring(span), Recount(span)
    for what, moment, column in events:
        if what == "record":
            ring.record(moment, column)
            recount.all.append((moment, column))
        assert ring.counts(moment) == recount.counts(moment)


@given(steps(), st.lists(st.floats(-1e9, 1e9, allow_nan=False), max_size=20))
def test_reading_changes_nothing(
    story: tuple[float, list[tuple[str, float, Column]]], reads: Sequence[float]
) -> None:
    span, events = story
    read, unread = Ring(span), Ring(span)
    for _, moment, column in events:
        read.record(moment, column)
        unread.record(moment, column)
        for now in reads:
            read.counts(now)
    for now in [*reads, *(moment for _, moment, _ in events)]:
        assert read.counts(now) == unread.counts(now)


@given(st.lists(st.tuples(st.floats(0, 2e5, allow_nan=False), st.sampled_from((SUCCESS, FAILURE))), max_size=40))
def test_the_windows_of_one_endpoint_are_its_rings_side_by_side(events: list[tuple[float, Column]]) -> None:
    spans = (30.0, 300.0, 86400.0)
    windows, rings = Windows(spans), [Ring(span) for span in spans]
    for ended, column in events:
        windows.record(ended, column)
        for ring in rings:
            ring.record(ended, column)
    for now in (0.0, 1e4, 2e5, *(ended for ended, _ in events)):
        assert [windows.counts(index, now) for index in range(3)] == [ring.counts(now) for ring in rings]
        assert windows.counts(-1, now) == rings[-1].counts(now)


@pytest.mark.parametrize(
    ("ended", "now", "counted"),
    [
        (0.0, 0.0, True),
        (0.0, 29.999, True),
        (0.0, 30.0, False),
        (0.999, 29.999, True),
        (0.999, 30.0, False),
        (1.0, 30.999, True),
        (-0.001, 28.999, True),
        (-0.001, 29.0, False),
        (100.0, 0.0, True),  # a clock that ran backwards reads as the newest outcome's moment
        (0.0, 1e12, False),
    ],
)
def test_an_outcome_leaves_the_window_with_its_bucket(ended: float, now: float, counted: bool) -> None:
    ring = Ring(30.0)
    ring.record(ended, FAILURE)
    assert ring.counts(now) == Counts(failure=1 if counted else 0)


def test_a_late_outcome_counts_in_the_bucket_in_which_it_ended() -> None:
    ring = Ring(30.0)
    ring.record(40.5, SUCCESS)
    ring.record(20.5, FAILURE)
    assert ring.counts(49.9) == Counts(success=1, failure=1)
    assert ring.counts(50.0) == Counts(success=1)


def test_an_outcome_older_than_the_window_is_not_counted() -> None:
    ring = Ring(30.0)
    ring.record(40.5, SUCCESS)
    ring.record(10.9, FAILURE)
    assert ring.counts(40.5) == Counts(success=1)


def test_an_empty_ring_counts_nothing() -> None:
    assert Ring(30.0).counts(5.0) == Counts()


@pytest.mark.parametrize("span", [0.0, -1.0])
def test_a_window_that_covers_nothing_is_a_programmers_error(span: float) -> None:
    with pytest.raises(AssertionError, match="covers nothing"):
        Ring(span)


@pytest.mark.parametrize(
    ("counts", "outcomes", "tries", "error_ratio", "rate_limited_ratio"),
    [
        (Counts(), 0, 0, None, None),
        (Counts(success=3, failure=1), 4, 4, 0.25, 0.0),
        (Counts(success=3, failure=1, rate_limited=4), 4, 8, 0.25, 0.5),
        (Counts(rate_limited=4), 0, 4, None, 1.0),
    ],
)
def test_a_429_is_a_try_and_never_in_the_error_ratio(
    counts: Counts, outcomes: int, tries: int, error_ratio: float | None, rate_limited_ratio: float | None
) -> None:
    assert (counts.outcomes, counts.tries) == (outcomes, tries)
    assert (counts.error_ratio, counts.rate_limited_ratio) == (error_ratio, rate_limited_ratio)


def test_windows_add_up() -> None:
    assert Counts(1, 2, 3).plus(Counts(10, 20, 30)) == Counts(11, 22, 33)
