"""Which files make one configuration, and what they hold.

Theory of operation: beside `balancer.yaml` everything in `balancer.d` is read too, in the order of names, so that
teams own their files; or a directory is named itself, and then its files are the configuration. Hidden files are
left out, and with them what editors and Kubernetes keep beside the real ones.

Somebody may be at work while we read: Kubernetes swaps a whole directory, a deployment writes one file after
another. So the directory is looked at again afterwards, and read anew where it changed: what is taken was there at
one time. One that never rests is told, not guessed.

What a directory holds is read without anybody naming it. So it is refused where others may put files into it: who
can write there can have any key sent to any address.

What this module does not know: what is in a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from balancer.config.problems import Problems, shown

SIZE_MAX: Final = 16 * 1024**2  # bytes of all files: far above any real ones, far below what would fill the memory
FILES_MAX: Final = 1000  # of one directory: one for each of hundreds of teams, and each is opened at every reload
TRIES: Final = 5  # a swap takes a moment; what changes all the time is not meant to be read
SUFFIXES: Final = (".yaml", ".yml", ".json")
SCHEMA: Final = ".schema.json"  # what `balancer schema` prints, put beside the files for editors
DIRECTORY: Final = ".d"  # takes the place of the main file's suffix: balancer.yaml, balancer.d

_READABLE: Final = "use a file that can be read"

Stamp = tuple[int, int, int, int] | None
"""What is another once a file was written or replaced: device, number, both times; `None` where there is none."""


class Source(NamedTuple):
    """One file: the name that messages give it, and its text."""

    name: str
    text: str


@dataclass(slots=True)
class _Look:
    """One go at reading it all: what was found, what was wrong, and by what a change is noticed."""

    problems: Problems
    sources: list[Source] = field(default_factory=list)
    names: Sequence[str] | None = None
    stamps: dict[str, Stamp] = field(default_factory=dict)
    size: int = 0

    def rests(self, directory: Path) -> bool:
        """Whether all is still as it was read."""
        if _listed(directory) != self.names or not os.path.lexists(directory):
            return False
        return all(_stamp_of(name) == stamp for name, stamp in self.stamps.items())


def sources(path: Path, problems: Problems) -> Sequence[Source]:
    """Read a file and the directory beside it, or a directory's files; tell what cannot be read.

    Shape: in the order in which they count, the main file first. Without a directory it is one file.
    """
    for _ in range(TRIES):
        look = _Look(Problems(problems.file))
        directory = _look(path, look)
        if directory is None or look.rests(directory):
            problems.extend(look.problems)
            return look.sources
    found = "changes again and again while it is read"
    problems.add(None, (), found, "try again when it rests", file=str(directory))
    return ()


def folder(path: Path) -> Path:
    """Give the directory in which the relative paths of a configuration begin, whichever file they stand in."""
    return path if _is_directory(path) else path.parent


def _look(path: Path, look: _Look) -> Path | None:
    """Read everything once; the directory that was part of it, if one was."""
    if _is_directory(path):
        _directory(path, look)
        if not look.sources and not look.problems:
            found = f"holds no file that ends in {', '.join(SUFFIXES)}"
            look.problems.add(None, (), found, "put one there, or name a file")
        return path
    owner = _main(path, look)
    directory = path.with_suffix(DIRECTORY)
    if owner is None or directory == path or not os.path.lexists(directory):
        return None
    if not _is_directory(directory):
        look.problems.add(None, (), "not a directory", "rename it, or make it one", file=str(directory))
        return None
    with suppress(OSError):  # gone by now, which is noticed at the end
        if directory.stat().st_uid not in (0, os.geteuid(), owner):
            found = f"belongs neither to root, nor to us, nor to the owner of {path}"
            look.problems.add(None, (), found, "give it to one of them, or remove it", file=str(directory))
            return None
    _directory(directory, look)
    return directory


def _main(path: Path, look: _Look) -> int | None:
    """Read the file that was named; its owner, or `None` where it cannot be read."""
    try:
        number = _opened(path)
        try:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                look.problems.add(None, (), "not a regular file", _READABLE)
                return None
            with os.fdopen(number, "rb", closefd=False) as file:
                content = file.read(SIZE_MAX + 1)
        finally:
            os.close(number)
    except OSError as error:
        look.problems.add(None, (), _why(error), _READABLE)
        return None
    except ValueError:
        look.problems.add(None, (), "not a file's name", _READABLE)
        return None
    look.stamps[str(path)] = _stamp(status)
    _take(str(path), content, look)
    return status.st_uid


def _directory(directory: Path, look: _Look) -> None:
    """Read every file of a directory that counts."""
    try:
        look.names = names = _names(directory)
        guarded = _is_guarded(directory.stat().st_mode, os.statvfs(directory))
    except OSError as error:
        look.problems.add(None, (), _why(error), "use a directory that can be read", file=str(directory))
        return
    if not guarded:
        found = "everybody may write there, and have any key sent anywhere"
        look.problems.add(None, (), found, "take that right away: chmod o-w", file=str(directory))
        return
    if len(names) > FILES_MAX:
        look.problems.add(None, (), f"more than {FILES_MAX} files", "use fewer", file=str(directory))
        return
    for name in names:
        if look.size <= SIZE_MAX:
            _fragment(directory / name, look)


def _listed(directory: Path) -> list[str] | None:
    try:
        return _names(directory)
    except OSError:
        return None


def _names(directory: Path) -> list[str]:
    """List what counts, in order: no further than one more than are allowed."""
    names: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if _counts(entry.name):
                names.append(entry.name)
            if len(names) > FILES_MAX:
                break
    return sorted(names)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.endswith(SUFFIXES) and not name.endswith(SCHEMA)


def _fragment(path: Path, look: _Look) -> None:
    """Read one file of a directory, which must be a plain one: nobody named it."""
    name = str(path)
    if not name.isprintable():
        allowed = "rename it, with letters, digits, - and _"
        look.problems.add(None, (), "a name that does not print", allowed, file=shown(name))
        return
    look.stamps[name] = _stamp_of(name)  # before it is opened: one that is replaced meanwhile shows at the end
    try:
        number = _opened(path)
        try:
            fault = _fault(number)
            if fault is None:
                with os.fdopen(number, "rb", closefd=False) as file:
                    _take(name, file.read(SIZE_MAX - look.size + 1), look)
            else:
                look.problems.add(None, (), *fault, file=name)
        finally:
            os.close(number)
    except OSError as error:
        look.problems.add(None, (), _why(error), "make it readable, or remove it", file=name)


def _opened(path: Path) -> int:
    # Without O_NONBLOCK a pipe would make a reload wait for a writer that may never come.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _fault(number: int) -> tuple[str, str] | None:
    """Say why an open file is not read, and what is allowed."""
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        return "not a regular file", "use a file, or another name"
    if not _is_guarded(mode, os.fstatvfs(number)):
        return "everybody may write it, and have any key sent anywhere", "take that right away: chmod o-w"
    return None


def _take(name: str, content: bytes, look: _Look) -> None:
    """Keep a file's text, if it is one and there is room for it."""
    alone = look.size == 0
    look.size += len(content)
    if look.size > SIZE_MAX:
        most = f"{SIZE_MAX // 1024**2} MiB"
        found, allowed = f"longer than {most}", "use a shorter file"
        if not alone:
            found, allowed = f"longer than {most} together with the files before it", "use shorter files"
        look.problems.add(None, (), found, allowed, file=name)
        return
    try:
        look.sources.append(Source(name, content.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        look.problems.add(line, (), "not UTF-8", "save the file as UTF-8", file=name)


def _is_guarded(mode: int, place: os.statvfs_result) -> bool:
    """Whether others are kept from writing; Kubernetes mounts its directories for all to write, but read-only."""
    return not mode & stat.S_IWOTH or bool(place.f_flag & os.ST_RDONLY)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # which is told when it is read
        return False


def _stamp_of(name: str) -> Stamp:
    try:
        return _stamp(Path(name).stat())
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _why(error: OSError) -> str:
    return "cannot be read" if error.strerror is None else error.strerror
