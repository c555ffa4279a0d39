from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args

import pytest

from balancer.core import model
from balancer.core.model import (
    MODALITIES,
    QUANTIZATIONS,
    STATES,
    Decision,
    Endpoint,
    HealthPolicy,
    Model,
    NoEndpoint,
    Refusal,
    RetryBudget,
    Routing,
    enforced,
)
from balancer.core.request import Request

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
        enforce=True,
        windows=(30.0, 300.0, 1800.0, 86400.0),
        consecutive_failures=5,
        error_ratio=0.2,
        min_outcomes=5,
        hold=10.0,
        hold_max=300.0,
        throttle_max=300.0,
        ramp_requests=10,
    )


@pytest.mark.parametrize(
    ("policy", "own", "holds"),
    [
        (True, None, True),
        (True, True, True),
        (True, False, False),
        (False, None, False),
        (False, True, True),
        (False, False, False),
    ],
)
def test_a_models_own_word_on_enforcing_wins(policy: bool, own: bool | None, holds: bool) -> None:
    model = Model(id="author/slug", name="Slug", enforce=own)
    assert enforced(model, HealthPolicy(enforce=policy)) is holds


def test_what_a_request_does_not_say_is_unknown_and_not_zero() -> None:
    request = Request(model="author/slug")
    assert (request.prompt_tokens, request.max_tokens, request.region, request.count) == (None, None, None, None)
    assert request.provider.allow_fallbacks


def test_an_endpoint_cannot_be_changed(endpoint: Callable[..., Endpoint]) -> None:
    with pytest.raises(FrozenInstanceError):
        endpoint().priority = 1  # type: ignore[misc]


def test_an_endpoint_that_is_no_copy_is_its_own_door(endpoint: Callable[..., Endpoint]) -> None:
    assert endpoint("alpha/eu").door == "alpha/eu"
    assert endpoint("alpha/eu:2", door="alpha/eu").door == "alpha/eu"


def test_a_decision_is_a_value_that_cannot_be_changed() -> None:
    given = {
        "id": "dec_1",
        "model": "author/slug",
        "strategy": "adaptive",
        "selected": None,
        "fallbacks": (),
        "panic": False,
        "trial": False,
        "sticky": False,
        "valid_for": 5.0,
        "evidence_age": None,
        "retry_budget": RetryBudget(share=0.0, exhausted=False),
    }
    decision = Decision(**given)  # type: ignore[arg-type]
    assert decision == Decision(**given)  # type: ignore[arg-type]
    assert decision.considered == ()
    with pytest.raises(AttributeError):
        decision.panic = True  # type: ignore[misc]


def test_words_are_distinct() -> None:
    for words in (QUANTIZATIONS, MODALITIES, STATES, get_args(Refusal)):
        assert len(set(words)) == len(words)


def test_a_refusal_carries_its_facts_and_its_message() -> None:
    refusal = NoEndpoint("unavailable", "nobody is there", model="author/slug", excluded_by=("drained",))
    assert str(refusal) == refusal.message == "nobody is there"
    assert (refusal.code, refusal.model, refusal.excluded_by) == ("unavailable", "author/slug", ("drained",))
    assert (refusal.near, refusal.retry_after, refusal.considered) == ((), None, ())
    assert refusal.constraint is None


@pytest.mark.parametrize(("retry_after", "retryable"), [(None, False), (0.0, True), (20.0, True)])
def test_a_refusal_that_names_a_wait_is_retryable(retry_after: float | None, retryable: bool) -> None:
    refusal = NoEndpoint("capacity_exhausted", "full", model="author/slug", retry_after=retry_after)
    assert refusal.retryable == retryable
