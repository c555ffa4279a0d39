"""A question's query string: what it becomes, and what is wrong with it."""

import pytest

from balancer.core.model import Preferences, Request
from balancer.http.answers import Refused
from balancer.http.question import PARAMETERS, question, refuse_with, told


def test_every_parameter_goes_where_it_belongs() -> None:
    asked = question(
        "model=openai/gpt-4.1&prompt_tokens=12000&max_tokens=800&require=tools,response_format&require=seed"
        "&require_parameters=true&input_modalities=text,image&output_modalities=text&region=us"
        "&exclude=a/b@c,d&count=2&explain=1&refuse_with=403&order=OpenAI,azure/eastus2&only=x&ignore=y"
        "&quantizations=FP8,bf16&allow_fallbacks=false&data_collection=deny&zdr=true"
        "&enforce_distillable_text=0&max_price.prompt=1.5&max_price.completion=1e1"
    )
    assert asked.request == Request(
        model="openai/gpt-4.1",
        prompt_tokens=12000,
        max_tokens=800,
        require=("tools", "response_format", "seed"),
        require_parameters=True,
        input_modalities=("text", "image"),
        output_modalities=("text",),
        region="us",
        exclude=("a/b@c", "d"),
        count=2,
        provider=Preferences(
            order=("openai", "azure/eastus2"),
            only=("x",),
            ignore=("y",),
            quantizations=("fp8", "bf16"),
            allow_fallbacks=False,
            data_collection="deny",
            zdr=True,
            enforce_distillable_text=False,
            max_price_prompt=1.5,
            max_price_completion=10.0,
        ),
    )
    assert (asked.explain, asked.refuse_with) == (True, 403)


def test_a_question_without_wishes_has_the_defaults() -> None:
    asked = question("model=a")
    assert asked.request == Request(model="a")
    assert (asked.explain, asked.refuse_with) == (False, None)


def test_percent_encoding_and_empty_lists_are_understood() -> None:
    assert question("model=openai%2Fgpt-4.1&only=&require=,tools,").request == Request(
        model="openai/gpt-4.1", require=("tools",)
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "model: is needed; use a model's id or alias"),
        ("model=", '"" is not a name; use 1 to 200 characters'),
        (f"model={'a' * 201}", "is not a name"),
        ("model=a&model=b", "model: given 2 times; once is allowed"),
        ("model=a&modle=b", "modle: unknown parameter; did you mean model?"),
        ("model=a&promt_tokens=b", "did you mean prompt_tokens?"),
        ("model=a&sort=price", "sort: unknown parameter; "),
        ("model=a&models=b", "models: unknown parameter; did you mean model?"),
        ("model=a&session_id=b", "session_id: unknown parameter; "),
        ("model=a&preferred_max_latency.p50=1", "preferred_max_latency.p50: unknown parameter; "),
        ("model=a&partition=none", "partition: unknown parameter; "),
        ("model=a&prompt_tokens=-1", "prompt_tokens: -1 is not a whole number from 0 to 1000000000"),
        ("model=a&prompt_tokens=1.5", "is not a whole number"),
        ("model=a&prompt_tokens=1_0", "is not a whole number"),
        ("model=a&prompt_tokens=%C2%B2", "is not a whole number"),
        ("model=a&prompt_tokens=99999999999", "is not a whole number"),
        ("model=a&max_tokens=NaN", "max_tokens: NaN is not a whole number"),
        ("model=a&count=101", "count: 101 is not a whole number from 0 to 100"),
        ("model=a&zdr=yes", "zdr: yes is neither true nor false"),
        ("model=a&data_collection=never", "data_collection: never is neither allow nor deny"),
        ("model=a&max_price.prompt=NaN", "max_price.prompt: NaN is not a price"),
        ("model=a&max_price.prompt=1e999", "max_price.prompt: 1e999 is not a price"),
        ("model=a&max_price.prompt=-1", "max_price.prompt: -1 is not a price"),
        ("model=a&max_price.prompt=inf", "is not a price"),
        ("model=a&max_price.prompt=1_0", "is not a price"),
        ("model=a&quantizations=fp7", "quantizations: fp7 is not known; did you mean fp"),
        ("model=a&input_modalities=picture", "input_modalities: picture is not known; "),
        ("model=a&refuse_with=404", "refuse_with: 404 is not allowed; use 403, 429, 503"),
        (f"model=a&only={','.join('x' * 101)}", "only: 101 entries; 100 are allowed"),
        (f"model=a&only={'x' * 201}", "has 201 characters; 200 are allowed"),
        ("model=%FF", "the query is not valid UTF-8"),
        ("&".join(f"a{n}=1" for n in range(301)), "the query has more than 300 fields"),
    ],
)
def test_a_wrong_question_is_refused_with_the_reason(query: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        question(query)
    assert refused.value.status == 400
    assert message in refused.value.message


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        question("prompt_tokens=x&zdr=maybe")
    assert refused.value.message == (
        "prompt_tokens: x is not a whole number from 0 to 1000000000; zdr: maybe is neither true nor false; "
        "model: is needed; use a model's id or alias"
    )


def test_a_wrong_question_is_refused_every_time() -> None:
    for _ in range(3):
        with pytest.raises(Refused):
            question("model=a&count=x")


def test_what_is_told_back_is_what_differs_from_the_defaults() -> None:
    assert told(question("model=a&count=0&zdr=true").request) == {
        "model": "a",
        "count": 0,
        "provider": {"zdr": True},
    }


def test_a_posted_question_takes_only_refuse_with() -> None:
    assert refuse_with("") is None
    assert refuse_with("refuse_with=429") == 429
    for query in ("model=a", "refuse_with=200", "refuse_with=403&refuse_with=403"):
        with pytest.raises(Refused):
            refuse_with(query)


def test_every_preference_and_need_of_the_core_has_a_parameter() -> None:
    fields = {(each.place, each.field) for each in PARAMETERS.values()}
    assert {field for place, field in fields if place == "provider"} == set(Preferences.__dataclass_fields__)
    assert {field for place, field in fields if place == "request"} == set(Request.__dataclass_fields__) - {
        "provider"
    }
