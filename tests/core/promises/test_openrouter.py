"""Every row of OpenRouter's feature table that concerns choice, through the public door.

A case is a world, what happened in it, a request, and what must come of it. Its id begins with the row's name.
"ours:" marks what is meant to differ from OpenRouter, "not built:" what is left out, each with what ours does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from re import sub
from typing import Any, NamedTuple

import pytest

from balancer.core.model import Constraint, Limits, Pricing
from balancer.core.outcome import COUNTS

MODEL, OTHER = "author/slug", "author/other"

ROWS = (
    "Endpoint identity", "Classic strategy (`price`)", "Blended price for the lottery",
    "Adaptive strategy (our default, our own score)", "Preference object", "Sort", "Thresholds", "Hard filters",
    "Soft capability filter", "Empty set", "Suffixes", "Model fallbacks", "Sticky sessions", "Own-key priority",
    "Outcome classes", "Windows", "Health states", "Breaker / backoff / cap", "Anti-flap guards", "Tool quality",
    "Probes", "Decision API", "Errors", "Operator controls",
)  # fmt: skip
"""The rest of the table is told, drawn or timed, and chooses nothing: uptime fields, stall detection, read API,
chart data, attribution, metrics."""

PREFERENCES = (
    "order", "allow_fallbacks", "require_parameters", "data_collection", "zdr", "enforce_distillable_text", "only",
    "ignore", "quantizations", "sort", "preferred_min_throughput", "preferred_max_latency", "max_price",
)  # fmt: skip


# ---- what cases are made of --------------------------------------------------------------------------

World = Sequence[tuple[str, dict[str, Any]]]
Step = Callable[[Any], None]
Expected = Callable[[Any, dict[str, Any]], None]


class Case(NamedTuple):
    """`before` is what happened, told to a play; `expected` asks it, and judges the answer."""

    says: str
    world: World
    asked: dict[str, Any]
    expected: Expected
    before: Sequence[Step] = ()
    routing: dict[str, Any] = {}  # noqa: RUF012  nobody writes into it


def e(tag: str, price: float | None = 1.0, **fields: Any) -> tuple[str, dict[str, Any]]:
    return tag, {"price": price, **fields}


def wish(**provider: Any) -> dict[str, Any]:
    return {"provider": provider}


def does(what: str) -> Callable[..., Step]:
    """A step of that name."""
    return lambda *of, **facts: lambda play: getattr(play, what)(*of, **facts)


def says(what: str) -> Callable[..., Expected]:
    """A judgement of that name: `order("a b", panic=True)` asks, and judges the tags and a field of the answer."""
    return lambda *of, **facts: lambda play, asked: getattr(play, what)(asked, *of, **facts)


told, turn, wait, drain, resume = map(does, ("told", "turn", "wait", "drain", "resume"))
order, last, shares, excluded, first = map(says, ("order", "last", "shares", "excluded", "first"))
refused, invalid = map(says, ("refused", "invalid"))


def ok(tag: str, times: int = 1, **facts: Any) -> Step:
    return told(tag, "success", times, **facts)


def bad(tag: str, times: int = 5, **facts: Any) -> Step:
    return told(tag, "server_error", times, **facts)


def mixed(tag: str, good: int, rounds: int) -> tuple[Step, ...]:
    """So many successes and then a failure, again and again."""
    return (ok(tag, good), bad(tag, 1)) * rounds


# ---- the worlds that several cases share -------------------------------------------------------------

AB = (e("a"), e("b", 2.0))
ABC = (e("a", 1.0), e("b", 2.0), e("c", 3.0))
RICH = (
    e("a", 1.0),
    e("b", 2.0, supported_parameters=frozenset({"seed"}), data_collection="deny", zdr=True, distillable=True,
      quantization="fp8"),
)  # fmt: skip
DOORS = (
    e("azure/rush", 0.5, tier="priority"),
    e("azure/eastus2", 1.0),
    e("azure/west", 2.0, provider_name="Azure AI Foundry"),
    e("openai", 3.0),
)
KEYS = (e("openai"), e("openai:2", 2.0, door="openai", provider="openai"), e("other", 3.0))
QUIET = tuple(ok(tag, 20) for tag in "abc")  # everybody has served well
OUTAGE = (*QUIET, wait(60.0), bad("b", 2))
CACHED = {"prompt_tokens": 10_000, "max_tokens": 10}
CACHING = (e("a"), e("b", pricing=Pricing(prompt=2.0, completion=1.0, input_cache_read=0.1)))
DEARER = (e("a"), e("b", pricing=Pricing(prompt=9.0, completion=9.0, input_cache_read=0.1)))
HITS = (ok("a", 40), ok("b", 40, prompt_tokens=1000, cached_tokens=1000))
TOOLERS = tuple(e(tag, price) for price, tag in enumerate("abcd", start=1))
MANY = (*TOOLERS, e("x", 5.0))
XY = (e("x", 9.0), e("y", 1.0, model=OTHER))
FAR = (e("a"), e("b", 40.0))
NEAR = (e("a"), e("b", 1.3))
BARE = (e("a", supported_parameters=frozenset()), e("b", 2.0))
IDLE = (e("a"), e("a/idle", 0.5, tier="flex"))
FREE = (e("a"), e("b", 0.0, model=f"{MODEL}:free"))
BLENDS = (
    e("in", pricing=Pricing(prompt=1.0, completion=9.0)),
    e("out", pricing=Pricing(prompt=3.0, completion=1.0)),
)
SIX = tuple(e(f"p{place}", float(place)) for place in range(1, 7))
FAILING = tuple(e(tag, 1 + place / 100) for place, tag in enumerate("abc"))
OWN = (e("own", 9.0), e("shared", 1.0, priority=1), e("spare", 0.5, priority=2))
DUE = (bad("a"), wait(10.0))  # its trial is
TENTH = (*mixed("a", 9, 3), ok("b", 30))  # of what was tried failed
EIGHTH = (*mixed("a", 7, 12), ok("a", 2))
FIFTH = (*mixed("a", 4, 1), wait(60.0), ok("b"), wait(60.0)) * 120  # for four hours
BRIEF = (ok("a", 40), wait(60.0), bad("a", 2))
CHEAP = {"source": "probe", "shallow": True}
ALL_OWN = (ok("own", 20), ok("shared", 20), ok("spare", 20))
LIMITED = (e("a", quota="a", limits=Limits(rpm=2)), e("b", 2.0))
FULL = (ok("a", 9), told("a", "rate_limited", 3), wait(70.0))  # twelve in a minute were too many
SESSION = {"session_id": "s"}
AWAY = (drain("a"), turn(**SESSION), resume("a"))  # it was served by the dearer one
DERIVED = (drain("a"), turn(conversation="s"), resume("a"))
DEAR = Constraint(
    field="provider.max_price",
    detail="rules out 2 of 3 endpoints; the cheapest asks 5 and 5 USD per million tokens sent and received",
)
PRICE = {"strategy": "price"}
CHEAPEST = wish(sort="price")
EXACTO = wish(sort="exacto")
FAST = {"latency": 1.0, "ttft": 0.2, "completion_tokens": 100}
SLOW = {"latency": 9.0, "ttft": 3.0, "completion_tokens": 100}
RACE = (ok("a", **SLOW), ok("b", **FAST))
TAIL = (ok("a", 8, **FAST), ok("a", 2, **SLOW))
SPEEDS = tuple(ok(tag, 20, **(SLOW if tag == "a" else FAST)) for tag in "abcd")


def toolers(*, broken: int, among: str = "abcd") -> tuple[Step, ...]:
    """The first of them breaks so many of 240 tool requests, and the others none."""
    first = (ok(among[0], 240 - broken, tool_call_errors=0), ok(among[0], broken, tool_call_errors=1))
    return (*first, *(ok(tag, 240, tool_call_errors=0) for tag in among[1:]))


def hard(name: str, out: dict[str, Any], well: dict[str, Any], asked: dict[str, Any]) -> Iterator[Case]:
    """A filter leaves the dearer endpoint, and refuses in its name where only the cheaper one is."""
    code = "privacy_restricted" if name.startswith("data_policy") else "constraint_filtered"
    yield Case(f"{name}: only who passes", (e("no", **out), e("yes", **{"price": 1.5} | well)), asked, order("yes"))
    yield Case(f"{name}: a refusal that names it", (e("no", **out),), asked, refused(code, name))


# ---- the table ---------------------------------------------------------------------------------------

TABLE: dict[str, Sequence[Case]] = {
    "Endpoint identity": (
        Case("a base slug takes every variant and no tier", DOORS, wish(only=["azure"]),
             order("azure/eastus2 azure/west")),
        Case("a tag takes one", DOORS, wish(only=["azure/west"]), order("azure/west")),
        Case("a tier is taken by its full slug", DOORS, wish(only=["azure/rush"]), order("azure/rush")),
        Case("case does not matter", DOORS, wish(only=["AZURE/West"]), order("azure/west")),
        Case("a display name works too", DOORS, wish(only=["azure ai foundry"]), order("azure/west")),
        Case("an id is a slug", DOORS, wish(order=[f"{MODEL}@openai"]), order("openai azure/eastus2 azure/west")),
        Case("a slug that nobody has matches nobody", AB, wish(ignore=["nobody"]), order("a b")),
        Case("a tag takes the copies for its other keys", KEYS, wish(only=["openai"]), order("openai openai:2")),
        Case("a copy is taken by its own tag", KEYS, wish(only=["openai:2"]), order("openai:2")),
    ),
    "Classic strategy (`price`)": (
        Case("1/price² among the stable", ABC, {}, shares(a=0.9, b=0.0, c=0.1), OUTAGE, PRICE),
        Case("an outage goes last and is not dropped", ABC, {}, last("b"), OUTAGE, PRICE),
        Case("after 30 s it is forgotten; ours: but for the weight, which follows the chance of success", ABC, {},
             shares(a=0.9, b=0.0, c=0.1), (*OUTAGE, wait(31.0)), PRICE),
        Case("ours: of long ago it is all but forgotten", ABC, {}, shares(a=0.7366, b=0.1816, c=0.0818),
             (*OUTAGE, wait(9000.0), *QUIET), PRICE),
        Case("ours: significant is two failures and a fifth of the 30 s; one costs only weight", ABC, {},
             first("a c b"), (*QUIET, wait(60.0), bad("b", 1)), PRICE),
        Case("no lottery under order", ABC, wish(order=["c"]), shares(a=0.0, b=0.0, c=1.0), (), PRICE),
        Case("no lottery under sort", ABC, CHEAPEST, order("a b c", strategy="sort:price"), (), PRICE),
    ),
    "Blended price for the lottery": (
        Case("ours: what this request costs, a long prompt", BLENDS, {"prompt_tokens": 10_000, "max_tokens": 10},
             shares(**{"in": 0.8984, "out": 0.1016}), (), PRICE),
        Case("ours: what this request costs, a long answer", BLENDS, {"prompt_tokens": 10, "max_tokens": 200},
             shares(**{"in": 0.0159, "out": 0.9841}), (), PRICE),
        Case("free counts as a tenth of the cheapest paid one", (e("a", 0.0), e("b", 1.0)), {},
             shares(a=100 / 101, b=1 / 101), (), PRICE),
        Case("where all are free they are equal", (e("a", 0.0), e("b", 0.0)), {}, shares(a=0.5, b=0.5), (), PRICE),
        Case("ours: an unknown price is as dear as the dearest", (e("a", None), e("b", 1.0), e("c", 2.0)), {},
             shares(a=1 / 6, b=2 / 3, c=1 / 6), (), PRICE),
    ),
    "Adaptive strategy (our default, our own score)": (
        Case("the cheapest of equally good ones", AB, {}, order("a b", strategy="adaptive")),
        Case("the effective price has cache hits in it", CACHING, CACHED, order("b a"), HITS),
        Case("without hits the list price holds", CACHING, CACHED, order("a b"), (ok("a", 40), ok("b", 40))),
        Case("ours: speed is worth what the operator says, the whole answer's time", AB, {}, order("b a"),
             (ok("a", 9, **SLOW), ok("b", 9, **FAST)), {"value_of_time": 0.01}),
        Case("ours: by default speed is worth nothing", AB, {}, order("a b"),
             (ok("a", 9, **SLOW), ok("b", 9, **FAST))),
        Case("errors cost more than a higher price", NEAR, {}, order("b a"), TENTH),
        Case("but not more than any price", FAR, {}, order("a b"), TENTH),
        Case("a 429 is a failed try when its hold is over", NEAR, {}, order("b a"),
             (told("a", "rate_limited", 3, retry_after=1.0), wait(120.0))),
        Case("ours: the unproven are explored where nothing was seen lately", NEAR, {}, shares(a=0.005, b=0.995),
             (bad("a", 4), wait(400.0), ok("b", 20))),
        Case("ours: no share for one that is known to be worse", NEAR, {}, shares(a=1.0, b=0.0),
             (ok("a", 20), ok("b", 20))),
        Case("a new one is taken for a typical peer, good", (e("a"), e("b", 1.01), e("new", 0.9)), {},
             order("new a b"), (ok("a"), ok("b"), wait(100.0)) * 400),
        Case("a new one is taken for a typical peer, bad",
             (e("a"), e("b", 1.01), e("well", 1.6), e("new", 0.9)), {}, order("well new a b"),
             (bad("a", 1), bad("b", 1), ok("a", 9), ok("b", 9), ok("well"), wait(100.0)) * 200),
        Case("ours: fallbacks by the cost that is left, given that their kin failed",
             (e("one/x"), e("one/y", 1.01), e("two", 1.05)), {}, order("one/x two one/y")),
    ),
    "Preference object": (
        Case("order", RICH, wish(order=["b"]), order("b a")),
        Case("allow_fallbacks", RICH, wish(allow_fallbacks=False), order("a")),
        Case("allow_fallbacks false keeps those in order", ABC, wish(order=["c", "b"], allow_fallbacks=False),
             order("c b")),
        Case("require_parameters", RICH, {"require": ("seed",), **wish(require_parameters=True)}, order("b")),
        Case("data_collection", RICH, wish(data_collection="deny"), order("b")),
        Case("zdr", RICH, wish(zdr=True), order("b")),
        Case("enforce_distillable_text", RICH, wish(enforce_distillable_text=True), order("b")),
        Case("only", RICH, wish(only=["b"]), order("b")),
        Case("ignore", RICH, wish(ignore=["a"]), order("b")),
        Case("quantizations", RICH, wish(quantizations=["fp8"]), order("b")),
        Case("sort", RICH, wish(sort="price"), order("a b", strategy="sort:price")),
        Case("preferred_min_throughput", RICH, wish(preferred_min_throughput=50), order("b a"), RACE),
        Case("preferred_max_latency", RICH, wish(preferred_max_latency=1), order("b a"), RACE),
        Case("max_price", RICH, wish(max_price={"prompt": 1.5}), order("a")),
        Case("max_price may be text", RICH, wish(max_price={"completion": "1.5"}), order("a")),
        Case("null is no wish", RICH, wish(zdr=None, order=None, sort=None), order("a b")),
        Case("an empty list is no wish", RICH, wish(only=[], order=[], quantizations=[]), order("a b")),
        Case("unknown keys are ignored, options among them", RICH, wish(options={"a": {}}, colour="red"),
             order("a b")),
        Case("who is in only and in ignore is ignored", RICH, wish(only=["a", "b"], ignore=["a"]), order("b")),
        Case("not built: prices per image or sound, so that wish is refused", RICH, wish(max_price={"image": 1}),
             invalid("no such price here")),
        Case("an unknown word is refused", RICH, wish(sort="cheap"), invalid("sort: 'cheap' is not known")),
    ),
    "Sort": (
        Case("price", AB, wish(sort="price"), shares(a=1.0, b=0.0), (), PRICE),
        Case("latency", AB, wish(sort="latency"), order("b a"), RACE),
        Case("throughput", AB, wish(sort="throughput"), order("b a"), RACE),
        Case("exacto", TOOLERS, wish(sort="exacto"), last("a"), toolers(broken=60)),
        Case("an unknown figure is the peers' median", ABC, wish(sort="latency"), order("a c b"),
             (ok("a", ttft=1.0), ok("b", ttft=3.0))),
        Case("degraded is a lower tier", AB, CHEAPEST, order("b a"), (ok("a"), bad("a", 3))),
        Case("by model, the primary's endpoints first", XY,
             {"models": (OTHER,), **wish(sort={"by": "price", "partition": "model"})}, order("x y")),
        Case("partition none sorts over all models", XY,
             {"models": (OTHER,), **wish(sort={"by": "price", "partition": "none"})}, order("y x", model=OTHER)),
    ),
    "Thresholds": (
        Case("who misses one goes last and stays", ABC, wish(preferred_max_latency=1), order("b c a"),
             (ok("a", **SLOW),)),
        Case("where all miss it nothing changes", AB, wish(preferred_max_latency=0.1), order("a b"), RACE),
        Case("every percentile that is given must hold", AB, wish(preferred_max_latency={"p50": 1, "p90": 2}),
             order("b a"), TAIL),
        Case("one percentile alone may hold", AB, wish(preferred_max_latency={"p50": 1}), order("a b"), TAIL),
        Case("p90 of a throughput is its slow tail", AB, wish(preferred_min_throughput={"p50": 50, "p90": 40}),
             order("b a"), TAIL),
        Case("five minutes later it is forgotten", AB, wish(preferred_max_latency=1), order("a b"),
             (ok("a", **SLOW), wait(330.0))),
        Case("who is unknown misses nothing", AB, wish(preferred_max_latency=0.01), order("a b")),
        Case("a fallback model may be promoted", XY, {"models": (OTHER,), **wish(preferred_max_latency=1)},
             order("y x", model=OTHER), (ok("x", **SLOW), ok("y", **FAST))),
    ),
    "Hard filters": (
        *hard("allowed_providers", {}, {}, wish(only=["yes"])),
        *hard("ignored_providers", {}, {}, wish(ignore=["no"])),
        *hard("quantization", {"quantization": "int4"}, {"quantization": "mxfp8"},
              wish(quantizations=["fp8", "bf16"])),
        *hard("quantization", {"quantization": "fp8"}, {"quantization": "mxfp8"}, wish(quantizations=["mxfp8"])),
        *hard("quantization", {"quantization": "fp4"}, {"quantization": "bf16"},
              wish(quantizations=["fp8-or-better"])),
        *hard("quantization", {"quantization": "int4"}, {}, wish(quantizations=["fp8-or-better"])),
        *hard("max_price", {"price": 3.0}, {}, wish(max_price={"prompt": 2})),
        *hard("max_price", {"price": None}, {}, wish(max_price={"completion": 2})),
        *hard("data_policy:zdr", {}, {"zdr": True}, wish(zdr=True)),
        *hard("data_policy:training", {}, {"data_collection": "deny"}, wish(data_collection="deny")),
        *hard("require_parameters", {}, {"supported_parameters": frozenset({"seed"})},
              {"require": ("seed",), **wish(require_parameters=True)}),
        *hard("distillable_text", {}, {"distillable": True}, wish(enforce_distillable_text=True)),
        *hard("max_completion_tokens", {"max_completion_tokens": 100}, {}, {"max_tokens": 101}),
        *hard("context_length", {"context_length": 1000}, {"context_length": 1100},
              {"prompt_tokens": 1000, "max_tokens": 100}),
        *hard("max_prompt_tokens", {"max_prompt_tokens": 999}, {}, {"prompt_tokens": 1000}),
        *hard("input_modalities", {}, {"input_modalities": frozenset({"text", "image"})},
              {"input_modalities": ("text", "image")}),
        *hard("output_modalities", {}, {"output_modalities": frozenset({"audio"})},
              {"output_modalities": ("audio",)}),
        *hard("data_region", {"region": "us"}, {"region": "eu-west-1"}, {"region": "eu"}),
        *hard("already_tried", {}, {}, {"exclude": ("no",)}),
        Case("they hold in panic", (e("a"), e("b", zdr=True)), wish(zdr=True), order("b", panic=True), (bad("b"),)),
    ),
    "Soft capability filter": (
        *(
            Case(f"{name}: only who supports it",
                 (e("a", supported_parameters=frozenset()), e("b", 2.0), e("c", 3.0)), {"require": (name,)},
                 order("b c"))
            for name in ("tools", "response_format", "verbosity")
        ),
        Case("ignored where nobody supports it", BARE[:1], {"require": ("tools",)}, order("a")),
        Case("other parameters filter nobody", BARE, {"require": ("seed",)}, order("a b")),
        Case("ours: it gives way when those who support it cannot serve", BARE, {"require": ("tools",)}, order("a"),
             (drain("b"),)),
        Case("it does not give way to panic", BARE, {"require": ("tools",)}, order("b", panic=True),
             (ok("a"), bad("b"))),
    ),
    "Empty set": (
        Case("constraint_filtered, with every filter that took part", (e("a", 5.0), e("b", zdr=True)),
             wish(max_price={"prompt": 1}, ignore=["b"]),
             refused("constraint_filtered", "max_price", "ignored_providers", retryable=False)),
        Case("the filter that did most is named with its field", (e("a", 5.0), e("b", 6.0), e("c")),
             wish(max_price={"prompt": 1}, ignore=["c"]),
             refused("constraint_filtered", "max_price", "ignored_providers", constraint=DEAR)),
        Case("privacy_restricted, where only privacy rules somebody out", AB, wish(zdr=True),
             refused("privacy_restricted", "data_policy:zdr")),
        Case("ours: no_endpoints is unavailable, for a model cannot be without any", AB, {},
             refused("unavailable", "drained"), (drain(MODEL),)),
    ),
    "Suffixes": (
        Case(":nitro sorts by throughput", AB, {"model": f"{MODEL}:nitro"},
             order("b a", strategy="sort:throughput"), RACE),
        Case(":nitro makes the priority tier eligible", (e("a"), e("a/fast", 9.0, tier="priority")),
             {"model": f"{MODEL}:nitro"}, order("a/fast a"), (ok("a", **SLOW), ok("a/fast", **FAST))),
        Case(":floor sorts by price", AB, {"model": f"{MODEL}:floor"}, order("a b", strategy="sort:price"), (),
             PRICE),
        Case(":floor makes the flex tier eligible", IDLE, {"model": f"{MODEL}:floor"}, order("a/idle a")),
        Case("without a suffix no tier is eligible", IDLE, {}, order("a")),
        Case(":exacto sorts by quality", TOOLERS, {"model": f"{MODEL}:exacto"}, last("a"), toolers(broken=60)),
        Case("the last of several sorts wins", AB, {"model": f"{MODEL}:nitro:floor"},
             order("a b", strategy="sort:price"), RACE),
        Case("a catalog variant is a model of its own", FREE, {"model": f"{MODEL}:free"},
             order("b", model=f"{MODEL}:free")),
        Case("a variant and a sort combine in any order", FREE, {"model": f"{MODEL}:nitro:free"},
             order("b", strategy="sort:throughput")),
        Case("a variant that is not configured is no model, never its base", AB, {"model": f"{MODEL}:free"},
             refused("model_not_found", near=(MODEL,))),
        Case("an unknown suffix is no model", AB, {"model": f"{MODEL}:turbo"},
             refused("model_not_found", near=(MODEL,))),
    ),
    "Model fallbacks": (
        Case("the next model stands behind the first, whatever it costs", XY, {"models": (OTHER,)},
             order("x y", model=MODEL)),
        Case("a prompt that is too long goes to the next model", (e("x", context_length=100), e("y", model=OTHER)),
             {"models": (OTHER,), "prompt_tokens": 200}, order("y", model=OTHER)),
        Case("so does a wish that nobody of the first meets", (e("x"), e("y", model=OTHER, zdr=True)),
             {"models": (OTHER,), **wish(zdr=True)}, order("y", model=OTHER)),
        Case("and what is down", XY, {"models": (OTHER,)}, order("y", panic=False), (bad("x"),)),
        Case("and what is rate limited", XY, {"models": (OTHER,)}, order("y"), (told("x", "rate_limited"),)),
        Case("a model that is not configured is passed over", (e("x"),), {"model": "no/such", "models": (MODEL,)},
             order("x")),
        Case("models alone are enough", XY, {"model": "", "models": (OTHER, MODEL)}, order("y x")),
        Case("partition none puts all models into one race", XY, {"models": (OTHER,), **wish(partition="none")},
             order("y x", model=OTHER)),
    ),
    "Sticky sessions": (
        Case("a session stays where it was served", AB, SESSION, order("b a", sticky=True), AWAY),
        Case("others go by the strategy", AB, {"session_id": "t"}, order("a b", sticky=False), AWAY),
        Case("for 600 s of idleness", AB, SESSION, order("b a", sticky=True), (*AWAY, wait(599.0))),
        Case("and no longer", AB, SESSION, order("a b", sticky=False), (*AWAY, wait(600.0))),
        Case("ours: as long as the provider's cache lives, where that is known",
             (e("a"), e("b", 2.0, cache_ttl=30.0)), SESSION, order("a b"), (*AWAY, wait(30.0))),
        Case("ours: with order, among those that are in it", AB, SESSION | wish(order=["a", "b"]),
             order("b a", sticky=True), AWAY),
        Case("order wins over a session with somebody else", AB, SESSION | wish(order=["a"]),
             order("a b", sticky=False), AWAY),
        Case("by model", (*AB, e("c", model=OTHER), e("d", 2.0, model=OTHER)), {"model": OTHER, **SESSION},
             order("c d", sticky=False), AWAY),
        Case("ours: one failure does not clear it", AB, SESSION, order("b a", sticky=True),
             (*AWAY, bad("b", 1, session="s"))),
        Case("ours: two in a row do", AB, SESSION, order("a b", sticky=False), (*AWAY, bad("b", 2, session="s"))),
        Case("health comes first", AB, SESSION, order("a", sticky=False), (*AWAY, bad("b"))),
        Case("session_id stands above a derived key", DEARER, {"session_id": "t", "conversation": "s"},
             order("a b"), (*HITS, *DERIVED)),
        Case("a derived key sticks where a cache was seen to hit", DEARER, {"conversation": "s"},
             order("b a", sticky=True), (*HITS, *DERIVED)),
        Case("and nowhere else", DEARER, {"conversation": "s"}, order("a b", sticky=False), DERIVED),
        Case("a key of 256 characters", AB, {"session_id": "k" * 256}, order("a b")),
        Case("and no longer one", AB, {"session_id": "k" * 257}, invalid("session_id: 257 characters")),
    ),
    "Own-key priority": (
        Case("prioritized, then shared, then fallback, whatever they cost", OWN, {}, order("own shared spare")),
        Case("an own key that is degraded spills to the next", OWN, CHEAPEST, order("shared own spare"),
             (*ALL_OWN, wait(5.0), bad("own", 4))),
        Case("an own key that is down is left out", OWN, {}, order("shared spare"), (bad("own"),)),
        Case("each key is a copy of the endpoint, with a quota of its own", KEYS, {}, order("openai:2 other"),
             (told("openai", "rate_limited"),)),
        Case("ours: the user's order stands above the operator's priority", OWN, wish(order=["spare"]),
             order("spare own shared")),
        Case("not built: filters by key, so a key serves whoever asks", KEYS, {"session_id": "u"},
             order("openai openai:2 other")),
    ),
    "Outcome classes": (
        *(
            Case(f"{kind}: against it", AB, {}, order("b"), (told("a", kind, 5),))
            for kind in COUNTS if COUNTS[kind] == "failure"
        ),
        *(
            Case(f"{kind}: for nothing", AB, {}, order("a b"), (told("a", kind, 20),))
            for kind in COUNTS if COUNTS[kind] == "none"
        ),
        Case("success: for it", AB, {}, order("a b"), (ok("a", 5),)),
        Case("rate_limited: a hold and no error", AB, CHEAPEST, order("b"), (told("a", "rate_limited"),)),
        Case("rate_limited: never an ejection", AB, wish(order=["a"]), order("a b", panic=False),
             (ok("a"), told("a", "rate_limited", 9, retry_after=1.0), wait(70.0))),
        Case("ours: 401, 402, 403, 404 are our account: after three nobody is asked", AB, {}, order("b"),
             (told("a", "refused", 3),)),
        Case("ours: overloaded with a hint is a hold too", AB, {}, order("b"),
             (told("a", "overloaded", retry_after=9.0),)),
    ),
    "Windows": (
        Case("30 s: an outage counts", AB, CHEAPEST, order("b a"), (*BRIEF, wait(29.0))),
        Case("30 s: and is over", AB, CHEAPEST, order("a b"), (*BRIEF, wait(31.0))),
        Case("5 min: a streak counts", AB, CHEAPEST, order("b a"), (ok("a", 5), bad("a", 3), wait(280.0))),
        Case("ours: and is over when it is no longer believed", AB, CHEAPEST, order("a b"),
             (ok("a", 5), bad("a", 3), wait(1800.0))),
        Case("30 min: cache hits count", CACHING, CACHED, order("b a"), (*HITS, wait(1700.0))),
        Case("30 min: and are over", CACHING, CACHED, order("a b"), (*HITS, turn(), wait(1900.0))),
        Case("2 h: broken tool calls count", TOOLERS, wish(sort="exacto"), last("a"),
             (*toolers(broken=60), wait(7000.0))),
        Case("2 h: and are over", TOOLERS, wish(sort="exacto"), shares(a=0.25, b=0.25, c=0.25, d=0.25),
             (*toolers(broken=60), wait(7500.0))),
        Case("1 d: yesterday's failures count", NEAR, {}, order("b a"), (*FIFTH, wait(60_000.0))),
        Case("1 d: and are over", NEAR, {}, order("a b"), (*FIFTH, *(ok("a", 1), wait(600.0)) * 300)),
    ),
    "Health states": (
        Case("95 % and more is normal", AB, CHEAPEST, order("a b"), mixed("a", 24, 4)),
        Case("80 to 94 % has a lower priority", AB, CHEAPEST, order("b a"), EIGHTH),
        Case("ours: under adaptive that is its price of failure, not a tier", FAR, {},
             order("a b"), EIGHTH),
        Case("below 80 %: ours is no fallback either, until its trial", AB, {}, order("b"), mixed("a", 1, 10)),
        Case("below 80 %: a fallback where there is nobody else", AB[:1], {}, order("a", panic=True),
             mixed("a", 1, 10)),
        Case("ours: bounds instead of 100 requests, one failure says nothing", AB, CHEAPEST, order("a b"),
             (bad("a", 1),)),
        Case("ours: bounds instead of 100 requests, five in a row do", AB, {}, order("b"), (bad("a", 5),)),
        Case("insufficient data is eligible", AB, {}, order("a b"), (ok("b", 50),)),
    ),
    "Breaker / backoff / cap": (
        Case("Retry-After is honoured", AB, CHEAPEST, order("b"),
             (told("a", "rate_limited", retry_after=60.0), wait(59.0))),
        Case("and no longer", AB, CHEAPEST, order("a b"),
             (told("a", "rate_limited", retry_after=60.0), wait(62.0))),
        Case("without one a hold begins at 5 s at most", AB, wish(order=["a"]), order("a b"),
             (told("a", "rate_limited"), wait(5.0))),
        Case("and doubles", AB, CHEAPEST, order("b"),
             (told("a", "rate_limited"), wait(5.0), told("a", "rate_limited"), wait(4.9))),
        Case("a success ends the doubling", AB, wish(order=["a"]), order("a b"),
             (told("a", "rate_limited"), wait(5.0), ok("a"), told("a", "rate_limited"), wait(5.0))),
        Case("a cap is learned: beyond it the excess goes elsewhere", AB, CHEAPEST, order("b a"),
             (ok("a", 10), told("a", "rate_limited", 3), wait(25.0))),
        Case("below it nothing changes", AB, CHEAPEST, order("a b"),
             (ok("a", 10), told("a", "rate_limited"), wait(70.0))),
        Case("it cuts at 0.8 of what was sent", AB, CHEAPEST, order("a b"), (*FULL, ok("a", 8))),
        Case("and holds from there", AB, CHEAPEST, order("b a"), (*FULL, ok("a", 10))),
        Case("it rises when 429s stop", AB, CHEAPEST, order("a b"), (*FULL, wait(3000.0), ok("a", 11))),
        Case("half-open: one request is the trial", AB, {}, order("a b", trial=True, valid_for=0.0), DUE),
        Case("half-open: and no second one", AB, {}, order("b", trial=False), (*DUE, lambda play: play.best({}))),
        Case("a failed trial is a longer hold", AB, {}, order("b"), (*DUE, turn("timeout"), wait(9.9))),
        Case("ours: a passed trial leads to slow start, a share that grows", FAR, {}, shares(a=1 / 11, b=10 / 11),
             (*DUE, turn())),
        Case("slow start is over after ten successes", AB, CHEAPEST, shares(a=1.0, b=0.0),
             (*DUE, turn(), wait(310.0), ok("a", 10))),
        Case("not built: a breaker by peers, so ten per cent among the perfect is degraded", ABC, CHEAPEST,
             order("b c a"), (*mixed("a", 9, 10), ok("a"), ok("b", 100), ok("c", 100))),
    ),
    "Anti-flap guards": (
        Case("never back to one with worse uptime, but as the last", FAILING, {}, order("c b a"),
             (*mixed("a", 5, 4), *mixed("b", 11, 4), ok("c", 48))),
        Case("ejections never empty the set: the soonest trial first", AB, {}, order("b a", panic=True, trial=True),
             (bad("b"), wait(6.0), bad("a"))),
        Case("ours: the user's own filters may, with the reason", AB, wish(ignore=["a", "b"]),
             refused("constraint_filtered", "ignored_providers")),
        Case("one success does not bring it back", AB, {}, order("b"), (bad("a"), wait(5.0), ok("a"))),
        Case("nor does a cheap probe", AB, {}, order("b"), (bad("a"), wait(5.0), ok("a", **CHEAP))),
        Case("ours: degraded ends with good calls", AB, CHEAPEST, order("a b"),
             (ok("a", 5), bad("a", 3), wait(31.0), ok("a", 30))),
    ),
    "Tool quality": (
        Case("two deviations below the peers is last under exacto", TOOLERS, EXACTO, last("a"), toolers(broken=60)),
        Case("like the peers is not", TOOLERS, EXACTO, shares(a=0.25, b=0.25, c=0.25, d=0.25), toolers(broken=2)),
        Case("below four peers nobody is", TOOLERS[:3], EXACTO, shares(a=1 / 3, b=1 / 3, c=1 / 3),
             toolers(broken=60, among="abc")),
        Case("too little known stands behind the good", MANY, EXACTO, shares(a=0, b=1 / 3, c=1 / 3, d=1 / 3, x=0),
             toolers(broken=60)),
        Case("and before the bad", MANY, EXACTO | {"count": 4}, last("a"),
             (*toolers(broken=60), ok("x", 199, tool_call_errors=0))),
        Case("1.5 deviations below in throughput is last", TOOLERS, EXACTO, last("a"),
             (*toolers(broken=0), *SPEEDS)),
        Case("not built: Auto Exacto, so tools alone order nobody", TOOLERS, {"require": ("tools",)},
             order("a b c d"), toolers(broken=60)),
    ),
    "Probes": (
        Case("three failed ones eject", AB, {}, order("b"), (bad("a", 3, **CHEAP),)),
        Case("a cheap one brings nobody back", AB, {}, order("b"),
             (*DUE, bad("a", 1, **CHEAP), ok("a", **CHEAP), bad("a", 1, **CHEAP))),
        Case("a deep one does, into slow start", FAR, {}, shares(a=1 / 11, b=10 / 11),
             (*DUE, ok("a", source="probe"))),
        Case("a recipe that is wrong counts for nothing", AB, {}, order("a b"),
             (told("a", "probe_invalid", 9, source="probe"),)),
    ),
    "Decision API": (
        Case("selected first, then the fallbacks, then who is excluded and by what", ABC, wish(ignore=["a"]),
             excluded(b="", c="", a="ignored_providers")),
        Case("who is out is told by its state", ABC, {}, excluded(a="", c="", b="ejected"), (bad("b"),)),
        Case("strategy says how it was made", AB, {"model": f"{MODEL}:floor"},
             order("a b", strategy="sort:price", panic=False, trial=False, sticky=False)),
        Case("requested by an alias, answered by the model", AB, {"model": "SLUG"}, order("a b", model=MODEL)),
        Case("an attempt after others names them in exclude", ABC, {"exclude": ("a", f"{MODEL}@b")}, order("c")),
        Case("three fallbacks", SIX, {}, order("p1 p2 p3 p4")),
        Case("or as many as were asked for", SIX, {"count": 1}, order("p1 p2")),
    ),
    "Errors": (
        Case("model_not_found, with close names", AB, {"model": "author/slag"},
             refused("model_not_found", near=(MODEL,), retryable=False)),
        Case("capacity_exhausted, with the smallest wait", AB, {},
             refused("capacity_exhausted", "throttled", retry_after=5.0, retryable=True),
             (told("a", "rate_limited", retry_after=20.0), told("b", "rate_limited", retry_after=5.0))),
        Case("unavailable, with the states that only somebody can change", AB, {},
             refused("unavailable", "misconfigured", "drained", retryable=False),
             (told("a", "refused", 3), drain("b"))),
        Case("the user's filters are told before health", AB, wish(zdr=True),
             refused("privacy_restricted", "data_policy:zdr"), (drain("a"), drain("b"))),
        Case("region: ours is constraint_filtered", AB, {"region": "eu"},
             refused("constraint_filtered", "data_region")),
        Case("nothing left to try", AB, {"exclude": ("a", "b")}, refused("constraint_filtered", "already_tried")),
    ),
    "Operator controls": (
        Case("a drained endpoint is not chosen", AB, {}, order("b"), (drain(f"{MODEL}@a"),)),
        Case("a drain may be of a tag, a provider, a model", DOORS, {}, order("openai"), (drain("azure"),)),
        Case("it ends by itself", AB, {}, order("a b"), (drain("a", 10.0), wait(10.0))),
        Case("or by the operator's word", AB, {}, order("a b"), (drain("a"), resume("a"))),
        Case("not even in panic", AB, {}, order("b", panic=True), (drain("a"), bad("b"))),
        Case("limit_rpm: the third of two goes elsewhere", LIMITED, {}, order("b"), (turn(times=2),)),
        Case("limit_rpm: until the minute is over", LIMITED, {}, order("a b"), (turn(times=2), wait(62.0))),
        Case("ours: by credential, whatever the model",
             (*LIMITED, e("a2", model=OTHER, quota="a", limits=Limits(rpm=2)), e("d", 9.0, model=OTHER)),
             {"model": OTHER}, order("d"), (turn(times=2),)),
        Case("where all are at their limit that is told, with the wait", LIMITED[:1], {},
             refused("capacity_exhausted", "limits", retryable=True), (turn(times=2),)),
        Case("not built: limit_rpd, so a day's requests are only held by the minute", LIMITED, {}, order("a b"),
             (turn(times=2), wait(62.0)) * 5),
        Case("not built: hidden and disabled capabilities; a drain and the configuration do it",
             (e("a", supported_parameters=frozenset({"seed"})), e("b", 2.0)), {"require": ("tools",)}, order("b")),
    ),
}  # fmt: skip


# ---- playing it --------------------------------------------------------------------------------------


def slug(text: str) -> str:
    return sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


CASES = [pytest.param(case, id=f"{slug(row)}:{slug(case.says)}") for row, cases in TABLE.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
def test_openrouter(stage: Callable[..., Any], case: Case) -> None:
    play = stage(case.world, case.routing)
    for step in case.before:
        step(play)
    case.expected(play, case.asked)


def test_every_row_that_concerns_choice_has_its_cases() -> None:
    assert tuple(TABLE) == ROWS
    assert all(TABLE.values())


def test_every_field_of_the_preference_object_has_a_case() -> None:
    told_of = {case.says for case in TABLE["Preference object"]}
    assert set(PREFERENCES) <= told_of
    assert len(PREFERENCES) == 13
