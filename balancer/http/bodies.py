"""How many bytes of bodies are in memory at once, and whose have to go.

Theory of operation: what is counted is what has come in, not what was announced, from the first piece until the
request is answered. Where a piece would go beyond the limit, bodies that have been on their way for long make room,
the oldest first; their clients get the 503 that this one would have got. So whoever fills the room with bodies that
he does not finish takes it from himself. A small body is never refused: it costs no more than its connection does.

What this module does not know: what is in a body, and how large a single one may be.
"""

from __future__ import annotations

import asyncio
from typing import Final

from balancer.http.answers import Refused

SMALL: Final = 16_384  # bytes; a short question, and less than the buffers of its connection
YOUNG: Final = 2.0  # s; the largest body needs less from anywhere near
RETRY_AFTER: Final = 1  # s; a body that is sent on is read by then


class Body:
    """One request's body, as far as it has come. `cut` once it had to go. Units: bytes."""

    __slots__ = ("_began", "_room", "_turn", "cut", "size")

    def __init__(self, room: Bodies) -> None:
        self._room = room
        self._began: float | None = None
        self._turn: asyncio.Timeout | None = None
        self.size = 0
        self.cut = False

    def expect(self, turn: asyncio.Timeout) -> None:
        """More is to come, and waited for with a timeout that may be ended early."""
        self._began = asyncio.get_running_loop().time()
        self._turn = turn

    def grow(self, size: int) -> None:
        """Count another piece. Raises: Refused (503) where there is no room for it."""
        self._room.take(self, size)
        self.size += size

    def complete(self) -> None:
        """All of it is here; from now on it is ours to get done with."""
        self._turn = None

    def close(self) -> None:
        """Give the room back; more than once is once."""
        self.complete()
        self._room.give(self)

    def waits_since(self) -> float | None:
        """Since when the rest is waited for; `None` where nothing is."""
        return None if self._turn is None else self._began

    def make_room(self) -> None:
        """End the wait for the rest."""
        turn, self._turn = self._turn, None
        self._room.give(self)
        self.cut = True
        if turn is not None and not turn.expired():
            turn.reschedule(asyncio.get_running_loop().time())


class Bodies:
    """Every body that is in memory. `used` is in bytes; `refused` counts those for which there was no room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Body, None] = {}  # the oldest first
        self.used = 0
        self.refused = 0

    def begin(self) -> Body:
        """Start to count a body."""
        body = Body(self)
        self._open[body] = None
        return body

    def take(self, body: Body, size: int) -> None:
        """Count a piece of a body. Raises: Refused (503)."""
        if body not in self._open:  # it had to go, and its last pieces still come in
            raise no_room()
        if body.size + size > SMALL:
            if self.used + size > self._most:
                self._make_room(body, size)
            if self.used + size > self._most:
                self.refused += 1
                raise no_room()
        self.used += size

    def give(self, body: Body) -> None:
        """Forget a body, known or not."""
        if body in self._open:
            del self._open[body]
            self.used -= body.size

    def _make_room(self, for_whom: Body, size: int) -> None:
        old = asyncio.get_running_loop().time() - YOUNG
        for body in tuple(self._open):
            since = body.waits_since()
            if body is not for_whom and since is not None and since < old and body.size > SMALL:
                self.refused += 1
                body.make_room()
                if self.used + size <= self._most:
                    return


def no_room() -> Refused:
    """The answer to a body for which there is no room."""
    return Refused(
        503,
        "too many large bodies are being read; try again, or send less of the prompt",
        headers={"Retry-After": str(RETRY_AFTER)},
    )
