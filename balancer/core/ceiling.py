"""The load at which one endpoint begins to refuse: a ceiling on its requests a minute, learned from its 429s.

Theory of operation: as TCP learns a path's width. A burst of 429s cuts the ceiling to a share of the rate at
that time, and with time it rises again until the next ones, or until nothing that is sent there comes near it.
One 429 is a burst where it came at the highest rate that was ever borne of late: chance would have to strike
just then. Who has risen and is refused again has met the same quota, so the next rise takes twice as long, up to
a bound: each attempt costs somebody a refused request, while a quota that was raised costs only money.

The trailing minute is counted exactly, as providers state their limits; decisions and reports are counted apart
and the larger number is believed, because some proxies ask and never report, and others use one answer for many
requests.

What this module does not know: holds, the operator's own limits, and requests that were made without asking us.
"""

from __future__ import annotations

from math import floor, inf
from typing import Final

from balancer.core.capacity import MINUTE
from balancer.core.kept import PATIENCE_MAX, CeilingKept, span
from balancer.core.window import Column, Ring

CEILING_CUT: Final = 0.8  # of the rate at which a 429 came; TCP's CUBIC keeps 0.7, and a hold comes on top here
CEILING_AGAIN: Final = 0.5  # of the ceiling at the least, when a 429 comes below it: it may have been far too high
CEILING_RISE: Final = (
    0.02  # each minute without 429s, at first; with 0.1 a steady quota refuses each twentieth request
)
CEILING_SHARE: Final = 0.05  # of the minute's requests; fewer 429s are noise and no limit
CEILING_BURST: Final = 3  # 429s in a busy minute; one may be chance, and a full quota goes on answering so
CEILING_REQUESTS: Final = 10  # in a busy minute; of fewer the first 429 is the tenth part already, and no chance
CEILING_QUIET: Final = 2  # requests in the minute; of one no rate can be learned, and the hold is enough
CEILING_MIN: Final = 1.0  # request a minute; nobody would find out at 0 that the quota is back
CEILING_FORGET: Final = 2.0  # times the highest rate since the cut: so far above it, it limits nothing
CEILING_AGE_MAX: Final = 900.0  # s since the last 429, at first; quotas are raised without notice, and storms pass
CEILING_CONFIRMED: Final = 1.1  # times the cut; a 429 that finds it risen so far has met the same quota again …
CEILING_PATIENCE: Final = PATIENCE_MAX  # … and it rises half as fast then: each attempt costs somebody a request
BORNE_SPAN: Final = 1800.0  # s
BORNE_FIRST: Final = 120.0  # s; while the first minute fills, each moment has the highest rate
BORNE_MIN: Final = 4  # answers; of fewer nobody knows how much was borne

_DECIDED: Final[Column] = 0
_REPORTED: Final[Column] = 1
_LIMITED: Final[Column] = 2


class _Borne:
    """The most requests a minute that were borne without a 429, in the last half an hour, or up to 90 minutes."""

    __slots__ = ("_began", "_counts", "_most", "_since")

    def __init__(self) -> None:
        self._since = self._began = float("-inf")
        self._counts = [0, 0]  # answers, in the half hour before and in this one
        self._most = [0, 0]

    def take(self, rate: int, now: float) -> None:
        """Take note of an answer at that rate."""
        if now - self._began >= BORNE_SPAN:
            fresh = now - self._began >= 2 * BORNE_SPAN
            self._counts = [0 if fresh else self._counts[1], 0]
            self._most = [0 if fresh else self._most[1], 0]
            self._since, self._began = now if fresh else self._since, now
        self._counts[1] += 1
        self._most[1] = max(self._most[1], rate)

    def topped(self, rate: int, now: float) -> bool:
        """Whether so much was never borne, of enough answers to know."""
        if now - self._began >= 2 * BORNE_SPAN or now - self._since < BORNE_FIRST:
            return False
        return sum(self._counts) >= BORNE_MIN and rate >= max(self._most)


class Ceiling:
    """The requests a minute that one endpoint bears before 429s begin, learned from them."""

    __slots__ = ("_began", "_borne", "_counted", "_cut", "_cut_at", "_patience", "_peak", "_ring", "_risen_from")

    def __init__(self) -> None:
        self._ring = Ring(MINUTE)
        self._borne = _Borne()
        self._began = float("inf")  # since when there were requests without a minute's pause
        self._counted = float("-inf")
        self._cut: float | None = None
        self._cut_at = float("-inf")
        self._risen_from = float("-inf")  # the last 429
        self._patience = 0  # how often in turn it had risen and was met again
        self._peak = 0

    @property
    def learned(self) -> bool:
        """Whether 429s taught it something that was not seen to be outgrown."""
        return self._cut is not None

    def took(self, now: float) -> None:
        """Take note that a decision sent a request there."""
        self._count(now, _DECIDED)

    def reported(self, ended: float) -> None:
        """Take note of a report that a request was made there."""
        self._count(ended, _REPORTED)

    def served(self, *, ended: float, now: float) -> None:
        """Take note that a request was answered: the endpoint bears what it bore in this minute."""
        if now - ended >= MINUTE:
            return  # nor does that say anything of this minute
        self._borne.take(self._rate(now) - self._ring.total(now, _LIMITED), now)

    def _count(self, now: float, column: Column) -> None:
        self._forget(now)  # before the peak moves: what is forgotten must not come back
        self._ring.record(now, column)
        if now - self._counted >= MINUTE:
            self._began = now
        self._counted = max(self._counted, now)
        if self._cut is not None:
            self._peak = max(self._peak, self._rate(now))

    def _forget(self, now: float) -> None:
        if self._cut is not None and self.ceiling(now) is None:
            self._cut = None

    def _rate(self, now: float) -> int:
        decided, reported, _ = self._ring.counts(now)
        return max(decided, reported)

    def limited(self, *, began: float, ended: float, now: float) -> None:
        """Take a 429 to a request that `began` then: the first of a burst cuts, each begins the rise anew.

        Shape: among many answers a few 429s are noise, and of a single request no rate can be learned.
        """
        self._forget(now)
        if now - ended >= MINUTE:
            return  # what is told so late says nothing of this minute
        self._ring.record(ended, _LIMITED)
        rate, limited = self._rate(now), self._ring.total(now, _LIMITED)
        if limited < CEILING_SHARE * rate:
            return
        before = self.ceiling(now)
        # A minute that has only begun, or that a hold cut short, is not quiet: it says nothing of the rate.
        quiet = rate >= CEILING_QUIET and limited == 1 and now - self._began >= MINUTE
        enough = limited >= CEILING_BURST if rate >= CEILING_REQUESTS else quiet
        # The first beyond all that it bore lately: chance would have to strike at that very moment.
        enough = enough or (rate >= CEILING_QUIET and self._borne.topped(rate, now))
        if began >= self._cut_at and (before is not None or enough):
            cut = max(CEILING_CUT * rate, CEILING_MIN)
            # After a hold the minute is nearly empty: that says little of what the endpoint bears.
            if before is not None and self._cut is not None:
                again = before >= CEILING_CONFIRMED * self._cut
            else:  # forgotten, if it was known at all
                again = now - self._cut_at < 4 * CEILING_AGE_MAX * 2.0**self._patience
            if now - self._cut_at >= MINUTE:  # sooner it is the same burst still
                self._patience = min(self._patience + 1, CEILING_PATIENCE) if again else 0
            self._cut = cut if before is None else min(before, max(cut, CEILING_AGAIN * before))
            self._cut_at = now
            self._peak = max(rate, 1)  # so a cut that a hold left far above its minute is soon forgotten
        self._risen_from = max(self._risen_from, now)

    def ceiling(self, now: float) -> float | None:
        """Requests a minute; `None` when no 429 ever came, or when it has grown out of what they taught."""
        cut = self._cut
        if cut is None:
            return None
        risen = max(0.0, now - self._risen_from) / 2.0**self._patience
        if risen >= CEILING_AGE_MAX:
            return None
        value = cut * (1.0 + CEILING_RISE) ** (risen / MINUTE)
        return None if value > CEILING_FORGET * self._peak else value

    def full(self, now: float) -> bool:
        """Whether one more request would go above the ceiling: it should go elsewhere."""
        value = self.ceiling(now)
        return value is not None and self._rate(now) >= floor(value)

    def dump(self, now: float) -> CeilingKept:
        """What is to be kept; nothing of a cut that is outgrown."""
        known = self.ceiling(now) is not None
        return CeilingKept(
            cut=self._cut if known else None,
            age=None if self._cut_at == -inf else span(now - self._cut_at),
            rising=span(now - self._risen_from) if known else 0.0,
            peak=self._peak if known else 0,
            patience=self._patience,
            requests=self._ring.dump(now),
        )

    def restore(self, kept: CeilingKept, *, then: float, now: float) -> None:
        """Take back what was told at `then`, unless a 429 taught something since, or the cut is outgrown."""
        self._ring.restore(kept.requests, then=then)
        if self._cut_at > -inf or kept.age is None:
            return
        self._cut, self._peak, self._patience = kept.cut, kept.peak, kept.patience
        self._cut_at, self._risen_from = then - kept.age, then - kept.rising
        self._forget(now)
