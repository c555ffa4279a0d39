"""What one decision costs while evidence keeps changing, beside a calibration loop timed in the same moments.

Run `python tests/benchmarks/decisions.py`. Every decision asks with three filters and for three fallbacks, with a
prompt of another length each time, and between two decisions one outcome is recorded and time goes on. Only the
decision is timed, each one by itself; a cell is the median of its calls, the smallest over passes, because whatever
else runs on the machine only adds. Wall time.

The calibration is a plain loop of filtering, scoring and sorting ten candidates (`filter_score_sort`): compare
ratios to it, for microseconds move with the machine and even with how its Python was built (one and the same
machine: 1.3 times slower on a Python without profile-guided optimisation).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from random import Random
from statistics import median
from time import perf_counter_ns

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, Model, Pricing, Routing, StrategyName
from balancer.core.outcome import Outcome
from balancer.core.request import Preferences, Request

ASKED = "author/slug"
FALLBACKS = 3
STEP = 0.01  # s between two decisions
CALLS = 2000  # a cell and pass
GOALS = {(10, 0): 12.0, (50, 0): 40.0, (10, 500): 12.0}  # µs


def endpoint(model: str, provider: str, place: int) -> Endpoint:
    """One of many, with prices that differ."""
    price = 1.0 + place % 7 / 3
    tag = f"{provider}/{place}"
    return Endpoint(
        id=f"{model}@{tag}",
        model=model,
        tag=tag,
        provider=provider,
        provider_name=provider,
        upstream_model="slug",
        base_url=f"https://{provider}.example/v1",
        pricing=Pricing(prompt=price, completion=price),
        context_length=128_000,
        supported_parameters=frozenset({"tools", "seed"}),
        data_collection="deny",
    )


def world(size: int, strategy: StrategyName, others: int) -> Catalog:
    """One model on `size` endpoints, a tenth of them of a shared provider, and `others` models on three each."""
    shared = max(2, size * 9 // 10)
    found = [endpoint(ASKED, f"provider-{place % shared}", place) for place in range(size)]
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
    """Successes with a failure in fifty."""
    return [
        Outcome(
            kind="success" if random.random() < 0.98 else "server_error",
            latency=1.0 + random.random(),
            ttft=0.3,
            prompt_tokens=900,
            completion_tokens=200,
        )
        for _ in range(500)
    ]


class Table:
    """A table with an hour of evidence, asked and told in turns."""

    def __init__(self, size: int, strategy: StrategyName = "adaptive", others: int = 0, **wishes: object) -> None:
        random = Random(1)
        self._balancer = Balancer(world(size, strategy, others), seed=1)
        self._keys = list(self._balancer.catalog.models[ASKED].endpoints)
        self._told = cycle(outcomes(random))
        self._now = 0.0
        for _ in range(300):
            self._now += 12.0
            for key in self._keys:
                self._balancer.record(key, next(self._told), now=self._now)
        self._turns = cycle(random.choices(self._keys, k=997))
        preferences = Preferences(data_collection="deny", max_price_prompt=50.0)
        request = Request(
            model=ASKED, max_tokens=800, require=("tools",), require_parameters=True, provider=preferences
        )
        lengths = [random.randrange(200, 20_000) for _ in range(31)]
        self._asked = cycle([replace(request, prompt_tokens=length, **wishes) for length in lengths])  # type: ignore[arg-type]

    def turn(self) -> int:
        """Decide once, timed, and record once. Units: nanoseconds."""
        self._now += STEP
        request, now, best = next(self._asked), self._now, self._balancer.best
        begin = perf_counter_ns()
        decision = best(request, now=now)
        spent = perf_counter_ns() - begin
        self._balancer.record(next(self._turns), next(self._told), now=now, decision=decision.id)
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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of a decision while evidence keeps changing.")
    parser.add_argument("--passes", type=int, default=7)
    given = parser.parse_args()
    cells: dict[str, tuple[Callable[[], int], float | None]] = {
        "calibration: filter, score, sort 10": (filter_score_sort, None)
    }
    for size, others in ((2, 0), (10, 0), (50, 0), (200, 0), (10, 500)):
        beside = f", beside {others} other models" if others else ""
        cells[f"adaptive, {size} candidates{beside}"] = (
            Table(size, others=others).turn,
            GOALS.get((size, others)),
        )
    for strategy in ("price", "weighted", "least_loaded"):
        cells[f"{strategy}, 10 candidates"] = (Table(10, strategy).turn, None)
    cells["adaptive, 10 candidates, in a session"] = (Table(10, session_id="a session").turn, None)
    found: dict[str, list[float]] = {name: [] for name in cells}
    for _ in range(given.passes):
        for name, (turn, _) in cells.items():
            found[name].append(median([turn() for _ in range(CALLS)]) / 1000)
    unit = min(found["calibration: filter, score, sort 10"])
    print(f"{sys.version.split()[0]:<46} {'µs':>7} {'× calibration':>14} {'goal, µs':>9}")
    for name, times in found.items():
        goal = cells[name][1]
        print(f"{name:<46} {min(times):>7.1f} {min(times) / unit:>14.1f} {'' if goal is None else goal:>9}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
