"""How long our own event loop stood still, so that nobody else is blamed for it.

Theory of operation: whoever sleeps in the loop and is woken late has seen how long it stood still, or how long the
machine was suspended. The longest of these pauses while a probe ran is that probe's: what went before says nothing
of what is measured now, and many short ones leave an answer time to be read between them.

What this module does not know: what a probe is, and any clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WOKEN_LATE: Final = 0.05  # s; a busy loop is late by that
WOKEN_LATE_SHARE: Final = 0.1  # of a long timeout, which is no exact figure either
KEPT: Final = 300.0  # s; no probe lasts longer


class Lag:
    """The pauses of the last minutes, each with when it ended. Units: seconds."""

    def __init__(self) -> None:
        self._pauses: deque[tuple[float, float]] = deque()

    def woken(self, late: float, *, now: float) -> None:
        """Note that somebody was woken so many seconds after the time that he had asked for."""
        while self._pauses and now - self._pauses[0][0] > KEPT:
            self._pauses.popleft()
        if late > WOKEN_LATE:
            self._pauses.append((now, late))

    def longest(self, since: float) -> float:
        """The longest that ended after that."""
        return max([late for ended, late in self._pauses if ended > since], default=0.0)


def ours(late: float, timeout: float) -> bool:
    """Whether a probe for which we were so late says more of us than of the provider, if it timed out."""
    return late > max(WOKEN_LATE, WOKEN_LATE_SHARE * timeout)
