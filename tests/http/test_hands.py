"""What the daemon must hand over: everything, by name, and for good."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from balancer.core.history import HistoryAbsent, HistoryQuery
from balancer.http import Hands
from balancer.http.hands import no_history


def test_no_hand_may_be_missing(world: Any) -> None:
    hands = world.hands()
    every = {each.name: getattr(hands, each.name) for each in fields(Hands)}
    for name in every:
        with pytest.raises(TypeError, match=name):
            Hands(**{other: value for other, value in every.items() if other != name})


async def test_where_no_history_is_kept_whoever_asks_is_told_why() -> None:
    with pytest.raises(HistoryAbsent, match=r"store\.history is false"):
        await no_history(HistoryQuery(since=0, until=60, step=None))


def test_a_hand_is_not_exchanged_while_serving(world: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        world.hands().boot = "other"
