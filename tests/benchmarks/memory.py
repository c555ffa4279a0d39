"""What a long life costs in memory: many decisions, each with its own id, of which a third is never reported.

Run `python tests/benchmarks/memory.py`; it prints a table and exits with 1 when resident memory grew by more
than the limit between two moments of the run. Nothing may be kept per decision, so the growth must not depend
on how many there were. Linux only: resident memory is read from /proc.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from random import Random

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, Model, NoEndpoint, Pricing, Provider
from balancer.core.outcome import Kind, Outcome
from balancer.core.request import Request

MODELS = 5
PROVIDERS = 6
STEP = 0.02  # s between two decisions: a million of them live five and a half hours
PAGE = 4096  # bytes; what /proc/self/statm counts in
ROWS = 20  # lines of the table


def world() -> Catalog:
    """Five models on six providers each."""
    endpoints: dict[str, Endpoint] = {}
    models: dict[str, Model] = {}
    for number in range(MODELS):
        model = f"author/model-{number}"
        ids = []
        for place in range(PROVIDERS):
            tag = f"provider-{place}"
            price = 1.0 + place / 4
            endpoint = Endpoint(
                id=f"{model}@{tag}",
                model=model,
                tag=tag,
                provider=tag,
                provider_name=tag,
                upstream_model=model,
                base_url=f"https://{tag}.example/v1",
                pricing=Pricing(prompt=price, completion=price),
            )
            endpoints[endpoint.id] = endpoint
            ids.append(endpoint.id)
        models[model] = Model(id=model, name=model, endpoints=tuple(ids))
    providers = {f"provider-{place}": Provider(key=f"provider-{place}", name="") for place in range(PROVIDERS)}
    return Catalog(providers=providers, models=models, endpoints=endpoints)


def kind_of(random: Random, now: float, endpoint: str) -> Kind:
    """What the world answers: a normal floor, and for each endpoint an outage or a storm of 429s now and then."""
    weather = (int(now // 300) + sum(endpoint.encode())) % 11
    if weather == 0 and random.random() < 0.9:
        return "server_error"
    if weather == 1 and random.random() < 0.5:
        return "rate_limited"
    return "success" if random.random() < 0.98 else "timeout"


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> int:
    """Live the life and print what it costs."""
    parser = argparse.ArgumentParser(description="Memory of the decision core over many decisions and reports.")
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--since", type=int, default=200_000, help="from which decision on growth counts")
    parser.add_argument("--limit", type=float, default=2.0, help="MB that resident memory may grow by")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if not 0 < given.since < given.decisions:
        parser.error("--since must be between 0 and --decisions")

    random = Random(given.seed)
    table = Balancer(world(), seed=given.seed)
    requests = [Request(model=f"author/model-{number}", prompt_tokens=1000) for number in range(MODELS)]
    last_id, repeated, reported, refused, trials, base = "", 0, 0, 0, 0, 0
    every = max(1, given.decisions // ROWS)
    started = time.perf_counter()
    print(
        f"{'decisions':>10} {'reports':>10} {'refused':>8} {'trials':>7} {'resident':>10} {'growth':>9} {'time':>7}"
    )
    for number in range(1, given.decisions + 1):
        now = number * STEP
        try:
            decision = table.best(requests[number % MODELS], now=now)
        except NoEndpoint:
            refused += 1
        else:
            repeated += decision.id == last_id
            last_id = decision.id
            trials += decision.trial
            if random.random() >= 1 / 3:
                key = decision.selected.id
                latency = random.lognormvariate(0.7, 0.8)
                outcome = Outcome(kind=kind_of(random, now, key), latency=latency, ttft=latency / 4)
                table.record(key, outcome, now=now + latency, decision=decision.id, age=random.random())
                reported += 1
        if number == given.since or number % every == 0:
            gc.collect()
            here = resident()
            if number == given.since:
                base = here
            growth = f"{(here - base) / 1e6:+.2f} MB" if base else "-"
            spent = time.perf_counter() - started
            counted = f"{number:>10} {reported:>10} {refused:>8} {trials:>7}"
            print(f"{counted} {here / 1e6:>7.2f} MB {growth:>9} {spent:>5.0f} s", flush=True)
    grown = (resident() - base) / 1e6
    good = grown < given.limit and not repeated
    verdict = "good" if good else "TOO MUCH"
    print(f"{verdict}: {grown:+.2f} MB from decision {given.since} to {given.decisions}; limit {given.limit:g} MB")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
