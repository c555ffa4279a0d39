"""An endpoint that fails at once looks quick and idle; it must attract nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.simulation.world import Truth

HEALTHY = 900.0  # s before it begins
LASTS = 1200.0  # s
STRATEGIES = ({"strategy": "adaptive"}, {"strategy": "price"}, {"sort": "latency"}, {"strategy": "least_loaded"})
FAULTS: dict[str, dict[str, float]] = {"429": {"limited": 1.0}, "500": {"success": 0.0, "failing": 0.05}}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("options", STRATEGIES, ids=lambda each: next(iter(each.values())))
@pytest.mark.parametrize(("rate", "seeds", "most"), [(2.0, (1,), 0.02), (0.2, (1, 2, 4), 0.08)])
def test_what_fails_in_no_time_gets_next_to_nothing(
    live: Callable[..., Any],
    truth: Callable[..., Truth],
    options: dict[str, str],
    fault: str,
    rate: float,
    seeds: tuple[int, ...],
    most: float,
) -> None:
    # A little better than the others before, so that it is the one in use.
    hole = [truth(0.0, 0.99), truth(HEALTHY, **FAULTS[fault])]
    other = [truth(0.0, 0.97)]
    for seed in seeds:
        story = live(
            [hole, other, other],
            options,
            duration=HEALTHY + LASTS,
            rate=rate,
            seed=seed,
            latencies=(1.4, 2.0, 2.0),
        )
        assert story.share(0, HEALTHY / 2, HEALTHY) > 0.3
        assert story.share(0, HEALTHY, HEALTHY + LASTS) < most
