"""The state directory: one daemon's at a time, with one state file that is always a whole one.

Theory of operation: the lock is on the directory itself. It needs no file, so it holds on a full or a read-only
disk and nobody can delete it, and it ends with the process, however that ends. Everything is done relative to the
locked directory. Where the path leads to another one since (deleted, or a disk was mounted over it), `leads_here`
says so.

A file is written beside the old one, flushed, and put in its place at once: `rename` leaves no moment in which
neither is there. The directory is flushed too, or a power cut could bring back the old one. The name beside is
always the same, so a crash leaves one such file at most, which the next start removes. A file that cannot be taken
is not deleted, but renamed for somebody to look at; of those the newest few are kept.

What this module does not know: what the file says, and threads. All of it may block: call it where that may be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from balancer.store.frame import HEAD_MAX, SIZE_MAX, StateFileError

NAME: Final = "balancer.state"
BESIDE: Final = f"{NAME}.new"
BAD: Final = f"{NAME}.bad-"
BAD_MAX: Final = 3  # the first is the interesting one, and a fault that comes again shows by three
# Network filesystems that have no lock for what is open only for reading, or none at all.
_NO_LOCKS: Final = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class InUse(OSError):
    """Another daemon keeps its state in this directory."""


class Directory:
    """One directory. Every method may raise OSError, and block for as long as the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is ours."""
        return self._number is not None

    def open(self) -> None:
        """Make it where it is missing, lock it, and remove what a crash left half-written.

        Shape: only the last step of the path is made: a disk that is not mounted yet must not be written beside.
        Raises: InUse.
        """
        assert self._number is None
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        number = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            found = f"{self.path} is the state directory of a balancer that runs already"
            raise InUse(errno.EBUSY, f"{found}; stop that one, or give this one another state_dir") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(number)
                raise
        self._number = number
        with suppress(OSError):  # on a read-only disk it stays, and harms nobody
            os.unlink(BESIDE, dir_fd=number)

    def close(self) -> None:
        """Let another daemon have it."""
        if self._number is not None:
            number, self._number = self._number, None
            os.close(number)

    def leads_here(self) -> bool:
        """Whether the path still leads to the directory that was opened."""
        assert self._number is not None
        try:
            there = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        here = os.fstat(self._number)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def read(self) -> bytes | None:
        """The state file's content; `None` where there is none. Raises: StateFileError for what is no such file."""
        assert self._number is not None
        # Without O_NONBLOCK a pipe would make us wait for a writer that may never come.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            number = os.open(NAME, flags, dir_fd=self._number)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateFileError(f"it cannot be opened: {error.strerror}") from None
        try:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise StateFileError("it is no regular file")
            if found.st_size > SIZE_MAX + HEAD_MAX:
                raise StateFileError(f"it is longer than {SIZE_MAX} bytes")
            left = found.st_size + 1  # one more than there are, so that one which has grown since shows
            pieces: list[bytes] = []
            while left and (piece := os.read(number, left)):  # almost always all at once, and not in memory twice
                pieces.append(piece)
                left -= len(piece)
        except OSError as error:
            raise StateFileError(f"it cannot be read: {error.strerror}") from None
        finally:
            os.close(number)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Put a new state file in the place of the old one, which stays if anything goes wrong."""
        assert self._number is not None
        with suppress(FileNotFoundError):
            os.unlink(BESIDE, dir_fd=self._number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(BESIDE, flags, 0o600, dir_fd=self._number)
        try:
            try:
                for piece in pieces:
                    _write_all(number, piece)
                os.fsync(number)
            finally:
                os.close(number)
            os.rename(BESIDE, NAME, src_dir_fd=self._number, dst_dir_fd=self._number)
        except OSError:
            with suppress(OSError):
                os.unlink(BESIDE, dir_fd=self._number)  # on a full disk others want the room
            raise
        os.fsync(self._number)

    def set_aside(self, *, wall: float) -> str | None:
        """Give the state file another name, by the UTC time of now, and tell it; `None` where there is none."""
        assert self._number is not None
        name = f"{BAD}{_stamp(wall)}"
        try:
            os.rename(NAME, name, src_dir_fd=self._number, dst_dir_fd=self._number)
        except FileNotFoundError:
            return None
        listed = os.listdir(self._number)  # noqa: PTH208 - of the locked directory, wherever its path leads now
        others = sorted(each for each in listed if each.startswith(BAD) and each != name)
        for old in others[: len(others) + 1 - BAD_MAX]:
            with suppress(OSError):  # it may be a directory, of whoever made it
                os.unlink(old, dir_fd=self._number)
        os.fsync(self._number)
        return name


def _write_all(number: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(number, left) :]


def _stamp(wall: float) -> str:
    try:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    except (ValueError, OverflowError, OSError):  # a clock in the year 60000 is no reason to lose a file
        return f"{wall:.0f}"
