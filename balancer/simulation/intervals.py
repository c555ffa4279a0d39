"""The mean of a few numbers, and how far it can be trusted.

Theory of operation: `interval` is Student's: mean ± t × standard error. `quantile` finds t by halving on the
distribution's own sum for whole degrees of freedom: no library is worth its weight for one number.

What this module does not know: what the numbers are, and whether they are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import atan, cos, inf, isfinite, pi, sin, sqrt
from statistics import fmean, stdev
from typing import Final, NamedTuple

CONFIDENCE: Final = 0.95  # what the field reports

_HALVINGS: Final = 200  # more than a float has bits, whatever it starts from


class Interval(NamedTuple):
    """A mean and where the true one lies at 95 %; the bounds are `None` for a single number."""

    mean: float
    low: float | None
    high: float | None


def interval(values: Sequence[float]) -> Interval | None:
    """The mean of the values with its bounds. Shape: `None` without values."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Interval(mean, None, None)
    half = quantile(len(values) - 1) * stdev(values, mean) / sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Student's t that lies outside ±t with a chance of 1 − confidence."""
    assert freedom >= 1, f"{freedom} degrees of freedom"
    assert 0 < confidence < 1, f"a confidence of {confidence}"
    low, high = 0.0, 1.0
    while within(high, freedom) < confidence:
        low, high = high, high * 2
        assert isfinite(high), "no float lies that far out"
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def within(t: float, freedom: int) -> float:
    """The chance that Student's t lies between −t and t.

    Source: Abramowitz and Stegun 26.7.3 and 26.7.4, exact for whole degrees of freedom.
    """
    assert 0 <= t < inf, f"t is {t}"
    angle = atan(t / sqrt(freedom))
    sine, cosine = sin(angle), cos(angle)
    odd = freedom % 2
    # One factor more a term: 1 + 1/2 cos² + 1·3/(2·4) cos⁴ …, or for odd ones cos + 2/3 cos³ + 2·4/(3·5) cos⁵ …
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for number in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * number / (number + 1)
    return 2 / pi * (angle + sine * total) if odd else sine * total
