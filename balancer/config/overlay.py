"""A section of the file over the frozen value that holds its defaults.

Sections and values have the same key names (a test holds them to it), so one function serves them all. A section
inside a section is laid key by key too: `routing.sticky.ttl` leaves `routing.sticky.max_sessions` as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from msgspec import UnsetType

from balancer.config.units import Duration, Size
from balancer.config.vocabulary import Shape

T = TypeVar("T")
V = TypeVar("V")


def first(*values: T | UnsetType | None) -> T | None:
    """Give the first value that is there: the nearest one to the endpoint."""
    for value in values:
        if value is not None and not isinstance(value, UnsetType):
            return value
    return None


def overlay(base: V, section: Shape | UnsetType | None) -> V:
    """Replace in `base`, a frozen dataclass, what the section gives; a section in it likewise."""
    if section is None or isinstance(section, UnsetType):
        return base
    changes: dict[str, Any] = {}
    for key in section.__struct_fields__:
        value = getattr(section, key)
        if isinstance(value, Shape):
            changes[key] = overlay(getattr(base, key), value)
        elif value is not None and not isinstance(value, UnsetType):
            changes[key] = _plain(value, like=getattr(base, key))
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]  # `base` is any dataclass


def _plain(value: Any, *, like: object) -> Any:
    """Give a value as the frozen one holds it: plain numbers, and tuples for lists."""
    if isinstance(like, tuple):
        return tuple(_plain(one, like=None) for one in (value if isinstance(value, list) else [value]))
    if isinstance(value, Duration):
        return float(value)
    return int(value) if isinstance(value, Size) else value
