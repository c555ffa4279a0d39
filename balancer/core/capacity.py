"""What an endpoint can bear: 429 holds, the operator's limits, what is under way.

Theory of operation: a 429 is quota, not illness. It sets a hold until the moment that the provider named, or,
where it named none, for a time that doubles while 429s go on. The exponent is this module's own: it never
feeds ejections. Deadlines only move later. A burst of requests that were already under way when the first 429
came grows the hold once, not once each: only a request that began after the last growth may double it.

A hold says "not now"; `Quota` says "not that much": it counts what the operator allows one credential, over the
trailing minute, exactly, as providers state their limits. Decisions and reports are counted apart and the larger
number is believed: some proxies ask and never report, others use one answer for many requests. `InFlight`
guesses the load from decisions that nobody reported on yet, and whether the endpoint hangs.

What this module does not know: which endpoints share a quota, at what load one begins to refuse (`ceiling`), and
requests that were made without asking us.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from math import exp, inf, log
from random import Random
from typing import Final

from balancer.core.kept import COUNT_MAX, ThrottleKept, span
from balancer.core.model import Limits
from balancer.core.request import TOKENS_MAX
from balancer.core.window import Column, Ring

HOLD_FIRST: Final = 5.0  # s; doubles to 300 s in six steps
HOLD_MIN: Final = 1.0  # s; "Retry-After: 0" is not an invitation to spin

MINUTE: Final = 60.0  # s; rpm and tpm are stated per minute

IN_FLIGHT_MAX: Final = 1000  # decisions remembered of one endpoint
LOST_AGE: Final = 600.0  # s; no answer takes longer
SETTLED_MAX: Final = 1024  # decisions, reported or lost; then both counts are halved, so that they follow a change
SILENCE_DECAY: Final = 600.0  # s; a proxy that tells in batches does so at least every few minutes
SILENCE_MARGIN: Final = 1.5  # times the longest silence is no usual one any more
REPORTED_MIN: Final = 20  # reports before it is known whether there usually are any
OVERDUE_MIN: Final = 5  # in a row; as of failures
UNREPORTED_MIN: Final = 0.05  # some reports are lost, and one answer of a hundred is slower than its p99
HANGING_SURE: Final = log(10 * 86400 * 5.0)  # by chance once in ten days at five requests a second

_REQUESTS: Final[Column] = 0
_TOKENS: Final[Column] = 1


class Throttle:
    """One endpoint's hold. `until` is a monotonic moment; before the first 429 it lies in the past."""

    __slots__ = ("_grown", "exponent", "until")

    def __init__(self) -> None:
        self.until = float("-inf")
        self.exponent = 0
        self._grown = float("-inf")

    def holds(self, now: float) -> bool:
        """Whether the endpoint is to be left alone at `now`."""
        return now < self.until

    def limit(self, *, hint: float | None, began: float, ended: float, hold_max: float, random: Random) -> None:
        """Take a 429 (or an overload that named a time) that `began` and `ended` then."""
        if hint is not None:
            hold = min(max(hint, HOLD_MIN), hold_max)
        else:
            if began >= self._grown:
                self.exponent += 1
                self._grown = ended
            doublings = min(max(self.exponent, 1), 16) - 1  # a straggler may come after `ease`: a first 429 again
            hold = min(HOLD_FIRST * 2**doublings, hold_max)
            hold = hold / 2 + random.random() * hold / 2  # equal jitter: holds of many askers do not end at once
        self.until = max(self.until, ended + hold)

    def ease(self, *, began: float) -> None:
        """Take a success: one that began after the last growth shows that the quota is back."""
        if began >= self._grown:
            self.exponent = 0

    def dump(self, now: float) -> ThrottleKept:
        """What is to be kept."""
        grown = None if self._grown == -inf else span(now - self._grown)
        return ThrottleKept(hold=span(self.until - now), exponent=min(self.exponent, COUNT_MAX), grown=grown)

    def restore(self, kept: ThrottleKept, *, then: float, hold_max: float) -> None:
        """Take back what was told at `then`. The later end of two holds stands, and an exponent learned since."""
        self.until = max(self.until, then + min(kept.hold, hold_max))
        if self._grown == -inf and kept.grown is not None:
            self.exponent, self._grown = kept.exponent, then - kept.grown


class Quota:
    """One quota domain: what was sent under a credential in the trailing minute, against the operator's limits."""

    __slots__ = ("_decided", "_reported")

    def __init__(self) -> None:
        self._decided = Ring(MINUTE, wide=True)
        self._reported = Ring(MINUTE, wide=True)

    def take(self, now: float, tokens: int) -> None:
        """Count one decision for a request of about so many tokens, prompt and answer together."""
        _take(self._decided, now, tokens)

    def report(self, ended: float, tokens: int) -> None:
        """Count one request that was made, with the tokens that it took as far as they were told."""
        _take(self._reported, ended, tokens)

    def wait(self, now: float, limits: Limits, tokens: int) -> float:
        """Seconds until one more request of so many tokens has room; 0 when it has.

        Shape: a request bigger than the whole `tpm` waits until no token of others is in the minute, and then may
        pass: refusing it for ever would be no limit but a filter. `inf` where `rpm` is 0.
        """
        wait = 0.0
        for ring in (self._decided, self._reported):
            if limits.rpm is not None:
                wait = max(wait, ring.falls_to(now, _REQUESTS, limits.rpm - 1))
            if limits.tpm is not None:
                wait = max(wait, ring.falls_to(now, _TOKENS, max(limits.tpm - tokens, 0)))
        return wait

    def dump(self, now: float) -> list[list[int]]:
        """What is to be kept: the minute's buckets, of decisions or reports, whichever tell more."""
        both = Ring(MINUTE, wide=True)
        for ring in (self._decided, self._reported):
            both.restore(ring.dump(now), then=now)
        return both.dump(now)

    def restore(self, cells: Iterable[Sequence[int]], *, then: float) -> None:
        """Take back what was told at `then`."""
        self._decided.restore(cells, then=then)


def _take(ring: Ring, now: float, tokens: int) -> None:
    ring.record(now, _REQUESTS)
    ring.record(now, _TOKENS, min(max(tokens, 0), TOKENS_MAX))


class InFlight:
    """Decisions for one endpoint that nobody reported on yet: a guess at its load, and at whether it hangs.

    It is a guess because a proxy may use a fallback, lose a report, tell many at once, or never report. So what
    counts as overdue begins behind the last decision that was answered, and is older than the longest silence that
    an answer ended lately; and how many usually stay without a report is learned.
    """

    __slots__ = ("_answered", "_begun", "_heard", "_lost", "_silence", "_told")

    def __init__(self) -> None:
        self._begun: list[float] = []  # ascending
        self._answered = float("-inf")  # when the latest decision began that was reported on
        self._heard = float("-inf")  # when that was
        self._silence = 0.0
        self._told = 0
        self._lost = 0

    def begin(self, now: float) -> None:
        """Take note of a decision. What is older than `LOST_AGE` is forgotten, of too many the oldest."""
        begun = self._begun
        if begun and (begun[0] < now - LOST_AGE or len(begun) >= IN_FLIGHT_MAX):
            lost = max(bisect_left(begun, now - LOST_AGE), len(begun) - IN_FLIGHT_MAX + 1)
            del begun[:lost]
            self._lost += lost
            self._settle()
        if begun and now < begun[-1]:
            insort(begun, now)
        else:
            begun.append(now)

    def end(self, now: float, *, began: float | None = None) -> None:
        """Take note of a report. It ends the last decision before the request `began`; the oldest where unknown.

        With `began` a decision that is never reported grows old and stops counting. Without it each report takes
        the oldest, so that a lost one goes on counting as long as there is traffic, and any may have been answered.
        """
        begun = self._begun
        if not begun:
            return
        # A proxy that times its own question too began before the decision: then it is the oldest.
        place = 0 if began is None else max(0, bisect_right(begun, began) - 1)
        answered = begun[-1 if began is None else place]
        if answered > self._answered:
            silent = now - begun[bisect_right(begun, self._answered)]
            kept = exp(min(0.0, self._heard - now) / SILENCE_DECAY)
            self._silence = max(silent, self._silence * kept)
            self._answered, self._heard = answered, now
        del begun[place]
        self._told += 1
        self._settle()

    def _settle(self) -> None:
        if self._told + self._lost >= SETTLED_MAX:
            self._told //= 2
            self._lost //= 2

    def count(self, now: float, *, longest: float) -> int:
        """How many are under way; what began more than `longest` seconds ago was lost, or is over."""
        begun = self._begun
        return len(begun) - bisect_left(begun, now - longest) if begun else 0

    def overdue(self, now: float, *, than: float, longest: float) -> int:
        """How many in a row have been under way for more than `than` seconds, and for no more than `longest`.

        Shape: what began before a decision that was answered is not in the row: an endpoint that answers does not
        hang, and a report may be lost. Nor is what began so lately that silence is usual.
        """
        begun = self._begun
        first = max(bisect_right(begun, self._answered), bisect_left(begun, now - longest))
        return max(0, bisect_left(begun, now - max(than, self._silence * SILENCE_MARGIN)) - first)

    def unreported(self, now: float, *, than: float) -> float | None:
        """The share of decisions that is usually never reported, `None` until enough were.

        Shape: what began more than `than` seconds ago counts as soon as a later decision was answered.
        """
        if self._told < REPORTED_MIN:
            return None
        missing = self._lost + bisect_left(self._begun, min(now - than, self._answered))
        return missing / (self._told + missing)

    def hanging(self, now: float, *, than: float, longest: float) -> int | None:
        """How many in a row are overdue, if they are too many for chance; `None` while they may be.

        Shape: always `None` of proxies that do not report. It cannot tell a hanging endpoint from a proxy that
        stopped reporting: ask whether any other endpoint was reported on meanwhile.
        """
        overdue = self.overdue(now, than=than, longest=longest)
        if overdue < OVERDUE_MIN:
            return None
        unreported = self.unreported(now, than=than)
        if unreported is None or overdue * -log(max(unreported, UNREPORTED_MIN)) < HANGING_SURE:
            return None
        return overdue
