from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from balancer.core.strategies import Candidate, Need
from balancer.core.strategies.least_loaded import SUCCESS_POWER, LeastLoaded

MakeCandidate = Callable[..., Candidate]
Pick = Callable[..., list[str]]


def figures(candidates: list[Candidate], need: Need) -> list[tuple[float, float]]:
    return [(line.score, line.share) for line in LeastLoaded().figures(candidates, need, failed=())]


def test_of_two_the_less_loaded_leads(candidate: MakeCandidate, pick: Pick) -> None:
    pair = [candidate("busy", load=2.0), candidate("idle", load=1.9)]
    assert {tuple(pick(LeastLoaded(), pair, seed=seed)) for seed in range(20)} == {("idle", "busy")}


def test_of_many_the_better_of_two_leads_and_the_worst_never(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate(f"p{load}", load=float(load), failure=0.0) for load in (1, 2, 3, 4)]
    random, draws = Random(1), 12_000
    firsts = Counter(pick(LeastLoaded(), candidates, random=random, places=1)[0] for _ in range(draws))
    assert "p4" not in firsts
    expected = {"p1": draws / 2, "p2": draws / 3, "p3": draws / 6}
    assert sum((firsts[tag] - want) ** 2 / want for tag, want in expected.items()) < 13.8  # 2 degrees, p = 0.001


def test_the_share_is_the_chance_to_be_the_better_of_two(candidate: MakeCandidate, need: Need) -> None:
    candidates = [candidate(str(place), load=load, failure=0.0) for place, load in enumerate((1.0, 2.0, 2.0, 3.0))]
    assert [share for _, share in figures(candidates, need)] == pytest.approx([1 / 2, 1 / 4, 1 / 4, 0.0])
    assert figures(candidates[:1], need) == [(1.0, 1.0)]


def test_what_fails_looks_loaded_and_not_idle(candidate: MakeCandidate, need: Need, pick: Pick) -> None:
    pair = [candidate("fails fast", load=0.1, failure=0.5), candidate("works", load=1.0, failure=0.0)]
    (broken, _), (sound, _) = figures(pair, need)
    assert (broken, sound) == pytest.approx((0.1 / 0.5**SUCCESS_POWER, 1.0))
    assert pick(LeastLoaded(), pair) == ["works", "fails fast"]


def test_a_heavier_one_bears_more(candidate: MakeCandidate, pick: Pick) -> None:
    assert pick(LeastLoaded(), [candidate("a", load=3.0, weight=4.0), candidate("b", load=1.0)]) == ["a", "b"]


def test_who_never_answered_is_taken_for_a_typical_peer(candidate: MakeCandidate, need: Need) -> None:
    candidates = [candidate(str(load), load=load, failure=0.0) for load in (1.0, 5.0, 9.0, None)]
    assert [score for score, _ in figures(candidates, need)] == [1.0, 5.0, 9.0, 5.0]
    nobody = [candidate(tag, failure=0.0) for tag in ("a", "b")]
    assert figures(nobody, need) == [(1.0, 0.5), (1.0, 0.5)]


def test_tiers_stand_above_the_load(candidate: MakeCandidate, need: Need, pick: Pick) -> None:
    candidates = [
        candidate("outage", load=0.1, tier=2),
        candidate("degraded", load=0.1, tier=1),
        candidate("well", load=9.0),
    ]
    assert pick(LeastLoaded(), candidates) == ["well", "degraded", "outage"]
    assert [share for _, share in figures(candidates, need)] == [0.0, 0.0, 1.0]


def test_the_words_are_the_load_and_the_tier(candidate: MakeCandidate, need: Need) -> None:
    candidates = [candidate("a", load=1.234, failure=0.0), candidate("b", load=1.0, failure=0.0, tier=1)]
    assert [line.why for line in LeastLoaded().figures(candidates, need, failed=())] == [
        "load 1.23, the better of two, stable", "load 1.00, the better of two, degraded: after the stable",
    ]  # fmt: skip
