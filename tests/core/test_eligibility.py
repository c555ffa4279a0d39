from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.eligibility import (
    FILTERS,
    PRIVACY,
    QUANTIZATION_BITS,
    QUANTIZATION_FAMILIES,
    asked,
    excluded_by,
    matches,
    order_rank,
    out_of_tier,
    soft_excluded,
    supports,
)
from balancer.core.model import QUANTIZATIONS, SOFT_PARAMETERS, Endpoint, PriceOverride, Pricing, Tier
from balancer.core.request import OR_BETTER, PRECISIONS, Preferences, Request

MakeEndpoint = Callable[..., Endpoint]
MakeRequest = Callable[..., Request]


def gone(endpoint: Endpoint, request: Request) -> tuple[str, ...]:
    return excluded_by(endpoint, request, asked(request))


PRICED = Pricing(prompt=1.0, completion=4.0)
HALF_PRICED = Pricing(prompt=1.0)

# filter, what the endpoint is, what is asked, whether it is ruled out
TABLE: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("context_length", {"context_length": 1000}, {"prompt_tokens": 1000}, False),
    ("context_length", {"context_length": 1000}, {"prompt_tokens": 1001}, True),
    ("context_length", {"context_length": 1000}, {"prompt_tokens": 900, "max_tokens": 100}, False),
    ("context_length", {"context_length": 1000}, {"prompt_tokens": 900, "max_tokens": 101}, True),
    ("context_length", {"context_length": None}, {"prompt_tokens": 10**9}, False),
    ("context_length", {"context_length": 1000}, {}, False),
    ("context_length", {"context_length": 1000}, {"max_tokens": 500}, False),
    ("max_prompt_tokens", {"max_prompt_tokens": 10}, {"prompt_tokens": 10}, False),
    ("max_prompt_tokens", {"max_prompt_tokens": 10}, {"prompt_tokens": 11}, True),
    ("max_prompt_tokens", {"max_prompt_tokens": None}, {"prompt_tokens": 11}, False),
    ("max_prompt_tokens", {"max_prompt_tokens": 10}, {}, False),
    ("max_completion_tokens", {"max_completion_tokens": 10}, {"max_tokens": 10}, False),
    ("max_completion_tokens", {"max_completion_tokens": 10}, {"max_tokens": 11}, True),
    ("max_completion_tokens", {"max_completion_tokens": None}, {"max_tokens": 11}, False),
    ("max_completion_tokens", {"max_completion_tokens": 10}, {}, False),
    ("allowed_providers", {}, {"only": ("alpha",)}, False),
    ("allowed_providers", {}, {"only": ("beta", "ALPHA")}, False),
    ("allowed_providers", {}, {"only": ("beta",)}, True),
    ("allowed_providers", {}, {"only": ("alp",)}, True),
    ("allowed_providers", {}, {"order": ("beta",)}, False),
    ("allowed_providers", {}, {"order": ("beta",), "allow_fallbacks": False}, True),
    ("allowed_providers", {}, {"order": ("beta", "alpha"), "allow_fallbacks": False}, False),
    ("allowed_providers", {}, {"only": ("alpha",), "order": ("beta",), "allow_fallbacks": False}, True),
    ("allowed_providers", {}, {"allow_fallbacks": False}, False),
    ("ignored_providers", {}, {"ignore": ("alpha",)}, True),
    ("ignored_providers", {}, {"ignore": ("Alpha",)}, True),
    ("ignored_providers", {}, {"ignore": ("beta",)}, False),
    ("ignored_providers", {}, {}, False),
    ("quantization", {"quantization": "fp8"}, {"quantizations": ("fp8",)}, False),
    ("quantization", {"quantization": "fp4"}, {"quantizations": ("fp8",)}, True),
    ("quantization", {"quantization": "fp4"}, {"quantizations": ("fp8", "fp4")}, False),
    ("quantization", {"quantization": "mxfp8"}, {"quantizations": ("fp8",)}, False),
    ("quantization", {"quantization": "fp8"}, {"quantizations": ("mxfp8",)}, True),
    ("quantization", {"quantization": "nvfp4"}, {"quantizations": ("fp4",)}, False),
    ("quantization", {"quantization": "nvfp4"}, {"quantizations": ("mxfp4",)}, True),
    ("quantization", {"quantization": "unknown"}, {"quantizations": ("fp8",)}, True),
    ("quantization", {"quantization": "unknown"}, {"quantizations": ("unknown",)}, False),
    ("quantization", {"quantization": "fp4"}, {}, False),
    ("quantization", {"quantization": "fp8"}, {"quantizations": ("fp8-or-better",)}, False),
    ("quantization", {"quantization": "int8"}, {"quantizations": ("fp8-or-better",)}, False),
    ("quantization", {"quantization": "bf16"}, {"quantizations": ("fp8-or-better",)}, False),
    ("quantization", {"quantization": "unknown"}, {"quantizations": ("fp8-or-better",)}, False),
    ("quantization", {"quantization": "fp6"}, {"quantizations": ("fp8-or-better",)}, True),
    ("quantization", {"quantization": "int4"}, {"quantizations": ("FP8-or-better",)}, True),
    ("quantization", {"quantization": "int4"}, {"quantizations": ("fp8-or-better", "int4")}, False),
    ("quantization", {"quantization": "fp16"}, {"quantizations": ("fp32-or-better",)}, True),
    ("max_price", {"pricing": PRICED}, {"max_price_prompt": 1.0}, False),
    ("max_price", {"pricing": PRICED}, {"max_price_prompt": 0.99}, True),
    ("max_price", {"pricing": PRICED}, {"max_price_completion": 4.0}, False),
    ("max_price", {"pricing": PRICED}, {"max_price_completion": 3.99}, True),
    ("max_price", {"pricing": PRICED}, {"max_price_prompt": 9.0, "max_price_completion": 1.0}, True),
    ("max_price", {"pricing": HALF_PRICED}, {"max_price_prompt": 1.0}, False),
    ("max_price", {"pricing": HALF_PRICED}, {"max_price_completion": 100.0}, True),
    ("max_price", {"pricing": Pricing(prompt=0.0, completion=0.0)}, {"max_price_prompt": 0.0}, False),
    ("max_price", {"pricing": Pricing()}, {}, False),
    ("data_policy:training", {"data_collection": "allow"}, {"data_collection": "deny"}, True),
    ("data_policy:training", {"data_collection": "deny"}, {"data_collection": "deny"}, False),
    ("data_policy:training", {"data_collection": "allow"}, {}, False),
    ("data_policy:zdr", {"zdr": False}, {"zdr": True}, True),
    ("data_policy:zdr", {"zdr": True}, {"zdr": True}, False),
    ("data_policy:zdr", {"zdr": False}, {}, False),
    ("distillable_text", {"distillable": True}, {"enforce_distillable_text": True}, False),
    ("distillable_text", {"distillable": False}, {"enforce_distillable_text": True}, True),
    ("distillable_text", {"distillable": None}, {"enforce_distillable_text": True}, True),
    ("distillable_text", {"distillable": None}, {}, False),
    (
        "require_parameters",
        {"supported_parameters": frozenset({"tools", "seed"})},
        {"require": ("tools", "seed"), "require_parameters": True},
        False,
    ),
    (
        "require_parameters",
        {"supported_parameters": frozenset({"tools"})},
        {"require": ("tools", "seed"), "require_parameters": True},
        True,
    ),
    ("require_parameters", {"supported_parameters": frozenset()}, {"require": ("seed",)}, False),
    ("require_parameters", {"supported_parameters": frozenset()}, {"require_parameters": True}, False),
    (
        "require_parameters",
        {"supported_parameters": None},  # nothing is listed, so nothing is guaranteed
        {"require": ("seed",), "require_parameters": True},
        True,
    ),
    ("require_parameters", {"supported_parameters": None}, {"require_parameters": True}, False),
    ("input_modalities", {}, {"input_modalities": ("text",)}, False),
    ("input_modalities", {}, {"input_modalities": ("text", "image")}, True),
    (
        "input_modalities",
        {"input_modalities": frozenset({"text", "image"})},
        {"input_modalities": ("image",)},
        False,
    ),
    ("input_modalities", {}, {}, False),
    ("output_modalities", {}, {"output_modalities": ("text",)}, False),
    ("output_modalities", {}, {"output_modalities": ("image",)}, True),
    ("output_modalities", {}, {}, False),
    ("data_region", {"region": "eu"}, {"region": "EU"}, False),
    ("data_region", {"region": "us"}, {"region": "eu"}, True),
    ("data_region", {"region": None}, {"region": "eu"}, True),
    ("data_region", {"region": "us"}, {}, False),
    ("data_region", {"region": "eu-west-1"}, {"region": "eu"}, False),
    ("data_region", {"region": "EU-West-1"}, {"region": "Eu"}, False),
    ("data_region", {"region": "europe"}, {"region": "eu"}, True),
    ("data_region", {"region": "eu"}, {"region": "eu-west-1"}, True),
    ("data_region", {"region": "us-east-1"}, {"region": "eu"}, True),
    ("already_tried", {}, {"exclude": ("author/slug@alpha",)}, True),
    ("already_tried", {}, {"exclude": ("alpha",)}, True),
    ("already_tried", {"tag": "alpha/eu"}, {"exclude": ("alpha",)}, False),
    ("already_tried", {}, {"exclude": ("beta",)}, False),
    ("already_tried", {"tag": "alpha:2", "door": "alpha"}, {"exclude": ("alpha",)}, False),
    ("already_tried", {"tag": "alpha:2", "door": "alpha"}, {"exclude": ("alpha:2",)}, True),
    ("already_tried", {}, {}, False),
]


@pytest.mark.parametrize(("name", "fields", "wanted", "out"), TABLE)
def test_each_filter_rules_out_what_it_must_and_nothing_else(
    endpoint: MakeEndpoint, ask: MakeRequest, name: str, fields: dict[str, Any], wanted: dict[str, Any], out: bool
) -> None:
    fields = dict(fields)
    found = gone(endpoint(fields.pop("tag", "alpha"), **fields), ask(**wanted))
    assert found == ((name,) if out else ())


def test_the_table_shows_both_sides_of_every_filter() -> None:
    names = {*FILTERS, "max_price"}
    assert {(name, out) for name, _, _, out in TABLE} == {(name, out) for name in names for out in (True, False)}


def test_every_reason_is_named_and_not_the_first_one_only(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    worst = endpoint(
        "alpha/flex",
        tier="flex",
        price=None,
        context_length=1,
        max_prompt_tokens=1,
        max_completion_tokens=1,
        supported_parameters=frozenset(),
    )
    everything = ask(
        prompt_tokens=10,
        max_tokens=10,
        only=("beta",),
        ignore=("alpha/flex",),
        quantizations=("fp8",),
        max_price_prompt=1.0,
        data_collection="deny",
        zdr=True,
        enforce_distillable_text=True,
        require=("tools",),
        require_parameters=True,
        input_modalities=("image",),
        output_modalities=("audio",),
        region="eu",
        exclude=("alpha/flex",),
    )
    assert gone(worst, everything) == (*FILTERS, "max_price")


def test_a_request_that_asks_for_nothing_pays_for_no_filter(ask: MakeRequest) -> None:
    assert asked(ask()) == []


@pytest.mark.parametrize("known", [None, frozenset[str](), frozenset({"seed"})], ids=["silent", "nothing", "seed"])
def test_the_request_itself_may_demand_its_parameters_as_its_preferences_may(
    endpoint: MakeEndpoint, known: frozenset[str] | None
) -> None:
    each = endpoint(supported_parameters=known)
    own = Request(model="author/slug", require=("seed",), require_parameters=True)
    preferred = Request(model="author/slug", require=("seed",), provider=Preferences(require_parameters=True))
    assert gone(each, own) == gone(each, preferred) == (() if known else ("require_parameters",))


def test_a_limit_on_prices_is_judged_by_those_of_the_moment_and_of_the_prompts_length(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    noon = 12 * 3600.0
    pricing = Pricing(
        prompt=2.0,
        completion=2.0,
        overrides=(
            PriceOverride(start=22 * 60, end=6 * 60, prompt=1.0),
            PriceOverride(min_prompt_tokens=1000, prompt=3.0),
        ),
    )
    each = endpoint(pricing=pricing)

    def out(limit: float, *, wall: float | None, prompt_tokens: int | None = None) -> bool:
        request = ask(max_price_prompt=limit, prompt_tokens=prompt_tokens)
        return excluded_by(each, request, asked(request, wall=wall)) == ("max_price",)

    assert [out(1.5, wall=wall) for wall in (noon, 23 * 3600.0, 0.0, None)] == [True, False, False, True]
    assert [out(2.5, wall=noon, prompt_tokens=length) for length in (None, 1000, 1001)] == [False, False, True]


def test_every_word_for_a_precision_can_be_asked_for_and_every_known_one_has_a_width(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    assert set(QUANTIZATION_BITS) == set(QUANTIZATIONS) - {"unknown"}
    for word in PRECISIONS:
        for found in QUANTIZATIONS:
            out = gone(endpoint(quantization=found), ask(quantizations=(word,)))
            if found == word.removesuffix(OR_BETTER):
                assert out == ()


# ---- service tiers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "tiers", "out"),
    [
        ({}, (), True),
        ({}, ("flex",), False),
        ({}, ("priority",), True),
        ({"order": ("alpha",)}, (), True),
        ({"order": ("Alpha Cloud",)}, (), True),
        ({"order": ("alpha/flex",)}, (), False),
        ({"only": ("Alpha/Flex",)}, (), False),
        ({"only": ("author/slug@alpha/flex",)}, (), False),
        ({"ignore": ("alpha/flex",)}, (), True),
    ],
)
def test_a_service_tier_is_chosen_only_when_it_is_asked_for(
    endpoint: MakeEndpoint, ask: MakeRequest, wanted: dict[str, Any], tiers: tuple[Tier, ...], out: bool
) -> None:
    flex = endpoint("alpha/flex", tier="flex", provider_name="Alpha Cloud")
    assert out_of_tier(flex, ask(**wanted), tiers) == out
    assert not out_of_tier(endpoint("alpha/flex"), ask(**wanted), tiers)


def test_the_copies_of_a_tiers_door_are_named_by_the_door(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    copy = endpoint("alpha/flex:2", door="alpha/flex", tier="flex")
    assert not out_of_tier(copy, ask(only=("alpha/flex",)), ())
    assert not out_of_tier(copy, ask(only=("alpha/flex:2",)), ())
    assert out_of_tier(endpoint("alpha/flex", door="alpha/flex", tier="flex"), ask(only=("alpha/flex:2",)), ())


def test_the_privacy_filters_are_filters() -> None:
    assert set(FILTERS) >= PRIVACY


def test_a_family_of_quantizations_holds_only_known_words() -> None:
    for family, members in QUANTIZATION_FAMILIES.items():
        assert family in members
        assert members <= set(QUANTIZATIONS)


# ---- slugs -------------------------------------------------------------------------------------------

SLUGS = [
    # slug, tag, tier, whether it means the endpoint
    ("google-vertex", "google-vertex", None, True),
    ("google-vertex", "google-vertex/us-east5", None, True),
    ("google-vertex/us-east5", "google-vertex/us-east5", None, True),
    ("google-vertex/us-east5", "google-vertex/europe", None, False),
    ("google-vertex/us-east5", "google-vertex", None, False),
    ("google", "google-vertex", None, False),
    ("google-vertex/", "google-vertex", None, False),
    ("GOOGLE-Vertex", "google-vertex/us-east5", None, True),
    ("Google Vertex AI", "google-vertex/us-east5", None, True),
    ("google vertex ai", "google-vertex", None, True),
    ("google-vertex", "google-vertex/flex", "flex", False),
    ("Google Vertex AI", "google-vertex/flex", "flex", False),
    ("google-vertex/flex", "google-vertex/flex", "flex", True),
    ("Google-Vertex/FLEX", "google-vertex/flex", "flex", True),
    ("author/slug@google-vertex/flex", "google-vertex/flex", "flex", True),
    ("author/slug@google-vertex", "google-vertex", None, True),
    ("author/slug@google-vertex", "google-vertex/us-east5", None, False),
    ("other/slug@google-vertex", "google-vertex", None, False),
    ("", "google-vertex", None, False),
]


@pytest.mark.parametrize(("slug", "tag", "tier", "meant"), SLUGS)
def test_a_slug_means_a_provider_a_door_or_an_endpoint(
    endpoint: MakeEndpoint, slug: str, tag: str, tier: str | None, meant: bool
) -> None:
    assert matches(slug, endpoint(tag, tier=tier, provider_name="Google Vertex AI")) == meant


def test_a_door_means_all_its_copies_and_a_copy_only_itself(endpoint: MakeEndpoint) -> None:
    first = endpoint("alpha/eu", door="alpha/eu")
    second = endpoint("alpha/eu:2", door="alpha/eu")
    for slug in ("alpha/eu", "Alpha/EU", "alpha", "Alpha"):
        assert matches(slug, first)
        assert matches(slug, second)
    for slug in ("alpha/eu:2", "author/slug@alpha/eu:2"):
        assert not matches(slug, first)
        assert matches(slug, second)
    assert not matches("author/slug@alpha/eu", second)


def test_the_place_in_the_users_order_is_that_of_the_first_slug_that_means_it(endpoint: MakeEndpoint) -> None:
    order = Preferences(order=("beta/eu", "alpha", "beta"))
    places = [order_rank(endpoint(tag), order) for tag in ("alpha", "alpha/us", "beta/eu", "beta/us", "gamma")]
    assert places == [1, 1, 0, 2, 3]
    assert order_rank(endpoint("alpha"), Preferences()) == 0


# ---- soft filters ------------------------------------------------------------------------------------


def test_what_an_endpoint_says_nothing_about_it_may_support(endpoint: MakeEndpoint) -> None:
    silent, frank = endpoint(supported_parameters=None), endpoint(supported_parameters=frozenset({"seed"}))
    assert [supports(silent, name) for name in ("tools", "seed", "top_k")] == [True, True, True]
    assert [supports(frank, name) for name in ("tools", "seed", "top_k")] == [False, True, False]


def test_those_without_tools_give_way_to_those_with_tools(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    able = endpoint("alpha", supported_parameters=frozenset({"tools"}))
    unable = endpoint("beta", supported_parameters=frozenset())
    silent = endpoint("gamma", supported_parameters=None)
    assert soft_excluded([able, unable, silent], ask(require=("tools",))) == {unable.id: "tools"}
    assert soft_excluded([able, unable, silent], ask()) == {}
    assert soft_excluded([able, unable, silent], ask(require=("seed",))) == {}


def test_a_parameter_that_nobody_supports_is_ignored(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    unable = [endpoint(tag, supported_parameters=frozenset()) for tag in ("alpha", "beta")]
    assert soft_excluded(unable, ask(require=SOFT_PARAMETERS)) == {}


parameters = st.sets(st.sampled_from((*SOFT_PARAMETERS, "seed"))).map(frozenset)


@given(st.lists(st.one_of(st.none(), parameters), min_size=1, max_size=6), parameters)
def test_soft_filters_never_rule_out_all_and_only_those_that_lack(
    endpoint: MakeEndpoint, ask: MakeRequest, supported: list[frozenset[str] | None], wanted: frozenset[str]
) -> None:
    endpoints = [endpoint(f"p{place}", supported_parameters=known) for place, known in enumerate(supported)]
    out = soft_excluded(endpoints, ask(require=tuple(wanted)))
    assert len(out) < len(endpoints)
    for each in endpoints:
        if each.id in out:
            assert out[each.id] in wanted
            assert not supports(each, out[each.id])
            assert out[each.id] in SOFT_PARAMETERS
