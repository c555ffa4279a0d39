"""LiteLLM's router as it comes: a plain shuffle, and 5 s of cooldown for whoever failed more than half of a minute.

Theory of operation: successes and failures of an endpoint are counted for 60 s from the first of each. A failure
that makes more than half of five or more requests cools the endpoint down for 5 s; a 429, or a refused credential,
does so at once, a 429 for its Retry-After where it has one. A cooldown in force is not made longer. Who cools down
stands last; a model's only endpoint never does.

What is judgement: LiteLLM answers with an error when all are cooling, and may draw the same endpoint again for a
retry; here every try goes to another one, as the other policies' do, which is in its favour. It learns from
requests alone: its health checks do not count towards a cooldown.

Source: cooldown_handlers.py, track_deployment_metrics.py and constants.py of the project in 2026. That the minute
has two clocks follows from its cache, where the first count sets a key's time to live.

What this module does not know: prices, and latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from balancer.core.outcome import COUNTS
from balancer.simulation.policies.interface import Choice, Move, Try
from balancer.simulation.policies.reference import Reference, shuffle
from balancer.simulation.world import Truth, World

# The project's defaults.
MINUTE: Final = 60.0  # s
COOLDOWN: Final = 5.0  # s
FAILED_SHARE: Final = 0.5  # more than this
REQUESTS_MIN: Final = 5


class _Count:
    """What was counted since the first of a minute."""

    __slots__ = ("number", "until")

    def __init__(self) -> None:
        self.number = 0
        self.until = -inf

    def add(self, now: float) -> None:
        if now > self.until:
            self.number, self.until = 0, now + MINUTE
        self.number += 1

    def at(self, now: float) -> int:
        return self.number if now <= self.until else 0


class Cooldown(Reference):
    """Any endpoint, those that cool down last."""

    demotes = True

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Start with everybody warm."""
        super().begin(world, present, seed)
        self._models = [track.model for track in world.tracks]
        self._successes = [_Count() for _ in world.tracks]
        self._failures = [_Count() for _ in world.tracks]
        self._cooling: list[dict[int, float]] = [{} for _ in world.models]  # until when

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Shuffle, those that cool down last."""
        order = shuffle(self.lineups[model], self.random)
        cooling = self._cooling[model]
        if cooling:
            self._take_back(cooling, now)
            order.sort(key=cooling.__contains__)
        return Choice(order[:places])

    def learn(self, tried: Try, now: float) -> None:
        """Count, and cool down who failed too much."""
        kind, track = tried.kind, tried.track
        if kind == "success":
            self._successes[track].add(now)
            return
        if COUNTS[kind] == "none":
            return
        self._failures[track].add(now)
        model = self._models[track]
        cooling = self._cooling[model]
        self._take_back(cooling, now)
        if track in cooling or len(self.lineups[model].tracks) == 1 or not self._is_too_much(tried, now):
            return
        hold = tried.retry_after if kind == "rate_limited" and tried.retry_after is not None else COOLDOWN
        cooling[track] = now + hold
        self.moved.append(Move(now, track, True))

    def _is_too_much(self, tried: Try, now: float) -> bool:
        if tried.kind in ("rate_limited", "refused"):
            return True
        failures = self._failures[tried.track].at(now)
        requests = failures + self._successes[tried.track].at(now)
        return requests >= REQUESTS_MIN and failures > FAILED_SHARE * requests

    def _take_back(self, cooling: dict[int, float], now: float) -> None:
        for track in [track for track, until in cooling.items() if until <= now]:
            self.moved.append(Move(cooling.pop(track), track, False))
