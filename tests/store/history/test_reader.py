"""Questions about the past: bounded in number and time, and none of them stops a write."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from balancer.core.history import HistoryAbsent, HistoryQuery
from balancer.store.history import reader, schema
from balancer.store.history.reader import Reader

QUERY = HistoryQuery(since=0, until=60, step=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty history."""
    found = tmp_path / "history.db"
    schema.begin(found, sqlite3.connect).close()
    return found


@asynccontextmanager
async def reading(path: Path, **more: Any) -> AsyncIterator[tuple[Reader, list[str]]]:
    told: list[str] = []
    given = {"clock": time.monotonic, "broken": lambda: told.append("broken"), **more}
    one = Reader(lambda: path, **given)
    one.start()
    try:
        yield one, told
    finally:
        one.end()


async def test_a_question_is_answered(path: Path) -> None:
    async with reading(path) as (one, told):
        past = await one.read(QUERY)
    assert (past.since, past.until, past.series, past.transitions) == (0, 60, [], [])
    assert told == []


async def test_before_anything_was_written_that_is_said(tmp_path: Path) -> None:
    async with reading(tmp_path / "history.db") as (one, told):
        with pytest.raises(HistoryAbsent, match="nothing was written yet"):
            await one.read(QUERY)
    assert told == []


def spoil(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def begin_anew(path: Path) -> None:
    path.unlink()
    schema.begin(path, sqlite3.connect).close()


async def test_garbage_is_told_to_whoever_can_set_it_aside(path: Path) -> None:
    spoil(path)
    async with reading(path) as (one, told):
        with pytest.raises(HistoryAbsent, match="file is not a database"):
            await one.read(QUERY)
        assert told == ["broken"]
        begin_anew(path)
        assert (await one.read(QUERY)).series == []


def fill(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executemany("INSERT INTO endpoints VALUES (?, ?)", [(each, f"m@{each}") for each in range(1500)])
    connection.executemany(
        "INSERT INTO transitions (at, event, endpoint, reason, enforced) VALUES (1, 'x', ?, '', 1)",
        [(each,) for each in range(1500)],
    )
    connection.commit()
    connection.close()


async def test_a_question_that_takes_too_long_is_stopped_and_the_next_is_answered(path: Path) -> None:
    fill(path)
    moments = [0.0, reader.TIME_MAX + 1.0]  # at the second look at the clock the time is over
    query = HistoryQuery(since=0, until=60, step=None, model="m")
    async with reading(path, clock=lambda: moments.pop(0) if moments else 0.0) as (one, told):
        with pytest.raises(HistoryAbsent, match="it takes longer than 3 s; ask for less"):
            await one.read(query)
        assert len((await one.read(query)).transitions) == 1000
    assert told == []


class Gate:
    """A disk that answers only when it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()

    def connect(self, *place: Any, **how: Any) -> sqlite3.Connection:
        self.reached.set()
        assert self.open.wait(20)
        return sqlite3.connect(*place, **how)


async def test_too_many_questions_are_refused_at_once_and_the_others_answered_in_the_end(path: Path) -> None:
    gate = Gate()
    async with reading(path, connect=gate.connect) as (one, _), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(one.read(QUERY)) for _ in range(reader.WAITING_MAX)]
        await asyncio.to_thread(gate.reached.wait, 20)
        with pytest.raises(HistoryAbsent, match="8 questions about the past are waiting"):
            await one.read(QUERY)
        waiting[0].cancel()  # a client that went away
        waiting[-1].cancel()
        gate.open.set()
    assert [each.cancelled() for each in waiting] == [True, *[False] * 6, True]


async def test_a_disk_that_hangs_costs_whoever_asks_only_patience(path: Path) -> None:
    gate = Gate()
    async with reading(path, connect=gate.connect, patience=0.05) as (one, _):
        with pytest.raises(HistoryAbsent, match="the disk gave no answer within"):
            await one.read(QUERY)
        gate.open.set()


async def test_whoever_still_waits_at_the_end_is_told(path: Path) -> None:
    gate = Gate()
    async with reading(path, connect=gate.connect) as (one, _):
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(one.read(QUERY))
            second = tasks.create_task(expect_stopping(one))
            await asyncio.to_thread(gate.reached.wait, 20)
            one.end()
            gate.open.set()
        assert first.result().series == []
        assert second.done()
        await expect_stopping(one)


async def expect_stopping(one: Reader) -> None:
    with pytest.raises(HistoryAbsent, match="the daemon is stopping"):
        await one.read(QUERY)
