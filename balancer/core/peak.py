"""How long a call is feared to take: an average that a peak moves at once.

What this module does not know: quantiles (`latency`), and whether the endpoint is well.
"""

from __future__ import annotations

from math import exp
from typing import Final

PEAK_DECAY: Final = 120.0
"""Time constant of the peaks. Source: Finagle's 10 s forgets between two LLM requests and is then nearly random;
with two minutes an endpoint that was ten times slower than its peers is tried again after five."""


class PeakEwma:
    """An average that jumps to a peak at once and comes down slowly; with no news it sinks towards 0.

    Units: seconds. Shape: sinking is what lets an endpoint that was slow be tried again.
    Source: Finagle's `PeakEwma`.
    """

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._at = 0.0

    def record(self, ended: float, value: float) -> None:
        """Take one value. A late one counts as what would be left of it by now."""
        before = self._value
        if before is None:
            self._value, self._at = value, ended
            return
        passed = ended - self._at
        if passed < 0:
            self._value = max(before, value * exp(passed / PEAK_DECAY))
            return
        keep = exp(-passed / PEAK_DECAY)
        self._value = max(value, before * keep + value * (1.0 - keep))
        self._at = ended

    def value(self, now: float) -> float | None:
        """What a call is feared to take; `None` when nothing was ever seen."""
        if self._value is None:
            return None
        return self._value * exp(min(0.0, self._at - now) / PEAK_DECAY)
