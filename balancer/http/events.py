"""Server-sent events: each change of state, to whoever listens, from where they left off.

Theory of operation: a stream keeps nothing but the number of the last transition that it sent, and reads the
table's own memory from there, so a slow reader costs no memory and a reconnecting one misses nothing that is still
remembered. It ends with the token that began it. What was forgotten meanwhile is told as an event `gap`. A number
is only good for the process that gave it: `<boot>-<number>` of another process starts from the oldest that this one
remembers.

What this module does not know: how the daemon wakes; it awaits `waiting`, and when that returns with nothing new
the daemon is stopping.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, cast

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from balancer.config import Token
from balancer.core.model import State, Transition
from balancer.http.access import Unauthorized, authorize
from balancer.http.answers import Refused, encode
from balancer.http.api import Ask
from balancer.http.connection import Connection
from balancer.http.hands import Hands
from balancer.http.limits import Limits, streams_max
from balancer.http.query import pairs
from balancer.http.words import shown

RETRY: Final = 2000  # ms after which a browser reconnects; the standard leaves it to us

_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "Server": "balancer",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",  # nginx would hold events back until its buffer is full
}


class Event(Struct, kw_only=True):
    """One change. Units: `at` is Unix seconds, `next_in` seconds from then.

    `enforced` is false where health is only watched: the change is what would be, and chooses nothing. `reporter`
    is there where the change is of our trust in one, `provider` where it is of what one says of itself.
    """

    number: int
    event: str
    at: float
    endpoint: str | None
    model: str | None
    state: State | None
    reason: str
    next_in: float | None
    enforced: bool
    reporter: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET


class Events:
    """Every open stream."""

    def __init__(self, hands: Hands, limits: Limits, tokens: Callable[[], Sequence[Token]]) -> None:
        self._hands = hands
        self._tokens = tokens
        self._limits = limits
        self._turns: set[asyncio.Timeout] = set()
        self._most = streams_max(limits)
        self._streams = 0
        self._stopping = False

    def end(self) -> None:
        """End every stream now."""
        self._stopping = True
        for turn in self._turns:
            _cut(turn)

    async def follow(self, ask: Ask) -> web.StreamResponse:
        """Send events until the client or the daemon goes away."""
        pairs(ask.query, ())
        if self._streams >= self._most:
            raise Refused(503, f"{self._most} event streams are open, which is the most")
        after = self._start(ask.request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers=_HEADERS)
        if ask.request.method == "HEAD":
            return response
        response.force_close()
        connection = cast("Connection", ask.request.protocol)
        self._streams += 1
        try:
            await response.prepare(ask.request)
            await self._stream(response, ask.request, after)
        finally:
            self._streams -= 1
            connection.lost = None
        return response

    def _start(self, last: str | None) -> int:
        if last is None:
            known = self._hands.balancer.transitions(0)
            return known[-1].number if known else 0
        boot, dash, number = last.rpartition("-")
        if not dash or not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise Refused(400, f"Last-Event-ID {shown(last)} was not given by this API; use <boot>-<number>")
        if boot != self._hands.boot:
            return 0
        known = self._hands.balancer.transitions(0)
        return min(int(number), known[-1].number if known else 0)

    async def _stream(self, response: web.StreamResponse, request: web.BaseRequest, after: int) -> None:
        connection, tokens = cast("Connection", request.protocol), self._tokens()
        text = b"retry: %d\n\n" % RETRY
        while connection.connected:
            news = self._hands.balancer.transitions(after)
            if news and news[0].number > after + 1:
                text += _written("gap", None, encode({"missed": news[0].number - after - 1}))
            for transition in news:
                after = transition.number
                text += self._event(transition)
            try:
                async with self._turn(connection):
                    await response.write(text)
            except TimeoutError:
                connection.abort()  # it does not read, and it holds what we wrote
                raise ConnectionError("the client does not read its events") from None
            text = b""
            try:
                async with self._turn(connection):
                    await self._hands.waiting(after)
            except TimeoutError:
                text = b": still here\n\n"
            if self._stopping or not (text or self._hands.balancer.transitions(after)):
                return
            if self._tokens() is not tokens:
                tokens = self._tokens()
                if not _may(request, tokens):
                    return  # a token that was taken back ends what it began

    @asynccontextmanager
    async def _turn(self, connection: Connection) -> AsyncIterator[None]:
        """One wait that ends with the patience, with the client, or with `end`, as a TimeoutError."""
        async with asyncio.timeout(self._limits.comment) as turn:
            self._turns.add(turn)
            connection.lost = partial(_cut, turn)
            try:
                yield
            finally:
                self._turns.discard(turn)
                connection.lost = None

    def _event(self, transition: Transition) -> bytes:
        hands = self._hands
        event = Event(
            number=transition.number,
            event=transition.event,
            at=hands.wall() - (hands.clock() - transition.now),
            endpoint=transition.endpoint,
            model=transition.model,
            state=transition.state,
            reason=transition.reason,
            next_in=None if transition.next_at is None else max(0.0, transition.next_at - transition.now),
            enforced=transition.enforced,
            reporter=UNSET if transition.reporter is None else transition.reporter,
            provider=UNSET if transition.provider is None else transition.provider,
        )
        return _written(transition.event, f"{hands.boot}-{transition.number}", encode(event))


def _may(request: web.BaseRequest, tokens: Sequence[Token]) -> bool:
    try:
        authorize(request, tokens, "read")
    except Unauthorized:
        return False
    return True


def _written(event: str, key: str | None, data: bytes) -> bytes:
    mark = b"" if key is None else b"id: %b\n" % key.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (mark, event.encode(), data)


def _cut(turn: asyncio.Timeout) -> None:
    if not turn.expired():
        turn.reschedule(asyncio.get_running_loop().time())
