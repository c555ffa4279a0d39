"""Whatever happens to the disk: counting never waits, what is lost is counted, and it ends by itself.

`LOCK_SECONDS=30 pytest tests/store/history/test_keeper.py -k locked -s` holds the lock for as long as you like.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from balancer.config import StoreSettings
from balancer.core.history import HistoryAbsent

LOCK_SECONDS = float(os.environ.get("LOCK_SECONDS", "1.5"))
QUICK = 0.001  # s that one outcome may take; a hundred times what it takes, and nothing beside a disk

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
_SPOIL = """
import os, sys
with open(sys.argv[1], "r+b") as file:
    file.write(os.urandom(os.path.getsize(sys.argv[1])))
"""


@contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Another process that has the database for itself, until it is let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process.stdin.close
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def spoil(path: Path) -> None:
    """Write over a file from another process: to close it in ours would drop SQLite's locks."""
    subprocess.run([sys.executable, "-c", _SPOIL, str(path)], check=True)


def bad(kept: Any) -> list[str]:
    return sorted(each.name for each in kept.directory.glob("history.db.bad-*") if each.suffix[:4] == ".bad")


async def fed(kept: Any, times: int = 100) -> None:
    kept.success(times=times)
    await kept.flush()


# ---- locked ---------------------------------------------------------------------------------------------------


async def test_a_database_that_another_process_has_locked_costs_nothing_but_time(kept: Any) -> None:
    await fed(kept)
    with locked(kept.path) as let_go:
        asyncio.get_running_loop().call_later(LOCK_SECONDS, let_go)
        times, p99 = await kept.feed_until(
            lambda: bool(kept.lines.of("store.recovered")), patience=LOCK_SECONDS + 30
        )
    print(f"{times} outcomes in {LOCK_SECONDS} s of a lock: p99 {p99 * 1e6:.1f} µs, {kept.history.errors} tries")
    assert p99 < QUICK
    await kept.flush()
    assert await kept.counted() == 100 + times
    assert kept.history.dropped == 0
    assert kept.history.errors > 0
    (failed,) = kept.lines.of("store.failed")
    (recovered,) = kept.lines.of("store.recovered")
    assert failed == {"store": "history", "reason": "OperationalError: database is locked"}
    assert (recovered["dropped"], "set_aside" in recovered) == (0, False)
    assert recovered["after"] > LOCK_SECONDS / 2


async def test_the_past_can_be_read_while_nothing_can_be_written(kept: Any) -> None:
    await fed(kept)
    with locked(kept.path):
        kept.success()
        kept.tick()
        await kept.until(lambda: kept.lines.of("store.failed"))
        assert await kept.counted() == 100


async def test_what_waits_for_too_long_is_dropped_oldest_first_and_counted(keep: Any) -> None:
    async with keep(rows_max=20, moments_max=10) as kept:
        await fed(kept)
        with locked(kept.path):
            for _ in range(100):  # a minute of 5 s ticks is twelve of them
                kept.success(times=7)
                kept.tick(30.0)
            assert kept.history.dropped > 100
            await kept.until(lambda: kept.lines.of("store.failed"))
        kept.tick()
        await kept.until(lambda: kept.lines.of("store.recovered"))
        await kept.flush()
        assert await kept.counted() + kept.history.dropped == 100 + 700
        (recovered,) = kept.lines.of("store.recovered")
        assert recovered["dropped"] == kept.history.dropped


async def test_a_lock_keeps_nobody_from_stopping(keep: Any) -> None:
    async with keep() as kept:
        await fed(kept)
        with locked(kept.path):
            kept.success(times=30)
            kept.tick()
            await kept.until(lambda: kept.lines.of("store.failed"))
            kept.success(times=12)
            async with asyncio.timeout(2.0):
                await kept.history.close(0.5)
        assert kept.history.dropped == 42
        assert kept.lines.of("store.failed")[-1] == {
            "store": "history", "reason": "not written within 0.5 s of the stop", "dropped": 42,
        }  # fmt: skip


async def test_a_lock_that_is_gone_in_time_loses_nothing_at_the_end(keep: Any) -> None:
    async with keep() as kept:
        await fed(kept)
        with locked(kept.path) as let_go:
            kept.success(times=30)
            asyncio.get_running_loop().call_later(0.4, let_go)
            await kept.history.close(10.0)
        assert kept.history.dropped == 0
    assert total(kept.path) == 130


def total(path: Path) -> int:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT sum(count) FROM minutes").fetchone()[0]
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return int(found)


# ---- a reader that goes on and on -------------------------------------------------------------------------------


async def test_a_reader_that_holds_the_log_is_said_and_keeps_the_files_below_their_size(keep: Any) -> None:
    size_max = 1_500_000
    async with keep(StoreSettings(max_size=size_max)) as kept:
        await fed(kept)
        reader = sqlite3.connect(kept.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM minutes").fetchone()
        for minute in range(240):  # as many as memory holds, in one batch
            for number in range(200):
                kept.success(f"acme/m@{number}", ago=60.0 * minute)
        kept.tick()
        async with asyncio.timeout(30):
            while kept.history.dropped == 0:
                for number in range(200):
                    kept.success(f"acme/m@{number}")
                kept.tick(60.0)
                await asyncio.sleep(0.005)
        await kept.until(lambda: kept.lines.of("store.failed"))
        assert "somebody reads history.db and holds history.db-wal" in kept.lines.of("store.failed")[0]["reason"]
        assert sum(each.stat().st_size for each in kept.directory.glob("history.db*")) <= size_max
        reader.execute("COMMIT")
        reader.close()
        await kept.until(lambda: kept.lines.of("store.recovered"))
        assert kept.lines.of("store.recovered")[0]["dropped"] > 0


# ---- files that change under us -------------------------------------------------------------------------------


async def test_garbage_over_an_open_file_is_set_aside_and_the_past_begins_anew(kept: Any) -> None:
    await fed(kept)
    checkpoint(kept.path)
    await fed(kept)  # what is in the memory of SQLite is good
    spoil(kept.path)
    times, p99 = await kept.feed_until(lambda: bool(kept.lines.of("store.recovered")))
    assert p99 < QUICK
    await kept.flush()
    assert await kept.counted() == times
    assert kept.history.dropped == 0
    (name,) = bad(kept)
    (failed,) = kept.lines.of("store.failed")
    (recovered,) = kept.lines.of("store.recovered")
    assert "not a database" in failed["reason"] or "malformed" in failed["reason"]
    assert recovered["set_aside"] == name


async def test_garbage_over_a_file_whose_log_holds_everything_does_no_harm(kept: Any) -> None:
    await fed(kept)
    spoil(kept.path)
    await fed(kept)
    assert kept.lines.lines == []
    await kept.history.close(2.0)
    assert total(kept.path) == 200


async def test_garbage_at_the_start_is_set_aside_too(keep: Any, tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"garbage" * 5000)
    async with keep() as kept:
        await fed(kept)
        assert await kept.counted() == 100
        (name,) = bad(kept)
        assert (tmp_path / name).read_bytes() == b"garbage" * 5000


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("side", ["", "-wal"])
async def test_what_is_no_regular_file_is_set_aside_and_never_opened(
    keep: Any, tmp_path: Path, make: Callable[[Path], None], side: str
) -> None:
    make(tmp_path / f"history.db{side}")
    async with keep() as kept:
        await fed(kept)
        assert await kept.counted() == 100
        await kept.until(lambda: kept.lines.of("store.recovered"))  # told after what it waited for is written
        (failed,) = kept.lines.of("store.failed")
        assert failed["reason"] == f"history.db{side} is no regular file"
        (recovered,) = kept.lines.of("store.recovered")
        found = tmp_path / f"{recovered['set_aside']}{side}"
        assert (found.exists(), found.is_file()) == (True, False)


async def test_a_pipe_in_the_place_of_an_open_file_holds_up_neither_writer_nor_reader(kept: Any) -> None:
    await fed(kept)
    kept.path.unlink()
    os.mkfifo(kept.path)
    with suppress(HistoryAbsent):  # whoever is first
        await kept.counted()
    times, _ = await kept.feed_until(lambda: bool(kept.lines.of("store.recovered")))
    await kept.flush()
    assert await kept.counted() == times
    assert any(kept.path.with_name(name).is_fifo() for name in bad(kept))


async def test_a_link_to_a_file_on_another_disk_is_followed_and_one_to_a_pipe_is_set_aside(
    keep: Any, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    link = tmp_path / "state" / "history.db"
    link.symlink_to(tmp_path / "elsewhere")
    async with keep(directory=tmp_path / "state") as kept:
        await fed(kept)
        assert (await kept.counted(), kept.lines.lines) == (100, [])
    link.unlink()
    os.mkfifo(tmp_path / "pipe")
    link.symlink_to(tmp_path / "pipe")
    async with keep(directory=tmp_path / "state") as kept:
        await fed(kept)
        assert (await kept.counted(), len(bad(kept))) == (100, 1)


async def test_a_break_in_the_middle_that_only_a_reader_meets_is_set_aside(kept: Any) -> None:
    for number in range(3000):
        kept.success(f"acme/m@{number}", ago=60.0 * (number % 50))
    await kept.flush()
    await kept.until(lambda: kept.history.idle)
    checkpoint(kept.path)
    head = kept.path.read_bytes()[:8192]
    spoil(kept.path)
    put(kept.path, head)
    with pytest.raises(HistoryAbsent, match="malformed"):
        await kept.counted()
    await kept.feed_until(lambda: bool(kept.lines.of("store.recovered")))
    assert len(bad(kept)) == 1


def checkpoint(path: Path) -> None:
    """Copy the log into the database, as SQLite does by itself every few megabytes."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    connection.close()


def put(path: Path, head: bytes) -> None:
    script = "import sys; open(sys.argv[1], 'r+b').write(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", script, str(path)], input=head, check=True)


@pytest.mark.parametrize("sides", [("",), ("-wal",), ("-shm",), ("", "-wal", "-shm"), ("-wal", "-shm")])
async def test_files_that_are_deleted_under_us_are_made_again(kept: Any, sides: tuple[str, ...]) -> None:
    await fed(kept)
    for side in sides:
        kept.path.with_name("history.db" + side).unlink()
    times, _ = await kept.feed_until(lambda: bool(kept.lines.of("store.recovered")))
    await kept.flush()
    assert await kept.counted() == (times if "" in sides else 100 + times)
    await kept.history.close(2.0)
    assert total(kept.path) == (times if "" in sides else 100 + times)


async def test_what_is_made_is_for_nobody_else_and_only_where_a_disk_is(keep: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    async with keep(directory=tmp_path / "disk" / "state") as kept:
        await fed(kept)
        shutil.rmtree(tmp_path / "disk")  # as a disk that is not mounted any more
        await kept.feed_until(lambda: kept.history.errors > 2)
        assert not (tmp_path / "disk").exists()
        (tmp_path / "disk").mkdir()
        await kept.until(lambda: kept.lines.of("store.recovered"))
        await fed(kept)
        modes = {each.name: oct(each.stat().st_mode & 0o777) for each in kept.directory.iterdir()}
        assert modes == dict.fromkeys(("history.db", "history.db-wal", "history.db-shm"), "0o600")
        assert oct(kept.directory.stat().st_mode & 0o777) == "0o700"


async def test_a_backup_that_is_put_back_under_us_is_gone_on_with(kept: Any, tmp_path: Path) -> None:
    await fed(kept, 40)
    backup = tmp_path / "backup"
    with sqlite3.connect(kept.path) as connection, sqlite3.connect(backup) as copy:
        connection.backup(copy)
    connection.close()
    copy.close()
    await fed(kept, 500)
    backup.rename(kept.path)
    times, _ = await kept.feed_until(lambda: bool(kept.lines.of("store.recovered")))
    await kept.flush()
    assert await kept.counted() == 40 + times
    assert [name[-4:] for name in bad(kept)] == ["-shm", "-wal"]  # they were not played into the backup


async def test_a_file_of_a_later_version_is_left_alone_and_said(keep: Any, tmp_path: Path) -> None:
    async with keep() as kept:
        await fed(kept)
    with sqlite3.connect(kept.path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = kept.path.read_bytes()
    for times in (30, 60):  # the file beside it is gone on with
        async with keep() as kept:
            await fed(kept, 30)
            assert await kept.counted() == times
            (said,) = kept.lines.of("store.left_alone")
            assert said == {"store": "history", "found": "history.db is of version 7", "kept": "history.v1.db"}
    assert (tmp_path / "history.db").read_bytes() == before


async def test_a_disk_that_breaks_every_file_is_not_filled_with_them(keep: Any, tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"history.db.bad-{number}").touch()
    (tmp_path / "history.db").write_bytes(b"garbage" * 5000)
    async with keep() as kept:
        await kept.feed_until(lambda: kept.history.errors > 2)
        first, then = (each["reason"] for each in kept.lines.of("store.failed"))
        assert ("not a database" in first, "10 files were set aside already" in then) == (True, True)
        with pytest.raises(HistoryAbsent, match="10 files were set aside already"):
            await kept.counted()
        (tmp_path / "history.db.bad-3").unlink()
        await kept.until(lambda: kept.lines.of("store.recovered"))


# ---- no room, no right ------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    how = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    made = subprocess.run(how, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a file system of its own cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


async def test_a_disk_that_others_fill_costs_nothing_once_it_has_room_again(keep: Any, small: Path) -> None:
    async with keep(directory=small / "state") as kept:
        await fed(kept)
        filler = fill(small)
        for number in range(400):
            kept.success(f"acme/m@{number}")
        times, p99 = await kept.feed_until(lambda: bool(kept.lines.of("store.failed")))
        assert p99 < QUICK
        filler.unlink()
        more, _ = await kept.feed_until(lambda: bool(kept.lines.of("store.recovered")))
        await kept.flush()
        assert await kept.counted() == 500 + times + more
        assert kept.history.dropped == 0
        (failed,) = kept.lines.of("store.failed")
        assert failed["reason"] == "OperationalError: database or disk is full"
        assert bad(kept) == []


async def test_a_disk_that_has_less_room_than_the_history_may_take_is_as_good_as_a_smaller_size(
    keep: Any, small: Path
) -> None:
    async with keep(StoreSettings(max_size=10**9), directory=small / "state") as kept:
        for hour in range(26):
            for minute in range(0, 60, 4):
                for number in range(150):
                    kept.success(f"acme/m@{number}", ago=-3600.0 * hour - 60.0 * minute)
            await kept.flush()
        await kept.prune()
        assert kept.lines.lines == []
        assert kept.history.dropped == 0
        assert (await kept.past()).minutes_from is not None  # the oldest gave way
    assert total(kept.path) > 0


async def test_a_disk_that_is_read_only_is_waited_for(keep: Any, small: Path) -> None:
    remount(small, "ro")
    async with keep(directory=small / "state") as kept:
        times, p99 = await kept.feed_until(lambda: kept.history.errors > 2)
        assert p99 < QUICK
        with pytest.raises(HistoryAbsent, match="Read-only file system"):
            await kept.counted()
        remount(small, "rw")
        await kept.until(lambda: kept.lines.of("store.recovered"))
        await kept.flush()
        assert await kept.counted() == times
        assert len(kept.lines.of("store.failed")) == 1


# ---- a disk that hangs, and errors of ours -----------------------------------------------------------------------


class Refusing:
    """A disk that refuses for two reasons that take turns, until it is let."""

    def __init__(self) -> None:
        self.well = False
        self.reasons = cycle(["disk I/O error", "unable to open database file"])

    def connect(self, *place: Any, **how: Any) -> sqlite3.Connection:
        if self.well:
            return sqlite3.connect(*place, **how)
        raise sqlite3.OperationalError(next(self.reasons))


async def test_each_reason_is_told_once_until_it_is_over(keep: Any) -> None:
    disk = Refusing()
    async with keep(connect=disk.connect) as kept:
        for expected in (1, 2):
            disk.well = False
            before = kept.history.errors
            if expected == 2:
                kept.success()
                kept.tick()
            await kept.until(lambda before=before: kept.history.errors >= before + 4)
            assert kept.history.trouble is not None
            disk.well = True
            await kept.until(lambda expected=expected: len(kept.lines.of("store.recovered")) == expected)
            assert kept.history.trouble is None
        reasons = [each["reason"].removeprefix("OperationalError: ") for each in kept.lines.of("store.failed")]
        assert sorted(reasons) == ["disk I/O error"] * 2 + ["unable to open database file"] * 2


class Gate:
    """A disk that answers only when it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def connect(self, *place: Any, **how: Any) -> sqlite3.Connection:
        if not self.open.is_set():
            self.reached.set()
        self.open.wait(20)
        return sqlite3.connect(*place, **how)


async def test_a_disk_that_hangs_is_told_and_keeps_nobody_from_stopping(keep: Any) -> None:
    gate = Gate()
    async with keep(connect=gate.connect) as kept:
        await fed(kept)
        gate.open.clear()
        kept.success(times=20)
        kept.tick()
        kept.success(times=3)
        await asyncio.to_thread(gate.reached.wait, 20)
        assert (kept.history.errors, kept.history.trouble) == (0, None)
        kept.ahead = 31.0
        await kept.until(lambda: kept.lines.of("store.failed"))
        trouble = "the history is not written: the disk gave no answer within 30 s"
        assert (kept.history.errors, kept.history.trouble) == (1, trouble)
        assert kept.lines.of("store.failed") == [
            {"store": "history", "reason": "the disk gave no answer within 30 s"}
        ]
        kept.ahead = 61.0
        kept.tick()
        assert (kept.history.errors, len(kept.lines.of("store.failed"))) == (
            2,
            1,
        )  # an alert looks at the last minutes
        gate.open.set()
        await kept.until(lambda: kept.lines.of("store.recovered"))
        assert kept.history.trouble is None
        kept.ahead = 61.0
        await kept.flush()
        assert await kept.counted() == 123
        gate.open.clear()
        kept.success(times=5)
        async with asyncio.timeout(3.0):
            await kept.history.close(0.2)
        assert kept.history.dropped == 5
        gate.open.set()


class Poison:
    """A name that SQLite cannot take."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 7

    def __lt__(self, other: object) -> bool:
        return False


async def test_an_error_of_ours_costs_a_batch_and_not_the_history(kept: Any) -> None:
    await fed(kept)
    kept.success(Poison(), times=4)
    kept.tick()
    await kept.until(lambda: kept.lines.of("store.recovered"))
    assert kept.history.dropped == 4
    await fed(kept)
    assert await kept.counted() == 200
