"""The strategies: how equals are ranked, one file each behind `interface.Strategy`.

To add one: a file with an object of that shape, its name in `core.model.StrategyName` (which the configuration and
its schema follow), a line in `make` here, and a row in the README's table. The properties in
`tests/core/strategies/test_every.py` then hold it to what all of them promise.
"""

from __future__ import annotations

from balancer.core.model import Routing, Sort
from balancer.core.strategies.adaptive import Adaptive
from balancer.core.strategies.exacto import Exacto
from balancer.core.strategies.interface import Candidate, Figure, Figures, Need, Strategy
from balancer.core.strategies.least_loaded import LeastLoaded
from balancer.core.strategies.price import Price
from balancer.core.strategies.sort import SortByLatency, SortByPrice, SortByThroughput
from balancer.core.strategies.weighted import Weighted

__all__ = ["Candidate", "Figure", "Figures", "Need", "Strategy", "make", "make_sort"]


def make(routing: Routing) -> Strategy:
    """The strategy that the configuration names."""
    match routing.strategy:
        case "adaptive":
            return Adaptive(routing)
        case "price":
            return Price()
        case "weighted":
            return Weighted()
        case "least_loaded":
            return LeastLoaded()


def make_sort(sort: Sort) -> Strategy:
    """The ranking that a request asks for with `sort` or a suffix."""
    match sort:
        case "price":
            return SortByPrice()
        case "latency":
            return SortByLatency()
        case "throughput":
            return SortByThroughput()
        case "exacto":
            return Exacto()
