"""Kill the whole daemon at random moments, under load, and look at what it left.

Run `python tests/system/kills.py --rounds 200 --seed 7`; it prints a line for each fault and one at the end, and
exits with 1 when there was one. Every round starts the daemon on what the round before left, drains or resumes an
endpoint, sends reports and asks for decisions, and kills it with SIGKILL within two seconds, or after the history's
interval. It has to start each time, to set nothing aside, to know the operator's last word, and to know every
report but those of the last interval, of each store; and never one more than were sent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp

SAVE = 1.0  # s; the shortest that may be configured, so that most lives have a save in them
FLUSH = 5.0  # s; of the history, which is not to be configured
SLACK = 2.0  # s that a busy machine may take for a save, or between an answer and our clock
LIFE_MAX = 2.0  # s from ready to the kill
LONG_EACH = 10  # every tenth life is so long that the history of its first seconds must be there
STARTS_WITHIN = 30.0  # s; Python alone takes two on a loaded machine
WORD_SAVED = 1.0  # s after which an operator's word is on the disk: it is saved after 0.2 s
BATCH = 5  # reports in one request

COUNTED = "SELECT coalesce(sum(count), 0) FROM told WHERE source = 'report'"
ENDPOINT, DRAINED = "acme/large@one", "acme/large@two"
TEXT = """\
listen: 127.0.0.1:{port}
store: {{save_interval: {save:g}s}}
probe: {{kind: none}}
providers: {{one: {{base_url: "http://127.0.0.1:9/v1"}}, two: {{base_url: "http://127.0.0.1:9/v1"}}}}
models: {{acme/large: {{endpoints: [{{provider: one, model: large}}, {{provider: two, model: large}}]}}}}
"""


@dataclass
class Life:
    """What one process knew at its start, and what it was sent: when reports were answered, how many were tried."""

    windows: int = 0
    history: int = 0
    answered: list[float] = field(default_factory=list)
    tried: int = 0

    def before(self, moment: float) -> int:
        """How many were answered before a moment."""
        return sum(each < moment for each in self.answered)


@dataclass
class Faults:
    """What was found wrong."""

    told: list[str] = field(default_factory=list)

    def check(self, good: bool, told: str) -> None:
        """Keep a fault."""
        if not good:
            self.told.append(told)
            print(told, flush=True)


class Rounds:
    """A daemon that is started and killed again and again in one directory."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.faults = Faults()
        self._folder = folder
        self._random = Random(seed)
        self._life = Life()
        self._drained = False
        self._word_at = 0.0
        self._killed_at = time.monotonic()
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self._port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{self._port}"
        self._database = folder / "state" / "history.db"
        self._file = folder / "balancer.yaml"
        self._file.write_text(TEXT.format(port=self._port, save=SAVE))

    async def run(self, rounds: int) -> None:
        """Run all rounds, and look once more at what the last one left."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
            for number in range(rounds + 1):
                await self._round(http, number, last=number == rounds)

    async def _round(self, http: aiohttp.ClientSession, number: int, *, last: bool) -> None:
        log = self._folder / "log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "balancer", "run", "-c", str(self._file)),
                env={**os.environ, "STATE_DIRECTORY": str(self._folder / "state")},
                stdout=out,
                stderr=out,
            )
        try:
            if not await self._ready(http, process):
                self.faults.check(False, f"round {number}: it did not start:\n{log.read_text()}")
                return
            await self._look(http, number, log)
            if last:
                return
            await self._live(http, number)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                self._killed_at = time.monotonic()
                await process.wait()
        if self._database.exists():
            with closing(sqlite3.connect(self._database)) as database:
                (found,) = database.execute("PRAGMA integrity_check").fetchone()
            self.faults.check(found == "ok", f"round {number}: integrity_check says {found}")

    async def _ready(self, http: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> bool:
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end and process.returncode is None:
            try:
                async with http.get(f"{self._url}/-/ready") as answer:
                    if answer.status == 200:
                        return True
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
        return False

    async def _look(self, http: aiohttp.ClientSession, number: int, log: Path) -> None:
        """Compare what it knows with what it was told before the kill."""
        faults, killed = self.faults, self._killed_at
        faults.check("store.set_aside" not in log.read_text(), f"round {number}: a file was set aside")
        async with http.get(f"{self._url}/v1/endpoint", params={"id": DRAINED}) as answer:
            drained = (await answer.json())["state"] == "drained"
        settled = killed - self._word_at > WORD_SAVED
        faults.check(not settled or drained == self._drained, f"round {number}: drained is {drained}")
        self._drained = drained
        async with http.get(f"{self._url}/v1/endpoint", params={"id": ENDPOINT}) as answer:
            window = (await answer.json())["windows"]["report"]["1d"]
        known = window["success"] + window["failure"]
        life, self._life = self._life, Life()
        least = life.windows + life.before(killed - SAVE - SLACK)
        self._between(number, "the windows know", known, least, life.windows + life.tried)
        kept = await self._kept()
        least = life.history + life.before(killed - FLUSH - SLACK)
        self._between(number, "the history has", kept, least, life.history + life.tried)
        self._life.windows, self._life.history = known, kept

    def _between(self, number: int, who: str, found: int, least: int, most: int) -> None:
        self.faults.check(
            least <= found <= most, f"round {number}: {who} {found} reports; {least} to {most} is right"
        )

    async def _live(self, http: aiohttp.ClientSession, number: int) -> None:
        life = self._random.uniform(0, LIFE_MAX)
        if number % LONG_EACH == LONG_EACH // 2:
            life += FLUSH + SLACK
        with_word = self._random.random() < 0.5
        end = time.monotonic() + life
        if with_word:
            self._drained = not self._drained
            self._word_at = time.monotonic()
            body = {"target": DRAINED}
            async with http.post(f"{self._url}/v1/{'drain' if self._drained else 'resume'}", json=body) as answer:
                assert answer.status == 200, await answer.text()
        while time.monotonic() < end:
            self._life.tried += BATCH
            body = {"reports": [{"endpoint": ENDPOINT, "status": 200, "latency": 0.1}] * BATCH}
            async with http.post(f"{self._url}/v1/reports", json=body) as answer:
                assert (await answer.json())["recorded"] == BATCH
            self._life.answered += [time.monotonic()] * BATCH
            async with http.get(f"{self._url}/v1/best-provider", params={"model": "acme/large"}) as answer:
                assert answer.status == 200, await answer.text()

    async def _kept(self) -> int:
        """How many reports the history has; its file may be opened a moment after the daemon is ready."""
        end = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
                    (kept,) = database.execute(COUNTED).fetchone()
                return int(kept)
            except sqlite3.OperationalError:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(0.02)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = Rounds(Path(folder), seed=asked.seed)
        asyncio.run(rounds.run(asked.rounds))
    print(f"{asked.rounds} kills, {len(rounds.faults.told)} faults")
    return 1 if rounds.faults.told else 0


if __name__ == "__main__":
    sys.exit(main())
