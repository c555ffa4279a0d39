"""The two clocks, named apart.

`monotonic` measures and schedules: seconds since some moment, never backwards, and the `now` of the core.
`wall` is Unix seconds for people and for HTTP dates; it may jump, so nothing is ever measured with it.
"""

from __future__ import annotations

import time


def monotonic() -> float:
    """Seconds of a clock that never runs backwards."""
    return time.monotonic()


def wall() -> float:
    """Unix seconds."""
    return time.time()
