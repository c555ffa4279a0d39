"""What every decision keeps, whatever the world, its history and the request are.

A world has one to eight endpoints of one to three models with every kind of attribute; a history is reports,
probes, questions, drains and waiting; a request wishes for anything. What may be chosen is told here once more, in
other words than the code's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from balancer import Balancer, Cutoffs, Decision, NoEndpoint, Outcome, Preferences, Request
from balancer.core.model import (
    QUANTIZATIONS,
    SOFT_PARAMETERS,
    Catalog,
    Endpoint,
    Limits,
    PriceOverride,
    Pricing,
    Routing,
    StrategyName,
)
from balancer.core.outcome import KINDS
from balancer.core.request import PRECISIONS, SORTS

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
Maker = Callable[["World"], Balancer]

MODELS = ("one/a", "two/b", "three/c")
SUFFIXES = ("", ":nitro", ":floor", ":exacto", ":floor:nitro")
TAGS = ("alpha", "alpha:2", "alpha/east", "alpha/rush", "beta", "beta/calm", "gamma", "delta")
TIERS = {"alpha/rush": "priority", "beta/calm": "flex"}
DOORS = {"alpha:2": "alpha"}
PARAMETERS = (*SOFT_PARAMETERS, "seed")
SLUGS = (*TAGS, "Alpha", "one/a@beta", "nobody")
NOON = 43_200.0  # of the Unix clock at the beginning of every history

LUNCH = PriceOverride(start=720, end=721, prompt=6.0, completion=6.0)
LONG = PriceOverride(min_prompt_tokens=2000, prompt=6.0)


# ---- worlds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What a table is made of. Shape: an endpoint is its model, its tag and its other fields."""

    endpoints: tuple[tuple[str, str, dict[str, Any]], ...]
    strategy: StrategyName
    wall: bool
    seed: int


@st.composite
def some(draw: st.DrawFn, choices: Mapping[str, st.SearchStrategy[Any]], most: int) -> dict[str, Any]:
    """A few of many fields: with all of them at once nothing would be left to choose from."""
    names = draw(st.lists(st.sampled_from(sorted(choices)), max_size=most, unique=True))
    return {name: draw(choices[name]) for name in names}


prices = st.sampled_from((None, 0.0, 1.0, 1.0, 2.0, 5.0))
attributes = some(
    {
        "pricing": st.builds(
            Pricing,
            prompt=prices,
            completion=prices,
            input_cache_read=st.sampled_from((None, 0.1)),
            overrides=st.sampled_from(((), (), (LUNCH,), (LONG,))),
        ),
        "context_length": st.sampled_from((1000, 8000)),
        "max_completion_tokens": st.sampled_from((100, 4000)),
        "max_prompt_tokens": st.sampled_from((500, 3000)),
        "quantization": st.sampled_from(QUANTIZATIONS),
        "supported_parameters": st.frozensets(st.sampled_from(PARAMETERS)),
        "input_modalities": st.sampled_from((frozenset({"text"}), frozenset({"text", "image"}))),
        "output_modalities": st.sampled_from((frozenset({"text"}), frozenset({"text", "audio"}))),
        "region": st.sampled_from(("eu", "eu-west-1", "us")),
        "weight": st.sampled_from((0.5, 2.0)),
        "priority": st.sampled_from((0, 1)),
        "limits": st.sampled_from((Limits(rpm=2), Limits(rpm=0), Limits(tpm=1500))),
        "cache_ttl": st.just(30.0),
        "data_collection": st.just("deny"),
        "zdr": st.just(True),
        "distillable": st.booleans(),
        "misconfigured": st.just("no credential"),
        "base_url": st.just("https://shared.example/v1"),
    },
    most=6,
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    places = draw(
        st.lists(
            st.tuples(st.sampled_from((*MODELS[:1] * 3, *MODELS)), st.sampled_from(TAGS)),
            min_size=draw(st.integers(1, 5)),
            max_size=8,
            unique=True,
        )
    )
    return World(
        tuple((model, tag, draw(attributes)) for model, tag in places),
        draw(st.sampled_from(get_args(StrategyName))),
        draw(st.booleans()),
        draw(st.integers(0, 9)),
    )


@pytest.fixture(scope="session")
def make(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Maker:
    """Make the table of a world."""

    def build(world: World) -> Balancer:
        made = [
            endpoint(
                tag,
                model=model,
                **{"tier": TIERS.get(tag), "door": DOORS.get(tag, ""), "quota": tag.partition("/")[0], **given},
            )
            for model, tag, given in world.endpoints
        ]
        names = {model: (model.partition("/")[2],) for model in MODELS}
        table = Balancer(catalog(*made, aliases=names, routing=Routing(strategy=world.strategy)), seed=world.seed)
        if world.wall:
            table.set_wall(NOON, now=0.0)
        return table

    return build


# ---- requests ----------------------------------------------------------------------------------------

slugs = st.lists(st.sampled_from(SLUGS), max_size=3, unique=True).map(tuple)
wishes = some(
    {
        "order": slugs,
        "only": slugs,
        "ignore": slugs,
        "quantizations": st.lists(st.sampled_from(PRECISIONS), max_size=2).map(tuple),
        "allow_fallbacks": st.booleans(),
        "require_parameters": st.booleans(),
        "data_collection": st.just("deny"),
        "zdr": st.just(True),
        "enforce_distillable_text": st.just(True),
        "max_price_prompt": st.sampled_from((0.0, 1.0, 3.0)),
        "max_price_completion": st.sampled_from((0.0, 1.0, 3.0)),
        "sort": st.sampled_from(SORTS),
        "partition": st.sampled_from(("model", "none")),
        "preferred_max_latency": st.sampled_from((Cutoffs(p50=0.5), Cutoffs(p50=0.5, p99=2.0))),
        "preferred_min_throughput": st.just(Cutoffs(p90=40.0)),
    },
    most=2,
).map(lambda chosen: Preferences(**chosen))

names = st.builds(str.__add__, st.sampled_from(("one/a", *MODELS, "a")), st.sampled_from(("", *SUFFIXES)))
needs = some(
    {
        "models": st.lists(st.one_of(names, st.just("no/such")), max_size=3).map(tuple),
        "prompt_tokens": st.sampled_from((0, 400, 900, 2500, 9000)),
        "max_tokens": st.sampled_from((50, 200, 5000)),
        "require_parameters": st.booleans(),
        "input_modalities": st.sampled_from((("text",), ("text", "image"))),
        "output_modalities": st.sampled_from((("text",), ("audio",))),
        "region": st.sampled_from(("eu", "us")),
        "session_id": st.sampled_from(("s", "t")),
        "conversation": st.just("c"),
        "service_tier": st.sampled_from(("default", "flex", "priority")),
        "exclude": st.lists(st.sampled_from((*TAGS, "one/a@alpha", "two/b@beta")), max_size=2).map(tuple),
        "count": st.integers(0, 9),
    },
    most=2,
)
require = st.lists(st.sampled_from(PARAMETERS), max_size=3, unique=True).map(tuple)
requests = st.builds(
    lambda model, require, wished, rest: Request(model=model, require=require, provider=wished, **rest),
    names,
    require,
    wishes,
    needs,
)


# ---- histories ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """Outcomes of one endpoint, the same so many times."""

    place: int
    outcome: Outcome
    times: int
    source: str


@dataclass(frozen=True)
class Asked:
    """A question; `answer` is how its first choice then fares, if that is reported at all."""

    request: Request
    answer: Outcome | None


@dataclass(frozen=True)
class Handled:
    """The operator drains or resumes an endpoint."""

    place: int
    drain: bool
    lasts: float | None


Step = Told | Asked | Handled
History = Sequence[tuple[float, Step]]  # seconds since the step before

outcomes = st.builds(
    Outcome,
    kind=st.one_of(st.sampled_from(("success", "success", "server_error", "rate_limited")), st.sampled_from(KINDS)),
    latency=st.sampled_from((None, 0.2, 3.0)),
    ttft=st.sampled_from((None, 0.1, 1.0)),
    retry_after=st.sampled_from((None, None, 20.0)),
    prompt_tokens=st.sampled_from((None, 1000)),
    completion_tokens=st.sampled_from((None, 100)),
    cached_tokens=st.sampled_from((None, 900)),
    tool_call_errors=st.sampled_from((None, 0, 1)),
    shallow=st.booleans(),
)
places = st.integers(0, 7)
waits = st.sampled_from((0.0, 0.5, 6.0, 6.0, 31.0, 330.0, 2000.0, 90_000.0))
told = st.builds(Told, places, outcomes, st.integers(1, 6), st.sampled_from(("report", "report", "probe")))
steps: st.SearchStrategy[Step] = st.one_of(
    told,
    told,
    st.builds(Asked, requests, st.one_of(st.none(), outcomes)),
    st.builds(Handled, places, st.booleans(), st.sampled_from((None, 10.0))),
)
histories = st.lists(st.tuples(waits, steps), max_size=25)


class Answer(NamedTuple):
    """What one question came to. `states` are those before it."""

    request: Request
    states: dict[str, tuple[str, ...]]
    found: Decision | NoEndpoint
    now: float


def ask(table: Balancer, request: Request, now: float, **how: bool) -> Decision | NoEndpoint:
    try:
        return table.best(request, now=now, **how)
    except NoEndpoint as refusal:
        return refusal


def states(table: Balancer, now: float) -> dict[str, tuple[str, ...]]:
    """All that hold of each endpoint, the one that is shown first."""
    return {each.id: each.states for each in table.view(now=now).endpoints}


def play(
    table: Balancer, history: History, between: Callable[[Balancer, float], None] | None = None
) -> tuple[float, list[Answer]]:
    """Let it all happen; the moment at which it ends, and every answer."""
    ids = list(table.catalog.endpoints)
    now = 0.0
    answers: list[Answer] = []
    for wait, step in history:
        now += wait
        if between is not None:
            between(table, now)
        match step:
            case Told(place, outcome, times, source):
                for _ in range(times):
                    table.record(ids[place % len(ids)], outcome, now=now, source=source)  # type: ignore[arg-type]
            case Handled(place, True, lasts):
                until = None if lasts is None else now + lasts
                table.drain(ids[place % len(ids)], now=now, until=until)
            case Handled(place):
                table.resume(ids[place % len(ids)], now=now)
            case Asked(request, answer):
                before = states(table, now)
                found = ask(table, request, now)
                answers.append(Answer(request, before, found, now))
                if answer is not None and isinstance(found, Decision):
                    session = request.session_id
                    table.record(found.selected.id, answer, now=now, decision=found.id, session_id=session)
    return now, answers


def chosen(decision: Decision) -> list[str]:
    return [decision.selected.id, *(each.id for each in decision.fallbacks)]


# ---- the filters, in other words ---------------------------------------------------------------------


def means(slug: str, each: Endpoint) -> bool:
    exact = {each.id, each.tag, DOORS.get(each.tag, each.tag)}
    whole = set() if each.tier else {each.provider, each.provider_name.lower()}
    return slug in exact | whole


def width(precision: str) -> int:
    return int(precision.lstrip("abcdefghijklmnopqrstuvwxyz"))


def precise(found: str, wanted: str) -> bool:
    if wanted.endswith("-or-better"):
        return found == "unknown" or width(found) >= width(wanted.removesuffix("-or-better"))
    families = {"fp4": {"fp4", "mxfp4", "nvfp4"}, "fp8": {"fp8", "mxfp8"}}
    return found in families.get(wanted, {wanted})


def price(each: Endpoint, request: Request, wall: float | None) -> tuple[float | None, float | None]:
    sent, answered = each.pricing.prompt, each.pricing.completion
    for override in each.pricing.overrides:
        if override is LONG and request.prompt_tokens is not None and request.prompt_tokens > 2000:
            sent = 6.0
        if override is LUNCH and wall is not None and wall % 86_400 // 60 == 720:
            sent = answered = 6.0
    return sent, answered


def allowed(each: Endpoint, request: Request, models: dict[str, set[str]], wall: float | None) -> bool:
    """Whether no hard filter rules it out; `models` are those asked for, with the tiers that suffixes open."""
    wish, prompt, answer = request.provider, request.prompt_tokens, request.max_tokens
    if each.model not in models:
        return False
    tiers = models[each.model] | {request.service_tier}
    named = any(slug in (each.tag, each.id) for slug in wish.order + wish.only)
    if each.tier is not None and each.tier not in tiers and not named:
        return False
    room = prompt is None or each.context_length is None or prompt + (answer or 0) <= each.context_length
    room &= prompt is None or each.max_prompt_tokens is None or prompt <= each.max_prompt_tokens
    room &= answer is None or each.max_completion_tokens is None or answer <= each.max_completion_tokens
    listed = each.supported_parameters is not None and set(request.require) <= each.supported_parameters
    strict = (request.require_parameters or wish.require_parameters) and bool(request.require)
    sent, answered = price(each, request, wall)
    region = request.region
    return (
        room
        and (not strict or listed)
        and (not wish.only or any(means(slug, each) for slug in wish.only))
        and not any(means(slug, each) for slug in wish.ignore)
        and (wish.allow_fallbacks or not wish.order or any(means(slug, each) for slug in wish.order))
        and (not wish.quantizations or any(precise(each.quantization, word) for word in wish.quantizations))
        and (wish.data_collection == "allow" or each.data_collection == "deny")
        and (not wish.zdr or each.zdr)
        and (not wish.enforce_distillable_text or each.distillable is True)
        and (wish.max_price_prompt is None or (sent is not None and sent <= wish.max_price_prompt))
        and (wish.max_price_completion is None or (answered is not None and answered <= wish.max_price_completion))
        and set(request.input_modalities) <= each.input_modalities
        and set(request.output_modalities) <= each.output_modalities
        and (region is None or (each.region is not None and (each.region + "-").startswith(region + "-")))
        and each.id not in request.exclude
        and each.tag not in request.exclude
    )


def asked(request: Request) -> dict[str, set[str]]:
    """The models that are asked for, and the tiers that their suffixes open; the first of several names counts."""
    found: dict[str, set[str]] = {}
    for name in (request.model, *request.models):
        base, *suffixes = name.split(":")
        tiers = {{"nitro": "priority", "floor": "flex"}.get(suffix, "") for suffix in suffixes}
        found.setdefault(next((model for model in MODELS if base in (model, model.partition("/")[2])), base), tiers)
    return found


def walled(world: World, now: float) -> float | None:
    return NOON + now if world.wall else None


# ---- the properties ----------------------------------------------------------------------------------

FRUGAL = Request(model="one/a", provider=Preferences(max_price_prompt=3.0))
OUT = {"drained", "misconfigured", "throttled"}
ELIGIBLE = {"recovering", "degraded", "unverified", "healthy"}


@given(world=worlds(), history=histories, last=requests)
@example(  # what passed before lunch is too dear at lunch
    world=World(
        (("one/a", "alpha", {"pricing": Pricing(prompt=1.0, overrides=(LUNCH,))}),), "price", wall=True, seed=1
    ),
    history=[(86_390.0, Asked(FRUGAL, None)), (10.0, Asked(FRUGAL, None))],
    last=FRUGAL,
)
@settings(max_examples=300, deadline=None)
def test_what_is_chosen_passes_every_filter_is_well_and_stands_there_once(
    make: Maker, world: World, history: History, last: Request
) -> None:
    """Filters hold in panic too; who is ejected is asked as a declared trial or in panic, and the held never."""
    table = make(world)
    endpoints = table.catalog.endpoints
    _, answers = play(table, [*history, (1.0, Asked(last, None))])
    for request, before, found, now in answers:
        if not isinstance(found, Decision):
            continue
        ids = chosen(found)
        assert len(ids) == len(set(ids))
        assert len(ids) <= 1 + (3 if request.count is None else request.count)
        assert len(ids) == 1 or request.provider.allow_fallbacks or request.provider.order
        models = asked(request)
        for key in ids:
            assert allowed(endpoints[key], request, models, walled(world, now)), (key, request)
        assert found.model == endpoints[ids[0]].model
        assert all(OUT.isdisjoint(before[key]) for key in ids)
        if found.panic:
            assert all(before[key][0] in ("ejected", "half_open") for key in ids)
        else:
            assert before[ids[0]] == ("ejected",) if found.trial else before[ids[0]][0] in ELIGIBLE
            assert all(before[key][0] in ELIGIBLE for key in ids[1:])
        assert found.valid_for == (0.0 if found.trial else 5.0)


@given(world=worlds(), history=histories, last=requests)
@settings(max_examples=300, deadline=None)
def test_every_endpoint_of_the_asked_models_is_explained_exactly_once(
    make: Maker, world: World, history: History, last: Request
) -> None:
    table = make(world)
    now, _ = play(table, history)
    endpoints = table.catalog.endpoints
    found = ask(table, last, now, explain=True)
    if isinstance(found, NoEndpoint) and found.code == "model_not_found":
        return
    models = asked(last)
    lines = found.considered
    assert sorted(line.id for line in lines) == sorted(key for key in endpoints if endpoints[key].model in models)
    for line in lines:
        hard = allowed(endpoints[line.id], last, models, walled(world, now))
        assert hard or line.excluded_by
        assert (line.score is None) == bool(line.excluded_by)
        assert line.share == 0 or not line.excluded_by
    if isinstance(found, Decision):
        shown = [line.id for line in lines if not line.excluded_by]
        assert chosen(found) == shown[: len(chosen(found))]
        assert sum(line.share for line in lines) == pytest.approx(1.0)
        assert next(line for line in lines if line.id == found.selected.id).share > 0
    else:
        assert all(line.excluded_by for line in lines)
        assert set(found.excluded_by) <= {name for line in lines for name in line.excluded_by}


TWO = World(
    (("one/a", "alpha", {"supported_parameters": frozenset()}), ("one/a", "beta", {})),
    "adaptive",
    wall=False,
    seed=1,
)
CACHE = Pricing(prompt=1.5, completion=1.0, input_cache_read=0.0)
CACHED = World((("one/a", "alpha", {}), ("one/a", "beta", {"pricing": CACHE})), "price", wall=False, seed=1)
HIT = Outcome(kind="success", prompt_tokens=1000, cached_tokens=1000)


def relaxed(request: Request, tpm: bool) -> Iterator[tuple[str, Request]]:
    """The request without one of its filters, for each of them."""
    if request.service_tier == "flex":
        return  # as documented, it is served by flex alone wherever there is any: one more may be the only one
    wish = request.provider
    plain = Preferences()
    for each in fields(Preferences):
        # Whoever names an endpoint of a service tier asks for that tier too, so this is more than a filter.
        if each.name in ("only", "order") and set(getattr(wish, each.name)) & TIERS.keys():
            continue
        if each.name not in ("sort", "partition") and getattr(wish, each.name) != getattr(plain, each.name):
            less = replace(wish, **{each.name: getattr(plain, each.name)})
            yield f"provider.{each.name}", replace(request, provider=less)
    for name in ("require_parameters", "require", "input_modalities", "output_modalities", "region", "exclude"):
        if getattr(request, name) != getattr(Request(model="m"), name):
            yield name, replace(request, **{name: getattr(Request(model="m"), name)})
    # A length that is not told counts as the usual one against an operator's limit of tokens.
    for name in () if tpm else ("prompt_tokens", "max_tokens"):
        if getattr(request, name) is not None:
            yield name, replace(request, **{name: None})
    if set(asked(request)) < set(MODELS):
        yield "models", replace(request, models=(*request.models, *MODELS))


@given(world=worlds(), history=histories, last=requests)
@example(  # who supports tools is preferred, and cannot serve
    world=TWO,
    history=[(0.0, Handled(1, True, None))],
    last=Request(model="one/a", require=("tools",), provider=Preferences(ignore=("beta",))),
)
@settings(max_examples=300, deadline=None)
def test_relaxing_a_filter_never_makes_a_request_unanswerable(
    make: Maker, world: World, history: History, last: Request
) -> None:
    table = make(world)
    now, _ = play(table, history)
    tpm = any(given.get("limits", Limits()).tpm is not None for _, _, given in world.endpoints)
    strict, easier = last, dict(relaxed(last, tpm))
    while easier:
        answered = isinstance(ask(table, strict, now, dry=True), Decision)
        for name, request in easier.items():
            found = ask(table, request, now, dry=True)
            assert not answered or isinstance(found, Decision), f"{strict} without {name}: {found}"
        strict = next(iter(easier.values()))
        easier = dict(relaxed(strict, tpm))


@given(world=worlds(), history=histories, last=requests, seconds=st.sampled_from((-40.0, 0.0, 0.0, 7.0, 5000.0)))
@settings(max_examples=300, deadline=None)
def test_the_same_seed_and_calls_give_the_same_answers_whatever_is_only_read_between(
    make: Maker, world: World, history: History, last: Request, seconds: float
) -> None:
    def read(table: Balancer, now: float) -> None:
        for how in ({"dry": True}, {"explain": True}):
            ask(table, last, now + seconds, **how)
            for _, step in history[:2]:
                if isinstance(step, Asked):
                    ask(table, step.request, now, **how)
        table.view(now=now + seconds)
        table.endpoint(next(iter(table.catalog.endpoints)), now=now)
        table.transitions(0)

    ending = [*history, *[(2.0, Asked(last, None))] * 3]
    alone, read_often = make(world), make(world)
    now, answers = play(alone, ending)
    _, others = play(read_often, ending, read)
    assert [outcome_of(each.found) for each in answers] == [outcome_of(each.found) for each in others]
    assert alone.transitions(0) == read_often.transitions(0)
    assert alone.view(now=now) == read_often.view(now=now)


def outcome_of(found: Decision | NoEndpoint) -> Any:
    """All that an answer says."""
    if isinstance(found, Decision):
        return found
    return found.code, found.message, found.excluded_by, found.constraint, found.retry_after, found.considered


@given(world=worlds(), history=histories, last=requests)
@settings(max_examples=300, deadline=None)
def test_a_reader_is_told_what_the_next_decision_will_be_unless_that_is_a_trial(
    make: Maker, world: World, history: History, last: Request
) -> None:
    table = make(world)
    now, _ = play(table, history)
    explained, dry, real = (
        ask(table, last, now, explain=True),
        ask(table, last, now, dry=True),
        ask(table, last, now),
    )
    if isinstance(real, Decision) and real.trial and not real.panic:
        return
    if isinstance(real, NoEndpoint):
        assert outcome_of(dry) == outcome_of(real)
        assert str(explained) == str(real)
        return
    assert isinstance(explained, Decision)
    assert isinstance(dry, Decision)
    assert chosen(explained) == chosen(dry) == chosen(real)
    assert dry.id != real.id


@given(world=worlds(), history=histories, last=requests)
@example(  # the last cache hit is forgotten, and nothing else changes
    world=CACHED,
    history=[
        (0.0, Told(1, HIT, 40, "report")),
        (400.0, Asked(Request(model="one/a"), None)),
        (1500.0, Handled(0, False, None)),
    ],
    last=Request(model="one/a"),
)
@settings(max_examples=300, deadline=None)
def test_the_same_configuration_applied_again_changes_no_answer(
    make: Maker, world: World, history: History, last: Request
) -> None:
    table = make(world)
    now, _ = play(table, history)
    later = now + 50.0
    for moment in (now, later):  # what is remembered between decisions is what a new look finds
        before = ask(table, last, moment, explain=True)
        table.apply(table.catalog, now=moment)
        after = ask(table, last, moment, explain=True)
        assert outcome_of(before) == outcome_of(after)
