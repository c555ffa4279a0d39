"""Cheap probes: how many failures eject, how long they postpone a trial, and when they are refuted."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.cheap import FAILED_AGE, FAILURES, LAST, VETO_MAX, Cheap


def tell(probes: str, *, answered: float = inf) -> list[str | None]:
    """What each of these finds, a second apart: F failed, G good."""
    cheap = Cheap()
    return [cheap.record(letter == "G", float(now), answered=answered) for now, letter in enumerate(probes, 1)]


@pytest.mark.parametrize(
    ("probes", "answered", "found"),
    [
        ("FF", inf, None),
        ("FFF", inf, "3 probes failed in a row"),
        ("FGFF", inf, "3 of the last 5 probes failed"),
        ("FGGFGF", inf, None),
        ("FFF", 1.0, "3 probes failed in a row"),  # somebody answered after the first had ended
        ("FFF", 0.5, None),  # nobody has since
        ("FFFF", 0.5, None),
        ("FFFFF", 0.5, "5 probes failed in a row"),
        ("GFFFFF", 0.5, "5 probes failed in a row"),
        ("FGFF", 0.5, None),  # our own network may have been cut since
        ("FGFGF", 0.5, "3 of the last 5 probes failed"),  # it answered itself, between
    ],
)
def test_three_of_the_last_five_eject_or_all_where_nobody_answers(
    probes: str, answered: float, found: str | None
) -> None:
    told = tell(probes, answered=answered)
    if found is None:
        assert told == [None] * len(probes)
    else:
        assert found in told


@given(st.text("FG", max_size=30))
def test_a_recount_finds_the_same(probes: str) -> None:
    for number, found in enumerate(tell(probes), 1):
        last = probes[:number][-LAST:]
        assert (found is not None) is (last.endswith("F") and last.count("F") >= FAILURES)
    for number, found in enumerate(tell(probes, answered=-1.0), 1):
        last = probes[:number][-LAST:]
        enough = last.endswith("F") and last.count("F") >= (FAILURES if last.endswith("GF") else LAST)
        assert (found is not None) is enough


def test_an_answer_counts_from_the_oldest_failure_that_counts() -> None:
    cheap = Cheap()
    # Results are told a moment after they ended, so the newest answer is always a little older than a failure.
    assert [cheap.record(False, now, answered=now - 0.5) for now in (1.0, 2.0)] == [None, None]
    assert cheap.record(False, 3.0, answered=1.5) == "3 probes failed in a row"


def test_a_failure_postpones_a_trial_until_it_is_old_or_the_ejection_is() -> None:
    cheap = Cheap()
    assert not cheap.vetoes(1.0, ejected=0.0)
    cheap.record(False, 10.0, answered=inf)
    assert cheap.vetoes(10.0 + FAILED_AGE - 0.1, ejected=0.0)
    assert not cheap.vetoes(10.0 + FAILED_AGE, ejected=0.0)
    cheap.record(False, VETO_MAX - 1.0, answered=inf)
    assert cheap.vetoes(VETO_MAX - 0.1, ejected=0.0)
    assert not cheap.vetoes(VETO_MAX, ejected=0.0)
    cheap.record(True, VETO_MAX + 1.0, answered=inf)
    assert not cheap.vetoes(VETO_MAX + 1.0, ejected=VETO_MAX)


def test_what_is_refuted_says_nothing_until_it_succeeds() -> None:
    cheap = Cheap()
    cheap.refute()  # nothing had failed: nothing is refuted
    cheap.record(False, 1.0, answered=inf)
    cheap.refute()
    assert [cheap.record(False, 2.0 + step, answered=inf) for step in range(20)] == [None] * 20
    assert not cheap.vetoes(22.0, ejected=20.0)
    cheap.record(True, 30.0, answered=inf)
    cheap.forgive()
    assert [cheap.record(False, 31.0, answered=inf) is None for _ in range(FAILURES)] == [True] * (FAILURES - 1) + [
        False
    ]


def test_what_is_forgiven_counts_no_more_and_what_came_before_still_postpones() -> None:
    cheap = Cheap()
    for now in (1.0, 2.0):
        cheap.record(False, now, answered=inf)
    cheap.forgive(since=5.0)
    assert (cheap.bits, cheap.failed_at) == (0, 2.0)
    cheap.forgive(since=2.0)
    assert cheap.failed_at == -inf


def test_a_restart_goes_on_where_it_stopped() -> None:
    cheap = Cheap()
    cheap.restore(0b11, 5.0)
    assert cheap.record(False, 6.0, answered=5.5) == "3 probes failed in a row"
