"""Who is at the other end of a connection, in words for the log.

Theory of operation: a TCP peer is its address and port. A unix socket's has none, but the kernel knows its user and
its process as they were when it connected.

What this module does not know: whom a proxy in between speaks for; `X-Forwarded-For` is anybody's to write.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

UNKNOWN: Final = "unknown"
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


def peer(transport: asyncio.BaseTransport | None) -> str:
    """Name the other end: `127.0.0.1:33974`, `[::1]:33974`, `unix uid 1000 pid 4711`, or `unknown`."""
    if transport is None:
        return UNKNOWN
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return address(name)
    wire = transport.get_extra_info("socket")
    if wire is None or wire.family != socket.AF_UNIX:
        return UNKNOWN
    try:
        told = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return UNKNOWN
    process, user, _ = _CREDENTIALS.unpack(told)
    return f"unix uid {user} pid {process}"


def address(name: object) -> str:
    """Name the other end of a TCP socket by what `accept` gave: as `peer` does."""
    if not isinstance(name, tuple) or len(name) < 2:
        return UNKNOWN
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
