"""Through an HTTP proxy to a TLS server: the one request and answer before the bytes are the server's own.

What a refusal means: a 4xx is the proxy's word about us, its rules or our login, and no verdict about the
provider; a 5xx says that it could not get there.

What this module does not know: how the connection to the proxy was made, and what is said through the tunnel.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11

from balancer.config.proxies import Proxy
from balancer.probing.failure import Failure
from balancer.probing.trace import Trace

ANSWER_MAX: Final = 16_384  # bytes of headers: a proxy has little to say here
READ_MAX: Final = 4096  # bytes a read; after a good answer a TLS server waits for us, so nothing else comes


async def tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, proxy: Proxy, target: str, trace: Trace
) -> None:
    """Ask the proxy to connect to `target` (host:port). Raises: Failure, OSError."""
    http = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=ANSWER_MAX)
    headers = [("host", target), *login(proxy)]
    trace.say(f"> CONNECT {target} HTTP/1.1")
    for name, value in headers:
        trace.say(f"> {name}: {value}")
    request = h11.Request(method="CONNECT", target=target, headers=headers)
    writer.write(http.send(request) + http.send(h11.EndOfMessage()))
    await writer.drain()
    try:
        while not isinstance(answer := http.next_event(), h11.Response):
            if answer is h11.NEED_DATA:
                http.receive_data(await reader.read(READ_MAX))
    except h11.RemoteProtocolError as problem:
        raise Failure("local", f"the proxy {proxy} gave no answer: {problem}") from None
    said = trace.clean(f"{answer.status_code} {answer.reason.decode('latin-1')}", ANSWER_MAX)
    trace.say(f"< HTTP/1.1 {said}")
    if 200 <= answer.status_code <= 299:
        return
    if answer.status_code >= 500:
        raise Failure("connect", f"the proxy {proxy} did not get through: {said}")
    raise Failure("probe_invalid", f"the proxy {proxy} refuses: {said}")


def login(proxy: Proxy) -> list[tuple[str, str]]:
    """The header by which a proxy knows us, where it wants one."""
    return [] if proxy.login is None else [("proxy-authorization", f"Basic {proxy.login.reveal()}")]
