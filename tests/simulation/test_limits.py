"""Bursts of 429s and capacities: what they change, and what they leave."""

from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.simulation.limits import limited
from balancer.simulation.measures import is_false
from balancer.simulation.world import Sample, Track, Truth, World

HOUR = 3600.0
DAY = 24 * HOUR


GOOD = (Truth(0, 1.0),)
WELL = (Sample(0, 1.0),)


def track(number, *, model=0, truths=GOOD, samples=WELL, **more):
    name = f"m{model}@p{number}"
    return Track(id=name, model=model, provider="p", tag=f"p{number}", truths=truths, samples=samples, **more)


def world(*tracks, duration=DAY, models=1, **more):
    names = tuple(f"m{number}" for number in range(models))
    return World(name="w", duration=duration, models=names, tracks=tracks, **more)


def fleet(count, **more):
    return world(*(track(number) for number in range(count)), **more)


def truth_at(found, at):
    return found.truths[bisect_right(found.truths, at, key=attrgetter("at")) - 1]


def refusals(found, duration):
    """The times in which a track refuses: from, to."""
    ends = [truth.at for truth in found.truths[1:]] + [duration]
    spans = []
    for truth, end in zip(found.truths, ends, strict=True):
        if truth.limited and spans and spans[-1][1] == truth.at:
            spans[-1] = (spans[-1][0], end)
        elif truth.limited:
            spans.append((truth.at, end))
    return spans


# ---- bursts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "refusing"), [(1, 1), (3, 1), (10, 1), (20, 2), (57, 6), (283, 28)])
def test_a_tenth_of_the_endpoints_refuse_and_at_least_one(count, refusing):
    before = fleet(count)
    after = limited(before, seed=1, rate=0.1)
    assert sum(any(truth.limited for truth in each.truths) for each in after.tracks) == refusing
    assert limited(world(), seed=1, rate=0.1).tracks == ()


def test_every_endpoint_is_among_those_that_refuse_for_some_seed():
    found = [limited(fleet(10), seed=seed, rate=0.1) for seed in range(60)]
    assert {each.tag for one in found for each in one.tracks if len(each.truths) > 1} == {
        f"p{n}" for n in range(10)
    }


def test_a_burst_lasts_ten_minutes_and_comes_once_an_hour_on_average():
    duration = 1000 * HOUR
    counts = []
    for seed in range(5):
        (found,) = limited(fleet(1, duration=duration), seed=seed, rate=0.1).tracks
        spans = refusals(found, duration)
        assert all(end - begin == pytest.approx(600) for begin, end in spans if end < duration)
        assert all(later[0] > earlier[1] for earlier, later in pairwise(spans))
        counts.append(len(spans))
    # 1000 bursts of a renewal process whose quiet times are exponential with 50 minutes: a spread of 26.
    assert all(900 < count < 1100 for count in counts)
    assert len(set(counts)) > 1


TURNS = st.lists(
    st.tuples(
        st.integers(1, int(DAY) - 1),
        st.sampled_from((None, 0.0, 0.5, 0.98, 1.0)),
        st.sampled_from((0.0, 0.5)),
        st.sampled_from((1.0, 2.0)),
    ),
    max_size=8,
    unique_by=lambda turn: turn[0],
)


@settings(max_examples=60, deadline=None)
@given(turns=TURNS, seed=st.integers(0, 99), parts=st.lists(st.floats(0, 0.999), min_size=1, max_size=20))
def test_in_a_burst_a_third_is_refused_and_all_else_is_as_it_was(turns, seed, parts):
    truths = [Truth(0, 0.99)]
    truths += [Truth(at, share, prompt=price, limited=quota) for at, share, quota, price in sorted(turns)]
    before = track(0, truths=tuple(truths))
    (after,) = limited(world(before), seed=seed, rate=0.1).tracks
    (plain,) = limited(world(track(0)), seed=seed, rate=0.1).tracks
    bursts = refusals(plain, DAY)
    assert after.truths[0].at == 0
    assert all(earlier.at < later.at < DAY for earlier, later in pairwise(after.truths))
    for at in (*(part * DAY for part in parts), *(edge for burst in bursts for edge in burst if edge < DAY)):
        was, found = truth_at(before, at), truth_at(after, at)
        refusing = was.success is not None and any(begin <= at < end for begin, end in bursts)
        expected = 1 - (1 - was.limited) * 2 / 3 if refusing else was.limited
        assert found.limited == pytest.approx(expected)
        assert found.retry_after == (10.0 if refusing else was.retry_after)
        assert found._replace(at=0, limited=0, retry_after=None) == was._replace(at=0, limited=0, retry_after=None)


def test_who_is_put_behind_in_a_burst_or_a_minute_beside_it_is_not_put_behind_falsely():
    for samples in (
        (Sample(0, 1.0), Sample(DAY, 1.0)),
        tuple(Sample(at, 1.0) for at in range(0, int(DAY) + 1, 900)),
    ):
        for seed in range(20):
            (found,) = limited(world(track(0, samples=samples)), seed=seed, rate=0.1).tracks
            bursts = refusals(found, DAY)
            assert found.samples == tuple(sorted(set(found.samples)))
            for begin, end in bursts:
                near = [at for at in (begin - 30, begin, begin + 300, end - 1, end, end + 30) if 0 < at < DAY]
                assert not any(is_false(found, at) for at in near)
            quiet = [at for at in range(0, int(DAY), 50) if all(not b - 70 < at < e + 970 for b, e in bursts)]
            assert sum(is_false(found, at) for at in quiet) > 0.7 * len(quiet)


# ---- capacities ------------------------------------------------------------------------------------------


def capacities(found):
    return [each.capacity for each in found.tracks]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    rate=st.sampled_from((0.001, 0.01, 0.1, 1.0)),
    seed=st.integers(0, 99),
)
def test_a_model_can_be_served_in_sum_with_room(sizes, weights, rate, seed):
    tracks = [track(number, model=model) for model, size in enumerate(sizes) for number in range(size)]
    before = world(*tracks, models=len(sizes), weights=tuple(weights[: len(sizes)]))
    after = limited(before, seed=seed, rate=rate)
    for model, places in enumerate(after.by_model):
        wanted = rate * 60 * weights[model]
        found = [after.tracks[place].capacity for place in places]
        assert min(found) >= 2
        assert sum(found) >= 2 * wanted
        assert max(found) <= max(2, 128 * wanted + 1)
    assert {each.retry_after for each in after.tracks} == {10.0}


def test_capacities_spread_over_three_orders_of_magnitude_around_the_models_rate():
    found = capacities(limited(fleet(2000), seed=1, rate=1.0))
    assert sum(capacity < 60 for capacity in found) == pytest.approx(600, abs=80)
    assert sum(capacity < 60 * 4 for capacity in found) == pytest.approx(1000, abs=90)
    assert min(found) < 60 / 7
    assert max(found) > 60 * 120


def test_an_endpoints_limits_do_not_depend_on_the_others_but_for_the_room():
    alone, among = (limited(fleet(count), seed=1, rate=1.0) for count in (30, 60))
    assert capacities(among)[:30] == capacities(alone)


def test_a_capacity_that_is_there_already_stays():
    before = world(track(0, capacity=7, retry_after=None), track(1))
    for seed in range(20):
        first, second = limited(before, seed=seed, rate=1.0).tracks
        assert (first.capacity, first.retry_after) == (7, None)
        assert second.capacity + 7 >= 120
        assert second.retry_after == 10.0


def test_the_same_seed_makes_the_same_world_and_nothing_else_is_touched():
    before = fleet(10, arrivals=((1.0, 2.0),), weights=(2.0,))
    after = limited(before, seed=3, rate=0.1)
    assert after == limited(before, seed=3, rate=0.1)
    assert after != limited(before, seed=4, rate=0.1)
    bare = [replace(each, truths=(), samples=(), capacity=None, retry_after=None) for each in after.tracks]
    assert bare == [replace(each, truths=(), samples=()) for each in before.tracks]
    assert replace(after, tracks=()) == replace(before, tracks=())
