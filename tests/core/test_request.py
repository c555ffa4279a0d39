from __future__ import annotations

import sys
from copy import copy, deepcopy
from dataclasses import FrozenInstanceError, fields
from os import environ
from pickle import dumps, loads
from subprocess import run
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.eligibility import asked, excluded_by
from balancer.core.model import MODALITIES, QUANTIZATIONS, Endpoint
from balancer.core.request import (
    COUNT_MAX,
    NAME_MAX,
    PRECISIONS,
    PRICE_MAX,
    PROBLEMS_MAX,
    SESSION_MAX,
    SHOWN_MAX,
    TOKENS_MAX,
    WORDS_MAX,
    Cutoffs,
    Preferences,
    Request,
    preferences,
    shown,
)

MODEL = "author/slug"
LONG = "x" * (NAME_MAX + 1)
CUT = f"'{'x' * SHOWN_MAX}…'"


def fault(**fields: Any) -> str:
    with pytest.raises(ValueError) as caught:
        Request(**({"model": MODEL} | fields))
    return str(caught.value)


# ---- what a request says of itself -------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model: is needed; use a model's id or alias"),
    ({"model": 7}, "model: 7 is not a name"),
    ({"model": LONG}, f"model: {CUT} has {NAME_MAX + 1} characters; {NAME_MAX} are allowed"),
    ({"models": "a"}, "models: 'a' is not a list"),
    ({"models": {"a": 1}}, "models: {'a': 1} is not a list"),
    ({"models": 5}, "models: 5 is not a list"),
    ({"models": ["a"] * 10_000}, f"models: 10000 entries; {WORDS_MAX} are allowed"),
    ({"models": ["a", 5]}, f"models: 5 is not a name; use 1 to {NAME_MAX} characters"),
    ({"models": [None]}, f"models: None is not a name; use 1 to {NAME_MAX} characters"),
    ({"require": [LONG]}, f"require: {CUT} is not a name; use 1 to {NAME_MAX} characters"),
    ({"exclude": [["a"]]}, f"exclude: ['a'] is not a name; use 1 to {NAME_MAX} characters"),
    ({"input_modalities": ["imag"]}, "input_modalities: 'imag' is not known; did you mean image?"),
    (
        {"output_modalities": ["smell"]},
        f"output_modalities: 'smell' is not known; allowed: {', '.join(MODALITIES)}",
    ),
    ({"prompt_tokens": -1}, f"prompt_tokens: -1 is not a whole number from 0 to {TOKENS_MAX}"),
    ({"prompt_tokens": 1.0}, f"prompt_tokens: 1.0 is not a whole number from 0 to {TOKENS_MAX}"),
    ({"prompt_tokens": True}, f"prompt_tokens: True is not a whole number from 0 to {TOKENS_MAX}"),
    ({"max_tokens": "5"}, f"max_tokens: '5' is not a whole number from 0 to {TOKENS_MAX}"),
    (
        {"max_tokens": TOKENS_MAX + 1},
        f"max_tokens: {TOKENS_MAX + 1} is not a whole number from 0 to {TOKENS_MAX}",
    ),
    ({"max_tokens": 10**5000}, f"max_tokens: a huge number is not a whole number from 0 to {TOKENS_MAX}"),
    ({"count": COUNT_MAX + 1}, f"count: {COUNT_MAX + 1} is not a whole number from 0 to {COUNT_MAX}"),
    ({"require_parameters": "yes"}, "require_parameters: 'yes' is neither true nor false"),
    ({"require_parameters": 1}, "require_parameters: 1 is neither true nor false"),
    ({"region": ""}, f"region: 0 characters; use text of 1 to {NAME_MAX} characters"),
    ({"region": 5}, f"region: 5; use text of 1 to {NAME_MAX} characters"),
    ({"session_id": "s" * 1_000_000}, f"session_id: 1000000 characters; use text of 1 to {SESSION_MAX} characters"),
    ({"session_id": ""}, f"session_id: 0 characters; use text of 1 to {SESSION_MAX} characters"),
    ({"conversation": b"c"}, f"conversation: b'c'; use text of 1 to {SESSION_MAX} characters"),
    ({"service_tier": "prioritty"}, "service_tier: 'prioritty' is not known; did you mean priority?"),
    ({"provider": 5}, "provider: 5 is not an object"),
    ({"provider": ["only"]}, "provider: ['only'] is not an object"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), FAULTS)
def test_every_fault_of_a_request_says_where_what_was_found_and_what_is_allowed(
    fields: dict[str, Any], message: str
) -> None:
    assert fault(**fields) == message


WISHES: list[tuple[dict[str, Any], str]] = [
    ({"order": "openai"}, "order: 'openai' is not a list"),
    ({"only": [5]}, f"only: 5 is not a name; use 1 to {NAME_MAX} characters"),
    ({"ignore": ["a"] * (WORDS_MAX + 1)}, f"ignore: {WORDS_MAX + 1} entries; {WORDS_MAX} are allowed"),
    ({"quantizations": ["fp9"]}, "quantizations: 'fp9' is not known; did you mean fp8?"),
    (
        {"quantizations": ["fp8-or-worse"]},
        "quantizations: 'fp8-or-worse' is not known; did you mean fp8-or-better?",
    ),
    ({"quantizations": ["!"]}, f"quantizations: '!' is not known; allowed: {', '.join(PRECISIONS)}"),
    ({"allow_fallbacks": "no"}, "allow_fallbacks: 'no' is neither true nor false"),
    ({"require_parameters": 0}, "require_parameters: 0 is neither true nor false"),
    ({"zdr": "true"}, "zdr: 'true' is neither true nor false"),
    ({"enforce_distillable_text": []}, "enforce_distillable_text: [] is neither true nor false"),
    ({"data_collection": "denny"}, "data_collection: 'denny' is not known; did you mean deny?"),
    ({"data_collection": 5}, "data_collection: 5 is not known; allowed: allow, deny"),
    ({"data_collection": ["deny"]}, "data_collection: ['deny'] is not known; did you mean deny?"),
    ({"sort": "prices"}, "sort: 'prices' is not known; did you mean price?"),
    ({"sort": "speed"}, "sort: 'speed' is not known; allowed: price, latency, throughput, exacto"),
    ({"sort": {"by": "cost"}}, "sort: 'cost' is not known; allowed: price, latency, throughput, exacto"),
    ({"sort": {"by": "price", "partition": "all"}}, "partition: 'all' is not known; allowed: model, none"),
    (
        {"sort": {"by": "price", "zebra": 1, "direction": 2}},
        "sort.'zebra': unknown; use by and partition; sort.'direction': unknown; use by and partition",
    ),
    ({"max_price": 5}, "max_price: 5 is not an object; use prompt and completion"),
    (
        {"max_price": {"image": 5}},
        "max_price.'image': endpoints have no such price here; use prompt and completion",
    ),
    (
        {"max_price": {"prompt": -1}},
        f"max_price.prompt: -1 is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}",
    ),
    (
        {"max_price": {"completion": "cheap"}},
        f"max_price.completion: 'cheap' is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}",
    ),
    (
        {"max_price": {"prompt": "1e999"}},
        f"max_price.prompt: inf is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}",
    ),
    (
        {"max_price": {"prompt": float("nan")}},
        f"max_price.prompt: nan is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}",
    ),
    (
        {"max_price": {"prompt": True}},
        f"max_price.prompt: True is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}",
    ),
    (
        {"preferred_max_latency": "soon"},
        f"preferred_max_latency.p50: 'soon' is not a number from 0 to {TOKENS_MAX}",
    ),
    (
        {"preferred_max_latency": {"p50": 2, "p99": 1.5}},
        "preferred_max_latency: p99 (1.5) is below p50 (2); percentiles are out of order",
    ),
    (
        {"preferred_min_throughput": {"p50": 20, "p75": 30, "p99": 5}},
        "preferred_min_throughput: p75 (30) is above p50 (20); percentiles are out of order",
    ),
    (
        {"preferred_min_throughput": {"p90": 2e9}},
        f"preferred_min_throughput.p90: 2000000000.0 is not a number from 0 to {TOKENS_MAX}",
    ),
    (
        {"preferred_min_throughput": {"p95": 2, "p5": 1}},
        "; ".join(f"preferred_min_throughput.'{rank}': unknown; use p50, p75, p90, p99" for rank in ("p95", "p5")),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wishes", "message"), WISHES)
def test_every_fault_of_a_preference_is_told_alike_alone_and_in_a_request(
    wishes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        preferences(wishes)
    assert str(caught.value) == message
    assert fault(provider=wishes) == message


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("partition", "all", "partition: 'all' is not known; allowed: model, none"),
        (
            "preferred_max_latency", 2.0,
            "preferred_max_latency: 2.0 is not a Cutoffs; a mapping as `provider` takes a number too",
        ),
        (
            "max_price_prompt", "1",
            f"max_price.prompt: '1' is not a price; use USD per million tokens, 0 to {PRICE_MAX:.0f}",
        ),
    ],
)  # fmt: skip
def test_a_value_that_is_made_directly_is_judged_by_the_same_rules(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Preferences(**{field: value})
    assert str(caught.value) == message


def test_everything_that_is_wrong_is_told_at_once() -> None:
    message = fault(
        model="",
        prompt_tokens=-1,
        require=["", 5],
        session_id="",
        provider={"sort": {"by": "prices", "upward": True}, "max_price": {"prompt": -1, "image": 1}, "zdr": 1},
    )
    assert [each.partition(":")[0] for each in message.split("; ") if ": " in each] == [
        "sort.'upward'",
        "max_price.'image'",
        "zdr",
        "sort",
        "max_price.prompt",
        "model",
        "require",
        "prompt_tokens",
        "session_id",
    ]


@pytest.mark.parametrize(
    "many",
    [
        {"exclude": [5] * (PROBLEMS_MAX + 1)},
        {"provider": {"max_price": {f"key{number}": 1 for number in range(10_000)}}},
        {"provider": {"sort": {f"key{number}": 1 for number in range(PROBLEMS_MAX + 1)}}},
    ],
)
def test_of_many_problems_some_are_told(many: dict[str, Any]) -> None:
    message = fault(**many)
    assert message.endswith("; and more")
    field = next(iter(many.get("provider", many)))
    assert message.count(f"{field}.") + message.count(f"{field}:") == PROBLEMS_MAX
    assert len(message) < 200 * PROBLEMS_MAX


@given(
    fields=st.lists(st.sampled_from(FAULTS), unique_by=lambda each: next(iter(each[0])), min_size=2, max_size=6),
)
def test_faults_do_not_hide_one_another(fields: list[tuple[dict[str, Any], str]]) -> None:
    together = {name: value for each, _ in fields for name, value in each.items()}
    if not together.get("model", MODEL) and "models" in together:
        del together["models"]  # beside them no model is needed
        fields = [each for each in fields if "models" not in each[0]]
    message = fault(**together)
    assert all(alone in message for _, alone in fields)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = [each.name for each in fields(Request)]
WISH_NAMES = [*(each.name for each in fields(Preferences)), "max_price", "options", "experimental"]


@given(
    st.dictionaries(st.sampled_from(NAMES), anything, max_size=4),
    st.dictionaries(st.sampled_from(WISH_NAMES), anything, max_size=4),
)
def test_whatever_is_given_is_a_request_or_a_value_error_of_printable_words(
    needs: dict[str, Any], wishes: dict[str, Any]
) -> None:
    request, told = None, "judged"
    try:
        request = Request(**({"provider": wishes} | needs))
    except ValueError as error:
        told = str(error)
    assert told
    assert told.isprintable()
    if request is None:
        return
    hash(request)
    endpoint = Endpoint(
        id="m@p", model="m", tag="p", provider="p", provider_name="P", upstream_model="u", base_url="https://p"
    )
    excluded_by(endpoint, request, asked(request))


# ---- what is allowed ---------------------------------------------------------------------------------


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    request = Request(
        model="m" * NAME_MAX,
        models=["n"] * WORDS_MAX,
        prompt_tokens=0,
        max_tokens=TOKENS_MAX,
        session_id="s" * SESSION_MAX,
        count=COUNT_MAX,
        region="r",
        provider={"max_price": {"prompt": 0, "completion": PRICE_MAX}, "quantizations": PRECISIONS},
    )
    assert len(request.models) == WORDS_MAX
    assert request.provider.quantizations == PRECISIONS
    assert Request(models=["a"]).model == ""


def test_a_request_is_a_value() -> None:
    first = Request(model=MODEL, models=["A", "b"], provider={"order": ["X"], "max_price": {"prompt": "1.50"}})
    second = Request(model=MODEL, models=("a", "b"), provider=Preferences(order=("x",), max_price_prompt=1.5))
    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(FrozenInstanceError):
        first.model = "b"  # type: ignore[misc]


def test_none_is_the_default_of_every_field() -> None:
    assert Request(**(dict.fromkeys(NAMES) | {"model": MODEL})) == Request(model=MODEL)
    assert Request(**(dict.fromkeys(NAMES) | {"models": [MODEL]})) == Request(models=[MODEL])
    assert fault(**dict.fromkeys(NAMES)) == "model: is needed; use a model's id or alias"


def test_blanks_around_a_models_name_do_not_count() -> None:
    assert Request(model=f" {MODEL}\t") == Request(model=MODEL)
    assert fault(model="  ") == "model: is needed; use a model's id or alias"


@pytest.mark.parametrize("again", [copy, deepcopy, lambda value: loads(dumps(value))])
def test_a_copy_is_the_same_value(again: Any) -> None:
    wishes = {"order": ["b"], "preferred_max_latency": {"p90": 2}, "max_price": {"prompt": 1}}
    request = Request(model=MODEL, models=["a"], prompt_tokens=5, session_id="s", provider=wishes)
    for value in (request, request.provider):
        made = again(value)
        assert made == value
        assert hash(made) == hash(value)


def test_a_value_from_another_process_is_found_where_its_equal_is_kept() -> None:
    code = "import pickle, sys; from balancer import Request; "
    code += "sys.stdout.buffer.write(pickle.dumps(Request(model='m', provider={'only': ['a']})))"
    environment = {**environ, "PYTHONHASHSEED": "12345"}  # text hashes otherwise there
    made = run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60, env=environment).stdout
    here = Request(model="m", provider={"only": ["a"]})
    again = loads(made)
    kept = {here.provider: 1, here: 2}
    assert (kept[again.provider], kept[again]) == (1, 2)


@pytest.mark.parametrize("words", [(), [], set(), frozenset(), [""], ["", "  ", "\t"], iter(())])
def test_an_empty_list_is_no_wish_at_all(words: Any) -> None:
    if not hasattr(words, "__len__"):  # what can be read only once is no list
        assert fault(models=words).endswith("is not a list")
        return
    names = ("models", "require", "input_modalities", "output_modalities", "exclude")
    assert Request(model=MODEL, **dict.fromkeys(names, words)) == Request(model=MODEL)
    assert preferences(dict.fromkeys(("order", "only", "ignore", "quantizations"), words)) == Preferences()


@pytest.mark.parametrize("make", [list, tuple, lambda words: dict.fromkeys(words).keys()])
def test_lists_may_be_any_sequence_in_any_case_and_with_blanks_around(make: Any) -> None:
    request = Request(
        model=MODEL,
        require=make(["Tools ", " SEED"]),
        input_modalities=make(["TEXT"]),
        provider={"only": make(["OpenAI", " azure/EASTUS2"]), "quantizations": make(["FP8-or-better"])},
    )
    assert request.require == ("tools", "seed")
    assert request.input_modalities == ("text",)
    assert request.provider.only == ("openai", "azure/eastus2")
    assert request.provider.quantizations == ("fp8-or-better",)


def test_a_provider_in_only_and_in_ignore_is_ignored() -> None:
    request = Request(model=MODEL, provider={"only": ["a", "b"], "ignore": ["a"]})
    assert (request.provider.only, request.provider.ignore) == (("a", "b"), ("a",))
    made = [
        Endpoint(
            id=f"m@{tag}",
            model="m",
            tag=tag,
            provider=tag,
            provider_name=tag,
            upstream_model="u",
            base_url="https://p",
        )
        for tag in ("a", "b", "c")
    ]
    assert [each.tag for each in made if not excluded_by(each, request, asked(request))] == ["b"]


def test_every_precision_and_every_floor_is_allowed_and_no_floor_of_the_unknown() -> None:
    floors = {f"{word}-or-better" for word in QUANTIZATIONS if word != "unknown"}
    assert set(PRECISIONS) == set(QUANTIZATIONS) | floors


# ---- the forms of `provider` -------------------------------------------------------------------------

FORMS: list[tuple[dict[str, Any], Preferences]] = [
    ({}, Preferences()),
    ({"sort": "price"}, Preferences(sort="price")),
    ({"sort": {"by": "latency"}}, Preferences(sort="latency", partition="model")),
    ({"sort": {"by": "latency", "partition": "none"}}, Preferences(sort="latency", partition="none")),
    ({"sort": {"by": "latency", "partition": None}}, Preferences(sort="latency")),
    ({"sort": {"partition": "none"}}, Preferences(partition="none")),
    ({"sort": {}}, Preferences()),
    ({"sort": "latency", "partition": "none"}, Preferences(sort="latency", partition="none")),
    ({"preferred_max_latency": 2}, Preferences(preferred_max_latency=Cutoffs(p50=2))),
    ({"preferred_max_latency": 0}, Preferences(preferred_max_latency=Cutoffs(p50=0))),
    (
        {"preferred_max_latency": {"p99": 9.5, "p50": 1}},
        Preferences(preferred_max_latency=Cutoffs(p50=1, p99=9.5)),
    ),
    (
        {"preferred_max_latency": {"p50": 1, "p75": None}},
        Preferences(preferred_max_latency=Cutoffs(p50=1)),
    ),
    (
        {"preferred_min_throughput": {"p50": 50, "p90": 50, "p99": 5}},
        Preferences(preferred_min_throughput=Cutoffs(p50=50, p90=50, p99=5)),
    ),
    ({"max_price": {}}, Preferences()),
    ({"max_price": {"image": None}, "sort": {"upward": None}}, Preferences()),
    ({"preferred_max_latency": {"p95": None, "p50": 1}}, Preferences(preferred_max_latency=Cutoffs(p50=1))),
    ({"max_price": {"prompt": 0}}, Preferences(max_price_prompt=0)),
    (
        {"max_price": {"prompt": "0.000", "completion": 8}},
        Preferences(max_price_prompt=0.0, max_price_completion=8),
    ),
    ({"max_price": {"prompt": "1e-2", "completion": None}}, Preferences(max_price_prompt=0.01)),
    (
        {"order": ["a"], "only": ["b"], "ignore": ["c"], "allow_fallbacks": False, "require_parameters": True},
        Preferences(order=("a",), only=("b",), ignore=("c",), allow_fallbacks=False, require_parameters=True),
    ),
    (
        {"data_collection": "deny", "zdr": True, "enforce_distillable_text": True, "quantizations": ["fp8"]},
        Preferences(data_collection="deny", zdr=True, enforce_distillable_text=True, quantizations=("fp8",)),
    ),
    ({"options": {"openai": {"x": 1}}, "something_new": 5}, Preferences()),
    ({"max_price_prompt": 5, "max_price_completion": 5}, Preferences()),
]  # fmt: skip


@pytest.mark.parametrize(("given_wishes", "wanted"), FORMS)
def test_the_forms_of_openrouters_object_are_read(given_wishes: dict[str, Any], wanted: Preferences) -> None:
    assert preferences(given_wishes) == wanted
    assert Request(model=MODEL, provider=MappingProxyType(given_wishes)) == Request(model=MODEL, provider=wanted)


def test_null_is_no_wish_in_any_field() -> None:
    assert preferences(dict.fromkeys(WISH_NAMES)) == Preferences()


@pytest.mark.parametrize("name", ["a b", "1.", ".5", "+1", "0x10", "1_000", "٣", "", " 1", "1e", "NaN", "-1"])
def test_a_price_in_words_is_digits_or_no_price(name: str) -> None:
    assert fault(provider={"max_price": {"prompt": name}}).startswith(f"max_price.prompt: {name!r} is not a price")


def test_cutoffs_tell_those_that_are_wished_in_order() -> None:
    assert list(Cutoffs(p99=3.0, p50=1.0).given()) == [("p50", 1.0), ("p99", 3.0)]
    assert list(Cutoffs().given()) == []


@given(st.text(max_size=200) | st.integers() | st.binary(max_size=100) | st.lists(st.text(max_size=5), max_size=40))
def test_what_is_repeated_is_short_printable_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text) <= 12 * (SHOWN_MAX + 2)  # each character may be spelled as an escape
