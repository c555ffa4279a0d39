from __future__ import annotations

from math import ceil, floor, inf, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.capacity import (
    CEILING_AGE_MAX,
    CEILING_BURST,
    CEILING_CUT,
    CEILING_FORGET,
    CEILING_MIN,
    CEILING_REQUESTS,
    CEILING_RISE,
    CEILING_SHARE,
    HOLD_FIRST,
    HOLD_MIN,
    IN_FLIGHT_MAX,
    Ceiling,
    InFlight,
    Quota,
    Throttle,
)
from balancer.core.model import Limits

HOLD_MAX = 300.0


def limited(
    throttle: Throttle, *, hint: float | None = None, began: float = 0.0, ended: float = 0.0, seed: int = 1
) -> float:
    """Take a 429 and tell for how long it holds."""
    throttle.limit(hint=hint, began=began, ended=ended, hold_max=HOLD_MAX, random=Random(seed))
    return throttle.until - ended


def test_before_the_first_429_nothing_is_held() -> None:
    assert not Throttle().holds(0.0)
    assert not Throttle().holds(-1e9)


@pytest.mark.parametrize(
    ("hint", "hold"),
    [(0.0, HOLD_MIN), (0.2, HOLD_MIN), (1.0, 1.0), (37.5, 37.5), (300.0, 300.0), (86_400.0, HOLD_MAX)],
)
def test_a_hint_is_obeyed_within_a_floor_and_a_cap(hint: float, hold: float) -> None:
    throttle = Throttle()
    assert limited(throttle, hint=hint, ended=10.0) == hold
    assert throttle.holds(10.0 + hold - 0.001)
    assert not throttle.holds(10.0 + hold)
    assert throttle.exponent == 0


@given(st.integers(0, 1000))
def test_without_a_hint_holds_double_from_five_seconds_with_equal_jitter_to_the_cap(seed: int) -> None:
    throttle, now = Throttle(), 0.0
    for step in range(10):
        hold = limited(throttle, began=now, ended=now, seed=seed)
        longest = min(HOLD_FIRST * 2**step, HOLD_MAX)
        assert longest / 2 <= hold <= longest
        now = throttle.until


def test_a_burst_that_was_already_under_way_grows_the_hold_once() -> None:
    throttle = Throttle()
    for request in range(100):
        limited(throttle, began=10.0 + request * 0.001, ended=11.0 + request * 0.001)
    assert throttle.exponent == 1
    assert throttle.until <= 11.1 + HOLD_FIRST


def test_a_429_of_a_request_that_began_after_the_last_one_grows_it_again() -> None:
    throttle = Throttle()
    limited(throttle, began=10.0, ended=11.0)
    limited(throttle, began=11.0, ended=12.0)
    assert throttle.exponent == 2


def test_only_a_success_that_began_after_the_last_growth_eases() -> None:
    throttle = Throttle()
    for now in (0.0, 10.0, 20.0):
        limited(throttle, began=now, ended=now)
    until = throttle.until
    throttle.ease(began=19.9)
    assert throttle.exponent == 3
    throttle.ease(began=20.0)
    assert (throttle.exponent, throttle.until) == (0, until)


def test_a_straggler_after_ease_holds_as_a_first_429_does() -> None:
    throttle = Throttle()
    limited(throttle, began=10.0, ended=10.0)
    throttle.ease(began=20.0)
    limited(throttle, began=5.0, ended=21.0)
    assert HOLD_FIRST / 2 <= throttle.until - 21.0 <= HOLD_FIRST


steps = st.tuples(
    st.sampled_from(("hinted", "bare", "ease")),
    st.floats(0, 1e4, allow_nan=False),
    st.floats(0, 100, allow_nan=False),
    st.floats(0, 1e5, allow_nan=False),
)


@given(st.lists(steps, max_size=60), st.integers(0, 9), st.sampled_from((0.5, 5.0, 300.0)))
def test_deadlines_only_move_later_and_never_beyond_the_cap(
    story: list[tuple[str, float, float, float]], seed: int, hold_max: float
) -> None:
    throttle, random = Throttle(), Random(seed)
    for what, ended, latency, hint in story:
        before = throttle.until
        if what == "ease":
            throttle.ease(began=ended - latency)
        else:
            throttle.limit(
                hint=hint if what == "hinted" else None,
                began=ended - latency,
                ended=ended,
                hold_max=hold_max,
                random=random,
            )
            assert throttle.until >= ended + min(HOLD_MIN, hold_max / 2)
        assert throttle.until >= before
        assert throttle.until <= max(before, ended + hold_max)
        assert throttle.exponent >= 0


# ---- the operator's limits ---------------------------------------------------------------------------

BUCKET = 2.0  # s; a minute in thirty
soon = st.one_of(st.floats(0, 200, allow_nan=False), st.integers(0, 100).map(lambda bucket: bucket * BUCKET))
limits = st.builds(
    Limits,
    rpm=st.one_of(st.none(), st.integers(1, 6)),
    tpm=st.one_of(st.none(), st.integers(1, 1000)),
)


def has_room(taken: list[tuple[float, int]], now: float, limit: Limits, tokens: int) -> bool:
    """Whether one more request keeps the limits, counted from a list of everything."""
    clock = max([now, *(at for at, _ in taken)])
    live = [used for at, used in taken if floor(clock / BUCKET) - floor(at / BUCKET) < 30]
    if limit.rpm is not None and len(live) + 1 > limit.rpm:
        return False
    return limit.tpm is None or sum(live) + tokens <= limit.tpm or (tokens > limit.tpm and sum(live) == 0)


@given(st.lists(st.tuples(soon, st.integers(0, 600)), max_size=25), soon, limits, st.integers(0, 1500))
def test_a_quota_waits_exactly_until_there_is_room(
    taken: list[tuple[float, int]], now: float, limit: Limits, tokens: int
) -> None:
    quota = Quota()
    for at, used in taken:
        quota.take(at, used)
    wait = quota.wait(now, limit, tokens)
    assert (wait == 0.0) == has_room(taken, now, limit, tokens)
    if wait:
        assert has_room(taken, now + wait + 1e-6, limit, tokens)
        assert not has_room(taken, now + wait - 1e-3, limit, tokens)


@pytest.mark.parametrize(
    ("limit", "tokens", "wait"),
    [
        (Limits(), 10**9, 0.0),
        (Limits(rpm=3), 0, 0.0),
        (Limits(rpm=2), 0, 50.0),
        (Limits(rpm=1), 0, 55.0),
        (Limits(tpm=1000), 300, 0.0),
        (Limits(tpm=1000), 301, 50.0),
        (Limits(tpm=1000), 700, 55.0),
        (Limits(tpm=1000), 5000, 55.0),
        (Limits(rpm=2, tpm=1000), 700, 55.0),
        (Limits(rpm=0), 0, inf),
    ],
    ids=[
        "no limits", "a request has room", "no request has room", "both must leave", "the tokens have room",
        "the older must leave", "both must leave for the tokens", "bigger than the whole limit: alone",
        "the longer of two waits", "none at all",
    ],
)  # fmt: skip
def test_a_quota_counts_requests_and_tokens_of_the_last_minute(limit: Limits, tokens: int, wait: float) -> None:
    quota = Quota()
    quota.take(0.0, 300)
    quota.take(5.0, 400)
    assert quota.wait(10.0, limit, tokens) == pytest.approx(wait, abs=BUCKET)
    assert (quota.wait(10.0, limit, tokens) == 0.0) == (wait == 0.0)


def test_a_request_bigger_than_the_limit_passes_in_an_empty_minute_and_is_counted() -> None:
    quota, limit = Quota(), Limits(tpm=1000)
    assert quota.wait(0.0, limit, 5000) == 0.0
    quota.take(0.0, 5000)
    assert quota.wait(0.0, limit, 0) == 60.0


def test_a_quota_believes_decisions_or_reports_whichever_are_more() -> None:
    for decided, reported in ((3, 1), (1, 3), (3, 3)):
        quota = Quota()
        for _ in range(decided):
            quota.take(0.0, 100)
        for _ in range(reported):
            quota.report(0.0, 100)
        assert quota.wait(0.0, Limits(rpm=4, tpm=400), 100) == 0.0
        assert quota.wait(0.0, Limits(rpm=3), 0) > 0.0
        assert quota.wait(0.0, Limits(tpm=400), 101) > 0.0


def test_asking_a_quota_takes_nothing() -> None:
    quota, limit = Quota(), Limits(rpm=1, tpm=10)
    assert [quota.wait(0.0, limit, 10) for _ in range(5)] == [0.0] * 5


# ---- the learned ceiling -----------------------------------------------------------------------------


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
        ceiling.limited(began=began, now=now)


def test_a_429_cuts_to_four_fifths_of_the_rate_and_a_burst_cuts_once() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=10.0)
    for step in range(50):
        ceiling.limited(began=10.0, now=11.0 + step * 0.01)
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
        (CEILING_REQUESTS - 1, CEILING_REQUESTS - 1, False),
        (CEILING_REQUESTS, CEILING_BURST - 1, False),
        (200, 9, False),
        (200, 10, True),
        (1000, 49, False),
    ],
    ids=[
        "just enough", "of a few requests no rate is learned", "one or two are chance",
        "among many a few are noise", "a twentieth is no noise", "noise of much traffic",
    ],
)  # fmt: skip
def test_a_ceiling_is_taught_by_a_share_of_enough_requests(requests: int, limited: int, taught: bool) -> None:
    ceiling = Ceiling()
    busy(ceiling, requests, now=0.0)
    burst(ceiling, limited, began=0.0, now=1.0)
    assert ceiling.ceiling(1.0) == (pytest.approx(CEILING_CUT * requests) if taught else None)
    assert ceiling.learned == taught


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


def test_one_burst_cuts_a_known_ceiling_by_a_fifth_at_most_however_slow_the_minute_was() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    for minute in range(2, 8):
        now = minute * 60.0
        before = ceiling.ceiling(now)
        assert before is not None
        busy(ceiling, ceil(before * 0.6), now=now)
        burst(ceiling, 5, began=now - 1.0, now=now)
        assert ceiling.ceiling(now) == pytest.approx(CEILING_CUT * before)


def test_a_ceiling_of_which_a_hold_left_next_to_no_traffic_limits_nothing() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    busy(ceiling, 1, now=120.0)
    ceiling.limited(began=120.0, now=120.0)
    assert ceiling.ceiling(120.0) is None


def test_a_ceiling_rises_by_a_tenth_of_itself_each_minute_without_429s() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    found = [ceiling.ceiling(minute * 60.0) for minute in range(4)]
    assert found == pytest.approx([80.0, 88.0, 96.8, 106.48])
    ceiling.limited(began=-5.0, now=180.0)
    assert ceiling.ceiling(180.0) == pytest.approx(80.0)


def test_a_ceiling_far_above_all_traffic_is_forgotten_and_does_not_come_back() -> None:
    minutes = log(CEILING_FORGET / CEILING_CUT) / log(1.0 + CEILING_RISE)
    for afterwards in ("requests", "a single 429"):
        ceiling = Ceiling()
        busy(ceiling, 100, now=0.0)
        burst(ceiling, 5, began=0.0, now=0.0)
        assert ceiling.ceiling((minutes - 0.1) * 60) is not None
        assert ceiling.ceiling((minutes + 0.1) * 60) is None
        if afterwards == "requests":
            busy(ceiling, 500, now=(minutes + 0.2) * 60)
        else:
            ceiling.limited(began=minutes * 60, now=(minutes + 0.2) * 60)
        assert ceiling.ceiling((minutes + 0.3) * 60) is None


def test_a_ceiling_that_traffic_keeps_near_is_forgotten_after_an_hour() -> None:
    ceiling = Ceiling()
    busy(ceiling, 100, now=0.0)
    burst(ceiling, 5, began=0.0, now=0.0)
    for minute in range(1, 60):
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
        ceiling.limited(began=minute * 60.0, now=minute * 60.0)
    assert ceiling.ceiling(59 * 60.0) == CEILING_MIN
    assert not ceiling.full(3600.0)
    ceiling.took(3600.0)
    assert ceiling.full(3601.0)
    assert not ceiling.full(3660.0)


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
                        each.limited(began=now - latency, now=now)
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
                assert live("limited") >= max(CEILING_BURST, CEILING_SHARE * rate)
                assert rate >= CEILING_REQUESTS
                assert found == pytest.approx(CEILING_CUT * rate)


# ---- what is under way -------------------------------------------------------------------------------


def test_decisions_count_until_they_are_reported() -> None:
    flight = InFlight()
    assert flight.count(0.0, longest=60.0) == 0
    for now in (0.0, 1.0, 2.0):
        flight.begin(now)
    assert flight.count(2.0, longest=60.0) == 3
    flight.end()
    flight.end(began=2.0)
    assert flight.count(2.0, longest=60.0) == 1


def test_a_report_too_many_ends_nothing() -> None:
    flight = InFlight()
    flight.end()
    flight.end(began=1.0)
    flight.begin(0.0)
    assert flight.count(0.0, longest=60.0) == 1


def test_a_lost_report_stops_counting_though_traffic_goes_on() -> None:
    flight = InFlight()
    flight.begin(0.0)
    for second in range(1, 200):
        flight.begin(float(second))
        flight.end(began=second + 0.001)
    assert flight.count(60.0, longest=60.0) == 1
    assert flight.count(60.1, longest=60.0) == 0


def test_a_request_that_began_before_its_decision_ends_the_oldest() -> None:
    flight = InFlight()
    flight.begin(10.0)
    flight.begin(20.0)
    flight.end(began=9.9)
    assert flight.count(75.0, longest=60.0) == 1


def test_only_a_bounded_number_of_decisions_is_remembered() -> None:
    flight = InFlight()
    for step in range(3 * IN_FLIGHT_MAX):
        flight.begin(step * 0.001)
    assert flight.count(3.0, longest=60.0) == IN_FLIGHT_MAX


@given(
    st.lists(st.tuples(st.sampled_from(("begin", "end", "end at")), soon, soon), max_size=60),
    st.floats(0, 300),
    st.floats(0, 100),
)
def test_what_is_under_way_equals_a_recount(
    story: list[tuple[str, float, float]], now: float, longest: float
) -> None:
    flight = InFlight()
    begun: list[float] = []
    for what, moment, began in story:
        if what == "begin":
            flight.begin(moment)
            begun.append(moment)
            continue
        flight.end(began=began if what == "end at" else None)
        if begun:
            before = [each for each in begun if what == "end at" and each <= began]
            begun.remove(max(before, default=min(begun)))
    assert flight.count(now, longest=longest) == len([each for each in begun if each >= now - longest])
