"""Every form in which somebody says how long to stay away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.waits import RETRY_AFTER_MAX, wait

WALL = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("1.5", 1.5), ("0", 0.0), ("-0", 0.0), ("1e3", 1000.0),
        ("999999999", RETRY_AFTER_MAX),
        ("86400", 86_400.0), ("86401", RETRY_AFTER_MAX), (20, 20.0), (9.5, 9.5), (1e300, RETRY_AFTER_MAX),
    ],
)  # fmt: skip
def test_a_number_is_seconds(told: str | float, seconds: float) -> None:
    assert wait(told, wall=WALL) == seconds


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("1445412510", 30.0), (1_445_412_510, 30.0), ("1445412510.5", 30.5), ("1445412510000", 30.0),
        (1_445_412_510_500, 30.5), ("1445412450", 0.0), ("1445498881", RETRY_AFTER_MAX), ("1000000000", 0.0),
    ],
)  # fmt: skip
def test_a_number_of_decades_is_unix_time_in_seconds_or_milliseconds(told: str | float, seconds: float) -> None:
    assert wait(told, wall=WALL) == seconds


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("12ms", 0.012), ("1s", 1.0), ("6m0s", 360.0), ("1m30s", 90.0), ("1m30.5s", 90.5), ("1h2m3s", 3723.0),
        ("5m", 300.0), ("2h", 7200.0), ("1.5h", 5400.0), ("1d", 86_400.0), ("2d", RETRY_AFTER_MAX), ("0s", 0.0),
        ("1m500ms", 60.5), ("250us", 0.00025), ("250µs", 0.00025), ("250μs", 0.00025), ("8ns", 8e-9), (".5s", 0.5),
        (" 3s ", 3.0),
    ],
)  # fmt: skip
def test_a_span_is_read_as_go_writes_it(told: str, seconds: float) -> None:
    assert wait(told, wall=WALL) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 09:29:00 +0200", 60.0),
        ("Wed, 21 Oct 2015 07:29:00 -0000", 60.0),
        ("Wed, 21 Oct 2015 07:29:00", 60.0),  # no zone is GMT, wherever this runs
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60.0),  # RFC 850
        ("Wed Oct 21 07:29:00 2015", 60.0),  # asctime
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 9999 07:27:00 GMT", RETRY_AFTER_MAX),
    ],
)
def test_an_http_date_is_a_moment(told: str, seconds: float) -> None:
    assert wait(told, wall=WALL) == seconds


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("2015-10-21T07:28:30Z", 30.0),
        ("2015-10-21t07:28:30z", 30.0),
        ("2015-10-21 07:28:30Z", 30.0),
        ("2015-10-21T08:28:30+01:00", 30.0),
        ("2015-10-21T01:58:30-05:30", 30.0),
        ("2015-10-21T07:28:00.500Z", 0.5),
        ("2015-10-21T07:28:00.123456789Z", 0.123456789),
        ("2015-10-21T07:28:60Z", 60.0),  # a leap second
        ("2015-10-21T07:28:30+0000", 30.0),
        ("2015-10-21T08:28:30+0100", 30.0),
        ("2015-10-21T07:28:30", 30.0),  # no zone is UTC, wherever this runs
        ("2015-10-21 07:28:30.5", 30.5),
        ("2015-10-21T07:00:00Z", 0.0),
        ("2015-11-21T07:28:00Z", RETRY_AFTER_MAX),
    ],
)
def test_an_rfc_3339_moment_is_read_to_its_fraction(told: str, seconds: float) -> None:
    assert wait(told, wall=WALL) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("30 seconds", 30.0), ("1 second", 1.0), ("5 Minutes", 300.0), ("1 minute 30 seconds", 90.0),
        ("2 hrs", 7200.0), ("90 secs", 90.0), ("500 milliseconds", 0.5),
        ("1.5 days", RETRY_AFTER_MAX), ("30seconds", 30.0), ("12 mins", 720.0), ("1 s", None),
    ],
)  # fmt: skip
def test_a_span_may_be_written_out(told: str, seconds: float | None) -> None:
    assert wait(told, wall=WALL) == seconds


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("5, 5", 5.0), ("5,7", 7.0), ("7, 5s, 1m", 60.0), ("0, 0", 0.0),
        ("2015-10-21T07:28:30Z, 5", 30.0),
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),  # the comma is the date's own
        ("Wed, 21 Oct 2015 07:29:00 GMT, Wednesday, 21-Oct-15 07:28:30 GMT", 60.0),
        ("9, Wed, 21 Oct 2015 07:28:00 GMT", 9.0),
    ],
)  # fmt: skip
def test_of_several_waits_the_longest_counts(told: str, seconds: float) -> None:
    assert wait(told, wall=WALL) == seconds


@pytest.mark.parametrize(
    "told",
    [
        None, "", " ", "soon", "-5", "-1s", -1, -0.5, "nan", "inf", "1e400", float("nan"), float("inf"),
        "1s1m", "s", "1x", "7, soon", "7,", ",", "seconds", "1 second1 minute", "9" * 400, "9" * 400 + "d", 10**400,
        "Wed, 99 Oct 2015 07:27:00 GMT", "+0800 Oct 07:28:00 99999999999",
        "2015-10-21", "2015-13-21T07:28:30Z", "2015-02-29T07:28:30Z", "2015-10-21T24:28:30Z",
        "2015-10-21T07:60:00Z",
        "2015-10-21T07:28:61Z", "2015-10-21T07:28:30+24:00", "0000-10-21T07:28:30Z",
    ],
)  # fmt: skip
def test_nonsense_is_no_wait(told: str | float | None) -> None:
    assert wait(told, wall=WALL) is None


@pytest.mark.parametrize(
    ("told", "seconds"), [("1500", 1.5), ("0.5", 0.0005), ("1s", 1.0), ("1445412510000", 30.0)]
)
def test_the_unit_is_that_of_a_bare_number_only(told: str, seconds: float) -> None:
    assert wait(told, wall=WALL, unit=0.001) == pytest.approx(seconds)


_WORDS = st.sampled_from(
    [
        "Wed,",
        "21",
        "Oct",
        "2015",
        "0001",
        "9999",
        "07:28:00",
        "99:99:99",
        "GMT",
        "-0000",
        "+99999",
        "12.3.4",
        "-",
        ":",
    ]
)
_DIGITS = st.text(alphabet="0123456789TtZz:-+. dhmsuµn", max_size=40)


@given(
    told=st.one_of(
        st.text(max_size=40),
        _DIGITS,
        st.lists(_WORDS, max_size=8).map(" ".join),
        st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
        st.floats(),
        st.floats().map(str),
        st.integers(),
    ),
    wall=st.floats(min_value=0, max_value=1e11),
    unit=st.sampled_from([1.0, 0.001]),
)
def test_whatever_is_said_a_wait_lasts_from_nothing_to_a_day(told: str | float, wall: float, unit: float) -> None:
    seconds = wait(told, wall=wall, unit=unit)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX
