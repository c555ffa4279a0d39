"""Whatever befalls the disk, the whole daemon decides on, counts what it loses, and is well again by itself.

All troubles are lived through at the same time, each by a daemon of its own on a disk of its own: the history looks
at its disk every five seconds, and each of them takes four such looks.
"""

import asyncio
import os
import re
import sqlite3
import sys
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

import pytest

from balancer.store.frame import judged

sys.path.insert(0, str(Path(__file__).parent))
from disks import MEGABYTE, STATE, Deleted, Full, Garbage, Locked, NoDisk, ReadOnly, SmallDisk

MODELS, PROVIDERS = 10, 5
SIZE = 8 * MEGABYTE
PERIOD = 0.05  # s between two rounds of a client, which asks and reports
DEADLINE = 30.0  # s; for what takes eleven at the most: a look of the history and its longest wait
POLL = 0.05  # s between two looks at a condition
AT_ONCE = 2000  # reports of one request of a flood
FLOOD = 16_000  # reports, each a row of its own: a disk without room takes them nowhere
FLOOD_AGES = 2400.0  # s; what is younger than an hour is never removed to make room
DROWNING_AGES = 8 * 3600.0  # s; so that there are more rows than memory may hold

COUNTED = "SELECT coalesce(sum(count), 0) FROM told WHERE source = 'report'"


def written():
    lines = ["store: {save_interval: 1s}", "probe: {kind: none}", "providers:"]
    lines += [f'  p{place}: {{base_url: "http://127.0.0.1:9/v1"}}' for place in range(PROVIDERS)]
    lines.append("models:")
    for model in range(MODELS):
        places = ", ".join(f"{{provider: p{place}, model: m{model}}}" for place in range(PROVIDERS))
        lines.append(f"  acme/m{model}: {{endpoints: [{places}]}}")
    return "\n".join(lines) + "\n"


class Client:
    """Asks for decisions and reports again and again; knows how it was answered and what it sent."""

    def __init__(self, http, url):
        self.answers = []
        self.sent = 0
        self._http = http
        self._url = url
        self._random = Random(7)
        self._ending = asyncio.Event()

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run())
            try:
                yield
            finally:
                self._ending.set()

    async def _run(self):
        while not self._ending.is_set():
            model = f"acme/m{self._random.randrange(MODELS)}"
            async with self._http.get(f"{self._url}/v1/best-provider", params={"model": model}) as answer:
                decided = await answer.json()
                self.answers.append((answer.status, decided))
            await self._report([{"endpoint": decided["selected"]["id"], "decision": decided["id"]}])
            await asyncio.sleep(PERIOD)

    async def flood(self, ages):
        """Send reports that have next to nothing in common."""
        random = self._random
        await self._report(
            [
                {
                    "endpoint": f"acme/m{random.randrange(MODELS)}@p{random.randrange(PROVIDERS)}",
                    "latency": 2 ** random.uniform(-2, 2),
                    "age": ages * random.random(),
                }
                for _ in range(AT_ONCE)
            ]
        )

    async def _report(self, facts):
        reports = [{"status": 200, "latency": 1.0, **each} for each in facts]
        async with self._http.post(f"{self._url}/v1/reports", json={"reports": reports}) as answer:
            assert (await answer.json())["recorded"] == len(reports)
        self.sent += len(reports)

    async def metric(self, name, store):
        async with self._http.get(f"{self._url}/metrics") as answer:
            found = re.search(rf'^{name}{{store="{store}"}} (\S+)$', await answer.text(), re.MULTILINE)
        return float(found[1])

    async def dropped(self):
        return await self.metric("balancer_store_dropped_total", "history")


def kept(disk):
    """How many reports are in the history; `None` where there is none at present."""
    try:
        with closing(sqlite3.connect(f"file:{disk.database}?mode=ro", uri=True)) as database:
            return database.execute(COUNTED).fetchone()[0]
    except sqlite3.OperationalError:
        return None


async def until(what, condition):
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(POLL)
    except TimeoutError:
        pytest.fail(f"{what} did not come true within {DEADLINE:g} s")


async def fill_the_log(client):
    for _ in range(FLOOD // AT_ONCE):
        await client.flood(FLOOD_AGES)
    assert await client.dropped() == 0, "memory holds it"


async def drown(client):
    while await client.dropped() == 0:
        await client.flood(DROWNING_AGES)


async def nothing_more(_client):
    pass


TROUBLES = {
    "full": (Full, fill_the_log),
    "read-only": (ReadOnly, nothing_more),
    "locked": (Locked, nothing_more),
    "locked for longer than memory lasts": (Locked, drown),
    "garbage": (Garbage, nothing_more),
    "deleted": (Deleted, nothing_more),
}


async def lived(name, running, disk, client):
    """Live through one trouble; every assertion names it."""
    kind, more = TROUBLES[name]
    trouble = kind(disk)

    def told(event):
        return {each["store"]: each for each in running.events() if each["event"] == event}

    async with client.running():
        await until(f"{name}: a history", lambda: kept(disk))
        before = kept(disk)
        await until(f"{name}: a batch", lambda: kept(disk) > before)  # what is lost with it is known; five seconds
        asked = len(client.answers)
        await asyncio.to_thread(trouble.begin)
        await more(client)
        await until(f"{name}: told", lambda: set(told("store.failed")) >= trouble.tells)
        during = len(client.answers) - asked
        await asyncio.to_thread(trouble.end)
        over = time.time()
        await until(f"{name}: well again", lambda: set(told("store.recovered")) >= trouble.tells)
        await until(f"{name}: saved", lambda: saved(disk) > over)
    assert {status for status, _ in client.answers} == {200}, name
    assert during > 0, name

    dropped = await client.dropped()
    assert (dropped > 0) == (more is drown), name
    await until(
        f"{name}: {client.sent} were sent, {dropped:g} dropped, {trouble.lost} lost with the file; the rest",
        lambda: kept(disk) == client.sent - dropped - trouble.lost,
    )
    assert await client.dropped() == dropped, name
    failed = set(told("store.failed"))
    assert trouble.tells <= failed <= trouble.tells | trouble.may_tell, name
    for store in ("state", "history"):
        assert (await client.metric("balancer_store_errors_total", store) > 0) == (store in failed), (name, store)
    lines = [each for each in running.events() if each["event"][:6] == "store."]
    assert sorted(each["store"] for each in lines if each["event"] != "store.failed") == sorted(failed), name
    reasons = [(each["store"], each["reason"]) for each in lines if each["event"] == "store.failed"]
    assert len(set(reasons)) == len(reasons), name  # a disk may fail in more than one way, and says each once
    recovered = told("store.recovered")["history"]
    assert recovered["dropped"] == dropped, name
    assert ("set_aside" in recovered) == (kind is Garbage), name
    assert oct(disk.state.stat().st_mode & 0o777) == "0o700", name
    assert oct(disk.database.stat().st_mode & 0o777) == "0o600", name
    return name


def saved(disk):
    """When the state was saved that is in the file, which is a whole one; long ago where there is none."""
    try:
        header, sections = judged((disk.state / STATE).read_bytes())
    except (OSError, ValueError):
        return 0.0
    assert any(section == "table" for section, _ in sections)
    return header.saved


@pytest.fixture
def small_disk(tmp_path):
    """Make disks, each of its own: skip where this process may not, but fail where CI is set."""
    disks = []

    def make():
        try:
            disks.append(SmallDisk(tmp_path / f"small-{len(disks)}", size=SIZE))
        except NoDisk as refusal:
            if os.environ.get("CI"):
                pytest.fail(str(refusal))
            pytest.skip(str(refusal))
        return disks[-1]

    yield make
    for each in disks:
        each.close()


async def test_decisions_go_on_drops_are_counted_and_nothing_has_to_be_restarted(small_disk, daemon, http):
    living = []
    async with asyncio.TaskGroup() as tasks:
        for name in TROUBLES:
            disk = small_disk()
            running = await daemon(written(), environ={"STATE_DIRECTORY": str(disk.state)})
            living.append(tasks.create_task(lived(name, running, disk, Client(http, running.url)), name=name))
    assert [each.result() for each in living] == list(TROUBLES)
