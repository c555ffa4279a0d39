"""Whom TLS believes, and what it shows of itself: one context per combination of files.

Theory of operation: loading certificates costs tens of milliseconds, so a context is made once and kept. Files
that were replaced on disk (certificates are renewed while the daemon runs) are read again for the next connection.
A context that cannot be made says nothing about a provider: it is a wrong recipe.

What this module does not know: sockets.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from balancer.probing.failure import Failure

_Stamp = tuple[int, int, int, int]


class Trust(NamedTuple):
    """Paths of files: the authorities that are believed (`None`: the system's), and our own certificate and key."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class Contexts:
    """The TLS contexts of a process. `default` is for those that name no file."""

    def __init__(self, default: Callable[[], ssl.SSLContext] | ssl.SSLContext) -> None:
        self._default = default
        self._made: dict[Trust, tuple[tuple[_Stamp, ...], ssl.SSLContext]] = {}

    def of(self, trust: Trust) -> ssl.SSLContext:
        """Give the context of a combination. Raises: Failure where a file of it cannot be used."""
        if trust == Trust():
            return self._default if isinstance(self._default, ssl.SSLContext) else self._default()
        stamp = tuple(_stamp(name, path) for name, path in trust._asdict().items() if path is not None)
        made = self._made.get(trust)
        if made is None or made[0] != stamp:
            made = self._made[trust] = (stamp, _context(trust))
        return made[1]


@cache
def default_tls() -> ssl.SSLContext:
    """The process's own TLS context: it believes whom the system believes."""
    return _context(Trust())


def _stamp(name: str, path: str) -> _Stamp:
    """Give what is another when a file was written or replaced, even by one of the same length and time."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a path of the configuration, as it is
    except OSError as problem:
        raise Failure("probe_invalid", f"{name} {path}: {problem.strerror}") from None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _context(trust: Trust) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=trust.ca_file)
    except OSError as problem:
        raise _unusable(f"ca_file {trust.ca_file}", problem) from None
    context.set_alpn_protocols(["http/1.1"])
    if trust.cert_file is not None:
        try:
            # An empty password: without one OpenSSL asks for it at the terminal and waits.
            context.load_cert_chain(trust.cert_file, trust.key_file, password="")
        except OSError as problem:
            raise _unusable(f"client_cert {trust.cert_file}", problem) from None
    return context


def _unusable(what: str, problem: OSError) -> Failure:
    said = problem.reason if isinstance(problem, ssl.SSLError) else None
    return Failure("probe_invalid", f"{what} cannot be used: {problem.strerror if said is None else said}")
