from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec import structs

from balancer.core.strategies import Candidate, Need, Strategy
from balancer.core.strategies.sort import SortByLatency, SortByPrice, SortByThroughput

MakeCandidate = Callable[..., Candidate]
Pick = Callable[..., list[str]]

ALL: list[tuple[Strategy, str, tuple[Any, Any, Any]]] = [
    (SortByPrice(), "price", (1.0, 2.0, 3.0)),
    (SortByLatency(), "ttft", (0.2, 0.3, 4.0)),
    (SortByThroughput(), "throughput", (90.0, 60.0, 5.0)),
]
every = pytest.mark.parametrize(("strategy", "field", "values"), ALL, ids=[field for _, field, _ in ALL])


@every
def test_the_best_figure_is_first_whatever_else_there_is(
    candidate: MakeCandidate, pick: Pick, strategy: Strategy, field: str, values: tuple[Any, Any, Any]
) -> None:
    best, middle, worst = values
    candidates = [
        candidate("worst", weight=9.0, **{field: worst}),
        candidate("best", failure=0.9, **{field: best}),
        candidate("middle", **{field: middle}),
    ]
    assert [pick(strategy, candidates, seed=seed) for seed in range(5)] == [["best", "middle", "worst"]] * 5


@every
def test_a_tier_stands_above_the_figure(
    candidate: MakeCandidate, need: Need, pick: Pick, strategy: Strategy, field: str, values: tuple[Any, Any, Any]
) -> None:
    best, middle, worst = values
    candidates = [
        candidate("outage", tier=2, **{field: best}),
        candidate("degraded", tier=1, **{field: middle}),
        candidate("well", **{field: worst}),
    ]
    assert pick(strategy, candidates) == ["well", "degraded", "outage"]
    lines = strategy.figures(candidates, need, failed=())
    assert [line.share for line in lines] == [0.0, 0.0, 1.0]


@every
def test_exact_ties_are_broken_by_lot_and_share(
    candidate: MakeCandidate, need: Need, pick: Pick, strategy: Strategy, field: str, values: tuple[Any, Any, Any]
) -> None:
    best, _, worst = values
    candidates = [
        candidate("a", **{field: best}),
        candidate("b", **{field: best}),
        candidate("c", **{field: worst}),
    ]
    random = Random(8)
    firsts = Counter(pick(strategy, candidates, random=random)[0] for _ in range(1000))
    assert firsts.keys() == {"a", "b"}
    assert 420 < firsts["a"] < 580  # 500 ± 5 standard deviations
    lines = strategy.figures(candidates, need, failed=())
    assert [line.share for line in lines] == [0.5, 0.5, 0.0]


@every
def test_it_does_not_ask_who_failed(
    candidate: MakeCandidate, need: Need, pick: Pick, strategy: Strategy, field: str, values: tuple[Any, Any, Any]
) -> None:
    candidates = [candidate(f"a/{place}", **{field: value}) for place, value in enumerate(values)]
    failed = (candidate("a/failed"),)
    assert pick(strategy, candidates, failed=failed) == ["a/0", "a/1", "a/2"]
    assert strategy.figures(candidates, need, failed=failed) == strategy.figures(candidates, need, failed=())


@pytest.mark.parametrize(
    ("strategy", "field", "known", "order"),
    [
        (SortByLatency(), "ttft", (1.0, 3.0, 2.0), ["a", "c", "b"]),
        (SortByThroughput(), "throughput", (10.0, 30.0, 20.0), ["b", "c", "a"]),
    ],
)
def test_an_unknown_figure_is_its_peers_median(
    candidate: MakeCandidate, pick: Pick, strategy: Strategy, field: str, known: tuple[float, ...], order: list[str]
) -> None:
    candidates = [candidate(tag, **{field: value}) for tag, value in zip("abc", known, strict=True)]
    candidates.append(candidate("new"))
    orders = {tuple(pick(strategy, candidates, seed=seed)) for seed in range(20)}
    # It stands with the median, before or behind it by lot.
    assert orders == {(order[0], order[1], "new", order[2]), (order[0], "new", order[1], order[2])}


@pytest.mark.parametrize("strategy", [SortByLatency(), SortByThroughput()])
def test_where_nothing_is_known_all_are_equal(candidate: MakeCandidate, need: Need, strategy: Strategy) -> None:
    lines = strategy.figures([candidate("a"), candidate("b", price=9.0)], need, failed=())
    assert [line.share for line in lines] == [0.5, 0.5]
    assert [line.why for line in lines] == ["unknown, as are its peers, stable"] * 2
    assert [str(line.score) for line in lines] == ["0.0"] * 2  # no minus before a zero


def test_a_price_is_told_in_the_unit_of_all_groups(candidate: MakeCandidate, need: Need) -> None:
    pair = [candidate("a", price=10.0), candidate("b", price=15.0)]
    (first, second) = SortByPrice().figures(pair, structs.replace(need, unit=5.0), failed=())
    assert (first.why, second.why) == ("price 2.00×, stable", "price 3.00×, stable")
    assert (first.share, second.share) == (1.0, 0.0)


def test_the_words_are_the_figure_how_sure_it_is_and_the_tier(candidate: MakeCandidate, need: Need) -> None:
    pair = [candidate("a", ttft=0.5, throughput=50.0), candidate("b", price=2.0, tier=1)]

    def words(strategy: Strategy) -> list[str]:
        return [line.why for line in strategy.figures(pair, need, failed=())]

    behind = "degraded: after the stable"
    unknown = "unknown, its peers' median:"
    assert words(SortByPrice()) == ["price 1.00×, stable", f"price 2.00×, {behind}"]
    assert words(SortByLatency()) == [
        "first token in 0.50 s, stable", f"{unknown} first token in 0.50 s, {behind}",
    ]  # fmt: skip
    assert words(SortByThroughput()) == ["50.0 tokens/s, stable", f"{unknown} 50.0 tokens/s, {behind}"]
