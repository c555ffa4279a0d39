"""How many connections may be open, and which one makes room for a new one.

Theory of operation: a new connection is never refused. Where the crowd is full the one that has been waiting the
longest is closed: idle between two requests, or in the middle of a header, a body or an answer that its client does
not go on with. Connections stand in the order in which their wait began; a few more bytes of the same header do not
begin it anew, and a request that is being answered by us is not in the row at all. So slow clients drive out each
other, and one that asks now and then is always among the last.

Where every connection is at work none is closed, and the new one is let in: that is load, and not a siege.

What this module does not know: what a connection is, and the clock.
"""

from __future__ import annotations

from typing import Protocol


class Member(Protocol):
    """A connection as the crowd sees it."""

    def evict(self) -> None:
        """Close at once, without a word."""


class Crowd:
    """Every open connection. `evicted` counts those that made room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._members: set[Member] = set()
        self._waiting: dict[Member, None] = {}  # a dict keeps the order, and a place is found without a search
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._members)

    def arrive(self, member: Member) -> None:
        """Let a connection in, and close another where there are too many."""
        self._members.add(member)
        if len(self._members) > self._most and self._waiting:
            longest = next(iter(self._waiting))
            self.leave(longest)
            self.evicted += 1
            longest.evict()
        self._waiting[member] = None

    def wait(self, member: Member) -> None:
        """From now on we wait for this client."""
        if member in self._members:  # the last words of one that was closed may still come in
            self._waiting.pop(member, None)
            self._waiting[member] = None

    def work(self, member: Member) -> None:
        """From now on this client waits for us."""
        self._waiting.pop(member, None)

    def leave(self, member: Member) -> None:
        """Forget a connection, known or not."""
        self._members.discard(member)
        self._waiting.pop(member, None)
