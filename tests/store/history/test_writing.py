"""Whatever is fed in whatever order and batches is what can be read, by the minute and by the hour."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.history import HistoryQuery, Minutes, judged
from balancer.core.outcome import COUNTS, KINDS, Outcome
from balancer.store.history import schema, writing
from balancer.store.history.gathering import Batch, Gathering
from balancer.store.history.reading import read
from balancer.store.history.writing import Writing

FIRST = 1_795_000_020 // 3600 * 3600
SPAN = 2 * 3600
QUERY = {"since": FIRST, "until": FIRST + SPAN}

outcomes = st.lists(
    st.tuples(
        st.sampled_from(["m/x@a", "m/x@b", "m/y@a"]),
        st.sampled_from(["probe", "report"]),
        st.sampled_from([*KINDS, *["success"] * 20, *["timeout"] * 5]),
        st.sampled_from([None, 0.0005, 0.3, 0.31, 40.0]),
        st.sampled_from([None, 0, 1, 1000]),
        st.sampled_from([0, 1, 1, 1, 59, 60, 119]),  # the minute
        st.integers(1, 15),  # how many of it
        st.booleans(),  # whether a batch ends here
    ),
    max_size=60,
)


def begin(directory: str | Path) -> sqlite3.Connection:
    return schema.begin(Path(directory) / "history.db", sqlite3.connect)


def write(connection: sqlite3.Connection, gathering: Gathering) -> None:
    batch = gathering.take()
    if batch is not None:
        for _ in Writing(connection).write(batch):
            pass
        assert batch.size == 0


def sums(connection: sqlite3.Connection, step: int | None) -> dict[str, Any]:
    past = read(connection, HistoryQuery(**QUERY, step=step))
    connection.execute("COMMIT")
    counts: Counter[Any] = Counter()
    tokens: Counter[Any] = Counter()
    minutes: dict[Any, Minutes] = {}
    for series in past.series:
        for point in series.points:
            assert step is None or point.start % step == 0
            if point.prompt_tokens is not None:
                tokens[series.endpoint] += point.prompt_tokens
            for source, kinds in point.outcomes.items():
                for kind, count in kinds.items():
                    counts[series.endpoint, source, kind] += count
                told = point.uptime[source]
                known = minutes.get((series.endpoint, source), Minutes(0, 0))
                good = 0 if told.minutes is None else round(told.minutes * told.minutes_counted)
                minutes[series.endpoint, source] = Minutes(known.counted + told.minutes_counted, known.good + good)
    return {"counts": counts, "tokens": tokens, "minutes": minutes}


@settings(max_examples=25, deadline=None)
@given(outcomes)
def test_what_is_read_is_the_sum_of_what_was_fed_by_minutes_and_by_hours(fed: list[Any]) -> None:
    counts: Counter[Any] = Counter()
    tokens: Counter[Any] = Counter()
    by_minute: dict[Any, list[int]] = {}
    gathering = Gathering()
    with TemporaryDirectory() as directory:
        connection = begin(directory)
        for endpoint, source, kind, latency, prompt, minute, times, ends in fed:
            for _ in range(times):
                outcome = Outcome(kind=kind, latency=latency, prompt_tokens=prompt)
                gathering.outcome(endpoint, outcome, source=source, wall=FIRST + 60.0 * minute + 59.9)
            counts[endpoint, source, kind] += times
            if prompt is not None:
                tokens[endpoint] += prompt * times
            told = by_minute.setdefault((endpoint, source, minute), [0, 0])
            if COUNTS[kind] in ("success", "failure"):
                told[COUNTS[kind] == "failure"] += times
            if ends:
                write(connection, gathering)
        write(connection, gathering)
        minutes: dict[Any, Minutes] = {}
        for (endpoint, source, _), told in by_minute.items():
            one = judged(*told)
            known = minutes.get((endpoint, source), Minutes(0, 0))
            minutes[endpoint, source] = Minutes(known.counted + one.counted, known.good + one.good)
        for step in (60, 300, 3600, 7200, None):
            assert sums(connection, step) == {"counts": counts, "tokens": tokens, "minutes": minutes}
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def batch(**rows: int) -> Batch:
    gathering = Gathering()
    for minute, count in rows.items():
        for number in range(count):
            outcome = Outcome(kind="success")
            gathering.outcome(f"m/x@{number}", outcome, source="report", wall=FIRST + 60.0 * int(minute[1:]))
    made = gathering.take()
    assert made is not None
    return made


def test_a_batch_is_written_bit_by_bit_and_what_failed_is_neither_lost_nor_written_twice(tmp_path: Path) -> None:
    connection = begin(tmp_path)
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    one = batch(m0=writing.ROWS_AT_ONCE + 10, m1=3)
    bits = Writing(connection).write(one)
    next(bits)
    assert one.size == 13
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        next(bits)
    assert one.size == 13
    other.execute("ROLLBACK")
    for _ in Writing(connection).write(one):
        pass
    (total,) = connection.execute("SELECT sum(count) FROM minutes").fetchone()
    assert total == writing.ROWS_AT_ONCE + 13
    assert connection.execute("SELECT sum(count) FROM hours").fetchone() == (total,)
    connection.close()
    other.close()


def test_names_that_a_rollback_took_back_are_made_again(tmp_path: Path) -> None:
    connection = begin(tmp_path)
    connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON hours BEGIN SELECT raise(ABORT, 'no'); END")
    one, writer = batch(m0=1), Writing(connection)
    with pytest.raises(sqlite3.IntegrityError, match="no"):
        next(writer.write(one))
    assert connection.execute("SELECT count(*) FROM endpoints").fetchone() == (0,)
    connection.execute("DROP TRIGGER refuse")
    for _ in writer.write(one):
        pass
    assert connection.execute("SELECT name FROM minutes JOIN endpoints ON id = endpoint").fetchall() == [("m/x@0",)]
    connection.close()


def test_an_outcome_of_a_minute_that_is_gone_counts_for_its_hour_alone(tmp_path: Path) -> None:
    connection = begin(tmp_path)
    connection.execute("INSERT INTO meta VALUES ('minutes_from', ?)", (FIRST // 60 + 1,))
    for _ in Writing(connection).write(batch(m0=2, m1=1)):
        pass
    assert connection.execute("SELECT sum(count) FROM minutes").fetchone() == (1,)
    assert connection.execute("SELECT sum(count) FROM hours").fetchone() == (3,)
    connection.close()
