"""How long somebody asks us to stay away, in whatever words they say it.

Theory of operation: providers name a wait in five ways, and the same header is not the same way everywhere: seconds
(`Retry-After: 7`, Azure's `x-ratelimit-reset-tokens: 37`), spans as Go writes them (OpenAI's `6m0s`), an HTTP date
(RFC 9110), a moment of RFC 3339 (Anthropic), and Unix time in seconds or milliseconds (OpenRouter's
`x-ratelimit-reset: 1741305600000`). `wait` reads each of them wherever it stands, so that no header needs a parser
of its own. A moment that has passed is no wait, and no wait is longer than a day. Of several in one text, as a
header that came twice is, the longest counts: whoever waits that long has waited for each.

What this module does not know: wall time, which is an argument; and what a wait is worth.
"""

from __future__ import annotations

import re
from calendar import monthrange, timegm
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

RETRY_AFTER_MAX: Final = 86_400.0  # a day: longer is a quota that a hold cannot describe, or nonsense

# As seconds to wait 31 years, as Unix time the year 2001: nobody asks for the first, everybody is past the second.
_UNIX_MIN: Final = 1e9
_UNIX_MILLIS_MIN: Final = 1e12  # the same moment in milliseconds

# 12ms, 6m0s, 1h2m3.5s; days are of some imitations, as are "30 seconds" and "1 minute 30 seconds". Source: Go,
# time.Duration.String and ParseDuration.
_NUMBER: Final = r"(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_SPAN: Final = re.compile(
    "(?=.)" + "".join(rf"{_NUMBER}{unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms", "[uµμ]s", "ns"))
)
_UNITS: Final = (86_400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6, 1e-9)

# A comma that is not a date's own.
_BETWEEN: Final = re.compile(r"(?<!mon)(?<!tue)(?<!wed)(?<!thu)(?<!fri)(?<!sat)(?<!sun)(?<!day),", re.IGNORECASE)

_WORD: Final = re.compile(
    r"(?<=[0-9.]) *(days?|hours?|hrs?|minutes?|mins?|milliseconds?|msecs?|seconds?|secs?)(?![a-z]) *",
    re.IGNORECASE,
)
_SHORT: Final = (("day", "d"), ("h", "h"), ("mil", "ms"), ("ms", "ms"), ("m", "m"), ("s", "s"))  # by how they begin

_MOMENT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?"  # none is UTC, as what others write it
)


def wait(told: str | float | None, *, wall: float, unit: float = 1.0) -> float | None:
    """Read a wait from `wall` on; `None` for nothing and for nonsense.

    Units: seconds; `wall` is Unix time, `unit` the seconds of 1 in a bare number. Shape: 0 to `RETRY_AFTER_MAX`.
    Raises: nothing.
    """
    if isinstance(told, str) and "," in told:
        several = [_wait(each, wall, unit) for each in _BETWEEN.split(told)]
        known = [each for each in several if each is not None]
        return max(known) if len(known) == len(several) else None
    return None if told is None else _wait(told, wall, unit)


def _wait(told: str | float, wall: float, unit: float) -> float | None:
    number = _number(told)
    seconds = _read(told, wall) if number is None else _from_now(number * unit, wall)
    # Digits without end are endless as a float, and no wait.
    if seconds is None or not isfinite(seconds):
        return None
    return min(max(0.0, seconds), RETRY_AFTER_MAX)


def _read(told: str | float, wall: float) -> float | None:
    """Read what is no number: a span, or else a moment."""
    if not isinstance(told, str):
        return None
    seconds = _span(_WORD.sub(_short, told.strip()))
    if seconds is not None:
        return seconds
    moment = _moment(told.strip())
    return None if moment is None else moment - wall


def _short(word: re.Match[str]) -> str:
    """Go's letters for a unit that is written out."""
    said = word[1].lower()
    return next(short for beginning, short in _SHORT if said.startswith(beginning))


def _number(told: str | float) -> float | None:
    """A bare number that is no nonsense: below zero is, and is not what has passed."""
    try:
        value = float(told)
    except (ValueError, OverflowError):
        return None
    return value if isfinite(value) and value >= 0 else None


def _from_now(seconds: float, wall: float) -> float:
    if seconds < _UNIX_MIN:
        return seconds
    return (seconds if seconds < _UNIX_MILLIS_MIN else seconds / 1000.0) - wall


def _span(text: str) -> float | None:
    found = _SPAN.fullmatch(text)
    if found is None:
        return None
    return sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part is not None)


def _moment(text: str) -> float | None:
    """Unix time of an RFC 3339 moment or an HTTP date."""
    found = _MOMENT.fullmatch(text)
    try:
        if found is not None:
            return _unix(found)
        # A date without a zone is GMT (RFC 9110); the zone of this machine must not leak in.
        return float(timegm(parsedate_to_datetime(text).utctimetuple()))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _unix(found: re.Match[str]) -> float:
    """Raises: ValueError where a part is out of its range."""
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    zone_hour, zone_minute = int(found[9] or 0), int(found[10] or 0)
    if not 1 <= month <= 12 or not 1 <= day <= monthrange(year, month)[1]:
        raise ValueError("no such day")
    # 60 is a leap second.
    if hour > 23 or minute > 59 or second > 60 or zone_hour > 23 or zone_minute > 59:
        raise ValueError("no such time")
    ahead = (zone_hour * 3600 + zone_minute * 60) * (-1 if found[8] == "-" else 1)
    return timegm((year, month, day, hour, minute, second)) + float(found[7] or 0) - ahead
