from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, HealthPolicy
from balancer.core.outcome import Outcome
from balancer.core.request import Cutoffs, Preferences, Request
from balancer.core.row import Row
from balancer.core.wishes import misses, wished

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]

NOW = 60.0
NONE = Preferences()


def latency(**cutoffs: float) -> Preferences:
    return Preferences(preferred_max_latency=Cutoffs(**cutoffs))


def throughput(**cutoffs: float) -> Preferences:
    return Preferences(preferred_min_throughput=Cutoffs(**cutoffs))


@pytest.fixture
def row(endpoint: MakeEndpoint) -> Row:
    return Row(endpoint("a"), HealthPolicy(), random=Random(1), now=0.0)


@pytest.fixture
def seen(row: Row) -> Row:
    """Of a hundred answers 95 begin after 1 s and bring 100 tokens a second, five after 5 s and bring 20."""
    for number in range(100):
        slow = number % 20 == 0
        outcome = Outcome(
            kind="success",
            latency=10.0,
            ttft=5.0 if slow else 1.0,
            prompt_tokens=100,
            completion_tokens=200 if slow else 1000,
        )
        row.record(
            outcome,
            source="report",
            ended=NOW,
            duration=None,
            now=NOW + number / 10,
            decision=None,
            policy=HealthPolicy(),
            random=Random(1),
        )
    return row


def test_a_wish_is_a_percentile_of_either_kind() -> None:
    assert not wished(NONE)
    assert wished(latency(p50=1.0))
    assert wished(throughput(p99=1.0))


@pytest.mark.parametrize(
    ("wishes", "missed"),
    [
        (NONE, False),
        (latency(p50=1.2), False),
        (latency(p50=0.8), True),
        (latency(p90=1.2), False),
        (latency(p99=4.0), True),
        (latency(p99=6.0), False),
        (latency(p50=1.2, p99=4.0), True),
        (latency(p50=1.2, p99=6.0), False),
        (throughput(p50=90.0), False),
        (throughput(p50=120.0), True),
        (throughput(p99=15.0), False),
        (throughput(p99=30.0), True),
        (throughput(p50=90.0, p99=30.0), True),
        (latency(p50=0.0), True),
        (throughput(p50=0.0), False),
    ],
    ids=lambda value: (
        str(value.preferred_max_latency or value.preferred_min_throughput)
        if isinstance(value, Preferences)
        else None
    ),
)
def test_every_wished_percentile_must_hold(seen: Row, wishes: Preferences, missed: bool) -> None:
    assert misses(wishes, seen, NOW + 10.0) == missed


def test_of_whom_nothing_is_known_nothing_is_missed(row: Row) -> None:
    assert not misses(latency(p50=0.001), row, NOW)
    assert not misses(throughput(p50=1e6), row, NOW)


def test_after_five_minutes_nothing_is_known_any_more(seen: Row) -> None:
    assert misses(latency(p50=0.5), seen, NOW + 200.0)
    assert not misses(latency(p50=0.5), seen, NOW + 400.0)


def test_who_misses_a_wish_goes_last_and_is_not_ruled_out(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    table = Balancer(catalog(endpoint("a"), endpoint("b", price=5.0), endpoint("c", price=9.0, priority=1)), seed=1)
    for tag, ttft in (("a", 3.0), ("b", 0.5), ("c", 0.5)):
        table.record(f"author/slug@{tag}", Outcome(kind="success", latency=4.0, ttft=ttft), now=NOW)

    def order(**wanted: object) -> list[str]:
        decision = table.best(ask(**wanted), now=NOW)
        return [decision.selected.tag, *[each.tag for each in decision.fallbacks]]

    assert order() == ["a", "b", "c"]
    assert order(preferred_max_latency=Cutoffs(p50=1.0)) == ["b", "c", "a"]
    assert order(preferred_max_latency=Cutoffs(p50=1.0), order=("a",)) == ["b", "c", "a"]
    assert order(preferred_max_latency=Cutoffs(p50=0.1)) == ["a", "b", "c"]
