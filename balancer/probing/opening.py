"""How a connection to an endpoint is opened: three phases that are timed apart, `resolve`, `connect` and `tls`.

Theory of operation: one address is tried, the resolver's first of the wanted version, because a prober must be able
to say what it tested; the failure names the others that it left out. A proxy that cannot be reached says nothing
about the provider; nor does one that hangs, unless it has answered lately for whomever: it may wait for this one.

What this module does not know: what is said over the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Final

from balancer.probing.connection import Connection, Connections, Handshake, Origin, Route, known
from balancer.probing.failure import Failure
from balancer.probing.lookup import Names, literal, resolved
from balancer.probing.room import roomy
from balancer.probing.trace import Trace
from balancer.probing.tunnel import tunnel

HANDSHAKE_MAX: Final = 3600.0  # seconds; the probe's own timeout rules, not asyncio's 60 s
ADDRESSES_SAID_MAX: Final = 3  # addresses named in a failure besides the one that was tried


async def open_connection(route: Route, *, connections: Connections, secure: bool, trace: Trace) -> Connection:
    """Resolve, connect and, when `secure`, shake hands. Raises: Failure."""
    # Made before any phase: a broken certificate store is our failure and not the server's.
    context = connections.tls(route.trust) if secure else None
    way = _direct if route.proxy is None else _proxied
    reader, writer, address = await way(route, connections, trace)
    agreed = None
    if context is not None:
        trace.enter("tls")
        try:
            await writer.start_tls(context, server_hostname=route.origin.host, ssl_handshake_timeout=HANDSHAKE_MAX)
        except BaseException as problem:
            # No waiting: after a failed handshake nobody tells the stream that its transport is gone.
            writer.transport.abort()
            if isinstance(problem, OSError):
                raise known(problem, trace, answered=False) from None
            raise
        agreed = _agreed(writer)
        trace.certificate_expires = agreed.certificate_expires
        trace.say(f"* {agreed.protocol} {agreed.cipher}")
    trace.leave()
    return Connection(reader, writer, address=address, agreed=agreed)


async def _direct(
    route: Route, connections: Connections, trace: Trace
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Resolve and connect; answer the address too. Raises: Failure."""
    port = route.origin.port
    address, *others = await _addresses(route, connections.names, trace)
    trace.address = address
    trace.enter("connect")
    trace.say(f"* connecting to {address} port {port}")
    try:
        reader, writer = await roomy(partial(asyncio.open_connection, address, port), connections.make_room)
    except OSError as problem:
        failure = known(problem, trace, answered=False)
        said = f"; not tried: {', '.join(others[:ADDRESSES_SAID_MAX])}" if others else ""
        raise Failure(failure.kind, f"{failure.detail} ({address} port {port}{said})") from None
    return reader, writer, address


async def _proxied(
    route: Route, connections: Connections, trace: Trace
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Connect to the proxy, and for TLS through it; answer the proxy's address too. Raises: Failure.

    Shape: `local` where the proxy cannot be reached, which says nothing about the provider.
    """
    assert route.proxy is not None
    trace.proxy = str(route.proxy)
    trace.say(f"* by way of the proxy {route.proxy}")
    hop = Route(origin=Origin(scheme="http", host=route.proxy.host, port=route.proxy.port))
    try:
        reader, writer, address = await _direct(hop, connections, trace)
    except Failure as failure:
        raise Failure("local", f"the proxy {route.proxy}: {failure.detail}") from None
    if not route.tunnels or connections.answers(route.proxy):
        trace.proxy = None
    if route.tunnels:
        host = f"[{route.origin.host}]" if ":" in route.origin.host else route.origin.host
        try:
            await tunnel(reader, writer, route.proxy, f"{host}:{route.origin.port}", trace)
        except BaseException as problem:
            writer.transport.abort()
            if isinstance(problem, Failure) and problem.kind != "local":
                connections.hear(route.proxy)
            if isinstance(problem, OSError):
                raise Failure(
                    "local", f"the proxy {route.proxy}: {known(problem, trace, answered=False)}"
                ) from None
            raise
        connections.hear(route.proxy)
        trace.proxy = None
    return reader, writer, address


async def _addresses(route: Route, names: Names, trace: Trace) -> list[str]:
    address = literal(route.origin.host)
    if address is None:
        return await resolved(route.origin.host, route.origin.port, names, trace, ip_version=route.ip_version)
    if route.ip_version not in ("any", str(address.version)):
        raise Failure("probe_invalid", f"probe.ip_version is {route.ip_version}, and the host is {address}")
    return [route.origin.host]


def _agreed(writer: asyncio.StreamWriter) -> Handshake:
    cipher, protocol, _ = writer.get_extra_info("cipher")
    # Empty where a context of the caller's verifies nothing.
    until = writer.get_extra_info("peercert", {}).get("notAfter")
    expires = None if until is None else float(ssl.cert_time_to_seconds(until))
    return Handshake(protocol, cipher, expires)
