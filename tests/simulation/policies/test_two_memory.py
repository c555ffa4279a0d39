from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.outcome import Kind
from balancer.simulation.policies.two_memory import AGE_MAX, Memory

Stand = Callable[..., Any]


def chances(one: Any, at: float) -> list[float]:
    found: list[float] = one.policy.chances(0, at)
    return found


def rate(tries: list[tuple[float, bool]], span: float, now: float, prior: float, of: float) -> float:
    """The failure rate of fading tries, begun with a prior, as one would write it down."""
    weights = [(exp((at - now) / span), failed) for at, failed in tries]
    return (sum(weight for weight, failed in weights if failed) + prior * of) / (
        sum(weight for weight, _ in weights) + prior
    )


def test_nothing_known_is_the_normal_floor_and_the_price_decides(stand: Stand) -> None:
    one = stand("two_memory", 2.0, 1.0, 1.5)
    assert chances(one, 5.0) == pytest.approx([0.02] * 3)
    assert one.order(5.0) == [1, 2, 0]


def test_each_level_begins_with_tries_of_the_next(stand: Stand) -> None:
    one = stand("two_memory", 1.0, 1.0)
    one.tell(0, *["server_error"] * 4, *["success"] * 6, at=0.0)
    peers = (4 + 20 * 0.02) / 30
    long = (4 + 20 * peers) / 30
    assert chances(one, 0.0) == pytest.approx([(4 + 5 * long) / 15, peers])


@given(
    st.lists(st.tuples(st.floats(0.0, 60_000.0), st.integers(0, 1), st.booleans()), max_size=25),
    st.floats(0.0, 200_000.0),
)
def test_the_estimate_is_what_one_would_write_down(
    stand: Stand, tries: list[tuple[float, int, bool]], later: float
) -> None:
    one, tries = stand("two_memory", 1.0, 1.0), sorted(tries)
    for at, track, failed in tries:
        one.tell(track, "server_error" if failed else "success", at=at)
    now = (tries[-1][0] if tries else 0.0) + later
    peers = rate([(at, failed) for at, _, failed in tries], 86_400.0, now, 20.0, 0.02)
    wanted = []
    for own in range(2):
        its = [(at, failed) for at, track, failed in tries if track == own]
        wanted.append(rate(its, 600.0, now, 5.0, rate(its, 86_400.0, now, 20.0, peers)))
    assert chances(one, now) == pytest.approx(wanted)


def test_the_short_memory_falls_by_e_in_ten_minutes_across_new_origins() -> None:
    memory = Memory(600.0, 2)
    memory.add(1, 0.0, failed=True)
    for number in range(1, 201):  # a hundred time constants
        now = number * 300.0
        unit = memory.unit(now)
        assert memory.failures[1] / unit == pytest.approx(exp(-number / 2), rel=1e-9, abs=0.0)
    assert memory.unit(60_000.0) <= exp(AGE_MAX)
    memory.add(1, 60_000.0, failed=False)
    assert memory.tries[1] / memory.unit(60_000.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("server_error", True),
        ("timeout", True),
        ("rate_limited", True),
        ("cancelled", False),
        ("caller_error", False),
    ],
)
def test_a_429_is_a_failed_try_and_what_the_caller_caused_is_none(stand: Stand, kind: Kind, counts: bool) -> None:
    one = stand("two_memory", 1.0, 1.1)
    one.tell(0, *[kind] * 3, at=10.0)
    assert (one.order(10.0) == [1, 0]) is counts


def test_a_probe_counts_as_a_request_does(stand: Stand) -> None:
    asked, probed = stand("two_memory", 1.0, 1.1), stand("two_memory", 1.0, 1.1)
    asked.tell(0, "timeout", "success", at=10.0)
    probed.tell(0, "timeout", "success", at=10.0, probe=True)
    assert chances(asked, 20.0) == chances(probed, 20.0)
    assert probed.policy.probed


def test_a_failure_costs_what_the_option_says(stand: Stand) -> None:
    for price_of, first in ((0, 0), (5, 0), (40, 1)):
        one = stand(f"two_memory:failure_price={price_of}", 1.0, 4.0)
        one.tell(0, *["server_error"] * 5, *["success"] * 15, at=0.0)
        one.tell(1, *["success"] * 20, at=0.0)
        assert one.order(0.0)[0] == first


def test_good_probes_bring_an_endpoint_back_but_not_the_first_of_them(stand: Stand) -> None:
    one = stand("two_memory", 1.0, 2.0)
    one.tell(0, *["server_error"] * 10, at=0.0)
    back = None
    for minute in range(1, 240):
        for track in (0, 1):
            one.tell(track, "success", at=60.0 * minute, probe=True)
        if back is None and one.order(60.0 * minute)[0] == 0:
            back = minute
    assert back is not None
    assert 10 <= back <= 60


def test_it_has_no_states(stand: Stand) -> None:
    one = stand("two_memory", 1.0, 1.3)
    one.tell(0, *["server_error"] * 10, at=0.0)
    one.order(1.0)
    assert one.moves() == []
    assert not one.policy.demotes
