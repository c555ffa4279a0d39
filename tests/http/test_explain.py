"""Why a decision is what it is, in OpenRouter's words and in ours."""

from dataclasses import fields

import msgspec

from balancer.core.model import (
    Catalog,
    Considered,
    Decision,
    Endpoint,
    RetryBudget,
    Selected,
    Timeouts,
)
from balancer.core.request import Request
from balancer.http.explain import asked_models, explained

NAMES = ("near", "far", "gone")
CATALOG = Catalog(
    endpoints={
        f"m@{name}": Endpoint(
            id=f"m@{name}",
            model="m",
            tag=name,
            provider=name,
            provider_name=name.title(),
            upstream_model=f"{name}-m",
            base_url="https://x.test",
        )
        for name in NAMES
    }
)
LINES = tuple(
    Considered(
        id=f"m@{name}",
        state="healthy",
        score=None if name == "gone" else 1.0,
        weight=1.0,
        share=0.5,
        excluded_by=("max_price",) if name == "gone" else (),
        why="",
    )
    for name in NAMES
)
DECISION = Decision(
    id="dec_1",
    model="m",
    strategy="sort:price",
    selected=Selected(
        id="m@far",
        tag="far",
        provider="far",
        model="far-m",
        base_url="https://x.test",
        api="openai",
        state="healthy",
        timeouts=Timeouts(connect=1.0, first_token=1.0, total=1.0),
    ),
    fallbacks=(),
    panic=False,
    trial=False,
    sticky=False,
    valid_for=5.0,
    evidence_age=None,
    retry_budget=RetryBudget(share=0.0, exhausted=False),
)


def test_what_could_be_chosen_is_named_as_people_name_it() -> None:
    explain = explained(Request(model="M:floor", exclude=("a", "b")), LINES, CATALOG, DECISION)
    assert explain.requested == "M:floor"
    assert (explain.strategy, explain.region, explain.attempt) == ("sort:price", None, 3)
    assert explain.summary == "available=2, selected=Far"
    assert explain.endpoints.total == 3
    assert [(each.provider, each.model, each.selected) for each in explain.endpoints.available] == [
        ("Near", "near-m", False),
        ("Far", "far-m", True),
    ]
    assert explain.considered == LINES


def test_a_refusal_selected_nothing_and_ranked_nothing() -> None:
    explain = explained(Request(models=("b", "c"), region="eu"), LINES[2:], CATALOG)
    assert (explain.requested, explain.strategy, explain.region) == ("b", None, "eu")
    assert (explain.summary, explain.endpoints.total) == ("available=0", 1)
    assert explain.understood == {"models": ("b", "c"), "region": "eu"}


def test_every_figure_of_an_endpoint_is_answered() -> None:
    explain = explained(Request(model="m"), LINES, CATALOG)
    (first, *_) = msgspec.json.decode(msgspec.json.encode(explain))["considered"]
    assert set(first) == {each.name for each in fields(Considered)}


def test_asked_models_are_told_once_and_in_order() -> None:
    assert asked_models(Request(model="A", models=("b", "a", "b"))) == ("A", "b", "a")
    assert asked_models(Request(models=("b",))) == ("b",)
