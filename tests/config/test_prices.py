"""Prices of an endpoint, and those that hold under conditions."""

from __future__ import annotations

import pytest

from balancer.config import ConfigError, parse_config
from balancer.core.model import PriceOverride, Pricing


def priced(pricing: str) -> Pricing:
    text = f"""
providers: {{a: {{base_url: "https://a.example"}}}}
models: {{x/y: {{endpoints: [{{provider: a, model: m, pricing: {pricing}}}]}}}}
"""
    return parse_config(text, source="t.yaml").endpoints["x/y@a"].pricing


def override(text: str) -> PriceOverride:
    (one,) = priced(f"{{prompt: 2, overrides: [{text}]}}").overrides
    return one


def test_without_overrides_there_are_none() -> None:
    assert priced("{prompt: 2}") == Pricing(prompt=2.0)
    assert priced("{overrides: []}") == priced("") == Pricing()


def test_a_long_prompt_may_cost_more() -> None:
    assert override("{min_prompt_tokens: 200000, prompt: 6, completion: 22.5}") == PriceOverride(
        min_prompt_tokens=200_000, prompt=6.0, completion=22.5
    )


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        ('"0830"', '"1230"', (510, 750)),
        ("08:30", "12:30", (510, 750)),
        ('"1630"', "00:30", (990, 30)),
        ('"0000"', '"2359"', (0, 1439)),
        ('"0900"', '"0900"', (540, 540)),
    ],
)
def test_a_time_of_the_day_is_minutes_since_midnight_and_may_end_after_it(
    start: str, end: str, minutes: tuple[int, int]
) -> None:
    one = override(f"{{utc_start: {start}, utc_end: {end}, prompt: 1}}")
    assert (one.start, one.end) == minutes


@pytest.mark.parametrize("text", ['"2400"', '"0860"', '"830"', '"8:30"', '"08:30:00"', '"0830Z"', '"+830"', "x"])
def test_what_is_no_time_of_the_day_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'is not a time of the day; use HHMM in UTC, e\.g\. "0830"'):
        override(f"{{utc_start: {text}, utc_end: '0900', prompt: 1}}")


def test_a_time_that_yaml_reads_as_a_number_is_asked_to_be_quoted() -> None:
    with pytest.raises(ConfigError, match='0830 is a number; use quotes: "0830"'):
        override("{utc_start: 0830, utc_end: '0900', prompt: 1}")


def test_days_are_counted_from_monday() -> None:
    assert override("{utc_days: [sun, mon, sat, mon], prompt: 0}").days == {0, 5, 6}


def test_overrides_keep_their_order_and_a_price_of_zero() -> None:
    overrides = priced(
        "{overrides: [{min_prompt_tokens: 1, prompt: 0}, {min_prompt_tokens: 2, input_cache_read: 0.5}]}"
    ).overrides
    assert overrides == (
        PriceOverride(min_prompt_tokens=1, prompt=0.0),
        PriceOverride(min_prompt_tokens=2, input_cache_read=0.5),
    )


def test_fifty_overrides_are_enough() -> None:
    one = "{min_prompt_tokens: 1, prompt: 1}"
    assert len(priced(f"{{overrides: [{', '.join([one] * 50)}]}}").overrides) == 50
    with pytest.raises(ConfigError, match="51 in the list; use 50 or fewer"):
        priced(f"{{overrides: [{', '.join([one] * 51)}]}}")


def test_a_broken_override_does_not_shift_the_places_of_those_behind_it() -> None:
    with pytest.raises(ConfigError) as caught:
        priced("{overrides: [5, {prompt: 1}, {utc_days: [monday], prompt: 1}, {min_prompt_tokens: 5}]}")
    assert [problem.path.partition(".overrides")[2] for problem in caught.value.problems] == [
        "[0]", "[2].utc_days[0]", "[1]", "[3]",
    ]  # fmt: skip
