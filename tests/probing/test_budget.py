"""Paid probes are counted by provider and UTC day."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.settings import Budget
from balancer.probing.budget import DAY, Budgets, Spent, kept

ONE = Budget(requests=5, usd=1.0)


def buy(budgets: Budgets, provider: str, usd: float | None = None) -> None:
    budgets.settle(budgets.begin(provider, priced=True), usd=usd, sent=1)


def test_each_provider_has_a_day_of_its_own_and_the_next_one_begins_anew() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    buy(budgets, "one", 0.25)
    buy(budgets, "two")
    buy(budgets, "two")
    assert budgets.spent("one") == Spent(requests=1, usd=0.25)
    assert budgets.spent("two") == Spent(requests=2)
    assert budgets.spent("three") == Spent()
    wall[0] += DAY
    assert budgets.spent("one") == Spent()
    buy(budgets, "two")
    assert budgets.spent("two") == Spent(requests=1)


def test_a_clock_that_is_set_back_over_midnight_gives_no_second_budget() -> None:
    wall = [10 * DAY + 1.0]
    budgets = Budgets(wall=lambda: wall[0])
    buy(budgets, "one", 0.5)
    assert budgets.is_news("one")
    wall[0] -= 2.0
    buy(budgets, "two")
    assert budgets.spent("one") == Spent(requests=1, usd=0.5)
    assert not budgets.is_news("one")
    wall[0] += DAY + 2.0
    assert budgets.spent("one") == Spent()


@pytest.mark.parametrize("ahead", [2, 3650])
@pytest.mark.parametrize("asked", [True, False])
def test_a_clock_that_was_days_ahead_gives_no_second_budget_today_and_a_new_one_tomorrow(
    ahead: int, asked: bool
) -> None:
    wall = [(10 + ahead) * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    for _ in range(5):
        buy(budgets, "one", 0.1)
    assert budgets.is_news("one")
    hold = budgets.begin("two", priced=True)
    wall[0] = 10 * DAY
    assert budgets.spent("one").requests == 5
    assert budgets.lack("one", ONE, priced=True) == "5 of 5 requests, 0.5000 of 1 USD"
    assert budgets.dump()["day"] == 10
    assert budgets.dump()["spent"]["one"] == {"requests": 5, "usd": 0.5, "dearest": 0.1, "told": True}
    if asked:
        assert not budgets.is_news("one")
        budgets.settle(hold, usd=None, sent=0)
        assert budgets.spent("two") == Spent()
        wall[0] += DAY
        assert budgets.spent("one") == Spent()
        assert budgets.dump()["spent"] == {}
        assert budgets.is_news("one")
    buy(budgets, "one", 0.1)  # a write, whenever it comes, is of its own day
    wall[0] += DAY
    assert budgets.lack("one", ONE, priced=True) is None
    buy(budgets, "one", 0.1)
    assert budgets.spent("one") == Spent(requests=1, usd=0.1)


def test_a_clock_that_jumps_about_gives_a_budget_for_each_new_day_and_none_for_one_that_was() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    for day, requests in ((10, 1), (9, 2), (10, 3), (40, 1), (10, 2), (9, 3), (8, 4), (9, 1), (10, 1)):
        wall[0] = day * DAY
        buy(budgets, "one")
        assert budgets.spent("one").requests == requests, day


def test_while_nobody_knows_what_one_costs_one_goes_alone() -> None:
    budgets = Budgets(wall=lambda: 10 * DAY)
    hold = budgets.begin("one", priced=True)
    assert budgets.lack("one", ONE, priced=True) == (
        "1 of 5 requests, 0.0000 of 1 USD, and one is under way whose cost is not known yet"
    )
    assert budgets.lack("one", ONE, priced=False) is None
    assert budgets.lack("two", ONE, priced=True) is None
    assert not budgets.is_news("one")
    budgets.settle(hold, usd=0.1, sent=1)
    assert budgets.lack("one", ONE, priced=True) is None


def test_what_is_under_way_is_set_aside_at_the_highest_cost_of_the_day() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    buy(budgets, "one", 0.3)
    buy(budgets, "one", 0.15)
    holds = []
    while budgets.lack("one", ONE, priced=True) is None:
        holds.append(budgets.begin("one", priced=True))
    assert [hold.usd for hold in holds] == [0.3]  # 0.45 are spent; with another it could be 1.05
    budgets.settle(holds.pop(), usd=0.1, sent=1)
    assert budgets.lack("one", ONE, priced=True) is None
    assert budgets.spent("one").usd == pytest.approx(0.55)
    buy(budgets, "one", 0.3)
    assert budgets.lack("one", ONE, priced=True) == ("4 of 5 requests, 0.8500 of 1 USD, and one costs up to 0.3000")
    assert budgets.lack("one", ONE, priced=False) is None
    wall[0] += DAY
    assert budgets.lack("one", Budget(usd=0.2), priced=True) is None  # what it costs is found out again


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_what_was_sent_is_counted_in_place_of_the_one_that_was_to_be_on_its_own_day(sent: int) -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    budgets.settle(budgets.begin("one", priced=True), usd=None, sent=sent)
    assert budgets.spent("one") == Spent(requests=sent)
    hold = budgets.begin("one", priced=True)
    wall[0] += DAY
    budgets.settle(hold, usd=None, sent=sent)
    assert budgets.spent("one") == Spent()


def test_a_second_request_of_a_probe_is_counted_before_it_is_sent_and_not_beyond_the_budget() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    hold = budgets.begin("one", priced=True)
    assert budgets.extend(hold, Budget(requests=2))
    assert budgets.spent("one") == Spent(requests=2)
    assert not budgets.extend(hold, Budget(requests=2))
    budgets.settle(hold, usd=0.5, sent=1)
    assert budgets.spent("one") == Spent(requests=1, usd=0.5)
    hold = budgets.begin("one", priced=True)
    assert not budgets.extend(hold, Budget(requests=9, usd=0.5))
    wall[0] += DAY
    assert budgets.extend(hold, Budget(requests=9, usd=0.5))
    budgets.settle(hold, usd=None, sent=2)
    assert budgets.spent("one") == Spent(requests=1)


@pytest.mark.parametrize(
    ("requests", "usd", "exceeded"),
    [(4, 0.99, False), (5, 0.0, True), (0, 1.0, True), (6, 2.0, True)],
)
def test_a_budget_is_used_up_by_whichever_comes_first(requests: int, usd: float, exceeded: bool) -> None:
    assert Spent(requests=requests, usd=usd).exceeds(Budget(requests=5, usd=1.0)) is exceeded


def test_that_it_is_used_up_is_news_once_a_day_for_each_provider() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    assert [budgets.is_news(provider) for provider in ("one", "one", "two", "two")] == [True, False, True, False]
    wall[0] += DAY
    assert budgets.is_news("one")


# ---- a restart ---------------------------------------------------------------------------------------


def restarted(budgets: Budgets, *, wall: float) -> Budgets:
    new = Budgets(wall=lambda: wall)
    new.restore(kept(json.loads(json.dumps(budgets.dump(), allow_nan=False))))
    return new


def test_a_restart_gives_no_second_budget_and_tells_its_end_once() -> None:
    old = Budgets(wall=lambda: 10 * DAY)
    buy(old, "one", 0.4)
    buy(old, "one", 0.3)
    buy(old, "two")
    assert old.is_news("two")
    new = restarted(old, wall=10 * DAY + 60.0)
    assert [new.spent(provider) for provider in ("one", "two", "three")] == [
        Spent(requests=2, usd=0.7),
        Spent(requests=1),
        Spent(),
    ]
    assert new.lack("one", ONE, priced=True) == "2 of 5 requests, 0.7000 of 1 USD, and one costs up to 0.4000"
    assert [new.is_news(provider) for provider in ("one", "two")] == [True, False]


def test_what_was_under_way_counts_with_what_was_set_aside_for_it() -> None:
    old = Budgets(wall=lambda: 10 * DAY)
    buy(old, "one", 0.4)
    for priced in (True, False):
        old.begin("one", priced=priced)
    assert restarted(old, wall=10 * DAY).spent("one") == Spent(requests=3, usd=0.8)


@pytest.mark.parametrize(
    ("later", "spent"),
    [
        (0.0, Spent(requests=1, usd=0.4)),
        (1.0, Spent()),
        (-1.0, Spent(requests=1, usd=0.4)),
        (-400.0, Spent(requests=1, usd=0.4)),
    ],
)
def test_of_another_day_nothing_is_taken_but_what_a_clock_that_was_set_back_had_spent(
    later: float, spent: Spent
) -> None:
    old = Budgets(wall=lambda: 1000 * DAY)
    buy(old, "one", 0.4)
    wall = (1000 + later) * DAY
    assert restarted(old, wall=wall).spent("one") == spent


def test_a_clock_that_was_years_ahead_stops_no_probe_for_years() -> None:
    old = Budgets(wall=lambda: 9000 * DAY)
    buy(old, "one", 1.0)
    wall = [1000 * DAY]
    new = Budgets(wall=lambda: wall[0])
    new.restore(kept(old.dump()))
    assert new.lack("one", ONE, priced=True) is not None
    wall[0] += DAY
    assert new.spent("one") == Spent()


def test_of_two_figures_the_larger_stands_however_often_it_is_told() -> None:
    budgets = Budgets(wall=lambda: 10 * DAY)
    buy(budgets, "one", 0.4)
    told = kept(budgets.dump())
    buy(budgets, "one", 0.1)
    for _ in range(2):
        budgets.restore(told)
    assert budgets.spent("one") == Spent(requests=2, usd=0.5)


def test_what_was_spent_yesterday_is_not_told() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    buy(budgets, "one", 0.4)
    wall[0] += DAY
    assert budgets.dump() == {"version": 1, "day": 11, "spent": {}}


GOOD = {"requests": 1, "usd": 0.5, "dearest": None, "told": False}


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (None, "budgets: Expected `object`, got `null`"),
        ({}, "budgets: Object missing required field `version`"),
        ({"version": 2, "day": 1, "spent": {}}, "budgets.version: 2 is not known here; use a dump of version 1"),
        ({"version": 1, "day": -1, "spent": {}}, "budgets.day: Expected `int` >= 0"),
        ({"version": 1, "day": 1, "spent": {"a": {**GOOD, "requests": -1}}}, "requests: Expected `int` >= 0"),
        ({"version": 1, "day": 1, "spent": {"a": {**GOOD, "usd": float("nan")}}}, "usd: Expected `float`"),
        ({"version": 1, "day": 1, "spent": {"a": {**GOOD, "usd": 1e13}}}, "usd: Expected `float` <= "),
        ({"version": 1, "day": 1, "spent": {"a": {**GOOD, "more": 1}}}, "Object contains unknown field `more`"),
    ],
)
def test_what_no_dump_says_is_refused_with_its_place(state: Any, problem: str) -> None:
    with pytest.raises(ValueError) as refused:
        kept(state)
    assert problem in str(refused.value)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.floats(0, 5), st.booleans()), max_size=20),
    st.integers(0, 3),
)
def test_a_dump_that_is_restored_is_the_same_dump(told: list[tuple[str, float | None, bool]], days: int) -> None:
    old = Budgets(wall=lambda: (10 + days) * DAY)
    for provider, usd, news in told:
        buy(old, provider, usd)
        if news:
            old.is_news(provider)
    assert restarted(old, wall=(10 + days) * DAY).dump() == old.dump()
