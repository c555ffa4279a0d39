"""The past as the daemon sees it: what it loses, what it never does, and what a kill leaves.

`KILLS=200 pytest tests/store/history/test_history.py -k killed -s` kills it as often as you like.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from balancer.config import RetentionSettings, StoreSettings
from balancer.core.history import HistoryAbsent
from balancer.core.model import Transition
from balancer.core.outcome import Outcome
from balancer.service.log import silent
from balancer.store.history import History
from balancer.store.history.gathering import Gathering
from balancer.store.history.history import FLUSH, TRUST_AFTER

KILLS = int(os.environ.get("KILLS", "20"))
FIRST_HOUR = 1_794_999_600 // 3600  # of what the feeder feeds
FEEDER = Path(__file__).with_name("feeder.py")
A = "acme/large@a"
SHORT = StoreSettings(retention=RetentionSettings(minutes=3600.0, hours=86_400.0))


async def test_what_is_counted_can_be_read_after_a_flush_and_survives_a_restart(keep: Any) -> None:
    for times in (1, 2):
        async with keep() as kept:
            kept.success(times=3, prompt_tokens=10)
            await kept.flush()
            (series,) = (await kept.past(endpoint=A)).series
            assert series.points[0].outcomes == {"report": {"success": 3 * times}}
            assert series.points[0].prompt_tokens == 30 * times


async def test_a_stop_loses_nothing(keep: Any) -> None:
    async with keep() as kept:
        kept.success(times=7)
        await kept.history.close(5.0)
        assert kept.history.dropped == 0
    async with keep() as kept:
        assert await kept.counted() == 7


async def test_a_batch_is_handed_over_every_few_seconds_and_never_before_the_last_is_written(kept: Any) -> None:
    await kept.until(lambda: kept.history.idle)
    kept.success()
    kept.now = time.monotonic()
    kept.tick(FLUSH / 2)
    assert kept.history.idle
    kept.tick(FLUSH)
    assert not kept.history.idle or await kept.counted() == 1


async def test_transitions_are_kept_with_the_moments_of_the_wall_clock(kept: Any) -> None:
    transition = Transition(
        number=9, now=1000.0, event="endpoint.ejected", endpoint=A, model="acme/large", state="ejected",
        reason="five failures in a row", next_at=1010.0, enforced=True,
    )  # fmt: skip
    kept.history.transition(transition, now=1003.0, wall=kept.wall)
    kept.history.transition(replace(transition, next_at=None, enforced=False), now=1003.0, wall=kept.wall)
    wall = kept.wall
    await kept.flush()
    first, second = (await kept.past(endpoint=A)).transitions
    assert (first.at, first.next_at) == (wall - 3.0, wall + 7.0)
    assert (first.event, first.state, first.reason, first.enforced) == (
        "endpoint.ejected", "ejected", "five failures in a row", True,
    )  # fmt: skip
    assert (second.next_at, second.enforced) == (None, False)


async def test_a_start_ends_outages_but_those_that_were_saved(kept: Any) -> None:
    b, watched = "acme/large@b", "acme/large@watched"
    for endpoint in (A, b):
        moment = Transition(
            number=1, now=0.0, event="endpoint.ejected", endpoint=endpoint, model="acme/large", state="ejected",
            reason="",
        )  # fmt: skip
        kept.history.transition(moment, now=600.0, wall=kept.wall)
    kept.history.started(
        [(b, "ejected", True, "saved"), (watched, "ejected", False, "saved")], wall=kept.wall - 300.0
    )
    await kept.flush()
    past = await kept.past(model="acme/large", span=3600)
    told = {each.endpoint: each.outage_longest for each in past.series}
    assert told[A] == 300.0
    assert told[b] >= 600.0
    assert told[watched] == 0.0  # it was called all the time


async def test_nothing_goes_for_its_age_before_the_clock_has_gone_right_for_a_while(keep: Any) -> None:
    async with keep(SHORT) as kept:
        kept.success(ago=7200.0)
        await kept.prune()
        kept.wall += 10 * 365 * 86_400.0  # a clock that was set wrong
        await kept.prune()
        kept.wall -= 10 * 365 * 86_400.0  # and right again
        await kept.prune()
        kept.tick(TRUST_AFTER - 60.0)
        await kept.prune()
        assert (await kept.past(endpoint=A)).minutes_from is None
        kept.tick(TRUST_AFTER)
        await kept.prune()
        past = await kept.past(endpoint=A)
        assert past.minutes_from is not None
        assert past.series[0].points[0].outcomes == {"report": {"success": 1}}  # the hour still tells of it


async def test_an_endpoint_that_was_forgotten_and_comes_again_is_kept_again(keep: Any) -> None:
    def known() -> bool:
        connection = sqlite3.connect(kept.path)
        (found,) = connection.execute("SELECT count(*) FROM endpoints WHERE name = ?", (A,)).fetchone()
        connection.close()
        return bool(found)

    async with keep(SHORT) as kept:
        kept.success(ago=2 * 86_400.0)
        await kept.prune()
        assert known()
        kept.tick(TRUST_AFTER)
        await kept.prune()
        assert not known()
        kept.success(times=3)
        await kept.flush()
        (series,) = (await kept.past(endpoint=A)).series
        assert series.points[0].outcomes == {"report": {"success": 3}}


async def test_a_clock_that_steps_back_adds_to_minutes_that_are_there(kept: Any) -> None:
    for step in (0.0, -3600.0, 7200.0, -3600.0, 1e9, -1e9):
        kept.wall += step
        kept.success(times=3)
        await kept.flush()
    assert await kept.counted() == 12  # two of the six lie ahead of us
    await kept.history.close(1.0)
    assert sum(whole(kept.path).values()) == 18


async def test_retention_that_a_reload_changes_is_followed(keep: Any) -> None:
    async with keep() as kept:
        kept.success(ago=7200.0)
        await kept.prune()
        kept.tick(TRUST_AFTER)
        await kept.prune()
        assert (await kept.past()).minutes_from is None
        kept.history.follow(SHORT)
        await kept.prune()
        assert (await kept.past()).minutes_from is not None


async def test_counting_goes_on_where_there_is_no_directory_to_be_made(keep: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with keep(directory=tmp_path / "file" / "state") as kept:
        kept.success()
        kept.tick()
        await kept.until(lambda: kept.lines.of("store.failed"))
        with pytest.raises(HistoryAbsent, match=r"Not a directory|File exists"):
            await kept.counted()
        await kept.history.close(0.2)
        assert kept.history.dropped == 1


async def test_a_stop_has_its_patience_however_much_there_is_to_write(keep: Any) -> None:
    async with keep() as kept:
        await kept.flush()
        for minute in range(1000):
            kept.success(ago=60.0 * minute)
        began = time.monotonic()
        await kept.history.close(0.0)
        assert time.monotonic() - began < 1.0
        left = kept.history.dropped
    assert left > 0
    assert sum(whole(kept.path).values()) == 1000 - left


async def test_a_stop_ends_both_threads(keep: Any) -> None:
    async with keep() as kept:
        await kept.flush()
        assert {"history", "history-reader"} <= {each.name for each in threading.enumerate()}
        await kept.history.close(5.0)
        await kept.until(lambda: not {"history", "history-reader"} & {each.name for each in threading.enumerate()})


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


async def test_a_history_that_was_never_started_can_be_closed(tmp_path: Path) -> None:
    history = History(tmp_path, StoreSettings(), log=silent(), clock=time.monotonic, wall=time.time)
    await history.close(1.0)
    assert names(tmp_path) == []


async def test_reading_stops_no_write(kept: Any) -> None:
    for number in range(50):
        for minute in range(200):
            kept.success(f"acme/m@{number}", ago=60.0 * minute)
    await kept.flush()

    async def ask() -> int:
        asked = 0
        async with asyncio.timeout(20):
            while asked < 20:
                await kept.past(model="acme/m", span=3600, step=300)
                asked += 1
        return asked

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask())
        times, p99 = await kept.feed_until(asking.done)
    print(f"{times} outcomes beside 20 answers of 600 points: p99 {p99 * 1e6:.0f} µs")
    assert kept.history.errors == 0
    await kept.flush()
    assert await kept.counted() == 50 * 200 + times


def test_counting_costs_a_few_microseconds() -> None:
    outcomes = [Outcome(kind="success", latency=0.1 * each, prompt_tokens=100) for each in range(100)]
    best = float("inf")
    for _ in range(5):
        gathering = Gathering()
        began = time.perf_counter()
        for _ in range(20):
            for outcome in outcomes:
                gathering.outcome(A, outcome, source="report", wall=1_795_000_020.0)
        best = min(best, (time.perf_counter() - began) / 2000)
    print(f"{best * 1e6:.2f} µs an outcome")
    assert best < 2e-5


async def test_looking_at_the_file_again_and_again_keeps_no_files_open(kept: Any) -> None:
    async def some() -> int:
        for _ in range(20):
            kept.success()
            await kept.flush()
            await kept.counted()
        return len(names(Path("/proc/self/fd")))

    assert await some() == await some()


# ---- kill -9 --------------------------------------------------------------------------------------------------


def whole(path: Path) -> dict[int, int]:
    """Check the whole file; how many outcomes it has of each hour, by its number since 1970."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = dict(connection.execute("SELECT start / 60, sum(count) FROM hours GROUP BY 1"))
        (gone,) = connection.execute("SELECT count(*) FROM meta WHERE key LIKE '%_from'").fetchone()
        if not gone:
            assert counts == dict(connection.execute("SELECT start / 60, sum(count) FROM minutes GROUP BY 1"))
        return counts
    finally:
        connection.close()


@contextmanager
def feeder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(FEEDER), str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_and_kill(process: subprocess.Popen[str], turns: int, wait: float) -> tuple[int, int]:
    """Let it feed for some turns and a moment; how much it knew to be written, and had at the most fed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    line = ""
    for _ in range(turns):
        line = process.stdout.readline()
    time.sleep(wait)  # at random is the point
    os.kill(child, signal.SIGKILL)
    while (told := process.stdout.readline()) != "dead\n":
        line = told
    written, fed = line.split()
    return int(written), int(fed)


@pytest.mark.timeout(60 + 3 * KILLS)  # a slow disk may need a second for each
def test_a_killed_process_never_breaks_the_file_and_loses_at_most_what_was_not_flushed(tmp_path: Path) -> None:
    random = Random(7)
    path = tmp_path / "history.db"
    lost = total = 0
    with feeder(tmp_path) as process:
        for number in range(KILLS):
            written, fed = run_and_kill(process, random.randrange(1, 120), random.random() * 0.02)
            found = whole(path).get(FIRST_HOUR + number, 0) if path.exists() else 0
            assert written <= found <= fed
            lost += fed - found
            total += fed
    assert not list(tmp_path.glob("*.bad-*"))
    print(f"{KILLS} kills: {lost} of {total} outcomes lost, none of them flushed")
    assert total > lost > 0
