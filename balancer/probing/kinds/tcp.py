"""Opens a TCP connection to the endpoint's host and port, and closes it: no TLS, no bytes, no credential."""

from __future__ import annotations

from typing import Final

from balancer.core.outcome import Outcome
from balancer.probing.client import Client
from balancer.probing.kinds.interface import Check


async def run(client: Client) -> Outcome:
    """Connect and hang up."""
    await client.connect(client.endpoint.base_url)
    return Outcome(kind="success")


TCP: Final = Check(run=run, shallow=True)
