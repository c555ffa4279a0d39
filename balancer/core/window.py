"""Exact counts of outcomes over trailing spans.

Theory of operation: a `Ring` cuts time into buckets of one width, anchored on multiples of that width, and
keeps the last `BUCKETS` of them. An outcome that ended at t counts at `now` exactly if
floor(now/width) − floor(t/width) < BUCKETS: no drift, no half buckets, and the same answer as recounting by
hand. Running totals make a read O(1) while nothing expired; a read subtracts what has expired since the last
write without touching it, so reads never write. Three columns are counted side by side: here success, failure and
429, elsewhere whatever the owner of the ring says, such as tokens.

Why counts and not an average: an average weighted by time lets a tight burst of failures hide a total outage
(Linkerd, `success_rate.rs`), and an operator can check a count against a log.

A dump tells how many buckets ago, and never when: another process has another clock. What is restored is therefore
as old as it was plus the time away, to within one bucket. What was counted while the dump was told is left out:
with an age of 0 it would come back older than it is, and twice where it is still counted.

What this module does not know: what an outcome is, and that time could run backwards. The newest outcome is
the ring's clock: a `now` before it reads as that moment.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from math import floor, inf
from typing import Final, Literal, NamedTuple

from balancer.core.kept import AMOUNT_MAX, COUNT_MAX

BUCKETS: Final = 30  # a window forgets in steps of a thirtieth; 30 s in steps of one second

WAITING_MAX: Final = 16  # outcomes that are put into the rings together

Column = Literal[0, 1, 2]
SUCCESS: Final = 0
FAILURE: Final = 1
RATE_LIMITED: Final = 2
_ALL: Final[tuple[Column, ...]] = (SUCCESS, FAILURE, RATE_LIMITED)
_COLUMNS: Final = len(_ALL)
_BLANK: Final = {code: array(code, [0] * _COLUMNS) for code in "IQ"}


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
        """What the share of 429s is a ratio of."""
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
    """Counts, or sums of amounts, over one trailing span. `wide` makes room for amounts such as tokens.

    `begin` and `until`: what ends between the two falls into the newest bucket, and `totals` are the counts then.
    """

    __slots__ = ("_cell", "_cells", "_code", "_head", "_width", "begin", "totals", "until")

    def __init__(self, span: float, *, wide: bool = False) -> None:
        assert span > 0, f"a window of {span} s covers nothing"
        self._width = span / BUCKETS
        self._head: int | None = None
        self._code: Literal["I", "Q"] = "Q" if wide else "I"
        # Room is made with the first outcome: most rings of most endpoints stay empty.
        self._cells: array[int] | None = None
        self._cell = 0
        self.totals = [0] * _COLUMNS
        self.begin = inf
        self.until = -inf

    def record(self, ended: float, column: Column, amount: int = 1) -> None:
        """Count one outcome, or add its amount, in the bucket in which it ended; what is older does not count."""
        if not self.begin <= ended < self.until:
            bucket = floor(ended / self._width)
            head = self._head
            if head is None or bucket > head:
                self._advance(head, bucket)
            elif head - bucket >= BUCKETS:
                return
            cell = bucket % BUCKETS * _COLUMNS
        else:
            cell = self._cell
        cells = self._cells
        assert cells is not None
        cells[cell + column] += amount
        self.totals[column] += amount

    def pour(self, outcomes: Sequence[tuple[float, Column]], newest: float) -> None:
        """Count several, of which the last ended at `newest`: the same as one by one, for less."""
        bucket, head = floor(newest / self._width), self._head
        if head is None or bucket > head:
            self._advance(head, bucket)
            head = bucket
        cells, totals, width = self._cells, self.totals, self._width
        assert cells is not None
        for ended, column in outcomes:
            bucket = floor(ended / width)
            if head - bucket < BUCKETS:
                cells[bucket % BUCKETS * _COLUMNS + column] += 1
                totals[column] += 1

    def take_back(self, ended: float, column: Column) -> None:
        """Count one less of what ended then; nothing where it is not counted any more."""
        bucket, head, cells = floor(ended / self._width), self._head, self._cells
        if head is None or cells is None or not 0 <= head - bucket < BUCKETS:
            return
        cell = bucket % BUCKETS * _COLUMNS + column
        if cells[cell]:
            cells[cell] -= 1
            self.totals[column] -= 1

    def counts(self, now: float) -> Counts:
        """Count the outcomes still inside the window, changing nothing."""
        head = self._head
        if head is None:
            return _NONE
        expired = floor(now / self._width) - head
        if expired <= 0:
            return Counts._make(self.totals)
        if expired >= BUCKETS:
            return _NONE
        return Counts._make([total - gone for total, gone in zip(self.totals, self._gone(expired), strict=True)])

    def total(self, now: float, column: Column) -> int:
        """Read one column of `counts`, for less."""
        head = self._head
        if head is None:
            return 0
        expired = floor(now / self._width) - head
        if expired <= 0:
            return self.totals[column]
        return self.totals[column] - self._gone(expired)[column] if expired < BUCKETS else 0

    def changes_at(self, now: float) -> float:
        """The next moment at which the counts may change by themselves: a bucket's border, `inf` when empty."""
        head = self._head
        bucket = floor(now / self._width)
        if head is None or bucket - head >= BUCKETS:
            return inf
        return (max(bucket, head) + 1) * self._width

    def falls_to(self, now: float, column: Column, most: int) -> float:
        """Seconds from `now` until the column's total is at most `most`, if nothing comes; `inf` below 0."""
        left = self.total(now, column)
        if left <= most:
            return 0.0
        if most < 0:
            return inf
        head, cells = self._head, self._cells
        assert head is not None
        assert cells is not None
        bucket = max(floor(now / self._width), head) - BUCKETS
        while left > most:
            bucket += 1
            left -= cells[bucket % BUCKETS * _COLUMNS + column]
        return (bucket + BUCKETS) * self._width - now

    def dump(self, now: float) -> list[list[int]]:
        """What is inside the window, oldest bucket first and empty ones left out, for `restore`.

        Shape: buckets that began after `now` are left out: a dump told in parts has the counts of its beginning.
        """
        head, cells = self._head, self._cells
        if head is None or cells is None:
            return []
        most = COUNT_MAX if self._code == "I" else AMOUNT_MAX
        newest = floor(now / self._width)
        found: list[list[int]] = []
        for bucket in range(max(newest, head) - BUCKETS + 1, min(newest, head) + 1):
            place = bucket % BUCKETS * _COLUMNS
            amounts = cells[place : place + _COLUMNS]
            highest = max(amounts)
            if highest:
                held = amounts if highest <= most else [min(amount, most) for amount in amounts]
                found.append([newest - bucket, *held])
        return found

    def restore(self, told: Iterable[Sequence[int]], *, then: float) -> None:
        """Take back what `dump` told at `then`, beside what was counted here since.

        Shape: where both have the same bucket the larger amount of each column stands. So no count ever falls, and
        a dump that is restored twice, or where it was made, counts nothing twice.
        """
        newest, head = floor(then / self._width), self._head
        found = [each for each in told if each[0] < BUCKETS and any(each[1:])]
        if not found:
            return
        latest = newest - min(each[0] for each in found)
        if head is None or latest > head:
            self._advance(head, latest)
            head = latest
        cells, totals = self._cells, self.totals
        assert cells is not None
        for back, *amounts in found:
            bucket = newest - back
            if head - bucket >= BUCKETS:
                continue
            place = bucket % BUCKETS * _COLUMNS
            for column, amount in enumerate(amounts, place):
                more = amount - cells[column]
                if more > 0:
                    cells[column] = amount
                    totals[column - place] += more

    def _gone(self, expired: int) -> tuple[int, int, int]:
        """What the oldest buckets hold, that many of them. Shape: `expired` is 1..BUCKETS-1."""
        head, cells = self._head, self._cells
        assert head is not None
        assert cells is not None
        first = (head + 1) % BUCKETS * _COLUMNS
        end = first + expired * _COLUMNS  # may lie past the ring's end
        gone = cells[first:end]
        if end > len(cells):
            gone += cells[: end - len(cells)]
        return sum(gone[0::_COLUMNS]), sum(gone[1::_COLUMNS]), sum(gone[2::_COLUMNS])

    def _advance(self, head: int | None, bucket: int) -> None:
        self._head = bucket
        ahead = (bucket + 1) * self._width
        # Some units in the last place inside: a quotient just below a whole number is rounded up to it.
        self.until = ahead - abs(ahead) * 1e-15 - 1e-290
        since = bucket * self._width
        self.begin = since + abs(since) * 1e-15 + 1e-290
        self._cell = bucket % BUCKETS * _COLUMNS
        cells, totals = self._cells, self.totals
        if cells is None or head is None or bucket - head >= BUCKETS:
            self._cells = _BLANK[self._code] * BUCKETS
            self.totals = [0] * _COLUMNS
            return
        first = (head + 1) % BUCKETS * _COLUMNS
        end = first + (bucket - head) * _COLUMNS  # may lie past the ring's end
        for start, stop in ((first, min(end, len(cells))), (0, end - len(cells))):
            if start < stop and any(gone := cells[start:stop]):
                cells[start:stop] = _BLANK[self._code] * ((stop - start) // _COLUMNS)
                for column in _ALL:
                    totals[column] -= sum(gone[column::_COLUMNS])


class Windows:
    """One endpoint's rings of one source, shortest span first.

    Outcomes wait until some are together, or somebody reads: it costs less to put them into the rings at once, and
    of a quiet endpoint most are too old for the short spans by then.
    """

    __slots__ = ("_rings", "_waiting")

    def __init__(self, spans: Sequence[float]) -> None:
        self._rings = tuple(Ring(span) for span in spans)
        self._waiting: list[tuple[float, Column]] = []

    def record(self, ended: float, column: Column) -> None:
        """Count one outcome in every window that still covers the moment in which it ended."""
        self._waiting.append((ended, column))
        if len(self._waiting) >= WAITING_MAX:
            self._settle()

    def take_back(self, ended: float, column: Column) -> None:
        """Count one less of what ended then, in every window that counted it."""
        self._settle()
        for ring in self._rings:
            ring.take_back(ended, column)

    def counts(self, index: int, now: float) -> Counts:
        """Count what is inside the window at `index` (0 is the shortest, -1 the longest)."""
        self._settle()
        return self._rings[index].counts(now)

    def dump(self, now: float) -> list[list[list[int]]]:
        """What every window counts, for `restore`."""
        self._settle()
        return [ring.dump(now) for ring in self._rings]

    def restore(self, told: Sequence[Iterable[Sequence[int]]], *, then: float) -> None:
        """Take back what `dump` told at `then`."""
        self._settle()
        for ring, cells in zip(self._rings, told, strict=True):
            ring.restore(cells, then=then)

    def _settle(self) -> None:
        """Put what waits into the rings. It changes no answer, so a read may do it."""
        waiting = self._waiting
        if waiting:
            newest = max(waiting)[0]
            for ring in self._rings:
                ring.pour(waiting, newest)
            waiting.clear()


_NONE: Final = Counts()
