"""The shapes in which the table is read, made from its own snapshots."""

from typing import Any

from balancer.core.model import SOURCES
from balancer.http.pictures import EndpointDetail, EndpointItem, endpoint_detail, endpoint_item

EAST = "openai/gpt-4.1@azure/eastus2"


def test_the_whole_picture_says_all_that_a_line_says(world: Any) -> None:
    world.eject(EAST)
    view = world.balancer.endpoint(EAST, now=world.now)
    line, whole = endpoint_item(view, world.now), endpoint_detail(view, world.now)
    assert set(EndpointItem.__struct_fields__) < set(EndpointDetail.__struct_fields__)
    for name in EndpointItem.__struct_fields__:
        assert getattr(line, name) == getattr(whole, name)


def test_a_moment_that_has_passed_is_now(world: Any) -> None:
    world.record(EAST, "rate_limited", status=429, retry_after=10.0)
    view = world.balancer.endpoint(EAST, now=world.now)
    assert endpoint_item(view, world.now).next_in == 10.0
    assert endpoint_item(view, world.now + 60.0).next_in == 0.0


def test_both_sources_are_told_even_where_one_said_nothing(world: Any) -> None:
    whole = endpoint_detail(world.balancer.endpoint(EAST, now=world.now), world.now)
    assert tuple(whole.outcomes) == tuple(whole.windows) == SOURCES
