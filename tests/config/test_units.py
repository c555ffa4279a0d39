"""Durations, sizes and addresses: text and meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.settings import Listen
from balancer.config.units import (
    duration_text,
    is_wide,
    parse_clock,
    parse_duration,
    parse_listen,
    parse_size,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("15s", 15.0), ("5m", 300.0), ("1h30m", 5400.0), ("1d", 86_400.0), ("0s", 0.0), ("1.5s", 1.5),
     ("1d2h3m4s5ms", 93_784.005)],
)  # fmt: skip
def test_a_duration_means_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "-5s", "5S", "1m1h", "1s1s", "5min", "1e3s", ".5s", "٣s", "5s\n"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**10))
def test_a_duration_survives_being_written_and_read(millis: int) -> None:
    assert round(parse_duration(duration_text(millis / 1000)) * 1000) == millis


@pytest.mark.parametrize(("text", "minutes"), [("0000", 0), ("0830", 510), ("08:30", 510), ("23:59", 1439)])
def test_a_time_of_the_day_means_minutes(text: str, minutes: int) -> None:
    assert parse_clock(text) == minutes


@pytest.mark.parametrize(
    "text", ["", "830", "8:30", "2400", "0860", "08.30", "08:30:00", " 0830", "0830\n", "٠٨٣٠"]
)
def test_what_is_not_a_time_of_the_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time of the day"):
        parse_clock(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("1KB", 1000), ("1MB", 1_000_000), ("1MiB", 1_048_576), ("0.5KiB", 512), ("2GB", 2 * 10**9)],
)
def test_a_size_means_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["1", "1mb", "MB", "-1MB", "1 MB", "1TB"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**9 - 1))
def test_a_size_survives_being_written_and_read(size: int) -> None:
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:8790", Listen(host="127.0.0.1", port=8790)),
        ("localhost:0", Listen(host="localhost", port=0)),
        ("[::1]:8790", Listen(host="::1", port=8790)),
        (":8790", Listen(host="0.0.0.0", port=8790)),
        ("unix:/run/balancer.sock", Listen(path="/run/balancer.sock")),
    ],
)
def test_an_address_is_read(text: str, listen: Listen) -> None:
    assert parse_listen(text) == listen


@pytest.mark.parametrize(
    "text",
    ["", "8790", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "[::1:80",
     "[127.0.0.1]:80", "a b:80", "unix:", "unix:run.sock", "unix:/" + "x" * 108, "http://a:80", "a:８０"],
)  # fmt: skip
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has|is|needs"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "wide"),
    [("127.0.0.1:1", False), ("127.8.8.8:1", False), ("[::1]:1", False), ("localhost:1", False), ("unix:/a", False),
     ("0.0.0.0:1", True), ("[::]:1", True), (":1", True), ("10.0.0.1:1", True), ("balancer.example:1", True)],
)  # fmt: skip
def test_only_what_this_machine_alone_can_reach_is_not_wide(text: str, wide: bool) -> None:
    assert is_wide(parse_listen(text)) is wide
