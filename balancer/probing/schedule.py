"""When each endpoint is probed, and the line in front of each provider.

Theory of operation: an endpoint is *planned* (`plan` says when its turn comes), *queued* (due, waiting for one of
its provider's slots) or *running*. The next turn is counted from the start of the last probe: one that takes longer
than its interval delays itself and nobody else. Who waits too long in a line is not run, and has another turn: what
is asked is asked in time. Whoever asks by name goes first and is never dropped.

At its turn a free kind is probed; a paid one only where `pace` finds it worth its money and its provider's `budget`
is not spent. Else that is told as `left_out`, and the endpoint's free kind is probed in its place: an outage must
not wait for the next purchase. What that finds changes nothing about when that is.

A failed probe is a result like any other, but for a timeout while our loop stood still or the machine slept: that
probe was not run, and only who asked for it by name is told. While probes run, `run` looks twice a second whether
it is woken in time. An exception from `look` or any `on_…` is a programmer's error and ends `run`.

What this module does not know: what a result means, and what is known of an endpoint.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Final, Literal

from balancer.config.secret import Secret
from balancer.config.settings import Budget, ProbeKind, ProbeSettings
from balancer.core.evidence import Evidence
from balancer.core.model import Endpoint
from balancer.core.outcome import COUNTS
from balancer.probing.budget import Budgets, BudgetSpent, Hold, Spent
from balancer.probing.connection import Connections
from balancer.probing.kinds import KINDS, Check
from balancer.probing.lag import Lag, ours
from balancer.probing.pace import Bought, turn, worth_paying
from balancer.probing.plan import LATE_MAX, Plan, Row
from balancer.probing.probe import ProbeResult, probe

LeftOut = Literal["late", "busy", "fresh", "budget"]
"""Why a turn was not used: much too late, its provider's slots taken; a paid probe worth nothing, no money left."""
NAP_MIN: Final = 0.001  # s; uvloop rounds to such steps, and naps of none would follow each other until the turn
NAP_MAX: Final = 10.0  # s; a timer of the loop sleeps on after a suspend, and our clock says by how much it is late
LISTEN: Final = 0.5  # s; the same while probes run: what their timeouts are compared with is a second or more
LEFT_OUT: Final[tuple[LeftOut, ...]] = ("late", "busy", "fresh", "budget")


class Scheduler:
    """Probes every endpoint at its time, within each provider's limits. `look` tells what is known of one.

    `on_spent` is told once a day of each provider whose budget is used up, with the figures in words; `on_start` of
    each probe how many seconds after its time it began, the wait for a slot included. Without `stretches` it keeps
    its intervals however late it is.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random,
        on_result: Callable[[ProbeResult], None],
        look: Callable[[str, float], Evidence],
        on_spent: Callable[[str, str], None] = lambda *_: None,
        on_start: Callable[[float], None] = lambda *_: None,
        connections: Connections | None = None,
        budgets: Budgets | None = None,
        kinds: Mapping[ProbeKind, Check] = KINDS,
        stretches: bool = True,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._on_result = on_result
        self._look = look
        self._on_spent = on_spent
        self._on_start = on_start
        self._connections = Connections(clock=clock) if connections is None else connections
        self._kinds = kinds
        self._plan = Plan(rng, stretches=stretches)
        self._lag = Lag()
        self._budgets = Budgets(wall=wall) if budgets is None else budgets
        self._queues: dict[str, deque[Row]] = {}
        self._running: Counter[str] = Counter()
        self._unseen: set[str] = set()
        self._left_out: Counter[LeftOut] = Counter()
        self._wake = asyncio.Event()
        self._sleeps_until = inf
        self._group: asyncio.TaskGroup | None = None

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return self._running.total()

    @property
    def first_picture(self) -> bool:
        """True once every scheduled endpoint was probed once or given up."""
        return not self._unseen

    @property
    def stretch(self) -> float:
        """What all intervals are multiplied with, because the daemon is overloaded; 1 as a rule."""
        return self._plan.stretch

    @property
    def left_out(self) -> Mapping[LeftOut, int]:
        """How many turns went without their probe, by reason; a free one may have gone out for a paid one."""
        return {**{reason: self._left_out[reason] for reason in LEFT_OUT}, "late": self._plan.not_run}

    def overdue(self, now: float) -> float:
        """For how many seconds `run` should have been awake and was not; below 0 while it may sleep."""
        return now - self._sleeps_until

    def due_at(self, endpoint_id: str) -> float | None:
        """When the endpoint's next turn is planned; `None` while it runs or where none is scheduled."""
        row = self._plan.rows.get(endpoint_id)
        return None if row is None or row.place == "running" else row.due

    def spent(self, provider: str) -> Spent:
        """What paid probes of a provider have used today."""
        return self._budgets.spent(provider)

    def budgets(self) -> Mapping[str, Budget]:
        """What paid probes of each provider that has them may use in a day."""
        rows = self._plan.rows.values()
        return {row.endpoint.provider: row.settings.budget for row in rows if self._paid(row.settings)}

    def all_spent(self) -> Mapping[str, Spent]:
        """The same of every provider that has paid probes."""
        return {provider: self.spent(provider) for provider in self.budgets()}

    # ---- following a configuration -------------------------------------------------------------------

    def apply(
        self,
        endpoints: Mapping[str, Endpoint],
        probes: Mapping[str, ProbeSettings],
        credentials: Mapping[str, Secret | None],
    ) -> None:
        """Follow a configuration, by key: what is unchanged keeps its due time.

        An endpoint that leads elsewhere now (address, dialect, upstream model, credential, identity, kind of
        probe) begins anew. Where a probe asks otherwise now, what was bought before says nothing. Kind `none` and
        endpoints misconfigured by configuration are not scheduled.
        """
        now, plan = self._clock(), self._plan
        wanted: dict[str, Row] = {}
        for key, endpoint in endpoints.items():
            settings = probes.get(key)
            if settings is None or settings.kind == "none" or endpoint.misconfigured is not None:
                continue
            wanted[key] = Row(endpoint=endpoint, settings=settings, credential=credentials.get(key))
        for key, row in list(plan.rows.items()):
            if key not in wanted or (not row.is_same(wanted[key]) and row.leads != wanted[key].leads):
                self._drop(key, row)
        for key, fresh in wanted.items():
            known = plan.rows.get(key)
            if known is None:
                self._unseen.add(key)
                plan.add(fresh, now)
                continue
            if known.is_same(fresh):
                continue
            if known.asks != fresh.asks:
                known.forget()
            shorter = fresh.settings.interval < known.settings.interval
            known.endpoint, known.settings = fresh.endpoint, fresh.settings
            if shorter and known.place == "planned":
                plan.hasten(known, now, fresh.settings.interval)
        plan.tidy()
        self._wake.set()

    def _drop(self, key: str, row: Row) -> None:
        """Forget a row. One that runs finishes, and its result reaches only who asked for it by name."""
        del self._plan.rows[key]
        self._unseen.discard(key)
        self._connections.forget([key])
        if row.place != "running" or self._group is None:
            row.refuse(RuntimeError(f"{key}: no longer scheduled"))

    # ---- running -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Probe until cancelled. Raises: ExceptionGroup around what `look` or any `on_…` raised."""
        try:
            async with asyncio.TaskGroup() as self._group:
                while True:
                    self._wake.clear()
                    await self._sleep(self._advance(self._clock()))
        finally:
            self._group = None
            self._running.clear()
            self._queues.clear()
            for row in self._plan.rows.values():
                row.refuse(RuntimeError("the probe schedule has stopped"))
                if row.place != "planned":
                    self._plan.at(row, row.due)

    async def _sleep(self, delay: float | None) -> None:
        """Sleep until something is due or may be, and note by how much that was too long."""
        nap = LISTEN if self.in_flight else NAP_MAX
        nap = max(NAP_MIN, nap if delay is None else min(delay, nap))
        until = self._sleeps_until = self._clock() + nap
        alarm = asyncio.get_running_loop().call_later(nap, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()
        now = self._clock()
        self._lag.woken(now - until, now=now)

    async def probe_now(self, endpoint_id: str) -> ProbeResult:
        """Probe out of turn, within the same concurrency and budget; one that runs already is waited for.

        Its result goes to `on_result` first, like any other. Raises: KeyError for an endpoint that is not
        scheduled, BudgetSpent, RuntimeError when the schedule is not running, stops, or loses the endpoint.
        """
        row = self._plan.rows.get(endpoint_id)
        if self._group is None:
            raise RuntimeError("the probe schedule is not running")
        if row is None:
            raise KeyError(endpoint_id)
        waiter: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
        row.waiters.append(waiter)
        if row.place == "planned":
            row.due = self._clock()
            self._queue(row)
            self._wake.set()
        elif row.place == "queued" and len(row.waiters) == 1:
            self._queues[row.endpoint.provider].remove(row)
            self._queue(row)
        try:
            return await waiter
        finally:
            if waiter in row.waiters:
                row.waiters.remove(waiter)

    def reconsider(self, endpoint_id: str) -> None:
        """Look again at when an endpoint's turn comes, because what is known of it has changed; never later."""
        row = self._plan.rows.get(endpoint_id)
        if row is not None and row.place == "planned":
            now = self._clock()
            self._plan.hasten(row, now, turn(row.settings, self._look(endpoint_id, now), failing=row.failing))
            self._wake.set()

    async def close(self) -> None:
        """Close the kept connections. Call it when `run` has ended."""
        await self._connections.close()

    def _advance(self, now: float) -> float | None:
        """Start everything that may start; answer the seconds until something else is due."""
        for row in self._plan.take(now):
            self._queue(row)
        for provider in list(self._queues):
            self._serve(provider, now)
        return self._plan.next(now)

    def _queue(self, row: Row) -> None:
        """Put a row at the end of its provider's line, or behind those that somebody asked for, if it is one."""
        row.place = "queued"
        line = self._queues.setdefault(row.endpoint.provider, deque())
        line.insert(sum(bool(each.waiters) for each in line) if row.waiters else len(line), row)

    def _serve(self, provider: str, now: float) -> None:
        """Start the probes at the head of a provider's line while there are slots."""
        line = self._queues[provider]
        while line:
            row = line[0]
            if self._plan.rows.get(row.endpoint.id) is not row:
                line.popleft()
                continue
            if now - row.due > LATE_MAX and not row.waiters:
                line.popleft()
                self._left_out["busy"] += 1
                self._plan.spread(row, now)
                continue
            if self._running[provider] >= row.settings.concurrency:
                return
            line.popleft()
            settings = row.settings
            seen = self._look(row.endpoint.id, now) if self._paid(settings) else None
            if seen is not None and self._leaves_out(row, seen, now):
                if settings.free_kind == "none":
                    self._unseen.discard(row.endpoint.id)
                    self._plan.again(row, started=now, now=now, wait=turn(settings, seen, failing=row.failing))
                    continue
                settings = replace(settings, kind=settings.free_kind)
            self._start(row, settings, now)
        del self._queues[provider]

    def _leaves_out(self, row: Row, seen: Evidence, now: float) -> bool:
        """Whether a paid probe is not worth or not given its money."""
        row.bought.look(seen)
        # Somebody who asks for a probe by name wants it although the evidence is fresh.
        if not row.waiters and not worth_paying(row.settings, seen, row.bought, now):
            self._left_out["fresh"] += 1
            return True
        provider = row.endpoint.provider
        lack = self._budgets.lack(provider, row.settings.budget, priced=row.priced, asked=bool(row.waiters))
        if lack is None:
            return False
        self._left_out["budget"] += 1
        if self._budgets.is_news(provider):
            self._on_spent(provider, lack)
        row.refuse(BudgetSpent(f"{provider}: today's budget for paid probes is spent: {lack}"))
        return True

    def _start(self, row: Row, settings: ProbeSettings, now: float) -> None:
        assert self._group is not None  # only `run` advances
        row.place = "running"
        self._running[row.endpoint.provider] += 1
        hold = None
        if self._paid(settings):
            row.bought.buy(now)
            hold = self._budgets.begin(row.endpoint.provider, priced=row.priced)
        self._group.create_task(
            self._probed(row, row.endpoint, settings, hold, started=now), name=f"probe:{row.endpoint.id}"
        )

    async def _probed(
        self, row: Row, endpoint: Endpoint, settings: ProbeSettings, hold: Hold | None, *, started: float
    ) -> None:
        bought = row.bought
        try:
            # Told here and not where the task was made: of those that are made together the last begins later.
            self._on_start(max(0.0, self._clock() - row.due))
            result = await probe(
                endpoint,
                settings,
                row.credential,
                connections=self._connections,
                clock=self._clock,
                wall=self._wall,
                kinds=self._kinds,
                another=lambda: hold is None or self._budgets.extend(hold, settings.budget),
                transcribed=False,  # nobody reads it
                url_good=row.url_good,
            )
        except asyncio.CancelledError:
            row.refuse(RuntimeError("the probe schedule has stopped"))
            if hold is not None:
                self._budgets.settle(hold, usd=None, sent=hold.requests)
            raise
        finally:
            self._running[endpoint.provider] -= 1
            if endpoint.provider in self._queues:
                self._wake.set()  # somebody waits for the slot
        if hold is not None:
            self._budgets.settle(hold, usd=result.cost, sent=result.sent)
            if not result.sent:
                bought.hand_back()
        if result.outcome.kind == "timeout" and ours(self._lag.longest(started), settings.timeout):
            result = replace(result, overslept=True)
        self._settle(row, settings, bought, result, started=started)

    def _settle(
        self, row: Row, settings: ProbeSettings, bought: Bought, result: ProbeResult, *, started: float
    ) -> None:
        """Hand a result to all who wait for it, and plan the next turn."""
        told = COUNTS[result.outcome.kind]
        if self._paid(settings):
            bought.learn("none" if result.overslept else told)
        if self._plan.rows.get(result.endpoint) is not row:
            # It led elsewhere when it began: its connection and its evidence belong to nobody now.
            self._connections.forget([result.endpoint])
            row.answer(result)
            return
        if result.overslept:
            self._plan.miss(row, self._clock())
        else:
            self._unseen.discard(result.endpoint)
            row.learn(result, settings.url)
            self._on_result(result)
            now = self._clock()
            wait = turn(row.settings, self._look(result.endpoint, now), failing=row.failing)
            self._plan.again(row, started=started, now=now, wait=wait)
        if row.waiters and settings.kind != row.settings.kind:
            row.due = self._clock()
            self._queue(row)  # they asked for the paid kind, and came while a free one ran in its place
        else:
            row.answer(result)
        if row.due < self._sleeps_until:
            self._wake.set()

    def _paid(self, settings: ProbeSettings) -> bool:
        check = self._kinds.get(settings.kind)
        return check is not None and check.paid
