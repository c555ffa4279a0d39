"""Providers as they are read: how their endpoints are, and what they say of themselves.

What this module does not know: which of them was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from balancer.core.announcement import Announcement, Level
from balancer.core.model import Provider, State
from balancer.core.view import EndpointView


class AnnouncedItem(Struct, kw_only=True):
    """The trouble that a provider's status page tells of. Units: seconds since it began to."""

    level: Level
    detail: str
    age: float


class ProviderItem(Struct, kw_only=True):
    """One provider: its doors, and how many of its endpoints are in which state.

    `announced` is `null` where its status page tells of no trouble, could not be read, or is not configured.
    """

    key: str
    name: str
    tags: tuple[str, ...]
    endpoints: int
    states: dict[State, int]
    announced: AnnouncedItem | None


class ProviderList(Struct, kw_only=True):
    """Providers in the configured order."""

    providers: list[ProviderItem]


def provider_item(
    provider: Provider, views: Iterable[EndpointView], said: Announcement | None, now: float
) -> ProviderItem:
    """Count a provider's endpoints by state, beside its own word."""
    states: dict[State, int] = {}
    for view in views:
        states[view.state] = states.get(view.state, 0) + 1
    announced = None
    if said is not None:
        announced = AnnouncedItem(level=said.level, detail=said.detail, age=max(0.0, now - said.since))
    return ProviderItem(
        key=provider.key,
        name=provider.name,
        tags=provider.tags,
        endpoints=sum(states.values()),
        states=states,
        announced=announced,
    )
