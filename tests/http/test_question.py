"""A question's query string: what it becomes, and what is wrong with it, in the words of every way of asking."""

import json
from dataclasses import fields
from typing import Any

import pytest

from balancer.core.request import Cutoffs, Preferences, Request, preferences
from balancer.http.answers import Refused
from balancer.http.chat import chat
from balancer.http.question import PARAMETERS, Question, question, refuse_with, told

# What each parameter says, and the request that says the same.
SAID: dict[str, tuple[str, dict[str, Any]]] = {
    "model": ("openai%2Fgpt-4.1:nitro", {"model": "openai/gpt-4.1:nitro"}),
    "models": ("B,c&models=d", {"models": ("b", "c", "d")}),
    "prompt_tokens": ("12000", {"prompt_tokens": 12_000}),
    "max_tokens": ("0", {"max_tokens": 0}),
    "require": ("tools,response_format&require=seed", {"require": ("tools", "response_format", "seed")}),
    "require_parameters": ("true", {"require_parameters": True}),
    "input_modalities": ("text,Image", {"input_modalities": ("text", "image")}),
    "output_modalities": (",text,", {"output_modalities": ("text",)}),
    "region": ("us", {"region": "us"}),
    "session_id": ("talk%207", {"session_id": "talk 7"}),
    "service_tier": ("flex", {"service_tier": "flex"}),
    "exclude": ("a/b@C,d", {"exclude": ("a/b@c", "d")}),
    "count": ("2", {"count": 2}),
    "order": ("OpenAI,azure/eastus2", {"provider": Preferences(order=("openai", "azure/eastus2"))}),
    "only": ("x, y", {"provider": Preferences(only=("x", "y"))}),
    "ignore": ("y", {"provider": Preferences(ignore=("y",))}),
    "quantizations": ("FP8-or-better,bf16", {"provider": Preferences(quantizations=("fp8-or-better", "bf16"))}),
    "sort": ("throughput", {"provider": Preferences(sort="throughput")}),
    "partition": ("none", {"provider": Preferences(partition="none")}),
    "allow_fallbacks": ("false", {"provider": Preferences(allow_fallbacks=False)}),
    "data_collection": ("deny", {"provider": Preferences(data_collection="deny")}),
    "zdr": ("1", {"provider": Preferences(zdr=True)}),
    "enforce_distillable_text": ("true", {"provider": Preferences(enforce_distillable_text=True)}),
    "max_price.prompt": ("1.5", {"provider": Preferences(max_price_prompt=1.5)}),
    "max_price.completion": ("1e1", {"provider": Preferences(max_price_completion=10.0)}),
    "preferred_max_latency": ("2", {"provider": Preferences(preferred_max_latency=Cutoffs(p50=2))}),
    "preferred_min_throughput": ("30.5", {"provider": Preferences(preferred_min_throughput=Cutoffs(p50=30.5))}),
    **{
        f"{name}.{rank}": ("4", {"provider": preferences({name: {rank: 4}})})
        for name in ("preferred_max_latency", "preferred_min_throughput")
        for rank in ("p50", "p75", "p90", "p99")
    },
}


@pytest.mark.parametrize("name", SAID)
def test_every_parameter_goes_where_it_belongs(name: str) -> None:
    text, needs = SAID[name]
    query = f"{name}={text}" if name == "model" else f"model=a&{name}={text}"
    assert question(query) == Question(request=Request(**{"model": "a", **needs}))


def test_every_parameter_and_every_field_of_the_core_is_in_that_table() -> None:
    assert set(SAID) | {"explain", "refuse_with"} == set(PARAMETERS)
    needs = {field for _, said in SAID.values() for field in said}
    assert needs == {each.name for each in fields(Request)} - {"conversation"}  # which only messages can tell
    wishes = {parameter.field.split(".")[1] for parameter in PARAMETERS.values() if "." in parameter.field}
    # `require_parameters` is told beside `require`, and the two prices are one object in OpenRouter's words.
    prices = {"max_price_prompt", "max_price_completion"}
    assert wishes - {"max_price"} == {each.name for each in fields(Preferences)} - prices - {"require_parameters"}


def test_how_the_answer_is_wanted_is_no_part_of_the_request() -> None:
    assert question("model=a") == Question(request=Request(model="a"))
    assert question("model=a&explain=1&refuse_with=403") == Question(
        request=Request(model="a"), explain=True, refuse_with=403
    )


def test_models_alone_are_enough() -> None:
    assert question("models=a,b").request == Request(models=("a", "b"))


def test_cutoffs_of_several_percentiles_are_one_wish() -> None:
    wish = question("model=a&preferred_max_latency=1&preferred_max_latency.p90=3").request.provider
    assert wish.preferred_max_latency == Cutoffs(p50=1, p90=3)


# ---- the session's key in a header --------------------------------------------------------------------


def test_a_session_in_a_header_serves_where_the_query_has_none() -> None:
    assert question("model=a", "h").request == Request(model="a", session_id="h")
    assert question("model=a&session_id=q", "h").request == Request(model="a", session_id="q")
    assert question("model=a").request == Request(model="a")


def test_what_is_wrong_with_the_header_is_told_beside_the_rest() -> None:
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            question("model=a", "x" * 257)
        assert refused.value.message == "session_id: 257 characters; use text of 1 to 256 characters"
    with pytest.raises(Refused) as refused:
        question("model=a&count=x&refuse_with=503", "x" * 257)
    assert refused.value.message.startswith("count: 'x' is not a whole number")
    assert "session_id: 257 characters" in refused.value.message
    assert refused.value.line == 503


# ---- what is wrong with the text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("model=a&model=b", "model: given 2 times; once is allowed"),
        ("model=a&modle=b", "modle: unknown parameter; did you mean model?"),
        ("model=a&promt_tokens=b", "did you mean prompt_tokens?"),
        ("model=a&conversation=b", "conversation: unknown parameter; "),
        (
            "model=a&preferred_max_latency=1&preferred_max_latency.p50=1",
            "preferred_max_latency.p50: given twice, also as preferred_max_latency.p50; once is allowed",
        ),
        ("model=a&explain=yes", "explain: 'yes' is neither true nor false"),
        ("model=a&refuse_with=404", "refuse_with: '404' is not allowed; use 403, 429, 503"),
        ("model=%FF", "the query is not valid UTF-8"),
        ("model=\udcff", "the query is not valid UTF-8"),
        ("&".join(f"a{n}=1" for n in range(301)), "the query has more than 300 fields"),
    ],
)
def test_a_wrong_query_is_refused_with_the_reason(query: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        question(query)
    assert refused.value.status == 400
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("prompt_tokens=1.5", "prompt_tokens: 1.5 is not a whole number from 0 to 1000000000"),
        ("prompt_tokens=1_0", "prompt_tokens: '1_0' is not a whole number"),
        ("prompt_tokens=%C2%B2", "prompt_tokens: '²' is not a whole number"),
        ("prompt_tokens=", "prompt_tokens: '' is not a whole number"),
        ("prompt_tokens=99999999999", "prompt_tokens: 99999999999 is not a whole number"),
        (f"prompt_tokens={'9' * 5000}", "is not a whole number"),
        ("max_tokens=NaN", "max_tokens: 'NaN' is not a whole number"),
        ("max_price.prompt=NaN", "max_price.prompt: 'NaN' is not a price"),
        ("max_price.prompt=1e999", "max_price.prompt: inf is not a price"),
        ("max_price.prompt=inf", "max_price.prompt: 'inf' is not a price"),
        ("max_price.prompt=cheap", "max_price.prompt: 'cheap' is not a price"),
        ("preferred_max_latency=soon", "preferred_max_latency.p50: 'soon' is not a number from 0 to 1000000000"),
        ("zdr=TRUE", "zdr: 'TRUE' is neither true nor false"),
        ("zdr=", "zdr: '' is neither true nor false"),
    ],
)
def test_text_that_is_no_value_is_judged_as_it_was_written(query: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        question(f"model=a&{query}")
    assert message in refused.value.message


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        question("prompt_tokens=x&zdr=maybe&region=a&region=b&modle=a&explain=2&sort=prise")
    assert sorted(refused.value.message.split("; ")) == sorted(
        [
            "modle: unknown parameter",
            "did you mean model?",
            "region: given 2 times",
            "once is allowed",
            "explain: '2' is neither true nor false",
            "zdr: 'maybe' is neither true nor false",
            "sort: 'prise' is not known",
            "did you mean price?",
            "model: is needed",
            "use a model's id or alias",
            "prompt_tokens: 'x' is not a whole number from 0 to 1000000000",
        ]
    )


def test_a_wrong_question_is_refused_every_time() -> None:
    for _ in range(3):
        with pytest.raises(Refused):
            question("model=a&count=x")


# ---- one judge for every way --------------------------------------------------------------------------

MEGABYTE = "x" * 1_000_000


def wish(query: str, **provider: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"model=a&{query}", {"model": "a", "provider": provider}, {"model": "a", "provider": provider}


def need(query: str, **needs: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    own: dict[str, Any] = {
        name: needs.pop(name) for name in ("prompt_tokens", "region", "exclude", "count") if name in needs
    }
    body = {**needs, **({"balancer": own} if own else {})}
    if "output_modalities" in body:
        body["modalities"] = body.pop("output_modalities")
    return f"model=a&{query}", {"model": "a", **body}, {"model": "a", **needs, **own}


WRONG = {
    "no model": ("", {}, {}),
    "empty model": ("model=", {"model": ""}, {"model": ""}),
    "long model": (f"model={'a' * 201}", {"model": "a" * 201}, {"model": "a" * 201}),
    "ten thousand models": need(f"models={','.join(['b'] * 10_000)}", models=["b"] * 10_000),
    "long name in models": need(f"models={'b' * 201}", models=["b" * 201]),
    "a megabyte of a session": need(f"session_id={MEGABYTE}", session_id=MEGABYTE),
    "empty session": need("session_id=", session_id=""),
    "too many only": wish(f"only={','.join('x' * 101)}", only=["x"] * 101),
    "long slug": wish(f"only={'x' * 201}", only=["x" * 201]),
    "unknown sort": wish("sort=prise", sort="prise"),
    "sort in capitals": wish("sort=Price", sort="Price"),
    "unknown partition": wish("partition=all", partition="all"),
    "unknown quantization": wish("quantizations=fp8,fp7", quantizations=["fp8", "fp7"]),
    "floor of nothing known": wish("quantizations=unknown-or-better", quantizations=["unknown-or-better"]),
    "unknown data policy": wish("data_collection=never", data_collection="never"),
    "no flag": wish("zdr=yes", zdr="yes"),
    "negative price": wish("max_price.prompt=-1", max_price={"prompt": -1}),
    "price of no number": wish("max_price.completion=NaN", max_price={"completion": "NaN"}),
    "price beyond all": wish("max_price.completion=1000001", max_price={"completion": 1_000_001}),
    "percentiles out of order": wish(
        "preferred_max_latency.p50=3&preferred_max_latency.p90=2", preferred_max_latency={"p50": 3, "p90": 2}
    ),
    "rising throughput": wish(
        "preferred_min_throughput.p50=20&preferred_min_throughput.p99=30",
        preferred_min_throughput={"p50": 20, "p99": 30},
    ),
    "negative latency": wish("preferred_max_latency=-1", preferred_max_latency=-1),
    "unknown modality": need("output_modalities=picture", output_modalities=["picture"]),
    "negative length": need("prompt_tokens=-1", prompt_tokens=-1),
    "half a token": need("max_tokens=1.5", max_tokens=1.5),
    "length of no number": need("max_tokens=many", max_tokens="many"),
    "too many fallbacks": need("count=101", count=101),
    "empty region": need("region=", region=""),
    "too many tried": need(f"exclude={','.join('x' * 101)}", exclude=["x"] * 101),
    "everything at once": (
        "sort=prise&zdr=yes&preferred_max_latency=-1&count=101&prompt_tokens=-1",
        {
            "provider": {"sort": "prise", "zdr": "yes", "preferred_max_latency": -1},
            "balancer": {"count": 101, "prompt_tokens": -1},
        },
        {
            "provider": {"sort": "prise", "zdr": "yes", "preferred_max_latency": -1},
            "count": 101,
            "prompt_tokens": -1,
        },
    ),
}


@pytest.mark.parametrize(("query", "body", "needs"), WRONG.values(), ids=WRONG)
def test_bad_input_is_refused_in_the_same_words_every_way(
    query: str, body: dict[str, Any], needs: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=":") as wrong:
        Request(**needs)
    with pytest.raises(Refused) as got:
        question(query)
    with pytest.raises(Refused) as posted:
        chat(json.dumps(body).encode())
    assert got.value.message == posted.value.message == str(wrong.value)
    assert got.value.status == posted.value.status == 400
    assert len(str(wrong.value)) < 2000


SOUND = {
    "only and ignore have one in common": wish("only=x,y&ignore=y", only=["x", "y"], ignore=["y"]),
    "lists are empty": wish("order=&only=&ignore=,&quantizations=", order=[], only=[], ignore=[], quantizations=[]),
    "no models": need("models=", models=[]),
    "nothing tried": need("exclude=", exclude=[]),
    "a hundred models": need(f"models={','.join(['b'] * 100)}", models=["b"] * 100),
    "percentiles may be equal": wish(
        "preferred_max_latency.p50=3&preferred_max_latency.p90=3", preferred_max_latency={"p50": 3, "p90": 3}
    ),
    "a floor": wish("quantizations=FP8-or-better", quantizations=["FP8-or-better"]),
    "a free price": wish("max_price.prompt=0", max_price={"prompt": 0}),
    "sort over all": wish("sort=price&partition=none", sort={"by": "price", "partition": "none"}),
    "a session of 256": need(f"session_id={'x' * 256}", session_id="x" * 256),
    "a region": need("region=eu", region="eu"),
    "names nobody has": wish("order=nobody&only=no-one", order=["nobody"], only=["no-one"]),
}


@pytest.mark.parametrize(("query", "body", "needs"), SOUND.values(), ids=SOUND)
def test_odd_input_means_the_same_every_way(query: str, body: dict[str, Any], needs: dict[str, Any]) -> None:
    assert question(query).request == chat(json.dumps(body).encode()).request == Request(**needs)


def test_what_is_told_back_is_what_differs_from_the_defaults() -> None:
    query = "model=a&count=0&zdr=true&preferred_max_latency.p90=3&allow_fallbacks=true"
    query += "&max_price.prompt=2&max_price.completion=0"
    assert told(question(query).request) == {
        "model": "a",
        "count": 0,
        "provider": {
            "zdr": True,
            "max_price.prompt": 2.0,
            "max_price.completion": 0.0,
            "preferred_max_latency": {"p90": 3},
        },
    }


def test_a_posted_question_takes_only_refuse_with() -> None:
    assert refuse_with("") is None
    assert refuse_with("refuse_with=429") == 429
    for query in ("model=a", "refuse_with=200", "refuse_with=403&refuse_with=403"):
        with pytest.raises(Refused):
            refuse_with(query)
