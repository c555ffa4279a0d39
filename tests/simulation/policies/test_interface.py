from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pytest

from balancer.simulation.policies import POLICIES, make
from balancer.simulation.policies.interface import Choice, Offer, Try
from balancer.simulation.world import Track, Truth, World


class Sealed(Sequence[Truth]):
    """The truth; whoever looks at it is caught."""

    def __init__(self, truths: Sequence[Truth]) -> None:
        self.truths = truths
        self.looked = 0

    @overload
    def __getitem__(self, place: int) -> Truth: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Truth]: ...
    def __getitem__(self, place: int | slice) -> Truth | Sequence[Truth]:
        self.looked += 1
        return self.truths[place]

    def __len__(self) -> int:
        self.looked += 1
        return len(self.truths)

    def __iter__(self) -> Iterator[Truth]:
        self.looked += 1
        return iter(self.truths)


@pytest.mark.parametrize("name", POLICIES)
def test_only_who_says_that_it_knows_looks_at_the_truth(name: str) -> None:
    # A track without truths: who looks them up there does not get far.
    tracks = tuple(
        Track(id=f"m@{place}", model=0, provider=f"p{place}", tag=f"p{place}", truths=(), samples=())
        for place in range(3)
    )
    policy = make(name)
    truths = Sealed([Truth(0.0, 0.9), Truth(0.0, 0.5), Truth(0.0, 0.99)])
    policy.begin(World(name="sealed", duration=1e9, models=("m",), tracks=tracks), truths, 1)
    policy.offer(0, [Offer(place, 1.0 + place) for place in range(3)], 0.0)
    for step in range(50):
        now = 10.0 * step
        order, token = policy.choose(0, 3, now)
        policy.learn(Try(order[0], "server_error", now, now + 0.3, None, None, False, token), now + 0.3)
        policy.learn(Try(order[-1], "success", now, now + 2.0, 0.5, None, True, None), now + 2.0)
    policy.moves()
    assert (truths.looked > 0) is policy.knows


def test_a_choice_needs_no_token() -> None:
    order, token = Choice([2, 0])
    assert (order, token) == ([2, 0], None)
