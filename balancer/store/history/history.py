"""The past, as the daemon sees it: count here, tick now and then, ask, close.

Theory of operation: `outcome` and `transition` count in memory and return. Every `FLUSH` seconds `tick` lays what
was counted down for the thread that writes, if that has written the last batch; else counting goes on, within
bounds. A killed process loses what was counted since the last batch was written: `FLUSH` seconds of it, while the
disk is well. News of the disk are logged by `tick`, because the log belongs to the event loop.

Nothing is removed by age until the wall clock has gone along with the monotonic one for `TRUST_AFTER`: many
machines start with a wrong date, and by a date years ahead everything would be too old. `pruning` has its doubts
beyond that.

What this module does not know: SQL, and who asks.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from balancer.config import StoreSettings
from balancer.core.history import HistoryAbsent, HistoryQuery, Moment, Past
from balancer.core.model import Source, State, Transition
from balancer.core.outcome import Outcome
from balancer.service.log import Log
from balancer.store.history.gathering import MOMENTS_MAX, ROWS_MAX, Gathering
from balancer.store.history.keeper import Keeper, News
from balancer.store.history.pruning import Trusted
from balancer.store.history.reader import Reader
from balancer.store.history.schema import Connect

FLUSH: Final = 5.0  # s between two batches: what a killed process loses
STUCK: Final = 30.0  # s without an answer of the disk, after which that is told
HUNG: Final = f"the disk gave no answer within {STUCK:.0f} s"
TRUST_AFTER: Final = 600.0  # s of two clocks that agree; a clock is set within minutes of a start
STEP: Final = 60.0  # s by which the wall clock may part from the other; more is a clock that was set
STOP_MARGIN: Final = 0.5  # s that the thread may need beyond its patience, for one wait for a lock


class History:
    """Keeps the past in a directory. Everything but `close` and `read` returns at once, whatever the disk does.

    Units: seconds; `now` is monotonic, `wall` Unix time.
    """

    def __init__(
        self,
        directory: Path,
        settings: StoreSettings,
        *,
        log: Log,
        clock: Callable[[], float],
        wall: Callable[[], float],
        connect: Connect = sqlite3.connect,
        rows_max: int = ROWS_MAX,
        moments_max: int = MOMENTS_MAX,
    ) -> None:
        self._log = log
        self._clock = clock
        self._gathering = Gathering(rows_max=rows_max, moments_max=moments_max)
        self._keeper = Keeper(directory, settings, clock=clock, wall=wall, connect=connect)
        self._reader = Reader(lambda: self._keeper.path, clock=clock, broken=self._keeper.doubt, connect=connect)
        self._flushed = clock()
        self._lost = 0  # what was not written in time at the end
        self._apart: float | None = None  # wall time less monotonic time
        self._steady_since = clock()
        self._stuck = 0  # how many times `STUCK` by now
        self._hung = 0  # the same of all times
        self._running = False

    @property
    def dropped(self) -> int:
        """Outcomes and transitions that were never written."""
        return self._gathering.dropped + self._keeper.dropped + self._lost

    @property
    def errors(self) -> int:
        """Tries to write that failed, and those that the disk did not answer."""
        return self._keeper.errors + self._hung

    @property
    def trouble(self) -> str | None:
        """What is wrong at present, and why; `None` while all is well."""
        reason = HUNG if self._stuck else self._keeper.trouble
        return None if reason is None else f"the history is not written: {reason}"

    @property
    def idle(self) -> bool:
        """Whether all that was handed over is written."""
        return self._keeper.free

    def start(self) -> None:
        """Start both threads; the file is opened, or made, by the first."""
        self._running = True
        self._keeper.start()
        self._reader.start()
        self._keeper.put(None, trusted=None)

    def follow(self, settings: StoreSettings) -> None:
        """Keep for as long, and as much, as these settings say from now on."""
        self._keeper.follow(settings)

    # ---- counting -------------------------------------------------------------------------------------------

    def outcome(
        self, endpoint: str, outcome: Outcome, *, source: Source, wall: float, cost: float | None = None
    ) -> None:
        """Count one outcome, which ended at that moment. Units: `cost` in USD."""
        self._gathering.outcome(endpoint, outcome, source=source, wall=wall, cost=cost)

    def transition(self, transition: Transition, *, now: float, wall: float) -> None:
        """Keep one transition. `wall` is the Unix time of `now`."""
        at = wall - (now - transition.now)
        next_at = None if transition.next_at is None else at + (transition.next_at - transition.now)
        self._gathering.transition(
            Moment(
                at=at,
                event=transition.event,
                endpoint=transition.endpoint,
                model=transition.model,
                provider=transition.provider,
                reporter=transition.reporter,
                state=transition.state,
                reason=transition.reason,
                next_at=next_at,
                enforced=transition.enforced,
            )
        )

    def started(self, states: Iterable[tuple[str, State, bool, str]], *, wall: float) -> None:
        """Keep that the daemon begins: outages under way are over, but for endpoints that are in these states.

        Shape: endpoint, its state, whether that is enforced, and why it is in it.
        """
        marks: list[tuple[str | None, State | None, bool, str]] = [(None, None, True, ""), *states]
        for endpoint, state, enforced, reason in marks:
            self._gathering.transition(
                Moment(
                    at=wall,
                    event="daemon.started",
                    endpoint=endpoint,
                    model=None if endpoint is None else endpoint.partition("@")[0],
                    provider=None,
                    reporter=None,
                    state=state,
                    reason=reason,
                    next_at=None,
                    enforced=enforced,
                )
            )

    # ---- writing -------------------------------------------------------------------------------------------

    def tick(self, *, now: float, wall: float) -> None:
        """Hand over what was counted, where it is time; tell news of the disk. To be called every second or so."""
        self._watch_clock(now, wall)
        self._watch_disk()
        if now - self._flushed < FLUSH or not self._keeper.free:
            return
        self._flushed = now
        steady = now - self._steady_since
        trusted = Trusted(wall, steady) if steady >= TRUST_AFTER else None
        self._keeper.put(self._gathering.take(), trusted=trusted)

    def _watch_clock(self, now: float, wall: float) -> None:
        apart = wall - now
        if self._apart is None or abs(apart - self._apart) > STEP:
            self._steady_since = now
            self._apart = apart

    def _watch_disk(self) -> None:
        stuck = int(self._keeper.stuck() // STUCK)
        self._hung += max(0, stuck - self._stuck)  # again and again: an alert asks whether it grew lately
        if stuck and not self._stuck:
            self._log.warning("store.failed", store="history", reason=HUNG)
        elif self._stuck and not stuck:
            self._log.info("store.recovered", store="history", reason="the disk answers again")
        self._stuck = stuck
        while self._keeper.news:
            self._tell(self._keeper.news.popleft())

    def _tell(self, news: News) -> None:
        if news.event == "store.recovered":
            self._log.info(news.event, **news.facts, dropped=self.dropped)
        else:
            self._log.warning(news.event, **news.facts)

    # ---- reading and ending --------------------------------------------------------------------------------------

    async def read(self, query: HistoryQuery) -> Past:
        """Answer a question about what was written. Raises: HistoryAbsent, HistoryTooLong."""
        try:
            return await self._reader.read(query)
        except HistoryAbsent as absent:
            trouble = self._keeper.trouble
            raise HistoryAbsent(f"the history cannot be told: {absent if trouble is None else trouble}") from None

    async def close(self, patience: float) -> None:
        """Write the rest, for at most so many seconds; what is not written by then is counted as dropped."""
        if not self._running:
            return
        self._running = False
        self._reader.end()
        rest = self._gathering.take()
        if rest is not None:
            self._keeper.put(rest, trusted=None)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._keeper.end(patience=patience, done=lambda: _call(loop, ended.set))
        with suppress(TimeoutError):
            async with asyncio.timeout(patience + STOP_MARGIN):
                await ended.wait()
        self._watch_disk()
        left = self._keeper.left()
        if left:
            self._lost += left
            reason = f"not written within {patience:g} s of the stop"
            self._log.warning("store.failed", store="history", reason=reason, dropped=left)


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call something in the loop, from another thread; a loop that was closed meanwhile needs it no more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what)
