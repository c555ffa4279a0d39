"""When a turn comes, and which paid probes are worth their money: a table."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.settings import ProbeSettings
from balancer.core.evidence import Evidence, Urgency
from balancer.probing.pace import turn, worth_paying

USUAL = ProbeSettings(kind="completion", interval=30.0, suspect_interval=10.0, stale_after=300.0, floor=3600.0)
URGENCIES: tuple[Urgency, ...] = get_args(Urgency)


@pytest.mark.parametrize(
    ("urgency", "failing", "seconds"),
    [
        ("calm", False, 30.0),
        ("held", False, 30.0),
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


@pytest.mark.parametrize(
    ("report", "traffic", "urgency", "paid", "failures", "worth"),
    [
        (299.0, 1.0, "suspect", None, 3, False),  # a young report says all, whatever it says
        (300.0, 1.0, "calm", None, 0, True),  # never seen by us, and the report is old
        (None, None, "calm", None, 0, True),
        (None, None, "held", None, 0, True),
        (None, None, "calm", 3599.0, 0, False),  # all is well: only the floor
        (None, None, "calm", 3600.0, 0, True),
        (None, 1.0, "held", 3600.0, 0, True),
        (None, None, "held", 3599.0, 9, False),
        (None, None, "out", 3599.0, 9, False),
        (None, None, "trial", 10.0, 0, True),  # nobody else will try it
        (None, None, "trial", 9.0, 0, False),
        (None, 299.0, "trial", 3599.0, 0, False),  # a request will
        (None, 300.0, "trial", 10.0, 0, True),
        (1.0, 1.0, "awaited", 10.0, 0, True),  # requests leave it to us, and what was reported made it so
        (1.0, 1.0, "awaited", 9.0, 0, False),
        (1.0, 1.0, "awaited", 79.0, 4, False),
        (None, 299.0, "suspect", 3599.0, 1, False),  # a request will go there too
        (None, 300.0, "suspect", 10.0, 0, True),
        (None, 299.0, "calm", 3599.0, 1, False),
        (None, 300.0, "calm", 10.0, 1, True),  # the last probe failed: look again
        (None, None, "calm", 19.0, 2, False),  # each failure doubles the wait
        (None, None, "calm", 20.0, 2, True),
        (None, None, "calm", 3599.0, 30, False),
        (None, 1.0, "calm", 3600.0, 30, True),  # and the floor ends it
    ],
)
def test_which_paid_probes_are_worth_it(
    report: float | None, traffic: float | None, urgency: Urgency, paid: float | None, failures: int, worth: bool
) -> None:
    seen = Evidence(report, traffic, urgency)
    assert worth_paying(USUAL, seen, paid_age=paid, failures=failures) is worth


@given(
    st.none() | st.floats(0, 1e6), st.none() | st.floats(0, 1e6), st.sampled_from(URGENCIES), st.integers(0, 10**6)
)
def test_waiting_never_makes_a_probe_less_worth_and_past_the_floor_only_a_report_forbids_it(
    report: float | None, traffic: float | None, urgency: Urgency, failures: int
) -> None:
    seen = Evidence(report, traffic, urgency)
    waits = (0.0, 10.0, 100.0, 3599.0, 3600.0, 1e9)
    found = [worth_paying(USUAL, seen, paid_age=wait, failures=failures) for wait in waits]
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert found[-1] is (report is None or report >= USUAL.stale_after or urgency == "awaited")
