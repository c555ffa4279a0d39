"""Names become addresses, as this machine's resolver knows them.

Theory of operation: a lookup waits, so it does so aside. Whoever asks may bring a lookup of his own instead of the
system's: one that hangs, say, which no test can ask of a real one.

What this module does not know: what is done with the addresses, and how old the resolver's answer is.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from balancer.config.settings import IpVersion
from balancer.probing.aside import aside
from balancer.probing.failure import Failure, of
from balancer.probing.trace import Trace

Entry = tuple[int, int, int, str, tuple[str | int | bytes, ...]]  # of which the last begins with the address

_FAMILIES: Final[Mapping[IpVersion, int]] = {
    "any": socket.AF_UNSPEC,
    "4": socket.AF_INET,
    "6": socket.AF_INET6,
}


class Lookup(Protocol):
    """Finds a host's addresses as `socket.getaddrinfo` does, waiting for them. Raises: OSError, UnicodeError."""

    def __call__(self, host: str, port: int, *, family: int, type: int) -> Sequence[Entry]: ...  # noqa: A002


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a host that is an address already; `None` for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def resolved(
    host: str, port: int, lookup: Lookup, trace: Trace, *, ip_version: IpVersion = "any"
) -> list[str]:
    """Find the addresses of a host, the resolver's first one first, each once. Raises: Failure."""
    trace.enter("resolve")
    asked = partial(lookup, host, port, family=_FAMILIES[ip_version], type=socket.SOCK_STREAM)
    try:
        found = await aside(asked, name="lookup")
    except (OSError, UnicodeError) as problem:
        failure = of(problem, phase="resolve")
        assert failure is not None
        said = "" if ip_version == "any" else f" (as IPv{ip_version}, by probe.ip_version)"
        raise Failure(failure.kind, f"{failure.detail}{said}") from None
    if not found:
        raise Failure("dns", "the name has no address")
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
