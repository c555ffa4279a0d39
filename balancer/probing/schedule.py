"""When each endpoint is probed: one heap of due times, and a line in front of each provider.

Theory of operation: an endpoint is *planned* (in the heap), *queued* (due, waiting for one of its provider's
slots) or *running*. First probes are spread over the interval and every later interval is jittered, so that
endpoints which started together drift apart. The next probe is planned from the start of the last one: a probe
that takes longer than its interval delays itself and nobody else.

If the loop wakes much later than something was due (a suspended machine, a stopped process), everything that is
late is spread over its interval again: firing it all at once would measure our own stampede.

Paid probes are left out while `skip` says that there is fresh evidence, and when the provider's budget of the
UTC day is spent. A budget is checked before a probe and its cost is known after, so what is in flight may
exceed it by that much. An answer without usage, or an endpoint without prices, costs requests and no USD. Budgets
live in memory: a restart begins them anew.

A failed probe is a result like any other. An exception from `on_result` is a programmer's error and ends `run`.

What this module does not know: what a result means, and which evidence is fresh.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Literal

from balancer.config.secret import Secret
from balancer.config.settings import ProbeKind, ProbeSettings
from balancer.core.model import Endpoint
from balancer.probing.connection import Connections
from balancer.probing.kinds import KINDS, Check
from balancer.probing.probe import ProbeResult, probe

JITTER: Final = 0.1  # of the interval, to both sides: enough to drift apart, too little to notice
LATE_MAX: Final = 5.0  # seconds; a busy loop is late by fractions of one, a suspended machine by minutes
DAY: Final = 86_400.0  # seconds of a UTC day; Unix time has no leap seconds


class BudgetSpent(RuntimeError):
    """A paid probe was asked for, and the provider's budget of the day is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What paid probes of one provider have used in the present UTC day. Units: USD."""

    requests: int = 0
    usd: float = 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    """One scheduled endpoint. `number` is the heap entry that counts; older entries are void."""

    endpoint: Endpoint
    settings: ProbeSettings
    credential: Secret | None
    due: float = 0.0
    number: int = -1
    place: Literal["planned", "queued", "running"] = "planned"
    waiters: list[asyncio.Future[ProbeResult]] = field(default_factory=list)


class Scheduler:
    """Probes every endpoint at its time, within each provider's limits."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random,
        on_result: Callable[[ProbeResult], None],
        skip: Callable[[Endpoint, ProbeSettings, float], bool],
        connections: Connections | None = None,
        kinds: Mapping[ProbeKind, Check] = KINDS,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._on_result = on_result
        self._skip = skip
        self._connections = Connections(clock=clock) if connections is None else connections
        self._kinds = kinds
        self._rows: dict[str, _Row] = {}
        self._heap: list[tuple[float, int, _Row]] = []
        self._queues: dict[str, deque[_Row]] = {}
        self._running: Counter[str] = Counter()
        self._unseen: set[str] = set()
        self._numbers = count()
        self._day: int | None = None
        self._spent: dict[str, Spent] = {}
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self.lateness = 0.0

    @property
    def in_flight(self) -> int:
        return self._running.total()

    @property
    def first_picture(self) -> bool:
        """True once every scheduled endpoint was probed once or given up."""
        return not self._unseen

    def due_at(self, endpoint_id: str) -> float | None:
        """Say when the endpoint's next probe is planned; `None` while it runs or where none is scheduled."""
        row = self._rows.get(endpoint_id)
        return None if row is None or row.place == "running" else row.due

    def spent(self, provider: str) -> Spent:
        """Say what paid probes of a provider have used today."""
        return self._spent.get(provider, Spent()) if self._day == self._today() else Spent()

    def apply(
        self,
        endpoints: Mapping[str, Endpoint],
        probes: Mapping[str, ProbeSettings],
        credentials: Mapping[str, Secret | None],
    ) -> None:
        """Follow a configuration, by key: what is unchanged keeps its due time.

        An endpoint that leads elsewhere now (address, dialect, upstream model, credential, identity, kind of
        probe) begins anew. Kind `none` and endpoints misconfigured by configuration are not scheduled.
        """
        now = self._clock()
        wanted: dict[str, _Row] = {}
        for key, endpoint in endpoints.items():
            settings = probes.get(key)
            if settings is None or settings.kind == "none" or endpoint.misconfigured is not None:
                continue
            wanted[key] = _Row(endpoint=endpoint, settings=settings, credential=credentials.get(key))
        for key, row in list(self._rows.items()):
            if key not in wanted or _leads(row) != _leads(wanted[key]):
                self._drop(key, row)
        for key, fresh in wanted.items():
            known = self._rows.get(key)
            if known is None:
                self._rows[key] = fresh
                self._unseen.add(key)
                self._plan(fresh, now + self._rng.uniform(0.0, fresh.settings.interval))
                continue
            interval_changed = known.settings.interval != fresh.settings.interval
            known.endpoint, known.settings = fresh.endpoint, fresh.settings
            if interval_changed and known.place == "planned":
                self._plan(known, min(known.due, now + self._rng.uniform(0.0, fresh.settings.interval)))
        # Void entries would otherwise gather with every reload.
        self._heap = [entry for entry in self._heap if self._counts(entry)]
        heapify(self._heap)
        self._wake.set()

    async def run(self) -> None:
        """Probe until cancelled. Raises: ExceptionGroup around what `on_result` or `skip` raised."""
        try:
            async with asyncio.TaskGroup() as self._group:
                while True:
                    self._wake.clear()
                    delay = self._advance(self._clock())
                    try:
                        async with asyncio.timeout(delay):
                            await self._wake.wait()
                    except TimeoutError:
                        pass  # something is due
        finally:
            self._group = None
            self._running.clear()
            self._queues.clear()
            for row in self._rows.values():
                self._refuse(row, RuntimeError("the probe schedule has stopped"))
                if row.place != "planned":
                    self._plan(row, row.due)

    async def probe_now(self, endpoint_id: str) -> ProbeResult:
        """Probe out of turn, within the same concurrency and budget; one that runs already is waited for.

        Its result goes to `on_result` first, like any other. Raises: KeyError for an endpoint that is not
        scheduled, BudgetSpent, RuntimeError when the schedule is not running, stops, or loses the endpoint.
        """
        row = self._rows.get(endpoint_id)
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
        try:
            return await waiter
        finally:
            if waiter in row.waiters:
                row.waiters.remove(waiter)

    async def close(self) -> None:
        """Close the kept connections. Call it when `run` has ended."""
        await self._connections.close()

    def _advance(self, now: float) -> float | None:
        """Start everything that may start; answer the seconds until something else is due."""
        while self._heap and (not self._counts(self._heap[0]) or self._heap[0][0] <= now):
            entry = heappop(self._heap)
            if not self._counts(entry):
                continue
            row = entry[2]
            if now - row.due > LATE_MAX:
                self._plan(row, now + self._rng.uniform(0.0, row.settings.interval))
            else:
                self._queue(row)
        for provider in list(self._queues):
            self._serve(provider, now)
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def _serve(self, provider: str, now: float) -> None:
        """Start the probes at the head of a provider's line while there are slots."""
        line = self._queues[provider]
        while line:
            row = line[0]
            if self._rows.get(row.endpoint.id) is not row:
                line.popleft()
                continue
            if self._running[provider] >= row.settings.concurrency:
                return
            line.popleft()
            if self._left_out(row, now):
                self._unseen.discard(row.endpoint.id)
                self._plan(row, now + self._jittered(row))
            else:
                self._start(row, now)
        del self._queues[provider]

    def _left_out(self, row: _Row, now: float) -> bool:
        """Decide whether a due probe is not worth or not given its money."""
        if not self._paid(row):
            return False
        budget, spent = row.settings.budget, self.spent(row.endpoint.provider)
        if spent.requests >= budget.requests or spent.usd >= budget.usd:
            provider = row.endpoint.provider
            self._refuse(
                row,
                BudgetSpent(
                    f"{provider}: today's budget for paid probes is spent: {spent.requests} of {budget.requests}"
                    f" requests, {spent.usd:.4f} of {budget.usd:g} USD"
                ),
            )
            return True
        # Somebody who asks for a probe by name wants it although the evidence is fresh.
        return not row.waiters and self._skip(row.endpoint, row.settings, now)

    def _start(self, row: _Row, now: float) -> None:
        assert self._group is not None  # only `run` advances
        row.place = "running"
        self.lateness = max(0.0, now - row.due)
        self._running[row.endpoint.provider] += 1
        if self._paid(row):
            self._spend(row.endpoint.provider, requests=1, usd=0.0)
        self._group.create_task(
            self._probed(row, row.endpoint, row.settings, started=now), name=f"probe:{row.endpoint.id}"
        )

    async def _probed(self, row: _Row, endpoint: Endpoint, settings: ProbeSettings, *, started: float) -> None:
        try:
            result = await probe(
                endpoint,
                settings,
                row.credential,
                connections=self._connections,
                clock=self._clock,
                wall=self._wall,
                kinds=self._kinds,
            )
        except asyncio.CancelledError:
            self._refuse(row, RuntimeError("the probe schedule has stopped"))
            raise
        finally:
            self._running[endpoint.provider] -= 1
            self._wake.set()
        if result.cost is not None and self._paid(row):
            self._spend(endpoint.provider, requests=0, usd=result.cost)
        if self._rows.get(endpoint.id) is row:
            self._unseen.discard(endpoint.id)
            self._plan(row, max(self._clock(), started + self._jittered(row)))
            self._on_result(result)
        else:
            # It led elsewhere when it began: its connection and its evidence belong to nobody now.
            self._connections.forget([endpoint.id])
        waiters, row.waiters = row.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(result)

    def _plan(self, row: _Row, due: float) -> None:
        row.place = "planned"
        row.due = due
        row.number = next(self._numbers)
        heappush(self._heap, (due, row.number, row))

    def _queue(self, row: _Row) -> None:
        row.place = "queued"
        self._queues.setdefault(row.endpoint.provider, deque()).append(row)

    def _counts(self, entry: tuple[float, int, _Row]) -> bool:
        """Say whether a heap entry is still the plan of a row that is still there."""
        _, number, row = entry
        current = row.place == "planned" and row.number == number
        return current and self._rows.get(row.endpoint.id) is row

    def _drop(self, key: str, row: _Row) -> None:
        """Forget a row. One that runs finishes, and its result reaches only who asked for it by name."""
        del self._rows[key]
        self._unseen.discard(key)
        self._connections.forget([key])
        if row.place != "running" or self._group is None:
            self._refuse(row, RuntimeError(f"{key}: no longer scheduled"))

    def _refuse(self, row: _Row, problem: Exception) -> None:
        waiters, row.waiters = row.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(problem)

    def _paid(self, row: _Row) -> bool:
        check = self._kinds.get(row.settings.kind)
        return check is not None and check.paid

    def _jittered(self, row: _Row) -> float:
        return row.settings.interval * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)

    def _today(self) -> int:
        return int(self._wall() // DAY)

    def _spend(self, provider: str, *, requests: int, usd: float) -> None:
        today = self._today()
        if self._day != today:
            self._day = today
            self._spent.clear()
        before = self._spent.get(provider, Spent())
        self._spent[provider] = Spent(requests=before.requests + requests, usd=before.usd + usd)


def _leads(row: _Row) -> tuple[object, ...]:
    """Everything that makes an endpoint another one to a probe."""
    endpoint = row.endpoint
    return (
        endpoint.identity,
        endpoint.provider,
        endpoint.base_url,
        endpoint.api,
        endpoint.upstream_model,
        row.credential,
        row.settings.kind,
    )
