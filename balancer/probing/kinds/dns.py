"""Resolves the endpoint's host name, and opens no connection.

The resolver's answer may come from a cache on this machine: it is the one that every other client here gets too.
"""

from __future__ import annotations

from typing import Final

from balancer.core.outcome import Outcome
from balancer.probing.client import Client
from balancer.probing.connection import origin_of
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check
from balancer.probing.lookup import literal

ADDRESSES_SAID_MAX: Final = 8  # what a resolver hands out at a time for one name is rarely more


async def run(client: Client) -> Outcome:
    """Ask the resolver; one address is enough."""
    url = client.endpoint.base_url
    host = origin_of(url).host
    if literal(host) is not None:
        raise Failure("probe_invalid", f"nothing to resolve: {host} is an address; choose another probe.kind")
    addresses = await client.resolve(url)
    said = ", ".join(addresses[:ADDRESSES_SAID_MAX])
    more = len(addresses) - ADDRESSES_SAID_MAX
    return Outcome(kind="success", detail=f"{host} is {said}{f' and {more} more' if more > 0 else ''}")


DNS: Final = Check(run=run, shallow=True)
