"""A history in a directory of its own, over the real disk, with a wall clock that only a test moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from balancer.config import StoreSettings
from balancer.core.history import HistoryQuery, Past
from balancer.core.outcome import Outcome
from balancer.service.log import Log
from balancer.store.history import History

WALL = 1_795_000_021.0  # just after a minute's beginning, in the middle of an hour
A = "acme/large@a"
B = "acme/large@b"


class Lines:
    """Collects what the log would print."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    error = warning = debug = info

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.lines if name == event]


class Kept:
    """A history, and a daemon's part around it."""

    def __init__(self, directory: Path, settings: StoreSettings, **more: Any) -> None:
        self.directory = directory
        self.path = directory / "history.db"
        self.wall = WALL
        self.now = time.monotonic()
        self.ahead = 0.0  # of the true time
        self.lines = Lines()
        self.history = History(
            directory,
            settings,
            log=Log(self.lines),
            clock=lambda: time.monotonic() + self.ahead,
            wall=lambda: self.wall,
            **more,
        )

    def success(self, endpoint: str = A, *, times: int = 1, ago: float = 0.0, **facts: Any) -> None:
        for _ in range(times):
            outcome = Outcome(kind="success", latency=1.0, **facts)
            self.history.outcome(endpoint, outcome, source="report", wall=self.wall - ago)

    def tick(self, seconds: float = 6.0) -> None:
        self.now += seconds
        self.wall += seconds
        self.history.tick(now=self.now, wall=self.wall)

    async def until(self, condition: Callable[[], bool], *, patience: float = 20.0) -> None:
        """Tick until a condition holds, with a deadline."""
        async with asyncio.timeout(patience):
            while not condition():
                self.history.tick(now=self.now, wall=self.wall)
                await asyncio.sleep(0.005)
        self.history.tick(now=self.now, wall=self.wall)  # the last news

    async def flush(self) -> None:
        """Hand over what was counted, and wait until it is written."""
        await self.until(lambda: self.history.idle)
        self.tick()
        await self.until(lambda: self.history.idle)

    async def prune(self) -> None:
        """Give the thread a whole turn: the second batch is written after what follows the first."""
        for _ in range(2):
            self.success("acme/other@x")
            await self.flush()

    async def past(self, *, span: int = 86_400, step: int | None = None, **whose: str) -> Past:
        until = -(-int(self.wall) // 60) * 60
        return await self.history.read(HistoryQuery(since=until - span, until=until, step=step, **whose))

    async def feed_until(self, condition: Callable[[], bool], *, patience: float = 60.0) -> tuple[int, float]:
        """Count outcomes as a daemon does until a condition holds; how many, and the p99 of one in seconds."""
        took: list[float] = []
        async with asyncio.timeout(patience):
            while not condition():
                for _ in range(50):
                    began = time.perf_counter()
                    self.success()
                    took.append(time.perf_counter() - began)
                self.tick()
                await asyncio.sleep(0.002)
        return len(took), sorted(took)[len(took) * 99 // 100]

    async def counted(self) -> int:
        """How many outcomes can be read."""
        past = await self.past(span=30 * 86_400)
        points = [point for each in past.series for point in each.points]
        return sum(sum(counts.values()) for point in points for counts in point.outcomes.values())


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., Any]:
    """Keep a history: `async with keep(settings, …) as kept`."""

    @asynccontextmanager
    async def keeping(
        settings: StoreSettings | None = None, *, directory: Path = tmp_path, **more: Any
    ) -> AsyncIterator[Kept]:
        kept = Kept(directory, StoreSettings() if settings is None else settings, **more)
        kept.history.start()
        try:
            yield kept
        finally:
            await kept.history.close(2.0)

    return keeping


@pytest.fixture
async def kept(keep: Callable[..., Any]) -> AsyncIterator[Kept]:
    """A history by default settings, opened."""
    async with keep() as one:
        await one.until(one.path.exists)
        yield one
