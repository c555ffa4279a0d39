"""A small disk of one's own, and what can befall it while a daemon keeps its state there.

Theory of operation: the disk is a tmpfs, which root may mount. It is mounted at two places, because Linux makes no
disk read-only on which a file is open for writing: another one, empty and read-only, is mounted over that place
which the daemon knows; the daemon finds its files gone and closes them; then the disk itself is made read-only
through the other place, and uncovered.

A database that is to be lost is looked into first, under SQLite's own lock, so that it is known what was lost.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

MEGABYTE = 1024**2
CHUNK = 4096  # bytes; a page of the memory that a tmpfs is made of
LET_GO = 30.0  # s until a daemon has closed what is covered; it looks every five
STATE, HISTORY = "balancer.state", "history.db"

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
# It lets nobody write between its count and the loss; a log with something in it would be played over the garbage.
_LOSE = """
import os, shutil, sqlite3, sys
how, database, state = sys.argv[1:]
connection = sqlite3.connect(database, isolation_level=None, timeout=30)
while True:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    if os.path.getsize(database + "-wal") == 0:
        break
    connection.execute("ROLLBACK")
(count,) = connection.execute("SELECT coalesce(sum(count), 0) FROM told WHERE source = 'report'").fetchone()
if how == "delete":
    shutil.rmtree(os.path.dirname(database))
else:
    for path in (database, state):
        with open(path, "r+b") as file:
            file.write(os.urandom(os.path.getsize(path)))
print(count, flush=True)
os._exit(0)  # nothing more is to be written
"""


class NoDisk(Exception):
    """No disk can be mounted here; the words say why."""


def _mount(*how: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, how)], capture_output=True, text=True)
    if done.returncode != 0:
        raise NoDisk(f"a disk cannot be mounted here: {done.stderr.strip().splitlines()[0]}")


class SmallDisk:
    """A disk of `size` bytes; `state` is a directory on it that is still to be made. Raises: NoDisk."""

    def __init__(self, folder: Path, *, size: int) -> None:
        self._elsewhere = folder / "elsewhere"
        self._place = folder / "disk"
        self._elsewhere.mkdir(parents=True)
        self._place.mkdir()
        self._mounted: list[Path] = []
        try:
            self._put(self._elsewhere, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
            self._put(self._place, "--bind", self._elsewhere)
        except NoDisk:
            self.close()
            raise
        self.state = self._place / "state"
        self.database = self.state / HISTORY
        self._filler = self._place / "filler"

    def close(self) -> None:
        """Take it away, whoever still uses it."""
        while self._mounted:
            subprocess.run(["umount", "--lazy", str(self._mounted.pop())], check=True, capture_output=True)

    def fill(self) -> None:
        """Take all the room that there is."""
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(CHUNK))

    def empty(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def cover(self) -> None:
        """Mount another disk over it, empty and read-only."""
        self._put(self._place, "-t", "tmpfs", "-o", "ro,size=16k", "tmpfs")

    def uncover(self) -> None:
        """Take that one away."""
        subprocess.run(["umount", "--lazy", str(self._mounted.pop())], check=True, capture_output=True)

    def make_read_only(self) -> None:
        """Allow nobody to write, as soon as nobody does."""
        end = time.monotonic() + LET_GO
        while True:
            try:
                return _mount("-o", "remount,ro", self._elsewhere)
            except NoDisk:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)

    def make_writable(self) -> None:
        """Allow it again."""
        _mount("-o", "remount,rw", self._elsewhere)

    def _put(self, place: Path, *how: str | Path) -> None:
        _mount(*how, place)
        self._mounted.append(place)


class Trouble:
    """Something that befalls a disk: `begin`, and `end`, which may both take seconds.

    `tells` has the stores whose log lines say so, `may_tell` those that are met by it now and then; `lost` is how
    many reports were in a history that was lost.
    """

    tells: frozenset[str] = frozenset({"state", "history"})
    may_tell: frozenset[str] = frozenset()

    def __init__(self, disk: SmallDisk) -> None:
        self.disk = disk
        self.lost = 0

    def begin(self) -> None:
        """Make it happen."""

    def end(self) -> None:
        """Undo it."""


class Nothing(Trouble):
    """Nothing, to compare with."""

    tells = frozenset()


class Full(Trouble):
    """Somebody else takes all the room."""

    def begin(self) -> None:
        """Fill the disk."""
        self.disk.fill()

    def end(self) -> None:
        """Make room."""
        self.disk.empty()


class ReadOnly(Trouble):
    """The disk allows no more writing."""

    def begin(self) -> None:
        """Wait until nobody writes there, and forbid it."""
        self.disk.cover()
        try:
            self.disk.make_read_only()
        finally:
            self.disk.uncover()

    def end(self) -> None:
        """Allow it."""
        self.disk.make_writable()


class Locked(Trouble):
    """Another process has the database for itself."""

    tells = frozenset({"history"})

    def begin(self) -> None:
        """Start that process."""
        argv = [sys.executable, "-c", _HOLD, str(self.disk.database)]
        self._holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "held\n"

    def end(self) -> None:
        """End it."""
        self._holder.communicate(timeout=30)


class Garbage(Trouble):
    """Both files are written over, while they are open."""

    tells = frozenset({"history"})  # the next state file takes the place of the spoilt one, which nobody reads
    how = "spoil"

    def begin(self) -> None:
        """Lose what is in the database."""
        argv = [sys.executable, "-c", _LOSE, self.how, self.disk.database, self.disk.state / STATE]
        self.lost = int(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)


class Deleted(Garbage):
    """The whole directory is removed."""

    may_tell = frozenset({"state"})  # a save that was just being written has failed then; the next makes it anew
    how = "delete"
