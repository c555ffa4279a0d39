"""Wished percentiles: who misses one goes behind all others, and is never ruled out.

What this module does not know: how an answer's speed is measured. An endpoint of which too little is known misses
nothing, or a new one would never be asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from balancer.core.request import CUTOFF_NAMES, Cutoffs, Preferences
from balancer.core.row import Row


def wished(wishes: Preferences) -> bool:
    """Whether any percentile is wished."""
    return wishes.preferred_max_latency is not None or wishes.preferred_min_throughput is not None


def misses(wishes: Preferences, row: Row, now: float) -> bool:
    """Whether an endpoint misses a wished percentile of the last five minutes."""
    latency, throughput = wishes.preferred_max_latency, wishes.preferred_min_throughput
    if latency is not None and _outside(latency, row.speed.percentiles("ttft", now), 1):
        return True
    return throughput is not None and _outside(throughput, row.speed.percentiles("throughput", now), -1)


def _outside(cutoffs: Cutoffs, found: Sequence[float] | None, sign: int) -> bool:
    if found is None:
        return False
    return any(sign * found[CUTOFF_NAMES.index(name)] > sign * limit for name, limit in cutoffs.given())
