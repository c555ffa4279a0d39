"""Paid probes are counted by provider and UTC day."""

from __future__ import annotations

import pytest

from balancer.config.settings import Budget
from balancer.probing.budget import DAY, Budgets, Spent


def test_each_provider_has_a_day_of_its_own_and_the_next_one_begins_anew() -> None:
    wall = [10 * DAY]
    budgets = Budgets(wall=lambda: wall[0])
    budgets.spend("one", requests=1)
    budgets.spend("one", usd=0.25)
    budgets.spend("two", requests=2)
    assert budgets.spent("one") == Spent(requests=1, usd=0.25)
    assert budgets.spent("two") == Spent(requests=2)
    assert budgets.spent("three") == Spent()
    wall[0] += DAY
    assert budgets.spent("one") == Spent()
    budgets.spend("two", requests=1)
    assert budgets.spent("two") == Spent(requests=1)


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
