"""Health leaves nobody: somebody is ranked all the same, and whoever comes back is in use at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, Model, NoEndpoint, Pricing, Provider
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.simulation.world import Truth

DOWN = 600.0  # s; when everybody fails
BACK = 1800.0  # s; when one of them is well again
END = 2400.0  # s
PROBES = 60.0  # s
FEW = 20  # requests; of the calls before, some hang for half a minute, and who owes an answer is asked last
STRATEGIES = ({"strategy": "adaptive"}, {"strategy": "price"}, {"sort": "latency"}, {"strategy": "least_loaded"})


def name(options: dict[str, str]) -> str:
    return next(iter(options.values()))


# ---- through the simulation ------------------------------------------------------------------------------


@pytest.fixture
def outage(live: Callable[..., Any], truth: Callable[..., Truth]) -> Callable[..., Any]:
    """All three are down, and the second comes back; it then answers every time."""
    down = [truth(0.0), truth(DOWN, 0.0)]

    def made(options: dict[str, str], **how: Any) -> Any:
        return live([down, [*down, truth(BACK, 1.0)], down], options, duration=END, **how)

    return made


@pytest.mark.parametrize("rate", [0.2, 2.0])
@pytest.mark.parametrize("options", STRATEGIES, ids=name)
def test_with_probes_who_is_back_has_all_first_tries_within_one_interval(
    outage: Callable[..., Any], options: dict[str, str], rate: float
) -> None:
    story = outage(options, rate=rate, probe_every=PROBES)
    assert set(story.firsts(DOWN, BACK)) == {0, 1, 2}  # somebody was asked all the time
    after = story.firsts(BACK + PROBES + 5.0, END)
    assert after
    assert set(after) == {1}


@pytest.mark.parametrize("rate", [0.2, 2.0])
@pytest.mark.parametrize("options", STRATEGIES, ids=name)
def test_without_probes_it_is_found_within_a_few_requests(
    outage: Callable[..., Any], options: dict[str, str], rate: float
) -> None:
    story = outage(options, rate=rate)
    firsts = story.firsts(BACK, END)
    found = firsts.index(1)
    assert found < FEW
    later = firsts[found + FEW :]
    assert later.count(1) > 0.94 * len(later)  # the rest are trials of the others


# ---- the table alone -------------------------------------------------------------------------------------

TAGS = ("a", "b", "c")
ASK = Request(model="m")
GOOD = Outcome(kind="success", latency=0.5)
BAD = Outcome(kind="server_error", latency=0.1, status=500)


@pytest.fixture
def table() -> Balancer:
    endpoints = {
        f"m@{tag}": Endpoint(
            id=f"m@{tag}",
            model="m",
            tag=tag,
            provider=tag,
            provider_name=tag,
            upstream_model="m",
            base_url=f"https://{tag}.example",
            pricing=Pricing(prompt=1.0, completion=1.0),
        )
        for tag in TAGS
    }
    return Balancer(
        Catalog(
            providers={tag: Provider(key=tag, name=tag) for tag in TAGS},
            models={"m": Model(id="m", name="m", endpoints=tuple(endpoints))},
            endpoints=endpoints,
        ),
        seed=1,
    )


def holds(table: Balancer, now: float) -> dict[str, float]:
    """What is left of each endpoint's hold."""
    found = {each.endpoint.tag: each.next_at for each in table.view(now=now).endpoints}
    return {tag: moment - now for tag, moment in found.items() if moment is not None}


def test_nothing_waits_for_a_hold_that_panic_ignores(table: Balancer) -> None:
    for step in range(400):  # twenty minutes of outage
        now = 100.0 + 3.0 * step
        found = table.best(ASK, now=now)
        table.record(found.selected.id, BAD, now=now + 0.5, decision=found.id)
    now = 1301.0
    left = holds(table, now)
    assert len(left) == 3
    assert max(left.values()) > 30.0
    back = max(left, key=lambda tag: left[tag])  # the one that would wait longest
    tried = []
    while not tried or tried[-1] != [back]:
        now += 1.0
        found = table.best(ASK, now=now)
        tried.append([])
        for each in (found.selected, *found.fallbacks):
            tried[-1].append(each.tag)
            outcome = GOOD if each.tag == back else BAD
            table.record(each.id, outcome, now=now + 0.6, decision=found.id)
            if outcome is GOOD:
                break
        assert tried[-1][-1] == back  # as a fallback at first: nobody is left out
    assert len(tried) <= 5
    assert now < 1301.0 + left[back] / 2
    following = table.best(ASK, now=now + 1.0)
    assert (following.selected.tag, following.panic) == (back, False)


def test_a_total_outage_ranks_everybody_at_every_moment(table: Balancer) -> None:
    for step in range(200):
        now = 100.0 + 7.0 * step
        found = table.best(ASK, now=now)
        chosen = [found.selected.tag, *(each.tag for each in found.fallbacks)]
        assert found.panic or step < 20
        assert sorted(chosen) == sorted(TAGS) or not found.panic
        for each in (found.selected, *found.fallbacks):
            table.record(each.id, BAD, now=now + 0.5, decision=found.id)


def test_where_every_quota_is_used_up_the_smallest_wait_is_told_and_it_is_no_panic(table: Balancer) -> None:
    for tag, wait in zip(TAGS, (40.0, 20.0, 60.0), strict=True):
        limited = Outcome(kind="rate_limited", latency=0.05, status=429, retry_after=wait)
        table.record(f"m@{tag}", limited, now=100.0)
    with pytest.raises(NoEndpoint) as refused:
        table.best(ASK, now=105.0)
    assert (refused.value.code, refused.value.retry_after) == ("capacity_exhausted", pytest.approx(15.0))
    assert not table.view(now=105.0).models[0].panic
    assert not [each for each in table.transitions(0) if each.event == "model.panic_entered"]
    found = table.best(ASK, now=120.0)
    assert (found.selected.tag, found.fallbacks, found.panic) == ("b", (), False)


def test_a_quota_is_kept_even_where_everybody_else_is_down(table: Balancer) -> None:
    limited = Outcome(kind="rate_limited", latency=0.05, status=429, retry_after=50.0)
    table.record("m@a", limited, now=100.0)
    for tag in ("b", "c"):
        for _ in range(6):
            table.record(f"m@{tag}", BAD, now=100.0)
    found = table.best(ASK, now=101.0)
    assert found.panic
    assert {found.selected.tag, *(each.tag for each in found.fallbacks)} == {"b", "c"}


# ---- where the traffic goes ------------------------------------------------------------------------------


def test_what_an_ejected_endpoint_leaves_spreads_by_weight_and_not_on_one_neighbour(
    live: Callable[..., Any], truth: Callable[..., Truth]
) -> None:
    prices = (1.0, 1.2, 1.5, 2.0)
    tracks = [[Truth(0.0, 1.0, price, price)] for price in prices]
    tracks[0].append(Truth(DOWN, 0.0, prices[0], prices[0]))
    story = live(tracks, {"strategy": "price"}, duration=BACK, rate=2.0)
    for begin, end, left in ((0.0, DOWN, (0, 1, 2, 3)), (DOWN + 60.0, BACK, (1, 2, 3))):
        whole = sum(prices[place] ** -2 for place in left)
        for place in left:
            assert story.share(place, begin, end) == pytest.approx(prices[place] ** -2 / whole, abs=0.04)
    assert story.share(0, DOWN + 60.0, BACK) < 0.01
