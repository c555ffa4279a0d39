"""Rows follow a configuration by key: what stays is the same row, what changed begins anew."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Endpoint, HealthPolicy
from balancer.core.rows import follow
from balancer.core.telling import Teller


def test_rows_stay_change_come_and_go_by_key(
    endpoint: Callable[..., Endpoint], catalog: Callable[..., Any]
) -> None:
    teller = Teller()

    def step(before: Any, after: Any, known: Any) -> Any:
        return follow(before, after, known, teller=teller, random=Random(1), now=1.0)

    first = catalog(endpoint("a"), endpoint("b"), endpoint("c"))
    known, gone = step(catalog(), first, {})
    assert (list(known), gone) == ([each.id for each in first.endpoints.values()], set())
    second = catalog(endpoint("a", weight=2.0), endpoint("b", identity="2"), endpoint("d"))
    rows, gone = step(first, second, known)
    a, b, c, d = (f"author/slug@{tag}" for tag in "abcd")
    assert rows[a] is known[a]
    assert rows[a].endpoint.weight == 2.0
    assert rows[b] is not known[b]
    assert list(rows) == [a, b, d]
    assert gone == {b, c}
    told = [(each.event, each.endpoint) for each in teller.after(3)]
    assert told == [("endpoint.added", b), ("endpoint.added", d), ("endpoint.removed", c)]


def test_of_who_is_out_it_is_told_when_health_begins_or_ends_to_choose_there(
    endpoint: Callable[..., Endpoint], catalog: Callable[..., Any], fail: Callable[..., None]
) -> None:
    made = (endpoint("a"), endpoint("b"), endpoint("c", misconfigured="no key"))
    chooses, watches = (catalog(*made, health=HealthPolicy(enforce=enforce)) for enforce in (True, False))
    table = Balancer(chooses, now=0.0, seed=1)
    fail(table, "a", now=1.0)
    (ejected,) = [each for each in table.transitions(0) if each.event == "endpoint.ejected"]
    for now, each in enumerate((watches, watches, chooses, chooses), start=2):
        table.apply(each, now=float(now))
    told = [
        (each.now, each.event, each.endpoint, each.state, each.enforced)
        for each in table.transitions(ejected.number)
    ]
    assert told == [
        (2.0, "endpoint.watched", "author/slug@a", "ejected", False),
        (4.0, "endpoint.enforced", "author/slug@a", "ejected", True),
    ]
    last = table.transitions(ejected.number)[-1]
    assert (last.reason, last.next_at) == (ejected.reason, ejected.next_at)


@pytest.mark.parametrize(
    ("enforce", "down", "expected"),
    [
        (True, True, ("ejected", True)),
        (False, True, ("ejected", False)),
        (False, False, ("unverified", True)),
    ],
    ids=["out by health", "seems out by health", "well"],
)
def test_a_resume_begins_no_outage_where_health_is_only_watched(
    endpoint: Callable[..., Endpoint],
    catalog: Callable[..., Any],
    fail: Callable[..., None],
    enforce: bool,
    down: bool,
    expected: tuple[str, bool],
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b"), health=HealthPolicy(enforce=enforce)), now=0.0, seed=1)
    if down:
        fail(table, "a", now=1.0)
    table.drain("author/slug@a", now=2.0)
    table.resume("author/slug@a", now=3.0)
    last = table.transitions(0)[-1]
    assert (last.event, last.state, last.enforced) == ("endpoint.resumed", *expected)


def test_without_a_key_it_stays_out_where_health_is_only_watched(
    endpoint: Callable[..., Endpoint], catalog: Callable[..., Any]
) -> None:
    made = catalog(endpoint("a", misconfigured="no key"), health=HealthPolicy(enforce=False))
    table = Balancer(made, now=0.0, seed=1)
    table.drain("author/slug@a", now=2.0)
    table.resume("author/slug@a", now=3.0)
    last = table.transitions(0)[-1]
    assert (last.event, last.state, last.enforced) == ("endpoint.resumed", "misconfigured", True)
