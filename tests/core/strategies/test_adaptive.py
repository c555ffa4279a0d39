from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from balancer.core.estimate import BOUNDS
from balancer.core.model import Routing
from balancer.core.strategies import Candidate, Need
from balancer.core.strategies.adaptive import EXPLORATION, SHARED_FATE, Adaptive

MakeCandidate = Callable[..., Candidate]
Pick = Callable[..., list[str]]
CHI_SQUARE_2 = 13.8  # two degrees of freedom, p = 0.001


# ---- the rule ----------------------------------------------------------------------------------------


def expected_costs(
    candidates: Sequence[Candidate],
    considered: Collection[Candidate],
    need: Need,
    routing: Routing,
    tried: set[int],
) -> list[float]:
    """The header of the module by hand: what each of `considered` costs, in multiples of a unit."""
    costs = [
        a * need.prompt_tokens + b * need.completion_tokens for a, b in [(c.sent, c.answered) for c in candidates]
    ]
    paid = [cost for cost in costs if cost > 0]
    unit = 1.0 if not paid else min(paid) if len(paid) == len(costs) else min(paid) / 10
    if need.unit is not None:
        unit = need.unit
    known = [each.latency for each in candidates if each.latency is not None]
    found: list[float] = []
    for each, cost in zip(candidates, costs, strict=True):
        latency = each.latency
        if latency is None:
            latency = sum(known) / len(known) if known else 0.0
        chance = min(1.0, each.failure * (SHARED_FATE if each.fate in tried else 1.0))
        price = cost / unit if cost > 0 else 1.0
        time = routing.value_of_time * latency / unit
        if each in considered:
            found.append((price + time + routing.failure_price * chance) / each.weight)
    return found


one = st.tuples(
    st.sampled_from(("a", "b", "c")),
    st.sampled_from((0.0, 0.5, 1.0, 1.01, 3.0)),
    st.sampled_from((0.001, 0.02, 0.021, 0.1, 0.6, 0.999)),
    st.sampled_from((None, 0.5, 4.0)),
    st.sampled_from((0.5, 1.0, 2.0)),
    st.booleans(),
)

units = st.sampled_from((None, 0.05, 0.5))


@given(
    drawn=st.lists(one, min_size=1, max_size=8),
    failed=st.sets(st.sampled_from(("a", "b", "c"))),
    failure_price=st.sampled_from((0.0, 1.0, 15.0)),
    value_of_time=st.sampled_from((0.0, 0.2)),
    unit=units,
    seed=st.integers(0, 5),
)
def test_every_place_is_the_best_of_those_left_given_who_stands_before(
    candidate: MakeCandidate,
    need: Need,
    drawn: list[tuple[str, float, float, float | None, float, bool]],
    failed: set[str],
    failure_price: float,
    value_of_time: float,
    unit: float | None,
    seed: int,
) -> None:
    need = structs.replace(need, unit=unit)
    candidates = [
        candidate(f"{provider}/{n}", price=price, failure=failure, latency=latency, weight=weight, stale=stale)
        for n, (provider, price, failure, latency, weight, stale) in enumerate(drawn)
    ]
    routing = Routing(failure_price=failure_price, value_of_time=value_of_time)
    before = [candidate(provider) for provider in sorted(failed)]
    chosen = Adaptive(routing).pick(candidates, need, failed=before, places=len(drawn), random=Random(seed))
    left, tried = list(candidates), {each.fate for each in before}
    for each in chosen:
        costs = expected_costs(candidates, left, need, routing, tried)
        assert costs[left.index(each)] == pytest.approx(min(costs), rel=1e-9)
        left.remove(each)
        tried.add(each.fate)
    assert not left


@given(
    drawn=st.lists(one, min_size=1, max_size=8),
    failed=st.sets(st.sampled_from(("a", "b", "c"))),
    value_of_time=st.sampled_from((0.0, 0.2)),
    unit=units,
)
def test_the_score_is_the_expected_cost(
    candidate: MakeCandidate,
    need: Need,
    drawn: list[tuple[str, float, float, float | None, float, bool]],
    failed: set[str],
    value_of_time: float,
    unit: float | None,
) -> None:
    need = structs.replace(need, unit=unit)
    candidates = [
        candidate(f"{provider}/{n}", price=price, failure=failure, latency=latency, weight=weight)
        for n, (provider, price, failure, latency, weight, _) in enumerate(drawn)
    ]
    routing = Routing(value_of_time=value_of_time)
    before = [candidate(provider) for provider in sorted(failed)]
    lines = Adaptive(routing).figures(candidates, need, failed=before)
    wanted = expected_costs(candidates, candidates, need, routing, {each.fate for each in before})
    assert [line.score for line in lines] == pytest.approx(wanted)
    assert [line.weight for line in lines] == [each.weight for each in candidates]


def test_a_dearer_one_leads_when_the_cheaper_fails_too_often(candidate: MakeCandidate, pick: Pick) -> None:
    pair = [candidate("cheap", price=1.0, failure=0.10), candidate("sound", price=2.0, failure=0.02)]
    assert pick(Adaptive(Routing(failure_price=15)), pair) == ["sound", "cheap"]
    assert pick(Adaptive(Routing(failure_price=5)), pair) == ["cheap", "sound"]


def test_the_first_fallback_is_elsewhere_when_a_neighbour_is_hardly_better(
    candidate: MakeCandidate, pick: Pick
) -> None:
    candidates = [
        candidate("a/one", price=1.0, failure=0.1),
        candidate("a/two", price=1.1, failure=0.1),
        candidate("b", price=1.2, failure=0.1),
    ]
    assert pick(Adaptive(Routing()), candidates) == ["a/one", "b", "a/two"]
    assert pick(Adaptive(Routing()), candidates, failed=(candidate("a"),)) == ["b", "a/one", "a/two"]


def test_a_neighbour_that_is_much_better_stays_the_first_fallback(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate("a/one"), candidate("a/two", price=1.1), candidate("b", price=3.0)]
    assert pick(Adaptive(Routing()), candidates) == ["a/one", "a/two", "b"]


def test_a_shared_fate_never_makes_a_failure_more_than_certain(candidate: MakeCandidate, need: Need) -> None:
    (line,) = Adaptive(Routing()).figures([candidate("a/two", failure=0.9)], need, failed=[candidate("a/one")])
    assert line.score == pytest.approx(1 + 15 * 1.0)


def test_equals_share_evenly(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [*[candidate(tag) for tag in ("a", "b", "c")], candidate("d", price=2.0)]
    random = Random(3)
    firsts = Counter(pick(Adaptive(Routing()), candidates, random=random, places=1)[0] for _ in range(3000))
    assert set(firsts) == {"a", "b", "c"}
    assert sum((count - 1000) ** 2 / 1000 for count in firsts.values()) < CHI_SQUARE_2


def test_the_second_places_of_equals_are_even_too(candidate: MakeCandidate, pick: Pick) -> None:
    equals = [candidate(tag) for tag in ("a", "b", "c")]
    random = Random(3)
    seconds = Counter(pick(Adaptive(Routing()), equals, random=random, places=2)[1] for _ in range(3000))
    assert sum((count - 1000) ** 2 / 1000 for count in seconds.values()) < CHI_SQUARE_2


def test_those_of_one_fate_whose_risen_scores_are_equal_share_evenly(candidate: MakeCandidate, pick: Pick) -> None:
    leader, elsewhere = candidate("a/leader", price=0.5), candidate("b", price=9.0)
    equals = [candidate(f"a/{tag}") for tag in ("x", "y", "z")]
    for candidates, failed in (([leader, *equals, elsewhere], ()), ([*equals, elsewhere], (leader,))):
        random, ahead = Random(3), len(candidates) - 4
        orders = [pick(Adaptive(Routing()), candidates, random=random, failed=failed) for _ in range(3000)]
        assert {order[-1] for order in orders} == {"b"}
        for place in (ahead, ahead + 1):
            found = Counter(order[place] for order in orders)
            assert set(found) == {"a/x", "a/y", "a/z"}
            assert sum((count - 1000) ** 2 / 1000 for count in found.values()) < CHI_SQUARE_2


def test_a_unit_of_more_than_the_candidates_weighs_price_against_failure(
    candidate: MakeCandidate, need: Need, pick: Pick
) -> None:
    pair = [candidate("cheap", price=10.0, failure=0.05), candidate("sound", price=11.0, failure=0.02)]
    assert pick(Adaptive(Routing()), pair) == ["sound", "cheap"]  # 1.75 and 1.4
    wider = structs.replace(need, unit=1.0)
    assert pick(Adaptive(Routing()), pair, of=wider) == ["cheap", "sound"]  # 10.75 and 11.3
    lines = Adaptive(Routing()).figures(pair, wider, failed=())
    assert [line.score for line in lines] == pytest.approx([10.75, 11.3])
    assert [line.why for line in lines] == ["price 10.00× + failure 5.0% × 15", "price 11.00× + failure 2.0% × 15"]


def test_the_words_of_the_score_are_its_terms(candidate: MakeCandidate, need: Need) -> None:
    pair = [candidate("a/one", latency=1.0), candidate("a/two", price=2.0, failure=0.1, latency=3.0)]
    plain = Adaptive(Routing()).figures(pair, need, failed=())
    assert [line.why for line in plain] == ["price 1.00× + failure 2.0% × 15", "price 2.00× + failure 10.0% × 15"]
    timed = Adaptive(Routing(value_of_time=0.5, failure_price=7.5)).figures(pair, need, failed=[pair[0]])
    assert [line.why for line in timed] == [
        "price 1.00× + time 0.50 + failure 2.6% × 7.5",
        "price 2.00× + time 1.50 + failure 13.0% × 7.5",
    ]


# ---- the value of time -------------------------------------------------------------------------------


def test_waiting_costs_only_where_time_is_worth_something(candidate: MakeCandidate, pick: Pick) -> None:
    pair = [candidate("slow", price=1.0, latency=9.0), candidate("quick", price=2.0, latency=1.0)]
    assert pick(Adaptive(Routing()), pair) == ["slow", "quick"]
    assert pick(Adaptive(Routing(value_of_time=0.1)), pair) == ["slow", "quick"]
    assert pick(Adaptive(Routing(value_of_time=0.2)), pair) == ["quick", "slow"]


def test_who_never_answered_is_taken_for_the_mean_of_its_peers(candidate: MakeCandidate, need: Need) -> None:
    three = [candidate("a", latency=1.0), candidate("b", latency=5.0), candidate("new")]
    scores = [line.score for line in Adaptive(Routing(value_of_time=1.0)).figures(three, need, failed=())]
    assert scores[2] == pytest.approx((scores[0] + scores[1]) / 2)
    nobody = [candidate("a"), candidate("b", price=2.0)]
    scores = [line.score for line in Adaptive(Routing(value_of_time=1.0)).figures(nobody, need, failed=())]
    assert scores == pytest.approx([1.3, 2.3])


def test_latency_is_read_only_where_time_is_worth_something() -> None:
    assert Adaptive(Routing()).needs == frozenset()
    assert Adaptive(Routing(value_of_time=0.01)).needs == {"latency"}


# ---- exploration -------------------------------------------------------------------------------------

EXPLORING = Need(prompt_tokens=1, completion_tokens=0, explore=True)
DRAWS = 20_000


def explored(
    pick: Pick, candidates: list[Candidate], *, need: Need = EXPLORING, failed: tuple[Candidate, ...] = ()
) -> Counter[str]:
    """Who but the best comes first, over many draws."""
    random, strategy = Random(2), Adaptive(Routing())
    best = pick(strategy, candidates, places=1, of=Need(prompt_tokens=1, completion_tokens=0), failed=failed)[0]
    firsts = Counter(
        pick(strategy, candidates, places=1, of=need, random=random, failed=failed)[0] for _ in range(DRAWS)
    )
    del firsts[best]
    return firsts


def test_one_in_fifty_goes_to_what_nobody_saw_lately_and_could_win(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate("a"), candidate("b", failure=0.5, stale=True)]
    found = explored(pick, candidates)
    assert found.keys() == {"b"}
    assert abs(found["b"] - DRAWS * EXPLORATION) < 4 * (DRAWS * EXPLORATION) ** 0.5


def test_those_worth_it_are_explored_evenly(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate("a"), *[candidate(tag, failure=0.5, stale=True) for tag in ("b", "c")]]
    found = explored(pick, candidates)
    assert found.keys() == {"b", "c"}
    assert abs(found["b"] - found["c"]) < 4 * (DRAWS * EXPLORATION) ** 0.5


@pytest.mark.parametrize(
    ("leader", "other"),
    [
        ({}, {"failure": 0.5}),
        ({"stale": True}, {"failure": 0.5, "stale": True}),
        ({}, {"price": 1.3, "stale": True}),
        ({"failure": 0.001}, {"failure": 0.5, "stale": True}),
    ],
    ids=["it was seen lately", "nobody knows better of the leader", "it could not lead", "it could only draw"],
)
def test_nothing_is_explored_where_it_could_teach_nothing(
    candidate: MakeCandidate, pick: Pick, leader: dict[str, object], other: dict[str, object]
) -> None:
    assert not explored(pick, [candidate("a", **leader), candidate("b", **other)])


@pytest.mark.parametrize(("price", "worth"), [(1.28, True), (1.29, False), (1.3, False)])
def test_what_is_explored_would_lead_if_it_never_failed(
    candidate: MakeCandidate, pick: Pick, price: float, worth: bool
) -> None:
    leader = candidate("a", failure=0.02)  # at a cost of 1.3
    assert (price + 15 * BOUNDS[0] < 1.3) is worth
    assert bool(explored(pick, [leader, candidate("b", price=price, stale=True)])) is worth


def test_a_retry_never_explores(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [candidate("a"), candidate("b", failure=0.5, stale=True)]
    assert not explored(pick, candidates, need=Need(prompt_tokens=1, completion_tokens=0, explore=False))
    assert not explored(pick, candidates, failed=(candidate("c"),))


def test_those_behind_the_explored_are_ranked_given_that_it_failed(candidate: MakeCandidate, pick: Pick) -> None:
    candidates = [
        candidate("a", price=1.0, failure=0.1),
        candidate("b/one", price=1.1, failure=0.1),
        candidate("b/two", failure=0.5, stale=True),
        candidate("c", price=1.2, failure=0.1),
    ]
    random, strategy = Random(1), Adaptive(Routing())
    orders = {tuple(pick(strategy, candidates, of=EXPLORING, random=random)) for _ in range(1000)}
    assert orders == {("a", "b/one", "c", "b/two"), ("b/two", "a", "c", "b/one")}


def test_the_figures_say_who_may_be_explored(candidate: MakeCandidate) -> None:
    candidates = [candidate("a"), *[candidate(tag, failure=0.5, stale=True) for tag in ("b", "c")]]
    strategy = Adaptive(Routing())
    lines = strategy.figures(candidates, EXPLORING, failed=())
    assert [line.share for line in lines] == pytest.approx([1 - EXPLORATION, EXPLORATION / 2, EXPLORATION / 2])
    assert ["explored" in line.why for line in lines] == [False, True, True]
    again = strategy.figures(candidates, EXPLORING, failed=[candidate("d")])
    assert [line.share for line in again] == [1.0, 0.0, 0.0]
    assert not any("explored" in line.why for line in again)
