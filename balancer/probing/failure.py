"""Why a probe failed, as one of the outcome's words.

Theory of operation: whatever goes wrong below a probe becomes a `Failure` that already carries its kind.
`of` is the one table from exceptions to kinds. The line it draws: trouble on *this* machine (no route, no
file descriptor, no resolver) is `local` and says nothing about the provider; a host that answers "refused" or
cannot be reached behind a working network is the provider's. What is in no row is a bug of ours, and `of`
answers `None` so that the caller can say so.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from balancer.core.outcome import Kind

# No route, no interface, or this process is out of sockets, ports or memory. EACCES and EPERM come from a
# local firewall or sandbox. EHOSTUNREACH is not here: a router beyond ours says it about one host.
_LOCAL: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EACCES,
        errno.EPERM,
    }
)

# EAI_AGAIN: nobody answered for the name; `lookup` finds out why. The other two: this machine could not even ask.
_LOCAL_RESOLVER: Final = frozenset({socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY})


class Failure(Exception):
    """A probe that failed for a known reason. `status` where the answer had one."""

    def __init__(self, kind: Kind, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.kind: Kind = kind
        self.detail = detail
        self.status = status


def of(problem: Exception, *, phase: str | None, answered: bool = False) -> Failure | None:
    """Name the failure behind an exception; `None` when it is nothing that a network can do.

    Shape: `phase` is where it happened, `None` outside of any; `answered` is true once a byte of the answer
    was read, which makes a broken connection a cut `stream` instead of a `reset`.
    """
    if isinstance(problem, Failure):
        return problem
    if phase is None:
        return None
    # Several of these are OSErrors too: the order is from the special to the general.
    if isinstance(problem, ssl.SSLError):
        return Failure("tls", f"TLS failed: {_words(problem)}")
    if isinstance(problem, socket.gaierror):
        local = problem.errno in _LOCAL_RESOLVER
        return Failure("local" if local else "dns", f"name not resolved: {_words(problem)}")
    if isinstance(problem, UnicodeError):
        return Failure("dns", f"not a host name: {problem}") if phase == "resolve" else None
    if isinstance(problem, TimeoutError):
        return Failure("timeout", f"the system gave up: {_words(problem)} (in {phase})")
    if isinstance(problem, OSError):
        if problem.errno in _LOCAL:
            return Failure("local", f"this machine: {_words(problem)} (in {phase})")
        if phase in ("resolve", "connect"):
            return Failure("connect", f"not connected: {_words(problem)}")
        return Failure("stream" if answered else "reset", f"connection broke: {_words(problem)} (in {phase})")
    return None


def _words(problem: OSError) -> str:
    """Say what the system said: asyncio raises some of its OSErrors without any text."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return str(problem.verify_message)
    return problem.strerror or str(problem) or type(problem).__name__
