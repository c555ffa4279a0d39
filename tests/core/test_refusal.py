"""Refusals, asked through the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.balancer import Balancer
from balancer.core.eligibility import FILTERS
from balancer.core.model import (
    Catalog,
    Constraint,
    Endpoint,
    Limits,
    Model,
    NoEndpoint,
    PriceOverride,
    Pricing,
    Refusal,
)
from balancer.core.outcome import Outcome
from balancer.core.refusal import FIELDS, OFFERS_MAX, SHOWN_MAX, STORIES_MAX, UNKNOWN_MODEL
from balancer.core.request import Request

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]

MODEL, SECOND = "author/slug", "author/second"
MONDAY = 1_767_571_200.0  # 2026-01-05 00:00 UTC


def refused(table: Balancer, request: Request, *, now: float = 0.0) -> NoEndpoint:
    with pytest.raises(NoEndpoint) as caught:
        table.best(request, now=now)
    return caught.value


def throttle(table: Balancer, tag: str, wait: float, *, now: float) -> None:
    limited = Outcome(kind="rate_limited", status=429, retry_after=wait)
    table.record(f"{MODEL}@{tag}", limited, now=now)


# ---- every code --------------------------------------------------------------------------------------


def no_model(table: Balancer) -> Request:
    return Request(model="nobody/has-it")


def filtered(table: Balancer) -> Request:
    return Request(model=MODEL, region="eu")


def private(table: Balancer) -> Request:
    return Request(model=MODEL, provider={"zdr": True})


def drained(table: Balancer) -> Request:
    table.drain(MODEL, now=0.0)
    return Request(model=MODEL)


def limited(table: Balancer) -> Request:
    for tag in ("a", "b"):
        throttle(table, tag, 30.0, now=0.0)
    return Request(model=MODEL)


CODES: dict[Refusal, tuple[Callable[[Balancer], Request], tuple[str, ...], float | None]] = {
    "model_not_found": (no_model, (), None),
    "constraint_filtered": (filtered, ("data_region",), None),
    "privacy_restricted": (private, ("data_policy:zdr",), None),
    "unavailable": (drained, ("drained",), None),
    "capacity_exhausted": (limited, ("throttled",), 30.0),
}


@pytest.mark.parametrize("code", get_args(Refusal))
def test_every_code_is_reached_counted_and_says_whether_waiting_helps(
    endpoint: MakeEndpoint, catalog: MakeCatalog, code: Refusal
) -> None:
    happened, excluded_by, retry_after = CODES[code]
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    refusal = refused(table, happened(table))
    assert (refusal.code, refusal.excluded_by, refusal.retry_after) == (code, excluded_by, retry_after)
    assert refusal.retryable is (retry_after is not None)
    model = UNKNOWN_MODEL if code == "model_not_found" else MODEL
    assert refusal.model == model
    assert dict(table.view(now=0.0).decisions) == {(model, "adaptive", code): 1}
    assert str(refusal) == refusal.message
    assert (refusal.constraint is None) is (code not in ("constraint_filtered", "privacy_restricted"))


def test_a_dry_refusal_is_not_counted(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    for request in (ask(region="eu"), ask("nobody/has-it")):
        for how in ({"dry": True}, {"explain": True}):
            with pytest.raises(NoEndpoint):
                table.best(request, now=0.0, **how)
    assert dict(table.view(now=0.0).decisions) == {}


BOTH = ("data_policy:training", "data_policy:zdr")


@pytest.mark.parametrize(
    ("wanted", "code", "excluded_by"),
    [
        ({"region": "eu"}, "constraint_filtered", ("data_region",)),
        ({"exclude": ("a", "b")}, "constraint_filtered", ("already_tried",)),
        ({"only": ("nobody",)}, "constraint_filtered", ("allowed_providers",)),
        ({"only": ("a",), "ignore": ("a",)}, "constraint_filtered", ("ignored_providers", "allowed_providers")),
        ({"data_collection": "deny"}, "privacy_restricted", ("data_policy:training",)),
        ({"zdr": True, "data_collection": "deny"}, "privacy_restricted", BOTH),
        ({"zdr": True, "region": "eu"}, "constraint_filtered", ("data_policy:zdr", "data_region")),
        ({"zdr": True, "ignore": ("a",)}, "privacy_restricted", ("ignored_providers", "data_policy:zdr")),
        ({"zdr": True, "ignore": ("a", "b")}, "constraint_filtered", ("ignored_providers", "data_policy:zdr")),
    ],
)  # fmt: skip
def test_privacy_is_the_reason_where_it_alone_rules_somebody_out(
    endpoint: MakeEndpoint,
    catalog: MakeCatalog,
    ask: MakeRequest,
    wanted: dict[str, Any],
    code: str,
    excluded_by: tuple[str, ...],
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)
    refusal = refused(table, ask(**wanted))
    assert (refusal.code, refusal.excluded_by) == (code, excluded_by)
    assert refusal.message.startswith("none of the 2 endpoints of author/slug passes the request's filters: ")
    assert refusal.message.endswith(", ".join(excluded_by))


# ---- the constraint ----------------------------------------------------------------------------------

ALWAYS = {"max_price", "service_tier"}  # the filters that are asked otherwise than by FILTERS


def test_every_filter_comes_from_a_field_of_the_request() -> None:
    assert FIELDS.keys() == FILTERS.keys() | ALWAYS


PRICED = Pricing(prompt=2.0, completion=8.0)
# filter → what the endpoint is, what is asked, what the detail offers
TABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "context_length": (
        {"context_length": 1000}, {"prompt_tokens": 900, "max_tokens": 200},
        "1100 tokens in and out were asked for, the longest context is 1000",
    ),
    "max_prompt_tokens": (
        {"max_prompt_tokens": 500}, {"prompt_tokens": 501}, "501 tokens were asked for, at most 500 are allowed",
    ),
    "max_completion_tokens": (
        {"max_completion_tokens": 50}, {"max_tokens": 51}, "51 tokens were asked for, at most 50 are allowed",
    ),
    "allowed_providers": ({}, {"only": ("nobody",)}, "there is a"),
    "ignored_providers": ({}, {"ignore": ("a",)}, "there is a"),
    "quantization": ({"quantization": "fp8"}, {"quantizations": ("fp16",)}, "there is fp8"),
    "max_price": (
        {"pricing": PRICED}, {"max_price_completion": 7.0},
        "the cheapest asks 2 and 8 USD per million tokens sent and received",
    ),
    "data_policy:training": ({}, {"data_collection": "deny"}, ""),
    "data_policy:zdr": ({}, {"zdr": True}, ""),
    "distillable_text": ({}, {"enforce_distillable_text": True}, ""),
    "require_parameters": ({}, {"require": ("seed",), "require_parameters": True}, ""),
    "input_modalities": ({}, {"input_modalities": ("image",)}, ""),
    "output_modalities": ({}, {"output_modalities": ("image",)}, ""),
    "data_region": ({"region": "us"}, {"region": "eu"}, "there is us"),
    "service_tier": ({"tier": "flex"}, {}, ""),
    "already_tried": ({}, {"exclude": ("a",)}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_the_constraint_names_the_field_and_what_there_is(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, name: str
) -> None:
    fields, wanted, offer = TABLE[name]
    table = Balancer(catalog(endpoint("a", **fields)), seed=1)
    refusal = refused(table, ask(**wanted))
    assert refusal.excluded_by == (name,)
    detail = "rules out 1 of 1 endpoints" + (f"; {offer}" if offer else "")
    assert refusal.constraint == Constraint(field=FIELDS[name], detail=detail)


def test_an_order_without_fallbacks_is_the_constraint_where_nothing_else_allows_providers(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a")), seed=1)
    refusal = refused(table, ask(order=("nobody",), allow_fallbacks=False))
    assert refusal.excluded_by == ("allowed_providers",)
    assert refusal.constraint == Constraint(field="provider.order", detail="rules out 1 of 1 endpoints; there is a")
    both = refused(table, ask(order=("a",), only=("nobody",), allow_fallbacks=False))
    assert both.constraint is not None
    assert both.constraint.field == "provider.only"


def test_the_fields_are_those_of_a_request(ask: MakeRequest) -> None:
    request = ask()
    for field in FIELDS.values():
        outer, _, inner = field.partition(".")
        if inner == "max_price":
            inner = "max_price_prompt"
        assert hasattr(request, outer), field
        assert not inner or hasattr(request.provider, inner), field


def test_the_filter_that_rules_out_most_is_named_and_the_best_of_what_there_is(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(
        catalog(
            endpoint("a", context_length=1000, region="eu"),
            endpoint("b", context_length=3000, region="us"),
            endpoint("c", context_length=None, region="us"),
            endpoint("d", context_length=2000, region=None),
        ),
        seed=1,
    )
    refusal = refused(table, ask(prompt_tokens=5000, region="eu"))
    assert refusal.constraint == Constraint(
        field="prompt_tokens",
        detail="rules out 3 of 4 endpoints; 5000 tokens in and out were asked for, the longest context is 3000",
    )
    refusal = refused(table, ask(region="asia"))
    assert refusal.constraint is not None
    assert refusal.constraint.detail == "rules out 4 of 4 endpoints; there is eu, us, unknown"


def test_the_price_that_is_told_is_the_one_in_force(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    overrides = (
        PriceOverride(min_prompt_tokens=1000, prompt=4.0),
        PriceOverride(start=0, end=360, completion=1.0),
    )
    pricing = Pricing(prompt=2.0, completion=8.0, overrides=overrides)
    table = Balancer(catalog(endpoint("a", pricing=pricing)), seed=1)

    def told(prompt_tokens: int, now: float) -> str:
        refusal = refused(table, ask(prompt_tokens=prompt_tokens, max_price_prompt=1.0), now=now)
        assert refusal.constraint is not None
        return refusal.constraint.detail.partition("asks ")[2]

    assert told(1000, 0.0).startswith("2 and 8 USD")
    assert told(1001, 0.0).startswith("4 and 8 USD")
    table.set_wall(MONDAY, now=0.0)
    assert told(1000, 10.0).startswith("2 and 1 USD")
    assert told(1000, 6 * 3600.0).startswith("2 and 8 USD")


def test_the_cheapest_is_told_and_silence_is_called_so(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a", price=5.0), endpoint("b", price=3.0), endpoint("c", price=None)), seed=1)
    refusal = refused(table, ask(max_price_prompt=1.0))
    assert refusal.constraint is not None
    assert refusal.constraint.detail.startswith("rules out 3 of 3 endpoints; the cheapest asks 3 and 3 USD")
    silent = Balancer(catalog(endpoint("a", price=None), endpoint("b", pricing=Pricing(prompt=9.0))), seed=1)
    refusal = refused(silent, ask(max_price_prompt=1.0))
    assert refusal.constraint is not None
    assert refusal.constraint.detail == "rules out 2 of 2 endpoints; none of them tells both prices"


def test_a_long_list_of_what_there_is_is_cut(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    tags = [f"p{place}" for place in range(OFFERS_MAX + 3)]
    table = Balancer(catalog(*map(endpoint, tags)), seed=1)
    refusal = refused(table, ask(only=("nobody",)))
    assert refusal.constraint is not None
    assert refusal.constraint.detail.endswith(f"there is {', '.join(tags[:OFFERS_MAX])} and 3 more")


asks = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": st.sampled_from((10, 5000)),
        "max_tokens": st.sampled_from((10, 5000)),
        "only": st.just(("a",)),
        "ignore": st.sampled_from((("a",), ("a", "b"))),
        "order": st.just(("b",)),
        "allow_fallbacks": st.booleans(),
        "quantizations": st.just(("fp8",)),
        "max_price_prompt": st.sampled_from((0.5, 1.0)),
        "zdr": st.booleans(),
        "region": st.just("eu"),
        "exclude": st.sampled_from((("a",), ("author/slug@b",))),
        "require": st.just(("tools", "seed")),
        "require_parameters": st.booleans(),
        "service_tier": st.sampled_from(("flex", "priority")),
        "models": st.just((SECOND,)),
    },
)


@given(asks)
def test_a_refusal_names_exactly_the_filters_that_rule_out_and_one_of_them_as_the_constraint(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, wanted: dict[str, Any]
) -> None:
    table = Balancer(
        catalog(
            endpoint("a", context_length=1000, zdr=True),
            endpoint("b", max_completion_tokens=100, region="eu", price=0.6),
            endpoint("c/flex", tier="flex", supported_parameters=frozenset()),
            endpoint("d", model=SECOND, quantization="fp8", supported_parameters=frozenset({"tools"})),
        ),
        seed=1,
    )
    try:
        table.best(ask(**wanted), now=0.0)
    except NoEndpoint as refusal:
        found = refusal
    else:
        return
    with pytest.raises(NoEndpoint) as caught:
        table.best(ask(**wanted), now=0.0, explain=True)
    names = {name for line in caught.value.considered for name in line.excluded_by}
    assert set(found.excluded_by) == names
    assert len(found.excluded_by) == len(names)
    assert found.constraint is not None
    fields = {FIELDS[name] for name in names}
    if "only" not in wanted and "provider.only" in fields:
        fields = fields - {"provider.only"} | {"provider.order"}  # it was the order that allows nobody else
    assert found.constraint.field in fields


# ---- what only others can mend -----------------------------------------------------------------------


def test_the_smallest_wait_is_told_where_all_are_held_by_quota(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), endpoint("c", misconfigured="no key")), seed=1)
    throttle(table, "a", 40.0, now=10.0)
    throttle(table, "b", 25.0, now=10.0)
    refusal = refused(table, ask(), now=15.0)
    assert (refusal.code, refusal.retry_after) == ("capacity_exhausted", 20.0)
    assert refusal.excluded_by == ("throttled", "misconfigured")
    assert refusal.message == (
        "every usable endpoint of author/slug that passes the request's filters is rate limited; "
        "the first hold ends in 20.0 s"
    )
    assert table.best(ask(), now=35.0).selected.tag == "b"


def test_an_operators_limit_is_a_quota_too_and_its_wait_is_kept(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a", limits=Limits(rpm=1), quota="q"), endpoint("b")), seed=1)
    table.best(ask(only=("a",)), now=0.0)
    throttle(table, "b", 300.0, now=1.0)
    refusal = refused(table, ask(), now=10.0)
    assert (refusal.code, refusal.excluded_by) == ("capacity_exhausted", ("limits", "throttled"))
    assert refusal.retry_after is not None
    assert 45.0 <= refusal.retry_after <= 52.0
    assert table.best(ask(), now=10.0 + refusal.retry_after).selected.tag == "a"


def test_who_is_held_twice_waits_for_the_later(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a", limits=Limits(rpm=1), quota="q")), seed=1)
    table.best(ask(), now=0.0)
    throttle(table, "a", 200.0, now=1.0)
    assert refused(table, ask(), now=1.0).retry_after == 200.0


def test_a_drained_one_at_its_limit_is_drained(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a", limits=Limits(rpm=1), quota="q")), seed=1)
    table.best(ask(), now=0.0)
    table.drain("a", now=1.0)
    refusal = refused(table, ask(), now=2.0)
    assert (refusal.code, refusal.excluded_by) == ("unavailable", ("drained",))


def test_what_only_the_operator_can_mend_is_unavailable_and_says_why(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", misconfigured="B_KEY is not set")), seed=1)
    table.drain("a", now=0.0, reason="maintenance")
    refusal = refused(table, ask(), now=1.0)
    assert (refusal.code, refusal.excluded_by) == ("unavailable", ("drained", "misconfigured"))
    assert refusal.message == (
        "no endpoint of author/slug can be called: author/slug@a: maintenance; author/slug@b: B_KEY is not set"
    )


def test_a_long_story_is_cut(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    tags = [f"p{place}" for place in range(STORIES_MAX + 5)]
    table = Balancer(catalog(*(endpoint(tag, misconfigured="no key") for tag in tags)), seed=1)
    refusal = refused(table, ask())
    assert refusal.message.count("no key") == STORIES_MAX
    assert refusal.message.endswith("; and 5 more")


def test_filtered_endpoints_are_no_part_of_what_is_unavailable(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", region="eu")), seed=1)
    table.drain("b", now=0.0)
    refusal = refused(table, ask(region="eu"))
    assert (refusal.code, refusal.excluded_by, refusal.constraint) == ("unavailable", ("drained",), None)


# ---- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("author/slg", ("author/slug",)),
        ("AUTHOR/SLUGG", ("author/slug",)),
        ("slug-alia", ("slug-alias",)),
        ("author/slug:nitrous", ("author/slug",)),
        ("nothing/like-it-at-all", ()),
        ("x" * SHOWN_MAX, ()),
    ],
)
def test_an_unknown_model_is_refused_with_close_names(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest, name: str, near: tuple[str, ...]
) -> None:
    table = Balancer(catalog(endpoint(), aliases={MODEL: ("slug-alias",)}), seed=1)
    refusal = refused(table, ask(name))
    assert (refusal.code, refusal.near[:1], refusal.model) == ("model_not_found", near, UNKNOWN_MODEL)
    assert len(refusal.message) <= SHOWN_MAX + 200
    assert all(close in refusal.message for close in near)


def test_several_unknown_models_are_counted(endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest) -> None:
    table = Balancer(catalog(endpoint()), seed=1)
    refusal = refused(table, ask("one/two", models=("three/four", "five/six")))
    assert refusal.message == "no model 'one/two' nor 2 more"
    assert refused(table, ask("", models=("three/four",))).message == "no model 'three/four'"
    assert table.best(ask("one/two", models=(MODEL,)), now=0.0).model == MODEL


def test_a_model_without_endpoints_is_filtered_by_nothing(catalog: MakeCatalog, ask: MakeRequest) -> None:
    empty = Catalog(models={MODEL: Model(id=MODEL, name=MODEL)})
    refusal = refused(Balancer(empty, seed=1), ask())
    assert (refusal.excluded_by, refusal.constraint, refusal.retryable) == ((), None, False)
