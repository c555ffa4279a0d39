from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from random import Random
from typing import Any

import pytest

from balancer.core.capacity import Quota
from balancer.core.lineup import Asked, Lineup, Lineups
from balancer.core.model import Endpoint, HealthPolicy, Limits, Model, PriceOverride, Pricing, Routing, Sort
from balancer.core.outcome import Outcome
from balancer.core.pool import Entry, Pool
from balancer.core.pricing import COMPLETION_TOKENS, PROMPT_TOKENS
from balancer.core.request import Cutoffs, Request
from balancer.core.routing import TIERS
from balancer.core.row import Row

MakeEndpoint = Callable[..., Endpoint]
MakeRequest = Callable[..., Request]

POLICY = HealthPolicy()
MODEL, SECOND = "author/slug", "author/second"
NOW = 100.0


class World:
    """Endpoints with their rows, and the lineups of requests for their models in the order in which they come."""

    def __init__(self, *endpoints: Endpoint, sorts: dict[str, Sort] | None = None) -> None:
        self.rows = {each.tag: Row(each, POLICY, random=Random(1), now=0.0) for each in endpoints}
        self.quotas = {each.quota: Quota() for each in endpoints if each.limits is not None}
        self.lineups = Lineups(Routing(), POLICY, self.quotas)
        self.pools = [
            Pool(
                Model(id=model, name=model),
                [row for row in self.rows.values() if row.endpoint.model == model],
                policy=POLICY,
                fates={each.id: place for place, each in enumerate(endpoints)},
                now=0.0,
            )
            for model in dict.fromkeys(each.model for each in endpoints)
        ]
        self.sorts = {} if sorts is None else sorts

    def take(self, tag: str, outcome: Outcome, *, times: int = 1, now: float = NOW) -> None:
        for _ in range(times):
            self.rows[tag].record(
                outcome,
                source="report",
                ended=now,
                duration=None,
                now=now,
                decision="dec_1",
                policy=POLICY,
                random=Random(1),
            )

    def asked(self, request: Request, now: float = NOW) -> list[Asked]:
        for pool in self.pools:
            pool.refresh(now, None)
            pool.price(PROMPT_TOKENS if request.prompt_tokens is None else request.prompt_tokens, now)
        tiers = TIERS[request.service_tier]
        return [Asked(pool, self.sorts.get(pool.model.id), tiers) for pool in self.pools]

    def lineup(self, request: Request, *, now: float = NOW, **how: Any) -> Lineup:
        asked = self.asked(request, now)
        return self.lineups.lineup(request, asked, self.lineups.need(request, asked), now=now, **how)

    def tags(self, request: Request, *, now: float = NOW, **how: Any) -> list[list[str]]:
        groups = self.lineup(request, now=now, **how).groups
        return [sorted(entry.endpoint.tag for entry in group.entries) for group in groups]

    def names(self, request: Request) -> list[str]:
        return [group.strategy.name for group in self.lineup(request).groups]

    # ---- states --------------------------------------------------------------------------------------

    def degrade(self, tag: str) -> None:
        self.take(tag, Outcome(kind="success", latency=1.0), times=15, now=NOW - 10.0)
        self.take(tag, Outcome(kind="server_error", status=500), times=4)

    def recover(self, tag: str, *, now: float = NOW) -> None:
        """Let it fail, and its trial pass."""
        row = self.rows[tag]
        self.take(tag, Outcome(kind="server_error", status=500), times=5, now=now - 60.0)
        row.health.start_trial(decision="dec_1", now=now - 30.0, expires=now + 60.0)
        self.take(tag, Outcome(kind="success", latency=1.0), now=now - 20.0)

    def slow(self, tag: str, *, ttft: float, now: float = NOW) -> None:
        self.take(tag, Outcome(kind="success", latency=10.0, ttft=ttft, completion_tokens=100), now=now)


# ---- precedence --------------------------------------------------------------------------------------

RULES = ("preferred percentile", "model", "order", "service tier", "slow start", "priority")


def contest(
    endpoint: MakeEndpoint, ask: MakeRequest, rules: Sequence[str], losers: Sequence[str]
) -> list[list[str]]:
    """Two endpoints under some rules: by each of them the loser is worse. What is the lineup?"""
    fields: dict[str, dict[str, Any]] = {"x": {}, "y": {}}
    wishes: dict[str, Any] = {}
    for rule, loser in zip(rules, losers, strict=True):
        winner = "y" if loser == "x" else "x"
        match rule:
            case "preferred percentile":
                wishes["preferred_max_latency"] = Cutoffs(p50=1.0)
            case "model":
                fields[loser]["model"] = SECOND
            case "order":
                wishes["order"] = (winner,)
            case "service tier":
                wishes["service_tier"] = "priority"
                fields[winner]["tier"] = "priority"
            case "priority":
                fields[loser]["priority"] = 1
    of = dict(zip(rules, losers, strict=True))
    endpoints = [endpoint(tag, **fields[tag]) for tag in ("x", "y")]
    endpoints.sort(key=lambda each: each.model == SECOND)
    world = World(*endpoints)
    for tag in ("x", "y"):
        world.slow(tag, ttft=9.0 if of.get("preferred percentile") == tag else 0.1, now=NOW - 90.0)
    if "slow start" in of:
        world.recover(of["slow start"])
    return world.tags(ask(**wishes), leads=lambda entry: entry.endpoint.tag != of.get("slow start"))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loser", ["x", "y"])
def test_each_rule_puts_the_worse_one_behind(
    endpoint: MakeEndpoint, ask: MakeRequest, rule: str, loser: str
) -> None:
    assert contest(endpoint, ask, [rule], [loser]) == [["y" if loser == "x" else "x"], [loser]]


@pytest.mark.parametrize(("outer", "inner"), [*combinations(RULES, 2)])
@pytest.mark.parametrize("loser", ["x", "y"])
def test_an_outer_rule_beats_an_inner_one(
    endpoint: MakeEndpoint, ask: MakeRequest, outer: str, inner: str, loser: str
) -> None:
    winner = "y" if loser == "x" else "x"
    assert contest(endpoint, ask, [outer, inner], [loser, winner]) == [[winner], [loser]]
    assert contest(endpoint, ask, [outer, inner], [loser, loser]) == [[winner], [loser]]


def test_equals_are_one_group_whatever_they_cost_and_the_strategy_chooses(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    world = World(endpoint("a", price=1.0), endpoint("b", price=99.0), endpoint("c", weight=5.0))
    (group,) = world.lineup(ask()).groups
    assert {entry.endpoint.tag for entry in group.entries} == {"a", "b", "c"}
    assert group.strategy.name == "adaptive"


def test_each_place_of_the_order_is_a_group_and_the_others_come_behind(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    world = World(endpoint("a"), endpoint("b/x"), endpoint("b/y"), endpoint("c"), endpoint("d"))
    assert world.tags(ask(order=("c", "b"))) == [["c"], ["b/x", "b/y"], ["a", "d"]]
    assert world.tags(ask(order=("b", "c"), allow_fallbacks=False)) == [["b/x", "b/y"], ["c"]]


def test_only_who_is_eligible_stands_in_the_lineup(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"), endpoint("b"), endpoint("c", misconfigured="no key"), endpoint("d"), endpoint("e"))
    world.take("a", Outcome(kind="server_error", status=500), times=5)
    world.take("b", Outcome(kind="rate_limited", status=429))
    world.degrade("d")
    assert world.tags(ask()) == [["d", "e"]]


# ---- priority and health -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priorities", "degraded", "groups"),
    [
        ({"a": 0, "b": 1}, "a", [["a", "b"]]),
        ({"a": 0, "b": 0}, "a", [["a", "b"]]),
        ({"a": 0, "b": 0, "c": 1}, "a", [["b"], ["a", "c"]]),
        ({"a": 0, "b": 5, "c": 9}, "a", [["a", "b"], ["c"]]),
        ({"a": 0, "b": 1, "c": 2}, "ab", [["a", "b", "c"]]),
        ({"a": 0, "b": 1, "c": 2}, "bc", [["a"], ["b"], ["c"]]),
        ({"a": 0, "b": 1}, "ab", [["a"], ["b"]]),
        ({"a": 0, "b": 1}, "b", [["a"], ["b"]]),
    ],
    ids=[
        "to the next level",
        "with nowhere to go it stays",
        "from among its equals",
        "no further than the next",
        "over a level that is no better",
        "the last levels stay apart",
        "where all are degraded nobody moves",
        "the last has nowhere to go",
    ],
)
def test_a_degraded_one_spills_to_the_next_level_that_has_somebody_better(
    endpoint: MakeEndpoint,
    ask: MakeRequest,
    priorities: dict[str, int],
    degraded: str,
    groups: list[list[str]],
) -> None:
    world = World(*(endpoint(tag, priority=priority) for tag, priority in priorities.items()))
    for tag in degraded:
        world.degrade(tag)
    assert world.tags(ask()) == groups


def test_who_fails_and_never_succeeded_is_degraded_and_spills(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"), endpoint("b", priority=1), endpoint("new"))
    world.take("a", Outcome(kind="server_error", status=500), times=3)
    assert world.tags(ask()) == [["new"], ["a", "b"]]


# ---- slow start and ceilings -------------------------------------------------------------------------


@pytest.mark.parametrize("successes", [0, 4, 9])
def test_a_slow_start_leads_the_share_of_its_ramp(endpoint: MakeEndpoint, ask: MakeRequest, successes: int) -> None:
    world = World(endpoint("a"), endpoint("b"))
    world.recover("a")
    world.take("a", Outcome(kind="success", latency=1.0), times=successes)
    random, draws = Random(3), 2000
    lineups = Counter(str(world.tags(ask(), random=random)) for _ in range(draws))
    share = (successes + 1) / (POLICY.ramp_requests + 1)
    assert lineups.keys() == {"[['a', 'b']]", "[['b'], ['a']]"}
    assert abs(lineups["[['a', 'b']]"] - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5


def test_alone_a_slow_start_serves_all(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"))
    world.recover("a")
    assert world.tags(ask(), random=Random(1)) == [["a"]]


def test_without_a_draw_everybody_may_lead(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"), endpoint("b"))
    world.recover("a")
    assert world.tags(ask()) == [["a", "b"]]


def test_a_calm_lineup_draws_nothing(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world, random = World(endpoint("a"), endpoint("b", priority=1)), Random(1)
    state = random.getstate()
    world.lineup(ask(), random=random)
    assert random.getstate() == state


def test_who_is_at_its_learned_ceiling_leads_nothing_until_there_is_room(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    world = World(endpoint("a"), endpoint("b"))
    for _ in range(10):
        world.rows["a"].ceiling.took(NOW)
    world.take("a", Outcome(kind="rate_limited", status=429, retry_after=1.0), times=3)
    assert world.tags(ask()) == [["b"]]  # held
    assert world.tags(ask(), now=NOW + 2.0) == [["b"], ["a"]]  # eight a minute are the ceiling, and ten were sent
    assert world.tags(ask(), now=NOW + 62.0) == [["a", "b"]]
    for _ in range(8):
        world.rows["a"].ceiling.took(NOW + 62.0)
    assert world.tags(ask(), now=NOW + 62.0) == [["b"], ["a"]]


# ---- the operator's limits ---------------------------------------------------------------------------


def test_who_is_at_a_limit_is_held_with_the_wait_and_in_no_group(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a", limits=Limits(rpm=2), quota="q"), endpoint("b"))
    assert world.lineup(ask()).held == {}
    world.quotas["q"].take(NOW, 100)
    assert world.tags(ask()) == [["a", "b"]]
    world.quotas["q"].take(NOW + 30.0, 100)
    found = world.lineup(ask(), now=NOW + 30.0)
    assert [[entry.endpoint.tag for entry in group.entries] for group in found.groups] == [["b"]]
    (wait,) = found.held.values()
    assert 28.0 <= wait <= 32.0
    assert world.tags(ask(), now=NOW + 30.0 + wait) == [["a", "b"]]


def test_tokens_are_those_of_the_request_prompt_and_answer_together(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    world = World(endpoint("a", limits=Limits(tpm=1000), quota="q"))
    world.quotas["q"].take(NOW, 700)
    assert world.tags(ask(prompt_tokens=200, max_tokens=100)) == [["a"]]
    assert world.tags(ask(prompt_tokens=201, max_tokens=100)) == []
    assert world.tags(ask(prompt_tokens=200, max_tokens=101)) == []
    assert world.tags(ask()) == []  # an unknown length is the usual one


def test_endpoints_of_one_quota_are_held_together(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    limits = Limits(rpm=1)
    world = World(
        endpoint("a/x", limits=limits, quota="one"),
        endpoint("a/y", limits=limits, quota="one"),
        endpoint("a/z", limits=limits, quota="two"),
    )
    world.quotas["one"].take(NOW, 1)
    found = world.lineup(ask())
    assert {key.partition("@")[2] for key in found.held} == {"a/x", "a/y"}
    assert world.tags(ask()) == [["a/z"]]


# ---- several models ----------------------------------------------------------------------------------


@pytest.fixture
def two(endpoint: MakeEndpoint) -> World:
    return World(endpoint("a"), endpoint("b", priority=1), endpoint("c", model=SECOND), sorts={SECOND: "latency"})


def test_models_follow_one_another_and_each_keeps_its_suffix(two: World, ask: MakeRequest) -> None:
    assert two.tags(ask()) == [["a"], ["b"], ["c"]]
    assert two.names(ask()) == ["adaptive", "adaptive", "sort:latency"]


def test_without_partition_all_models_are_one_field_by_the_first_ones_rule(two: World, ask: MakeRequest) -> None:
    assert two.tags(ask(partition="none", sort="price")) == [["a", "c"], ["b"]]
    assert two.names(ask(partition="none", sort="price")) == ["sort:price"] * 2
    assert two.names(ask(partition="none")) == ["adaptive"] * 2


def test_a_sort_of_the_request_stands_above_a_suffix(two: World, ask: MakeRequest) -> None:
    assert two.names(ask(sort="throughput")) == ["sort:throughput"] * 3


# ---- service tiers -----------------------------------------------------------------------------------


@pytest.fixture
def tiered(endpoint: MakeEndpoint) -> World:
    return World(endpoint("a"), endpoint("b/priority", tier="priority"), endpoint("c/flex", tier="flex"))


@pytest.mark.parametrize(
    ("tier", "groups"),
    [("default", [["a"]]), ("priority", [["b/priority"], ["a"]]), ("flex", [["c/flex"]])],
)
def test_a_tier_serves_those_who_ask_for_it(
    tiered: World, ask: MakeRequest, tier: str, groups: list[list[str]]
) -> None:
    assert tiered.tags(ask(service_tier=tier)) == groups


def test_flex_without_a_flex_endpoint_is_served_as_usual(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"), endpoint("b/priority", tier="priority"))
    assert world.tags(ask(service_tier="flex")) == [["a"]]
    assert world.names(ask(service_tier="flex")) == ["adaptive"]


def test_flex_waits_for_its_own_and_is_not_served_at_full_price_instead(tiered: World, ask: MakeRequest) -> None:
    assert tiered.tags(ask(service_tier="flex", ignore=("c/flex",))) == []
    assert tiered.tags(ask(service_tier="flex", exclude=("c/flex",))) == []
    tiered.take("c/flex", Outcome(kind="server_error", status=500), times=5)
    assert tiered.tags(ask(service_tier="flex")) == []
    assert tiered.tags(ask()) == [["a"]]


@pytest.mark.parametrize(
    ("wishes", "wanted"),
    [
        ({}, (0, 1, 0, 0)),
        ({"partition": "none"}, (0, 0, 0, 0)),
        ({"order": ("x", "a")}, (0, 1, 1, 0)),
        ({"order": ("x", "y")}, (0, 1, 2, 0)),
        ({"service_tier": "priority"}, (0, 1, 0, 1)),
        ({"preferred_max_latency": Cutoffs(p50=1.0)}, (1, 1, 0, 0)),
    ],
)
def test_what_a_request_wants_of_an_endpoint_is_the_beginning_of_its_groups_key(
    endpoint: MakeEndpoint, ask: MakeRequest, wishes: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    world, request = World(endpoint("b"), endpoint("a", model=SECOND, priority=3)), ask(**wishes)
    world.slow("a", ttft=9.0)
    found = [
        (group.key, world.lineups.wanted(entry, place, request, NOW))
        for group in world.lineup(request).groups
        for entry in group.entries
        for place in [int(entry.endpoint.tag == "a")]
    ]
    assert all(key[:4] == mine for key, mine in found)
    assert [mine for key, mine in found if key[-1] == 3] == [wanted]


@pytest.mark.parametrize(
    ("suffix", "wanted", "names"),
    [
        (None, {}, ["sort:throughput", "adaptive"]),
        (None, {"sort": "price"}, ["sort:price", "sort:price"]),
        ("price", {}, ["sort:price", "sort:price"]),
    ],
    ids=["by speed", "unless sorted otherwise", "or by a suffix"],
)
def test_who_pays_for_priority_pays_for_speed(
    endpoint: MakeEndpoint, ask: MakeRequest, suffix: Sort | None, wanted: dict[str, Any], names: list[str]
) -> None:
    world = World(
        endpoint("a"),
        endpoint("b/priority", tier="priority"),
        sorts={} if suffix is None else {MODEL: suffix},
    )
    assert world.names(ask(service_tier="priority", **wanted)) == names


# ---- wished percentiles ------------------------------------------------------------------------------


def test_a_missed_percentile_demotes_and_never_excludes(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("quick"), endpoint("slow"), endpoint("new"))
    world.slow("quick", ttft=0.2)
    world.slow("slow", ttft=3.0)
    assert world.tags(ask(preferred_max_latency=Cutoffs(p50=1.0))) == [["new", "quick"], ["slow"]]
    assert world.tags(ask(preferred_max_latency=Cutoffs(p50=0.1))) == [["new"], ["quick", "slow"]]
    assert world.tags(ask(preferred_max_latency=Cutoffs(p50=5.0))) == [["new", "quick", "slow"]]
    # Ten tokens a second each.
    assert world.tags(ask(preferred_min_throughput=Cutoffs(p90=9.0))) == [["new", "quick", "slow"]]
    assert world.tags(ask(preferred_min_throughput=Cutoffs(p90=11.0))) == [["new"], ["quick", "slow"]]


def test_all_wished_percentiles_must_hold(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("steady"), endpoint("erratic"))
    for _ in range(50):
        world.slow("steady", ttft=1.0)
        world.slow("erratic", ttft=0.1)
    for _ in range(10):
        world.slow("erratic", ttft=8.0)
    both = [["erratic", "steady"]]
    assert world.tags(ask(preferred_max_latency=Cutoffs(p50=2.0))) == both
    assert world.tags(ask(preferred_max_latency=Cutoffs(p50=2.0, p99=2.0))) == [["steady"], ["erratic"]]
    assert world.tags(ask(preferred_max_latency=Cutoffs(p75=2.0))) == both
    assert world.tags(ask(preferred_max_latency=Cutoffs(p90=2.0))) == [["steady"], ["erratic"]]
    wishes = {"preferred_max_latency": Cutoffs(p50=2.0), "preferred_min_throughput": Cutoffs(p50=11.0)}
    assert world.tags(ask(**wishes)) == both  # all miss the throughput, and so nobody is better


def test_a_percentile_may_promote_a_fallback_model(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"), endpoint("b", model=SECOND))
    world.slow("a", ttft=3.0)
    world.slow("b", ttft=0.2)
    assert world.tags(ask(preferred_max_latency=Cutoffs(p50=1.0))) == [["b"], ["a"]]


# ---- what strategies know of the request -------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "prompt", "answer"),
    [
        ({}, PROMPT_TOKENS, COMPLETION_TOKENS),
        ({"prompt_tokens": 1_000_000}, 1_000_000, COMPLETION_TOKENS),
        ({"prompt_tokens": 0, "max_tokens": 100}, 0, 100),
        ({"prompt_tokens": 10, "max_tokens": 32_768}, 10, COMPLETION_TOKENS),
        ({"prompt_tokens": 11, "max_tokens": 0}, 11, 0),
    ],
)
def test_a_request_costs_its_prompt_and_an_answer_of_the_usual_length(
    endpoint: MakeEndpoint, ask: MakeRequest, wanted: dict[str, int], prompt: int, answer: int
) -> None:
    world, request = World(endpoint("a")), ask(**wanted)
    need = world.lineups.need(request, world.asked(request))
    assert (need.prompt_tokens, need.completion_tokens, need.unit) == (prompt, answer, None)


def told(world: World, request: Request) -> list[str]:
    asked = world.asked(request)
    need = world.lineups.need(request, asked)
    groups = world.lineups.lineup(request, asked, need, now=NOW).groups
    lines = [line for group in groups for line in group.strategy.figures(group.entries, need, failed=())]
    return [line.why.split("×")[0] for line in lines]


@pytest.mark.parametrize("limits", [None, Limits(rpm=1000)], ids=["calm", "limited"])
@pytest.mark.parametrize("wanted", [{}, {"sort": "price"}])
def test_prices_of_all_groups_are_told_in_one_unit(
    endpoint: MakeEndpoint, ask: MakeRequest, limits: Limits | None, wanted: dict[str, Any]
) -> None:
    world = World(
        endpoint("dear", price=10.0, limits=limits, quota="q"),
        endpoint("cheap", price=1.0, priority=1),
        endpoint("free", price=0.0, priority=2, misconfigured="no key"),
        endpoint("other", price=5.0, model=SECOND),
    )
    assert told(world, ask(**wanted)) == ["price 10.00", "price 1.00", "price 5.00"]
    world.pools.pop()
    assert told(world, ask(**wanted)) == ["price 10.00", "price 1.00"]
    assert told(world, ask(**wanted, ignore=("cheap",))) == ["price 1.00"]  # compared with nobody else
    world.take("cheap", Outcome(kind="server_error", status=500), times=5)
    assert told(world, ask(**wanted)) == ["price 1.00"]


def test_a_free_one_in_another_group_counts_as_a_tenth_of_the_cheapest(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    world = World(endpoint("a", price=3.0), endpoint("b", price=6.0), endpoint("c", price=0.0, priority=1))
    assert told(world, ask()) == ["price 10.00", "price 20.00", "price 1.00"]


def test_a_single_groups_unit_is_its_own_cheapest(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world, request = World(endpoint("a", price=10.0), endpoint("b", price=1.0)), ask()
    asked = world.asked(request)
    need = world.lineups.need(request, asked)
    (group,) = world.lineups.lineup(request, asked, need, now=NOW).groups
    assert need.unit == min(need.costs(group.entries))
    lone = world.lineups.need(request, asked)
    entries = group.entries
    picks = [group.strategy.pick(entries, of, failed=(), places=2, random=Random(1)) for of in (need, lone)]
    assert picks[0] == picks[1]
    assert told(world, request) == ["price 10.00", "price 1.00"]


def test_a_long_prompt_is_compared_by_its_own_prices(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    steep = Pricing(prompt=1.0, completion=1.0, overrides=(PriceOverride(min_prompt_tokens=2000, prompt=4.0),))
    world = World(endpoint("a", pricing=steep), endpoint("b", price=1.0, priority=1))
    for length, price in ((2000, "1.00"), (2001, "4.00"), (10, "1.00"), (2001, "4.00")):
        assert told(world, ask(prompt_tokens=length, max_tokens=0)) == [f"price {price}", "price 1.00"]


def test_only_a_first_try_explores_and_only_where_somebody_was_not_seen(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    world = World(endpoint("a"), endpoint("b"))

    def explores(request: Request, now: float = NOW) -> bool:
        return world.lineups.need(request, world.asked(request, now)).explore

    assert explores(ask())
    assert not explores(ask(exclude=("a",)))
    world.take("a", Outcome(kind="success"))
    assert explores(ask())
    world.take("b", Outcome(kind="success"))
    assert not explores(ask())
    assert explores(ask(), now=NOW + 86_400.0)


# ---- the memo ----------------------------------------------------------------------------------------


def test_a_calm_pools_groups_are_kept_until_a_state_changes(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    world = World(endpoint("a"), endpoint("b", priority=1))
    world.take("a", Outcome(kind="success"))
    first = world.lineup(ask()).groups
    assert world.lineup(ask()).groups is first
    assert world.lineup(ask(sort="price")).groups is not first
    world.take("a", Outcome(kind="success"))
    assert world.lineup(ask()).groups is first
    world.take("a", Outcome(kind="server_error", status=500), times=5)
    assert world.tags(ask()) == [["b"]]


def test_who_may_serve_is_told_whatever_its_health_with_its_models_place(two: World, ask: MakeRequest) -> None:
    two.take("a", Outcome(kind="server_error", status=500), times=5)
    request = ask(ignore=("b",))
    turns = two.lineups.passing(request, two.asked(request))
    found: list[tuple[int, Entry]] = [(turn.place, turn.entry) for turn in turns]
    assert [(place, entry.endpoint.tag) for place, entry in found] == [(0, "a"), (1, "c")]
