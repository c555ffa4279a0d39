"""What the journal is told, once each, with the state and the next moment."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from balancer.core.model import Endpoint, HealthPolicy
from balancer.core.outcome import Kind, Outcome
from balancer.core.row import Row
from balancer.core.telling import Teller
from balancer.core.witness import Cleared, Suspicion

MakeEndpoint = Callable[..., Endpoint]

POLICY = HealthPolicy()
KEY = "author/slug@alpha"


@pytest.fixture
def row(endpoint: MakeEndpoint) -> Row:
    return Row(endpoint("alpha"), POLICY, random=Random(1), now=0.0)


def record(teller: Teller, row: Row, kind: Kind, now: float) -> None:
    changes = row.record(
        Outcome(kind=kind),
        source="report",
        ended=now,
        duration=None,
        now=now,
        decision=None,
        policy=POLICY,
        random=Random(1),
    )
    teller.changes(row, changes, now, POLICY)


def told(teller: Teller) -> list[tuple[str, str | None]]:
    return [(each.event, each.state) for each in teller.after(0)]


def test_a_change_is_told_with_what_happens_next(row: Row) -> None:
    teller = Teller()
    for number in range(5):
        record(teller, row, "timeout", 1.0 + number)
    last = teller.after(0)[-1]
    assert (last.event, last.endpoint, last.model, last.state) == (
        "endpoint.ejected",
        KEY,
        "author/slug",
        "ejected",
    )
    assert last.next_at == row.health.until
    assert last.reason == "5 failures in a row (timeout)"


def test_what_a_reader_sees_is_told_when_it_is_something_else(row: Row) -> None:
    teller = Teller()
    for number in range(3):
        record(teller, row, "success", 1.0 + number)
    assert told(teller) == [("endpoint.healthy", "healthy")]


def test_a_trial_that_lapsed_is_told_once(row: Row) -> None:
    teller = Teller()
    for number in range(5):
        record(teller, row, "timeout", 1.0 + number)
    row.health.start_trial(decision="d", now=100.0, expires=130.0)
    before = len(teller.after(0))
    teller.lapse(row, 129.0, POLICY)
    assert len(teller.after(0)) == before
    row.news.clear()
    for now in (130.0, 131.0):
        teller.lapse(row, now, POLICY)
    assert told(teller)[before:] == [("endpoint.trial_lapsed", "ejected")]
    assert row.news == {row}


def test_a_panic_is_told_when_it_begins_and_when_it_ends() -> None:
    teller = Teller()
    for panic in (False, True, True, False, False):
        teller.panic("author/slug", panic, 1.0)
    assert [(each.event, each.model) for each in teller.after(0)] == [
        ("model.panic_entered", "author/slug"),
        ("model.panic_left", "author/slug"),
    ]


def test_a_model_that_comes_back_is_in_no_panic_of_before() -> None:
    teller = Teller()
    teller.panic("author/slug", True, 1.0)
    teller.forget_models(["author/other"])
    teller.panic("author/slug", False, 2.0)
    teller.panic("author/slug", True, 3.0)
    assert [each.event for each in teller.after(0)] == ["model.panic_entered"] * 2


def test_doubt_is_told_of_ourselves_and_of_reporters_by_name() -> None:
    teller = Teller()
    for who in (None, "proxy"):
        teller.doubt(Suspicion(witness=who, rule="severed", reason="nobody answers", since=1.0), 2.0)
        teller.doubt(Cleared(who, "somebody answers"), 3.0)
    assert [(each.event, each.reporter, each.reason, each.now) for each in teller.after(0)] == [
        ("self.suspected", None, "nobody answers", 2.0),
        ("self.cleared", None, "somebody answers", 3.0),
        ("reporter.suspected", "proxy", "nobody answers", 2.0),
        ("reporter.cleared", "proxy", "somebody answers", 3.0),
    ]


def test_what_is_gone_is_told_without_its_row() -> None:
    teller = Teller()
    teller.endpoint(1.0, "endpoint.removed", KEY, "no longer configured", None)
    (only,) = teller.after(0)
    assert (only.endpoint, only.model, only.state) == (KEY, None, None)
    teller.make_room(10)
    assert teller.after(0) == [only]
