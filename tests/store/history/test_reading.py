"""What is read from where, and what of it is told."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from balancer.core.history import HistoryQuery, HistoryTooLong, Moment, Past
from balancer.core.outcome import Outcome
from balancer.store.history import questions, schema
from balancer.store.history.gathering import Batch, Gathering
from balancer.store.history.reader import TIME_MAX
from balancer.store.history.reading import Part, parts, read
from balancer.store.history.writing import Writing

DAY = 1_795_000_020 // 86_400 * 86_400
A, B, C = "acme/large@a", "acme/large@b", "acme/small@a"
MINUTE, HOUR = 60, 3600


def minutes(*when: int) -> tuple[int, ...]:
    return tuple(DAY // 60 + each for each in when)


def asked(first: int, last: int, step: int | None) -> HistoryQuery:
    """From one minute of the day to another, in steps of so many minutes."""
    return HistoryQuery(since=DAY + first * 60, until=DAY + last * 60, step=None if step is None else step * 60)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (asked(0, 10, 1), [("minutes", 0, 10)]),
        (asked(7, 12, 5), [("minutes", 5, 15)]),
        (asked(0, 600, 90), [("minutes", 0, 630)]),
        (asked(30, 90, 60), [("hours", 0, 120)]),
        (asked(30, 190, None), [("minutes", 30, 60), ("hours", 60, 180), ("minutes", 180, 190)]),
        (asked(0, 120, None), [("hours", 0, 120)]),
        (asked(10, 50, None), [("minutes", 10, 50)]),
        (asked(30, 90, None), [("minutes", 30, 90)]),
    ],
)
def test_whole_hours_are_read_from_the_hours_and_their_ends_from_the_minutes(
    query: HistoryQuery, found: list[Any]
) -> None:
    assert parts(query, 0) == [Part(tier, *minutes(first, last)) for tier, first, last in found]


def test_an_hour_of_which_the_minutes_are_gone_is_told_whole() -> None:
    (gone,) = minutes(45)
    assert parts(asked(30, 150, None), gone) == [
        Part("hours", *minutes(0, 120)), Part("minutes", *minutes(120, 150)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "gone", "found"),
    [
        (asked(30, 50, None), 200, [("hours", 0, 60)]),
        (asked(30, 150, None), 200, [("hours", 0, 180)]),
        (asked(30, 150, None), 130, [("hours", 0, 180)]),
        (asked(30, 150, None), 120, [("hours", 0, 120), ("minutes", 120, 150)]),
        (asked(30, 50, None), 45, [("hours", 0, 60)]),
        (asked(50, 55, None), 45, [("minutes", 50, 55)]),
    ],
)
def test_so_is_the_hour_at_the_end(query: HistoryQuery, gone: int, found: list[Any]) -> None:
    assert parts(query, minutes(gone)[0]) == [Part(tier, *minutes(first, last)) for tier, first, last in found]


class Book:
    """A database, and what is written into it."""

    def __init__(self, path: Path) -> None:
        self.connection = schema.begin(path, sqlite3.connect)
        self.writing = Writing(self.connection)
        self.gathering = Gathering()

    def outcome(
        self, endpoint: str, minute: float, kind: Any = "success", source: Any = "report", **facts: Any
    ) -> None:
        cost = facts.pop("cost", None)
        self.gathering.outcome(
            endpoint, Outcome(kind=kind, **facts), source=source, wall=DAY + minute * 60, cost=cost
        )

    def transition(self, endpoint: str | None, minute: float, event: str, state: Any = None, **facts: Any) -> None:
        values: dict[str, Any] = {
            "at": DAY + minute * 60, "event": event, "endpoint": endpoint, "model": None, "provider": None,
            "reporter": None, "state": state, "reason": "why", "next_at": None, "enforced": True,
        }  # fmt: skip
        batch = Batch({}, deque([Moment(**{**values, **facts})]))
        for _ in self.writing.write(batch):
            pass

    def read(self, first: int, last: int, step: int | None = None, **whose: str) -> Past:
        batch = self.gathering.take()
        if batch is not None:
            for _ in self.writing.write(batch):
                pass
        query = asked(first, last, step)
        past = read(self.connection, HistoryQuery(since=query.since, until=query.until, step=query.step, **whose))
        self.connection.execute("COMMIT")
        return past


@pytest.fixture
def book(tmp_path: Path) -> Any:
    made = Book(tmp_path / "history.db")
    yield made
    made.connection.close()


def test_a_point_tells_counts_times_tokens_and_both_uptimes(book: Book) -> None:
    for number in range(20):
        book.outcome(A, 5.5, latency=0.1 * (number + 1), prompt_tokens=10, completion_tokens=2, cost=0.5)
    book.outcome(A, 5.9, "timeout", latency=60.0)
    book.outcome(A, 5.9, "rate_limited")
    book.outcome(A, 6.0, "success", "probe", latency=0.02)
    (series,) = book.read(0, 10, 1).series
    first, second = series.points
    assert (series.endpoint, series.model, series.ejections, series.outage_longest) == (A, "acme/large", 0, 0.0)
    assert (first.start, second.start) == (DAY + 300, DAY + 360)
    assert first.outcomes == {"report": {"success": 20, "timeout": 1, "rate_limited": 1}}
    uptime = first.uptime["report"]
    assert (uptime.requests, uptime.minutes, uptime.minutes_counted) == (20 / 21, 1.0, 1)
    told = first.latency["report"]
    for value, true in ((told.p50, 1.0), (told.p75, 1.5), (told.p90, 1.8), (told.p99, 2.0)):
        assert value == pytest.approx(true, rel=0.091)  # the 60 s of the failure are not among them
    assert (first.prompt_tokens, first.completion_tokens, first.cost) == (200, 40, 10.0)
    assert second.outcomes == {"probe": {"success": 1}}
    assert (second.prompt_tokens, second.completion_tokens, second.cost) == (None, None, None)


def test_steps_begin_at_multiples_of_themselves_and_empty_ones_are_left_out(book: Book) -> None:
    for minute in (3, 14, 16, 44):
        book.outcome(A, minute)
    (series,) = book.read(4, 50, 15, endpoint=A).series
    assert [(point.start - DAY) / 60 for point in series.points] == [0, 15, 30]
    past = book.read(4, 50, 15)
    assert ((past.since - DAY) / 60, (past.until - DAY) / 60) == (0, 60)


def test_one_endpoint_a_model_or_all_may_be_asked_for(book: Book) -> None:
    for endpoint in (C, B, A):
        book.outcome(endpoint, 1)
    for minutes_asked in ((0, 10), (0, 180)):  # of the minutes, and of the hours
        assert [each.endpoint for each in book.read(*minutes_asked).series] == [A, B, C]
        assert [each.endpoint for each in book.read(*minutes_asked, model="acme/large").series] == [A, B]
        assert [each.endpoint for each in book.read(*minutes_asked, endpoint=B).series] == [B]
        assert book.read(*minutes_asked, endpoint="acme/large@c").series == []
        assert book.read(*minutes_asked, model="acme/lar").series == []


def test_who_did_nothing_in_the_span_is_told_only_when_asked_for_by_name(book: Book) -> None:
    book.outcome(A, 1)
    assert book.read(60, 70).series == []
    (series,) = book.read(60, 70, endpoint=A).series
    assert series.points == []


def test_minutes_are_judged_alike_by_minute_and_by_hour(book: Book) -> None:
    for minute, good, bad in ((0, 10, 0), (1, 8, 2), (2, 7, 3), (3, 9, 0), (70, 0, 20)):
        for kind, times in (("success", good), ("connect", bad)):
            for _ in range(times):
                book.outcome(A, minute, kind)
    for first, last in ((0, 120), (0, 119), (1, 71)):
        (series,) = book.read(first, last).series
        told = series.points[0].uptime["report"]
        counted = 4 if first == 0 else 3
        assert (told.minutes_counted, told.minutes) == (counted, (counted - 2) / counted)


def test_more_points_than_one_answer_holds_are_refused_before_they_are_counted(book: Book) -> None:
    for endpoint in (A, B):
        book.outcome(endpoint, 1)
    with pytest.raises(HistoryTooLong) as refused:
        book.read(0, 1001, 1)
    assert (refused.value.points, refused.value.endpoints) == (2002, 2)
    book.connection.execute("ROLLBACK")
    assert len(book.read(0, 1000, 1).series) == 2


def test_transitions_of_the_span_are_told_in_their_order_and_the_last_of_too_many(book: Book) -> None:
    book.outcome(A, 1)
    book.transition(A, 5, "endpoint.ejected", "ejected", next_at=DAY + 310.0, reason="five failures")
    book.transition(None, 5, "model.panic_entered", model="acme/large")
    book.transition(C, 6, "endpoint.degraded", "degraded", enforced=False)
    book.transition(A, 15, "endpoint.readmitted", "recovering")
    told = book.read(0, 10).transitions
    assert [(each.event, each.endpoint, each.model) for each in told] == [
        ("endpoint.ejected", A, None), ("model.panic_entered", None, "acme/large"), ("endpoint.degraded", C, None),
    ]  # fmt: skip
    assert (told[0].at, told[0].state, told[0].reason, told[0].next_at, told[0].enforced) == (
        DAY + 300.0, "ejected", "five failures", DAY + 310.0, True,
    )  # fmt: skip
    assert [each.event for each in book.read(0, 10, endpoint=A).transitions] == ["endpoint.ejected"]
    of_model = book.read(0, 10, model="acme/large")
    assert [each.event for each in of_model.transitions] == ["endpoint.ejected", "model.panic_entered"]
    for number in range(1005):
        book.transition(A, 20 + number / 1000, "endpoint.throttled", "throttled", reason=str(number))
    past = book.read(20, 30)
    assert past.transitions_left_out == 5
    assert [past.transitions[0].reason, past.transitions[-1].reason] == ["5", "1004"]


def test_what_was_told_within_a_moment_is_told_in_its_order_whatever_two_clocks_say(book: Book) -> None:
    book.transition(A, 5, "endpoint.degraded", "degraded")
    book.transition(A, 5 - 1e-7, "endpoint.ejected", "ejected")  # some microseconds before the other
    past = book.read(0, 10)
    assert [each.state for each in past.transitions] == ["degraded", "ejected"]
    assert past.series[0].outage_longest == pytest.approx(300.0)


def test_ejections_and_the_longest_outage_are_of_the_span_and_enforced(book: Book) -> None:
    book.transition(A, 1, "endpoint.ejected", "ejected")
    book.transition(A, 4, "endpoint.trial_started", "half_open")
    book.transition(A, 5, "endpoint.readmitted", "recovering")
    book.transition(B, 1, "endpoint.ejected", "ejected", enforced=False)
    book.transition(C, 2, "endpoint.ejected", "ejected")
    book.transition(None, 6, "daemon.started")
    book.transition(C, 6, "daemon.started", "ejected")
    book.transition(A, 7, "endpoint.ejected", "ejected")

    def told(first: int, last: int) -> dict[str, tuple[int, float]]:
        return {each.endpoint: (each.ejections, each.outage_longest) for each in book.read(first, last).series}

    assert told(0, 10) == {A: (2, 240.0), B: (0, 0.0), C: (1, 480.0)}
    assert told(3, 10) == {A: (1, 180.0), B: (0, 0.0), C: (0, 420.0)}
    assert told(8, 10) == {A: (0, 120.0), C: (0, 120.0)}


def test_an_outage_lasts_for_as_long_as_health_chooses(book: Book) -> None:
    book.transition(A, 1, "endpoint.ejected", "ejected")
    book.transition(A, 3, "endpoint.watched", "ejected", enforced=False)
    book.transition(A, 4, "endpoint.trial_started", "half_open", enforced=False)
    book.transition(B, 1, "endpoint.ejected", "ejected", enforced=False)
    book.transition(B, 5, "endpoint.enforced", "ejected")
    assert [each.outage_longest for each in book.read(0, 10).series] == [120.0, 300.0]


def test_an_endpoint_that_is_removed_is_out_no_longer(book: Book) -> None:
    book.transition(A, 1, "endpoint.ejected", "ejected")
    book.transition(A, 3, "endpoint.removed")
    assert [each.outage_longest for each in book.read(0, 10).series] == [120.0]
    assert [each.outage_longest for each in book.read(5, 10, endpoint=A).series] == [0.0]


def test_a_file_of_before_finds_an_endpoints_transitions_by_their_order(book: Book, tmp_path: Path) -> None:
    book.connection.execute("DROP INDEX transitions_of_endpoint")
    book.connection.execute("CREATE INDEX transitions_by_endpoint ON transitions (endpoint, at)")
    again = schema.begin(tmp_path / "history.db", sqlite3.connect)
    places = {"endpoints": "[1]", "started": 0, "first": 1}
    plan = [row[3] for row in again.execute(f"EXPLAIN QUERY PLAN {questions.BEFORE}", places)]
    again.close()
    assert "SEARCH transitions USING INDEX transitions_of_endpoint (endpoint=? AND rowid>? AND rowid<?)" in plan


def test_a_clock_that_is_set_back_makes_no_outage_that_goes_on(book: Book) -> None:
    book.transition(None, 720, "daemon.started")  # two hours ahead
    book.transition(A, 721, "endpoint.ejected", "ejected")
    book.transition(A, 605, "endpoint.readmitted", "recovering")
    book.transition(B, 606, "endpoint.ejected", "ejected")
    for first, last in ((590, 610), (690, 870), (600, 870), (722, 870)):
        told = {each.endpoint: each.outage_longest for each in book.read(first, last, model="acme/large").series}
        assert told == {A: 0.0, B: (last - max(first, 606)) * 60.0}


def test_an_outage_goes_on_until_now_and_not_until_the_end_of_the_minute(book: Book) -> None:
    book.transition(A, 9.5, "endpoint.ejected", "ejected")
    query = asked(0, 10, None)
    now = DAY + 9.5 * 60 + 2.0
    past = read(book.connection, HistoryQuery(since=query.since, until=query.until, step=None, now=now))
    assert past.series[0].outage_longest == 2.0


def test_a_flapping_quarter_of_a_year_is_told_whole(book: Book) -> None:
    book.connection.executemany("INSERT INTO endpoints VALUES (?, ?)", [(1, A), (2, B), (3, C)])
    rows: list[tuple[float, str, int, str]] = []
    for number in (1, 2):
        for at in range(DAY, DAY + 88 * 86_400, 240):
            rows.append((at, "endpoint.trial_started", number, "half_open"))
            rows.append((at + 5, "endpoint.ejected", number, "ejected"))
        rows.append((DAY + 88 * 86_400, "endpoint.readmitted", number, "recovering"))
    rows.append((DAY + 88 * 86_400, "endpoint.ejected", 3, "ejected"))
    book.connection.execute("BEGIN")
    tell = "INSERT INTO transitions (at, event, endpoint, state, reason, enforced) VALUES (?, ?, ?, ?, '', 1)"
    book.connection.executemany(tell, rows)
    book.connection.execute("COMMIT")
    began = time.perf_counter()
    past = book.read(0, 88 * 1440 + 10)
    took = time.perf_counter() - began
    print(f"{len(rows)} transitions in {took:.2f} s")
    told = {each.endpoint: (each.ejections, each.outage_longest) for each in past.series}
    dead = (88 * 86_400 // 240, 88 * 86_400.0)
    assert told == {A: dead, B: dead, C: (1, 600.0)}
    assert took < TIME_MAX / 2


def test_who_has_nothing_in_the_span_makes_it_no_longer(book: Book) -> None:
    book.connection.execute(
        """
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2100)
        INSERT INTO endpoints (name) SELECT 'gone/m@' || x FROM n
        """
    )
    book.outcome(A, 100)
    assert [each.endpoint for each in book.read(60, 120, 5).series] == [A]
    assert [each.endpoint for each in book.read(60, 120, None).series] == [A]


def test_all_in_one_step_is_told_of_however_many_endpoints(book: Book) -> None:
    for number in range(2100):
        book.outcome(f"acme/m@{number}", 100)
    assert len(book.read(60, 120, None).series) == 2100
    with pytest.raises(HistoryTooLong):
        book.read(60, 120, 60)
    book.connection.execute("ROLLBACK")


def test_a_span_from_before_there_was_anything_takes_no_longer(book: Book) -> None:
    for number in range(50):
        book.outcome(f"acme/m@{number}", 100)
    book.read(60, 120)
    steps = itertools.count()
    book.connection.set_progress_handler(lambda: next(steps) > 1000, 100)  # 25 years by the hour are millions
    first = (10**9 - DAY) // 60
    assert len(book.read(first, 120, None, model="acme/m").series) == 50


def test_a_thousand_endpoints_over_a_quarter_of_a_year_are_read_within_the_time_that_a_question_has(
    book: Book,
) -> None:
    connection = book.connection
    connection.executescript(
        """
        BEGIN;
        INSERT INTO sources (name) VALUES ('probe');
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200)
        INSERT INTO endpoints SELECT x, 'acme/m@' || x FROM n;
        """
    )
    (kind,) = connection.execute("SELECT id FROM kinds WHERE name = 'success'").fetchone()
    connection.execute(
        """
        WITH RECURSIVE h(x) AS (SELECT ? UNION ALL SELECT x + 60 FROM h WHERE x < ? + 24 * 30 * 60)
        INSERT INTO hours SELECT h.x, endpoints.id, 1, ?, 20, 120, NULL, NULL, NULL FROM h, endpoints
        """,
        (DAY // 60, DAY // 60, kind),
    )
    connection.execute("COMMIT")
    past = book.read(0, 30 * 1440)
    assert len(past.series) == 200
    assert past.series[0].points[0].outcomes == {"probe": {"success": 720 * 120}}
    (one,) = book.read(0, 30 * 1440, 60, endpoint="acme/m@77").series
    assert len(one.points) == 720
