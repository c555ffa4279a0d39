"""Kill a process that does nothing but save its state, at random moments, and look at what it left.

Run `python tests/store/kills.py --rounds 200`; it prints a line for each fault and one at the end, and exits with
1 when a kill left no whole file, one older than what was saved already, or one older than the interval and a save
take. Each process takes back what the one before it left. Linux only: a child is forked for each round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from balancer.service import clock
from balancer.service.log import silent
from balancer.store import Directory, Keeper, StateFileError
from balancer.store.directory import BESIDE, NAME
from balancer.store.frame import judged
from balancer.store.keeper import Parts

INTERVAL = 0.001  # s; as good as none, so that every kill meets a save
PARTS = 1000
SIZE = 8000  # bytes of a part: of a save it is the writing that takes longest
LIFE_MAX = 0.2  # s from the first save to the kill
AIM = 0.01  # s from the beginning of a write to the kill, at every other round
BUSY = 1.0  # s that a loaded machine may take from a save: more is a fault


@dataclass
class Life:
    """What one process says: the number of its table, which grows with each dump."""

    number: int = 0

    def dump(self, now: float) -> Parts:
        self.number += 1
        yield "table", {"number": self.number, "at": now}
        for place in range(PARTS):
            yield "table", {f"endpoint-{place}": "x" * SIZE}

    def take(self, parts: Parts, now: float, away: float) -> Iterator[None]:
        for _, part in parts:
            self.number = part.get("number", self.number)
            yield


async def live(directory: Path, says: int) -> None:
    """Save until killed, and say the number of each save once it is done."""
    life = Life()
    keeper = Keeper(
        Directory(directory),
        interval=INTERVAL,
        dump=life.dump,
        take=life.take,
        clock=clock.monotonic,
        wall=clock.wall,
        boot=clock.boot(),
        log=silent(),
    )
    await keeper.open()
    os.write(says, b"taken %d\n" % life.number)
    while True:
        assert await keeper.save_now(hurried=True)  # most of the time it shall be writing
        os.write(says, b"saved %d\n" % life.number)
        await asyncio.sleep(INTERVAL)


def spawn(directory: Path) -> tuple[int, int]:
    """Fork a process that lives like that; its number, and where it says so."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        try:
            asyncio.run(live(directory, writes))
        finally:
            os._exit(3)
    os.close(writes)
    return child, reads


def heard(reads: int, *, first: bool) -> list[str]:
    """What it said: up to its first save, or all there is after its end."""
    said = b""
    while not (first and b"saved" in said) and (more := os.read(reads, 65536)):
        said += more
    return said.decode().splitlines()


def one(directory: Path, random: Random, before: int, *, aimed: bool) -> tuple[int, str | None]:
    """One life and death, `aimed` at a write: the number that it left, and what is wrong with that."""
    child, reads = spawn(directory)
    said = heard(reads, first=True)
    time.sleep(random.uniform(0, LIFE_MAX))
    if aimed:
        begun, until = directory / BESIDE, clock.monotonic() + BUSY
        while not begun.exists() and clock.monotonic() < until:
            pass
        time.sleep(random.uniform(0, AIM))
    os.kill(child, signal.SIGKILL)
    killed = clock.monotonic()
    _, status = os.waitpid(child, 0)
    said += heard(reads, first=False)
    os.close(reads)
    if not os.WIFSIGNALED(status):
        return before, f"it ended by itself with {os.waitstatus_to_exitcode(status)}"
    if said[0] != f"taken {before}":
        return before, f"the next process has {said[0]}, and {before} was left"
    last = int(said[-1].split()[1])
    try:
        parts = [part for _, part in judged((directory / NAME).read_bytes())[1]]
    except (OSError, StateFileError) as error:
        return before, f"no whole file is left: {error}"
    number, at = parts[0]["number"], parts[0]["at"]
    if len(parts) != PARTS + 1:
        return number, f"{len(parts)} parts are left of {PARTS + 1}"
    if not last <= number <= last + 1:
        return number, f"{number} is left, and {last} was saved"
    if killed - at > INTERVAL + BUSY:
        return number, f"what is left is {killed - at:.2f} s old"
    return number, None


def main() -> int:
    """Live and die."""
    parser = argparse.ArgumentParser(description="Kill -9 while the state is saved.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random, number, faults, halves = Random(given.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for round_ in range(given.rounds):
            number, fault = one(directory, random, number, aimed=round_ % 2 == 1)
            halves += (directory / BESIDE).exists()
            if fault is not None:
                faults += 1
                print(f"round {round_}: {fault}")
    print(f"{given.rounds} kills, {halves} of them in the middle of a save, {number} saves; {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
