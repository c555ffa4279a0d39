"""An endpoint that is down for half of each period, again and again, costs little more than none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.simulation.world import Truth

QUIET = 600.0  # s before it begins
HOURS = 2
LASTS = 3600.0 * HOURS  # s
RATE = 2.0  # requests a second
SEED = 1


@pytest.fixture(scope="module")
def avoided(live: Callable[..., Any], truth: Callable[..., Truth]) -> Any:
    """The same requests where that endpoint is not there."""
    return live([[truth(0.0, None)], [truth(0.0)], [truth(0.0)]], duration=QUIET + LASTS, rate=RATE, seed=SEED)


def lost(story: Any) -> int:
    """Requests whose first try failed."""
    return int(story.tally.lost[0])


@pytest.mark.parametrize("probe_every", [None, 60.0], ids=["without probes", "with probes"])
@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_who_comes_and_goes_is_ejected_a_few_times_an_hour_and_costs_little(
    live: Callable[..., Any],
    truth: Callable[..., Truth],
    avoided: Any,
    minutes: int,
    probe_every: float | None,
) -> None:
    period = 60.0 * minutes
    turns = [
        turn
        for number in range(int(LASTS / period))
        for turn in (truth(QUIET + number * period, 0.0), truth(QUIET + (number + 0.5) * period))
    ]
    flapping = [truth(0.0), *turns]
    story = live(
        [flapping, [truth(0.0)], [truth(0.0)]],
        duration=QUIET + LASTS,
        rate=RATE,
        seed=SEED,
        probe_every=probe_every,
    )
    causes = story.core.endpoint("m@p0", now=QUIET + LASTS).ejections
    # A failed trial is of one that was out already.
    ejections = sum(count for (cause, _), count in causes.items() if cause != "failed_trial")
    trials = len(story.told("endpoint.trial_started"))
    assert ejections <= 6 * HOURS
    assert trials < 0.01 * story.tally.requests
    assert lost(story) <= 1.5 * lost(avoided)
    assert story.told("endpoint.degraded") or ejections  # it was noticed at all
