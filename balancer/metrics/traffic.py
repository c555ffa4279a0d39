"""What comes in at the API, as the HTTP room counted it, in families.

What this module does not know: what is counted when, and the limits; the words are in `http/gate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from balancer.metrics.text import Family, line


def traffic_families(
    *,
    connections: int,
    evicted: int,
    timeouts: Mapping[str, int],
    unauthorized: Mapping[str, int],
    body_bytes: int,
    bodies_refused: int,
) -> list[Family]:
    """Write down what came in: `timeouts` by what a client took too long for, `unauthorized` by the reason."""
    return [
        Family(
            name="balancer_http_connections",
            kind="gauge",
            help="Connections to the API that are open.",
            lines=[line("balancer_http_connections", {}, connections)],
        ),
        Family(
            name="balancer_http_connections_evicted",
            kind="counter",
            help="Connections that had waited the longest and were closed to let a new one in.",
            lines=[line("balancer_http_connections_evicted_total", {}, evicted)],
        ),
        Family(
            name="balancer_http_timeouts",
            kind="counter",
            help="Connections that were closed because the client took too long for it.",
            lines=[line("balancer_http_timeouts_total", {"phase": key}, n) for key, n in timeouts.items()],
        ),
        Family(
            name="balancer_http_unauthorized",
            kind="counter",
            help="Requests that were refused for who sent them.",
            lines=[line("balancer_http_unauthorized_total", {"reason": key}, n) for key, n in unauthorized.items()],
        ),
        Family(
            name="balancer_http_body_bytes",
            kind="gauge",
            help="What the bodies of requests under way hold in memory.",
            lines=[line("balancer_http_body_bytes", {}, body_bytes)],
        ),
        Family(
            name="balancer_http_bodies_refused",
            kind="counter",
            help="Bodies that were refused or cut off because all together held too much.",
            lines=[line("balancer_http_bodies_refused_total", {}, bodies_refused)],
        ),
    ]
