"""The daemon's pulse: what only time brings, whether the event loop runs, and whether the probes are on time.

Theory of operation: the ticker wakes twice a second. By how much it is late is the loop's lag; a wake that is very
late is a stall, in which probes measured us and not the providers, and the table is told before anything that was
learned meanwhile is counted. The ticker also says what time it is, again and again: a stepped clock and a suspended
machine part the two clocks, and prices have hours.

`unwell` is the truth behind `/-/healthy` and the watchdog: the ticker and both probe schedules must have run when
they should have. It is asked from the loop itself, so a loop that stands still answers nobody, and what is found
here is the other kind of death: a task of ours that waits for something that never comes.

What this module does not know: what becomes of a daemon that is unwell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from balancer.core.balancer import Balancer
from balancer.service import clock
from balancer.service.log import Log

TICK: Final = 0.5  # s; how often loop lag, doubts and the wall clock are looked at
# s that the loop may be late. A batch of reports or a collection of garbage takes tenths of one; a second more or
# less decides no probe of the usual ten, but it does decide a connect of two.
STALL: Final = 1.0
# s by which a task of ours may be late and still be called alive: beyond any stall that a machine recovers from by
# itself, and the loop has run in between, or nobody would have asked.
OVERDUE_MAX: Final = 10.0


class Pulse:
    """Ticks until cancelled. `overdue` tells by how much each schedule is behind, by its name, in seconds.

    `lagged` is told the loop's lag at every tick, `stretch` tells how much rarer all probes are, and `ticked` is
    called at each tick, when time may have changed the table.
    """

    def __init__(
        self,
        balancer: Balancer,
        *,
        overdue: Mapping[str, Callable[[float], float]],
        stretch: Callable[[], float],
        lagged: Callable[[float], None],
        ticked: Callable[[], None],
        log: Log,
    ) -> None:
        self._balancer = balancer
        self._overdue = overdue
        self._stretch = stretch
        self._lagged = lagged
        self._ticked = ticked
        self._log = log
        self._due = inf  # when the ticker should wake
        self._lag = 0.0
        self.stalled = -inf  # when the last stall was over
        self._tell_time()

    async def run(self) -> None:
        """Tick until cancelled."""
        stretch = 1.0
        while True:
            due = self._due = clock.monotonic() + TICK
            await asyncio.sleep(TICK)
            now = clock.monotonic()
            self._lag = max(0.0, now - due)
            self._lagged(self._lag)
            stretch = self._tell_stretch(stretch)
            self._tell_time()
            self.notice_stall(now)
            self._balancer.settle(now=now)
            self._ticked()

    def lag(self, now: float) -> float:
        """By how many seconds the ticker was late when it last ran, or is late by now."""
        return max(self._lag, now - self._due)

    def unwell(self, now: float) -> list[str]:
        """What has not run when it should have, each in words; nothing when all is well."""
        late = {"the event loop": now - self._due, **{name: late(now) for name, late in self._overdue.items()}}
        return [
            f"{name} has not run for {seconds:.0f} s" for name, seconds in late.items() if seconds > OVERDUE_MAX
        ]

    def notice_stall(self, now: float) -> None:
        """Tell the table of a stall that is just over; whoever wakes first says so, and once."""
        if now - self._due > STALL:
            self._balancer.stalled(since=self._due - TICK, now=now)
            self.stalled = now
            self._due = now

    def _tell_time(self) -> None:
        self._balancer.set_wall(clock.wall(), now=clock.monotonic())

    def _tell_stretch(self, before: float) -> float:
        """Tell that probes are fewer because we are overloaded, and when that is over."""
        stretch = self._stretch()
        if stretch > before:
            self._log.warning("probe.stretched", ratio=round(stretch, 2))
        elif stretch == 1.0 < before:
            self._log.info("probe.unstretched")
        return stretch
