"""The table of routes: the contract's, each once, each with its scope."""

from typing import Any

from balancer.http.complaints import Complaints
from balancer.http.events import Events
from balancer.http.limits import LIMITS
from balancer.http.routes import routes

CONTRACT = {
    "read": {
        "GET /v1/best-provider", "HEAD /v1/best-provider", "POST /v1/best-provider", "GET /v1/models",
        "GET /v1/model", "GET /v1/providers", "GET /v1/endpoints", "GET /v1/endpoint", "GET /v1/events",
        "GET /v1/history", "GET /v1/config", "GET /metrics", "GET /openapi.json",
    },
    "report": {"POST /v1/reports"},
    "admin": {"POST /v1/drain", "POST /v1/resume", "POST /v1/probe", "POST /-/reload"},
    None: {"GET /-/healthy", "GET /-/ready"},
}  # fmt: skip


async def test_every_route_of_the_contract_is_there_once_with_its_scope(world: Any) -> None:
    hands = world.hands()
    table = routes(hands, LIMITS, Events(hands, LIMITS, lambda: ()), Complaints(hands.log))
    assert len({(each.method, each.path) for each in table}) == len(table)
    found: dict[str | None, set[str]] = {}
    for each in table:
        found.setdefault(each.scope, set()).add(f"{each.method} {each.path}")
    assert found == CONTRACT
    assert all((each.verb is not None) == (each.scope == "admin") for each in table)
