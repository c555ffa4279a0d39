from __future__ import annotations

import pytest

from balancer.core.notes import Drain


@pytest.mark.parametrize(
    ("until", "now", "holds"),
    [(None, 1e9, True), (20.0, 19.9, True), (20.0, 20.0, False), (20.0, 30.0, False)],
    ids=["until resumed", "before its end", "at its end", "after it"],
)
def test_a_drain_holds_until_its_end(until: float | None, now: float, holds: bool) -> None:
    assert Drain("azure", "maintenance", 10.0, until).holds(now) is holds
