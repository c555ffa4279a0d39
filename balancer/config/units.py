"""Durations, times of the day, sizes and listen addresses: their text in a file, and what it means.

Durations are `250ms`, `15s`, `5m`, `1h30m`, `1d`: biggest unit first, each at most once. Sizes are `1MB`
(powers of 1000) or `1MiB` (powers of 1024). A bare number has no unit and is refused: `timeout: 10` has
meant seconds in one product and milliseconds in the next.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from balancer.config.settings import Listen

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"  # nine digits: 31 years in seconds, and no float surprises
DURATION_PATTERN: Final = (
    rf"^(?=[0-9])(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?(?:({_NUMBER})ms)?$"
)
SIZE_PATTERN: Final = rf"^({_NUMBER})(B|KB|MB|GB|KiB|MiB|GiB)$"
CLOCK_PATTERN: Final = r"^([01][0-9]|2[0-3]):?([0-5][0-9])$"
LISTEN_PATTERN: Final = r"^(unix:/.+|.*:[0-9]{1,5})$"

_DURATION: Final = re.compile(DURATION_PATTERN)
_SIZE: Final = re.compile(SIZE_PATTERN)
_CLOCK: Final = re.compile(CLOCK_PATTERN)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_SECONDS: Final = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_BYTES: Final = {
    "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
UNIX_PATH_MAX: Final = 107  # bytes of sun_path on Linux, less the closing zero


class Duration(float):
    """Seconds, written with units in the file."""


class Size(int):
    """Bytes, written with units in the file."""


def parse_duration(text: str) -> Duration:
    """Read a duration. Raises: ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("is not a duration")
    parts = zip(match.groups(), _SECONDS, strict=True)
    # Milliseconds are divided, not multiplied by an inexact 0.001, so that 250ms is 0.25 to the last bit.
    return Duration(
        sum(
            float(number) / 1000.0 if unit < 1.0 else float(number) * unit
            for number, unit in parts
            if number is not None
        )
    )


def duration_text(seconds: float) -> str:
    """Write seconds as `parse_duration` reads them, exact to a millisecond."""
    millis = round(seconds * 1000)
    text = ""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")):
        count, millis = divmod(millis, size)
        if count > 0:
            text += f"{count}{unit}"
    return "0s" if text == "" else text


def parse_clock(text: str) -> int:
    """Read a time of the day, `0830` or `08:30`.

    Units: minutes since midnight. Raises: ValueError. Source: OpenRouter's HHMM.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError("is not a time of the day")
    return int(match[1]) * 60 + int(match[2])


def parse_size(text: str) -> Size:
    """Read a size. Raises: ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("is not a size")
    return Size(int(float(match[1]) * _BYTES[match[2]]))


def size_text(size: int) -> str:
    """Write bytes in the largest unit that holds them whole."""
    for unit in ("GiB", "GB", "MiB", "MB", "KiB", "KB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def parse_listen(text: str) -> Listen:
    """Read one address to serve on.

    Shape: port 0 asks the system for a free one; `:8790` is every IPv4 address, as elsewhere.
    Raises: ValueError with what is wrong.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError("is not an absolute socket path")
        if len(path.encode()) > UNIX_PATH_MAX:
            raise ValueError(f"is longer than the {UNIX_PATH_MAX} bytes a socket path may have")
        return Listen(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or len(port) > 5 or int(port) > 65_535:
        raise ValueError("has no port between 0 and 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise ValueError("is not an IPv6 address in brackets")
    elif ":" in host:
        raise ValueError("needs brackets around the IPv6 address")
    elif host and _HOST.fullmatch(host) is None:
        raise ValueError("has no such host")
    return Listen(host="0.0.0.0" if host == "" else host, port=int(port))


def is_wide(listen: Listen) -> bool:
    """Tell whether others than this machine can reach the address."""
    if listen.path is not None or listen.host == "localhost":
        return False
    assert listen.host is not None
    try:
        return not ip_address(listen.host).is_loopback
    except ValueError:
        return True  # a name: where it leads is not known here


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text.partition("%")[0]).version == 6
    except ValueError:
        return False
