"""Paid probes are counted by provider and UTC day."""

from __future__ import annotations

import pytest

from balancer.config.settings import Budget
from balancer.probing.budget import DAY, Budgets, Spent

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
