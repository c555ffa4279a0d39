"""When a turn comes, and which paid probes are worth their money: a table."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.settings import ProbeSettings
from balancer.core.evidence import Evidence, Urgency
from balancer.core.outcome import Count
from balancer.probing.pace import Bought, turn, worth_paying

USUAL = ProbeSettings(kind="completion", interval=30.0, suspect_interval=10.0, stale_after=300.0, floor=3600.0)
URGENCIES: tuple[Urgency, ...] = get_args(Urgency)


@pytest.mark.parametrize(
    ("urgency", "failing", "seconds"),
    [
        ("calm", False, 30.0),
        ("held", False, 30.0),
        ("held", True, 30.0),
        ("misconfigured", False, 30.0),
        ("misconfigured", True, 30.0),  # it waits for a person
        ("warned", False, 10.0),
        ("suspect", False, 10.0),
        ("trial", False, 10.0),
        ("awaited", False, 10.0),
        ("calm", True, 10.0),
    ],
)
def test_a_turn_comes_sooner_while_something_is_wrong(urgency: Urgency, failing: bool, seconds: float) -> None:
    assert turn(USUAL, Evidence(None, None, urgency), failing=failing) == seconds


def test_a_suspects_turn_is_never_longer_than_the_usual_one() -> None:
    quick = ProbeSettings(interval=5.0, suspect_interval=10.0)
    assert turn(quick, Evidence(None, None, "suspect"), failing=False) == 5.0


FINE = Bought(at=0.0, last="success", decided=True)
NEVER = Bought()


def failed(times: int) -> Bought:
    return Bought(at=0.0, count=times, last="failure", decided=True)


def undecided(times: int, *, decided: bool = False) -> Bought:
    return Bought(at=0.0, count=times, last="none", decided=decided)


@pytest.mark.parametrize(
    ("report", "traffic", "urgency", "bought", "now", "worth"),
    [
        (299.0, 1.0, "suspect", NEVER, 0.0, False),  # a young report says all, whatever it says
        (300.0, 1.0, "calm", NEVER, 0.0, True),  # never seen by us, and the report is old
        (None, None, "calm", NEVER, 0.0, True),
        (None, None, "held", NEVER, 0.0, False),  # drained, or to be left alone
        (None, None, "calm", FINE, 3599.0, False),  # all is well: only the floor
        (None, None, "calm", FINE, 3600.0, True),
        (None, 1.0, "held", FINE, 3600.0, False),
        (None, None, "misconfigured", NEVER, 0.0, True),
        (None, 1.0, "misconfigured", failed(1), 29.0, False),
        (None, 1.0, "misconfigured", failed(1), 30.0, True),  # no request will find out that it is well again
        (None, 1.0, "misconfigured", failed(3), 119.0, False),
        (None, 1.0, "misconfigured", failed(3), 120.0, True),
        (None, None, "held", failed(1), 3599.0, False),
        (None, None, "out", failed(1), 3599.0, False),
        (None, None, "warned", FINE, 3599.0, False),  # a page is no reason to pay
        (None, None, "trial", FINE, 10.0, True),  # nobody else will try it
        (None, None, "trial", FINE, 9.0, False),
        (None, 299.0, "trial", FINE, 3599.0, False),  # a request will
        (None, 300.0, "trial", FINE, 10.0, True),
        (1.0, 1.0, "awaited", FINE, 10.0, True),  # requests leave it to us, and what was reported made it so
        (1.0, 1.0, "awaited", FINE, 9.0, False),
        (1.0, 1.0, "awaited", failed(4), 79.0, False),
        (None, 299.0, "suspect", failed(1), 3599.0, False),  # a request will go there too
        (None, 300.0, "suspect", FINE, 10.0, True),
        (None, 299.0, "calm", failed(1), 3599.0, False),
        (None, 300.0, "calm", failed(1), 10.0, True),  # the last probe failed: look again
        (None, None, "calm", failed(2), 19.0, False),  # each purchase doubles the wait
        (None, None, "calm", failed(2), 20.0, True),
        (None, None, "suspect", undecided(4, decided=True), 79.0, False),  # whatever it found
        (None, None, "suspect", undecided(4, decided=True), 80.0, True),
        (None, None, "calm", failed(30), 3599.0, False),
        (None, 1.0, "calm", failed(30), 3600.0, True),  # and the floor ends it
        (None, 1.0, "calm", undecided(1), 30.0, True),  # nothing was found out yet, and traffic goes elsewhere
        (None, 1.0, "calm", undecided(2), 59.0, False),
        (None, 1.0, "calm", undecided(2), 60.0, True),
        (None, None, "calm", undecided(1, decided=True), 29.0, False),
        (None, None, "calm", undecided(1, decided=True), 30.0, True),  # it was, but not the last time
        (
            None,
            None,
            "trial",
            Bought(at=0.0, count=4, last="success", decided=True),
            10.0,
            True,
        ),  # it takes two in a row, perhaps
        (None, None, "awaited", Bought(at=0.0, count=4, last="success", decided=True), 10.0, True),
        (None, None, "suspect", Bought(at=0.0, count=4, last="success", decided=True), 79.0, False),
    ],
)
def test_which_paid_probes_are_worth_it(
    report: float | None, traffic: float | None, urgency: Urgency, bought: Bought, now: float, worth: bool
) -> None:
    assert worth_paying(USUAL, Evidence(report, traffic, urgency), bought, now) is worth


def test_the_doubling_is_forgotten_when_all_is_calm_after_a_good_one_and_not_before() -> None:
    bought = Bought()
    for moment, told in ((0.0, "failure"), (10.0, "none"), (30.0, "success")):
        bought.buy(moment)
        bought.look(Evidence(None, None, "calm"))
        bought.learn(told)
    assert (bought.at, bought.count, bought.decided) == (30.0, 3, True)
    bought.look(Evidence(None, None, "suspect"))
    assert bought.count == 3
    bought.look(Evidence(None, None, "calm"))
    assert (bought.at, bought.count, bought.decided) == (30.0, 0, True)


def test_what_was_not_sent_does_not_make_the_next_one_wait_longer() -> None:
    bought = Bought()
    bought.hand_back()
    for moment, sent in ((0.0, True), (30.0, False), (60.0, False), (90.0, True)):
        bought.buy(moment)
        bought.learn("none")
        if not sent:
            bought.hand_back()
    assert (bought.at, bought.count) == (90.0, 2)


@pytest.mark.parametrize(("told", "decided"), [("success", True), ("failure", True), ("rate_limited", False)])
def test_a_paid_probe_decides_when_it_works_or_fails(told: Count, decided: bool) -> None:
    bought = Bought()
    bought.learn(told)
    bought.learn("none")
    assert bought.decided is decided


@given(
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.sampled_from(URGENCIES),
    st.integers(0, 10**6),
    st.sampled_from(get_args(Count)),
    st.booleans(),
)
def test_waiting_never_makes_a_probe_less_worth_and_past_the_floor_only_a_report_forbids_it(
    report: float | None, traffic: float | None, urgency: Urgency, count: int, last: Count, decided: bool
) -> None:
    seen, bought = Evidence(report, traffic, urgency), Bought(at=0.0, count=count, last=last, decided=decided)
    waits = (0.0, 10.0, 100.0, 3599.0, 3600.0, 1e9)
    found = [worth_paying(USUAL, seen, bought, wait) for wait in waits]
    assert all(earlier <= later for earlier, later in pairwise(found))
    old = report is None or report >= USUAL.stale_after
    assert found[-1] is (urgency != "held" and (old or urgency == "awaited"))
