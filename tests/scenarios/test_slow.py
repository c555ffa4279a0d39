"""An endpoint that answers ten times slower, and well, is left alone while that lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.simulation.world import LATENCY, Truth

SLOW = 900.0  # s; when it begins
WELL = 1800.0  # s; when it is over
BACK = 90.0  # s after that
END = 2190.0  # s
RATE = 2.0  # requests a second
ANSWERS = 10  # slow ones that may pass until it is noticed


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("options", "latency"),
    [
        ({"strategy": "least_loaded"}, LATENCY),
        # Of equals the quickest takes all, so that nobody has a share of its own. Here it is always the quickest.
        ({"sort": "latency"}, 0.7 * LATENCY),
    ],
    ids=["least_loaded", "latency"],
)
def test_who_answers_ten_times_slower_is_left_alone_and_soon_back_when_it_is_well(
    live: Callable[..., Any],
    truth: Callable[..., Truth],
    options: dict[str, str],
    latency: float,
    seed: int,
) -> None:
    slow = [truth(0.0), truth(SLOW, slow=10.0), truth(WELL)]
    story = live(
        [slow, [truth(0.0)], [truth(0.0)]],
        options,
        duration=END,
        rate=RATE,
        seed=seed,
        latencies=(latency, LATENCY, LATENCY),
    )
    fair = story.share(0, SLOW / 2, SLOW)
    answers = [
        each.ended
        for each in story.tries
        if each.track == 0 and each.began >= SLOW and each.ended - each.began > 3 * latency
    ]
    noticed = answers[ANSWERS - 1]
    assert fair > 0.25
    assert story.share(0, noticed, WELL) < 0.1
    assert story.share(0, SLOW + 120.0, WELL) < 0.1  # in case that ten slow answers take their time
    assert story.share(0, WELL + BACK, END) > fair / 2
