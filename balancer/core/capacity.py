"""429 holds: for how long a provider asked to be left alone.

Theory of operation: a 429 is quota, not illness. It sets a hold until the moment that the provider named, or,
where it named none, for a time that doubles while 429s go on. The exponent is this module's own: it never
feeds ejections. Deadlines only move later. A burst of requests that were already under way when the first 429
came grows the hold once, not once each: only a request that began after the last growth may double it.

What this module does not know: the rate at which 429s begin, and which endpoints share a quota.
"""

from __future__ import annotations

from random import Random
from typing import Final

HOLD_FIRST: Final = 5.0  # s; doubles to 300 s in six steps
HOLD_MIN: Final = 1.0  # s; "Retry-After: 0" is not an invitation to spin


class Throttle:
    """One endpoint's hold. `until` is a monotonic moment; before the first 429 it lies in the past."""

    __slots__ = ("_grown", "exponent", "until")

    def __init__(self) -> None:
        self.until = float("-inf")
        self.exponent = 0
        self._grown = float("-inf")

    def holds(self, now: float) -> bool:
        """Whether the endpoint is to be left alone at `now`."""
        return now < self.until

    def limit(self, *, hint: float | None, began: float, ended: float, hold_max: float, random: Random) -> None:
        """Take a 429 (or an overload that named a time) that `began` and `ended` then."""
        if hint is not None:
            hold = min(max(hint, HOLD_MIN), hold_max)
        else:
            if began >= self._grown:
                self.exponent += 1
                self._grown = ended
            doublings = min(max(self.exponent, 1), 16) - 1  # a straggler may come after `ease`: a first 429 again
            hold = min(HOLD_FIRST * 2**doublings, hold_max)
            hold = hold / 2 + random.random() * hold / 2  # equal jitter: holds of many askers do not end at once
        self.until = max(self.until, ended + hold)

    def ease(self, *, began: float) -> None:
        """Take a success: one that began after the last growth shows that the quota is back."""
        if began >= self._grown:
            self.exponent = 0
