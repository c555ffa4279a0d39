from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from msgspec import structs

from balancer.core.strategies import Candidate, Need
from balancer.core.strategies.price import Price

MakeCandidate = Callable[..., Candidate]
Pick = Callable[..., list[str]]
CHI_SQUARE_2 = 13.8  # two degrees of freedom, p = 0.001


def shares(candidates: list[Candidate], need: Need) -> dict[str, float]:
    lines = Price().figures(candidates, need, failed=())
    return {each.endpoint.tag: line.share for each, line in zip(candidates, lines, strict=True)}


def test_the_lottery_is_weighted_by_the_inverse_square_of_the_price(
    candidate: MakeCandidate, need: Need, pick: Pick
) -> None:
    candidates = [candidate(tag, price=price) for tag, price in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    weights = {"a": 1.0, "b": 1 / 4, "c": 1 / 9}
    total = sum(weights.values())
    random, draws = Random(11), 20_000
    firsts = Counter(pick(Price(), candidates, random=random)[0] for _ in range(draws))
    expected = {tag: draws * weight / total for tag, weight in weights.items()}
    assert sum((firsts[tag] - want) ** 2 / want for tag, want in expected.items()) < CHI_SQUARE_2
    assert shares(candidates, need) == pytest.approx({tag: weight / total for tag, weight in weights.items()})


def test_fallbacks_are_drawn_by_the_same_weights_among_those_left(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate(tag, price=price) for tag, price in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
    random = Random(4)
    orders = [pick(Price(), candidates, random=random) for _ in range(20_000)]
    seconds = Counter(order[1] for order in orders if order[0] == "a")
    drawn = sum(seconds.values())
    assert abs(seconds["b"] - 0.8 * drawn) < 4 * (0.16 * drawn) ** 0.5  # 1/4 against 1/16


def test_the_worked_example_of_openrouter(candidate: MakeCandidate, need: Need, pick: Pick) -> None:
    candidates = [candidate("a"), candidate("b", price=2.0, tier=2), candidate("c", price=3.0)]
    assert shares(candidates, need) == pytest.approx({"a": 0.9, "b": 0.0, "c": 0.1})
    assert {pick(Price(), candidates, seed=seed)[-1] for seed in range(100)} == {"b"}


def test_the_operators_weight_multiplies_the_chance(candidate: MakeCandidate, need: Need) -> None:
    pair = [candidate("a", weight=3.0), candidate("b")]
    assert shares(pair, need) == pytest.approx({"a": 0.75, "b": 0.25})


@pytest.mark.parametrize("seed", range(20))
def test_an_outage_goes_last_and_a_degraded_one_before_it_whatever_they_cost(
    candidate: MakeCandidate, pick: Pick, seed: int
) -> None:
    candidates = [
        candidate("outage", price=0.01, tier=2),
        candidate("degraded", price=0.1, tier=1),
        candidate("dear", price=50.0),
        candidate("cheap", price=1.0),
    ]
    order = pick(Price(), candidates, seed=seed)
    assert set(order[:2]) == {"dear", "cheap"}
    assert order[2:] == ["degraded", "outage"]


@pytest.mark.parametrize("best", [0, 1])
def test_only_the_best_tier_there_is_has_shares(candidate: MakeCandidate, need: Need, best: int) -> None:
    candidates = [candidate("a", tier=2), candidate("b", tier=best), candidate("c", tier=best)]
    assert shares(candidates, need) == {"a": 0.0, "b": 0.5, "c": 0.5}


def test_a_free_one_counts_as_a_tenth_of_the_cheapest_paid_one_of_its_tier(
    candidate: MakeCandidate, need: Need, pick: Pick
) -> None:
    candidates = [candidate("free", price=0.0), candidate("paid", price=10.0), candidate("cheap", tier=1)]
    assert shares(candidates, need) == pytest.approx({"free": 100 / 101, "paid": 1 / 101, "cheap": 0.0})
    random = Random(6)
    firsts = Counter(pick(Price(), candidates, random=random)[0] for _ in range(10_000))
    assert abs(firsts["paid"] - 10_000 / 101) < 40


def test_all_free_share_evenly(candidate: MakeCandidate, need: Need) -> None:
    assert shares([candidate("a", price=0.0), candidate("b", price=0.0)], need) == {"a": 0.5, "b": 0.5}


def test_a_price_a_billion_times_higher_overflows_nothing(candidate: MakeCandidate, need: Need) -> None:
    found = shares([candidate("a", price=1e-9), candidate("b", price=1e300)], need)
    assert found["a"] == pytest.approx(1.0)
    assert 0 < found["b"] < 1e-11


def test_the_words_are_the_price_the_weight_and_the_tier(candidate: MakeCandidate, need: Need) -> None:
    candidates = [candidate("a"), candidate("b", price=2.0), candidate("c", tier=1), candidate("d", tier=2)]
    lines = Price().figures(candidates, need, failed=())
    assert [line.why for line in lines] == [
        "price 1.00×, failure 2.0%, weight 0.545, stable",
        "price 2.00×, failure 2.0%, weight 0.136, stable",
        "price 1.00×, failure 2.0%, weight 0.545, degraded: after the stable",
        "price 1.00×, failure 2.0%, weight 0.545, outage in the last 30 s: last",
    ]
    assert [line.score for line in lines] == [1.0, 2.0, 1.0, 1.0]


def test_a_price_is_told_in_the_unit_of_all_groups_and_drawn_by_its_own(
    candidate: MakeCandidate, need: Need
) -> None:
    pair = [candidate("a", price=10.0), candidate("b", price=20.0)]
    lines = Price().figures(pair, structs.replace(need, unit=1.0), failed=())
    assert [line.why for line in lines] == [
        "price 10.00×, failure 2.0%, weight 0.545, stable",
        "price 20.00×, failure 2.0%, weight 0.136, stable",
    ]
    assert [line.share for line in lines] == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize(("failure", "kept"), [(0.0, 1.0), (0.01, 0.74), (0.1, 0.042), (0.5, 1e-9)])
def test_the_weight_follows_the_chance_of_success_smoothly(
    candidate: MakeCandidate, need: Need, failure: float, kept: float
) -> None:
    pair = [candidate("a", failure=0.0), candidate("b", failure=failure)]
    well, other = Price().figures(pair, need, failed=())
    assert other.weight / well.weight == pytest.approx(kept, rel=0.1)
    assert other.share == pytest.approx(other.weight / (well.weight + other.weight))
