"""Asks one target of the operator's whether this machine reaches anything: a URL, a TCP port, or a name.

Any answer will do, an error page too: it came through our own network. But 502 and 504 are what a gateway says that
reached nobody, and it may be the proxy in our own house.
"""

from __future__ import annotations

from typing import Final

from balancer.core.outcome import Outcome
from balancer.probing.client import Client
from balancer.probing.connection import split
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check

UNREACHED: Final = frozenset({502, 504})


async def run(client: Client) -> Outcome:
    """Ask in the way that the target's scheme says."""
    target = client.endpoint.base_url
    scheme, _, place = target.partition("://")
    if scheme == "dns":
        addresses = await client.resolve(f"http://{place}")
        return Outcome(kind="success", detail=f"{place} is {addresses[0]}")
    if scheme == "tcp":
        await client.connect(f"http://{place}")
        return Outcome(kind="success", detail=f"{place} accepts connections")
    path = split(target).path
    async with client.request("HEAD", target if path else f"{target}/", headers={"accept": "*/*"}) as answer:
        if answer.status in UNREACHED:
            raise Failure("connect", f"a gateway answered {answer.status}: it reached nobody", status=answer.status)
        return Outcome(kind="success", status=answer.status, detail=f"answered {answer.status}")


SELF: Final = Check(run=run, shallow=True)
