"""The policies that can be compared, by name.

To add one: a class that is made of (name, options) and keeps `interface.Policy`, and a line in `POLICIES`. The
properties in `tests/simulation/policies/test_every.py` then hold it to what all of them promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from balancer.simulation.policies.blind import Cheapest, PriceSquared, Uniform
from balancer.simulation.policies.classic import Classic
from balancer.simulation.policies.consecutive import Consecutive
from balancer.simulation.policies.cooldown import Cooldown
from balancer.simulation.policies.interface import Policy
from balancer.simulation.policies.options import hint, split
from balancer.simulation.policies.oracle import Oracle, OraclePrice
from balancer.simulation.policies.ours import Ours
from balancer.simulation.policies.two_memory import TwoMemory

__all__ = ["POLICIES", "Known", "Policy", "describe", "make"]


class Known(NamedTuple):
    """How a policy is made, of its whole text and its options, and what it is in one line."""

    make: Callable[[str, Mapping[str, str]], Policy]
    meaning: str
    options: str = ""


POLICIES: Final[Mapping[str, Known]] = {
    "balancer": Known(Ours, "the core that the daemon runs", "strategy, failure_price, …, health.…"),
    "cheapest": Known(Cheapest, "the lowest price, no health"),
    "uniform": Known(Uniform, "any endpoint, no health"),
    "price_squared": Known(PriceSquared, "a lottery by 1/price², no health"),
    "classic": Known(Classic, "OpenRouter's classic: 30 s outage last, 95/80 % tiers, a lottery by 1/price²"),
    "consecutive_5": Known(
        Consecutive, "five failures in a row are out for 30 s × n (Envoy), a lottery by 1/price²"
    ),
    "cooldown": Known(Cooldown, "5 s out after more than half of a minute failed (LiteLLM), any other"),
    "two_memory": Known(
        TwoMemory, "price + 15 × P(fail) of two memories: the reference", ", ".join(TwoMemory.allowed)
    ),
    "oracle": Known(Oracle, "the same score with the true share", ", ".join(Oracle.allowed)),
    "oracle_price": Known(OraclePrice, "the best true share whatever it costs"),
}


def make(text: str) -> Policy:
    """Make a policy of `name` or `name:key=value,key=value`; it is told apart by the whole text.

    Raises: ValueError with every problem.
    """
    name = text.partition(":")[0]
    if name not in POLICIES:
        raise ValueError(f"{name!r} is no policy; {hint(name, POLICIES)}")
    try:
        return POLICIES[name].make(text, split(text))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def describe() -> str:
    """One line for each policy."""
    width = max(map(len, POLICIES))
    return "\n".join(
        f"{name:{width}}  {known.meaning}{f' ({known.options})' if known.options else ''}"
        for name, known in POLICIES.items()
    )
