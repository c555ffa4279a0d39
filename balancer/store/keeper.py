"""Keeps the table's state in a file: taken back at the start, saved again and again, and at the end.

Theory of operation: `open` locks the directory and takes back what is there, before anything is decided. `run`
saves every `interval`, and soon after `save_soon`. `close` saves what there is at the end.

A save has two halves. First the parts are told and encoded in the loop, in slices of a millisecond with pauses in
which decisions are made. Why not in a thread: that work holds the interpreter, so the loop would wait for it in
steps of the interpreter's 5 ms and not of ours. Then the bytes go to a thread, which digests, writes and flushes
them; all of these let the loop run. A table so large that telling it takes long is saved less often.

To take a state back has two halves likewise: the thread reads it and looks at its checksum, and the loop decodes,
judges and takes it in slices. At the start nobody waits for them. A disk that comes late is taken back beside
decisions, and until that is done nothing is saved over it. How long the second half takes is bounded by the size,
so only what the thread does, reading and setting a bad file aside, can be a disk that hangs; the start waits for
neither without a limit.

What can go wrong with a disk, and what follows:

| it is | then |
|---|---|
| missing, read-only, full, forbidden | we run without; said once, counted each time, tried again every interval |
| there again | what it holds is taken back then: the table's own evidence is newer and stays |
| hanging | no other save is begun; the loop does not notice, and `close` waits no longer than it is told |
| holding what is no whole state file of ours, or what the table refuses | it is set aside under another name |
| used by another daemon at the start | `open` raises: two tables in one file would overwrite each other's drains |

What this module does not know: what is kept, and how the file looks.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, TypeVar

from balancer.service.log import Log
from balancer.service.worker import Worker
from balancer.store.directory import NAME, Directory, InUse
from balancer.store.frame import (
    PART_MAX,
    SIZE_MAX,
    Away,
    Header,
    Lines,
    StateFileError,
    away,
    encoded,
    head,
    judged,
)

SLICE: Final = 0.001  # s that a decision may wait for us; some parts take a third of it
PAUSE: Final = 0.002  # s for whoever waits, so that one request meets one slice and not one at each of its steps
SHARE: Final = 0.1  # of the loop's time that telling may take: beyond it saves are fewer
SOON: Final = 0.2  # s; who drains one endpoint often drains ten
HANG: Final = 10.0  # s; the slowest healthy disk flushes a large file in two or three
REASON_MAX: Final = 300  # letters of a reason in the log, some of which come out of the file
REASONS_MAX: Final = 10  # that are told of one trouble: there may be a number in them, and no two the same

Parts = Iterable[tuple[str, Mapping[str, Any]]]
"""What is kept, bit by bit, each with the name of its section."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a directory held; `refused` says why it cannot be taken."""

    header: Header | None = None
    lines: Lines | None = None
    size: int = 0
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Taking:
    """A state that is being taken back: what is left to do, and what will be said of it."""

    steps: Iterator[None]
    passed: Away
    size: int
    began: float


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make many objects that all stay: Python would look through them again and again for some that do not."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Keeper:
    """Keeps one state file: `dump(now)` tells the parts, and `take(parts, now, away)` takes them back.

    `take` does that step by step, while somebody iterates, and may read the parts more than once. It raises
    ValueError for what it refuses, and has changed nothing then. `errors` counts the saves and
    readings that failed, `saved` is the Unix time of what was saved last. `boot` names the machine's last start,
    from which `clock` counts; `None` where nobody knows. Units: seconds.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        interval: float,
        dump: Callable[[float], Parts],
        take: Callable[[Parts, float, float], Iterable[None]],
        clock: Callable[[], float],
        wall: Callable[[], float],
        boot: str | None,
        log: Log,
        size_max: int = SIZE_MAX,
    ) -> None:
        self.errors = 0
        self.saved: float | None = None
        self._directory = directory
        self._dump = dump
        self._take = take
        self._clock = clock
        self._wall = wall
        self._boot = boot
        self._log = log
        self._size_max = size_max
        self._worker = Worker("state")
        self._writer = token_hex(8)  # what we wrote ourselves is not taken back
        self._opening: asyncio.Future[_Found] | None = None
        self._aside: asyncio.Future[str | None] | None = None
        self._taking: _Taking | None = None
        self._ready = False  # what was there is taken back, so that it may be replaced
        self._read_once = False  # it was ready; the directory may have gone since, and memory has all of it
        self._unwanted: str | None = None  # why the file that is there has to be set aside first
        self._failing: str | None = None
        self._said: set[str] = set()  # reasons of this trouble
        self._interval = interval
        self._soon = False
        self._woken = asyncio.Event()  # how long to wait has changed
        self._told = 0.0  # s that the loop spent on the last dump

    # ---- what the daemon calls -----------------------------------------------------------------------

    @property
    def interval(self) -> float:
        """How long after one save the next begins; a new one holds for the wait under way too."""
        return self._interval

    @interval.setter
    def interval(self, interval: float) -> None:
        if interval != self._interval:
            self._interval = interval
            self._woken.set()

    @property
    def trouble(self) -> str | None:
        """What is wrong at present, and why; `None` while all is well."""
        if self._failing is None:
            return None
        what = "the state is not saved" if self._read_once else "the saved state is not read yet"
        return f"{what}: {self._failing}"

    async def open(self, *, patience: float = HANG) -> None:
        """Lock the directory and take back what it holds; after `patience` we go on without, and `run` does it.

        Shape: the disk has that long to give its file, and as long again to set aside one that cannot be taken; to
        take it back needs what it needs.
        Raises: InUse.
        """
        try:
            await self._open(patience, hurried=True)
        except InUse:
            raise
        except OSError as error:
            self._fail(error)

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await self._due()
            await self.save_now()

    async def _due(self) -> None:
        began = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            while not self._soon:
                self._woken.clear()
                async with asyncio.timeout_at(began + max(self._interval, self._told / SHARE)):
                    await self._woken.wait()
            await asyncio.sleep(SOON)
        self._soon = False

    def save_soon(self) -> None:
        """Do not wait for the interval: the operator said something that no crash may take back."""
        self._soon = True
        self._woken.set()

    async def save_now(self, *, hurried: bool = False) -> bool:
        """Save once, and tell whether that was done. `hurried` is for the end, when nobody waits for decisions."""
        try:
            if self._aside is not None:
                await self._clear_the_way(None)
            if self._opening is None:
                await self._worker.idle()  # of a save that was cancelled
            if self._ready and not await self._do(self._directory.leads_here):
                self._directory.close()
                self._ready = False
            if not self._ready:
                await self._open(None, hurried=hurried)
            await self._save(hurried)
        except OSError as error:
            self._fail(error)
            return False
        return True

    async def close(self, *, patience: float) -> bool:
        """Save for the last time and let the directory go; false if that could not be done within `patience`.

        Shape: call it when `run` has ended, and neither probes nor requests change anything any more.
        """
        done = False
        if self._ready or self._taking is not None:
            try:
                async with asyncio.timeout(patience):
                    done = await self.save_now(hurried=True)
            except TimeoutError:
                self._fail(OSError(None, f"not saved within {patience:g} s"))
        if not self._worker.busy:  # a job that hangs goes on with its number, which must not become another file's
            self._directory.close()
        self._ready = False
        return done

    # ---- opening -------------------------------------------------------------------------------------

    async def _open(self, patience: float | None, *, hurried: bool) -> None:
        """Read what is there and take it. Raises: OSError; `_ready` says whether what is there was dealt with."""
        if self._taking is None:
            self._begin_to_take(await self._found(patience))
        if self._taking is not None:  # perhaps for some time already: who waited was cancelled, and nothing is lost
            await self._take_back(self._taking, hurried)
            self._taking = None
        self._ready = self._read_once = True
        await self._clear_the_way(patience)

    async def _found(self, patience: float | None) -> _Found:
        if self._opening is None:
            self._opening = self._worker.start(self._read)
        try:
            return await self._waited(self._opening, patience)
        finally:
            if self._opening.done():  # else it goes on, and is waited for again
                self._opening = None

    def _read(self) -> _Found:
        """The whole of reading, in the thread."""
        directory = self._directory
        if not directory.is_open:
            directory.open()
        try:
            data = directory.read()
            if data is None:
                return _Found()
            header, lines = judged(data)
        except StateFileError as refusal:
            return _Found(refused=str(refusal))
        return _Found(header, lines, len(data))

    def _begin_to_take(self, found: _Found) -> None:
        if found.refused is not None:
            self._unwanted = found.refused
        elif found.header is not None and found.lines is not None and found.header.writer != self._writer:
            now, wall = self._clock(), self._wall()
            passed = away(found.header, wall=wall, moment=now, boot=self._boot)
            steps = iter(self._take(found.lines, now, passed.seconds))
            self._taking = _Taking(steps, passed, found.size, now)

    async def _take_back(self, taking: _Taking, hurried: bool) -> None:
        passed = taking.passed
        try:
            with _uncollected():
                since = self._clock()
                for _ in taking.steps:
                    if self._clock() - since >= SLICE:
                        await asyncio.sleep(0 if hurried else PAUSE)
                        since = self._clock()
        except ValueError as refusal:
            self._unwanted = str(refusal)
            return
        facts = {"store": "state", "file": self._name, "size": taking.size, "away": round(passed.seconds, 3)}
        facts["took"] = round(self._clock() - taking.began, 3)
        if passed.odd is None:
            self._log.info("store.restored", **facts)
        else:
            self._log.warning("store.restored", **facts, clock=passed.odd)

    async def _clear_the_way(self, patience: float | None) -> None:
        """Set aside what cannot be taken. Raises: OSError, and it is tried again before the next save."""
        if self._unwanted is None:
            return
        if self._aside is None:
            wall = self._wall()
            self._aside = self._worker.start(lambda: self._directory.set_aside(wall=wall))
        try:
            name = await self._waited(self._aside, patience)
        finally:
            if self._aside.done():  # else it goes on, and is waited for again
                self._aside = None
        reason, self._unwanted = self._unwanted[:REASON_MAX], None
        if name is not None:
            self._log.warning("store.set_aside", store="state", file=self._name, reason=reason, kept_as=name)

    # ---- saving --------------------------------------------------------------------------------------

    async def _save(self, hurried: bool) -> None:
        await self._clear_the_way(None)
        moment, wall = self._clock(), self._wall()
        content = await self._content(moment, hurried)
        boot, writer = self._boot, self._writer

        def write() -> None:
            first = head(content, saved=wall, moment=moment, boot=boot, writer=writer)
            self._directory.write((first, *content))

        await self._do(write)
        self.saved = wall
        if self._failing is not None:
            self._failing = None
            self._said.clear()
            self._log.info("store.recovered", store="state", file=self._name)

    async def _content(self, moment: float, hurried: bool) -> list[bytes]:
        """Everything that is kept, told and encoded in slices. Raises: OSError where that is more than is read."""
        pieces: list[bytes] = []
        lines: list[bytes] = []
        size, told = 0, 0.0
        since = self._clock()
        for section, part in self._dump(moment):
            lines.append(encoded(section, part))
            size += len(lines[-1])
            if size > self._size_max or len(lines[-1]) > PART_MAX:
                most = f"is longer than {self._size_max} bytes, or a part of it than {PART_MAX}"
                raise OSError(None, f"the state {most}")
            spent = self._clock() - since
            if spent >= SLICE:
                pieces.append(b"".join(lines))
                lines.clear()
                told += spent
                await asyncio.sleep(0 if hurried else PAUSE)
                since = self._clock()
        self._told = told
        return [*pieces, b"".join(lines)]

    # ---- the thread, and what is said of it ----------------------------------------------------------

    async def _do(self, job: Callable[[], T]) -> T:
        """Run what may block, however long that takes."""
        return await self._waited(self._worker.start(job), None)

    async def _waited(self, future: asyncio.Future[T], patience: float | None) -> T:
        """Wait for a job. Raises: OSError after `patience`; without, that is said again and again."""
        while not future.done():
            await asyncio.wait({future}, timeout=HANG if patience is None else patience)
            if not future.done():
                slow = OSError(None, f"no answer for {HANG if patience is None else patience:g} s")
                if patience is not None:
                    raise slow
                self._fail(slow)
        return future.result()

    @property
    def _name(self) -> str:
        return str(self._directory.path / NAME)

    def _fail(self, error: OSError) -> None:
        """Count a failure, and tell it where its reason is new: two that take turns are not told for ever."""
        self.errors += 1
        reason = self._failing = str(error) if error.strerror is None else error.strerror
        if reason not in self._said and len(self._said) < REASONS_MAX:
            self._said.add(reason)
            self._log.warning("store.failed", store="state", file=self._name, reason=reason)
