"""Small worlds made by hand, lived through by the real core, and what became of the requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Transition
from balancer.simulation.policies.interface import Try
from balancer.simulation.policies.ours import Ours
from balancer.simulation.replay import Replay, Run, Tally
from balancer.simulation.world import LATENCY, Track, Truth, World

SOUND = 0.98  # a hosted model's usual floor is 2 %


def at(moment: float, success: float | None = SOUND, **facts: float) -> Truth:
    """What is true from then on."""
    return Truth(moment, success, **facts)  # type: ignore[arg-type]


class Heard(Ours):
    """The core, and all that it was told."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__("ours", options)
        self.tries: list[Try] = []

    def learn(self, tried: Try, now: float) -> None:
        self.tries.append(tried)
        super().learn(tried, now)


class Story:
    """What became of the requests for one model; its endpoints are numbered in the order of the world."""

    def __init__(self, run: Run, core: Balancer, tries: Sequence[Try]) -> None:
        self.run = run
        self.core = core
        self.tries = tries

    @property
    def tally(self) -> Tally:
        """What became of the requests."""
        return self.run.tallies[0]

    def firsts(self, begin: float, end: float) -> list[int]:
        """The first choices from `begin` to before `end`, -1 for none."""
        times = zip(self.tally.times, self.tally.firsts, strict=True)
        return [first for moment, first in times if begin <= moment < end]

    def share(self, endpoint: int, begin: float, end: float) -> float:
        """The endpoint's share of first choices."""
        firsts = self.firsts(begin, end)
        return firsts.count(endpoint) / len(firsts)

    def told(self, event: str, *, endpoint: int = 0, after: float = 0.0) -> list[Transition]:
        """The core's own events of one endpoint."""
        key = f"m@p{endpoint}"
        return [
            each
            for each in self.core.transitions(0)
            if each.event == event and each.endpoint == key and each.now >= after
        ]


Live = Callable[..., Story]


def lived(
    tracks: Sequence[Sequence[Truth]],
    options: Mapping[str, str] | None = None,
    *,
    duration: float,
    rate: float,
    seed: int = 1,
    probe_every: float | None = None,
    latencies: Sequence[float] = (),
) -> Story:
    """Let a model with one endpoint for each of `tracks` be asked for, at `rate` requests a second."""
    made = tuple(
        Track(
            id=f"m@p{place}",
            model=0,
            provider=f"p{place}",
            tag=f"p{place}",
            truths=tuple(truths),
            samples=(),
            latency=latencies[place] if latencies else LATENCY,
        )
        for place, truths in enumerate(tracks)
    )
    world = World(name="scenario", duration=duration, models=("m",), tracks=made)
    policy = Heard({} if options is None else options)
    run = Replay(world, policy, seed=seed, rate=rate, probe_every=probe_every).to_end()
    return Story(run, policy.core, policy.tries)


@pytest.fixture(scope="session")
def truth() -> Callable[..., Truth]:
    """Make what is true from a moment on; the rest is sound."""
    return at


@pytest.fixture(scope="session")
def live() -> Live:
    """Live through a world of one model."""
    return lived
