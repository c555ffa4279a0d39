from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from balancer.core.strategies import Candidate, Need
from balancer.core.strategies.weighted import Weighted

MakeCandidate = Callable[..., Candidate]
Pick = Callable[..., list[str]]


def test_first_picks_follow_the_weights_and_nothing_else(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [
        candidate("a", weight=6.0, price=100.0, failure=0.5),
        candidate("b", weight=3.0),
        candidate("c", weight=1.0, price=0.0),
    ]
    random, draws = Random(1), 10_000
    firsts = Counter(pick(Weighted(), candidates, random=random)[0] for _ in range(draws))
    expected = {"a": 0.6 * draws, "b": 0.3 * draws, "c": 0.1 * draws}
    assert sum((firsts[tag] - want) ** 2 / want for tag, want in expected.items()) < 13.8  # 2 degrees, p = 0.001


def test_the_figures_are_the_weight_the_share_and_the_tier(candidate: MakeCandidate, need: Need) -> None:
    candidates = [candidate("a", weight=3.0), candidate("b"), candidate("c", weight=99.0, tier=1)]
    lines = Weighted().figures(candidates, need, failed=())
    assert [line.share for line in lines] == pytest.approx([0.75, 0.25, 0.0])
    assert [line.score for line in lines] == pytest.approx([1 / 3, 1.0, 1 / 99])
    assert [line.weight for line in lines] == [3.0, 1.0, 99.0]
    assert [line.why for line in lines] == [
        "weight 3, stable", "weight 1, stable", "weight 99, degraded: after the stable",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_what_is_not_well_stands_behind_however_heavy(candidate: MakeCandidate, pick: Pick, seed: int) -> None:
    candidates = [
        candidate("outage", weight=1e6, tier=2), candidate("degraded", weight=1e6, tier=1), candidate("well"),
    ]  # fmt: skip
    assert pick(Weighted(), candidates, seed=seed) == ["well", "degraded", "outage"]


def test_the_smallest_weight_that_can_be_configured_still_has_a_place(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate("a", weight=1e6), candidate("b", weight=1e-12), candidate("c", weight=5e-324)]
    assert [pick(Weighted(), candidates, seed=seed) for seed in range(5)] == [["a", "b", "c"]] * 5
