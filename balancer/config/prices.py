"""What an endpoint charges: its prices, and those that hold for long prompts or at times of the day.

An override that can never be meant is a mistake: without a condition it would be the price itself, without a
price it says nothing, and half a span of time has no end.

What this module does not know: when an override holds (the core, with the request and the time of the day).
"""

from __future__ import annotations

from msgspec import UnsetType

from balancer.config.overlay import first
from balancer.config.problems import Path, one_of
from balancer.config.rules import Sheet
from balancer.config.shape import EndpointShape, OverrideShape, PricingShape
from balancer.config.units import WEEKDAYS, parse_clock
from balancer.core.model import PriceOverride, Pricing

_CONDITIONS = ("min_prompt_tokens", "utc_start", "utc_end", "utc_days")
_PRICES = ("prompt", "completion", "input_cache_read")


def pricing(sheet: Sheet, path: Path, endpoint: EndpointShape) -> Pricing:
    """Give an endpoint's prices, telling the overrides that cannot be meant; `path` is the endpoint's."""
    section = endpoint.pricing
    if not isinstance(section, PricingShape):
        return Pricing()
    within: Path = (*path, "pricing", "overrides")
    overrides = () if isinstance(section.overrides, UnsetType) else tuple(section.overrides)
    for index, shape in enumerate(overrides):
        place = (*within, sheet.checked.number(within, index))
        if not sheet.problems.touches(place):
            _judge(sheet, place, shape)
    return Pricing(
        prompt=first(section.prompt),
        completion=first(section.completion),
        input_cache_read=first(section.input_cache_read),
        overrides=tuple(map(_override, overrides)),
    )


def _judge(sheet: Sheet, path: Path, shape: OverrideShape) -> None:
    given = {key for key in (*_CONDITIONS, *_PRICES) if not isinstance(getattr(shape, key), UnsetType)}
    if given.isdisjoint(_CONDITIONS):
        found = "no condition, so that it would always hold"
        sheet.tell(path, found, "give min_prompt_tokens, utc_start and utc_end, or utc_days")
    if given.isdisjoint(_PRICES):
        sheet.tell(path, "no price", f"give one or more of {one_of(_PRICES)}")
    for key, other in (("utc_start", "utc_end"), ("utc_end", "utc_start")):
        if key in given and other not in given:
            sheet.tell((*path, key), f"{key} without {other}", f"give {other} too")


def _override(shape: OverrideShape) -> PriceOverride:
    start, end, days = first(shape.utc_start), first(shape.utc_end), first(shape.utc_days)
    return PriceOverride(
        min_prompt_tokens=first(shape.min_prompt_tokens),
        start=None if start is None else parse_clock(start),
        end=None if end is None else parse_clock(end),
        days=None if days is None else frozenset(map(WEEKDAYS.index, days)),
        prompt=first(shape.prompt),
        completion=first(shape.completion),
        input_cache_read=first(shape.input_cache_read),
    )
