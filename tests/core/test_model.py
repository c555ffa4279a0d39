from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args

import pytest

from balancer.core import model
from balancer.core.model import (
    MODALITIES,
    QUANTIZATION_FAMILIES,
    QUANTIZATIONS,
    STATES,
    Endpoint,
    HealthPolicy,
    NoEndpoint,
    Refusal,
    Request,
    Routing,
)

VALUES = [value for value in vars(model).values() if isinstance(value, type) and is_dataclass(value)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_every_value_is_frozen_slotted_and_given_by_keyword(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(value)
    assert all(field.kw_only for field in fields(value))


def test_states_are_the_contracts_in_the_contracts_order() -> None:
    assert STATES == (
        "drained",
        "misconfigured",
        "ejected",
        "half_open",
        "throttled",
        "recovering",
        "degraded",
        "unverified",
        "healthy",
    )


def test_the_defaults_are_the_contracts() -> None:
    assert Routing() == Routing(
        strategy="adaptive", failure_price=15.0, value_of_time=0.0, fallbacks=3, valid_for=5.0
    )
    assert HealthPolicy() == HealthPolicy(
        windows=(30.0, 300.0, 1800.0, 86400.0),
        consecutive_failures=5,
        error_ratio=0.2,
        min_outcomes=5,
        hold=10.0,
        hold_max=300.0,
        throttle_max=300.0,
        ramp_requests=10,
    )


def test_what_a_request_does_not_say_is_unknown_and_not_zero() -> None:
    request = Request(model="author/slug")
    assert (request.prompt_tokens, request.max_tokens, request.region, request.count) == (None, None, None, None)
    assert request.provider.allow_fallbacks


def test_an_endpoint_cannot_be_changed(endpoint: Callable[..., Endpoint]) -> None:
    with pytest.raises(FrozenInstanceError):
        endpoint().priority = 1  # type: ignore[misc]


def test_words_are_distinct_and_families_are_made_of_them() -> None:
    for words in (QUANTIZATIONS, MODALITIES, STATES, get_args(Refusal)):
        assert len(set(words)) == len(words)
    for family, members in QUANTIZATION_FAMILIES.items():
        assert family in members <= set(QUANTIZATIONS)


def test_a_refusal_carries_its_facts_and_its_message() -> None:
    refusal = NoEndpoint("unavailable", "nobody is there", model="author/slug", excluded_by=("drained",))
    assert str(refusal) == refusal.message == "nobody is there"
    assert (refusal.code, refusal.model, refusal.excluded_by) == ("unavailable", "author/slug", ("drained",))
    assert (refusal.near, refusal.retry_after, refusal.considered) == ((), None, ())
