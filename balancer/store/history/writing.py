"""A batch → rows, a transaction for each minute, so that none is long and none is written twice.

Theory of operation: each minute's rows are added to those of the minute and of its hour. How many minutes of an
hour could be judged, and were good, is kept beside the hour, because its sums do not tell: what a minute was before
and is after is compared as it is written. An outcome of a minute that is no longer kept changes only its hour.

Whatever fails is rolled back whole, and the batch still holds it.

What this module does not know: what to do about it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from balancer.core.history import HOUR, MINUTE, Minutes, Moment, judged
from balancer.core.outcome import COUNTS
from balancer.store.history.gathering import Batch, Minute
from balancer.store.history.schema import NO_LATENCY

ROWS_AT_ONCE: Final = 2000  # of one transaction: some 20 ms and 50 pages
MOMENTS_AT_ONCE: Final = 1000
MINUTES_OF_HOUR: Final = HOUR // MINUTE

_ADD: Final = """
INSERT INTO {tier} VALUES (:start, :endpoint, :source, :kind, :bucket, :count, :prompt, :completion, :cost)
ON CONFLICT DO UPDATE SET
  count = count + excluded.count,
  prompt_tokens = coalesce(prompt_tokens + excluded.prompt_tokens, prompt_tokens, excluded.prompt_tokens),
  completion_tokens =
    coalesce(completion_tokens + excluded.completion_tokens, completion_tokens, excluded.completion_tokens),
  cost = coalesce(cost + excluded.cost, cost, excluded.cost)
"""
_ADD_TO_MINUTE: Final = _ADD.format(tier="minutes")
_ADD_TO_HOUR: Final = _ADD.format(tier="hours")
_COUNTED: Final = """
SELECT ifnull(sum(count) FILTER (WHERE counts = 'success'), 0),
  ifnull(sum(count) FILTER (WHERE counts = 'failure'), 0)
FROM minutes JOIN kinds ON kinds.id = kind WHERE start = ? AND endpoint = ? AND source = ?
"""
_JUDGE: Final = """
INSERT INTO uptimes VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET counted = counted + excluded.counted, good = good + excluded.good
"""
_SEE: Final = """
INSERT INTO seen VALUES (?, ?) ON CONFLICT DO UPDATE SET hour = max(hour, excluded.hour)
"""
_TELL: Final = """
INSERT INTO transitions (at, event, endpoint, model, provider, reporter, state, reason, next_at, enforced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Writing:
    """Writes batches over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._names: dict[tuple[str, str], int] = {}
        self._seen: dict[int, int] = {}  # of each endpoint the last hour, where that is written

    def forget_names(self) -> None:
        """Look names up anew: some may have been removed."""
        self._names.clear()
        self._seen.clear()

    def write(self, batch: Batch) -> Iterator[None]:
        """Write a batch bit by bit, taking off what is committed; yield between two bits. Raises: sqlite3.Error."""
        for number in sorted(batch.minutes):
            while number in batch.minutes:
                self._write_some(number, batch.minutes)
                yield
        while batch.moments:
            some = [moment for moment, _ in zip(batch.moments, range(MOMENTS_AT_ONCE), strict=False)]
            with self._transaction():
                self._connection.executemany(_TELL, [self._told(moment) for moment in some])
            for _ in some:
                batch.moments.popleft()
            yield

    def _write_some(self, number: int, minutes: dict[int, Minute]) -> None:
        minute = minutes[number]
        keys = sorted(minute.rows, key=lambda key: key[:2])[:ROWS_AT_ONCE]
        with self._transaction():
            kept = number >= self._minutes_from()
            hour = number - number % MINUTES_OF_HOUR
            rows: list[dict[str, object]] = []
            judging: dict[tuple[int, int], tuple[int, int]] = {}
            for endpoint, source, kind, bucket in keys:
                tally = minute.rows[endpoint, source, kind, bucket]
                place = (self._number("endpoints", endpoint), self._number("sources", source))
                rows.append(
                    {
                        "start": number,
                        "endpoint": place[0],
                        "source": place[1],
                        "kind": self._number("kinds", kind),
                        "bucket": NO_LATENCY if bucket is None else bucket,
                        "count": tally.count,
                        "prompt": tally.prompt_tokens,
                        "completion": tally.completion_tokens,
                        "cost": tally.cost,
                    }
                )
                successes, failures = judging.get(place, (0, 0))
                counts = COUNTS[kind]
                judging[place] = (
                    successes + tally.count * (counts == "success"),
                    failures + tally.count * (counts == "failure"),
                )
            if kept:
                self._judge(number, hour, judging)
                self._connection.executemany(_ADD_TO_MINUTE, rows)
            self._connection.executemany(_ADD_TO_HOUR, [{**row, "start": hour} for row in rows])
            self._see({place[0] for place in judging}, hour)
        for key in keys:
            minute.count -= minute.rows.pop(key).count
        if not minute.rows:
            del minutes[number]

    def _judge(self, number: int, hour: int, judging: dict[tuple[int, int], tuple[int, int]]) -> None:
        for (endpoint, source), (successes, failures) in judging.items():
            known = self._connection.execute(_COUNTED, (number, endpoint, source)).fetchone()
            before: Minutes = judged(*known)
            after = judged(known[0] + successes, known[1] + failures)
            if after != before:
                change = (after.counted - before.counted, after.good - before.good)
                self._connection.execute(_JUDGE, (hour, endpoint, source, *change))

    def _see(self, endpoints: Iterable[int], hour: int) -> None:
        for endpoint in endpoints:
            if self._seen.get(endpoint, -1) < hour:
                self._connection.execute(_SEE, (endpoint, hour))
                self._seen[endpoint] = hour

    def _told(self, moment: Moment) -> tuple[object, ...]:
        endpoint = None if moment.endpoint is None else self._number("endpoints", moment.endpoint)
        return (
            moment.at, moment.event, endpoint, moment.model, moment.provider, moment.reporter, moment.state,
            moment.reason, moment.next_at, moment.enforced,
        )  # fmt: skip

    def _minutes_from(self) -> int:
        found = self._connection.execute("SELECT value FROM meta WHERE key = 'minutes_from'").fetchone()
        return 0 if found is None else int(found[0])

    def _number(self, table: str, name: str) -> int:
        known = self._names.get((table, name))
        if known is None:
            found = self._connection.execute(_FIND[table], (name,)).fetchone()
            if found is None:
                found = self._connection.execute(_NAME[table], (name,)).fetchone()
            known = self._names[table, name] = int(found[0])
        return known

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self.forget_names()  # some of them may just have been made
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


_FIND: Final = {
    "endpoints": "SELECT id FROM endpoints WHERE name = ?",
    "sources": "SELECT id FROM sources WHERE name = ?",
    "kinds": "SELECT id FROM kinds WHERE name = ?",
}
_NAME: Final = {
    "endpoints": "INSERT INTO endpoints (name) VALUES (?) RETURNING id",
    "sources": "INSERT INTO sources (name) VALUES (?) RETURNING id",
    "kinds": "INSERT INTO kinds (name, counts) VALUES (?, 'none') RETURNING id",
}
