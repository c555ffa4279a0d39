"""What the daemon must hand over: everything, by name, and for good."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from balancer.http import Hands


def test_no_hand_may_be_missing(world: Any) -> None:
    hands = world.hands()
    every = {each.name: getattr(hands, each.name) for each in fields(Hands)}
    for name in every:
        with pytest.raises(TypeError, match=name):
            Hands(**{other: value for other, value in every.items() if other != name})


def test_a_hand_is_not_exchanged_while_serving(world: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        world.hands().boot = "other"
