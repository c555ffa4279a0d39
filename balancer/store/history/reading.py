"""One question → one answer, out of minutes and hours.

Theory of operation: all sums are SQLite's. What is asked in steps of whole hours, or all in one, is read from the
hours, and from the minutes only at its two ends; other steps are read from the minutes. One endpoint is searched
for in each minute (or hour), all of them are read in one go.

What this module does not know: threads, and how long it may take.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from balancer.core.history import (
    COUNTED_MIN,
    GOOD_SHARE,
    HOUR,
    MINUTE,
    MOMENTS_MAX,
    POINTS_MAX,
    HistoryQuery,
    HistoryTooLong,
    Minutes,
    Moment,
    Outages,
    Past,
    Point,
    Series,
    latencies,
    uptime,
)
from balancer.core.model import Source
from balancer.core.outcome import COUNTS, Kind
from balancer.store.history import questions
from balancer.store.history.questions import Tier
from balancer.store.history.schema import NO_LATENCY

MINUTES_OF_HOUR: Final = HOUR // MINUTE


class Part(NamedTuple):
    """A stretch of minutes, and where it is read."""

    tier: Tier
    first: int
    last: int


@dataclass(slots=True)
class _Sums:
    """What was counted of one endpoint in one step."""

    outcomes: dict[Source, dict[Kind, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    buckets: dict[Source, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    minutes: dict[Source, Minutes] = field(default_factory=lambda: defaultdict(lambda: Minutes(0, 0)))
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


def parts(query: HistoryQuery, minutes_from: int) -> list[Part]:
    """Say where to read what is asked for, whole steps of it. Units: minutes, those of `minutes_from` too."""
    first, last = query.since // MINUTE, -(-query.until // MINUTE)
    if query.step is not None:
        step = query.step // MINUTE
        first, last = first - first % step, -(-last // step) * step
    if query.step is not None and query.step % HOUR:
        return [Part("minutes", first, last)]
    # An hour of which the minutes are gone is told whole, at either end.
    begin = _hour(first) if first < minutes_from else -_hour(-first)
    end = _hour(last)
    if end < minutes_from:
        end = -_hour(-last)
    if begin >= end:
        return [Part("minutes", first, last)]
    found = [Part("minutes", first, begin), Part("hours", begin, end), Part("minutes", end, last)]
    return [part for part in found if part.first < part.last]


def _hour(minute: int) -> int:
    return minute - minute % MINUTES_OF_HOUR


def read(connection: sqlite3.Connection, query: HistoryQuery) -> Past:
    """Answer a question. Raises: HistoryTooLong; sqlite3.Error."""
    connection.execute("BEGIN")  # one picture, whatever is written meanwhile
    kept = dict(connection.execute("SELECT key, value FROM meta"))
    stretches = parts(query, kept.get("minutes_from", 0))
    first, last = stretches[0].first, stretches[-1].last
    step = max(1, last - first) if query.step is None else query.step // MINUTE
    endpoints = _endpoints(connection, query)
    if query.step is not None:
        _judge(connection, endpoints, (first, last), -(-(last - first) // step))
    sums: defaultdict[int, defaultdict[int, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
    for part in stretches:
        _add(connection, part, query, endpoints, (first, step), sums)
    places = _span(connection, query, endpoints, first, last)
    moments, left_out = _moments(connection, places)
    outages, ejections = _outages(connection, places, until=min(last * MINUTE, query.until, query.now))
    series = [
        Series(
            endpoint=name,
            model=name.partition("@")[0],
            ejections=ejections.get(number, 0),
            outage_longest=outages[number].longest if number in outages else 0.0,
            points=[
                _point((first + slot * step) * MINUTE, sums[number][slot]) for slot in sorted(sums.get(number, ()))
            ],
        )
        for number, name in endpoints.items()
        if number in sums or number in outages or query.endpoint is not None
    ]
    return Past(
        since=first * MINUTE,
        until=last * MINUTE,
        step=query.step,
        minutes_from=_unix(kept.get("minutes_from")),
        hours_from=_unix(kept.get("hours_from")),
        series=series,
        transitions=moments,
        transitions_left_out=left_out,
    )


def _judge(connection: sqlite3.Connection, endpoints: Mapping[int, str], span: tuple[int, int], steps: int) -> None:
    """Refuse what has too many points. Raises: HistoryTooLong."""
    if len(endpoints) * steps <= POINTS_MAX:
        return
    places = {"first": _hour(span[0]), "last": span[1]}  # who did nothing in the span has no points
    active = sum(number in endpoints for (number,) in connection.execute(questions.ACTIVE, places))
    if active * steps > POINTS_MAX:
        raise HistoryTooLong(active * steps, active)


def _unix(minutes: int | None) -> int | None:
    return None if minutes is None else minutes * MINUTE


def _endpoints(connection: sqlite3.Connection, query: HistoryQuery) -> dict[int, str]:
    if query.endpoint is not None:
        rows = connection.execute("SELECT id, name FROM endpoints WHERE name = ?", (query.endpoint,))
    elif query.model is not None:  # "A" is the sign after "@"
        span = (f"{query.model}@", f"{query.model}A")
        rows = connection.execute("SELECT id, name FROM endpoints WHERE name > ? AND name < ? ORDER BY name", span)
    else:
        rows = connection.execute("SELECT id, name FROM endpoints ORDER BY name")
    return dict(rows)


def _add(
    connection: sqlite3.Connection,
    part: Part,
    query: HistoryQuery,
    endpoints: Mapping[int, str],
    steps: tuple[int, int],
    into: defaultdict[int, defaultdict[int, _Sums]],
) -> None:
    (oldest,) = connection.execute(questions.OLDEST[part.tier]).fetchone()
    if oldest is None or oldest >= part.last:
        return
    places = {
        "first": max(part.first, oldest),  # each minute (or hour) is searched for, also before there was any
        "last": part.last,
        "each": 1 if part.tier == "minutes" else MINUTES_OF_HOUR,
        "origin": steps[0],
        "step": steps[1],
        "endpoints": f"[{','.join(map(str, endpoints))}]",
        "counted_min": COUNTED_MIN,
        "good_share": GOOD_SHARE,
    }
    some = query.endpoint is not None or query.model is not None
    for slot, endpoint, source, kind, bucket, count, prompt, completion, cost in connection.execute(
        questions.SUMS[part.tier, some], places
    ):
        sums = into[endpoint][slot]
        sums.outcomes[source][kind] += count
        if bucket != NO_LATENCY and COUNTS.get(kind) == "success":
            sums.buckets[source][bucket] += count
        sums.prompt_tokens = _both(sums.prompt_tokens, prompt)
        sums.completion_tokens = _both(sums.completion_tokens, completion)
        sums.cost = _both(sums.cost, cost)
    for slot, endpoint, source, counted, good in connection.execute(questions.MINUTES[part.tier, some], places):
        if counted:
            minutes = into[endpoint][slot].minutes
            known = minutes[source]
            minutes[source] = Minutes(known.counted + counted, known.good + good)


def _both(known: Any, more: Any) -> Any:
    if known is None or more is None:
        return more if known is None else known
    return known + more


def _point(start: int, sums: _Sums) -> Point:
    spreads = {source: latencies(counts) for source, counts in sums.buckets.items()}
    return Point(
        start=start,
        outcomes={source: dict(counts) for source, counts in sums.outcomes.items()},
        uptime={source: uptime(counts, sums.minutes[source]) for source, counts in sums.outcomes.items()},
        latency={source: spread for source, spread in spreads.items() if spread is not None},
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        cost=sums.cost,
    )


def _moments(connection: sqlite3.Connection, places: Mapping[str, Any]) -> tuple[list[Moment], int]:
    (total,) = connection.execute(questions.COUNT, places).fetchone()
    rows = connection.execute(questions.MOMENTS, places).fetchall()
    return [_moment(row) for row in reversed(rows)], total - len(rows)


def _moment(row: tuple[Any, ...]) -> Moment:
    at, event, endpoint, model, provider, reporter, state, reason, next_at, enforced = row
    return Moment(
        at=at, event=event, endpoint=endpoint, model=model, provider=provider, reporter=reporter, state=state,
        reason=reason, next_at=next_at, enforced=bool(enforced),
    )  # fmt: skip


def _outages(
    connection: sqlite3.Connection, places: Mapping[str, Any], *, until: float
) -> tuple[dict[int, Outages], dict[int, int]]:
    """By endpoint its outages, where there was any change, and its enforced ejections."""
    since = float(places["since"])
    outages: defaultdict[int, Outages] = defaultdict(lambda: Outages(since=since, until=float(until)))
    changed: set[int] = set()  # since the last start, which ends all outages
    for number, at, state in _before(connection, places):
        outages[number].change(at, state)
        changed.add(number)
    ejections: dict[int, int] = defaultdict(int)
    for number, at, state, ejected in connection.execute(questions.CHANGES, places):
        if number is None:
            for each in changed:
                outages[each].change(at, None)
            changed.clear()
            continue
        outages[number].change(at, state)
        changed.add(number)
        ejections[number] += ejected
    return outages, ejections


def _before(connection: sqlite3.Connection, places: Mapping[str, Any]) -> Iterator[tuple[int, float, Any]]:
    """How each endpoint stood when the span began, unless the daemon was started since."""
    (started,) = connection.execute(questions.STARTED, places).fetchone()
    rows = connection.execute(questions.BEFORE, {**places, "started": 0 if started is None else started})
    return cast("Iterator[tuple[int, float, Any]]", iter(rows.fetchall()))


def _span(
    connection: sqlite3.Connection, query: HistoryQuery, endpoints: Mapping[int, str], first: int, last: int
) -> dict[str, Any]:
    """What is asked of transitions: when, whose, and the first and the last of them."""
    places: dict[str, Any] = {
        "since": first * MINUTE,
        "until": last * MINUTE,
        "some": query.endpoint is not None or query.model is not None,
        "endpoints": f"[{','.join(map(str, endpoints))}]",
        "model": query.model,
        "most": MOMENTS_MAX,
    }
    places["first"], places["last"] = connection.execute(questions.WITHIN, places).fetchone()
    return places
