"""The table of routes: everything that can be asked, with the scope that it needs.

What this module does not know: what each one looks like on the wire; `openapi` tells that, and a test holds
the two together.
"""

from __future__ import annotations

from aiohttp import web

from balancer.http.answers import plain
from balancer.http.api import Ask, Route
from balancer.http.best import Best
from balancer.http.complaints import Complaints
from balancer.http.events import Events
from balancer.http.hands import Hands
from balancer.http.history import HistoryRoute
from balancer.http.limits import Limits
from balancer.http.openapi import document
from balancer.http.operating import Operating
from balancer.http.query import pairs
from balancer.http.reading import Reading
from balancer.http.reports import Reports


def routes(hands: Hands, limits: Limits, events: Events, complaints: Complaints) -> list[Route]:
    """Make the table for one server."""
    best, reports = Best(hands, limits), Reports(hands, limits, complaints)
    reading, operating = Reading(hands), Operating(hands, limits)
    history = HistoryRoute(hands)

    async def openapi(ask: Ask) -> web.StreamResponse:
        pairs(ask.query, ())
        return plain(document(), headers={"Cache-Control": "max-age=300"})

    return [
        Route(method="GET", path="/v1/best-provider", scope="read", handler=best.get),
        Route(method="HEAD", path="/v1/best-provider", scope="read", handler=best.get),
        Route(method="POST", path="/v1/best-provider", scope="read", handler=best.post),
        Route(method="POST", path="/v1/reports", scope="report", handler=reports.post),
        Route(method="GET", path="/v1/models", scope="read", handler=reading.models),
        Route(method="GET", path="/v1/model", scope="read", handler=reading.model),
        Route(method="GET", path="/v1/providers", scope="read", handler=reading.providers),
        Route(method="GET", path="/v1/endpoints", scope="read", handler=reading.endpoints),
        Route(method="GET", path="/v1/endpoint", scope="read", handler=reading.endpoint),
        Route(method="GET", path="/v1/history", scope="read", handler=history.get),
        Route(method="GET", path="/v1/events", scope="read", handler=events.follow),
        Route(method="GET", path="/v1/config", scope="read", handler=reading.config),
        Route(method="POST", path="/v1/drain", scope="admin", handler=operating.drain, verb="drain"),
        Route(method="POST", path="/v1/resume", scope="admin", handler=operating.resume, verb="resume"),
        Route(method="POST", path="/v1/probe", scope="admin", handler=operating.probe, verb="probe"),
        Route(method="POST", path="/-/reload", scope="admin", handler=operating.reload, verb="reload"),
        Route(method="GET", path="/-/healthy", scope=None, handler=operating.healthy),
        Route(method="GET", path="/-/ready", scope=None, handler=operating.ready),
        Route(method="GET", path="/metrics", scope="read", handler=operating.metrics),
        Route(method="GET", path="/openapi.json", scope="read", handler=openapi),
    ]
