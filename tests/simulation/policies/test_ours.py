from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from balancer.core.model import HealthPolicy, Routing
from balancer.core.outcome import Kind
from balancer.core.recent import RECENT_MAX
from balancer.core.request import Preferences
from balancer.simulation.policies.interface import Choice, Move, Offer, Try
from balancer.simulation.policies.ours import Ours, settings
from balancer.simulation.world import Track, Truth, World

# ---- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "routing", "health", "wishes"),
    [
        ({}, {}, {}, {}),
        ({"strategy": "price"}, {"strategy": "price"}, {}, {}),
        ({"sort": "latency"}, {}, {}, {"sort": "latency"}),
        ({"failure_price": "40"}, {"failure_price": 40.0}, {}, {}),
        ({"value_of_time": "1e-3"}, {"value_of_time": 0.001}, {}, {}),
        ({"health.consecutive_failures": "3"}, {}, {"consecutive_failures": 3}, {}),
        ({"health.hold": "1m30s", "health.hold_max": "2m"}, {}, {"hold": 90.0, "hold_max": 120.0}, {}),
        ({"health.enforce": "false"}, {}, {"enforce": False}, {}),
        ({"health.enforce": "true", "strategy": "weighted"}, {"strategy": "weighted"}, {}, {}),
        ({"health.ramp_requests": "0"}, {}, {"ramp_requests": 0}, {}),
    ],
)
def test_an_option_changes_what_its_name_changes_in_the_configuration(
    options: dict[str, str], routing: dict[str, Any], health: dict[str, Any], wishes: dict[str, Any]
) -> None:
    assert settings(options) == (
        replace(Routing(), **routing),
        replace(HealthPolicy(), **health),
        replace(Preferences(), **wishes),
    )
    core = begun(Ours("ours", options)).core
    assert (core.catalog.routing, core.catalog.health) == settings(options)[:2]


STRATEGIES = "use adaptive, price, weighted, least_loaded (default adaptive)"
HOLD = "use 50ms to 1h (default 10s)"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": "fastest"}, f"strategy: fastest is unknown; {STRATEGIES}"),
        ({"sort": "speed"}, "sort: speed is unknown; use price, latency, throughput, exacto"),
        ({"failure_prize": "3"}, "failure_prize: unknown option; did you mean failure_price?"),
        ({"health.hald": "3"}, "health.hald: unknown option; did you mean health.hold?"),
        ({"health.enforce": "no"}, 'health.enforce: "no" is text; use true or false (default true)'),
        ({"health.hold": "long"}, f"health.hold: long is not a duration; {HOLD}"),
        ({"health.hold": "30"}, f"health.hold: 30 is a number without a unit; {HOLD}"),
        ({"health.hold": "2h"}, f"health.hold: 2h is out of range; {HOLD}"),
        ({"health.hold": "10m"}, "health.hold: 10m is longer than health.hold_max, 5m"),
        ({"health.hold_max": "5s"}, "health.hold: 10s is longer than health.hold_max, 5s"),
        (
            {"health.consecutive_failures": "2.5"},
            "health.consecutive_failures: 2.5 is a number; use a whole number, 1 to 40 (default 5)",
        ),
        (
            {"health.min_outcomes": "0"},
            "health.min_outcomes: 0 is out of range; use a whole number, 1 to 40 (default 5)",
        ),
        (
            {"health.error_ratio": "0"},
            "health.error_ratio: 0 is out of range; use a number above 0, up to 1 (default 0.2)",
        ),
        ({"failure_price": "nan"}, 'failure_price: "nan" is text; use a number, 0 to 1000000 (default 15)'),
        ({"value_of_time": "{a: 1}"}, 'value_of_time: "{a: 1}" is text; use a number, 0 to 1000000 (default 0)'),
        (
            {"strategy": "x", "health.hold": "y"},
            f"health.hold: y is not a duration; {HOLD}; strategy: x is unknown; {STRATEGIES}",
        ),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed_and_all_at_once(
    options: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueError) as refused:
        Ours("ours", options)
    assert str(refused.value) == problem


def test_an_option_that_is_near_none_is_told_all_there_are() -> None:
    with pytest.raises(ValueError) as refused:
        settings({"zzz": "1"})
    numbers = [f"health.{each.name}" for each in fields(HealthPolicy) if each.name != "windows"]
    told = str(refused.value).removeprefix("zzz: unknown option; use ").split(", ")
    assert told == ["strategy", "sort", "failure_price", "value_of_time", *numbers]


def test_the_bounds_are_the_configurations() -> None:
    for name in ("consecutive_failures", "min_outcomes"):
        assert getattr(settings({f"health.{name}": str(RECENT_MAX)})[1], name) == RECENT_MAX
        with pytest.raises(ValueError, match=f"use a whole number, 1 to {RECENT_MAX}"):
            settings({f"health.{name}": str(RECENT_MAX + 1)})


# ---- a table of two models -------------------------------------------------------------------------------


def begun(policy: Ours, models: int = 1) -> Ours:
    tracks = tuple(
        Track(id=f"m{model}@{place}", model=model, provider=f"p{place}", tag=f"p{place}", truths=(), samples=())
        for model in range(models)
        for place in range(2)
    )
    names = tuple(f"m{model}" for model in range(models))
    policy.begin(World(name="two", duration=1e9, models=names, tracks=tracks), (), 1)
    return policy


def tried(track: int, kind: Kind, now: float, token: object = None, *, probe: bool = False) -> Try:
    return Try(track, kind, now - 1.0, now, 0.2 if kind == "success" else None, None, probe, token)


def test_the_options_reach_the_decision() -> None:
    for options, name in (({"strategy": "price"}, "price"), ({"sort": "throughput"}, "sort:throughput")):
        policy = begun(Ours("ours", options))
        policy.offer(0, [Offer(0, 1.0), Offer(1, 1.0)], 0.0)
        policy.choose(0, 3, 1.0)
        assert list(policy.core.view(now=1.0).decisions) == [("m0", name, "selected")]


@pytest.mark.parametrize(("value", "first"), [("0", 0), ("1e-4", 0), ("2e-4", 1)])
def test_the_value_of_time_is_weighed_against_what_a_request_costs(value: str, first: int) -> None:
    # The usual request costs 1,366 and 2,732 millionths of a USD, and takes 10 s at the cheap one, 1 s at the
    # other: from 1366e-6 / 9 = 0.00015 USD a second on, waiting is dearer.
    policy = begun(Ours("ours", {"value_of_time": value}))
    policy.offer(0, [Offer(0, Truth(0.0, 1.0).price), Offer(1, Truth(0.0, 1.0, 2.0, 2.0).price)], 0.0)
    for at in range(1, 31):
        policy.learn(Try(0, "success", 10.0 * at - 10.0, 10.0 * at, 1.0, None, False, None), 10.0 * at)
        policy.learn(Try(1, "success", 10.0 * at - 1.0, 10.0 * at, 1.0, None, False, None), 10.0 * at)
    assert [policy.choose(0, 3, 301.0).order[0] for _ in range(20)] == [first] * 20


def test_all_changes_of_one_moment_are_one_reload_and_nothing_is_lost() -> None:
    policy = begun(Ours("ours", {}), models=2)
    before = policy.core.generation
    for model in (0, 1):
        policy.offer(model, [Offer(2 * model, 1.0), Offer(2 * model + 1, 2.0)], 0.0)
    assert policy.choose(0, 3, 0.0).order[0] == 0
    assert policy.choose(1, 3, 0.0).order[0] == 2
    assert policy.core.generation == before + 1
    policy.learn(tried(0, "success", 5.0), 5.0)
    policy.offer(0, [Offer(0, 3.0), Offer(1, 1.0)], 6.0)
    assert policy.choose(0, 3, 6.0).order[0] == 1
    assert policy.core.generation == before + 2
    assert policy.core.endpoint("m0@0", now=6.0).state == "healthy"


def test_as_many_are_told_as_there_are_places() -> None:
    policy = begun(Ours("ours", {}))
    policy.offer(0, [Offer(0, 1.0), Offer(1, 2.0)], 0.0)
    assert [list(policy.choose(0, places, 1.0).order) for places in (1, 2, 3)] == [[0], [0, 1], [0, 1]]


def test_where_nobody_may_be_asked_the_order_is_empty() -> None:
    policy = begun(Ours("ours", {}))
    policy.offer(0, [Offer(0, 1.0)], 0.0)
    policy.learn(Try(0, "rate_limited", 0.5, 0.6, None, 60.0, False, None), 0.6)
    assert policy.choose(0, 3, 1.0) == Choice(())
    assert list(policy.choose(0, 3, 61.0).order) == [0]
    policy.offer(0, [], 70.0)
    assert policy.choose(0, 3, 70.0) == Choice(())


def test_a_try_is_told_with_all_that_is_known_of_it() -> None:
    policy = begun(Ours("ours", {}))
    policy.offer(0, [Offer(0, 1.0)], 0.0)
    policy.learn(Try(0, "success", 10.0, 14.0, 1.0, None, False, None), 14.0)
    policy.learn(Try(0, "success", 10.0, 16.0, 1.0, None, True, None), 16.0)
    policy.learn(Try(0, "rate_limited", 19.0, 20.0, None, 7.0, False, None), 20.0)
    view = policy.core.endpoint("m0@0", now=20.0)
    assert view.outcomes == {("report", "success"): 1, ("probe", "success"): 1, ("report", "rate_limited"): 1}
    assert (view.latency.sum, view.ttft.sum) == (10.0, 2.0)
    assert (view.state, view.next_at) == ("throttled", 27.0)


# ---- moves -----------------------------------------------------------------------------------------------


def trial(policy: Ours, track: int, at: float) -> None:
    """Ask until the endpoint is tried; it answers well."""
    order, token = policy.choose(0, 3, at)
    assert order[0] == track
    policy.learn(tried(track, "success", at + 1.5, token), at + 1.5)


def test_an_ejection_and_the_way_back_are_told_once_and_the_token_decides_the_trial() -> None:
    policy = begun(Ours("ours", {}))
    policy.offer(0, [Offer(0, 1.0), Offer(1, 10.0)], 0.0)
    for track in (0, 1):
        policy.learn(tried(track, "success", 1.0), 1.0)
    for at in range(5):
        policy.learn(tried(0, "server_error", 10.0 + at), 10.0 + at)
    (out,) = policy.moves()
    assert (out.track, out.out) == (0, True)
    assert 10.0 < out.at <= 14.0  # it may be degraded before it is ejected; that is one move
    assert policy.moves() == []
    assert policy.core.endpoint("m0@0", now=14.0).state == "ejected"
    trial(policy, 0, 60.0)
    assert policy.moves() == [Move(61.5, 0, False)]
    for at in range(20):
        policy.learn(tried(0, "success", 70.0 + at), 70.0 + at)
    assert policy.core.endpoint("m0@0", now=90.0).state == "healthy"
    assert policy.moves() == []


def test_recovered_while_still_degraded_is_out() -> None:
    policy = begun(Ours("ours", {"health.ramp_requests": "1"}))
    policy.offer(0, [Offer(0, 1.0), Offer(1, 500.0)], 0.0)
    policy.learn(tried(1, "success", 1.0), 1.0)
    for at in range(5):
        policy.learn(tried(0, "server_error", 10.0 + at), 10.0 + at)
    assert [each.out for each in policy.moves()] == [True]
    trial(policy, 0, 30.0)
    assert policy.moves() == [Move(31.5, 0, False)]
    policy.learn(tried(0, "server_error", 33.0), 33.0)
    assert policy.moves() == []
    policy.learn(tried(0, "success", 35.0), 35.0)  # slow start is over, and what failed is not forgotten
    told = policy.core.transitions(0)[-1]
    assert (told.event, told.state) == ("endpoint.recovered", "degraded")
    assert policy.moves() == [Move(35.0, 0, True)]
    for at in range(20):
        policy.learn(tried(0, "success", 40.0 + at), 40.0 + at)
    (back,) = policy.moves()
    assert (back.track, back.out) == (0, False)


def test_what_is_only_watched_is_no_move() -> None:
    policy = begun(Ours("ours", {"health.enforce": "false"}))
    policy.offer(0, [Offer(0, 1.0), Offer(1, 1.0)], 0.0)
    for at in range(6):
        policy.learn(tried(0, "server_error", 10.0 + at), 10.0 + at)
    assert policy.core.endpoint("m0@0", now=15.0).state == "ejected"
    assert policy.moves() == []
    assert not policy.demotes
    assert Ours("ours", {}).demotes


def test_a_429_is_no_move() -> None:
    policy = begun(Ours("ours", {}))
    policy.offer(0, [Offer(0, 1.0), Offer(1, 1.0)], 0.0)
    for at in range(3):
        policy.learn(tried(0, "rate_limited", 10.0 + at), 10.0 + at)
    assert policy.moves() == []


def test_what_went_away_is_not_chosen_and_what_was_under_way_there_is_dropped() -> None:
    policy = begun(Ours("ours", {}))
    policy.offer(0, [Offer(0, 1.0), Offer(1, 10.0)], 0.0)
    order, token = policy.choose(0, 3, 1.0)
    assert list(order) == [0, 1]
    policy.offer(0, [Offer(1, 10.0)], 2.0)
    policy.learn(tried(0, "server_error", 3.0, token), 3.0)
    assert list(policy.choose(0, 3, 4.0).order) == [1]
    assert policy.moves() == []
    policy.offer(0, [Offer(0, 1.0), Offer(1, 10.0)], 5.0)
    assert policy.choose(0, 3, 5.0).order[0] == 0
    view = policy.core.endpoint("m0@0", now=5.0)
    assert (view.state, view.outcomes) == ("unverified", {})


def test_who_comes_back_after_going_away_ejected_is_in_again() -> None:
    policy = begun(Ours("ours", {}))
    both = [Offer(0, 1.0), Offer(1, 10.0)]
    policy.offer(0, both, 0.0)
    for at in range(5):
        policy.learn(tried(0, "server_error", 10.0 + at), 10.0 + at)
    assert [each.out for each in policy.moves()] == [True]
    policy.offer(0, both[1:], 20.0)
    policy.choose(0, 3, 20.0)
    policy.offer(0, both, 30.0)
    policy.choose(0, 3, 30.0)
    assert policy.moves() == [Move(30.0, 0, False)]
    for at in range(5):
        policy.learn(tried(0, "server_error", 40.0 + at), 40.0 + at)
    assert [each.out for each in policy.moves()] == [True]


def test_the_same_seed_chooses_the_same_again() -> None:
    orders = []
    for _ in range(2):
        policy = begun(Ours("ours", {"strategy": "price"}))
        policy.offer(0, [Offer(0, 1.0), Offer(1, 1.2)], 0.0)
        orders.append([tuple(policy.choose(0, 3, float(at)).order) for at in range(50)])
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == 2
