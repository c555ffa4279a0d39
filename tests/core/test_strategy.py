from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.model import Endpoint, Pricing, Request, Routing, StrategyName
from balancer.core.strategy import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    SHARED_FATE,
    Adaptive,
    Candidate,
    Price,
    Strategy,
    cost,
    make,
    relative_prices,
)

MakeEndpoint = Callable[..., Endpoint]
MakeRequest = Callable[..., Request]
Tag = tuple[str, float, float]  # tag, price, failure


def candidate(
    endpoint: MakeEndpoint,
    tag: str,
    *,
    price: float = 1.0,
    failure: float = 0.02,
    wait: float = 0.0,
    tier: int = 0,
    weight: float = 1.0,
) -> Candidate:
    return Candidate(endpoint(tag, weight=weight), price=price, wait=wait, failure=failure, tier=tier)


def tags(
    strategy: Strategy, candidates: list[Candidate], *, seed: int = 1, failed: tuple[str, ...] = ()
) -> list[str]:
    return [entry.candidate.endpoint.tag for entry in strategy.rank(candidates, failed=failed, random=Random(seed))]


# ---- what a request costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "usd"),
    [
        ({}, (PROMPT_TOKENS * 2 + COMPLETION_TOKENS * 8) / 1e6),
        ({"prompt_tokens": 1_000_000}, 2 + COMPLETION_TOKENS * 8 / 1e6),
        ({"prompt_tokens": 0, "max_tokens": 100}, 100 * 8 / 1e6),
        ({"prompt_tokens": 0, "max_tokens": 32_768}, COMPLETION_TOKENS * 8 / 1e6),
        ({"prompt_tokens": 0, "max_tokens": 0}, 0.0),
    ],
)
def test_a_request_costs_its_prompt_and_an_answer_of_the_usual_length(
    ask: MakeRequest, wanted: dict[str, int], usd: float
) -> None:
    assert cost(Pricing(prompt=2.0, completion=8.0), ask(**wanted)) == pytest.approx(usd)


@pytest.mark.parametrize("pricing", [Pricing(), Pricing(prompt=1.0), Pricing(completion=1.0)])
def test_an_incomplete_price_is_an_unknown_cost(ask: MakeRequest, pricing: Pricing) -> None:
    assert cost(pricing, ask()) is None


@pytest.mark.parametrize(
    ("costs", "prices", "unit"),
    [
        ([2.0, 3.0], [1.0, 1.5], 2.0),
        ([0.0, 0.0], [1.0, 1.0], 1.0),
        ([0.0, 2.0, 4.0], [1.0, 10.0, 20.0], 0.2),
        ([None, 2.0, 6.0], [3.0, 1.0, 3.0], 2.0),
        ([None, 0.0, 2.0], [10.0, 1.0, 10.0], 0.2),
        ([None, None], [1.0, 1.0], 1.0),
        ([None, 0.0], [1.0, 1.0], 1.0),
        ([], [], 1.0),
    ],
    ids=[
        "in multiples of the cheapest",
        "all free",
        "a free one is a tenth of the cheapest paid one",
        "an unknown one is as dear as the dearest",
        "unknown beside free and paid",
        "all unknown",
        "unknown beside free",
        "nobody",
    ],
)
def test_prices_are_relative(costs: list[float | None], prices: list[float], unit: float) -> None:
    found, of = relative_prices(costs)
    assert found == pytest.approx(prices)
    assert of == pytest.approx(unit)


@given(st.lists(st.one_of(st.none(), st.just(0.0), st.floats(1e-9, 1e3)), min_size=1, max_size=8))
def test_the_cheapest_is_one_and_silence_is_never_cheaper_than_speech(costs: list[float | None]) -> None:
    prices, unit = relative_prices(costs)
    assert min(prices) == pytest.approx(1.0)
    assert unit > 0
    known = [price for price, value in zip(prices, costs, strict=True) if value is not None]
    assert all(
        price >= max(known) - 1e-9 for price, value in zip(prices, costs, strict=True) if value is None and known
    )


# ---- adaptive ----------------------------------------------------------------------------------------


@given(
    price=st.floats(1, 100),
    wait=st.floats(0, 10),
    failure=st.floats(0.001, 0.999),
    weight=st.floats(0.1, 10),
    failure_price=st.floats(0, 100),
)
def test_the_score_is_the_expected_cost(
    endpoint: MakeEndpoint, price: float, wait: float, failure: float, weight: float, failure_price: float
) -> None:
    strategy = Adaptive(Routing(failure_price=failure_price))
    only = candidate(endpoint, "a", price=price, wait=wait, failure=failure, weight=weight)
    (entry,) = strategy.rank([only], failed=(), random=Random(1))
    assert entry.score == pytest.approx((price + wait + failure_price * failure) / weight)
    assert entry.share == 1.0


worlds = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c")),
        st.sampled_from((1.0, 1.5, 3.0)),
        st.sampled_from((0.02, 0.1, 0.6)),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=8,
)


def world(endpoint: MakeEndpoint, drawn: list[tuple[str, float, float, int]]) -> list[Candidate]:
    return [
        candidate(endpoint, f"{provider}/{place}", price=price, failure=failure, tier=tier)
        for place, (provider, price, failure, tier) in enumerate(drawn)
    ]


@given(worlds, st.sets(st.sampled_from(("a", "b", "c"))), st.integers(0, 5))
def test_every_place_is_the_best_of_those_left_given_who_stands_before(
    endpoint: MakeEndpoint, drawn: list[tuple[str, float, float, int]], failed: set[str], seed: int
) -> None:
    candidates = world(endpoint, drawn)
    ranked = Adaptive(Routing()).rank(candidates, failed=tuple(failed), random=Random(seed))
    left, tried = list(candidates), set(failed)
    for entry in ranked:
        scores = [
            each.price
            + each.wait
            + 15 * min(1.0, each.failure * (SHARED_FATE if each.endpoint.provider in tried else 1.0))
            for each in left
        ]
        assert entry.score == pytest.approx(min(scores))
        assert scores[left.index(entry.candidate)] == pytest.approx(min(scores))
        left.remove(entry.candidate)
        tried.add(entry.candidate.endpoint.provider)
    assert not left


@given(worlds, st.integers(0, 5), st.sampled_from(("adaptive", "price")))
def test_every_candidate_is_placed_once_and_the_shares_are_one(
    endpoint: MakeEndpoint, drawn: list[tuple[str, float, float, int]], seed: int, name: StrategyName
) -> None:
    candidates = world(endpoint, drawn)
    ranked = make(Routing(strategy=name)).rank(candidates, failed=(), random=Random(seed))
    assert sorted(entry.candidate.endpoint.id for entry in ranked) == sorted(c.endpoint.id for c in candidates)
    assert sum(entry.share for entry in ranked) == pytest.approx(1.0)
    assert all(entry.share >= 0 for entry in ranked)
    assert ranked[0].share > 0


def test_a_dearer_one_leads_when_the_cheaper_fails_too_often(endpoint: MakeEndpoint) -> None:
    cheap = candidate(endpoint, "cheap", price=1.0, failure=0.10)
    sound = candidate(endpoint, "sound", price=2.0, failure=0.02)
    assert tags(Adaptive(Routing(failure_price=15)), [cheap, sound]) == ["sound", "cheap"]
    assert tags(Adaptive(Routing(failure_price=5)), [cheap, sound]) == ["cheap", "sound"]


def test_the_first_fallback_is_elsewhere_when_a_neighbour_is_hardly_better(endpoint: MakeEndpoint) -> None:
    candidates = [
        candidate(endpoint, "a/one", price=1.0, failure=0.1),
        candidate(endpoint, "a/two", price=1.1, failure=0.1),
        candidate(endpoint, "b", price=1.2, failure=0.1),
    ]
    assert tags(Adaptive(Routing()), candidates) == ["a/one", "b", "a/two"]
    assert tags(Adaptive(Routing()), candidates, failed=("a",)) == ["b", "a/one", "a/two"]


def test_equals_share_evenly(endpoint: MakeEndpoint) -> None:
    equals = [candidate(endpoint, tag) for tag in ("a", "b", "c")]
    worse = candidate(endpoint, "d", price=2.0)
    strategy, random = Adaptive(Routing()), Random(3)
    firsts: Counter[str] = Counter()
    for _ in range(3000):
        ranked = strategy.rank([*equals, worse], failed=(), random=random)
        firsts[ranked[0].candidate.endpoint.tag] += 1
        shares = {entry.candidate.endpoint.tag: entry.share for entry in ranked}
        assert shares == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3, "d": 0.0})
    assert set(firsts) == {"a", "b", "c"}
    assert sum((count - 1000) ** 2 / 1000 for count in firsts.values()) < 13.8  # chi-square, 2 degrees, p = 0.001


def test_the_words_of_the_score_are_its_terms(endpoint: MakeEndpoint) -> None:
    strategy = Adaptive(Routing())
    pair = [candidate(endpoint, "a/one"), candidate(endpoint, "a/two", price=2.0, wait=0.5, failure=0.1)]
    words = [strategy.why(entry) for entry in strategy.rank(pair, failed=(), random=Random(1))]
    assert words == ["price 1.00× + failure 2.0% × 15", "price 2.00× + time 0.50 + failure 13.0% × 15"]


# ---- price -------------------------------------------------------------------------------------------


def test_the_lottery_is_weighted_by_the_inverse_square_of_the_price(endpoint: MakeEndpoint) -> None:
    candidates = [candidate(endpoint, tag, price=price) for tag, price in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    weights = {"a": 1.0, "b": 1 / 4, "c": 1 / 9}
    total = sum(weights.values())
    strategy, random, draws = Price(), Random(11), 20_000
    firsts: Counter[str] = Counter()
    for _ in range(draws):
        ranked = strategy.rank(candidates, failed=(), random=random)
        firsts[ranked[0].candidate.endpoint.tag] += 1
    expected = {tag: draws * weight / total for tag, weight in weights.items()}
    assert sum((firsts[tag] - want) ** 2 / want for tag, want in expected.items()) < 13.8
    shares = {entry.candidate.endpoint.tag: entry.share for entry in ranked}
    assert shares == pytest.approx({tag: weight / total for tag, weight in weights.items()})


def test_the_operators_weight_multiplies_the_chance(endpoint: MakeEndpoint) -> None:
    pair = [candidate(endpoint, "a", weight=3.0), candidate(endpoint, "b")]
    shares = {
        entry.candidate.endpoint.tag: entry.share for entry in Price().rank(pair, failed=(), random=Random(1))
    }
    assert shares == pytest.approx({"a": 0.75, "b": 0.25})


@pytest.mark.parametrize("seed", range(20))
def test_an_outage_goes_last_and_a_degraded_one_before_it_whatever_they_cost(
    endpoint: MakeEndpoint, seed: int
) -> None:
    candidates = [
        candidate(endpoint, "outage", price=0.01, tier=2),
        candidate(endpoint, "degraded", price=0.1, tier=1),
        candidate(endpoint, "dear", price=50.0),
        candidate(endpoint, "cheap", price=1.0),
    ]
    order = tags(Price(), candidates, seed=seed)
    assert set(order[:2]) == {"dear", "cheap"}
    assert order[2:] == ["degraded", "outage"]


def test_only_the_first_tier_has_shares(endpoint: MakeEndpoint) -> None:
    candidates = [candidate(endpoint, "a"), candidate(endpoint, "b", tier=1)]
    assert [entry.share for entry in Price().rank(candidates, failed=(), random=Random(1))] == [1.0, 0.0]


@pytest.mark.parametrize("name", ["adaptive", "price"])
def test_the_same_seed_ranks_the_same_and_another_may_not(endpoint: MakeEndpoint, name: StrategyName) -> None:
    candidates = [candidate(endpoint, f"p{place}") for place in range(8)]
    strategy = make(Routing(strategy=name))
    orders = [tuple(tags(strategy, candidates, seed=seed)) for seed in range(10)]
    assert orders == [tuple(tags(strategy, candidates, seed=seed)) for seed in range(10)]
    assert len(set(orders)) > 1
    assert strategy.name == name
