"""The two clocks, named apart.

`monotonic` measures and schedules: seconds since some moment, never backwards, and the `now` of the core. It goes
on while the machine is suspended, where the system has such a clock: holds and evidence grow old in a lid that is
closed. The event loop's own clock stands still then, so a moment of the one is never compared with a moment of the
other; what both agree on is how long a second is, and a loop's timer may be late by a whole night.
`wall` is Unix seconds for people and for HTTP dates; it may jump, so nothing is ever measured with it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

# Linux has it since 2.6.39, macOS and the BSDs under no name that Python knows.
_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Seconds of a clock that never runs backwards, and on Linux counts those of a suspended machine too."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def boot() -> str | None:
    """What the system calls its last start, from which `monotonic` counts on Linux; `None` where nobody says."""
    if _BOOTTIME is None:
        return None
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def wall() -> float:
    """Unix seconds."""
    return time.time()


def awake_usec() -> int:
    """Microseconds of CLOCK_MONOTONIC, which stands still while the machine is suspended: the clock of systemd."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
