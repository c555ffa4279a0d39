"""The section about what outlives the process: for how long, and how much.

What this module does not know: where it is kept, and how.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET

from balancer.config.settings import StoreSettings
from balancer.config.units import Duration, Size, duration_text, size_text
from balancer.config.vocabulary import DAY, HOUR, Given, Shape, holds, lasts, told

_STORE: Final = StoreSettings()
_RETENTION: Final = _STORE.retention

SIZE_MIN: Final = 10_000_000  # bytes: a day of ten endpoints, and room to work in
SIZE_MAX: Final = 1_000_000_000_000  # bytes; SQLite takes more, one daemon does not fill it


class RetentionShape(Shape, frozen=True, kw_only=True):
    """For how long the history is kept."""

    minutes: Given[
        Annotated[Duration, lasts(HOUR, 366 * DAY), told("Counts by minute.", duration_text(_RETENTION.minutes))]
    ] = UNSET
    hours: Given[
        Annotated[
            Duration,
            lasts(DAY, 3660 * DAY),
            told("Counts by hour, and transitions; at least as long as minutes.", duration_text(_RETENTION.hours)),
        ]
    ] = UNSET


class StoreShape(Shape, frozen=True, kw_only=True):
    """What is kept on disk."""

    history: Given[Annotated[bool, told("Keep the past of each endpoint, for /v1/history.", _STORE.history)]] = (
        UNSET
    )
    retention: Given[Annotated[RetentionShape | None, told("For how long the history is kept.")]] = UNSET
    max_size: Given[
        Annotated[
            Size,
            holds(SIZE_MIN, SIZE_MAX),
            told("Most that the history takes on disk; the oldest gives way.", size_text(_STORE.max_size)),
        ]
    ] = UNSET
