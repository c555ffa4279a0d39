from __future__ import annotations

from math import floor, inf, isclose

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from balancer.core.model import PriceOverride, Pricing
from balancer.core.pricing import (
    HITS_PRIOR,
    HITS_SPAN,
    CacheHits,
    Prices,
    charged,
    effective,
    next_change,
    prices_at,
    relative_prices,
    thresholds,
)
from balancer.core.window import BUCKETS

DAY = 86_400.0
MONDAY = 1_767_571_200.0  # 2026-01-05 00:00 UTC
WEEK = 7 * DAY


def at(day: int, hour: int, minute: int = 0, second: float = 0.0) -> float:
    """A moment of the week that begins on Monday 2026-01-05; 0 is Monday."""
    return MONDAY + day * DAY + hour * 3600 + minute * 60 + second


def priced(*overrides: PriceOverride) -> Pricing:
    """One of $2 a prompt, $8 an answer and $0.50 from the cache."""
    return Pricing(prompt=2.0, completion=8.0, input_cache_read=0.5, overrides=overrides)


NIGHT = PriceOverride(start=22 * 60, end=6 * 60, prompt=1.0)
NOON = PriceOverride(start=12 * 60, end=13 * 60, prompt=3.0)
WEEKEND = PriceOverride(days=frozenset({5, 6}), completion=4.0)


# ---- the list price ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "wall", "holds"),
    [
        (NOON, at(0, 11, 59, 59.999), False),
        (NOON, at(0, 12), True),
        (NOON, at(0, 12, 59, 59.999), True),
        (NOON, at(0, 13), False),
        (NIGHT, at(2, 21, 59, 59.0), False),
        (NIGHT, at(2, 22), True),
        (NIGHT, at(2, 23, 59, 59.9), True),
        (NIGHT, at(3, 0), True),
        (NIGHT, at(3, 5, 59), True),
        (NIGHT, at(3, 6), False),
        (PriceOverride(start=600, end=600, prompt=1.0), at(0, 3), True),
        (PriceOverride(start=0, end=1440, prompt=1.0), at(0, 23, 59), True),
        (PriceOverride(start=1320, end=360, days=frozenset({4}), prompt=1.0), at(4, 23), True),
        (PriceOverride(start=1320, end=360, days=frozenset({4}), prompt=1.0), at(5, 1), False),
        (PriceOverride(start=1320, end=360, days=frozenset({4}), prompt=1.0), at(4, 1), True),
        (PriceOverride(days=frozenset({3}), prompt=1.0), 0.0, True),
        (PriceOverride(days=frozenset({2}), prompt=1.0), -1.0, True),
        (PriceOverride(days=frozenset({6}), prompt=1.0), at(6, 23, 59, 59.999), True),
        (PriceOverride(days=frozenset({6}), prompt=1.0), at(7, 0), False),
        (NOON, None, False),
        (PriceOverride(days=frozenset(range(7)), prompt=1.0), None, False),
    ],
    ids=[
        "just before it begins", "as it begins", "just before it ends", "as it ends", "before the night",
        "as the night begins", "before midnight", "at midnight", "in the small hours", "as the night ends",
        "start is end: all day", "to the end of the day", "Friday night", "Saturday morning is not Friday's night",
        "Friday's small hours are Friday", "1970-01-01 was a Thursday", "and the day before a Wednesday",
        "to Sunday's end", "Monday is not Sunday", "no clock, no hours", "no clock, no days",
    ],
)  # fmt: skip
def test_an_override_holds_at_its_hours_and_days_of_the_utc_moment(
    override: PriceOverride, wall: float | None, holds: bool
) -> None:
    assert (prices_at(priced(override), prompt_tokens=None, wall=wall).prompt == override.prompt) == holds


@pytest.mark.parametrize(("prompt_tokens", "price"), [(0, 2.0), (200_000, 2.0), (200_001, 4.0), (None, 2.0)])
def test_a_prompt_must_be_strictly_longer_than_the_threshold(prompt_tokens: int | None, price: float) -> None:
    pricing = priced(PriceOverride(min_prompt_tokens=200_000, prompt=4.0))
    assert prices_at(pricing, prompt_tokens=prompt_tokens, wall=None).prompt == price


def test_a_later_override_wins_price_by_price() -> None:
    pricing = priced(
        PriceOverride(min_prompt_tokens=10, prompt=4.0, completion=16.0),
        PriceOverride(min_prompt_tokens=5, prompt=3.0, input_cache_read=0.0),
    )
    assert prices_at(pricing, prompt_tokens=11, wall=None) == Prices(3.0, 16.0, 0.0)
    assert prices_at(pricing, prompt_tokens=7, wall=None) == Prices(3.0, 8.0, 0.0)
    assert prices_at(pricing, prompt_tokens=5, wall=None) == Prices(2.0, 8.0, 0.5)


def test_all_conditions_that_are_given_must_hold() -> None:
    pricing = priced(PriceOverride(min_prompt_tokens=10, start=0, end=60, days=frozenset({0}), prompt=9.0))
    assert prices_at(pricing, prompt_tokens=11, wall=at(0, 0, 30)).prompt == 9.0
    assert prices_at(pricing, prompt_tokens=10, wall=at(0, 0, 30)).prompt == 2.0
    assert prices_at(pricing, prompt_tokens=11, wall=at(0, 1, 30)).prompt == 2.0
    assert prices_at(pricing, prompt_tokens=11, wall=at(1, 0, 30)).prompt == 2.0


def test_an_override_may_tell_a_price_that_was_unknown_and_a_price_may_be_zero() -> None:
    pricing = Pricing(overrides=(PriceOverride(min_prompt_tokens=0, prompt=0.0),))
    assert prices_at(pricing, prompt_tokens=1, wall=None) == Prices(0.0, None, None)
    assert prices_at(Pricing(), prompt_tokens=1, wall=None) == Prices(None, None, None)


def test_thresholds_are_each_length_once_ascending() -> None:
    lengths = (200, 100, None, 200)
    assert thresholds(priced(*[PriceOverride(min_prompt_tokens=each) for each in lengths])) == (100, 200)
    assert thresholds(priced()) == ()


@pytest.mark.parametrize(
    ("overrides", "wall", "change"),
    [
        ((), at(0, 0), inf),
        ((PriceOverride(min_prompt_tokens=10, prompt=1.0),), at(0, 0), inf),
        ((NOON,), at(0, 0), at(0, 12)),
        ((NOON,), at(0, 12), at(0, 13)),
        ((NOON,), at(0, 13), at(1, 12)),
        ((NIGHT,), at(0, 23), at(1, 6)),
        ((NIGHT, NOON), at(0, 6), at(0, 12)),
        ((WEEKEND,), at(0, 6), at(5, 0)),
        ((WEEKEND,), at(5, 6), at(7, 0)),
        ((PriceOverride(days=frozenset(range(7)), prompt=1.0),), at(0, 0), inf),
        ((PriceOverride(start=600, end=600, prompt=1.0),), at(0, 0), inf),
        ((PriceOverride(start=600, end=660, days=frozenset({0}), prompt=1.0),), at(0, 11), at(7, 10)),
        ((PriceOverride(start=1320, end=360, days=frozenset({4}), prompt=1.0),), at(4, 6), at(4, 22)),
        ((PriceOverride(start=1320, end=360, days=frozenset({4}), prompt=1.0),), at(4, 22), at(5, 0)),
    ],
    ids=[
        "no override", "only lengths", "begins", "ends", "tomorrow", "over midnight", "the first of two",
        "the weekend begins", "the weekend ends", "every day is no change", "all day is no change",
        "in a week", "the night of one day begins", "and ends at midnight",
    ],
)  # fmt: skip
def test_the_next_change_is_when_an_override_begins_or_ends(
    overrides: tuple[PriceOverride, ...], wall: float, change: float
) -> None:
    assert next_change(priced(*overrides), wall) == change


clocks = st.one_of(st.none(), st.integers(0, 1440))
timed = st.builds(
    PriceOverride,
    start=clocks,
    end=clocks,
    days=st.one_of(st.none(), st.frozensets(st.integers(0, 6), min_size=1)),
    prompt=st.just(1.0),
)


@given(timed, st.integers(-20_000, 20_000), st.integers(0, 60))
def test_prices_stand_still_until_the_next_change_and_change_then(
    override: PriceOverride, minute: int, second: int
) -> None:
    wall = MONDAY + minute * 60.0 + second
    pricing = priced(override)
    before = prices_at(pricing, prompt_tokens=None, wall=wall)
    change = next_change(pricing, wall)
    assert change > wall
    for step in range(1, 8 * 24 * 4):
        moment = wall + step * 900.0
        if moment < change:
            assert prices_at(pricing, prompt_tokens=None, wall=moment) == before
    if change < inf:
        assert prices_at(pricing, prompt_tokens=None, wall=change - 0.001) == before
        assert prices_at(pricing, prompt_tokens=None, wall=change) != before


# ---- cache hits --------------------------------------------------------------------------------------

moments = st.one_of(
    st.floats(-HITS_SPAN, 4 * HITS_SPAN, allow_nan=False),
    st.integers(-BUCKETS, 4 * BUCKETS).map(lambda minute: minute * 60.0),
)


@given(st.lists(st.tuples(moments, st.integers(-5, 10**9), st.integers(-5, 10**10)), max_size=40), moments)
def test_the_rate_equals_a_recount_shrunk_by_the_prior(story: list[tuple[float, int, int]], now: float) -> None:
    hits = CacheHits()
    for ended, sent, cached in story:
        hits.record(ended, prompt_tokens=sent, cached_tokens=cached)
    counted = [each for each in story if each[1] > 0]
    clock = max([now, *(ended for ended, _, _ in counted)])
    live = [
        (sent, min(max(cached, 0), sent))
        for ended, sent, cached in counted
        if floor(clock / 60.0) - floor(ended / 60.0) < BUCKETS
    ]
    sent, cached = sum(each[0] for each in live), sum(each[1] for each in live)
    expected = cached / sent * len(live) / (len(live) + HITS_PRIOR) if sent else 0.0
    assert isclose(hits.rate(now), expected, abs_tol=1e-12)
    assert 0.0 <= hits.rate(now) < 1.0


def test_one_request_proves_nothing_and_a_hundred_nearly_all() -> None:
    hits = CacheHits()
    assert hits.rate(0.0) == 0.0
    hits.record(0.0, prompt_tokens=200_000, cached_tokens=200_000)
    assert hits.rate(0.0) == pytest.approx(1 / 6)
    for _ in range(99):
        hits.record(0.0, prompt_tokens=1000, cached_tokens=1000)
    assert hits.rate(0.0) == pytest.approx(100 / 105)


def test_the_rate_tells_until_when_it_stands() -> None:
    hits = CacheHits()
    assert hits.changes_at(0.0) == inf
    hits.record(90.0, prompt_tokens=10, cached_tokens=10)
    assert hits.changes_at(95.0) == 120.0
    assert hits.changes_at(0.0) == 120.0
    assert (hits.rate(60.0 + HITS_SPAN - 0.1) > 0.0, hits.rate(60.0 + HITS_SPAN)) == (True, 0.0)
    assert hits.changes_at(60.0 + HITS_SPAN) == inf


@pytest.mark.parametrize(
    ("prices", "hits", "expected"),
    [
        (Prices(2.0, 8.0, 0.5), 0.0, (2e-6, 8e-6)),
        (Prices(2.0, 8.0, 0.5), 1.0, (0.5e-6, 8e-6)),
        (Prices(2.0, 8.0, 0.5), 0.5, (1.25e-6, 8e-6)),
        (Prices(2.0, 8.0, None), 0.5, (2e-6, 8e-6)),
        (Prices(2.0, 8.0, 0.0), 0.5, (1e-6, 8e-6)),
        (Prices(0.0, 0.0, None), 0.5, (0.0, 0.0)),
        (Prices(None, 8.0, 0.5), 0.5, None),
        (Prices(2.0, None, 0.5), 0.5, None),
    ],
)
def test_what_a_token_costs_mixes_the_cache_price_by_the_hits(
    prices: Prices, hits: float, expected: tuple[float, float] | None
) -> None:
    found = effective(prices, hits)
    assert found == (None if expected is None else pytest.approx(expected))


# ---- side by side ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "prices", "unit"),
    [
        ([], [], 1.0),
        ([2.0, 3.0, 2.0], [1.0, 1.5, 1.0], 2.0),
        ([0.0, 2.0, 4.0], [1.0, 10.0, 20.0], 0.2),
        ([0.0, 0.0], [1.0, 1.0], 1.0),
    ],
    ids=["nobody", "all paid", "free counts as a tenth of the cheapest", "all free"],
)
def test_prices_are_multiples_of_the_cheapest(costs: list[float], prices: list[float], unit: float) -> None:
    found, unit_found = relative_prices(costs)
    assert found == pytest.approx(prices)
    assert unit_found == pytest.approx(unit)


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e6)), min_size=1, max_size=20))
def test_relative_prices_keep_the_order_and_begin_at_one(costs: list[float]) -> None:
    assume(any(costs))
    prices, unit = relative_prices(costs)
    assert unit > 0
    assert min(prices) == pytest.approx(1.0)
    order = sorted(range(len(costs)), key=lambda place: costs[place])
    assert [prices[place] for place in order] == sorted(prices)


@pytest.mark.parametrize(
    ("pricing", "tokens", "usd"),
    [
        (priced(), (1_000_000, 500_000, None), 6.0),
        (priced(), (1_000_000, 500_000, 400_000), 5.4),
        (priced(), (1_000_000, 0, 9_000_000), 0.5),  # no more can be cached than was sent
        (priced(NOON), (1_000_000, 0, None), 3.0),
        (priced(PriceOverride(min_prompt_tokens=200_000, completion=16.0)), (1_000_000, 500_000, None), 10.0),
        (Pricing(prompt=2.0, completion=8.0), (1_000_000, 500_000, 400_000), 6.0),
        (Pricing(prompt=0.0, completion=0.0), (7, 7, 7), 0.0),
        (Pricing(prompt=2.0), (1_000_000, 500_000, None), None),
        (priced(), (None, 500_000, None), None),
        (priced(), (1_000_000, None, None), None),
    ],
)
def test_a_call_costs_what_the_list_says_of_its_tokens_and_its_hour(
    pricing: Pricing, tokens: tuple[int | None, int | None, int | None], usd: float | None
) -> None:
    prompt, completion, cached = tokens
    found = charged(
        pricing, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, wall=at(0, 12)
    )
    assert found == (None if usd is None else pytest.approx(usd))
