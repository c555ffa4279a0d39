from __future__ import annotations

from math import exp, floor, inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.capacity import (
    HOLD_FIRST,
    HOLD_MIN,
    IN_FLIGHT_MAX,
    LOST_AGE,
    REPORTED_MIN,
    SILENCE_DECAY,
    SILENCE_MARGIN,
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


# ---- what is under way -------------------------------------------------------------------------------


def test_decisions_count_until_they_are_reported() -> None:
    flight = InFlight()
    assert flight.count(0.0, longest=60.0) == 0
    for now in (0.0, 1.0, 2.0):
        flight.begin(now)
    assert flight.count(2.0, longest=60.0) == 3
    flight.end(2.0)
    flight.end(2.0, began=2.0)
    assert flight.count(2.0, longest=60.0) == 1


def test_a_report_too_many_ends_nothing() -> None:
    flight = InFlight()
    flight.end(0.0)
    flight.end(0.0, began=1.0)
    flight.begin(0.0)
    assert flight.count(0.0, longest=60.0) == 1


def test_a_lost_report_stops_counting_though_traffic_goes_on() -> None:
    flight = InFlight()
    flight.begin(0.0)
    for second in range(1, 200):
        flight.begin(float(second))
        flight.end(second + 0.5, began=second + 0.001)
    assert flight.count(60.0, longest=60.0) == 1
    assert flight.count(60.1, longest=60.0) == 0


def test_a_request_that_began_before_its_decision_ends_the_oldest() -> None:
    flight = InFlight()
    flight.begin(10.0)
    flight.begin(20.0)
    flight.end(20.0, began=9.9)
    assert flight.count(75.0, longest=60.0) == 1


def test_only_a_bounded_number_of_decisions_is_remembered_and_none_for_ever() -> None:
    flight = InFlight()
    for step in range(3 * IN_FLIGHT_MAX):
        flight.begin(step * 0.001)
    assert flight.count(3.0, longest=60.0) == IN_FLIGHT_MAX
    flight.begin(LOST_AGE + 4.0)
    assert flight.count(LOST_AGE + 4.0, longest=inf) == 1


@given(
    st.lists(st.tuples(st.sampled_from(("begin", "end", "end at")), soon, soon), max_size=60),
    st.floats(0, 300),
    st.floats(0, 100),
    st.floats(0, 50),
)
def test_what_is_under_way_and_overdue_equals_a_recount(
    story: list[tuple[str, float, float]], now: float, longest: float, than: float
) -> None:
    flight = InFlight()
    begun: list[float] = []
    answered, heard, silence = -inf, -inf, 0.0
    for what, moment, began in story:
        if what == "begin":
            flight.begin(moment)
            begun.append(moment)
            continue
        flight.end(moment, began=began if what == "end at" else None)
        if begun:
            before = [each for each in begun if what == "end at" and each <= began]
            ended = max(before, default=min(begun))
            heard_of = ended if what == "end at" else max(begun)
            if heard_of > answered:
                faded = silence * min(1.0, exp((heard - moment) / SILENCE_DECAY))
                silence = max(faded, moment - min(each for each in begun if each > answered))
                answered, heard = heard_of, moment
            begun.remove(ended)
    assert flight.count(now, longest=longest) == len([each for each in begun if each >= now - longest])
    late = [each for each in begun if answered < each < now - max(than, silence * SILENCE_MARGIN)]
    assert flight.overdue(now, than=than, longest=longest) == len([each for each in late if each >= now - longest])


def answering(times: int, *, until: float, every: float = 1.0, unreported: int = 0) -> InFlight:
    """Decisions up to a moment, each answered after half of what lies between two; so many of a hundred are not."""
    flight = InFlight()
    for number in range(times):
        began = until - (times - number) * every
        flight.begin(began)
        if number % 100 >= unreported:
            flight.end(began + every / 2, began=began)
    return flight


def hung(flight: InFlight, requests: int, *, now: float, every: float = 1.0) -> InFlight:
    """Let requests follow that nobody answers."""
    for number in range(requests):
        flight.begin(now + number * every)
    return flight


@pytest.mark.parametrize(
    ("unreported", "requests"),
    [(0, 6), (4, 6), (10, 7), (20, 10), (50, 23)],
    ids=["all are reported", "few are lost", "a tenth", "a fifth", "half"],
)
def test_more_in_a_row_must_be_overdue_where_more_reports_are_lost(unreported: int, requests: int) -> None:
    for row, found in ((requests - 1, None), (requests, requests)):
        flight = hung(answering(400, until=1000.0, unreported=unreported), row, now=1000.0)
        assert flight.hanging(1100.0, than=10.0, longest=120.0) == found
        assert flight.overdue(1100.0, than=10.0, longest=120.0) == row


def test_what_is_younger_or_older_than_asked_for_is_not_overdue() -> None:
    flight = hung(answering(200, until=1000.0), 20, now=1000.0)
    assert flight.overdue(1020.5, than=10.0, longest=120.0) == 11
    assert flight.overdue(1020.5, than=10.0, longest=15.5) == 6
    assert flight.overdue(1020.5, than=30.0, longest=120.0) == 0
    assert flight.overdue(1200.0, than=10.0, longest=120.0) == 0


def test_an_answer_to_a_later_request_ends_the_row() -> None:
    flight = hung(answering(200, until=1000.0), 20, now=1000.0)
    assert flight.hanging(1030.0, than=10.0, longest=120.0) == 20
    flight.end(1030.0, began=1015.0)
    assert flight.overdue(1030.0, than=10.0, longest=120.0) == 0
    assert flight.overdue(1100.0, than=10.0, longest=120.0) == 4


def test_an_answer_of_unknown_beginning_ends_the_row_too() -> None:
    flight = hung(answering(200, until=1000.0), 20, now=1000.0)
    flight.end(1030.0)
    assert flight.overdue(1100.0, than=10.0, longest=120.0) == 0


@pytest.mark.parametrize("told", [0, REPORTED_MIN - 1])
def test_a_proxy_that_hardly_ever_reports_says_nothing_by_silence(told: int) -> None:
    flight = hung(answering(told, until=1000.0), 100, now=1000.0)
    assert flight.unreported(1100.0, than=10.0) is None
    assert flight.hanging(1100.0, than=10.0, longest=120.0) is None


def test_of_two_proxies_one_that_never_reports_makes_silence_usual() -> None:
    flight = answering(400, until=400.0, unreported=50)
    assert flight.unreported(400.0, than=10.0) == pytest.approx(0.5, abs=0.05)
    assert answering(400, until=400.0).unreported(400.0, than=10.0) == 0.0
    assert flight.hanging(460.0, than=10.0, longest=120.0) is None


@pytest.mark.parametrize("every", [0.1, 1.0, 10.0])
def test_a_proxy_that_tells_its_reports_in_batches_is_no_hanging_endpoint(every: float) -> None:
    flight, waiting = InFlight(), list[float]()
    for number in range(int(1200.0 / every)):
        now = number * every
        if waiting and now // 40 > waiting[-1] // 40:
            for began in waiting:
                flight.end(now, began=began)
            waiting.clear()
        flight.begin(now)
        waiting.append(now)
        if now > 120:
            assert flight.hanging(now, than=2.0, longest=120.0) is None
    hung(flight, int(100.0 / every), now=1200.0, every=every)
    assert flight.hanging(1300.0, than=2.0, longest=120.0) is not None


def test_what_was_lost_is_forgotten_with_the_reports_that_came_since() -> None:
    flight, shares = InFlight(), list[float]()
    for number in range(6000):
        flight.begin(float(number))
        if number >= 1000 or number % 2:
            flight.end(number + 0.5, began=float(number))
        if number % 1000 == 999:
            found = flight.unreported(number + 0.5, than=10.0)
            assert found is not None
            shares.append(found)
    assert shares[0] == pytest.approx(0.5, abs=0.01)
    assert sorted(shares, reverse=True) == shares
    assert shares[-1] < 0.02
