"""A dump that is told and taken back bit by bit, while decisions, reports and reloads go on between the bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, HealthPolicy, Limits, Pricing, Provider
from balancer.core.model import Model as CatalogModel
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.core.snapshot import joined

MODEL = "author/slug"
TAGS = ("alpha", "beta", "gamma", "delta")
LATER = 5000.5


def world(*, tags: tuple[str, ...] = TAGS, windows: tuple[float, ...] = HealthPolicy().windows) -> Catalog:
    endpoints = {
        f"{MODEL}@{tag}": Endpoint(
            id=f"{MODEL}@{tag}",
            model=MODEL,
            tag=tag,
            provider=tag,
            provider_name=tag,
            upstream_model="upstream",
            base_url=f"https://{tag}.example",
            pricing=Pricing(prompt=1.0, completion=1.0),
            identity="1",
            quota=tag,
            limits=Limits(rpm=100),
        )
        for tag in tags
    }
    return Catalog(
        providers={tag: Provider(key=tag, name=tag) for tag in tags},
        models={MODEL: CatalogModel(id=MODEL, name=MODEL, endpoints=tuple(endpoints))},
        endpoints=endpoints,
        health=HealthPolicy(windows=windows),
    )


def lived() -> Balancer:
    table = Balancer(world(), seed=1)
    for number in range(200):
        kind = "server_error" if number % 7 == 0 else "success"
        table.record(f"{MODEL}@{TAGS[number % 4]}", Outcome(kind=kind, latency=1.0), now=100.0 + number)
        table.best(Request(model=MODEL, session_id=f"chat-{number}"), now=100.0 + number)
    table.drain("beta", now=300.0)
    return table


def test_the_parts_are_the_dump_in_whatever_order_they_come() -> None:
    table = lived()
    told = list(table.parts(now=301.0))
    assert len(told) > 4
    whole = table.dump(now=301.0)
    assert joined(told) == whole
    Random(3).shuffle(told)
    shuffled = joined(told)
    for either in (shuffled, whole):
        either["sessions"].sort()
    assert json.loads(json.dumps(shuffled)) == json.loads(json.dumps(whole))


def test_joining_changes_no_part() -> None:
    told = [{"sessions": [1], "endpoints": {"a": 1}}, {"sessions": [2], "endpoints": {"b": 2}}]
    assert joined(told) == {"sessions": [1, 2], "endpoints": {"a": 1, "b": 2}}
    assert told == [{"sessions": [1], "endpoints": {"a": 1}}, {"sessions": [2], "endpoints": {"b": 2}}]


def gone(table: Balancer) -> None:
    table.apply(world(tags=("alpha", "gamma")), now=302.0)


def other_windows(table: Balancer) -> None:
    table.apply(world(windows=(10.0, 60.0, 600.0)), now=302.0)


def elsewhere(table: Balancer) -> None:
    catalog = world()
    moved = {key: replace(each, identity="2") for key, each in catalog.endpoints.items()}
    table.apply(replace(catalog, endpoints=moved), now=302.0)


def busy(table: Balancer) -> None:
    for tag in TAGS:
        table.record(f"{MODEL}@{tag}", Outcome(kind="server_error"), now=303.0)
    for number in range(50):
        table.best(Request(model=MODEL, session_id=f"later-{number}"), now=303.0)
    table.resume("beta", now=303.0)
    table.drain("gamma", now=303.0, until=400.0)


@pytest.mark.parametrize("meanwhile", [gone, other_windows, elsewhere, busy])
@pytest.mark.parametrize("after", range(0, 14, 2))
def test_what_happens_between_two_parts_makes_no_dump_that_is_refused(
    meanwhile: Callable[[Balancer], None], after: int
) -> None:
    table = lived()
    parts = table.parts(now=301.0)
    told = [next(parts) for _ in range(after)]
    meanwhile(table)
    told += parts
    new = Balancer(world(), seed=1, now=LATER)
    new.restore(joined(told), now=LATER, away=1.0)
    counts = new.endpoint(f"{MODEL}@alpha", now=LATER).windows["report"]["5m"]
    assert (counts.success, counts.failure) >= (42, 8)  # and what failed meanwhile, where that was told
    assert new.endpoint(f"{MODEL}@beta", now=LATER).state == "drained"


def test_counts_of_a_dump_told_in_slices_are_as_old_as_they_were_and_none_comes_twice() -> None:
    table, alpha = Balancer(world(), seed=1, now=1000.0), f"{MODEL}@alpha"
    for number in range(10):
        table.record(alpha, Outcome(kind="success"), now=1000.5 + number)
    parts = table.parts(now=1010.0)
    told = [next(parts)]
    for number in range(3):  # while it is told
        table.record(alpha, Outcome(kind="success"), now=1011.5 + number)
    told += parts

    def counts(of: Balancer, now: float) -> int:
        return of.endpoint(alpha, now=now).windows["report"]["30s"].success

    fresh = Balancer(world(), seed=1, now=1014.0)
    for of in (fresh, table):
        for _ in of.restoring(lambda: told, now=1014.0, away=4.0):
            pass
    assert (counts(fresh, 1014.0), counts(table, 1014.0)) == (10, 13)
    for number in range(10):
        assert counts(fresh, 1030.1 + number) == 9 - number
        assert counts(table, 1030.1 + number) == 12 - number


# ---- and back ----------------------------------------------------------------------------------------


def told() -> list[dict[str, Any]]:
    return [json.loads(json.dumps(part)) for part in lived().parts(now=301.0)]


def test_bit_by_bit_all_of_it_comes_back_in_whatever_order_it_was_told() -> None:
    parts = told()
    whole = Balancer(world(), seed=1, now=LATER)
    whole.restore(joined(parts), now=LATER, away=1.0)
    for _ in range(5):
        bits = Balancer(world(), seed=1, now=LATER)
        steps = list(bits.restoring(lambda: parts, now=LATER, away=1.0))
        assert len(steps) > 2 * len(parts)
        assert bits.dump(now=LATER) == whole.dump(now=LATER)
        assert bits.view(now=LATER) == whole.view(now=LATER)
        Random(3).shuffle(parts)


@pytest.mark.parametrize(
    "last",
    [
        {"sessions": [1]},
        {"endpoints": {"x": {}}},
        {"version": 2},
        {"windows": [1.0]},
        {"more": 1},
        {"drains": [{}]},
        1,
    ],
)
def test_of_what_is_refused_at_its_last_part_nothing_is_taken(last: Any) -> None:
    parts: list[Any] = [*told(), last]
    table, fresh = (Balancer(world(), seed=1, now=LATER) for _ in range(2))
    with pytest.raises(ValueError):
        list(table.restoring(lambda: parts, now=LATER, away=1.0))
    assert table.dump(now=LATER) == fresh.dump(now=LATER)


def test_half_a_dump_is_none() -> None:
    table = Balancer(world(), seed=1, now=LATER)
    with pytest.raises(ValueError, match="state: Object missing required field `version`"):
        list(table.restoring(lambda: told()[1:], now=LATER, away=1.0))


def test_who_is_drained_is_so_before_anything_else_comes_back() -> None:
    parts, table = told(), Balancer(world(), seed=1, now=LATER)
    steps = table.restoring(lambda: parts, now=LATER, away=1.0)
    for _ in range(len(parts)):  # all of it is looked at first
        next(steps)
    assert table.endpoint(f"{MODEL}@beta", now=LATER).state == "unverified"
    for _ in TAGS:
        next(steps)
    assert table.endpoint(f"{MODEL}@beta", now=LATER).state == "drained"
    assert table.endpoint(f"{MODEL}@alpha", now=LATER).windows["report"]["5m"].success == 0


def lives_on(table: Balancer) -> None:
    for tag in TAGS:
        table.record(f"{MODEL}@{tag}", Outcome(kind="success"), now=LATER + 1.0)
    for number in range(190, 250):  # some of which are still to come back
        table.best(Request(model=MODEL, session_id=f"chat-{number}"), now=LATER + 1.0)
    table.drain("gamma", now=LATER + 1.0)


def moved(table: Balancer) -> None:
    catalog = world()
    changed = {key: replace(each, identity="2") for key, each in catalog.endpoints.items()}
    table.apply(replace(catalog, endpoints=changed), now=LATER + 1.0)


def fewer(table: Balancer) -> None:
    table.apply(world(tags=("beta", "gamma")), now=LATER + 1.0)


def shorter(table: Balancer) -> None:
    table.apply(world(windows=(10.0, 60.0, 600.0)), now=LATER + 1.0)


@pytest.mark.parametrize("meanwhile", [lives_on, moved, fewer, shorter])
@pytest.mark.parametrize("after", range(0, 28, 3))
def test_what_happens_while_it_comes_back_is_newer_and_breaks_nothing(
    meanwhile: Callable[[Balancer], None], after: int
) -> None:
    parts, table = told(), Balancer(world(), seed=1, now=LATER)
    steps = table.restoring(lambda: parts, now=LATER, away=1.0)
    for _ in range(after):
        next(steps, None)
    meanwhile(table)
    for _ in steps:
        pass
    now = LATER + 1.0
    assert table.endpoint(f"{MODEL}@beta", now=now).state == "drained"
    dump = table.dump(now=now)
    assert {place[0] for _, *places in dump["sessions"] for place in places if place} <= set(dump["endpoints"])
    if meanwhile is lives_on:
        assert len(dump["sessions"]) == 250
        assert table.endpoint(f"{MODEL}@gamma", now=now).state == "drained"
        assert table.endpoint(f"{MODEL}@alpha", now=now).windows["report"]["5m"].success == 43
    again = Balancer(table.catalog, seed=1, now=now)
    again.restore(json.loads(json.dumps(dump)), now=now, away=0.0)


# ---- late --------------------------------------------------------------------------------------------


def ill() -> list[dict[str, Any]]:
    """Of a table in which alpha is ejected, and beta drained for a minute."""
    table = Balancer(world(), seed=1)
    for _ in range(10):
        table.record(f"{MODEL}@alpha", Outcome(kind="timeout"), now=100.0)
    table.drain("beta", now=100.0, until=161.0, reason="disk")
    return [json.loads(json.dumps(part)) for part in table.parts(now=101.0)]


def test_what_comes_late_is_told_of_each_endpoint_that_stands_otherwise_by_it() -> None:
    parts, table = ill(), Balancer(world(), seed=1, now=LATER - 9.0)
    before = table.transitions(0)[-1].number
    for _ in range(2):  # the second finds all of it as it was
        for _ in table.restoring(lambda: parts, now=LATER, away=1.0, late=True):
            pass
    told = table.transitions(before)
    assert [(each.event, each.endpoint, each.state, each.enforced) for each in told] == [
        ("endpoint.restored", f"{MODEL}@beta", "drained", True),
        ("endpoint.restored", f"{MODEL}@alpha", "ejected", True),
    ]
    assert [each.reason for each in told] == [
        "as it was saved: disk",
        "as it was saved: 5 failures in a row (timeout)",
    ]
    assert (told[0].now, told[0].next_at) == (LATER, LATER + 59.0)
    assert told[1].next_at == table.endpoint(f"{MODEL}@alpha", now=LATER).next_at


def test_where_health_is_only_watched_a_late_drain_keeps_out_all_the_same() -> None:
    catalog = world()
    watched = replace(catalog, health=replace(catalog.health, enforce=False))
    parts, table = ill(), Balancer(watched, seed=1, now=LATER - 9.0)
    before = table.transitions(0)[-1].number
    for _ in table.restoring(lambda: parts, now=LATER, away=1.0, late=True):
        pass
    told = [(each.endpoint, each.state, each.enforced) for each in table.transitions(before)]
    assert told == [(f"{MODEL}@beta", "drained", True), (f"{MODEL}@alpha", "ejected", False)]


def test_the_operators_word_is_newer_than_a_late_one() -> None:
    old, table = Balancer(world(), seed=1), Balancer(world(), seed=1, now=LATER - 9.0)
    old.drain("beta", now=100.0)
    for tag in ("gamma", "delta"):
        for _ in range(3):
            old.record(f"{MODEL}@{tag}", Outcome(kind="refused", status=401), now=100.0)
        assert old.endpoint(f"{MODEL}@{tag}", now=100.0).state == "misconfigured"
    parts = list(old.parts(now=101.0))
    table.drain("beta", now=LATER - 2.0)
    table.resume("beta", now=LATER - 1.0)
    table.resume("gamma", now=LATER - 1.0)
    for _ in table.restoring(lambda: parts, now=LATER, away=1.0, late=True):
        pass
    states = [table.endpoint(f"{MODEL}@{tag}", now=LATER).state for tag in ("beta", "gamma", "delta")]
    assert states == ["unverified", "degraded", "misconfigured"]  # the refusals are forgiven
    table.drain("gamma", now=LATER + 1.0)
    assert table.endpoint(f"{MODEL}@gamma", now=LATER + 1.0).state == "drained"
