"""From a parsed request to an answer: find the route, let in whom it may, and keep to one shape of error.

Theory of operation: aiohttp's low-level server calls one function for every request. A dict finds the route, so
that an unknown path and a wrong method are this module's to answer, and nothing stands between a question and
its handler but authorization. A handler returns an answer or raises `Refused`; whatever else it raises is a bug
of ours, answered with 500 and told in the log.

A route with a `verb` is an operator's: whoever was known to ask for it leaves one line in the log, whatever came of
it. Who is not known leaves a line of the many that are bounded.

What this module does not know: what any route does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from aiohttp import HttpVersion10, HttpVersion11, web

from balancer.config import Scope, Token
from balancer.http.access import Unauthorized, authorize
from balancer.http.answers import Refused
from balancer.http.connection import Connection
from balancer.http.gate import Gate
from balancer.http.words import shown
from balancer.service.log import Log

_VERSIONS: Final = (HttpVersion10, HttpVersion11)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request on its way to a handler. `who` is the name of its token, `None` where none is needed.

    `told` are the facts that an operator's handler adds to the line in the log.
    """

    request: web.BaseRequest
    query: str
    who: str | None
    told: dict[str, Any] = field(default_factory=dict)


Handler = Callable[[Ask], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One thing that can be asked. Without a `scope` it needs no token; with a `verb` it is an operator's deed."""

    method: str
    path: str
    scope: Scope | None
    handler: Handler
    verb: str | None = None


class Api:
    """Every route behind one function."""

    def __init__(
        self, routes: Sequence[Route], *, tokens: Callable[[], Sequence[Token]], log: Log, gate: Gate
    ) -> None:
        self._tokens = tokens
        self._log = log
        self._gate = gate
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
            if request.version not in _VERSIONS:
                connection.refuse_version()
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
        if own or route.scope is None:
            return await route.handler(Ask(request, query, None))
        try:
            who = authorize(request, self._tokens(), route.scope)
        except Unauthorized as refusal:
            self._turn_away(request, path, route, refusal)
            raise
        ask = Ask(request, query, who)
        return await route.handler(ask) if route.verb is None else await self._told(route, ask)

    def _turn_away(self, request: web.BaseRequest, path: str, route: Route, refusal: Unauthorized) -> None:
        self._gate.turned_away(refusal.why)
        if route.verb is not None and refusal.who is not None:
            self._tell(route, request, refusal.who, "refused", _why(refusal))
            return
        self._gate.complaints.tell(
            "request.refused",
            status=refusal.status,
            reason=refusal.message,
            path=path,
            peer=cast("Connection", request.protocol).peer,
        )

    async def _told(self, route: Route, ask: Ask) -> web.StreamResponse:
        """Let an operator act, and leave the one line of it."""
        result, facts = "unfinished", ask.told  # the client is gone, or we are stopping, or it is a bug of ours
        try:
            response = await route.handler(ask)
            result = "done"
            return response
        except Refused as refusal:
            result = "refused"
            facts = {**facts, **_why(refusal)}
            raise
        finally:
            self._tell(route, ask.request, ask.who, result, facts)

    def _tell(self, route: Route, request: web.BaseRequest, who: str | None, result: str, facts: Any) -> None:
        where = cast("Connection", request.protocol).peer
        self._log.audit("operator.acted", verb=route.verb, token=who, result=result, **facts, peer=where)


def _why(refusal: Refused) -> dict[str, Any]:
    return {"status": refusal.status, "refusal": refusal.message}


def _wrong_method(method: str, path: str, methods: Mapping[str, Route]) -> Refused:
    allowed = ", ".join(sorted(methods))
    return Refused(405, f"{path} does not take {shown(method)}; use {allowed}", headers={"Allow": allowed})
