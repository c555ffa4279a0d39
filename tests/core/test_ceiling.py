"""The learned ceiling on the requests a minute of one endpoint (`ceiling`)."""

from __future__ import annotations

from math import ceil, floor, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.ceiling import (
    BORNE_MIN,
    BORNE_SPAN,
    CEILING_AGAIN,
    CEILING_AGE_MAX,
    CEILING_BURST,
    CEILING_CONFIRMED,
    CEILING_CUT,
    CEILING_FORGET,
    CEILING_MIN,
    CEILING_PATIENCE,
    CEILING_QUIET,
    CEILING_REQUESTS,
    CEILING_RISE,
    CEILING_SHARE,
    Ceiling,
)

BUCKET = 2.0  # s; a minute in thirty


def busy(ceiling: Ceiling, requests: int, *, now: float) -> None:
    """Send so many requests at one moment."""
    for _ in range(requests):
        ceiling.took(now)


def test_without_a_429_there_is_no_ceiling() -> None:
    ceiling = Ceiling()
    busy(ceiling, 1000, now=0.0)
    assert ceiling.ceiling(0.0) is None
    assert not ceiling.learned
    assert not ceiling.full(0.0)


def burst(ceiling: Ceiling, limited: int, *, began: float, now: float) -> None:
    """Let so many requests that began at one moment be answered with a 429."""
    for _ in range(limited):
        ceiling.limited(began=began, ended=now, now=now)


def test_a_429_cuts_to_four_fifths_of_the_rate_and_a_burst_cuts_once() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=10.0)
    for step in range(50):
        ceiling.limited(began=10.0, ended=11.0 + step * 0.01, now=11.0 + step * 0.01)
    assert ceiling.ceiling(11.49) == pytest.approx(80.0)
    assert ceiling.learned
    assert ceiling.full(11.5)
    assert not ceiling.full(70.0)


def test_the_rate_is_what_was_decided_or_reported_whichever_is_more() -> None:
    for decided, reported in ((100, 0), (0, 100), (100, 60), (60, 100), (100, 100)):
        ceiling = Ceiling()
        busy(ceiling, decided, now=0.0)
        for _ in range(reported):
            ceiling.reported(0.0)
        burst(ceiling, 10, began=0.0, now=1.0)
        assert ceiling.ceiling(1.0) == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("requests", "limited", "taught"),
    [
        (CEILING_REQUESTS, CEILING_BURST, True),
        (CEILING_REQUESTS, CEILING_BURST - 1, False),
        (CEILING_REQUESTS - 1, 1, True),
        (CEILING_QUIET, 1, True),
        (CEILING_QUIET - 1, 1, False),
        (CEILING_QUIET - 1, 2, False),
        (200, 9, False),
        (200, 10, True),
        (1000, 49, False),
    ],
    ids=[
        "just enough", "one or two are chance", "in a quiet minute one is a tenth", "of two requests",
        "of one request no rate is learned", "nor of two 429s", "among many a few are noise",
        "a twentieth is no noise",
        "noise of much traffic",
    ],
)  # fmt: skip
def test_a_ceiling_is_taught_by_a_share_of_enough_requests(requests: int, limited: int, taught: bool) -> None:
    ceiling = Ceiling()
    for now in (0.0, 50.0):
        busy(ceiling, 1, now=now)
    busy(ceiling, requests - 1, now=70.0)
    burst(ceiling, limited, began=70.0, now=71.0)
    assert ceiling.ceiling(71.0) == (pytest.approx(CEILING_CUT * requests) if taught else None)
    assert ceiling.learned == taught


@pytest.mark.parametrize(
    "before", [[], [0.0], [0.0, 30.0]], ids=["the first", "after a pause", "in the first minute"]
)
def test_a_minute_that_has_only_begun_teaches_no_quiet_rate(before: list[float]) -> None:
    ceiling = Ceiling()
    for now in before:
        busy(ceiling, 1, now=now)
    start = 35.0 if len(before) == 2 else 100.0
    busy(ceiling, CEILING_REQUESTS - 2, now=start)
    ceiling.limited(began=start, ended=start + 1.0, now=start + 1.0)
    assert ceiling.ceiling(start + 1.0) is None


def test_a_429_to_a_request_that_began_after_the_cut_cuts_again_and_never_raises() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=1.0)
    busy(ceiling, 90, now=61.0)
    burst(ceiling, 5, began=61.0, now=62.0)
    assert ceiling.ceiling(62.0) == pytest.approx(72.0)
    busy(ceiling, 500, now=63.0)
    burst(ceiling, 30, began=63.0, now=64.0)
    found = ceiling.ceiling(64.0)
    assert found is not None
    assert found <= 72.3


def test_one_burst_cuts_a_known_ceiling_by_half_at_most_however_slow_the_minute_was() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    for minute in range(2, 8):
        now = minute * 60.0
        before = ceiling.ceiling(now)
        assert before is not None
        sent = ceil(before * 0.6)
        busy(ceiling, sent, now=now)
        burst(ceiling, 5, began=now - 1.0, now=now)
        assert ceiling.ceiling(now) == pytest.approx(max(CEILING_CUT * sent, CEILING_AGAIN * before))


def test_a_ceiling_of_which_a_hold_left_next_to_no_traffic_limits_nothing() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    busy(ceiling, 1, now=120.0)
    ceiling.limited(began=120.0, ended=120.0, now=120.0)
    assert ceiling.ceiling(120.0) is None


def test_a_ceiling_rises_by_a_share_of_itself_each_minute_without_429s() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    found = [ceiling.ceiling(minute * 60.0) for minute in range(4)]
    assert found == pytest.approx([80.0 * (1.0 + CEILING_RISE) ** minute for minute in range(4)])
    ceiling.limited(began=-5.0, ended=180.0, now=180.0)
    assert ceiling.ceiling(180.0) == pytest.approx(80.0)


def test_a_ceiling_far_above_all_traffic_is_forgotten_and_does_not_come_back() -> None:
    minutes = min(log(CEILING_FORGET / CEILING_CUT) / log(1.0 + CEILING_RISE), CEILING_AGE_MAX / 60)
    for afterwards in ("requests", "a single 429"):
        ceiling = Ceiling()
        busy(ceiling, 100, now=0.0)
        burst(ceiling, 5, began=0.0, now=0.0)
        assert ceiling.ceiling((minutes - 0.1) * 60) is not None
        assert ceiling.ceiling((minutes + 0.1) * 60) is None
        if afterwards == "requests":
            busy(ceiling, 500, now=(minutes + 0.2) * 60)
        else:
            ceiling.limited(began=minutes * 60, ended=(minutes + 0.2) * 60, now=(minutes + 0.2) * 60)
        assert ceiling.ceiling((minutes + 0.3) * 60) is None


def test_a_ceiling_that_traffic_keeps_near_is_forgotten_when_it_is_old() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    for minute in range(1, round(CEILING_AGE_MAX / 60)):
        busy(ceiling, round(80 * (1.0 + CEILING_RISE) ** minute), now=minute * 60.0)
    assert ceiling.ceiling(CEILING_AGE_MAX - 1.0) is not None
    assert ceiling.ceiling(CEILING_AGE_MAX) is None


def test_one_request_a_minute_is_always_let_through() -> None:
    ceiling = Ceiling()
    busy(ceiling, CEILING_REQUESTS, now=0.0)
    burst(ceiling, CEILING_BURST, began=0.0, now=0.0)
    for minute in range(1, 60):
        before = ceiling.ceiling(minute * 60.0)
        assert before is not None
        busy(ceiling, ceil(before * 0.55), now=minute * 60.0)
        ceiling.limited(began=minute * 60.0, ended=minute * 60.0, now=minute * 60.0)
    assert ceiling.ceiling(59 * 60.0) == CEILING_MIN
    assert not ceiling.full(3600.0)
    ceiling.took(3600.0)
    assert ceiling.full(3601.0)
    assert not ceiling.full(3660.0)


def steady(ceiling: Ceiling, rate: int, *, since: float, minutes: int) -> float:
    """Send and serve so many requests each minute, at even moments; tell when the last was answered."""
    now = since
    for _ in range(minutes * rate):
        now += 60.0 / rate
        ceiling.took(now)
        ceiling.served(ended=now, now=now)
    return now


@pytest.mark.parametrize(
    ("usual", "rate", "taught"), [(8, 8, True), (8, 12, True), (19, 19, True), (8, 4, False), (25, 25, False)]
)
def test_one_429_at_the_highest_rate_that_was_borne_teaches(usual: int, rate: int, taught: bool) -> None:
    ceiling = Ceiling()
    now = steady(ceiling, usual, since=0.0, minutes=5)
    now += 65.0 if rate < usual else 0.0  # the last minute is quieter: whatever refuses now, it is not the load
    for _ in range(rate if rate < usual else rate - usual):
        ceiling.took(now)
    ceiling.took(now)
    ceiling.limited(began=now, ended=now + 0.1, now=now + 0.1)
    assert ceiling.learned == taught, "of 20 requests and more a single 429 is noise, whenever it comes"


def test_of_a_few_answers_or_old_ones_nobody_knows_what_was_borne() -> None:
    for answers, pause in ((BORNE_MIN - 1, 0.0), (BORNE_MIN, 2 * BORNE_SPAN), (BORNE_MIN, 0.0)):
        ceiling = Ceiling()
        for number in range(answers):
            ceiling.took(number * 65.0)
            ceiling.served(ended=number * 65.0, now=number * 65.0)
        now = answers * 65.0 + pause
        for _ in range(answers):
            ceiling.took(now)
        ceiling.limited(began=now, ended=now, now=now)
        assert ceiling.learned == (answers == BORNE_MIN and not pause)


def test_while_the_first_minutes_fill_each_rate_is_the_highest_and_says_nothing() -> None:
    for minutes, taught in ((1, False), (2, False), (3, True)):
        ceiling = Ceiling()
        now = steady(ceiling, 12, since=0.0, minutes=minutes)
        ceiling.took(now)
        ceiling.limited(began=now, ended=now, now=now)
        assert ceiling.learned == taught


def test_a_429_that_is_told_a_minute_late_teaches_nothing() -> None:
    for late, taught in ((0.0, True), (57.0, True), (60.0, False), (1800.0, False)):
        ceiling = Ceiling()
        busy(ceiling, 60, now=1000.0)
        for _ in range(5):
            ceiling.limited(began=1000.0 - late, ended=1000.0 - late, now=1000.0)
        assert ceiling.learned == taught


def test_who_is_refused_again_after_the_rise_rises_more_slowly_up_to_a_bound() -> None:
    ceiling, now, rises = Ceiling(), 0.0, []
    busy(ceiling, 100, now=now)
    burst(ceiling, 5, began=now - 1.0, now=now)
    for _ in range(CEILING_PATIENCE + 2):
        cut, since = ceiling.ceiling(now), now
        assert cut is not None
        while (found := ceiling.ceiling(now)) is not None and found < cut * CEILING_CONFIRMED:
            now += 60.0
        assert found is not None
        busy(ceiling, floor(found), now=now)
        rises.append(now - since)
        burst(ceiling, 5, began=now - 1.0, now=now)
    assert rises == [
        pytest.approx(rises[0] * 2.0 ** min(turn, CEILING_PATIENCE), rel=0.1) for turn in range(len(rises))
    ]


@pytest.mark.parametrize("told", ["with its latency", "without"])
def test_a_burst_that_goes_on_after_the_cut_is_the_same_one(told: str) -> None:
    ceiling = Ceiling()
    for now in (0.0, 600.0):
        busy(ceiling, 90, now=now)
        burst(ceiling, 5, began=now if told == "without" else now - 1.0, now=now)
        burst(ceiling, 5, began=now + 1.0 if told == "without" else now - 1.0, now=now + 1.0)
    found = ceiling.ceiling(601.0)
    assert found is not None
    assert ceiling.ceiling(1201.0) == pytest.approx(found * (1 + CEILING_RISE) ** 5)


def test_who_is_refused_before_the_rise_is_met_by_something_new_and_rises_as_at_first() -> None:
    ceiling, now = Ceiling(), 0.0
    busy(ceiling, 100, now=now)
    burst(ceiling, 5, began=now, now=now)
    for pause in (600.0, 1200.0, 90.0):
        now += pause
        found = ceiling.ceiling(now)
        assert found is not None
        busy(ceiling, floor(found), now=now)
        burst(ceiling, 5, began=now - 1.0, now=now)
    found = ceiling.ceiling(now)
    assert found is not None
    assert ceiling.ceiling(now + 600.0) == pytest.approx(found * (1 + CEILING_RISE) ** 10)


@pytest.mark.parametrize(("pause", "again"), [(3.5, True), (4.5, False)])
def test_who_forgot_and_is_refused_again_soon_has_met_the_same_quota(pause: float, again: bool) -> None:
    ceiling = Ceiling()
    for now in (0.0, pause * CEILING_AGE_MAX):
        assert ceiling.ceiling(now) is None
        busy(ceiling, 100, now=now)
        burst(ceiling, 5, began=now - 1.0, now=now)
    later = now + 600.0
    assert ceiling.ceiling(later) == pytest.approx(80.0 * (1 + CEILING_RISE) ** (5 if again else 10))


def test_a_restart_keeps_how_patient_a_forgotten_one_was() -> None:
    ceiling, again = Ceiling(), Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    now = CEILING_AGE_MAX + 60.0
    again.restore(ceiling.dump(now), then=now, now=now)
    for each in (ceiling, again):
        assert each.ceiling(now) is None
        busy(each, 100, now=now)
        burst(each, 5, began=now - 1.0, now=now)
        assert each.ceiling(now + 600.0) == pytest.approx(80.0 * (1 + CEILING_RISE) ** 5)


def test_what_was_borne_long_ago_is_not_borne_now() -> None:
    ceiling = Ceiling()
    now = steady(ceiling, 8, since=0.0, minutes=5)
    for _ in range(30):
        ceiling.took(now)
        ceiling.served(ended=now - 60.0, now=now)
    now = steady(ceiling, 8, since=now + 61.0, minutes=2)
    ceiling.took(now)
    ceiling.limited(began=now, ended=now, now=now)
    assert ceiling.learned


def test_a_restart_keeps_how_patient_it_is() -> None:
    ceiling, now = Ceiling(), 1500.0
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    busy(ceiling, 80, now=now)
    burst(ceiling, 5, began=now, now=now)
    again = Ceiling()
    again.restore(ceiling.dump(now + 10.0), then=now + 10.0, now=now + 10.0)
    for later in (10.0, 600.0, 3000.0, 7000.0, 7300.0):
        assert again.ceiling(now + later) == (
            None if (found := ceiling.ceiling(now + later)) is None else pytest.approx(found)
        )


events = st.sampled_from(("decided", "decided", "reported", "limited"))


@given(
    st.lists(st.tuples(events, st.floats(0, 60), st.integers(1, 15), st.floats(0, 60)), max_size=40),
    st.lists(st.floats(0, 5000), max_size=5),
)
def test_a_ceiling_is_within_bounds_and_full_means_one_more_would_break_it(
    story: list[tuple[str, float, int, float]], reads: list[float]
) -> None:
    ceiling, unread, now = Ceiling(), Ceiling(), 0.0
    taken: dict[str, list[float]] = {"decided": [], "reported": [], "limited": []}

    def live(what: str) -> int:
        return len([at for at in taken[what] if floor(now / BUCKET) - floor(at / BUCKET) < 30])

    for what, passed, times, latency in story:
        now += passed
        for _ in range(times):
            before = ceiling.ceiling(now)
            taken[what].append(now)
            for each in (ceiling, unread):
                match what:
                    case "decided":
                        each.took(now)
                    case "reported":
                        each.reported(now)
                    case "limited":
                        each.limited(began=now - latency, ended=now, now=now)
            for read in reads:
                ceiling.ceiling(read)
                ceiling.full(read)
            found, rate = ceiling.ceiling(now), max(live("decided"), live("reported"))
            assert found == unread.ceiling(now)
            assert ceiling.full(now) == (found is not None and rate + 1 > found)
            if found is not None:
                assert found >= CEILING_MIN
                assert before is None or CEILING_CUT * before <= found + 1e-9 or what == "limited"
                assert before is None or found <= before
            if before is None and found is not None:
                assert what == "limited"
                assert live("limited") >= CEILING_SHARE * rate
                assert live("limited") >= CEILING_BURST if rate >= CEILING_REQUESTS else live("limited") == 1
                assert rate >= CEILING_QUIET
                assert found == pytest.approx(CEILING_CUT * rate)
