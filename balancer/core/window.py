"""Exact counts of outcomes over trailing spans.

Theory of operation: a `Ring` cuts time into buckets of one width, anchored on multiples of that width, and
keeps the last `BUCKETS` of them. An outcome that ended at t counts at `now` exactly if
floor(now/width) − floor(t/width) < BUCKETS: no drift, no half buckets, and the same answer as recounting by
hand. Running totals make a read O(1) while nothing expired; a read subtracts what has expired since the last
write without touching it, so reads never write.

Why counts and not an average: an average weighted by time lets a tight burst of failures hide a total outage
(Linkerd, `success_rate.rs`), and an operator can check a count against a log.

What this module does not know: what an outcome is, and that time could run backwards. The newest outcome is
the ring's clock: a `now` before it reads as that moment.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import floor
from typing import Final, Literal, NamedTuple

BUCKETS: Final = 30  # a window forgets in steps of a thirtieth; 30 s in steps of one second

Column = Literal[0, 1, 2]
SUCCESS: Final = 0
FAILURE: Final = 1
RATE_LIMITED: Final = 2
_COLUMNS: Final = 3


class Counts(NamedTuple):
    """Outcomes in one window."""

    success: int = 0
    failure: int = 0
    rate_limited: int = 0

    @property
    def outcomes(self) -> int:
        """What the error ratio is a ratio of: 429s are apart."""
        return self.success + self.failure

    @property
    def tries(self) -> int:
        """What the success estimate is a share of: a 429 is a failed try."""
        return self.success + self.failure + self.rate_limited

    @property
    def error_ratio(self) -> float | None:
        """Failures among outcomes, `None` where there are none."""
        return self.failure / self.outcomes if self.outcomes else None

    @property
    def rate_limited_ratio(self) -> float | None:
        """429s among tries, `None` where there are none."""
        return self.rate_limited / self.tries if self.tries else None

    def plus(self, other: Counts) -> Counts:
        """Both windows together."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Ring:
    """Counts over one trailing span."""

    __slots__ = ("_cells", "_head", "_totals", "_width")

    def __init__(self, span: float) -> None:
        assert span > 0, f"a window of {span} s covers nothing"
        self._width = span / BUCKETS
        self._head: int | None = None
        self._cells = array("I", bytes(4 * BUCKETS * _COLUMNS))
        self._totals = [0] * _COLUMNS

    def record(self, ended: float, column: Column) -> None:
        """Count one outcome in the bucket in which it ended; one older than the window is not counted."""
        bucket = floor(ended / self._width)
        head = self._head
        if head is None:
            self._head = bucket
        elif bucket > head:
            self._advance(head, bucket)
        elif head - bucket >= BUCKETS:
            return
        self._cells[bucket % BUCKETS * _COLUMNS + column] += 1
        self._totals[column] += 1

    def counts(self, now: float) -> Counts:
        """Count the outcomes still inside the window, changing nothing."""
        head = self._head
        if head is None:
            return _NONE
        expired = floor(now / self._width) - head
        if expired <= 0:
            return Counts(*self._totals)
        if expired >= BUCKETS:
            return _NONE
        first = (head + 1) % BUCKETS * _COLUMNS  # the oldest bucket; `end` may lie past the ring's end
        end = first + expired * _COLUMNS
        gone = self._cells[first:end]
        if end > len(self._cells):
            gone += self._cells[: end - len(self._cells)]
        return Counts(*[total - sum(gone[column::_COLUMNS]) for column, total in enumerate(self._totals)])

    def _advance(self, head: int, bucket: int) -> None:
        for stale in range(head + 1, head + 1 + min(bucket - head, BUCKETS)):
            cell = stale % BUCKETS * _COLUMNS
            for column in range(_COLUMNS):
                self._totals[column] -= self._cells[cell + column]
                self._cells[cell + column] = 0
        self._head = bucket


class Windows:
    """One endpoint's rings of one source, shortest span first."""

    __slots__ = ("_rings",)

    def __init__(self, spans: Sequence[float]) -> None:
        self._rings = tuple(Ring(span) for span in spans)

    def record(self, ended: float, column: Column) -> None:
        """Count one outcome in every window that still covers the moment in which it ended."""
        for ring in self._rings:
            ring.record(ended, column)

    def counts(self, index: int, now: float) -> Counts:
        """Count what is inside the window at `index` (0 is the shortest, -1 the longest)."""
        return self._rings[index].counts(now)


_NONE: Final = Counts()
