from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.eligibility import (
    FILTERS,
    PRIVACY,
    asked,
    excluded_by,
    matches,
    order_rank,
    soft_excluded,
    unsupported,
)
from balancer.core.model import (
    QUANTIZATION_FAMILIES,
    QUANTIZATIONS,
    SOFT_PARAMETERS,
    Endpoint,
    Preferences,
    Pricing,
    Request,
)

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
        {"supported_parameters": None},
        {"require": ("seed",), "require_parameters": True},
        False,
    ),
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
    ("tier", {"tag": "alpha/flex", "tier": "flex"}, {}, True),
    ("tier", {"tag": "alpha/flex", "tier": "flex"}, {"order": ("alpha",)}, True),
    ("tier", {"tag": "alpha/flex", "tier": "flex"}, {"order": ("alpha/flex",)}, False),
    ("tier", {"tag": "alpha/flex", "tier": "flex"}, {"only": ("Alpha/Flex",)}, False),
    ("tier", {"tag": "alpha/flex", "tier": "flex"}, {"only": ("author/slug@alpha/flex",)}, False),
    ("tier", {"tag": "alpha/flex"}, {}, False),
    ("already_tried", {}, {"exclude": ("author/slug@alpha",)}, True),
    ("already_tried", {}, {"exclude": ("alpha",)}, True),
    ("already_tried", {"tag": "alpha/eu"}, {"exclude": ("alpha",)}, False),
    ("already_tried", {}, {"exclude": ("beta",)}, False),
    ("already_tried", {}, {}, False),
]


@pytest.mark.parametrize(("name", "fields", "wanted", "out"), TABLE)
def test_each_filter_rules_out_what_it_must_and_nothing_else(
    endpoint: MakeEndpoint, ask: MakeRequest, name: str, fields: dict[str, Any], wanted: dict[str, Any], out: bool
) -> None:
    fields = dict(fields)
    found = gone(endpoint(fields.pop("tag", "alpha"), **fields), ask(**wanted))
    assert (name in found) == out
    if not out and name != "tier":
        assert found == ()


def test_the_table_shows_both_sides_of_every_filter() -> None:
    assert {(name, out) for name, _, _, out in TABLE} == {(name, out) for name in FILTERS for out in (True, False)}


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
    assert gone(worst, everything) == tuple(FILTERS)


def test_a_request_that_asks_for_nothing_meets_nothing_but_the_tier(
    endpoint: MakeEndpoint, ask: MakeRequest
) -> None:
    assert gone(endpoint(price=None), ask()) == ()
    assert gone(endpoint("alpha/flex", tier="flex", price=None), ask()) == ("tier",)


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


def test_the_place_in_the_users_order_is_that_of_the_first_slug_that_means_it(endpoint: MakeEndpoint) -> None:
    order = Preferences(order=("beta/eu", "alpha", "beta"))
    places = [order_rank(endpoint(tag), order) for tag in ("alpha", "alpha/us", "beta/eu", "beta/us", "gamma")]
    assert places == [1, 1, 0, 2, 3]
    assert order_rank(endpoint("alpha"), Preferences()) == 0


# ---- soft filters ------------------------------------------------------------------------------------


def test_what_an_endpoint_says_nothing_about_it_supports(endpoint: MakeEndpoint) -> None:
    assert unsupported(endpoint(supported_parameters=None), ("tools", "seed")) == ()
    assert unsupported(endpoint(supported_parameters=frozenset({"seed"})), ("tools", "seed", "top_k")) == (
        "tools",
        "top_k",
    )


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
            assert out[each.id] in unsupported(each, tuple(wanted))
            assert out[each.id] in SOFT_PARAMETERS
