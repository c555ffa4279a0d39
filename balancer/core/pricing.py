"""What a request costs at an endpoint: the list price in force, what cache hits make of it, prices side by side.

Theory of operation: a price is a pure function of the configured `Pricing`, the prompt's length and the wall
moment. Overrides are judged in their order, and a later one that matches wins, price by price. It changes only
above some prompt lengths (`thresholds`) and at some moments (`next_change`), so that a caller may work prices out
once for each span between them. What a prompt token costs in truth lies between its price and the price of reading
it from the provider's cache; `CacheHits` counts what the reports say of that.

UTC has no leap seconds here, as in every Unix time: a day is 86,400 s, and 1970-01-01 was a Thursday.

What this module does not know: monotonic time beside wall time (each function takes the one it needs), and which
requests will hit a cache: it knows only the share of the last half hour's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf
from typing import Final, NamedTuple

from balancer.core.model import PriceOverride, Pricing
from balancer.core.request import TOKENS_MAX
from balancer.core.window import Column, Ring

# What a request costs when it does not say how long it is: the means of the Azure 2023 conversation trace.
PROMPT_TOKENS: Final = 1155
COMPLETION_TOKENS: Final = 211

RELATIVE_PRICE_MAX: Final = 1e6  # beyond it a weight says "never" anyway, and its square must not overflow

HITS_SPAN: Final = 1800.0  # s; OpenRouter's effective price looks back 30 minutes
HITS_PRIOR: Final = 5  # requests without a hit that the rate begins with: one full hit is told as 17 %, 45 as 90 %

_DAY: Final = 86_400
_WEEK: Final = 7
_MINUTES: Final = 1440  # of a day
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday; 0 is Monday

_SENT: Final[Column] = 0
_CACHED: Final[Column] = 1
_REQUESTS: Final[Column] = 2


class Prices(NamedTuple):
    """Prices in force. Units: USD per million tokens; `None` is unknown, 0 is free."""

    prompt: float | None
    completion: float | None
    cache_read: float | None


def prices_at(pricing: Pricing, *, prompt_tokens: int | None, wall: float | None) -> Prices:
    """The list prices of a prompt of that length at that moment.

    Units: `wall` is Unix seconds. Shape: `None` is unknown, and a condition on what is unknown does not match.
    """
    prompt, completion, cache_read = pricing.prompt, pricing.completion, pricing.input_cache_read
    for override in pricing.overrides:
        if _long_enough(override, prompt_tokens) and _in_time(override, wall):
            prompt = prompt if override.prompt is None else override.prompt
            completion = completion if override.completion is None else override.completion
            cache_read = cache_read if override.input_cache_read is None else override.input_cache_read
    return Prices(prompt, completion, cache_read)


def thresholds(pricing: Pricing) -> tuple[int, ...]:
    """The prompt lengths above which (strictly) other prices may hold, ascending."""
    lengths = {each.min_prompt_tokens for each in pricing.overrides if each.min_prompt_tokens is not None}
    return tuple(sorted(lengths))


def next_change(pricing: Pricing, wall: float) -> float:
    """The first moment after `wall` at which a time-of-day override begins or ends; `inf` where none ever does.

    Units: Unix seconds.
    """
    return min([_turns(override, wall) for override in pricing.overrides], default=inf)


def _timed(override: PriceOverride) -> bool:
    return override.start is not None or override.end is not None or override.days is not None


def _long_enough(override: PriceOverride, prompt_tokens: int | None) -> bool:
    if override.min_prompt_tokens is None:
        return True
    return prompt_tokens is not None and prompt_tokens > override.min_prompt_tokens


def _in_time(override: PriceOverride, wall: float | None) -> bool:
    if not _timed(override):
        return True
    if wall is None:
        return False
    day = floor(wall / _DAY)
    if override.days is not None and (day + _EPOCH_WEEKDAY) % _WEEK not in override.days:
        return False
    minute = floor((wall - day * _DAY) / 60)
    start, end = _hours(override)
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


def _hours(override: PriceOverride) -> tuple[int, int]:
    start = 0 if override.start is None else override.start
    return start, _MINUTES if override.end is None else override.end


def _turns(override: PriceOverride, wall: float) -> float:
    if not _timed(override):
        return inf
    before = _in_time(override, wall)
    # Whether it holds can change only at these minutes, and repeats after a week.
    minutes = sorted({0, *_hours(override)})
    today = floor(wall / _DAY)
    for day in range(today, today + _WEEK + 1):
        for minute in minutes:
            moment = float(day * _DAY + minute * 60)
            if moment > wall and _in_time(override, moment) != before:
                return moment
    return inf


class CacheHits:
    """The share of one endpoint's prompt tokens that its provider had cached, over half an hour.

    `seen`: whether there ever was a hit.
    """

    __slots__ = ("_ring", "seen")

    def __init__(self) -> None:
        self._ring = Ring(HITS_SPAN, wide=True)
        self.seen = False

    def record(self, ended: float, *, prompt_tokens: int, cached_tokens: int) -> None:
        """Take one request that told both numbers. More cached tokens than sent ones are as many."""
        sent = min(prompt_tokens, TOKENS_MAX)
        if sent <= 0:
            return
        self._ring.record(ended, _REQUESTS)
        self._ring.record(ended, _SENT, sent)
        if cached_tokens > 0:
            self.seen = True
            self._ring.record(ended, _CACHED, min(cached_tokens, sent))

    def rate(self, now: float) -> float:
        """The expected share, 0..1, shrunk towards 0 by `HITS_PRIOR` requests: one request proves nothing."""
        sent, cached, requests = self._ring.counts(now)
        return cached / sent * requests / (requests + HITS_PRIOR) if cached else 0.0

    def changes_at(self, now: float) -> float:
        """Until when `rate` stays as it is, if nothing comes: the border of a minute, or `inf` when empty."""
        return self._ring.changes_at(now)


def effective(prices: Prices, hits: float) -> tuple[float, float] | None:
    """What one prompt token and one completion token are expected to cost, where that share of prompts is cached.

    Units: USD per token, not per million. Shape: `None` when either price is unknown. A provider without a price
    for cached tokens charges them as any other.
    """
    prompt, completion, cache_read = prices
    if prompt is None or completion is None:
        return None
    if cache_read is not None:
        prompt = cache_read * hits + prompt * (1.0 - hits)
    return prompt / 1e6, completion / 1e6


def charged(
    pricing: Pricing,
    *,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached_tokens: int | None,
    wall: float,
) -> float | None:
    """What a call cost by the list prices, for so many tokens at that Unix time. Units: USD.

    Shape: `None` where a price or a number of tokens is unknown; unknown cached tokens are none.
    """
    prices = prices_at(pricing, prompt_tokens=prompt_tokens, wall=wall)
    if prompt_tokens is None or completion_tokens is None or prices.prompt is None or prices.completion is None:
        return None
    cached = 0 if cached_tokens is None or prices.cache_read is None else min(cached_tokens, prompt_tokens)
    cost = (prompt_tokens - cached) * prices.prompt + completion_tokens * prices.completion
    return (cost if prices.cache_read is None else cost + cached * prices.cache_read) / 1e6


def relative_prices(costs: Sequence[float], unit: float | None = None) -> tuple[list[float], float]:
    """Prices in multiples of the cheapest, and that unit in USD; or of a `unit` that was found so among more.

    Shape: a free endpoint counts as a tenth of the cheapest paid one, or as 1 where all are free (the unit is
    then 1 USD).
    """
    if unit is None:
        unit = unit_of(costs)
    return [value / unit if value > 0 else 1.0 for value in costs], unit


def unit_of(costs: Sequence[float]) -> float:
    """What counts as 1: the cheapest, a tenth of the cheapest paid one where there are free ones, else 1 USD."""
    unit = min(costs, default=0.0)
    if unit > 0:
        return unit
    return min([value for value in costs if value > 0], default=10.0) / 10
