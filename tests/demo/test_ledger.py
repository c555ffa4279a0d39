"""What is written down, and what is not."""

from __future__ import annotations

from balancer.demo.ledger import Choice, Ledger, Opinion, Sight, Spell
from balancer.demo.timetable import Fault

FAULT = Fault(provider="a", kind="refuse", start=5.0, end=9.0)


def opinion(state: str) -> Opinion:
    return Opinion(state=state, reason="")


def test_a_spell_has_the_moments_at_which_it_really_was() -> None:
    ledger = Ledger(("a", "b"))
    ledger.began(FAULT, at=5.01)
    assert ledger.spells == [Spell(provider="a", kind="refuse", start=5.01)]
    ledger.ended(FAULT, at=9.02)
    assert ledger.spells == [Spell(provider="a", kind="refuse", start=5.01, end=9.02)]


def test_an_end_is_that_of_the_running_spell_of_its_provider_and_kind() -> None:
    ledger = Ledger(("a", "b"))
    ledger.began(FAULT, at=5.0)
    ledger.ended(FAULT, at=9.0)
    ledger.began(Fault(provider="b", kind="refuse", start=6.0, end=10.0), at=6.0)
    ledger.began(FAULT, at=20.0)
    ledger.ended(FAULT, at=24.0)
    assert [spell.end for spell in ledger.spells] == [9.0, None, 24.0]


def test_choices_are_kept_only_while_somebody_is_ill() -> None:
    ledger = Ledger(("a", "b"))
    ledger.decided(provider="a", trial=False, at=4.0)
    ledger.began(FAULT, at=5.0)
    ledger.decided(provider="a", trial=False, at=5.1)
    ledger.decided(provider="b", trial=True, at=5.2)
    ledger.ended(FAULT, at=9.0)
    ledger.decided(provider="b", trial=False, at=9.1)
    assert list(ledger.choices) == [Choice(5.1, "a", trial=False), Choice(5.2, "b", trial=True)]


def test_only_a_change_of_eligibility_is_a_sight() -> None:
    ledger = Ledger(("a",))
    for at, state in enumerate(
        ["unverified", "healthy", "degraded", "ejected", "half_open", "recovering", "throttled", "healthy"]
    ):
        ledger.saw("a", opinion(state), at=float(at))
    assert list(ledger.sights) == [
        Sight(0.0, "a", eligible=True),
        Sight(3.0, "a", eligible=False),
        Sight(5.0, "a", eligible=True),
        Sight(6.0, "a", eligible=False),
        Sight(7.0, "a", eligible=True),
    ]
    assert ledger.opinions["a"].state == "healthy"


def test_the_two_ways_are_counted_apart() -> None:
    ledger = Ledger(("a", "b"))
    ledger.tried("balanced", provider="a", attempt=1, ok=True)
    ledger.finished("balanced", first_ok=True, ok=True)
    ledger.tried("round_robin", provider="a", attempt=1, ok=False)
    ledger.tried("round_robin", provider="b", attempt=2, ok=False)
    ledger.finished("round_robin", first_ok=False, ok=False)
    ledger.finished("round_robin", first_ok=False, ok=True)
    balanced, blind = ledger.scores["balanced"], ledger.scores["round_robin"]
    assert (balanced.requests, balanced.first_errors, balanced.lost) == (1, 0, 0)
    assert (blind.requests, blind.first_errors, blind.lost) == (2, 2, 1)
    assert (blind.first_tries["a"], blind.first_tries["b"]) == (1, 0)
    assert (blind.failed_tries["a"], blind.failed_tries["b"]) == (1, 1)


def test_shares_look_back_five_seconds() -> None:
    ledger = Ledger(("a", "b"))
    assert ledger.shares(now=0.0) == {"a": 0.0, "b": 0.0}
    for at, key in [(0.0, "a"), (4.0, "a"), (5.0, "b"), (6.0, "b"), (7.0, "b")]:
        ledger.decided(provider=key, trial=False, at=at)
    assert ledger.shares(now=8.0) == {"a": 0.25, "b": 0.75}
    assert ledger.shares(now=20.0) == {"a": 0.0, "b": 0.0}
