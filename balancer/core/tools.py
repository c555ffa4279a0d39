"""The quality of tool calls, and who is far worse than the peers.

Theory of operation: a request that called tools was good when none of its calls was broken (no JSON, an unknown
name, arguments against the schema). Counts run over two hours, for few requests call tools. An endpoint is compared
with the others of its model, never with a number: what a model cannot do, no host can. The comparison is robust
(median and median absolute deviation), so that one awful host does not hide another.

What this module does not know: what a broken call is (the report says so), and who a peer is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from balancer.core.window import Column, Ring

# Source of the numbers down to PEERS_MIN: OpenRouter's Auto Exacto.
TOOLS_SPAN: Final = 7200.0  # s
TOOL_REQUESTS_MIN: Final = 200  # in the span; below it there is no verdict on tool calls
TOOL_SIGMAS: Final = 2.0  # below the median in the share of good tool requests
THROUGHPUT_SIGMAS: Final = 1.5  # below the median in tokens a second
PEERS_MIN: Final = 4  # known values, the endpoint's own among them; below it nobody is far from anybody

_MAD_SIGMA: Final = 1.4826  # a normal law's standard deviation in median absolute deviations
SIGMA_MIN: Final = 0.02
"""The least deviation believed, as a share of the median. Where most peers are alike the median absolute deviation
is 0, and a hair's breadth would count as far. It is two standard errors of a share of 98 % over 200 requests, and
the step from one bucket of a quantile to the next."""

_GOOD: Final[Column] = 0
_BROKEN: Final[Column] = 1


class ToolCalls:
    """One endpoint's requests that called tools."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring = Ring(TOOLS_SPAN)

    def record(self, ended: float, errors: int) -> None:
        """Take one request that called tools, `errors` of its calls broken."""
        self._ring.record(ended, _BROKEN if errors > 0 else _GOOD)

    def requests(self, now: float) -> int:
        """How many requests the rate stands on."""
        good, broken, _ = self._ring.counts(now)
        return good + broken

    def rate(self, now: float) -> float | None:
        """The share of requests with a broken call, 0..1; `None` where there were none.

        Source: OpenRouter's Tool Call Error Rate, which counts requests, not calls.
        """
        good, broken, _ = self._ring.counts(now)
        return broken / (good + broken) if good or broken else None


def deranked(values: Sequence[float | None], *, sigmas: float, low_is_bad: bool) -> list[bool]:
    """Who is more than `sigmas` robust standard deviations worse than the median of all.

    Shape: one answer for each value; `None` is unknown and never far. With fewer than `PEERS_MIN` known values
    nobody is.
    """
    known = [value for value in values if value is not None]
    if len(known) < PEERS_MIN:
        return [False] * len(values)
    middle = _median(known)
    sigma = max(_MAD_SIGMA * _median([abs(value - middle) for value in known]), SIGMA_MIN * abs(middle))
    low, high = (middle - sigmas * sigma, inf) if low_is_bad else (-inf, middle + sigmas * sigma)
    return [value is not None and not low <= value <= high for value in values]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
