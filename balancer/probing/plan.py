"""Whose turn it is: one heap of due times, for as many endpoints as there are.

Theory of operation: first turns are spread over the interval and every later one is jittered, so that endpoints
which started together drift apart. A turn that comes much too late (a suspended machine, a stopped process) is not
taken: it was *not run*, which is no failure of anybody's, and it is spread over as long as it last waited, since
firing all that is late at once would measure our own stampede.

A daemon that is late again and again has more to do than it can: it stretches all intervals, step by step while it
is late, rather than be late for everything. It takes a step back only when it was in time for some minutes: else it
would swing between too much and too little. How late it is is a moving average over time, and no single time that
turns are taken moves it by much: one pause is no overload, however many turns fell into it, and neither are the few
late turns of a daemon that has little to do. A suspended machine is none at all: turns that were not taken say
nothing of those that are.

What this module does not know: what a turn is used for, asyncio, and any clock but `now`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import count
from math import exp
from typing import Final, Literal

from balancer.config.secret import Secret
from balancer.config.settings import ProbeSettings
from balancer.core.model import Endpoint
from balancer.core.outcome import COUNTS
from balancer.probing.pace import Bought
from balancer.probing.probe import ProbeResult

JITTER: Final = 0.1  # of the interval, to both sides: enough to drift apart, too little to notice
LATE_MAX: Final = 5.0  # seconds; a busy loop is late by fractions of one, a suspended machine by minutes

LATE_MEMORY: Final = 60.0  # s; what was a minute ago has lost two thirds of its weight
LATE_SHARE: Final = 0.02  # of the average is the newest, at most: a pause of five seconds makes it a tenth
OVERLOADED: Final = 0.25  # s of average lateness; a healthy daemon is late by milliseconds
RELAXED: Final = 0.1  # s; below it what was stretched is taken back
STRETCH_STEP: Final = 1.25
STRETCH_MAX: Final = 8.0  # beyond it the machine is too small, and the figures say so
STRETCH_EVERY: Final = 10.0  # s between two steps: the last one must be felt first
RELAX_EVERY: Final = 300.0  # s in time before a step back: a few rounds of the usual interval, even when stretched


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One scheduled endpoint. `number` is the heap entry that counts; older entries are void.

    `started` is when its last turn was taken, `wait` what lies between its turns, without stretch and jitter;
    `failing` is whether its last probe failed, `url_good` whether `probe.url` ever was what it should be.
    """

    endpoint: Endpoint
    settings: ProbeSettings
    credential: Secret | None
    due: float = 0.0
    number: int = -1
    place: Literal["planned", "queued", "running"] = "planned"
    failing: bool = False
    url_good: bool = False
    started: float = float("-inf")
    wait: float = field(init=False)
    bought: Bought = field(default_factory=Bought)
    waiters: list[asyncio.Future[ProbeResult]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wait = self.settings.interval

    def learn(self, result: ProbeResult, url: str | None) -> None:
        """Remember how a probe ended that asked for this `probe.url`, which a reload may have changed since."""
        self.failing = COUNTS[result.outcome.kind] == "failure"
        if result.kind == "http" and result.outcome.kind == "success" and url == self.settings.url:
            self.url_good = True

    def forget(self) -> None:
        """Forget what was found out by asking otherwise than it is asked now."""
        self.bought, self.url_good = Bought(), False

    def answer(self, result: ProbeResult) -> None:
        """Hand a result to all who wait for it."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(result)

    def refuse(self, problem: Exception) -> None:
        """Tell all who wait for a result why there is none."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(problem)

    def is_same(self, other: Row) -> bool:
        """Whether another row is made of the very same values, as those are that a reload left as they were."""
        return (
            self.endpoint is other.endpoint
            and self.settings is other.settings
            and self.credential is other.credential
        )

    @property
    def priced(self) -> bool:
        """Whether what a paid probe used has a price."""
        return self.endpoint.pricing.prompt is not None and self.endpoint.pricing.completion is not None

    @property
    def leads(self) -> tuple[object, ...]:
        """Everything that makes an endpoint another one to a probe."""
        endpoint = self.endpoint
        return (
            endpoint.identity,
            endpoint.provider,
            endpoint.base_url,
            endpoint.api,
            endpoint.upstream_model,
            self.credential,
            self.settings.kind,
        )

    @property
    def asks(self) -> ProbeSettings:
        """What its probe sends and accepts, without how often and how much."""
        usual = ProbeSettings()
        return replace(
            self.settings,
            interval=usual.interval,
            suspect_interval=usual.suspect_interval,
            timeout=usual.timeout,
            stale_after=usual.stale_after,
            floor=usual.floor,
            budget=usual.budget,
            concurrency=usual.concurrency,
        )


class Plan:
    """Every scheduled endpoint by id, and when each is due. `not_run` counts the turns that came too late.

    `stretch` is what all intervals are multiplied with, 1 as a rule, and always where `stretches` is false.
    """

    def __init__(self, rng: random.Random, *, stretches: bool = True) -> None:
        self.rows: dict[str, Row] = {}
        self.not_run = 0
        self.stretch = 1.0
        self._rng = rng
        self._stretches = stretches
        self._heap: list[tuple[float, int, Row]] = []
        self._numbers = count()
        self._late = 0.0
        self._heeded = float("-inf")
        self._stepped = float("-inf")
        self._strained = float("-inf")

    # ---- changing ------------------------------------------------------------------------------------

    def add(self, row: Row, now: float) -> None:
        """Take a new endpoint; its first turn is somewhere in its interval."""
        self.rows[row.endpoint.id] = row
        self.spread(row, now)

    def spread(self, row: Row, now: float) -> None:
        """Put a row's turn anywhere from now in as long as it last waited."""
        self.at(row, now + self._anywhere(row))

    def miss(self, row: Row, now: float) -> None:
        """Count a turn as not run, and plan it anew."""
        self.not_run += 1
        self.spread(row, now)

    def hasten(self, row: Row, now: float, wait: float) -> None:
        """Put a row's turn where it would be if its last wait had been this one, unless it comes sooner.

        Where that has passed it is anywhere in that wait from now: many may have cause to hasten at once.
        """
        if wait >= row.wait:
            return
        row.wait = wait
        due = row.started + self._jittered(wait)
        self.at(row, min(row.due, due if due > now else now + self._anywhere(row)))

    def again(self, row: Row, *, started: float, now: float, wait: float) -> None:
        """Put a row's turn `wait` seconds after it `started`, give or take the jitter."""
        row.wait, row.started = wait, started
        self.at(row, max(now, started + self._jittered(wait)))

    def at(self, row: Row, due: float) -> None:
        """Put a row's turn there; what was planned for it before is void."""
        row.place, row.due, row.number = "planned", due, next(self._numbers)
        heappush(self._heap, (due, row.number, row))

    def tidy(self) -> None:
        """Drop void entries, which would otherwise gather with every reload."""
        self._heap = [entry for entry in self._heap if self._counts(entry)]
        heapify(self._heap)

    def take(self, now: float) -> list[Row]:
        """Take out all whose turn has come."""
        found: list[Row] = []
        latest = None
        while self._heap and (not self._counts(self._heap[0]) or self._heap[0][0] <= now):
            entry = heappop(self._heap)
            if not self._counts(entry):
                continue
            row = entry[2]
            late = now - row.due
            latest = late if latest is None else max(late, latest)
            if late > LATE_MAX:
                self.miss(row, now)
            else:
                found.append(row)
        if latest is not None and latest <= LATE_MAX:
            self._heed(latest, now)
            self._stretch(now)
        return found

    def _heed(self, late: float, now: float) -> None:
        """Take a lateness into the average, with the weight of the time since the one before."""
        kept = exp((self._heeded - now) / LATE_MEMORY)
        self._late = kept * self._late + min(1.0 - kept, LATE_SHARE) * late
        self._heeded = now

    def _stretch(self, now: float) -> None:
        if self._late >= RELAXED:
            self._strained = now
        if self._stretches and self._late > OVERLOADED and now - self._stepped >= STRETCH_EVERY:
            self.stretch = min(self.stretch * STRETCH_STEP, STRETCH_MAX)
            self._stepped = now
        elif self.stretch > 1.0 and now - max(self._stepped, self._strained) >= RELAX_EVERY:
            self.stretch = max(self.stretch / STRETCH_STEP, 1.0)
            self._stepped = now

    def _jittered(self, wait: float) -> float:
        return wait * self.stretch * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)

    def _anywhere(self, row: Row) -> float:
        return self._rng.uniform(0.0, row.wait * self.stretch)

    # ---- reading -------------------------------------------------------------------------------------

    def next(self, now: float) -> float | None:
        """Seconds until somebody's turn comes; `None` where nobody's does."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def _counts(self, entry: tuple[float, int, Row]) -> bool:
        """Whether a heap entry is still the plan of a row that is still there."""
        _, number, row = entry
        current = row.place == "planned" and row.number == number
        return current and self.rows.get(row.endpoint.id) is row
