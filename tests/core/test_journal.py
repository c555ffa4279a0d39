"""What is told of changes, by the journal itself and by the table that keeps one."""

from __future__ import annotations

from collections.abc import Callable

from balancer.core.balancer import Balancer
from balancer.core.journal import TRANSITIONS_MAX, Journal
from balancer.core.model import Catalog, Endpoint
from balancer.core.outcome import Outcome
from balancer.core.request import Request

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]
Fail = Callable[..., None]

MODEL = "author/slug"
A = f"{MODEL}@a"
B = f"{MODEL}@b"
OK = Outcome(kind="success", latency=1.0, ttft=0.2)
BAD = Outcome(kind="server_error", status=500)
LIMITED = Outcome(kind="rate_limited", status=429, retry_after=30.0)


def events(table: Balancer, after: int = 0) -> list[tuple[str, str | None]]:
    return [(each.event, each.endpoint) for each in table.transitions(after)]


def last_number(table: Balancer) -> int:
    return table.transitions(0)[-1].number


# ---- the journal -------------------------------------------------------------------------------------


def test_what_is_told_is_numbered_from_one_and_kept_in_order() -> None:
    journal = Journal()
    assert journal.after(0) == []
    journal.tell(5.0, "endpoint.ejected", "down", endpoint=A, model=MODEL, state="ejected", next_at=15.0)
    journal.tell(6.0, "model.panic_entered", "nobody is left", model=MODEL)
    first, second = journal.after(0)
    assert (first.number, first.now, first.event, first.reason) == (1, 5.0, "endpoint.ejected", "down")
    assert (first.endpoint, first.model, first.state, first.next_at) == (A, MODEL, "ejected", 15.0)
    assert (second.number, second.endpoint, second.state, second.next_at) == (2, None, None, None)
    assert journal.after(1) == [second]


def told(journal: Journal) -> list[int]:
    return [each.number for each in journal.after(0)]


def test_the_oldest_are_forgotten_and_their_numbers_never_repeat() -> None:
    journal = Journal()
    for step in range(TRANSITIONS_MAX + 5):
        journal.tell(float(step), "endpoint.added", "configured")
    assert told(journal) == list(range(6, TRANSITIONS_MAX + 6))
    assert journal.after(10**9) == []


def test_a_larger_catalog_makes_room_and_a_smaller_one_keeps_the_newest() -> None:
    journal = Journal()
    journal.make_room(TRANSITIONS_MAX)
    for step in range(5 * TRANSITIONS_MAX):
        journal.tell(float(step), "endpoint.added", "configured")
    assert told(journal) == list(range(TRANSITIONS_MAX + 1, 5 * TRANSITIONS_MAX + 1))
    journal.make_room(1)
    assert told(journal) == list(range(4 * TRANSITIONS_MAX + 1, 5 * TRANSITIONS_MAX + 1))


# ---- transitions -------------------------------------------------------------------------------------


def test_every_change_is_told_once_with_its_reason_and_its_next_moment(
    pair: Balancer, ask: MakeRequest, fail: Fail
) -> None:
    number = last_number(pair)
    pair.record(A, OK, now=5.0)
    fail(pair, "a", now=6.0)
    until = pair.endpoint(A, now=6.0).next_at
    trial = pair.best(ask(), now=100.0)
    pair.record(A, OK, now=101.0, decision=trial.id)
    for _ in range(10):
        pair.record(A, OK, now=110.0)
    pair.record(A, LIMITED, now=120.0)
    told = [(each.event, each.endpoint, each.state, each.next_at) for each in pair.transitions(number)]
    assert told == [
        ("endpoint.healthy", A, "healthy", None),
        ("endpoint.degraded", A, "degraded", None),
        ("endpoint.ejected", A, "ejected", until),
        ("endpoint.trial_started", A, "half_open", 100.0 + trial.selected.timeouts.total),
        ("endpoint.readmitted", A, "recovering", None),
        ("endpoint.recovered", A, "healthy", None),
        ("endpoint.throttled", A, "throttled", 150.0),
    ]


def test_an_endpoint_whose_every_call_failed_is_not_called_healthy(pair: Balancer) -> None:
    number = last_number(pair)
    pair.record(A, BAD, now=1.0)
    assert pair.endpoint(A, now=1.0).state == "unverified"
    assert ("endpoint.healthy", A) not in events(pair, number)


def test_numbers_grow_by_one_and_history_is_bounded(pair: Balancer) -> None:
    for step in range(TRANSITIONS_MAX):
        pair.drain("a", now=float(step))
    told = pair.transitions(0)
    assert len(told) == TRANSITIONS_MAX
    numbers = [each.number for each in told]
    assert numbers == list(range(numbers[0], numbers[0] + TRANSITIONS_MAX))
    assert [each.number for each in pair.transitions(numbers[-3])] == numbers[-2:]
    assert pair.transitions(numbers[-1]) == []
    assert pair.transitions(10**9) == []


def test_panic_is_told_when_it_begins_and_when_it_ends(pair: Balancer, ask: MakeRequest, fail: Fail) -> None:
    number = last_number(pair)
    for tag in ("a", "b"):
        fail(pair, tag, now=1.0)
    pair.best(ask(), now=2.0)
    trial = pair.best(ask(), now=2.0)
    pair.best(ask(), now=2.0)
    pair.record(trial.selected.id, OK, now=3.0, decision=trial.id)
    pair.best(ask(), now=3.0)
    told = [(each.event, each.model) for each in pair.transitions(number) if each.event.startswith("model.")]
    assert told == [("model.panic_entered", MODEL), ("model.panic_left", MODEL)]


def test_a_trial_that_was_never_reported_is_told_to_have_lapsed(
    pair: Balancer, ask: MakeRequest, fail: Fail
) -> None:
    fail(pair, "a", now=1.0)
    assert pair.best(ask(), now=100.0).trial
    number = last_number(pair)
    assert pair.best(ask(), now=1000.0).trial
    assert events(pair, number)[:2] == [("endpoint.trial_lapsed", A), ("endpoint.trial_started", A)]
