"""Who is unwell stands behind who is well, whatever happened: the strategies that know tiers, and the sorts.

Worlds of equals but for their price, under histories of successes and failures. `adaptive` has no tiers: there a
failure has its price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from balancer import Balancer, Outcome, Preferences, Request
from balancer.core.model import Catalog, Considered, Endpoint, Routing, Sort, StrategyName
from balancer.core.request import SORTS

Make = Callable[[Sequence[float], StrategyName], Balancer]
Way = tuple[StrategyName, Sort | None]
History = Sequence[tuple[float, int, bool, int]]  # seconds since the one before, whose, whether good, how many

MODEL = "author/slug"
GOOD = Outcome(kind="success", latency=1.0, ttft=0.2, completion_tokens=50)
BAD = Outcome(kind="server_error", status=500)  # an answer: so nobody doubts who saw it

TIERS = ("stable", "degraded: after the stable", "outage in the last 30 s: last")
"""What an explanation says of an endpoint."""

costs = st.lists(st.sampled_from((1.0, 1.0, 2.0, 5.0)), min_size=1, max_size=5)
ways = st.sampled_from(
    [("price", None), ("weighted", None), ("least_loaded", None), *[("price", each) for each in SORTS]]
)
histories = st.lists(
    st.tuples(st.sampled_from((0.5, 4.0, 31.0, 330.0)), st.integers(0, 4), st.booleans(), st.integers(1, 8)),
    max_size=20,
)


@pytest.fixture(scope="session")
def make(endpoint: Callable[..., Endpoint], catalog: Callable[..., Catalog]) -> Make:
    """Make a table from prices."""

    def build(prices: Sequence[float], strategy: StrategyName) -> Balancer:
        endpoints = [endpoint(f"p{place}", price=price) for place, price in enumerate(prices)]
        return Balancer(catalog(*endpoints, routing=Routing(strategy=strategy)), seed=1)

    return build


def asked(way: Way) -> Request:
    return Request(model=MODEL, count=9, provider=Preferences(sort=way[1]))


def play(table: Balancer, history: History, among: int) -> float:
    now = 0.0
    for wait, place, good, times in history:
        now += wait
        for _ in range(times):
            table.record(f"{MODEL}@p{place % among}", GOOD if good else BAD, now=now)
    return now


def tier(line: Considered) -> int:
    return TIERS.index(line.why.partition("; ")[0].rpartition(", ")[2])


@given(prices=costs, way=ways, history=histories, trials=st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_a_worse_tier_never_leads_where_a_better_one_may(
    make: Make, prices: Sequence[float], way: Way, history: History, trials: int
) -> None:
    table = make(prices, way[0])
    now = play(table, history, len(prices))
    for _ in range(trials):
        now += 20.0
        decision = table.best(asked(way), now=now)
        table.record(decision.selected.id, GOOD, now=now, decision=decision.id)
    found = table.best(asked(way), now=now, explain=True)
    if found.panic:
        return
    lines = [line for line in found.considered if not line.excluded_by]
    assert [line.id for line in lines] == [found.selected.id, *(each.id for each in found.fallbacks)]
    # Slow start stands above tiers: who is in it is drawn, and leads then if it is of the best tier.
    settled = [line for line in lines if line.state != "recovering"]
    best = min([tier(line) for line in settled], default=len(TIERS))
    assert all(tier(line) <= best for line in lines if line.share > 0)
    assert [tier(line) for line in settled] == sorted(tier(line) for line in settled)


@given(
    prices=costs, added=st.sampled_from((0.1, 1.0, 9.0)), way=ways, history=histories, failures=st.integers(3, 6)
)
@settings(max_examples=300, deadline=None)
def test_one_more_that_is_unwell_never_puts_a_worse_tier_first(
    make: Make, prices: Sequence[float], added: float, way: Way, history: History, failures: int
) -> None:
    """The one that is added is degraded by its failures, or ejected; the others are what they were."""
    leading: list[int] = []
    for world in (prices, [*prices, added]):
        table = make(world, way[0])
        now = play(table, history, len(prices))
        if world is not prices:
            newcomer = f"{MODEL}@p{len(prices)}"
            table.record(newcomer, GOOD, now=now)
            for _ in range(failures):
                table.record(newcomer, BAD, now=now)
            assert table.endpoint(newcomer, now=now).state in ("degraded", "ejected")
        found = table.best(asked(way), now=now, explain=True)
        assume(not found.panic or world is not prices)
        leading.append(max(tier(line) for line in found.considered if line.share > 0))
    before, after = leading
    assert after <= before


@pytest.mark.parametrize("way", [("price", None), ("price", "price"), ("price", "latency"), ("weighted", None)])
def test_the_recovering_lead_their_share_and_no_more_even_before_the_degraded(make: Make, way: Way) -> None:
    """Slow start stands above tiers on purpose: a return must not be a stampede, whoever else there is."""
    table = make([1.0, 1.0], way[0])
    play(table, [(0.0, 0, False, 5)], 2)
    trial = table.best(Request(model=MODEL, provider=Preferences(only=("p0",))), now=400.0)
    assert trial.trial
    table.record(trial.selected.id, GOOD, now=400.0, decision=trial.id)
    for outcome in (GOOD, BAD, BAD, BAD):
        table.record(f"{MODEL}@p1", outcome, now=400.0)
    lines = {line.id: line for line in table.best(asked(way), now=440.0, explain=True).considered}
    assert (lines[f"{MODEL}@p0"].state, lines[f"{MODEL}@p1"].state) == ("recovering", "degraded")
    assert lines[f"{MODEL}@p0"].share == pytest.approx(1 / 11)
