"""The rule under test: an outcome at t counts at `now` iff floor(now/width) − floor(t/width) < BUCKETS."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf

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


moments = st.floats(0, 2e5, allow_nan=False)
counted = st.lists(st.tuples(moments, st.sampled_from((SUCCESS, FAILURE)), st.booleans()), max_size=40)


@given(counted, st.integers(0, 40))
def test_what_is_taken_back_is_as_if_it_had_never_been_counted(
    events: list[tuple[float, Column, bool]], later: int
) -> None:
    spans = (30.0, 300.0, 86400.0)
    windows, without = Windows(spans), Windows(spans)
    for ended, column, stays in events:
        windows.record(ended, column)
        without.record(ended, column)
        if not stays:
            without.take_back(ended, column)
    for ended, column, stays in events[:later]:
        if not stays:
            windows.take_back(ended, column)
    for ended, column, stays in events[later:]:
        if not stays:
            windows.take_back(ended, column)
    recounts = [Recount(span) for span in spans]
    for now in (0.0, 1e4, 2e5, *(ended for ended, *_ in events)):
        for index, recount in enumerate(recounts):
            recount.all = [(ended, column) for ended, column, stays in events if stays]
            # What was taken back has moved the clock all the same.
            clock = max([now, *(ended for ended, *_ in events)])
            assert windows.counts(index, now) == without.counts(index, now) == recount.counts(clock)


def test_what_is_not_counted_any_more_cannot_be_taken_back() -> None:
    windows = Windows((30.0, 300.0))
    windows.take_back(5.0, FAILURE)
    windows.record(5.0, FAILURE)
    windows.record(100.0, FAILURE)
    windows.take_back(5.0, FAILURE)
    windows.take_back(5.0, FAILURE)
    windows.take_back(200.0, FAILURE)
    windows.take_back(100.0, SUCCESS)
    assert windows.counts(0, 100.0) == windows.counts(1, 100.0) == Counts(0, 1, 0)


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


def test_a_ring_may_add_amounts_beyond_thirty_two_bits() -> None:
    ring = Ring(60.0, wide=True)
    for _ in range(10):
        ring.record(1.0, FAILURE, 10**9)
    ring.record(3.0, SUCCESS, 5)
    assert ring.counts(3.0) == Counts(success=5, failure=10**10)
    assert ring.counts(60.0) == Counts(success=5)


@given(steps(), st.lists(st.integers(0, 5), min_size=60, max_size=60), st.floats(-1e4, 1e6, allow_nan=False))
def test_a_ring_of_amounts_equals_the_same_outcomes_one_by_one(
    story: tuple[float, list[tuple[str, float, Column]]], amounts: list[int], now: float
) -> None:
    span, events = story
    ring, recount = Ring(span, wide=True), Recount(span)
    for (_, moment, column), amount in zip(events, amounts, strict=False):
        ring.record(moment, column, amount)
        recount.all += [(moment, column)] * amount
        if amount == 0:  # it moves the ring's clock all the same
            recount.all.append((moment, column))
            ring.record(moment, column)
    for moment in [now, *(moment for _, moment, _ in events)]:
        assert ring.counts(moment) == recount.counts(moment)
        assert [ring.total(moment, column) for column in (SUCCESS, FAILURE, RATE_LIMITED)] == [*ring.counts(moment)]


@given(steps(), st.integers(-1, 10), st.floats(-200, 800, allow_nan=False))
def test_a_column_falls_when_the_ring_says_and_no_earlier(
    story: tuple[float, list[tuple[str, float, Column]]], most: int, now: float
) -> None:
    _, events = story
    ring = Ring(60.0)  # its borders are whole seconds: no quotient is rounded at one
    for _, moment, column in events:
        ring.record(moment, column)
    clock = max([now, *(moment for _, moment, _ in events)])
    wait = ring.falls_to(now, FAILURE, most)
    if wait == 0.0:
        assert ring.total(now, FAILURE) <= most
        return
    assert ring.total(now, FAILURE) > most
    if most < 0:
        assert wait == inf
        return
    falls = now + wait
    assert falls <= clock + 60.0 + 1e-6
    assert ring.total(falls + 1e-6, FAILURE) <= most
    assert ring.total(falls - 1e-3, FAILURE) > most


@given(steps(), st.floats(-200, 800, allow_nan=False))
def test_counts_stand_still_until_the_moment_that_the_ring_tells(
    story: tuple[float, list[tuple[str, float, Column]]], now: float
) -> None:
    _, events = story
    ring = Ring(60.0)
    for _, moment, column in events:
        ring.record(moment, column)
    until = ring.changes_at(now)
    assert until > now
    if until == inf:
        assert ring.counts(now) == ring.counts(now + 1e9) == Counts()
    else:
        assert ring.counts(now) == ring.counts(now + (until - now) * 0.999)


def test_an_empty_ring_counts_nothing() -> None:
    assert Ring(30.0).counts(5.0) == Counts()


@given(steps(), st.integers(1, 5))
def test_windows_equal_a_recount_however_reads_and_bursts_mix(
    story: tuple[float, list[tuple[str, float, Column]]], burst: int
) -> None:
    spans = (7.0, 300.0, 86400.0)
    windows, recounts = Windows(spans), [Recount(span) for span in spans]
    for what, moment, column in story[1]:
        if what == "record":
            for step in range(burst):
                ended = moment + step * 0.07
                windows.record(ended, column)
                for recount in recounts:
                    recount.all.append((ended, column))
        else:
            assert [windows.counts(index, moment) for index in range(3)] == [
                recount.counts(moment) for recount in recounts
            ]
    assert windows.counts(0, 0.0) == recounts[0].counts(0.0)


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


# ---- a restart ---------------------------------------------------------------------------------------

spans = st.floats(0, 400)


@given(st.lists(spans), spans, spans, spans, st.floats(0, 1e6), st.lists(spans))
def test_an_outcome_in_a_ring_is_as_old_as_it_was_and_the_time_away(
    ended: list[float], rest: float, away: float, passed: float, later: float, since: list[float]
) -> None:
    ended = sorted(ended)
    now = max([*ended, 0.0]) + rest
    old, new = Ring(300.0), Ring(300.0)
    for each in ended:
        old.record(each, SUCCESS)
    new.restore(old.dump(now), then=later - away)
    for each in since:
        new.record(later + each, FAILURE)
    at = later + max([passed, *since])
    ages = [now - each + away + (at - later) for each in ended if floor(now / 10) - floor(each / 10) < BUCKETS]
    # Exact counts forget between 290 and 300 s after the end; a bucket more or less is the dump's.
    least, most = sum(age < 279.99 for age in ages), sum(age < 310.01 for age in ages)
    assert least <= new.counts(at).success <= most
    assert new.counts(at).failure == sum(floor(at / 10) - floor((later + each) / 10) < BUCKETS for each in since)


@given(
    st.lists(st.integers(0, 300)), st.integers(0, 100), st.lists(st.tuples(st.integers(0, 60), st.floats(0, 40)))
)
def test_windows_count_on_exactly_after_a_restore_late_reports_too(
    ended: list[int], rest: int, since: list[tuple[int, float]]
) -> None:
    now = float(max([*ended, 0]) + rest)
    both = (30.0, 300.0)
    old, plain, new = Windows(both), [Ring(span) for span in both], Windows(both)
    for each in sorted(ended):
        old.record(each, SUCCESS)
        for ring in plain:
            ring.record(each, SUCCESS)
    new.restore(old.dump(now), then=now)
    for seconds, age in since:
        now += seconds
        new.record(now - age, FAILURE)
        for ring in plain:
            ring.record(now - age, FAILURE)
        assert [new.counts(index, now) for index in (0, 1)] == [ring.counts(now) for ring in plain]
