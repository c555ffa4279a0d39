"""`health.enforce: false`: all that health finds is shown and counted, and chooses nothing.

Three endpoints of one model. One table is told of every trouble that health knows, another of none; where health
only watches, both must choose alike.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from balancer import Balancer, Outcome, Request
from balancer.core.model import (
    Catalog,
    Considered,
    Endpoint,
    HealthPolicy,
    Model,
    NoEndpoint,
    Routing,
    Sort,
    StrategyName,
)
from balancer.core.request import Preferences

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]

MODEL = "author/slug"
TAGS = {"a": 1.0, "b": 2.0, "c": 3.0}
KEYS = [f"{MODEL}@{tag}" for tag in TAGS]
WATCH = HealthPolicy(enforce=False)

TROUBLES = [
    Outcome(kind="server_error", status=500, latency=0.1),
    Outcome(kind="connect"),
    Outcome(kind="timeout"),
    Outcome(kind="refused", status=401, latency=0.1),
    Outcome(kind="rate_limited", status=429, latency=0.1),
    Outcome(kind="rate_limited", status=429, latency=0.1, retry_after=120.0),
    Outcome(kind="rate_limited", status=429, latency=0.1, retry_after=120.0, account=True),
    Outcome(kind="overloaded", status=503, latency=0.1, retry_after=60.0),
    Outcome(kind="connect", shallow=True),
]
GOOD = Outcome(kind="success", latency=1.0, ttft=0.2, prompt_tokens=100, completion_tokens=50)

STRATEGIES: tuple[StrategyName, ...] = ("adaptive", "price", "weighted", "least_loaded")
SORTS: tuple[Sort, ...] = ("price", "latency", "throughput", "exacto")


@pytest.fixture
def table(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Callable[..., Balancer]:
    """Make a table of three endpoints, of which a and b share an account."""

    def make(health: HealthPolicy = WATCH, strategy: StrategyName = "adaptive") -> Balancer:
        endpoints = [
            endpoint(tag, price=price, quota="shared" if tag in "ab" else "own") for tag, price in TAGS.items()
        ]
        return Balancer(catalog(*endpoints, routing=Routing(strategy=strategy), health=health), seed=1)

    return make


def lines(table: Balancer, request: Request, now: float) -> list[Considered]:
    return list(table.best(request, now=now, explain=True).considered)


def live(table: Balancer, *, troubled: bool, seed: int, sort: Sort | None) -> list[list[tuple[object, ...]]]:
    """Minutes of good answers, and troubles between them, if there are any; how each endpoint stood then."""
    random = Random(seed)
    request = Request(model=MODEL, prompt_tokens=100, max_tokens=50, provider=Preferences(sort=sort))
    stood: list[list[tuple[object, ...]]] = []
    now = 0.0
    for _ in range(90):
        now += 5.0
        for key in KEYS:
            table.record(key, GOOD, now=now)
        trouble, key, times = random.choice(TROUBLES), random.choice(KEYS), random.randrange(1, 9)
        source = "probe" if trouble.shallow or random.random() < 0.2 else "report"
        if troubled:
            for _ in range(times):
                table.record(key, trouble, now=now, source=source)  # type: ignore[arg-type]
        # Not who was drawn: holds take their jitter from the same random state.
        found = sorted(lines(table, request, now), key=lambda line: line.id)
        stood.append([(line.score, line.weight, round(line.share, 9), line.excluded_by) for line in found])
    return stood


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("strategy", "sort"), [*[(each, None) for each in STRATEGIES], *[("adaptive", each) for each in SORTS]]
)
def test_who_only_watches_chooses_as_if_nothing_had_ever_failed(
    table: Callable[..., Balancer], strategy: StrategyName, sort: Sort | None, seed: int
) -> None:
    told, untold = table(strategy=strategy), table(strategy=strategy)
    stood = live(told, troubled=True, seed=seed, sort=sort)
    assert stood == live(untold, troubled=False, seed=seed, sort=sort)
    for second in range(60):
        chosen = told.best(Request(model=MODEL, provider=Preferences(sort=sort)), now=600.0 + second)
        assert not chosen.panic
        assert not chosen.trial
    causes = {cause for view in told.view(now=600.0).endpoints for cause in view.ejections}
    assert causes
    assert not any(enforced for _, enforced in causes)
    events = {each.event for each in told.transitions(0) if not each.enforced}
    assert events >= {"endpoint.ejected", "endpoint.throttled"}


@pytest.mark.parametrize("trouble", [each for each in TROUBLES if not each.shallow], ids=lambda each: each.kind)
def test_what_would_be_is_shown_while_it_is_chosen_all_the_same(
    table: Callable[..., Balancer], trouble: Outcome
) -> None:
    watching, enforcing = table(), table(HealthPolicy())
    for each in (watching, enforcing):
        for key in KEYS:
            each.record(key, GOOD, now=1.0)
        for _ in range(12):
            each.record(KEYS[0], trouble, now=2.0)
    seen, held = watching.endpoint(KEYS[0], now=2.0), enforcing.endpoint(KEYS[0], now=2.0)
    assert (seen.state, seen.states, seen.reason, seen.next) == (held.state, held.states, held.reason, held.next)
    assert seen.state not in ("healthy", "unverified")
    assert (seen.eligible, seen.enforced) == (True, False)
    assert (held.eligible, held.enforced) == (False, True)
    request = Request(model=MODEL, provider=Preferences(only=("a",)))
    told = watching.best(request, now=2.0)
    assert (told.selected.id, told.panic, told.trial) == (KEYS[0], False, False)
    (model,) = watching.view(now=2.0).models
    assert (model.eligible, model.panic) == (3, False)


def test_all_in_trouble_is_no_panic_and_no_refusal(table: Callable[..., Balancer]) -> None:
    watching, enforcing = table(), table(HealthPolicy())
    for each in (watching, enforcing):
        for key in KEYS:
            for _ in range(12):
                each.record(key, Outcome(kind="connect"), now=1.0)
            each.record(key, Outcome(kind="rate_limited", retry_after=60.0), now=1.0)
    with pytest.raises(NoEndpoint) as caught:
        enforcing.best(Request(model=MODEL), now=2.0)
    assert caught.value.code == "capacity_exhausted"
    told = watching.best(Request(model=MODEL), now=2.0)
    assert (told.selected.id, told.panic, told.trial) == (KEYS[0], False, False)
    assert not any(each.event.startswith("model.") for each in watching.transitions(0))


def test_drains_and_missing_keys_rule_out_whoever_watches(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    keyless = endpoint("a", price=1.0, misconfigured="A_KEY is not set")
    table = Balancer(catalog(keyless, endpoint("b", price=2.0), endpoint("c", price=3.0), health=WATCH), seed=1)
    table.drain("b", now=1.0)
    assert [line.id for line in lines(table, Request(model=MODEL), 2.0) if not line.excluded_by] == [KEYS[2]]
    assert table.view(now=2.0).models[0].eligible == 1
    table.resume("b", now=3.0)
    assert table.best(Request(model=MODEL, provider=Preferences(sort="price")), now=4.0).selected.id == KEYS[1]


def test_a_request_is_the_trial_of_who_is_only_watched(table: Callable[..., Balancer]) -> None:
    watching = table()
    for _ in range(12):
        watching.record(KEYS[0], Outcome(kind="connect"), now=1.0)
    assert watching.endpoint(KEYS[0], now=1.0).state == "ejected"
    watching.record(KEYS[0], GOOD, now=2.0)  # while the hold would last: it says nothing yet
    assert watching.endpoint(KEYS[0], now=2.0).state == "ejected"
    watching.record(KEYS[0], GOOD, now=100.0)
    assert watching.endpoint(KEYS[0], now=100.0).state == "recovering"
    for _ in range(10):
        watching.record(KEYS[0], GOOD, now=200.0)
    assert watching.endpoint(KEYS[0], now=200.0).state == "healthy"


def test_one_model_may_watch_beside_others_that_enforce(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    second = "author/second"
    endpoints = [endpoint(tag, model=model) for model in (MODEL, second) for tag in ("a", "b")]
    whole = catalog(*endpoints)
    models = {**whole.models, second: Model(id=second, name=second, endpoints=whole.models[second].endpoints)}
    table = Balancer(Catalog(models=models, endpoints=whole.endpoints, health=WATCH), seed=1)
    enforcing = Model(id=second, name=second, endpoints=whole.models[second].endpoints, enforce=True)
    table.apply(Catalog(models={**models, second: enforcing}, endpoints=whole.endpoints, health=WATCH), now=1.0)
    for model in (MODEL, second):
        for _ in range(12):
            table.record(f"{model}@a", Outcome(kind="connect"), now=2.0)
    only = Preferences(order=("a",))
    assert table.best(Request(model=MODEL, provider=only), now=3.0).selected.tag == "a"
    assert table.best(Request(model=second, provider=only), now=3.0).selected.tag == "b"
    told = [(each.endpoint, each.enforced) for each in table.transitions(0) if each.event == "endpoint.ejected"]
    assert told == [(f"{MODEL}@a", False), (f"{second}@a", True)]


def test_trust_comes_with_a_reload_and_finds_all_that_was_seen(table: Callable[..., Balancer]) -> None:
    watching = table()
    for _ in range(12):
        watching.record(KEYS[0], Outcome(kind="connect"), now=1.0)
    before = watching.endpoint(KEYS[0], now=2.0)
    assert watching.best(Request(model=MODEL), now=2.0).selected.id == KEYS[0]
    watching.apply(table(HealthPolicy()).catalog, now=2.0)
    after = watching.endpoint(KEYS[0], now=2.0)
    assert (after.state, after.next_at, after.ejections) == (before.state, before.next_at, before.ejections)
    assert watching.best(Request(model=MODEL), now=2.0).selected.id != KEYS[0]
    watching.apply(table().catalog, now=3.0)
    assert watching.best(Request(model=MODEL), now=3.0).selected.id == KEYS[0]
