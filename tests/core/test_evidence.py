"""What a prober must know: ages of reports, and which questions only a call can answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Endpoint
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.core.row import PROBES_FIRST

OK = Outcome(kind="success")
BAD = Outcome(kind="server_error", status=500)


@pytest.fixture
def pair(endpoint: Callable[..., Endpoint], catalog: Callable[..., object]) -> Balancer:
    return Balancer(catalog(endpoint("a"), endpoint("b")), seed=1)  # type: ignore[arg-type]


MODEL = "author/slug"
A, B = f"{MODEL}@a", f"{MODEL}@b"


def test_a_models_traffic_is_its_newest_report_wherever_it_went(pair: Balancer) -> None:
    assert pair.evidence(A, now=1.0) == (None, None, "calm")
    pair.record(A, OK, now=10.0)
    pair.record(B, OK, now=20.0)
    assert pair.evidence(A, now=25.0) == (15.0, 5.0, "calm")
    assert pair.evidence(B, now=25.0) == (5.0, 5.0, "calm")


def test_one_failure_makes_it_suspect_until_the_next_success(pair: Balancer) -> None:
    pair.record(A, OK, now=1.0)
    pair.record(A, BAD, now=2.0)
    assert pair.evidence(A, now=3.0).urgency == "suspect"
    assert pair.evidence(B, now=3.0).urgency == "calm"
    pair.record(A, OK, now=4.0)
    assert pair.evidence(A, now=5.0).urgency == "calm"


def test_an_ejection_is_left_alone_until_its_hold_is_over_and_then_waits_for_a_trial(pair: Balancer) -> None:
    for step in range(10):
        pair.record(A, BAD, now=1.0 + step / 10)
    view = pair.endpoint(A, now=2.0)
    assert view.state == "ejected"
    assert view.next_at is not None
    assert pair.evidence(A, now=view.next_at - 0.01).urgency == "out"
    assert pair.evidence(A, now=view.next_at).urgency == "trial"
    pair.record(A, OK, now=view.next_at + 1.0, source="probe")
    assert pair.evidence(A, now=view.next_at + 2.0).urgency == "calm"


def test_a_probe_that_was_just_there_is_awaited_again_because_requests_leave_the_trial_to_it(
    pair: Balancer,
) -> None:
    pair.record(A, OK, now=1.0, source="probe")
    for step in range(10):
        pair.record(A, BAD, now=2.0 + step / 10)
    view = pair.endpoint(A, now=3.0)
    assert view.next_at is not None
    assert pair.evidence(A, now=view.next_at).urgency == "awaited"
    assert not pair.best(Request(model=MODEL), now=view.next_at).trial
    assert pair.evidence(A, now=1.0 + PROBES_FIRST).urgency == "trial"
    assert pair.best(Request(model=MODEL), now=1.0 + PROBES_FIRST).trial


@pytest.mark.parametrize(
    ("what", "urgency"),
    [("drained", "held"), ("throttled", "held"), ("misconfigured", "misconfigured"), ("both", "held")],
)
def test_one_that_nobody_may_call_is_held_and_one_that_refuses_us_waits_to_be_asked_again(
    pair: Balancer, what: str, urgency: str
) -> None:
    if what in ("drained", "both"):
        pair.drain(A, now=1.0)
    for _ in range(3):
        if what == "throttled":
            pair.record(A, Outcome(kind="rate_limited", status=429, retry_after=60.0), now=2.0)
        elif what in ("misconfigured", "both"):
            pair.record(A, Outcome(kind="refused", status=401), now=2.0)
    assert pair.endpoint(A, now=3.0).state == ("drained" if what == "both" else what)
    assert pair.evidence(A, now=3.0).urgency == urgency
