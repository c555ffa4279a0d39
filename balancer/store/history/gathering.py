"""What waits in memory to be written: counts by minute, and transitions, both bounded.

Theory of operation: outcomes of the same minute, endpoint, source, kind and latency bucket are one row, so a busy
minute takes no more memory than a quiet one, and what cannot be written yet is merged by the very act of counting.
While the disk is in trouble this goes on; beyond `rows_max` the oldest minute goes as a whole and is counted as
dropped. Nothing here waits for anything.

What this module does not know: threads, the disk, and what time it is.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from balancer.core.history import MINUTE, Moment, bucket
from balancer.core.model import Source
from balancer.core.outcome import Kind, Outcome

ROWS_MAX: Final = 50_000  # 20 MB; 50 endpoints fill it in hours of a disk in trouble, 2,000 in some ten minutes
MOMENTS_MAX: Final = 10_000  # transitions; a daemon has some a minute on a bad day

Key = tuple[str, Source, Kind, int | None]
"""Endpoint, source, kind and latency bucket, which is `None` where no latency is known."""


class Tally:
    """How many outcomes there were, and the sums of what is known of them. `None` is unknown."""

    __slots__ = ("completion_tokens", "cost", "count", "prompt_tokens")

    def __init__(self) -> None:
        self.count = 0
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cost: float | None = None


class Minute:
    """The rows of one minute, and how many outcomes they hold."""

    __slots__ = ("count", "rows")

    def __init__(self) -> None:
        self.count = 0
        self.rows: dict[Key, Tally] = {}


class Batch:
    """What is handed over to be written: minutes by their number, and transitions in order."""

    __slots__ = ("minutes", "moments")

    def __init__(self, minutes: dict[int, Minute], moments: deque[Moment]) -> None:
        self.minutes = minutes
        self.moments = moments

    @property
    def size(self) -> int:
        """Outcomes and transitions in it."""
        return sum(each.count for each in self.minutes.values()) + len(self.moments)


class Gathering:
    """Outcomes and transitions that nobody has taken yet."""

    def __init__(self, *, rows_max: int = ROWS_MAX, moments_max: int = MOMENTS_MAX) -> None:
        self._rows_max = rows_max
        self._moments_max = moments_max
        self._minutes: dict[int, Minute] = {}
        self._moments: deque[Moment] = deque()
        self._rows = 0
        self._number: int | None = None  # of the minute that was counted into last
        self._open = Minute()
        self.dropped = 0

    def outcome(
        self, endpoint: str, outcome: Outcome, *, source: Source, wall: float, cost: float | None = None
    ) -> None:
        """Count one outcome in the minute of Unix time in which it ended. Units: `cost` in USD."""
        number = int(wall // MINUTE)
        if number != self._number:
            self._number = number
            self._open = self._minutes.setdefault(number, Minute())
        opened = self._open
        latency = outcome.latency
        key = (endpoint, source, outcome.kind, None if latency is None else bucket(latency))
        tally = opened.rows.get(key)
        if tally is None:
            tally = opened.rows[key] = Tally()
            self._rows += 1
        opened.count += 1
        tally.count += 1
        if outcome.prompt_tokens is not None:
            tally.prompt_tokens = _sum(tally.prompt_tokens, outcome.prompt_tokens)
        if outcome.completion_tokens is not None:
            tally.completion_tokens = _sum(tally.completion_tokens, outcome.completion_tokens)
        if cost is not None:
            tally.cost = cost if tally.cost is None else tally.cost + cost
        if self._rows > self._rows_max:
            self._drop()

    def transition(self, moment: Moment) -> None:
        """Keep one transition."""
        if len(self._moments) >= self._moments_max:
            self._moments.popleft()
            self.dropped += 1
        self._moments.append(moment)

    def take(self) -> Batch | None:
        """Hand over everything, and begin anew; `None` where there is nothing."""
        if not self._minutes and not self._moments:
            return None
        batch = Batch(self._minutes, self._moments)
        self._minutes, self._moments = {}, deque()
        self._rows, self._number = 0, None
        return batch

    def _drop(self) -> None:
        oldest = min(self._minutes)
        minute = self._minutes.pop(oldest)
        self._rows -= len(minute.rows)
        self.dropped += minute.count
        if oldest == self._number:
            self._number = None


def _sum(known: int | None, more: int) -> int:
    return more if known is None else known + more
