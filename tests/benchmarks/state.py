"""What it costs to keep the state of a large table: how long the loop is held, and how long a start takes.

Run `python tests/benchmarks/state.py`; it prints a table and exits with 1 when a decision had to wait longer than
the limit. Decisions are made all the time while the state is saved, as one loop makes them; a decision's wait is
how much later than asked for its turn came. Every window of every endpoint is full, which takes a day of real
traffic.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, Model, Pricing, Provider
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.core.window import BUCKETS
from balancer.service import clock
from balancer.service.log import silent
from balancer.store import Directory, Keeper
from balancer.store.keeper import Parts

PROVIDERS = 5
ASK = 0.002  # s between two decisions
CALM = 500  # decisions while nothing is saved


def world(endpoints: int) -> Catalog:
    """Models on five providers each."""
    found: dict[str, Endpoint] = {}
    models: dict[str, Model] = {}
    for number in range(endpoints // PROVIDERS):
        model = f"author/model-{number}"
        ids = []
        for place in range(PROVIDERS):
            tag = f"provider-{place}"
            each = Endpoint(
                id=f"{model}@{tag}",
                model=model,
                tag=tag,
                provider=tag,
                provider_name=tag,
                upstream_model=model,
                base_url=f"https://{tag}.example/v1",
                pricing=Pricing(prompt=1.0, completion=1.0),
                identity=f"{number}/{place}",
                quota=tag,
            )
            found[each.id] = each
            ids.append(each.id)
        models[model] = Model(id=model, name=model, endpoints=tuple(ids))
    providers = {f"provider-{place}": Provider(key=f"provider-{place}", name="") for place in range(PROVIDERS)}
    return Catalog(providers=providers, models=models, endpoints=found)


def lived(catalog: Catalog, sessions: int, *, now: float) -> Balancer:
    """A table after a day of traffic, which ends at `now`."""
    table, random = Balancer(catalog, seed=1, now=now - 86_400.0), Random(1)
    windows = catalog.health.windows
    for key in catalog.endpoints:
        for span in reversed(windows):
            for bucket in range(BUCKETS):
                kind = "server_error" if random.random() < 0.03 else "success"
                age = span * (BUCKETS - bucket - 0.5) / BUCKETS
                for source in ("report", "probe"):
                    outcome = Outcome(kind=kind, latency=1.0, ttft=0.2, prompt_tokens=1000, completion_tokens=200)
                    table.record(key, outcome, now=now, source=source, age=age)  # type: ignore[arg-type]
    for number in range(sessions):
        model = f"author/model-{number % len(catalog.models)}"
        table.best(Request(model=model, session_id=f"session-{number}"), now=now)
    return table


async def measured(table: Balancer, directory: Path) -> tuple[list[float], list[float], float, int]:
    """Save once while decisions are made: their waits without and beside it, how long it took, the file's size."""

    def dump(now: float) -> Parts:
        return (("table", part) for part in table.parts(now=now))

    def take(parts: Parts, now: float, away: float) -> Iterator[None]:
        raise AssertionError("the directory is empty")

    keeper = Keeper(
        Directory(directory),
        interval=3600.0,
        dump=dump,
        take=take,
        clock=clock.monotonic,
        wall=clock.wall,
        boot=clock.boot(),
        log=silent(),
    )
    await keeper.open()
    calm = [await _asked(table) for _ in range(CALM)]
    waits: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        began = time.perf_counter()
        save = tasks.create_task(keeper.save_now(), name="save")
        while not save.done():
            waits.append(await _asked(table))
        took = time.perf_counter() - began
    assert save.result()
    await keeper.close(patience=60.0)
    return sorted(calm), sorted(waits), took, (directory / "balancer.state").stat().st_size


async def _asked(table: Balancer) -> float:
    """How many seconds later than it was due a decision was made."""
    due = time.perf_counter() + ASK
    await asyncio.sleep(ASK)
    table.best(Request(model="author/model-0"), now=clock.monotonic(), dry=True)
    return max(0.0, time.perf_counter() - due)


async def restored(catalog: Catalog, directory: Path) -> tuple[float, float]:
    """Start with that file: how long all of it took, and the longest step of it."""
    table = Balancer(catalog, seed=1, now=clock.monotonic())
    held = 0.0

    def take(parts: Parts, now: float, away: float) -> Iterator[None]:
        nonlocal held
        began = time.perf_counter()
        for _ in table.restoring(lambda: (part for section, part in parts), now=now, away=away):
            held = max(held, time.perf_counter() - began)
            yield
            began = time.perf_counter()
        held = max(held, time.perf_counter() - began)

    keeper = Keeper(
        Directory(directory),
        interval=3600.0,
        dump=lambda now: (("table", part) for part in table.parts(now=now)),
        take=take,
        clock=clock.monotonic,
        wall=clock.wall,
        boot=clock.boot(),
        log=silent(),
    )
    began = time.perf_counter()
    await keeper.open(patience=600.0)
    took = time.perf_counter() - began
    assert table.dump(now=clock.monotonic())["sessions"]
    return took, held


def main() -> int:
    """Save and restore, and print what that costs."""
    parser = argparse.ArgumentParser(description="Saving and restoring the state of a large table.")
    parser.add_argument("--endpoints", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=10.0, help="ms that all but 1 %% of decisions may wait")
    given = parser.parse_args()
    catalog = world(given.endpoints)
    table = lived(catalog, given.sessions, now=clock.monotonic())
    gc.collect()
    with tempfile.TemporaryDirectory() as directory:
        calm, waits, took, size = asyncio.run(measured(table, Path(directory)))
        del table
        gc.collect()
        start, held = asyncio.run(restored(catalog, Path(directory)))
    print(f"{given.endpoints} endpoints, {given.sessions} sessions: {size / 1e6:.1f} MB")
    print(f"save   {took:5.2f} s beside decisions")
    print(f"start  {start:5.2f} s, and holds the loop for {held * 1e3:.1f} ms at most")
    for name, found in (("without", calm), ("beside", waits)):
        half, most = (found[int(len(found) * share)] * 1e3 for share in (0.5, 0.99))
        print(f"a decision waits {name:7} p50 {half:.2f} ms, p99 {most:.2f} ms, max {found[-1] * 1e3:.2f} ms")
    good = waits[int(len(waits) * 0.99)] * 1e3 < given.limit
    print("good" if good else f"TOO MUCH: the limit is {given.limit:g} ms")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
