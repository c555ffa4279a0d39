"""The rules of the story, for many seeds and lengths."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from balancer.demo.timetable import DURATION_MIN, FAULT_KINDS, FAULT_MAX, HARD, SOFT, Fault, plan

RING = ("a", "b", "c", "d", "e", "f")
SEEDS = range(200)


def ill_at(faults: tuple[Fault, ...], now: float) -> list[Fault]:
    return [fault for fault in faults if fault.start <= now < fault.end]


def overlap(one: Fault, other: Fault) -> float:
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))


def of(seed: int, duration: float = 60.0) -> tuple[Fault, ...]:
    return plan(duration=duration, seed=seed, providers=RING)


@pytest.mark.parametrize("duration", [20.0, 37.5, 60.0, 61.0, 300.0, 1199.0])
def test_each_kind_occurs_once_and_each_provider_falls_ill(duration: float) -> None:
    for seed in SEEDS:
        faults = of(seed, duration)
        assert sorted(fault.kind for fault in faults) == sorted(FAULT_KINDS)
        assert {fault.provider for fault in faults} == set(RING)


@pytest.mark.parametrize("duration", [20.0, 60.0, 300.0, 3600.0])
def test_at_least_two_providers_are_well_at_any_moment(duration: float) -> None:
    for seed in SEEDS:
        faults = of(seed, duration)
        for fault in faults:
            ill = Counter(each.provider for each in ill_at(faults, fault.start))
            assert len(ill) <= 4
            assert max(ill.values()) == 1


@pytest.mark.parametrize("duration", [20.0, 60.0, 300.0, 3600.0])
def test_no_fault_is_longer_than_the_holds_allow(duration: float) -> None:
    for seed in SEEDS:
        assert all(0.0 < fault.end - fault.start <= FAULT_MAX for fault in of(seed, duration))


def test_it_begins_well_and_leaves_time_for_the_last_return() -> None:
    for seed in SEEDS:
        faults = of(seed)
        assert min(fault.start for fault in faults) >= 4.0
        assert max(fault.end for fault in faults) <= 38.0


def test_the_long_faults_are_long_enough_to_matter() -> None:
    for seed in SEEDS:
        assert all(fault.end - fault.start >= 9.5 for fault in of(seed) if fault.kind != "limited")


def test_three_pairs_of_neighbours_are_ill_together() -> None:
    for seed in SEEDS:
        faults = [fault for fault in of(seed) if fault.kind != "limited"]
        for first, second in zip(faults[::2], faults[1::2], strict=True):
            apart = (RING.index(first.provider) - RING.index(second.provider)) % 6
            assert apart in (1, 5)
            assert overlap(first, second) >= 8.0
            assert {first.kind, second.kind} & set(HARD)
            assert {first.kind, second.kind} != set(SOFT)


def test_the_first_of_the_ring_begins_by_refusing_and_is_limited_after_it_could_return() -> None:
    for seed in SEEDS:
        faults = of(seed)
        first, *others = faults
        assert (first.provider, first.kind) == ("a", "refuse")
        (second,) = [fault for fault in others if fault.provider == "a"]
        assert second.kind == "limited"
        assert second.start - first.end >= 6.0
        assert second.end - second.start >= 5.0


def test_the_next_in_price_falls_ill_when_the_first_is_away_or_barely_back() -> None:
    for seed in SEEDS:
        faults = of(seed)
        third = next(fault for fault in faults if fault.provider == "c")
        assert -5.5 <= third.start - faults[0].end <= 3.0


def test_a_short_run_squeezes_the_story() -> None:
    whole, short = of(3, 60.0), of(3, 20.0)
    for long, squeezed in zip(whole, short, strict=True):
        assert (squeezed.provider, squeezed.kind) == (long.provider, long.kind)
        assert squeezed.start == pytest.approx(long.start / 3)
        assert squeezed.end == pytest.approx(long.end / 3)


def test_a_longer_run_stretches_only_the_quiet() -> None:
    whole, long = of(3, 60.0), of(3, 600.0)
    lengths = {(fault.provider, fault.kind): fault.end - fault.start for fault in whole}
    for fault in long:
        assert fault.end - fault.start == pytest.approx(lengths[fault.provider, fault.kind])
    gaps = [later.start - earlier.start for earlier, later in pairwise(long)]
    assert sum(gap > 100.0 for gap in gaps) == 2


def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    assert of(7) == of(7)
    assert len({of(seed) for seed in SEEDS}) == len(SEEDS)


def test_every_other_kind_meets_every_other_provider_for_some_seed() -> None:
    met = {(fault.provider, fault.kind) for seed in SEEDS for fault in of(seed) if fault.provider != "a"}
    assert met == {(key, kind) for key in RING[1:] for kind in (*HARD, *SOFT) if kind != "refuse"}


@pytest.mark.parametrize("duration", [19.9, 0.0, -60.0, float("nan")])
def test_a_run_that_is_too_short_is_refused(duration: float) -> None:
    with pytest.raises(ValueError, match=f"too short; use {DURATION_MIN:g}s or more"):
        of(1, duration)


def test_another_number_of_providers_is_refused() -> None:
    with pytest.raises(ValueError, match="5 providers; the story is for 6"):
        plan(duration=60.0, seed=1, providers=RING[:5])
