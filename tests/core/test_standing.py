"""The words that operators read: every state, its reason, and what happens next and when."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from balancer.core.model import STATES, Endpoint, HealthPolicy, Source, State
from balancer.core.notes import Drain
from balancer.core.outcome import Outcome
from balancer.core.row import Row
from balancer.core.standing import Standing, standing

MakeEndpoint = Callable[..., Endpoint]
POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=0.0)
BAD = Outcome(kind="server_error", status=500)
LIMITED = Outcome(kind="rate_limited", status=429, retry_after=30.0)
REFUSED = Outcome(kind="refused", status=401)
PROBE_FAILED = Outcome(kind="connect", shallow=True)


@pytest.fixture
def row(endpoint: MakeEndpoint) -> Row:
    return Row(endpoint("a"), POLICY, random=Random(1), now=0.0)


def take(
    row: Row,
    outcome: Outcome,
    now: float,
    *,
    times: int = 1,
    source: Source = "report",
    decision: str | None = None,
) -> None:
    for _ in range(times):
        row.record(
            outcome,
            source=source,
            ended=now,
            duration=None,
            now=now,
            decision=decision,
            policy=POLICY,
            random=Random(1),
        )


def bring(row: Row, state: State) -> None:
    """Bring a new row into a state, in which it still is at 4."""
    match state:
        case "drained":
            row.drains = (Drain("a", "upgrade", 0.0, None),)
        case "misconfigured":
            take(row, REFUSED, 3.0, times=3)
        case "ejected":
            take(row, BAD, 1.0, times=5)
        case "half_open":
            take(row, BAD, 1.0, times=5)
            row.health.start_trial(decision="dec_1", now=2.0, expires=1000.0)
        case "recovering":
            bring(row, "half_open")
            take(row, OK, 3.0, decision="dec_1")
        case "throttled":
            take(row, LIMITED, 1.0)
        case "degraded":
            take(row, OK, 1.0, times=15)
            take(row, BAD, 3.0, times=4)
        case "healthy":
            take(row, OK, 1.0)


STORIES: dict[State, tuple[str, str | None, float | None, str]] = {
    # reason, what happens next, when, and all of it in one line at 4
    "drained": ("upgrade", None, None, "upgrade"),
    "misconfigured": (
        "refused 3 times without a success between (401)",
        "waits for a good probe or `balancer resume`",
        None,
        "refused 3 times without a success between (401)",
    ),
    "ejected": (
        "5 failures in a row (500)",
        "trial",
        6.671821220562006,
        "5 failures in a row (500); trial in 3 s",
    ),
    "half_open": (
        "one trial is out, after 5 failures in a row (500)",
        "trial lapses",
        1000.0,
        "one trial is out, after 5 failures in a row (500); trial lapses in 996 s",
    ),
    "throttled": (
        "held after a 429 or a hint",
        "hold ends",
        31.0,
        "held after a 429 or a hint; hold ends in 27 s",
    ),
    "recovering": (
        "trial passed; 0 of 10 requests of the ramp",
        None,
        None,
        "trial passed; 0 of 10 requests of the ramp",
    ),
    "degraded": ("4 failures in a row", None, None, "4 failures in a row"),
    "unverified": ("no evidence yet", None, None, "no evidence yet"),
    "healthy": ("", None, None, ""),
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_tells_its_reason_and_what_happens_next(row: Row, state: State) -> None:
    bring(row, state)
    found = standing(row, 4.0, POLICY)
    assert found.state == state
    assert (found.reason, found.next, found.next_at, found.told(4.0)) == STORIES[state]


def test_a_credential_that_is_missing_waits_for_the_configuration(endpoint: Callable[..., Endpoint]) -> None:
    row = Row(endpoint("a", misconfigured="A_KEY is not set"), POLICY, random=Random(1), now=0.0)
    bring(row, "misconfigured")  # it is refused as well
    found = standing(row, 4.0, POLICY)
    assert (found.reason, found.next) == ("A_KEY is not set", "waits for a reload or restart that mends it")


def test_a_trial_that_is_due_waits_for_a_request_or_for_a_good_probe(row: Row) -> None:
    bring(row, "ejected")
    due = row.health.until
    by = "request that would go there"
    assert standing(row, due, POLICY).told(due) == f"5 failures in a row (500); trial with the next {by}"
    take(row, PROBE_FAILED, due, source="probe")
    found = standing(row, due, POLICY)
    assert (found.next, found.next_at) == ("trial after a good probe", None)
    assert found.told(due) == "5 failures in a row (500); trial after a good probe"


def test_where_probes_do_real_work_the_next_one_is_the_trial(row: Row) -> None:
    take(row, OK, 0.5, source="probe")
    bring(row, "ejected")
    due = row.health.until
    assert standing(row, due, POLICY).told(due) == "5 failures in a row (500); trial with the next probe"


def test_a_drain_that_ends_tells_when(row: Row) -> None:
    row.drains = (Drain("a", "upgrade", 0.0, 64.0),)
    assert standing(row, 4.0, POLICY).told(4.0) == "upgrade; drain ends in 60 s"


def test_a_share_of_failures_is_told_where_they_were_not_in_a_row(row: Row) -> None:
    for turn in range(16):
        take(row, BAD if turn % 4 == 3 else OK, 1.0 + turn / 10)
    found = standing(row, 4.0, POLICY)
    assert (found.state, found.reason) == ("degraded", "4 of 16 failed lately")


def test_what_is_degraded_for_longer_than_a_window_still_tells_of_failures(row: Row) -> None:
    for turn in range(24):
        take(row, BAD if turn % 3 == 2 else OK, 1.0 + turn)
    for _ in range(2):
        take(row, BAD, row.belief.at + 1.0)
        take(row, OK, row.belief.at + 1.0)
    assert row.state(row.belief.at + 310.0) == "degraded"
    found = standing(row, row.belief.at + 310.0, POLICY)
    assert found.reason.endswith(" failed lately")
    assert not found.reason.startswith("0 of")


def test_who_failed_and_never_succeeded_is_told_from_whom_nobody_asked(row: Row) -> None:
    take(row, BAD, 1.0)
    assert standing(row, 4.0, POLICY).reason == "no success yet"


def test_all_states_are_told_and_the_first_one_explained(row: Row) -> None:
    bring(row, "throttled")
    bring(row, "drained")
    states: tuple[State, ...] = ("drained", "throttled", "unverified")
    assert standing(row, 4.0, POLICY) == Standing("drained", states, "upgrade", None, None)


def test_to_tell_changes_nothing(row: Row) -> None:
    bring(row, "half_open")
    before = standing(row, 4.0, POLICY)
    assert standing(row, 2000.0, POLICY).state == "ejected"
    assert standing(row, 4.0, POLICY) == before
