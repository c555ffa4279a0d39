"""OpenRouter's classic rule: outages of the last 30 s go last, then tiers by uptime, then a lottery by 1/price².

Theory of operation: the tries of the last 30 minutes of each endpoint are kept. With an uptime of 95 % and more it
is in the first tier, from 80 % up in the second, below in the third; whoever has an outage now is behind them all.
Within a tier the order is drawn by 1/price². Tries leave the windows at their own moments, so a change of tier is
told with the moment at which it happened, even where it is seen later.

What is judgement, since no more than the words is published: an outage is at least half of the tries that ended in
the last 30 s having failed; an uptime needs 10 tries, not the 100 requests of the provider page, which an endpoint
of a model with six requests a minute never has; all endpoints take part in the lottery, not some "lowest-cost
candidates". A 429 is no error here: OpenRouter tracks it apart, and the classic rule does nothing with it. Probes
count as requests do: OpenRouter sees far more of an endpoint than one user.

Tried on the recorded week (three days, seed 2; of 10,000 requests 88.5 lost at the first try, 2.01 at the second):
any failure as an outage 88.5 and 2.30, three quarters of them failed 89.7 and 2.01; 5 tries for an uptime 88.5,
20 88.8, and 100 303, since then nobody has one.

What this module does not know: latency, and quota.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final

from balancer.core.outcome import COUNTS
from balancer.simulation.policies.interface import Choice, Move, Try
from balancer.simulation.policies.reference import Reference, lottery
from balancer.simulation.world import Truth, World

# The rule's own numbers: uptime over 30 minutes, outages of 30 s.
NORMAL: Final = 0.95
DERANKED: Final = 0.80
UPTIME_SPAN: Final = 1800.0  # s
OUTAGE_SPAN: Final = 30.0  # s
# Judgement.
OUTAGE_SHARE: Final = 0.5
TRIES_MIN: Final = 10

_NORMAL, _DERANKED, _DOWN, _OUTAGE = range(4)


class _Window:
    """The tries that ended less than `span` ago."""

    __slots__ = ("failures", "span", "tries")

    def __init__(self, span: float) -> None:
        self.span = span
        self.tries: deque[tuple[float, bool]] = deque()
        self.failures = 0

    def add(self, ended: float, *, failed: bool) -> None:
        self.tries.append((ended, failed))
        self.failures += failed

    def changes_at(self) -> float:
        """When the oldest one leaves."""
        return self.tries[0][0] + self.span if self.tries else inf

    def forget(self, now: float) -> None:
        tries = self.tries
        while tries and tries[0][0] + self.span <= now:
            self.failures -= tries.popleft()[1]


class Classic(Reference):
    """Tiers by failures, a lottery by price in each."""

    probed = True
    demotes = True

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Start with everybody in the first tier."""
        super().begin(world, present, seed)
        size = len(world.tracks)
        self._alarms = [_Window(OUTAGE_SPAN) for _ in range(size)]
        self._uptimes = [_Window(UPTIME_SPAN) for _ in range(size)]
        self._tiers = [_NORMAL] * size
        self._changes = [inf] * size  # when a try leaves one of the windows

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Draw within each tier."""
        offered, changes = self.lineups[model], self._changes
        for track in offered.tracks:
            if changes[track] <= now:
                self._settle(track, now)
        order = lottery(offered, self.random)
        order.sort(key=self._tiers.__getitem__)
        return Choice(order[:places])

    def learn(self, tried: Try, now: float) -> None:
        """Count it, and see where that puts the endpoint."""
        count, track = COUNTS[tried.kind], tried.track
        if count not in ("success", "failure"):
            return
        if self._changes[track] <= now:
            self._settle(track, now)
        failed = count == "failure"
        self._alarms[track].add(now, failed=failed)
        self._uptimes[track].add(now, failed=failed)
        self._judge(track, now)

    def _settle(self, track: int, now: float) -> None:
        """Let go what left the windows by `now`, one moment after the other."""
        while (at := self._changes[track]) <= now:
            self._alarms[track].forget(at)
            self._uptimes[track].forget(at)
            self._judge(track, at)

    def _judge(self, track: int, at: float) -> None:
        alarm, uptime = self._alarms[track], self._uptimes[track]
        self._changes[track] = min(alarm.changes_at(), uptime.changes_at())
        before, tier = self._tiers[track], _NORMAL
        if alarm.failures and alarm.failures >= OUTAGE_SHARE * len(alarm.tries):
            tier = _OUTAGE
        elif uptime.failures and len(uptime.tries) >= TRIES_MIN:
            good = 1 - uptime.failures / len(uptime.tries)
            tier = _NORMAL if good >= NORMAL else _DERANKED if good >= DERANKED else _DOWN
        self._tiers[track] = tier
        if (before > _NORMAL) is not (tier > _NORMAL):
            self.moved.append(Move(at, track, tier > _NORMAL))
