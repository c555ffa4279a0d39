"""What speaks against one witness: the run of what got no answer, in the order of endings."""

from __future__ import annotations

import pytest

from balancer.core.outcome import KINDS
from balancer.core.witness import (
    ANSWERS,
    MEMORY_MAX,
    RUN_AGE,
    RUN_MAX,
    TALKS_AGE,
    TRANSPORT,
    Heard,
    Suspicion,
    Witness,
)

Told = tuple[str, str, float]
"""Endpoint, kind, ended."""

FATES = {"a1": 0, "a2": 0, "b": 1, "c": 2, "d": 3}
NOT_ANSWERED = "calls in a row got no answer, at"


def accuse(*story: Told, talks: dict[str, float] | None = None, out: tuple[str, ...] = ()) -> str | None:
    """What the last of a story of failures says of the witness; in order of arrival."""
    witness = Witness("proxy")
    witness.talks.update({} if talks is None else talks)
    reason = None
    for endpoint, kind, ended in story:
        heard = Heard(ended, ended, endpoint, kind, "report")  # type: ignore[arg-type]
        witness.unanswered(heard, FATES[endpoint], news=endpoint not in out, recorded=True)
        reason = witness.severed(heard, FATES, ended)
    return reason


def story(places: str, kind: str = "connect", *, start: float = 10.0) -> list[Told]:
    return [(place, kind, start + number) for number, place in enumerate(places.split())]


def test_every_kind_is_an_answer_or_none_or_in_between() -> None:
    assert ANSWERS.isdisjoint(TRANSPORT)
    assert set(KINDS) - ANSWERS - TRANSPORT == {"stream", "cancelled"}


@pytest.mark.parametrize(
    ("places", "suspect"),
    [
        ("a1 b c a1 b", True),
        ("a1 a1 a1 b c", True),
        ("a1 b c d a1", True),
        ("a1 b c a1", False),  # four are too few
        ("a1 a2 a1 a2 a1 a2 a1 a2 a1", False),  # one provider, however many endpoints
        ("a1 a1 a1 b b", True),  # all that it talks to
        ("a1 a1 b b", False),
        ("a1 a1 a1 a1 a1 a1 b", False),  # each must fail often enough
    ],
)
def test_what_fails_at_unrelated_providers_at_once_is_the_witness(places: str, suspect: bool) -> None:
    reason = accuse(*story(places))
    assert (reason is not None) is suspect
    if reason is not None:
        outcomes, fates = len(places.split()), len({FATES[place] for place in places.split()})
        assert reason == f"{outcomes} {NOT_ANSWERED} {fates} unrelated providers (connect)"


@pytest.mark.parametrize("kind", sorted(TRANSPORT - {"dns", "local"}))
def test_every_way_to_get_no_answer_counts(kind: str) -> None:
    reason = accuse(*story("a1 b c", "reset"), *story("a1 b", kind, start=20.0))
    assert reason == f"5 {NOT_ANSWERED} 3 unrelated providers ({', '.join(sorted({'reset', kind}))})"


@pytest.mark.parametrize(
    ("talks", "suspect"),
    [({"a2": 5.0}, True), ({"c": 5.0}, False), ({"c": 17.0 - TALKS_AGE}, True), ({"c": 17.5 - TALKS_AGE}, False)],
)
def test_two_providers_are_enough_only_for_who_talks_to_no_other(talks: dict[str, float], suspect: bool) -> None:
    assert (accuse(*story("a1 a1 a1 a1 b b b b"), talks=talks) is not None) is suspect


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([("a1", "dns", 1.0), ("b", "dns", 2.0)], "the names of 2 unrelated hosts were not resolved"),
        ([("a1", "dns", 1.0), ("a2", "dns", 2.0), ("a1", "dns", 3.0)], None),
        ([("a1", "dns", 1.0), ("b", "connect", 2.0)], None),
        ([("a1", "dns", 1.0), ("b", "dns", 1.0 + RUN_AGE)], None),
        ([("a1", "local", 1.0)], "its own network or resolver is down"),
    ],
)
def test_a_resolver_and_a_route_need_no_more_evidence(told: list[Told], reason: str | None) -> None:
    assert accuse(*told) == reason


def test_what_is_out_already_accuses_nobody() -> None:
    assert accuse(*story("a1 b c a1 b c d d"), out=("b", "c", "d")) is None
    assert accuse(*story("a1 b c a1 b c d d"), out=("b",)) is not None


def test_what_is_too_old_accuses_nobody() -> None:
    before = story("a1 a2 a1 b")
    assert accuse(*before, ("c", "connect", 12.0 + RUN_AGE)) is None
    assert accuse(*before, ("c", "connect", 11.9 + RUN_AGE)) is not None


def test_a_cut_stream_neither_accuses_nor_acquits() -> None:
    assert accuse(*story("a1 b c d a1 b c d", "stream")) is None
    assert accuse(*story("a1 b c a1"), ("d", "stream", 15.0), ("b", "reset", 16.0)) is not None


def heard(endpoint: str, ended: float, kind: str = "connect") -> Heard:
    return Heard(ended, ended, endpoint, kind, "report")  # type: ignore[arg-type]


def failing(*notes: Heard) -> Witness:
    witness = Witness("proxy")
    for each in notes:
        witness.unanswered(each, FATES[each.endpoint], news=True, recorded=True)
    return witness


def test_an_answer_ends_the_run() -> None:
    witness = failing(heard("a1", 10.0), heard("b", 11.0))
    assert witness.unsettled
    witness.answered(FATES["c"], 11.0, FATES)
    assert (list(witness.run), witness.failing, witness.failed, witness.unsettled) == ([], {}, set(), False)


def test_an_answer_that_is_told_late_ends_what_ended_before_it() -> None:
    witness = failing(heard("a1", 10.0), heard("b", 11.0), heard("c", 14.0), heard("c", 15.0))
    witness.reached = 12.0
    witness.answered(FATES["d"], 12.0, FATES)
    assert [each.ended for each in witness.failures] == [14.0, 15.0]
    assert {fate: each.count for fate, each in witness.failing.items()} == {FATES["c"]: 2}
    assert witness.unsettled


def test_a_failure_that_is_told_late_is_no_part_of_the_run_after_a_later_answer() -> None:
    witness = Witness("proxy")
    witness.reached = 12.0
    witness.unanswered(heard("a1", 11.9), FATES["a1"], news=True, recorded=True)
    assert not witness.run
    witness.unanswered(heard("a1", 12.0), FATES["a1"], news=True, recorded=True)
    assert len(witness.run) == 1


def test_who_was_refuted_accuses_nobody_until_it_answers() -> None:
    witness = failing(heard("a1", 10.0), heard("b", 10.0))
    witness.refute()
    witness.forget_run()
    assert witness.unsettled  # an answer of theirs would change something
    witness.unanswered(heard("a2", 11.0), FATES["a2"], news=True, recorded=True)
    witness.unanswered(heard("c", 11.0), FATES["c"], news=True, recorded=True)
    assert set(witness.failing) == {FATES["c"]}
    assert [each.endpoint for each in witness.failures] == ["a2", "c"]
    witness.answered(FATES["a1"], 12.0, FATES)
    witness.unanswered(heard("a1", 13.0), FATES["a1"], news=True, recorded=True)
    assert set(witness.failing) == {FATES["a1"]}


def test_a_host_without_a_route_raises_one_doubt_and_no_more() -> None:
    witness = failing(heard("a1", 10.0, "local"))
    assert witness.severed(heard("a1", 10.0, "local"), FATES, 10.0) is not None
    witness.refute()
    witness.forget_run()
    assert witness.severed(heard("a1", 40.0, "local"), FATES, 40.0) is None
    assert witness.severed(heard("b", 40.0, "local"), FATES, 40.0) is not None


def test_the_run_is_bounded_and_its_evidence_is_not() -> None:
    witness = failing(*[heard("a1", float(number)) for number in range(2 * RUN_MAX)])
    assert len(witness.run) == RUN_MAX
    assert witness.failing[FATES["a1"]].count == 2 * RUN_MAX
    witness.memory.extend([heard("a1", 1.0)] * 100)
    assert len(witness.memory) == MEMORY_MAX


def test_who_is_believed_again_begins_anew() -> None:
    witness = failing(heard("a1", 10.0), heard("b", 12.0))
    witness.memory.append(heard("a1", 10.0))
    suspicion = Suspicion(witness="proxy", rule="severed", reason="it is its network", since=10.0)
    witness.accused(suspicion)
    assert witness.unsettled
    witness.acquitted(30.0)
    assert (witness.suspicion, witness.past, witness.unsettled) == (None, (suspicion, 30.0), False)
    assert not witness.run
    assert not witness.memory


@pytest.mark.parametrize(
    ("began", "ended", "network", "contradicted"),
    [
        (5.0, 9.9, False, False),
        (5.0, 10.0, True, True),
        (20.0, 30.0, True, True),
        (29.0, 60.0, True, False),  # it hung in what was wrong, however late it ended
        (30.0, 60.0, True, False),
        (30.1, 60.0, False, False),
    ],
)
def test_a_doubt_in_a_network_covers_what_was_under_way_in_it(
    began: float, ended: float, network: bool, contradicted: bool
) -> None:
    call = Heard(began, ended, "a1", "timeout", "report")
    for rule, covered in (("severed", network), ("stalled", network), ("contradicted", contradicted)):
        suspicion = Suspicion(witness="proxy", rule=rule, reason="it is to blame", since=10.0)  # type: ignore[arg-type]
        assert suspicion.covers(call, 30.0) is covered
        assert suspicion.covers(call) is (ended >= 10.0)
        assert suspicion.covers(call._replace(kind="server_error"), 30.0) is (rule == "contradicted" and covered)


def test_a_configuration_numbers_anew_and_forgets_who_is_gone() -> None:
    witness = failing(heard("a1", 10.0), heard("b", 11.0), heard("c", 12.0))
    witness.refuted = {FATES["d"]}
    witness.talks = {"a1": 1.0, "b": 1.0, "d": 1.0}
    witness.memory.extend([heard("a1", 10.0), heard("c", 12.0)])
    witness.renumber({"a1": 5, "b": 6, "d": 7}, FATES, {"b"})
    assert [each.endpoint for each in witness.failures] == ["a1"]
    assert set(witness.failing) == {5}
    assert witness.refuted == {7}
    assert set(witness.talks) == {"a1", "d"}
    assert [each[2] for each in witness.memory] == ["a1"]


@pytest.mark.parametrize(("good", "recovered"), [(5, False), (6, True)])
def test_more_than_half_must_be_good_again(good: int, recovered: bool) -> None:
    witness = Witness("proxy")
    witness.memory.extend([heard("a1", 1.0)] * 20)
    witness.memory.extend([heard("a1", 2.0)] * (10 - good) + [heard("a1", 3.0, "success")] * good)
    assert witness.recovered(10) is recovered
