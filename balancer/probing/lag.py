"""How long our own event loop stood still, so that nobody else is blamed for it.

Theory of operation: whoever sleeps in the loop and is woken late has seen how long it stood still, or how long the
machine was suspended. All of that is added up, and what was added while a probe ran is that probe's: what went
before says nothing of what is measured now. A busy loop wakes everybody a little late; that is left out of the sum,
or it would soon be as long as any timeout.

What this module does not know: what a probe is, and any clock.
"""

from __future__ import annotations

from typing import Final

WOKEN_LATE: Final = 0.05  # s; a busy loop is late by that
WOKEN_LATE_SHARE: Final = 0.1  # of a long timeout, which is no exact figure either


class Lag:
    """The seconds that the loop stood still, in `total`."""

    def __init__(self) -> None:
        self.total = 0.0

    def woken(self, late: float) -> None:
        """Note that somebody was woken so many seconds after the time that he had asked for."""
        if late > WOKEN_LATE:
            self.total += late


def ours(late: float, timeout: float) -> bool:
    """Whether a probe for which we were so late in all says more of us than of the provider, if it timed out."""
    return late > max(WOKEN_LATE, WOKEN_LATE_SHARE * timeout)
