"""What one decision and one record cost, beside a fixed loop of plain Python measured in the same moments.

Run `python tests/benchmarks/core.py`. Absolute times move with the machine and with whatever else runs on it;
the ratio to the reference loop moves far less, so compare ratios. Each cell is the median over passes, and in
each pass every cell runs once, so that a slow minute hits all alike. Thread CPU time, not wall time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from random import Random
from statistics import median
from time import thread_time

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, Model, Pricing, Provider, Routing, StrategyName
from balancer.core.outcome import Outcome
from balancer.core.request import Request

SIZES = (2, 10, 50, 200)
SAMPLE = 0.05  # s of work a cell and pass
REFERENCE = 1000  # turns of the reference loop: long enough to be timed
FALLBACKS = 3


def world(size: int, strategy: StrategyName) -> Catalog:
    """One model on `size` endpoints, a tenth of them of one shared provider."""
    endpoints = {}
    for place in range(size):
        provider = f"provider-{place % max(2, size * 9 // 10)}"
        tag = f"{provider}/{place}"
        price = 1.0 + place % 7 / 3
        endpoints[f"author/slug@{tag}"] = Endpoint(
            id=f"author/slug@{tag}",
            model="author/slug",
            tag=tag,
            provider=provider,
            provider_name=provider,
            upstream_model="slug",
            base_url=f"https://{provider}.example/v1",
            pricing=Pricing(prompt=price, completion=price),
            context_length=128_000,
        )
    keys = {endpoint.provider for endpoint in endpoints.values()}
    return Catalog(
        providers={key: Provider(key=key, name=key) for key in keys},
        models={"author/slug": Model(id="author/slug", name="Slug", endpoints=tuple(endpoints))},
        endpoints=endpoints,
        routing=Routing(strategy=strategy, fallbacks=FALLBACKS),
    )


def filled(size: int, strategy: StrategyName) -> Balancer:
    """A table in which every endpoint has an hour of mixed evidence."""
    random = Random(1)
    table = Balancer(world(size, strategy), seed=1)
    for step in range(300):
        for key in table.catalog.endpoints:
            kind = "success" if random.random() < 0.98 else "server_error"
            table.record(key, Outcome(kind=kind, latency=1.0 + random.random()), now=step * 12.0)
    return table


def reference() -> None:
    """Plain Python: a dict, floats and a branch."""
    counts: dict[int, float] = {}
    for turn in range(REFERENCE):
        key = turn % 17
        counts[key] = counts.get(key, 0.0) * 0.5 + turn


def deciding(size: int, strategy: StrategyName) -> Callable[[], None]:
    """Ask for the best of `size` endpoints; time stands, as between two requests of one second."""
    table = filled(size, strategy)
    request = Request(model="author/slug", prompt_tokens=1000)

    def call() -> None:
        table.best(request, now=3600.0)

    return call


def recording(kind: str) -> Callable[[], None]:
    """Record one outcome of that kind; each ends a hundredth of a second after the last."""
    table = filled(2, "adaptive")
    key = next(iter(table.catalog.endpoints))
    outcome = Outcome(kind=kind, latency=1.5, ttft=0.4)  # type: ignore[arg-type]
    clock = [3600.0]

    def call() -> None:
        clock[0] += 0.01
        table.record(key, outcome, now=clock[0])

    return call


def sample(call: Callable[[], None]) -> float:
    """Microseconds of one call, over `SAMPLE` seconds of calls."""
    calls, spent, batch = 0, 0.0, 1
    while spent < SAMPLE:
        begin = thread_time()
        for _ in range(batch):
            call()
        spent += thread_time() - begin
        calls += batch
        batch *= 2
    return spent / calls * 1e6


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of decisions and records of the core.")
    parser.add_argument("--passes", type=int, default=9)
    given = parser.parse_args()
    cells: dict[str, Callable[[], None]] = {"reference loop": reference}
    strategies: tuple[StrategyName, ...] = ("adaptive", "price")
    for strategy in strategies:
        cells |= {f"best, {size} endpoints, {strategy}": deciding(size, strategy) for size in SIZES}
    cells |= {f"record, {kind}": recording(kind) for kind in ("success", "caller_error", "rate_limited")}
    found: dict[str, list[float]] = {name: [] for name in cells}
    for _ in range(given.passes):
        for name, call in cells.items():
            found[name].append(sample(call))
    print(f"{'':<32} {'µs':>9} {'a second':>10} {'× reference':>12}")
    for name, times in found.items():
        ratios = [time / base for time, base in zip(times, found["reference loop"], strict=True)]
        print(f"{name:<32} {median(times):>9.1f} {1e6 / median(times):>10.0f} {median(ratios):>12.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
