"""A keeper with a table that keeps one word, for the tests of keepers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from balancer.service import clock
from balancer.service.log import configure
from balancer.store import Directory, Keeper
from balancer.store.directory import NAME
from balancer.store.frame import judged
from balancer.store.keeper import Parts

WAIT = 10.0  # s until a condition must have come true, on a busy machine


class Table:
    """What is kept: one word, behind some padding."""

    def __init__(self, word: str = "fresh", *, padding: int = 0, cost: float = 0.0) -> None:
        self.word = word
        self.padding = padding
        self.cost = cost
        self.away: list[float] = []
        self.taken = 0
        self.refusal: str | None = None

    def dump(self, now: float) -> Parts:
        assert now <= clock.monotonic()
        yield "table", {"word": self.word}
        for _ in range(self.padding):
            until = time.perf_counter() + self.cost
            while time.perf_counter() < until:
                pass
            yield "more", {"padding": "x" * 1000}

    def take(self, parts: Parts, now: float, away: float) -> Iterator[None]:
        assert now <= clock.monotonic()
        word = self.word
        for section, part in parts:
            self.taken += 1
            word = part["word"] if section == "table" else word
            until = time.perf_counter() + self.cost
            while time.perf_counter() < until:
                pass
            yield
        if self.refusal is not None:
            raise ValueError(self.refusal)
        self.word = word
        self.away.append(away)


class Kept:
    """A keeper with its table, and what it says."""

    def __init__(
        self, directory: Directory | Path, table: Table, *, interval: float = 3600.0, **facts: Any
    ) -> None:
        self.table = table
        self.path = directory if isinstance(directory, Path) else directory.path
        self._out = StringIO()
        self.keeper = Keeper(
            Directory(directory) if isinstance(directory, Path) else directory,
            interval=interval,
            dump=table.dump,
            take=table.take,
            clock=clock.monotonic,
            wall=facts.pop("wall", clock.wall),
            boot=facts.pop("boot", clock.boot()),
            log=configure(level="info", style="json", stream=self._out),
            **facts,
        )

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]

    @property
    def word(self) -> str | None:
        """What the file says, read by another way than ours."""
        file = self.path / NAME
        return str(next(iter(judged(file.read_bytes())[1]))[1]["word"]) if file.exists() else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.keeper.open()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.keeper.run(), name="keeper")
            try:
                yield
            finally:
                task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.01)


async def saved(path: Path, word: str) -> None:
    """Leave a state there, as a daemon that has ended."""
    kept = Kept(path, Table(word))
    await kept.keeper.open()
    assert await kept.keeper.close(patience=WAIT)
