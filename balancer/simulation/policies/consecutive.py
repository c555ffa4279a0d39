"""Envoy's default outlier detection over a lottery by 1/price²: five failures in a row eject.

Theory of operation: the fifth failure in a row ejects for 30 s times the number of ejections, at most 300 s; a
timer that ticks every 10 s takes back whose time is up, and takes one from the number of whoever was not out. No
more than a tenth of a model's endpoints are out, but one always may be; where less than half would be left, health
is ignored (panic). A success ends the streak, and so does a 429: to Envoy that is not a 5xx, and nothing here
sees quota. Those that are out stand last, as Envoy's retries reach them only when nobody else is left.

What is judgement: "one always may be" was Envoy's rule until 1.28 and is gRPC's; since then the tenth holds from
the first one on, and nobody of fewer than ten endpoints is ever out. Envoy's other detectors are left away: they
need 50 to 100 requests in 10 s, or are off. It learns from requests alone: a probe is no traffic to this detector.

Source: Envoy's outlier_detection.proto and its detector (checkHostForUneject, ejectHost); gRPC proposal A50.

What this module does not know: rates of failure, and latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from balancer.core.outcome import COUNTS
from balancer.simulation.policies.interface import Choice, Move, Try
from balancer.simulation.policies.reference import Reference, lottery
from balancer.simulation.world import Truth, World

# Envoy's defaults.
FAILURES: Final = 5
TICK: Final = 10.0  # s
EJECTION: Final = 30.0  # s, times the number of ejections
EJECTION_MAX: Final = 300.0  # s
NUMBER_MAX: Final = 11  # where it stops counting: the first whose hold would be above EJECTION_MAX
OUT_SHARE_MAX: Final = 0.1
PANIC_SHARE: Final = 0.5


class Consecutive(Reference):
    """Five in a row, then out for a while."""

    demotes = True

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Start with everybody in."""
        super().begin(world, present, seed)
        self._models = [track.model for track in world.tracks]
        self._streaks = [0] * len(world.tracks)
        self._numbers = [0] * len(world.tracks)  # of ejections, as they were at the tick in `_since`
        self._since = [0] * len(world.tracks)
        self._out: list[dict[int, int]] = [{} for _ in world.models]  # the tick at which each comes back

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Draw, those that are out last."""
        order = lottery(self.lineups[model], self.random)
        out = self._out[model]
        if out:
            self._take_back(out, now)
            left = sum(track not in out for track in order)
            if left >= PANIC_SHARE * len(order):
                order.sort(key=out.__contains__)
        return Choice(order[:places])

    def learn(self, tried: Try, now: float) -> None:
        """Count the streak."""
        count, track = COUNTS[tried.kind], tried.track
        if count != "failure":
            if count != "none":
                self._streaks[track] = 0
            return
        out = self._out[self._models[track]]
        self._take_back(out, now)
        if track in out:
            return
        self._streaks[track] += 1
        if self._streaks[track] == FAILURES:
            self._streaks[track] = 0
            tracks = self.lineups[self._models[track]].tracks
            already = sum(each in out for each in tracks)
            if not already or already < OUT_SHARE_MAX * len(tracks):
                self._eject(track, now)

    def _eject(self, track: int, now: float) -> None:
        good = int(now // TICK) - self._since[track]
        number = min(max(0, self._numbers[track] - good) + 1, NUMBER_MAX)
        self._numbers[track] = number
        self._out[self._models[track]][track] = ceil((now + min(number * EJECTION, EJECTION_MAX)) / TICK)
        self.moved.append(Move(now, track, True))

    def _take_back(self, out: dict[int, int], now: float) -> None:
        for track in [track for track, tick in out.items() if tick * TICK <= now]:
            tick = out.pop(track)
            self._since[track] = tick
            self._streaks[track] = 0
            self.moved.append(Move(tick * TICK, track, False))
