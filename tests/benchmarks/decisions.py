"""What one decision costs while evidence keeps changing, beside a calibration loop timed in the same moments.

Run `python tests/benchmarks/decisions.py`. Every decision asks with three filters and for three fallbacks, with a
request of its own making and a prompt of another length each time; between two decisions one outcome is recorded,
with tokens read from cache in it, and time goes on. Only the decision is timed, each one by itself. A median is the
smallest over passes, because whatever else runs on the machine only adds; p99 is of all calls. Wall time.

The calibration is a plain loop of filtering, scoring and sorting ten candidates (`filter_score_sort`): compare
ratios to it, for microseconds move with the machine and even with how its Python was built (one and the same
machine: 1.3 times slower on a Python without profile-guided optimisation).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import cycle
from random import Random
from statistics import median
from time import perf_counter_ns
from typing import Any

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, Limits, Model, PriceOverride, Pricing, Routing, StrategyName
from balancer.core.outcome import Outcome
from balancer.core.request import Preferences, Request

ASKED = "author/slug"
FALLBACKS = 3
STEP = 0.01  # s between two decisions
CALLS = 2000  # a cell and pass
GOALS = {"10 candidates": 12.0, "50 candidates": 40.0, "10 candidates, beside 500 other models": 12.0}  # µs


def endpoint(model: str, provider: str, place: int, **fields: Any) -> Endpoint:
    """One of many, with prices that differ."""
    price = 1.0 + place % 7 / 3
    tag = f"{provider}/{place}"
    given: dict[str, Any] = {
        "id": f"{model}@{tag}",
        "model": model,
        "tag": tag,
        "provider": provider,
        "provider_name": provider,
        "upstream_model": "slug",
        "base_url": f"https://{provider}.example/v1",
        "pricing": Pricing(prompt=price, completion=price, input_cache_read=price / 10),
        "context_length": 128_000,
        "supported_parameters": frozenset({"tools", "seed"}),
        "data_collection": "deny",
    }
    return Endpoint(**(given | fields))


def world(size: int, strategy: StrategyName = "adaptive", others: int = 0, **fields: Any) -> Catalog:
    """One model on `size` endpoints, a tenth of them of a shared provider, and `others` models on three each."""
    shared = max(2, size * 9 // 10)
    found = [endpoint(ASKED, f"provider-{place % shared}", place, **fields) for place in range(size)]
    found += [endpoint(f"other/{number}", f"p{place}", place) for number in range(others) for place in range(3)]
    models: dict[str, list[str]] = {}
    for each in found:
        models.setdefault(each.model, []).append(each.id)
    return Catalog(
        models={key: Model(id=key, name=key, endpoints=tuple(ids)) for key, ids in models.items()},
        endpoints={each.id: each for each in found},
        routing=Routing(strategy=strategy, fallbacks=FALLBACKS),
    )


def outcomes(random: Random) -> list[Outcome]:
    """Successes that half of the time hit a cache, with a failure in fifty."""
    return [
        Outcome(
            kind="success" if random.random() < 0.98 else "server_error",
            latency=1.0 + random.random(),
            ttft=0.3,
            prompt_tokens=900,
            completion_tokens=200,
            cached_tokens=random.choice((0, 800)),
        )
        for _ in range(500)
    ]


class Table:
    """A table with an hour of evidence, asked and told in turns."""

    def __init__(self, catalog: Catalog, **wishes: Any) -> None:
        self._random = Random(1)
        self._balancer = Balancer(catalog, seed=1)
        self._keys = list(catalog.models[ASKED].endpoints)
        self._told = cycle(outcomes(self._random))
        self._wishes = wishes
        self._now = 0.0
        for _ in range(300):
            self._now += 12.0
            for key in self._keys:
                self._balancer.record(key, next(self._told), now=self._now)

    def turn(self) -> int:
        """Decide once, timed, and record once. Units: nanoseconds."""
        self._now += STEP
        now, best = self._now, self._balancer.best
        request = Request(
            model=ASKED,
            prompt_tokens=self._random.randrange(200, 20_000),
            max_tokens=800,
            require=("tools",),
            require_parameters=True,
            provider=Preferences(data_collection="deny", max_price_prompt=50.0),
            **self._wishes,
        )
        begin = perf_counter_ns()
        decision = best(request, now=now)
        spent = perf_counter_ns() - begin
        self._balancer.record(self._random.choice(self._keys), next(self._told), now=now, decision=decision.id)
        return spent


CANDIDATES = [(f"e{place}", 1.0 + place % 7 / 3, 0.02 + place % 3 / 100, 128_000, True) for place in range(10)]


def filter_score_sort() -> int:
    """The calibration: who passes two filters, scored and sorted. Units: nanoseconds."""
    begin = perf_counter_ns()
    found = [
        (price + 15 * failure, key)
        for key, price, failure, context, tools in CANDIDATES
        if context >= 12_800 and tools
    ]
    found.sort()
    return perf_counter_ns() - begin


def cells() -> dict[str, Callable[[], int]]:
    """What is measured, by name."""
    long = Pricing(prompt=1.0, completion=1.0, overrides=(PriceOverride(min_prompt_tokens=8000, prompt=2.0),))
    found: dict[str, Callable[[], int]] = {"calibration: filter, score, sort 10": filter_score_sort}
    for size in (2, 10, 50, 200):
        found[f"{size} candidates"] = Table(world(size)).turn
    found["10 candidates, beside 500 other models"] = Table(world(10, others=500)).turn
    found["10 candidates, in a session"] = Table(world(10), session_id="a session").turn
    found["10 candidates, limits on each"] = Table(world(10, limits=Limits(rpm=1_000_000))).turn
    found["10 candidates, dearer beyond 8000 tokens"] = Table(world(10, pricing=long)).turn
    for strategy in ("price", "weighted", "least_loaded"):
        found[f"10 candidates, {strategy}"] = Table(world(10, strategy)).turn
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of a decision while evidence keeps changing.")
    parser.add_argument("--passes", type=int, default=7)
    given = parser.parse_args()
    measured = cells()
    medians: dict[str, list[float]] = {name: [] for name in measured}
    calls: dict[str, list[int]] = {name: [] for name in measured}
    for _ in range(given.passes):
        for name, turn in measured.items():
            spent = [turn() for _ in range(CALLS)]
            medians[name].append(median(spent) / 1000)
            calls[name] += spent
    unit = min(medians["calibration: filter, score, sort 10"])
    print(f"{'Python ' + sys.version.split()[0]:<42} {'µs':>7} {'p99':>7} {'× calibration':>14} {'goal, µs':>9}")
    for name, times in medians.items():
        p99 = sorted(calls[name])[len(calls[name]) * 99 // 100] / 1000
        goal = GOALS.get(name)
        told = "" if goal is None else f"{goal:g}"
        print(f"{name:<42} {min(times):>7.1f} {p99:>7.1f} {min(times) / unit:>14.1f} {told:>9}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
