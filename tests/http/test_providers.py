"""A provider as it is read: its endpoints by state, beside its own word."""

from typing import Any

import msgspec

from balancer.http.providers import provider_item

EAST = "openai/gpt-4.1@azure/eastus2"


def test_a_provider_counts_its_endpoints_by_state(world: Any) -> None:
    world.eject(EAST)
    views = world.balancer.view(now=world.now).endpoints
    azure = world.config.providers["azure"]
    item = provider_item(azure, [each for each in views if each.endpoint.provider == "azure"], None, world.now)
    assert msgspec.to_builtins(item.states) == {"ejected": 1}
    assert item.announced is None
    assert provider_item(azure, [], None, world.now).endpoints == 0


def test_what_its_status_page_tells_has_the_age_since_it_began(world: Any) -> None:
    for now in (world.now, world.now + 60.0):
        world.balancer.announce("azure", "partial_outage", detail="API", now=now, lasting=300.0)
    view = world.balancer.view(now=world.now + 60.0)
    item = provider_item(world.config.providers["azure"], [], view.announcements["azure"], view.now)
    assert msgspec.to_builtins(item.announced) == {"level": "partial_outage", "detail": "API", "age": 60.0}
