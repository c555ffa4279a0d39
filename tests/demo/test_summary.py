"""The numbers of the summary, by tables of events with literal times."""

from __future__ import annotations

import pytest

from balancer.demo.ledger import Choice, Ledger, Opinion, Sight, Spell
from balancer.demo.summary import detected_after, returned_after, summarise, worst
from balancer.demo.timetable import Fault

ILL = Spell(provider="a", kind="refuse", start=10.0, end=20.0)


def a(at: float, *, trial: bool = False) -> Choice:
    return Choice(at, "a", trial)


def b(at: float) -> Choice:
    return Choice(at, "b", trial=False)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([], 0.0),
        ([b(11.0), b(12.0)], 0.0),
        ([a(9.0), b(11.0)], 0.0),
        ([a(9.0), a(10.5), b(11.0)], 0.5),
        ([a(10.0), b(11.0)], 0.0),
        ([a(10.5), b(11.0), a(13.0), b(13.1)], 3.0),
        ([a(10.5), b(11.0), a(15.0, trial=True), b(15.1)], 0.5),
        ([a(10.5), a(15.0, trial=True)], 0.5),
        ([a(10.5), b(11.0), a(21.0)], 0.5),
        ([a(10.5), a(19.9)], None),
        ([a(10.5), b(11.0), a(19.9)], None),
        ([a(10.5), a(19.9), b(20.5)], None),
    ],
    ids=[
        "no decision at all",
        "never chosen in it",
        "chosen only before it",
        "chosen once in it",
        "chosen at its first moment",
        "chosen again in it",
        "a trial is not a choice",
        "a trial shows that it is known",
        "chosen after it",
        "chosen to its end",
        "chosen again at its end",
        "another choice after its end shows nothing",
    ],
)
def test_detection_is_the_last_first_choice_inside_the_fault(choices: list[Choice], expected: float | None) -> None:
    assert detected_after(ILL, choices, until=60.0) == expected


def test_a_fault_that_lasts_to_the_end_of_the_run_is_judged_until_then() -> None:
    lasting = Spell(provider="a", kind="refuse", start=10.0)
    assert detected_after(lasting, [a(10.5), b(11.0)], until=30.0) == 0.5
    assert detected_after(lasting, [b(10.5), a(11.0)], until=30.0) is None


def sights(*changes: tuple[float, bool]) -> list[Sight]:
    return [Sight(at, "a", eligible) for at, eligible in changes]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], 0.0),
        (sights((0.0, True)), 0.0),
        (sights((0.0, True), (12.0, False), (17.0, True)), 0.0),
        (sights((0.0, True), (12.0, False), (26.5, True)), 6.5),
        (sights((0.0, True), (20.5, False), (31.0, True)), 11.0),
        (sights((0.0, True), (12.0, False), (20.25, True), (21.0, False), (33.0, True)), 13.0),
        (sights((0.0, True), (12.0, False), (26.5, True), (40.0, False), (45.0, True)), 6.5),
        (sights((0.0, True), (40.0, False)), 0.0),
        (sights((0.0, True), (12.0, False)), None),
        (sights((0.0, True), (12.0, False), (55.0, True)), None),
        ([*sights((0.0, True), (12.0, False)), Sight(21.0, "b", True)], None),
    ],
    ids=[
        "never looked at",
        "never out",
        "back before the end",
        "back after it",
        "ejected by what was in flight at the end",
        "back, and ejected again by what was in flight",
        "ejected much later for another reason",
        "ejected only much later",
        "never back",
        "back after the limit",
        "others do not count",
    ],
)
def test_return_is_the_first_lasting_sight_of_an_eligible_endpoint(
    seen: list[Sight], expected: float | None
) -> None:
    assert returned_after(ILL, seen, until=50.0) == expected


def test_who_is_still_ill_has_not_returned() -> None:
    assert returned_after(Spell(provider="a", kind="hang", start=1.0), [], until=9.0) is None


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([], None), ([1.0], 1.0), ([1.0, 3.0, 2.0], 3.0), ([1.0, None], None), ([0.0, 0.0], 0.0)],
)
def test_the_worst_is_the_largest_and_unknown_is_worse(numbers: list[float | None], expected: float | None) -> None:
    assert worst(numbers) == expected


def test_the_summary_has_the_names_of_the_contract_and_nothing_else() -> None:
    ledger = Ledger(("a", "b"))
    limited = Fault(provider="a", kind="limited", start=5.0, end=8.0)
    refuse = Fault(provider="a", kind="refuse", start=10.0, end=20.0)
    ledger.saw("a", Opinion(state="healthy", reason=""), at=0.1)
    ledger.began(limited, at=5.0)
    ledger.decided(provider="a", trial=False, at=5.05)
    ledger.saw("a", Opinion(state="throttled", reason="429"), at=5.25)
    ledger.decided(provider="b", trial=False, at=5.3)
    ledger.ended(limited, at=8.0)
    ledger.saw("a", Opinion(state="healthy", reason=""), at=9.25)
    ledger.began(refuse, at=10.0)
    ledger.decided(provider="a", trial=False, at=10.3456)
    ledger.decided(provider="b", trial=False, at=10.5)
    ledger.saw("a", Opinion(state="ejected", reason="refused"), at=10.5)
    for way, provider in (("balanced", "b"), ("round_robin", "a")):
        ledger.tried(way, provider=provider, attempt=1, ok=True)  # type: ignore[arg-type]
        ledger.finished(way, first_ok=True, ok=True)  # type: ignore[arg-type]
    ledger.tried("balanced", provider="a", attempt=1, ok=False)
    ledger.finished("balanced", first_ok=False, ok=True)
    ledger.tried("round_robin", provider="a", attempt=1, ok=False)
    ledger.finished("round_robin", first_ok=False, ok=False)

    assert summarise(ledger, duration=12.3456, seed=7) == {
        "requests": 2,
        "client_errors": 0,
        "round_robin_client_errors": 1,
        "first_try_errors": 1,
        "round_robin_first_try_errors": 1,
        "duration": 12.346,
        "seed": 7,
        "providers": [
            {
                "id": "a",
                "faults": [
                    {
                        "kind": "limited",
                        "start": 5.0,
                        "end": 8.0,
                        "detected_after": 0.05,
                        "returned_after": 1.25,
                    },
                    {
                        "kind": "refuse",
                        "start": 10.0,
                        "end": None,
                        "detected_after": 0.346,
                        "returned_after": None,
                    },
                ],
                "share": 0.5,
                "detected_after": 0.346,
                "returned_after": None,
            },
            {"id": "b", "faults": [], "share": 0.5, "detected_after": None, "returned_after": None},
        ],
    }


def test_a_run_without_traffic_has_no_shares() -> None:
    summary = summarise(Ledger(("a",)), duration=0.0, seed=1)
    assert summary["requests"] == 0
    assert summary["providers"][0]["share"] == 0.0
