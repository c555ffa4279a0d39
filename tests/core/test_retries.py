"""The rule under test: exhausted iff retries of the trailing minute > max(floor, ratio × requests)."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.model import RetryBudget, RetryPolicy
from balancer.core.retries import SPAN, Retries, decision_id, first_mark, is_first, mark
from balancer.core.window import BUCKETS

POLICY = RetryPolicy(ratio=0.2, floor=10)
WIDTH = SPAN / BUCKETS
A, B = "openai/gpt-4.1@openai", "openai/gpt-4.1@azure/eastus2"


def filled(*, first: int, retries: int, reports: int = 0, now: float = 1000.0) -> Retries:
    made = Retries()
    for _ in range(first):
        made.asked(now, retry=False)
    for _ in range(retries):
        made.asked(now, retry=True)
    for _ in range(reports):
        made.reported(now)
    return made


# ---- the budget --------------------------------------------------------------------------------------


def test_a_model_that_nobody_asked_for_has_its_whole_budget() -> None:
    assert Retries().standing(0.0, POLICY) == RetryBudget(share=0.0, exhausted=False)


@pytest.mark.parametrize(
    ("first", "retries", "share", "exhausted"),
    [
        (0, 10, 1.0, False),  # the floor is always allowed
        (0, 11, 1.0, True),
        (30, 10, 0.25, False),
        (30, 11, 11 / 41, True),
        (400, 100, 0.2, False),  # the ratio itself is allowed
        (400, 101, 101 / 501, True),
        (1000, 0, 0.0, False),
    ],
)
def test_the_budget_is_the_ratio_or_the_floor_if_that_is_more(
    first: int, retries: int, share: float, exhausted: bool
) -> None:
    assert filled(first=first, retries=retries).standing(1000.0, POLICY) == RetryBudget(
        share=share, exhausted=exhausted
    )


def test_the_policy_of_a_reload_holds_at_once() -> None:
    made = filled(first=89, retries=11)
    assert not made.standing(1000.0, POLICY).exhausted
    assert made.standing(1000.0, RetryPolicy(ratio=0.1, floor=10)).exhausted
    assert not made.standing(1000.0, RetryPolicy(ratio=0.1, floor=11)).exhausted


def test_a_fallback_that_nobody_asked_for_is_a_retry_too() -> None:
    made = filled(first=9, retries=0)
    made.retried(1000.0)
    assert made.standing(1000.0, POLICY).share == 0.1


def test_a_minute_later_it_is_forgotten() -> None:
    made = filled(first=0, retries=50)
    assert made.standing(1059.0, POLICY).exhausted
    assert made.standing(1060.0, POLICY) == RetryBudget(share=0.0, exhausted=False)


def test_reading_forgets_as_soon_as_writing_does() -> None:
    made = filled(first=0, retries=1, now=940.0)
    made.asked(999.0, retry=False)
    assert made.standing(999.9, POLICY).share == 0.5
    assert made.standing(1000.0, POLICY).share == 0.0
    assert made.standing(999.9, POLICY).share == 0.5
    made.asked(1000.0, retry=False)
    assert made.standing(1000.0, POLICY).share == 0.0


def test_a_late_report_counts_where_it_ended() -> None:
    made = filled(first=9, retries=0)
    made.retried(950.0)
    assert made.standing(1000.0, POLICY).share == 0.1
    assert made.standing(1010.0, POLICY).share == 0.0
    made.retried(900.0)
    assert made.standing(1000.0, POLICY).share == 0.1


def test_reports_are_the_requests_where_a_list_is_used_many_times() -> None:
    made = filled(first=1, retries=0, reports=100)
    for _ in range(15):
        made.retried(1000.0)
    assert made.standing(1000.0, POLICY) == RetryBudget(share=0.15, exhausted=False)


def test_reports_of_what_was_asked_are_not_counted_again() -> None:
    assert filled(first=30, retries=10, reports=40).standing(1000.0, POLICY).share == 0.25


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("asked", "again", "retried", "reported", "read")),
            st.one_of(
                st.integers(0, 400).map(float),
                st.floats(0.0, 400.0),
                st.integers(0, 60).map(lambda second: 200.0 + second),
            ),
        ),
        max_size=80,
    )
)
def test_a_budget_equals_a_recount_of_everything(events: list[tuple[str, float]]) -> None:
    """By the rule of the windows: buckets on multiples of their width, and the newest event is the clock."""
    policy = RetryPolicy(ratio=0.3, floor=2)
    made, everything = Retries(), list[tuple[str, float]]()
    for what, moment in events:
        match what:
            case "asked" | "again":
                made.asked(moment, retry=what == "again")
            case "retried":
                made.retried(moment)
            case "reported":
                made.reported(moment)
        if what != "read":
            everything.append((what, moment))
        now = max([moment, *(at for _, at in everything)])
        live = [each for each, at in everything if floor(now / WIDTH) - floor(at / WIDTH) < SPAN / WIDTH]
        retries = live.count("again") + live.count("retried")
        requests = max(live.count("asked") + retries, live.count("reported"))
        assert made.standing(moment, policy) == RetryBudget(
            share=retries / requests if retries else 0.0, exhausted=retries > max(2, 0.3 * requests)
        )


# ---- marks -------------------------------------------------------------------------------------------


def test_a_mark_is_the_same_in_every_process() -> None:
    assert mark("123456789") == 0x3926  # the check value of CRC-32 is 0xCBF43926


@given(st.integers(0, 2**64 - 1), st.text(max_size=50))
def test_a_decision_ends_in_the_mark_of_its_first_choice(bits: int, endpoint: str) -> None:
    decision = decision_id(bits, mark(endpoint))
    assert decision.startswith("dec_")
    assert len(decision) == 20
    assert int(decision[4:], 16) >> 16 == bits >> 16
    assert is_first(decision, endpoint)
    assert first_mark(decision) == mark(endpoint)


def test_a_report_of_a_fallback_is_a_retry() -> None:
    decision = decision_id(0x0123_4567_89AB_CDEF, mark(A))
    assert is_first(decision, A)
    assert not is_first(decision, B)


@pytest.mark.parametrize(
    "decision",
    [
        None,
        "",
        "dec_1",
        "req_0123456789abcdef",
        "dec_0123456789ABCDEF",
        "dec_0123456789abcdef\n",
        "dec_+123456789_bcdef",
    ],
)
def test_what_is_not_of_our_making_is_no_retry(decision: str | None) -> None:
    assert is_first(decision, A)
    assert first_mark(decision) == -1
