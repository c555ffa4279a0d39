"""Whose turn it is: spread, jitter, lateness, and an overloaded daemon that stretches its intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from balancer.config.settings import ProbeSettings
from balancer.core.model import Endpoint, Pricing
from balancer.probing.plan import JITTER, LATE_MAX, RELAX_EVERY, STRETCH_MAX, Plan, Row

INTERVAL = 30.0


def row(number: int) -> Row:
    endpoint = Endpoint(
        id=f"model@door/{number}",
        model="model",
        tag="door",
        provider="door",
        provider_name="Door",
        upstream_model="model",
        base_url="http://127.0.0.1:1",
        pricing=Pricing(),
    )
    return Row(endpoint=endpoint, settings=ProbeSettings(interval=INTERVAL), credential=None)


def planned(count: int, now: float = 0.0) -> tuple[Plan, list[Row]]:
    plan = Plan(random.Random(1))
    rows = [row(number) for number in range(count)]
    for each in rows:
        plan.add(each, now)
    return plan, rows


def again(plan: Plan, rows: Sequence[Row], now: float) -> None:
    for each in rows:
        plan.again(each, started=now, now=now, wait=INTERVAL)


def test_turns_come_in_their_order_and_each_once() -> None:
    plan, rows = planned(200)
    wait = plan.next(0.0)
    assert wait == pytest.approx(min(each.due for each in rows))
    assert plan.take(-1.0) == []
    taken: list[Row] = []
    for second in range(int(INTERVAL) + 1):
        taken += plan.take(float(second))
    assert taken == sorted(rows, key=lambda each: each.due)
    assert plan.next(INTERVAL) is None


def test_a_wait_is_counted_from_the_start_jittered_and_never_past() -> None:
    plan, rows = planned(500)
    again(plan, rows, 100.0)
    waits = [each.due - 100.0 for each in rows]
    assert min(waits) >= INTERVAL * (1 - JITTER)
    assert max(waits) <= INTERVAL * (1 + JITTER)
    assert max(waits) - min(waits) > INTERVAL * JITTER
    plan.again(rows[0], started=100.0, now=500.0, wait=INTERVAL)
    assert rows[0].due == 500.0


def test_hastening_counts_a_shorter_wait_from_the_last_turn_or_spreads_it_from_now() -> None:
    plan, rows = planned(100)
    for number, each in enumerate(rows):
        plan.again(each, started=100.0 if number % 2 else 80.0, now=100.0, wait=INTERVAL)
    for each in rows:
        plan.hasten(each, 105.0, 10.0)
    lately = [each.due for each in rows[1::2]]
    assert 100.0 + 10.0 * (1 - JITTER) <= min(lately) <= max(lately) <= 100.0 + 10.0 * (1 + JITTER)
    before = [each.due for each in rows[::2]]
    assert 105.0 <= min(before) <= max(before) <= 115.0
    assert max(before) - min(before) > 2.0  # who has cause at once does not come at once


def test_hastening_delays_nobody() -> None:
    plan, rows = planned(50)
    due = [each.due for each in rows]
    for each in rows:
        plan.hasten(each, 0.0, INTERVAL)
    assert [each.due for each in rows] == due
    for each in rows:
        plan.hasten(each, 0.0, INTERVAL / 2)
    assert all(now <= then for now, then in zip((each.due for each in rows), due, strict=True))
    assert max(each.due for each in rows) <= INTERVAL / 2


def test_a_row_that_was_dropped_or_planned_anew_has_no_old_turn() -> None:
    plan, rows = planned(3)
    plan.at(rows[0], 5.0)
    plan.at(rows[0], 70.0)
    plan.at(rows[1], 6.0)
    plan.at(rows[2], 7.0)
    del plan.rows[rows[1].endpoint.id]
    plan.tidy()
    assert plan.take(8.0) == [rows[2]]
    assert plan.take(70.0) == [rows[0]]


def test_what_is_much_too_late_is_spread_over_as_long_as_it_last_waited() -> None:
    plan, rows = planned(100)
    for each in rows:
        plan.again(each, started=0.0, now=0.0, wait=INTERVAL / 10)  # suspects
    now = 60.0
    assert plan.take(now) == []
    assert max(each.due for each in rows) <= now + INTERVAL / 10
    assert max(each.due for each in rows) - min(each.due for each in rows) > INTERVAL / 20


def test_what_is_much_too_late_is_not_run_and_spread_over_its_interval_again() -> None:
    plan, rows = planned(300)
    now = 4000.0  # a machine that slept for an hour
    assert plan.take(now) == []
    assert plan.not_run == 300
    assert {now <= each.due <= now + INTERVAL for each in rows} == {True}
    assert max(each.due for each in rows) - min(each.due for each in rows) > INTERVAL / 2
    assert plan.stretch == 1.0  # a pause is no overload


def run(plan: Plan, *, start: float, seconds: float, late: float) -> float:
    """Take turns for some time, each time so much later than the first that is due."""
    now = start
    while now < start + seconds:
        wait = plan.next(now)
        assert wait is not None
        now += wait + late
        again(plan, plan.take(now), now)
    return now


def test_a_daemon_that_is_always_late_stretches_its_intervals_and_takes_it_back_when_it_is_not() -> None:
    plan, _ = planned(200)
    now = run(plan, start=0.0, seconds=60.0, late=0.01)
    assert plan.stretch == 1.0
    now = run(plan, start=now, seconds=600.0, late=2.0)
    stretched = plan.stretch
    assert 1.0 < stretched <= STRETCH_MAX
    now = run(plan, start=now, seconds=RELAX_EVERY, late=0.001)
    assert plan.stretch == stretched  # not before it was in time for a while
    now = run(plan, start=now, seconds=2 * RELAX_EVERY, late=0.001)
    assert 1.0 < plan.stretch < stretched
    now = run(plan, start=now, seconds=15 * RELAX_EVERY, late=0.001)
    assert plan.stretch == 1.0


@pytest.mark.parametrize("late", [LATE_MAX, LATE_MAX + 1.0, 60.0])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_pauses_and_suspends_now_and_then_are_no_overload(count: int, late: float) -> None:
    plan, _ = planned(count)
    now = run(plan, start=0.0, seconds=600.0, late=0.001)
    for _ in range(20):
        now += late
        again(plan, plan.take(now), now)
        now = run(plan, start=now, seconds=2 * INTERVAL, late=0.001)
    assert plan.stretch == 1.0


def test_few_turns_that_come_late_are_no_overload_and_many_are() -> None:
    for count, overloaded in ((1, False), (20, True)):
        plan, _ = planned(count)
        run(plan, start=0.0, seconds=3600.0, late=2.0)
        assert (plan.stretch > 1.0) is overloaded


def test_a_plan_that_does_not_stretch_keeps_its_intervals_however_late_it_is() -> None:
    plan = Plan(random.Random(1), stretches=False)
    for number in range(200):
        plan.add(row(number), 0.0)
    run(plan, start=0.0, seconds=600.0, late=2.0)
    assert plan.stretch == 1.0
