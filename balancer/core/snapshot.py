"""What a restart keeps: the table's evidence as plain values, and back, aged by the time away.

Theory of operation: a dump tells ages and never moments, so any process may take them, whatever its clock says.
A large table takes most of a second to tell, so `parts` tells it bit by bit, and decisions are made in between:
each part is of one moment, all ages are seen from the first, and what happened since then has the age 0, but for
the counts of windows, in which it is left out. A reload meanwhile changes no part's shape: what is told of windows
are those that were there when the dump began. `joined` parts are the dump, in whatever order they come.

`restoring` looks at the whole dump first (`kept` says what one looks like) and changes nothing unless all of it
fits. It goes bit by bit too, for a disk may come late: first the drains, then endpoint by endpoint, then the
sessions. It reads every part a second time then, which costs less than the memory that would hold them all.

What comes back, of every endpoint that still is at the same address with the same model and credential:
- the counts of all windows, of probes and reports apart, each in its bucket and older by the time away, to within
  one bucket; not where the windows have other spans now;
- health: phase, what is left of a hold, ejections (good time goes on while away), slow start, refusals and the last
  outcomes; a trial under way comes back as one that lapsed: ejected, and due again when its hold is over;
- what is left of a 429 hold, its exponent, the learned ceiling unless it is outgrown, whether there ever was
  a success, the age of the newest outcome, and the last failures.
And of the table: what each credential was sent in the last minute, what is left of drains ("until resumed" stays
so), and the sessions that still live.

What the table has seen itself is newer and stays: counts are joined (see `Ring.restore`), the later end of two
429 holds stands, the operator's last word on a target does, and of everything else what is here stands and the
dump's is left out. So nothing is counted twice
by a dump that is restored twice, or into the table that made it.

Before anything is decided nobody knows a state, and none is told. A dump that comes late changes what was told:
each endpoint that stands otherwise by it is told once, with its state, as `endpoint.restored`.

What does not come back: totals, which begin anew with the process as Prometheus expects of counters; what is
forgotten soon anyway (speeds, loads, retries, cache hits, tool calls, doubt in our own network); the random state;
transitions.

What this module does not know: files, and how long we were away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from msgspec import to_builtins
from msgspec.structs import replace

from balancer.core.accounts import Accounts
from balancer.core.affinity import Sessions, SessionsKept
from balancer.core.capacity import Quota
from balancer.core.drains import Drains
from balancer.core.kept import (
    SPAN_MAX,
    VERSION,
    DrainKept,
    EndpointKept,
    FailureKept,
    Judge,
    TableKept,
    span,
)
from balancer.core.kept import part as taken
from balancer.core.model import Catalog, HealthPolicy, Source, State
from balancer.core.notes import Drain, Failure
from balancer.core.outcome import COUNTS
from balancer.core.row import Row
from balancer.core.telling import Teller
from balancer.core.window import Windows


def parts(
    catalog: Catalog, rows: Mapping[str, Row], drains: Mapping[str, Drain], accounts: Accounts, *, now: float
) -> Iterator[dict[str, Any]]:
    """Tell everything that a restart keeps, some tenths of a millisecond each, changing nothing.

    Shape: each part has some keys of the dump, with some of what is below them; `json.dumps` takes it as it is.
    """
    windows = [(key, row, row.windows) for key, row in rows.items()]
    words = [drain for drain in drains.values() if drain.holds(now)]
    return _parts(_dump_head(catalog), words, windows, accounts.quotas, accounts.sessions, now)


def joined(told: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The dump whose parts these are; whether they are any is for `restore` to judge."""
    whole: dict[str, Any] = {}
    for part in told:
        for key, value in part.items():
            known = whole.get(key)
            if isinstance(known, dict) and isinstance(value, dict):
                known.update(value)
            elif isinstance(known, list) and isinstance(value, list):
                known.extend(value)
            else:
                whole[key] = value.copy() if isinstance(value, (dict, list)) else value
    return whole


class Place(NamedTuple):
    """Where a dump is taken back to, as it is at that moment: a reload gives another one."""

    catalog: Catalog
    rows: Mapping[str, Row]
    drains: Drains
    accounts: Accounts
    teller: Teller | None
    """Who is told what becomes of the states; `None` while nobody knows any."""

    def stands(self, row: Row, before: State, now: float) -> None:
        """Say that a row was in that state, and has taken something back since."""
        state = row.state(now)
        if self.teller is None:
            row.shown = state
        elif state != before:
            self.teller.restored(row, now, self.catalog.health)


def restoring(
    parts: Callable[[], Iterable[object]], place: Callable[[], Place], *, now: float, away: float
) -> Iterator[None]:
    """Take back what was dumped `away` seconds before `now`, some tenths of a millisecond between two steps.

    Shape: `parts` gives all of them twice, to be judged and to be taken. Anything may happen between two steps,
    with the evidence that is there by then.
    Raises: ValueError with the place, what was found and what is allowed; nothing is changed then.
    """
    if isinstance(away, bool) or not isinstance(away, (int, float)) or not 0 <= away <= SPAN_MAX:
        raise ValueError(f"away: {away!r} is no time that has passed; use 0 to {SPAN_MAX:.0f} seconds")
    then, judge = now - away, Judge()
    spans: list[float] = []
    drains: list[DrainKept] = []
    identities: dict[str, str] = {}
    sessions = SessionsKept(then)
    for part in parts():
        kept, endpoints = judge.look(part)
        spans += kept.windows
        drains += kept.drains
        identities.update((key, each.identity) for key, each in endpoints.items())
        sessions.add(kept.sessions)
        yield
    judge.end()

    def known(key: str) -> bool:
        # A prompt is not cached at another address.
        row = place().rows.get(key)
        return row is not None and identities.get(key, row.endpoint.identity) == row.endpoint.identity

    yield from _restore_drains(drains, place, then=then, now=now)
    for part in parts():
        kept, endpoints = taken(part)
        at = place()
        same = spans == list(at.catalog.health.windows)
        for key, each in endpoints.items():
            if key in at.rows and known(key):
                row = at.rows[key]
                before = row.state(now)
                if each.health.misconfigured is not None and at.drains.resumed(row):
                    forgiven = replace(each.health, refusals=0, refused_deep=False, misconfigured=None)
                    each = replace(each, health=forgiven)
                _restore_row(row, each, then=then, now=now, policy=at.catalog.health, windows=same)
                at.stands(row, before, now)
        for key, cells in kept.quotas.items():
            if key in at.accounts.quotas:
                at.accounts.quotas[key].restore(cells, then=then)
        yield
    yield from place().accounts.sessions.restoring(sessions, now=now, known=known)
    yield


def _restore_drains(
    kept: Sequence[DrainKept], place: Callable[[], Place], *, then: float, now: float
) -> Iterator[None]:
    """Take the operator's words before all else: who is drained must get no request."""
    drains = place().drains
    for word in kept:
        until = None if word.left is None else then + word.left
        drains.restore(Drain(word.target, word.reason, then - word.age, until), now=now)
    for key in tuple(place().rows):
        row = place().rows.get(key)
        if row is not None:
            before = row.state(now)
            drains.assign((row,))
            place().stands(row, before, now)
            yield


def _parts(
    head: dict[str, Any],
    drains: Sequence[Drain],
    rows: Sequence[tuple[str, Row, Mapping[Source, Windows]]],
    quotas: Mapping[str, Quota],
    sessions: Sessions,
    now: float,
) -> Iterator[dict[str, Any]]:
    # Nothing is left out: a part that says nothing is one in which no more time was taken than in others.
    yield head
    for drain in drains:
        yield {"drains": [_dump_drain(drain, now)]}
    for key, row, windows in rows:
        yield {"endpoints": {key: _dump_row(row, windows, now)}}
    for key, quota in quotas.items():
        cells = quota.dump(now)
        yield {"quotas": {key: cells} if cells else {}}
    for some in sessions.parts(now):
        yield {"sessions": some}


def _dump_head(catalog: Catalog) -> dict[str, Any]:
    """What comes first: everything that the dump of an empty table has."""
    told = TableKept(
        version=VERSION,
        windows=list(catalog.health.windows),
        endpoints={},
        quotas={},
        drains=[],
        sessions=[],
    )
    plain: dict[str, Any] = to_builtins(told)
    return plain


def _dump_drain(drain: Drain, now: float) -> dict[str, Any]:
    told = DrainKept(
        target=drain.target,
        reason=drain.reason,
        age=span(now - drain.since),
        left=None if drain.until is None else span(drain.until - now),
    )
    plain: dict[str, Any] = to_builtins(told)
    return plain


def _dump_row(row: Row, windows: Mapping[Source, Windows], now: float) -> dict[str, Any]:
    told = EndpointKept(
        identity=row.endpoint.identity,
        age=None if row.last_outcome is None else span(now - row.last_outcome),
        report_age=None if row.last_report is None else span(now - row.last_report),
        verified=row.verified,
        probes_deep=row.probes_deep,
        probe_age=None if row.probed_at == -inf else span(now - row.probed_at),
        windows={},
        health=row.health.dump(now),
        throttle=row.throttle.dump(now),
        ceiling=row.ceiling.dump(now),
        belief=row.belief.dump(now),
        slowness=row.slowness.dump(now),
        failures=[
            FailureKept(
                age=span(now - failure.ended),
                source=failure.source,
                kind=failure.kind,
                status=failure.status,
                detail=failure.detail,
            )
            for failure in row.failures
        ],
    )
    plain: dict[str, Any] = to_builtins(told)
    plain["windows"] = {source: each.dump(now) for source, each in windows.items()}  # plain already
    return plain


def _restore_row(
    row: Row, kept: EndpointKept, *, then: float, now: float, policy: HealthPolicy, windows: bool
) -> None:
    if windows:
        for source, told in kept.windows.items():
            row.windows[source].restore(told, then=then)
    if not any(source == "probe" for source, _ in row.outcomes):
        row.probes_deep = kept.probes_deep
    if kept.probe_age is not None:
        row.probed_at = max(row.probed_at, then - kept.probe_age)
    for each in kept.failures:
        if COUNTS[each.kind] == "failure":
            row.failed(then - each.age)
    row.failed_before = row.failed_at  # 429s may have pushed the one before out of the list: the windows know
    row.health.restore(kept.health, then=then, now=now, policy=policy)
    row.throttle.restore(kept.throttle, then=then, hold_max=policy.throttle_max)
    row.ceiling.restore(kept.ceiling, then=then, now=now)
    if kept.belief is not None:
        row.belief.restore(kept.belief, then=then)
    row.slowness.restore(kept.slowness, then=then)
    row.last_outcome = _newer(row.last_outcome, kept.age, then)
    row.last_report = _newer(row.last_report, kept.report_age, then)
    row.verified = row.verified or kept.verified
    if not row.failures:
        row.failures.extend(
            Failure(then - each.age, each.source, each.kind, each.status, each.detail) for each in kept.failures
        )
    row.touch()


def _newer(own: float | None, age: float | None, then: float) -> float | None:
    if age is None:
        return own
    return then - age if own is None else max(own, then - age)
