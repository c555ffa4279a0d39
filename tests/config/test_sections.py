"""The sections with defaults: of one mind with the values that they become, and laid over them key by key."""

from __future__ import annotations

import dataclasses

import pytest

from balancer.config import ConfigError, parse_config
from balancer.config.sections import (
    BudgetShape,
    ClientCertShape,
    HealthShape,
    LogShape,
    ProbeShape,
    RetryBudgetShape,
    RoutingShape,
    StickyShape,
    TimeoutsShape,
)
from balancer.config.settings import (
    Budget,
    ClientCert,
    LogSettings,
    ProbeSettings,
    RetentionSettings,
    StoreSettings,
)
from balancer.config.shape import LimitsShape, ModelHealthShape, PricingShape
from balancer.config.storing import RetentionShape, StoreShape
from balancer.core.model import (
    HealthPolicy,
    Limits,
    Pricing,
    RetryPolicy,
    Routing,
    StickyPolicy,
    StrategyName,
    TimeoutPolicy,
)

STRATEGIES: tuple[StrategyName, ...] = ("adaptive", "price", "weighted", "least_loaded")
BASE = """
providers: {a: {base_url: "https://a.example"}}
models: {x/y: {endpoints: [{provider: a, model: m}]}}
"""


def routing(text: str) -> Routing:
    return parse_config(f"{BASE}routing: {text}", source="t.yaml").routing


@pytest.mark.parametrize(
    ("section", "value"),
    [
        (RoutingShape, Routing), (StickyShape, StickyPolicy), (TimeoutsShape, TimeoutPolicy),
        (RetryBudgetShape, RetryPolicy), (HealthShape, HealthPolicy), (ProbeShape, ProbeSettings),
        (BudgetShape, Budget), (ClientCertShape, ClientCert), (LogShape, LogSettings),
        (PricingShape, Pricing), (LimitsShape, Limits),
        (StoreShape, StoreSettings), (RetentionShape, RetentionSettings),
    ],
)  # fmt: skip
def test_a_section_has_exactly_the_keys_of_the_value_that_it_becomes(section: type, value: type) -> None:
    found = {"variables"} if value is ProbeSettings else set()  # in other values, and not written
    assert set(section.__struct_fields__) | found == {field.name for field in dataclasses.fields(value)}


def test_a_model_may_say_of_health_only_what_the_top_level_says_too() -> None:
    assert set(ModelHealthShape.__struct_fields__) < set(HealthShape.__struct_fields__)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_of_the_core_can_be_asked_for(name: StrategyName) -> None:
    assert routing(f"{{strategy: {name}}}").strategy == name


def test_a_sort_is_no_strategy() -> None:
    with pytest.raises(ConfigError, match="use adaptive, price, weighted, least_loaded"):
        routing("{strategy: throughput}")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("{sticky: {ttl: 1h}}", Routing(sticky=StickyPolicy(ttl=3600.0))),
        ("{sticky: {max_sessions: 7}}", Routing(sticky=StickyPolicy(max_sessions=7))),
        ("{timeouts: {connect: 500ms}}", Routing(timeouts=TimeoutPolicy(connect=0.5))),
        ("{timeouts: {first_token_min: 1s, first_token_max: 2m}}",
         Routing(timeouts=TimeoutPolicy(first_token_min=1.0, first_token_max=120.0))),
        ("{timeouts: {total_min: 10m}}", Routing(timeouts=TimeoutPolicy(total_min=600.0))),
        ("{timeouts: {total_max: 30s}}", Routing(timeouts=TimeoutPolicy(total_max=30.0))),
        ("{retry_budget: {ratio: 0}}", Routing(retry_budget=RetryPolicy(ratio=0))),
        ("{retry_budget: {floor: 0}}", Routing(retry_budget=RetryPolicy(floor=0))),
        ("{fallbacks: 1, sticky: , timeouts: , retry_budget: }", Routing(fallbacks=1)),
        ("{sticky: {}, timeouts: {}, retry_budget: {}}", Routing()),
        ("{sticky: {ttl: 1m}, timeouts: {connect: 1s}, retry_budget: {floor: 1}}",
         Routing(
             sticky=StickyPolicy(ttl=60.0), timeouts=TimeoutPolicy(connect=1.0), retry_budget=RetryPolicy(floor=1)
         )),
    ],
)  # fmt: skip
def test_a_section_inside_a_section_changes_only_the_keys_that_it_gives(text: str, same: Routing) -> None:
    assert routing(text) == same


def test_seconds_are_plain_floats_however_deep_they_stand() -> None:
    policy = routing("{sticky: {ttl: 1h}, timeouts: {connect: 1s}}")
    assert {type(policy.sticky.ttl), type(policy.timeouts.connect)} == {float}
