"""What every strategy and every sort promises, in any world of candidates."""

from __future__ import annotations

import random as module_random
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, replace
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from balancer.core.model import Endpoint, Pricing, Ranking, Routing, Sort, StrategyName
from balancer.core.pricing import unit_of
from balancer.core.strategies import Candidate, Need, Strategy, make, make_sort

STRATEGIES: dict[str, Strategy] = {
    **{name: make(Routing(strategy=name)) for name in get_args(StrategyName)},
    "adaptive with a value of time": make(Routing(value_of_time=0.25)),
    **{f"sort:{sort}": make_sort(sort) for sort in get_args(Sort)},
}
TIERED = [name for name in STRATEGIES if not name.startswith("adaptive")]
DRAWS = 2000  # a strategy and world
CHI_SQUARE = (1e-9, 23.9, 27.6, 30.7, 33.4, 35.9, 38.3, 40.5)
"""By degrees of freedom: a right strategy is above it once in a million worlds."""

every = pytest.mark.parametrize("name", STRATEGIES)

PLACES = 6
ENDPOINTS = [
    Endpoint(
        id=f"author/slug@p{place}",
        model="author/slug",
        tag=f"p{place}",
        provider=f"p{place}",
        provider_name=f"P{place}",
        upstream_model="upstream",
        base_url="https://p.example/v1",
        pricing=Pricing(),
    )
    for place in range(PLACES)
]


def maybe(*values: float) -> st.SearchStrategy[float | None]:
    return st.sampled_from((None, *values))


# Few values each, so that ties are common.
prices = st.sampled_from((0.0, 1.0, 1.5, 3.0, 30.0))
one = st.fixed_dictionaries(
    {
        "fate": st.integers(0, 2),
        "weight": st.sampled_from((0.5, 1.0, 3.0)),
        "sent": prices,
        "answered": prices,
        "failure": st.sampled_from((0.001, 0.02, 0.1, 0.6, 0.999)),
        "tier": st.integers(0, 2),
        "stale": st.booleans(),
        "latency": maybe(0.1, 2.0),
        "ttft": maybe(0.1, 2.0),
        "throughput": maybe(20.0, 80.0),
        "load": maybe(0.5, 4.0),
        "quality": st.integers(0, 2),
    }
)
worlds = st.lists(one, min_size=1, max_size=PLACES).map(
    lambda drawn: [
        Candidate(**({"endpoint": endpoint} | fields)) for endpoint, fields in zip(ENDPOINTS, drawn, strict=False)
    ]
)
needs = st.builds(
    Need,
    prompt_tokens=st.sampled_from((0, 1, 1000)),
    completion_tokens=st.sampled_from((0, 1, 200)),
    explore=st.booleans(),
    unit=maybe(0.1, 1.0),
)
seeds = st.integers(0, 9)


def picked(
    name: str,
    candidates: Sequence[Candidate],
    need: Need,
    *,
    seed: int,
    failed: Sequence[Candidate] = (),
    places: int = PLACES,
) -> list[int]:
    chosen = STRATEGIES[name].pick(candidates, need, failed=failed, places=places, random=Random(seed))
    return [[id(each) for each in candidates].index(id(one)) for one in chosen]


@every
def test_its_name_is_one_of_the_rankings_and_its_own(name: str) -> None:
    assert STRATEGIES[name].name in get_args(Ranking)
    assert name.startswith(STRATEGIES[name].name)


def test_there_is_a_strategy_for_every_ranking() -> None:
    assert {strategy.name for strategy in STRATEGIES.values()} == set(get_args(Ranking))


@every
@given(candidates=worlds, need=needs, seed=seeds, places=st.integers(1, PLACES + 2))
def test_picks_are_distinct_candidates_as_many_as_asked_for(
    name: str, candidates: list[Candidate], need: Need, seed: int, places: int
) -> None:
    chosen = picked(name, candidates, need, seed=seed, places=places)
    assert len(chosen) == len(set(chosen)) == min(places, len(candidates))


@every
@given(candidates=worlds, need=needs, seed=seeds, failed=worlds)
def test_the_same_seed_picks_the_same_and_changes_no_candidate(
    name: str, candidates: list[Candidate], need: Need, seed: int, failed: list[Candidate]
) -> None:
    before = [asdict(each) for each in candidates], copy(need)
    first = picked(name, candidates, need, seed=seed, failed=failed)
    assert picked(name, candidates, need, seed=seed, failed=failed) == first
    assert ([asdict(each) for each in candidates], need) == before


@every
@given(candidates=worlds, need=needs, seed=seeds, failed=st.one_of(st.just([]), worlds))
def test_fewer_places_are_the_beginning_of_more(
    name: str, candidates: list[Candidate], need: Need, seed: int, failed: list[Candidate]
) -> None:
    # With one seed the same picks, so over all seeds the same distribution.
    whole = picked(name, candidates, need, seed=seed, failed=failed)
    for places in range(1, len(candidates)):
        assert picked(name, candidates, need, seed=seed, failed=failed, places=places) == whole[:places]


@every
@given(candidates=worlds, need=needs, failed=st.one_of(st.just([]), worlds))
def test_there_is_a_line_of_figures_for_each_candidate_and_the_shares_are_one(
    name: str, candidates: list[Candidate], need: Need, failed: list[Candidate]
) -> None:
    state = module_random.getstate()
    lines = STRATEGIES[name].figures(candidates, need, failed=failed)
    assert len(lines) == len(candidates)
    assert sum(line.share for line in lines) == pytest.approx(1.0)
    assert all(0 <= line.share <= 1 and line.weight > 0 and line.why for line in lines)
    assert STRATEGIES[name].figures(candidates, need, failed=failed) == lines
    assert module_random.getstate() == state


@every
@settings(max_examples=20, derandomize=True, deadline=None)
@given(candidates=worlds, need=needs)
def test_the_shares_are_those_of_first_picks_and_a_share_of_nothing_is_never_first(
    name: str, candidates: list[Candidate], need: Need
) -> None:
    strategy, random = STRATEGIES[name], Random(7)
    shares = [line.share for line in strategy.figures(candidates, need, failed=())]
    firsts = Counter(
        id(strategy.pick(candidates, need, failed=(), places=1, random=random)[0]) for _ in range(DRAWS)
    )
    found = [firsts[id(each)] for each in candidates]
    assert not any(count for count, share in zip(found, shares, strict=True) if share == 0)
    # Chi-square wants five expected of each, so that the rare ones are taken together.
    cells: list[tuple[int, float]] = []
    rare, expected_rare = 0, 0.0
    for count, share in sorted(zip(found, shares, strict=True), key=lambda pair: pair[1]):
        rare, expected_rare = rare + count, expected_rare + share * DRAWS
        if expected_rare >= 5:
            cells.append((rare, expected_rare))
            rare, expected_rare = 0, 0.0
    distance = sum((count - expected) ** 2 / expected for count, expected in cells)
    assert distance <= CHI_SQUARE[len(cells) - 1], (found, shares)


@pytest.mark.parametrize("name", TIERED)
@given(candidates=worlds, need=needs, seed=seeds, failed=worlds)
def test_a_better_tier_never_stands_behind_a_worse_one(
    name: str, candidates: list[Candidate], need: Need, seed: int, failed: list[Candidate]
) -> None:
    tiers = [candidates[place].tier for place in picked(name, candidates, need, seed=seed, failed=failed)]
    assert tiers == sorted(tiers)
    lines = STRATEGIES[name].figures(candidates, need, failed=failed)
    assert {each.tier for each, line in zip(candidates, lines, strict=True) if line.share > 0} == {tiers[0]}


def scaled(each: Candidate, weight: float, price: float) -> Candidate:
    return replace(
        each,
        weight=each.weight * weight,
        sent=each.sent * price,
        answered=each.answered * price,
    )


# Powers of two, that a tie may stay a tie.
@every
@given(
    candidates=worlds,
    need=needs,
    seed=seeds,
    weight=st.sampled_from((0.25, 1.0, 8.0)),
    price=st.sampled_from((2.0**-20, 1.0, 32.0)),
)
def test_a_common_factor_of_weights_and_prices_changes_nothing(
    name: str, candidates: list[Candidate], need: Need, seed: int, weight: float, price: float
) -> None:
    factor = 1.0 if "time" in name else price  # the value of time is in USD, so that prices are no bare ratios
    others = [scaled(each, weight, factor) for each in candidates]
    other = structs.replace(need, unit=None if need.unit is None else need.unit * factor)
    assert picked(name, others, other, seed=seed) == picked(name, candidates, need, seed=seed)
    shares: Any = [
        [line.share for line in STRATEGIES[name].figures(each, of, failed=())]
        for each, of in ((others, other), (candidates, need))
    ]
    assert shares[0] == pytest.approx(shares[1])


@every
@given(candidates=worlds, need=needs, seed=seeds)
def test_the_unit_that_the_candidates_would_have_found_themselves_changes_nothing(
    name: str, candidates: list[Candidate], need: Need, seed: int
) -> None:
    alone = structs.replace(need, unit=None)
    told = structs.replace(need, unit=unit_of(need.costs(candidates)))
    assert picked(name, candidates, told, seed=seed) == picked(name, candidates, alone, seed=seed)
    strategy = STRATEGIES[name]
    assert strategy.figures(candidates, told, failed=()) == strategy.figures(candidates, alone, failed=())


@every
def test_the_order_in_which_equals_are_configured_gives_nobody_an_advantage(name: str) -> None:
    equals = [Candidate(endpoint=endpoint, fate=place) for place, endpoint in enumerate(ENDPOINTS)]
    need, random = Need(prompt_tokens=1, completion_tokens=1), Random(5)
    firsts = Counter(
        STRATEGIES[name].pick(equals, need, failed=(), places=1, random=random)[0].fate for _ in range(6000)
    )
    assert sum((firsts[place] - 1000) ** 2 / 1000 for place in range(PLACES)) < CHI_SQUARE[PLACES - 1]


@every
def test_different_seeds_choose_differently_among_equals(name: str) -> None:
    equals = [Candidate(endpoint=endpoint, fate=place) for place, endpoint in enumerate(ENDPOINTS)]
    need = Need(prompt_tokens=1, completion_tokens=1)
    assert len({tuple(picked(name, equals, need, seed=seed)) for seed in range(10)}) > 1
