"""Names become addresses, as this machine's resolver knows them.

Theory of operation: a lookup waits, so it does so aside. Whoever asks may bring a lookup of his own instead of the
system's: one that hangs, say, which no test can ask of a real one.

A name server that does not answer, or answers SERVFAIL, looks the same whether our resolver is down or the servers
of that one name are: glibc says "try again" for both. What tells them apart is another name: where one was found a
moment ago, our resolver works, and the trouble is the name's (`dns`); otherwise it is taken for ours (`local`).
Kept connections need few lookups, so where none was found lately, the last one that was is looked up again: at once
where a lookup fails, beside it where it takes long. How long a probe waits for it must not matter, so a lookup that
outlasts its probe is judged by the same rule.

Only public addresses count. `localhost`, a name without a dot, and the hosts of a house or of a container's
machine, which stand in /etc/hosts or are known to a router, are found although nobody out there answers.

What this module does not know: what is done with the addresses, and how old the resolver's answer is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal, Protocol

from balancer.config.settings import IpVersion
from balancer.probing.aside import aside
from balancer.probing.failure import Failure, of
from balancer.probing.room import MakeRoom, roomy
from balancer.probing.trace import Trace

Entry = tuple[int, int, int, str, tuple[str | int | bytes, ...]]  # of which the last begins with the address

# Seconds that a name found shows that our resolver works: two of the usual intervals, for those who probe few.
LATELY: Final = 60.0
DOUBTED: Final = 0.5  # s without an answer, which nearly all have in a tenth of it: time to try another name
CHECK_MAX: Final = 2.0  # s that a failed lookup waits for the other name; it is known: answered soon, or never
CHECK_EVERY: Final = 5.0  # s between two such lookups: while nobody answers, each holds a thread for as long

ANY_PORT: Final = 0  # where only the name matters

_FAMILIES: Final[Mapping[IpVersion, int]] = {
    "any": socket.AF_UNSPEC,
    "4": socket.AF_INET,
    "6": socket.AF_INET6,
}


class Lookup(Protocol):
    """Finds a host's addresses as `socket.getaddrinfo` does, waiting for them. Raises: OSError, UnicodeError."""

    def __call__(self, host: str, port: int, *, family: int, type: int) -> Sequence[Entry]: ...  # noqa: A002


class Names:
    """A lookup, and which names it found last. It opens files, and `make_room` closes some that are kept."""

    def __init__(self, lookup: Lookup, *, clock: Callable[[], float], make_room: MakeRoom) -> None:
        self.lookup = lookup
        self._clock = clock
        self._make_room = make_room
        self._found: dict[str, float] = {}  # at most two: beside any name there is another
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")

    async def ask(self, host: str, port: int, *, ip_version: IpVersion = "any") -> Sequence[Entry]:
        """Look a host up, aside. Raises: OSError, UnicodeError, Failure."""
        asked = partial(self.lookup, host, port, family=_FAMILIES[ip_version], type=socket.SOCK_STREAM)
        return await roomy(lambda: aside(partial(_with_files, asked), name="lookup"), self._make_room)

    async def check(self, host: str) -> None:
        """Look up the other name that was found last, where it would tell who is to blame for this one.

        Raises: nothing; what was found changes what `blame` says.
        """
        async with self._checking:
            now = self._clock()
            other = next((name for name in reversed(self._found) if name != host), None)
            if other is None or self.blame(host) == "dns" or now - self._checked_at < CHECK_EVERY:
                return
            self._checked_at = now
            with suppress(OSError, UnicodeError, Failure):
                self.found(other, _addresses(await self.ask(other, ANY_PORT)))

    def found(self, host: str, addresses: Sequence[str]) -> None:
        """Note that a name was resolved just now, unless nobody out there was needed for it."""
        if "." not in host.rstrip(".") or not all(ipaddress.ip_address(each).is_global for each in addresses):
            return
        self._found.pop(host, None)
        self._found = {**dict(list(self._found.items())[-1:]), host: self._clock()}

    def blame(self, host: str) -> Literal["dns", "local"]:
        """Say whose fault it is that nothing answers for a name: its own, or our resolver's."""
        now = self._clock()
        others = (at for name, at in self._found.items() if name != host)
        return "dns" if any(now - at <= LATELY for at in others) else "local"


def _with_files(asked: Callable[[], Sequence[Entry]]) -> Sequence[Entry]:
    """Look up. Raises: what the lookup raises, and OSError where no file could be opened before or after it.

    Source: where glibc cannot open /etc/hosts it goes on without, and says that there is no such name.
    """
    os.close(os.open(os.devnull, os.O_RDONLY))
    try:
        return asked()
    except socket.gaierror:
        os.close(os.open(os.devnull, os.O_RDONLY))
        raise


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a host that is an address already; `None` for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def resolved(host: str, port: int, names: Names, trace: Trace, *, ip_version: IpVersion = "any") -> list[str]:
    """Find the addresses of a host, the resolver's first one first, each once.

    Raises: Failure. Cancelled, it leaves in the trace whose fault the waiting was.
    """
    trace.enter("resolve")
    doubtful = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            doubting = tasks.create_task(_doubt(host, names, doubtful), name="another name")
            found = await _tried(names.ask(host, port, ip_version=ip_version))
            if _unanswered(found):
                doubtful.set()
                await asyncio.wait((doubting,), timeout=CHECK_MAX)
            doubting.cancel()
    except asyncio.CancelledError:
        trace.unresolved = names.blame(host)
        raise
    if isinstance(found, Exception):
        failure = of(found, phase="resolve")
        assert failure is not None
        kind = names.blame(host) if _unanswered(found) else failure.kind
        said = "" if ip_version == "any" else f" (as IPv{ip_version}, by probe.ip_version)"
        raise Failure(kind, f"{failure.detail}{said}")
    addresses = _addresses(found)
    if not addresses:
        raise Failure("dns", "the name has no address")
    names.found(host, addresses)
    return addresses


async def _doubt(host: str, names: Names, doubtful: asyncio.Event) -> None:
    """Try another name when this one's lookup failed, or takes long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DOUBTED):
            await doubtful.wait()
    await names.check(host)


async def _tried(asked: Awaitable[Sequence[Entry]]) -> Sequence[Entry] | Exception:
    """Wait for a lookup, and give why it failed instead of raising it: in a group it would come out wrapped."""
    try:
        return await asked
    except (OSError, UnicodeError, Failure) as problem:
        return problem


def _unanswered(found: Sequence[Entry] | Exception) -> bool:
    return isinstance(found, socket.gaierror) and found.errno == socket.EAI_AGAIN


def _addresses(found: Sequence[Entry]) -> list[str]:
    """The addresses in the resolver's order, each once."""
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
