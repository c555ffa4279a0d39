"""What outlives a restart: the section `store`, and the directory that it is kept in.

A path in the file is relative to the configuration, as every other path there is. Where none is written, systemd's
own is taken (the first, of several), and else `state` where the daemon was started: a service has the first, and
who tries balancer out in a terminal finds the second. `none` keeps nothing at all.

What this module does not know: whether the directory is there, and what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from msgspec import UNSET, UnsetType

from balancer.config.settings import StoreSettings
from balancer.config.units import Duration, Size, duration_text, size_text
from balancer.config.vocabulary import DAY, HOUR, Given, Shape, holds, lasts, told

_STORE: Final = StoreSettings()

_RETENTION: Final = _STORE.retention

SIZE_MIN: Final = 10_000_000  # bytes: a day of ten endpoints, and room to work in
SIZE_MAX: Final = 1_000_000_000_000  # bytes; SQLite takes more, one daemon does not fill it

NONE: Final = "none"  # as a directory's name it is written ./none


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
    """What is kept in state_dir, how often it is saved, and for how long."""

    save_interval: Given[
        Annotated[
            Duration,
            lasts(1.0, HOUR),
            told("The most of holds, counts and sessions that a crash loses.", duration_text(_STORE.save_interval)),
        ]
    ] = UNSET
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


def state_dir(given: str | UnsetType | None, environ: Mapping[str, str] | None, beside: Path) -> str | None:
    """Where to keep what outlives a restart; `None`: nowhere. Without an environment only what is written counts.

    Shape: absolute. `beside` is the directory of the configuration.
    """
    if isinstance(given, str):
        return None if given == NONE else str((beside / given).absolute())
    if environ is None:
        return None
    systemd = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return str(Path("state" if systemd == "" else systemd).absolute())
