"""From a parsed request to an answer: find the route, let in whom it may, and keep to one shape of error.

Theory of operation: aiohttp's low-level server calls one function for every request. A dict finds the route, so
that an unknown path and a wrong method are this module's to answer, and nothing stands between a question and
its handler but authorization. A handler returns an answer or raises `Refused`; whatever else it raises is a bug
of ours, answered with 500 and told in the log.

What this module does not know: what any route does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from balancer.config import Config, Scope
from balancer.http.access import authorize
from balancer.http.answers import Refused
from balancer.http.connection import Connection
from balancer.http.words import shown
from balancer.service.log import Log


@dataclass(frozen=True, slots=True)
class Ask:
    """One request on its way to a handler. `who` is the name of its token, `None` where none is needed."""

    request: web.BaseRequest
    query: str
    who: str | None


Handler = Callable[[Ask], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One thing that can be asked. Without a `scope` it needs no token."""

    method: str
    path: str
    scope: Scope | None
    handler: Handler


class Api:
    """Every route behind one function."""

    def __init__(self, routes: Sequence[Route], *, config: Callable[[], Config], log: Log) -> None:
        self._config = config
        self._log = log
        self._table: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._table.setdefault(route.path, {})[route.method] = route
        for methods in self._table.values():
            # A server that answers GET answers HEAD: aiohttp leaves the body out. Source: RFC 9110, 9.1.
            if "GET" in methods:
                methods.setdefault("HEAD", methods["GET"])

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Raises: ConnectionError when the client is gone."""
        connection = cast("Connection", request.protocol)
        connection.begin()
        closing = True
        try:
            response = await self._answer(request)
            if request.content.is_eof() and not connection.retired:
                closing = False
            else:
                response.force_close()  # what is left of a body would be read as the next request
            return response
        finally:
            connection.end(closing=closing)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except Refused as refusal:
            return refusal.response()
        except ConnectionError:
            raise
        except Exception as error:
            self._log.error("request.crashed", method=request.method, path=shown(request.path), exc_info=error)
            response = Refused(500, "an error of ours; the log tells more").response()
            response.force_close()
            return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.raw_path
        if not target.startswith("/"):  # a proxy's absolute form
            target = request.rel_url.raw_path_qs
        path, _, query = target.partition("?")
        methods = self._table.get(path)
        if methods is None:
            raise Refused(404, f"no such path: {shown(path)}; /openapi.json lists them")
        route = methods.get(request.method)
        if route is None:
            raise _wrong_method(request.method, path, methods)
        own = cast("Connection", request.protocol).own  # nobody else holds the other end
        who = None if own or route.scope is None else authorize(request, self._config().tokens, route.scope)
        return await route.handler(Ask(request, query, who))


def _wrong_method(method: str, path: str, methods: Mapping[str, Route]) -> Refused:
    allowed = ", ".join(sorted(methods))
    return Refused(405, f"{path} does not take {shown(method)}; use {allowed}", headers={"Allow": allowed})
