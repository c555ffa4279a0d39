"""The rules under test are the table in the module's header; `Slow` is the same table as lists and filters."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.affinity import DUMPED_MAX, PART_SIZE, Sessions, session_key
from balancer.core.model import StickyPolicy

KEY = session_key("chat-1", "openai/gpt-4.1")
KEYS = tuple(session_key(f"chat-{index}", "m") for index in range(4))
A, B, C = "m@alpha", "m@beta", "m@gamma"
POLICY = StickyPolicy(ttl=600.0, max_sessions=100)


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(POLICY)


def confirmed(sessions: Sessions, endpoint: str = A, *, now: float = 0.0, ttl: float | None = None) -> None:
    sessions.stick(KEY, endpoint, now=now, ttl=ttl)
    sessions.succeeded(KEY, endpoint, now=now, ttl=ttl)


def dump(sessions: Sessions, now: float) -> list[Any]:
    return [row for part in sessions.parts(now) for row in part]


# ---- keys --------------------------------------------------------------------------------------------


def test_a_key_is_sixteen_bytes_whatever_the_session_is_called() -> None:
    assert len(session_key("x" * 1_000_000, "m")) == len(session_key("", "m")) == 16


def test_sessions_of_two_models_do_not_meet() -> None:
    assert session_key("chat", "a") != session_key("chat", "b")
    assert session_key("bc", "a") != session_key("c", "ab")


def test_a_session_that_is_no_unicode_text_has_a_key() -> None:
    assert session_key("\ud800", "m") != session_key("\ud801", "m")


# ---- home --------------------------------------------------------------------------------------------


def test_a_session_that_nobody_knows_has_no_home(sessions: Sessions) -> None:
    assert sessions.homes(KEY, now=0.0) == ()


def test_a_decision_makes_a_home(sessions: Sessions) -> None:
    sessions.stick(KEY, A, now=0.0, ttl=None)
    assert sessions.homes(KEY, now=1.0) == (A,)


def test_a_success_makes_a_home_without_any_decision(sessions: Sessions) -> None:
    sessions.succeeded(KEY, A, now=0.0, ttl=None)
    assert sessions.homes(KEY, now=1.0) == (A,)


@pytest.mark.parametrize(("ttl", "lifetime"), [(None, 600.0), (300.0, 300.0), (3600.0, 3600.0)])
def test_a_home_lives_as_long_as_the_cache_or_else_as_the_policy_says(
    sessions: Sessions, ttl: float | None, lifetime: float
) -> None:
    confirmed(sessions, now=1000.0, ttl=ttl)
    assert sessions.homes(KEY, now=1000.0 + lifetime - 0.5) == (A,)
    assert sessions.homes(KEY, now=1000.0 + lifetime) == ()


def test_decisions_and_successes_renew_a_home(sessions: Sessions) -> None:
    sessions.stick(KEY, A, now=0.0, ttl=None)
    sessions.stick(KEY, A, now=500.0, ttl=None)
    assert sessions.homes(KEY, now=1000.0) == (A,)
    sessions.succeeded(KEY, A, now=1000.0, ttl=None)
    assert sessions.homes(KEY, now=1599.0) == (A,)


def test_a_lifetime_that_a_reload_changed_holds_from_the_next_turn(sessions: Sessions) -> None:
    sessions.stick(KEY, A, now=0.0, ttl=600.0)
    sessions.stick(KEY, A, now=10.0, ttl=60.0)
    assert sessions.homes(KEY, now=69.0) == (A,)
    assert sessions.homes(KEY, now=70.0) == ()


def test_a_failure_renews_nothing(sessions: Sessions) -> None:
    confirmed(sessions)
    sessions.failed(KEY, A, now=599.0)
    assert sessions.homes(KEY, now=600.0) == ()


def test_a_late_report_does_not_make_a_home_older(sessions: Sessions) -> None:
    confirmed(sessions, now=500.0)
    sessions.succeeded(KEY, A, now=100.0, ttl=None)
    assert sessions.homes(KEY, now=1099.0) == (A,)


def test_a_policy_of_a_reload_holds_for_sessions_that_are_here(sessions: Sessions) -> None:
    confirmed(sessions)
    sessions.policy = replace(POLICY, ttl=60.0)
    assert sessions.homes(KEY, now=59.0) == (A,)
    assert sessions.homes(KEY, now=60.0) == ()


# ---- home and spare ----------------------------------------------------------------------------------


def test_a_session_goes_back_to_its_home_while_the_cache_lives(sessions: Sessions) -> None:
    confirmed(sessions)
    confirmed(sessions, B, now=10.0)
    assert sessions.homes(KEY, now=599.0) == (A, B)


def test_the_spare_is_the_home_when_the_homes_lifetime_is_over(sessions: Sessions) -> None:
    confirmed(sessions)
    confirmed(sessions, B, now=300.0)
    assert sessions.homes(KEY, now=600.0) == (B,)
    confirmed(sessions, A, now=700.0)
    assert sessions.homes(KEY, now=700.0) == (B, A)


def test_a_home_whose_first_answer_came_from_elsewhere_moves_there(sessions: Sessions) -> None:
    sessions.stick(KEY, A, now=0.0, ttl=None)
    sessions.failed(KEY, A, now=1.0)
    sessions.succeeded(KEY, B, now=2.0, ttl=None)
    assert sessions.homes(KEY, now=3.0) == (B,)


def test_one_accident_in_a_warm_session_leaves_it_at_home(sessions: Sessions) -> None:
    for turn in range(20):
        now = turn * 30.0
        sessions.stick(KEY, A, now=now, ttl=None)
        if turn in (7, 13):
            sessions.failed(KEY, A, now=now + 1.0)
            sessions.succeeded(KEY, B, now=now + 2.0, ttl=None)
        else:
            sessions.succeeded(KEY, A, now=now + 1.0, ttl=None)
        assert sessions.homes(KEY, now=now + 3.0)[0] == A


def test_two_failures_in_a_row_make_it_no_longer_home(sessions: Sessions) -> None:
    confirmed(sessions)
    sessions.failed(KEY, A, now=10.0)
    sessions.succeeded(KEY, B, now=11.0, ttl=None)
    assert sessions.homes(KEY, now=12.0) == (A, B)
    sessions.failed(KEY, A, now=20.0)
    assert sessions.homes(KEY, now=20.0) == (B,)


def test_two_failures_without_a_spare_leave_no_home(sessions: Sessions) -> None:
    confirmed(sessions)
    sessions.failed(KEY, A, now=10.0)
    sessions.failed(KEY, A, now=20.0)
    assert sessions.homes(KEY, now=20.0) == ()
    assert len(sessions) == 0


def test_a_spare_that_fails_twice_is_none(sessions: Sessions) -> None:
    confirmed(sessions)
    sessions.stick(KEY, B, now=5.0, ttl=None)
    sessions.failed(KEY, B, now=6.0)
    assert sessions.homes(KEY, now=7.0) == (A, B)
    sessions.failed(KEY, B, now=8.0)
    assert sessions.homes(KEY, now=9.0) == (A,)


def test_there_is_one_spare_the_last(sessions: Sessions) -> None:
    confirmed(sessions)
    confirmed(sessions, B, now=1.0)
    confirmed(sessions, C, now=2.0)
    assert sessions.homes(KEY, now=3.0) == (A, C)


def test_a_place_that_lapsed_starts_anew(sessions: Sessions) -> None:
    confirmed(sessions, ttl=3600.0)
    confirmed(sessions, B, now=1.0, ttl=60.0)
    sessions.failed(KEY, B, now=2.0)
    sessions.stick(KEY, B, now=61.0, ttl=60.0)
    sessions.failed(KEY, B, now=62.0)
    assert sessions.homes(KEY, now=63.0) == (A, B)
    sessions.stick(KEY, C, now=4000.0, ttl=None)  # nothing lives: C is a home, and one without any answer
    sessions.succeeded(KEY, B, now=4001.0, ttl=None)
    assert sessions.homes(KEY, now=4002.0) == (B,)


def test_a_failure_elsewhere_changes_nothing(sessions: Sessions) -> None:
    sessions.failed(KEY, A, now=0.0)
    assert len(sessions) == 0
    confirmed(sessions)
    for now in (1.0, 2.0, 3.0):
        sessions.failed(KEY, C, now=now)
    assert sessions.homes(KEY, now=4.0) == (A,)


def test_endpoints_that_a_reload_removed_are_forgotten(sessions: Sessions) -> None:
    confirmed(sessions)
    confirmed(sessions, B, now=1.0)
    sessions.forget([C])
    assert sessions.homes(KEY, now=2.0) == (A, B)
    sessions.forget([A])
    assert sessions.homes(KEY, now=2.0) == (B,)
    sessions.forget([B])
    assert len(sessions) == 0


# ---- bounded -----------------------------------------------------------------------------------------


def test_a_flood_of_keys_evicts_the_least_recently_used() -> None:
    sessions = Sessions(StickyPolicy(max_sessions=100))
    confirmed(sessions)
    for number in range(10_000):
        sessions.stick(session_key(str(number), "m"), B, now=1.0, ttl=None)
        if number % 50 == 0:
            sessions.stick(KEY, A, now=1.0, ttl=None)
        assert len(sessions) <= 100
        assert sessions.homes(KEY, now=1.0) == (A,)
    assert sessions.homes(session_key("9999", "m"), now=2.0) == (B,)
    assert sessions.homes(session_key("1", "m"), now=2.0) == ()


def test_fewer_sessions_after_a_reload_drop_the_oldest(sessions: Sessions) -> None:
    for number, key in enumerate(KEYS):
        sessions.stick(key, A, now=float(number), ttl=None)
    sessions.policy = StickyPolicy(max_sessions=2)
    assert [sessions.homes(key, now=5.0) for key in KEYS] == [(), (), (A,), (A,)]


def test_no_sessions_are_allowed() -> None:
    sessions = Sessions(StickyPolicy(max_sessions=0))
    confirmed(sessions)
    assert len(sessions) == 0


# ---- against a slow one ------------------------------------------------------------------------------


@dataclass
class Place:
    endpoint: str
    used: float
    ttl: float | None
    confirmed: bool = False
    failures: int = 0


class Slow:
    """The table of the header, with a list of (key, places) in the order of their last use, oldest first."""

    def __init__(self, policy: StickyPolicy) -> None:
        self.policy = policy
        self.rows: list[tuple[bytes, list[Place]]] = []

    def living(self, key: bytes, now: float) -> list[Place]:
        places = next((places for each, places in self.rows if each == key), [])
        return [
            place for place in places if now < place.used + (self.policy.ttl if place.ttl is None else place.ttl)
        ]

    def put(self, key: bytes, places: list[Place], *, used: bool) -> None:
        at = next((index for index, row in enumerate(self.rows) if row[0] == key), len(self.rows))
        self.rows[at : at + 1] = [(key, places)] if places else []
        if used:
            self.rows.append(self.rows.pop(at))
        self.rows = self.rows[max(0, len(self.rows) - self.policy.max_sessions) :]

    def take(self, what: str, key: bytes, endpoint: str, now: float, ttl: float | None) -> None:
        places = self.living(key, now)
        if what == "fail":
            for place in places:
                place.failures += place.endpoint == endpoint
            self.put(key, [place for place in places if place.failures < 2], used=False)
            return
        place = next((each for each in places if each.endpoint == endpoint), None)
        if place is None:
            place = Place(endpoint, now, ttl)
            places = [*places[:1], place]
        place.used, place.ttl = max(place.used, now), ttl
        if what == "succeed":
            place.confirmed, place.failures = True, 0
            if not places[0].confirmed:
                places = [place]
        self.put(key, places, used=True)

    def forget(self, gone: list[str]) -> None:
        rows = [(key, [each for each in places if each.endpoint not in gone]) for key, places in self.rows]
        self.rows = [row for row in rows if row[1]]


Step = tuple[Any, ...]
ENDPOINTS = st.sampled_from((A, B, C))
# Whole seconds, so that ages are exact.
TTLS = st.sampled_from((None, 0.0, 30.0, 100.0))
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(("stick", "stick", "succeed", "succeed", "fail")),
            st.sampled_from((KEYS[0], *KEYS)),
            ENDPOINTS,
            st.sampled_from((-40.0, 0.0, 0.0, 1.0, 10.0, 29.0, 30.0, 60.0)),
            TTLS,
        ),
        st.tuples(st.just("forget"), st.lists(ENDPOINTS, max_size=2)),
        st.tuples(st.just("policy"), st.sampled_from((20.0, 60.0)), st.integers(0, 4)),
    ),
    max_size=50,
)


def take(sessions: Sessions | Slow, step: Step, now: float) -> None:
    match step:
        case "forget", gone:
            sessions.forget(gone)
        case "policy", ttl, most:
            sessions.policy = StickyPolicy(ttl=ttl, max_sessions=most)
            if isinstance(sessions, Slow):
                sessions.rows = sessions.rows[max(0, len(sessions.rows) - most) :]
        case what, key, endpoint, _, ttl:
            if isinstance(sessions, Slow):
                sessions.take(what, key, endpoint, now, ttl)
            elif what == "stick":
                sessions.stick(key, endpoint, now=now, ttl=ttl)
            elif what == "succeed":
                sessions.succeeded(key, endpoint, now=now, ttl=ttl)
            else:
                sessions.failed(key, endpoint, now=now)


def clock(steps: list[Step], start: float = 1000.0) -> list[float]:
    """When each step happens: mostly forward, sometimes a late report."""
    moments = []
    for step in steps:
        start += step[3] if len(step) == 5 else 0.0
        moments.append(start)
    return moments


def every_home(sessions: Sessions, now: float) -> list[tuple[str, ...]]:
    return [sessions.homes(key, now=now) for key in KEYS]


@given(STEPS)
def test_sessions_are_what_the_table_says(steps: list[Step]) -> None:
    sessions, slow = (each(StickyPolicy(ttl=60.0, max_sessions=3)) for each in (Sessions, Slow))
    assert isinstance(sessions, Sessions)
    assert isinstance(slow, Slow)
    for step, now in zip(steps, clock(steps), strict=True):
        take(sessions, step, now)
        take(slow, step, now)
        assert len(sessions) == len(slow.rows) <= sessions.policy.max_sessions
        for later in (0.0, 15.0, 30.0, 60.0):
            expected = [tuple(place.endpoint for place in slow.living(key, now + later)) for key in KEYS]
            assert every_home(sessions, now + later) == expected


@given(STEPS)
def test_reading_changes_nothing(steps: list[Step]) -> None:
    read, unread = Sessions(POLICY), Sessions(POLICY)
    for step, now in zip(steps, clock(steps), strict=True):
        take(read, step, now)
        take(unread, step, now)
        for other in (-1e6, 0.0, 50.0, 1e6):
            every_home(read, now + other)
            dump(read, now + other)
        assert dump(read, now) == dump(unread, now)
        assert len(read) == len(unread)


@given(STEPS, STEPS, st.integers(0, 200))
def test_what_was_restored_is_the_original_aged_by_the_time_away(
    before: list[Step], after: list[Step], away: int
) -> None:
    before, after = ([step for step in steps if step[0] != "policy"] for steps in (before, after))
    original, restored = Sessions(POLICY), Sessions(POLICY)
    moments = clock(before)
    for step, now in zip(before, moments, strict=True):
        take(original, step, now)
    dumped = max([1000.0, *moments])
    restored.restore(json.loads(json.dumps(dump(original, dumped))), now=7.0, away=float(away))
    shift = dumped + away - 7.0
    for later in (0.0, 1.0, 29.0, 30.0, 100.0, 600.0):
        assert every_home(restored, 7.0 + later) == every_home(original, 7.0 + later + shift)
    # and it goes on alike: failures in a row and confirmations came along. From here on no late reports.
    after = [(*step[:3], abs(step[3]), step[4]) if len(step) == 5 else step for step in after]
    for step, now in zip(after, clock(after, 7.0), strict=True):
        take(restored, step, now)
        take(original, step, now + shift)
        assert every_home(restored, now) == every_home(original, now + shift)


# ---- dump and restore --------------------------------------------------------------------------------


def test_a_dump_tells_ages_and_nobodys_session(sessions: Sessions) -> None:
    confirmed(sessions, now=100.0)
    sessions.stick(KEY, B, now=130.0, ttl=300.0)
    sessions.failed(KEY, B, now=131.0)
    assert dump(sessions, 150.0) == [[KEY.hex(), [A, 50.0, None, True, 0], [B, 20.0, 300.0, False, 1]]]


def test_sessions_may_come_and_go_while_they_are_told() -> None:
    keys = [bytes([7]) + number.to_bytes(15) for number in range(1000)]  # all are listed at once
    crowd = Sessions(StickyPolicy(ttl=600.0, max_sessions=1000))
    for key in keys:
        crowd.stick(key, A, now=1.0, ttl=None)
    told: list[str] = []
    for number, part in enumerate(crowd.parts(2.0)):
        assert len(part) <= PART_SIZE
        told += [row[0] for row in part]
        for place in range(200 * number, 200 * number + 200):  # each of them evicts the oldest
            crowd.stick(session_key(f"new-{place}", "m"), B, now=3.0, ttl=None)
    assert len(told) == len(set(told)) < 1000
    assert {key.hex() for key in keys if crowd.homes(key, now=3.0)} <= set(told)


def test_what_was_evicted_is_not_even_looked_for() -> None:
    few = Sessions(StickyPolicy(max_sessions=10))
    for number in range(60_000):
        few.stick(session_key(str(number), "m"), A, now=1.0, ttl=None)
    assert len(list(few.parts(1.0))) <= 10


def test_the_oldest_gives_way_after_a_restart_too(sessions: Sessions) -> None:
    for number in (2, 0, 3, 1):
        sessions.stick(KEYS[number], A, now=float(number), ttl=None)
    fresh = Sessions(StickyPolicy(max_sessions=2))
    fresh.restore(dump(sessions, 4.0), now=0.0, away=1.0)
    assert every_home(fresh, 0.0) == [(), (), (A,), (A,)]


def test_what_lapsed_is_neither_dumped_nor_restored(sessions: Sessions) -> None:
    confirmed(sessions, now=0.0)
    confirmed(sessions, B, now=400.0)
    state = dump(sessions, 500.0)
    assert len(state) == 1
    later = Sessions(POLICY)
    later.restore(state, now=0.0, away=200.0)
    assert later.homes(KEY, now=0.0) == (B,)
    latest = Sessions(POLICY)
    latest.restore(state, now=0.0, away=500.0)
    assert len(latest) == 0
    assert dump(sessions, 1000.0) == []


def test_endpoints_that_are_no_longer_configured_are_not_restored(sessions: Sessions) -> None:
    confirmed(sessions)
    confirmed(sessions, B, now=1.0)
    fresh = Sessions(POLICY)
    fresh.restore(dump(sessions, 2.0), now=0.0, away=1.0, known={B, C})
    assert fresh.homes(KEY, now=0.0) == (B,)


def test_a_session_that_is_already_here_is_newer_than_the_dump(sessions: Sessions) -> None:
    for number, key in enumerate(KEYS):
        sessions.stick(key, A, now=float(number), ttl=None)
    fresh = Sessions(StickyPolicy(max_sessions=3))
    fresh.stick(KEYS[0], C, now=0.0, ttl=None)
    fresh.restore(dump(sessions, 4.0), now=0.0, away=1.0)
    assert every_home(fresh, 0.0) == [(C,), (), (A,), (A,)]


def test_a_failure_before_the_restart_counts_after_it(sessions: Sessions) -> None:
    confirmed(sessions)
    sessions.failed(KEY, A, now=1.0)
    fresh = Sessions(POLICY)
    fresh.restore(dump(sessions, 2.0), now=0.0, away=1.0)
    fresh.failed(KEY, A, now=1.0)
    assert fresh.homes(KEY, now=1.0) == ()


def test_a_home_that_answered_before_the_restart_is_not_lost_to_the_next_answer(sessions: Sessions) -> None:
    confirmed(sessions)
    fresh = Sessions(POLICY)
    fresh.restore(dump(sessions, 2.0), now=0.0, away=1.0)
    fresh.succeeded(KEY, B, now=1.0, ttl=None)
    assert fresh.homes(KEY, now=1.0) == (A, B)


GOOD = [KEY.hex(), [A, 1.0, None, True, 0], None]


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ({}, "sessions: "),
        (None, "sessions: "),
        ([GOOD, "x"], "sessions[1]: "),
        ([[]], "sessions[0]: "),
        ([[*GOOD, 1]], "sessions[0]: "),
        ([["00", *GOOD[1:]]], "sessions[0][0]: "),
        ([["z" * 32, *GOOD[1:]]], "sessions[0][0]: "),
        ([[7, *GOOD[1:]]], "sessions[0][0]: "),
        ([[GOOD[0], None, None]], "sessions[0][1]: "),
        ([[GOOD[0], [A, 1.0, None, True], None]], "sessions[0][1]: "),
        ([[GOOD[0], ["", 1.0, None, True, 0], None]], "sessions[0][1][0]: "),
        ([[GOOD[0], [A, -1.0, None, True, 0], None]], "sessions[0][1][1]: "),
        ([[GOOD[0], [A, float("nan"), None, True, 0], None]], "sessions[0][1][1]: "),
        ([[GOOD[0], [A, 10**400, None, True, 0], None]], "sessions[0][1][1]: "),
        ([[GOOD[0], [A, True, None, True, 0], None]], "sessions[0][1][1]: "),
        ([[GOOD[0], [A, 1.0, "60", True, 0], None]], "sessions[0][1][2]: "),
        ([[GOOD[0], [A, 1.0, None, 1, 0], None]], "sessions[0][1][3]: "),
        ([[GOOD[0], [A, 1.0, None, True, 2], None]], "sessions[0][1][4]: "),
        ([[GOOD[0], [A, 1.0, None, True, 0.5], None]], "sessions[0][1][4]: "),
        ([[GOOD[0], GOOD[1], [B]]], "sessions[0][2]: "),
        ([[GOOD[0], GOOD[1], GOOD[1]]], "sessions[0][2][0]: "),
    ],
)
def test_a_state_that_was_never_dumped_is_refused_and_changes_nothing(
    sessions: Sessions, bad: object, where: str
) -> None:
    confirmed(sessions, C)
    before = dump(sessions, 1.0)
    with pytest.raises(ValueError) as refusal:
        sessions.restore(bad, now=1.0, away=1.0)
    assert str(refusal.value).startswith(where)
    assert dump(sessions, 1.0) == before


@pytest.mark.parametrize("away", [-1.0, float("nan"), float("inf")])
def test_an_impossible_time_away_is_refused(sessions: Sessions, away: float) -> None:
    with pytest.raises(ValueError, match="away"):
        sessions.restore([GOOD], now=1.0, away=away)
    assert len(sessions) == 0


def test_of_more_sessions_than_are_dumped_those_that_were_used_last_are() -> None:
    crowd = Sessions(replace(POLICY, ttl=5000.0, max_sessions=10_000))
    keys = [session_key(str(number), "m") for number in range(10_000)]
    for number, key in enumerate(keys):
        crowd.stick(key, A, now=float(number), ttl=None)
    for key in keys[:100]:  # the oldest come back, elsewhere
        crowd.stick(key, B, now=10_000.0, ttl=None)
    told = [len(part) for part in crowd.parts(10_000.0, most=1000)]
    assert max(told) <= PART_SIZE
    last = {key.hex() for key in (*keys[:100], *keys[9100:])}
    found = {row[0] for part in crowd.parts(10_000.0, most=1000) for row in part}
    assert 900 <= len(found) <= 1000 + PART_SIZE
    assert len(found & last) >= 850
    everybody = {row[0] for part in crowd.parts(10_000.0, most=10_000) for row in part}
    assert everybody == {key.hex() for key in (*keys[:100], *keys[5001:])}  # the others have lapsed
    some = {row[0] for part in crowd.parts(10_000.0, most=9_000) for row in part}
    assert some == everybody


def test_the_most_sessions_that_are_dumped_are_a_quarter_of_a_million() -> None:
    assert DUMPED_MAX == 250_000  # as README says
