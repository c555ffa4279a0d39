"""Opens a TCP connection to the endpoint's host, shakes hands, and closes it: no request, no credential.

It shows that the door is there and that its certificate is valid for the host's name. A certificate that ends
soon is still good: the days that are left are told, and are no failure.
"""

from __future__ import annotations

from typing import Final

from balancer.core.outcome import Outcome
from balancer.probing.client import Client
from balancer.probing.connection import origin_of
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check

DAY: Final = 86_400.0  # seconds


async def run(client: Client) -> Outcome:
    """Connect, shake hands, and say what was agreed upon."""
    url = client.endpoint.base_url
    if origin_of(url).scheme != "https":
        raise Failure("probe_invalid", "base_url is plain http, which has no TLS; choose another probe.kind")
    agreed = await client.connect(url, secure=True)
    assert agreed is not None  # a secure connection has shaken hands
    expires = agreed.certificate_expires
    left = "" if expires is None else f"; the certificate ends in {(expires - client.wall()) / DAY:.0f} days"
    return Outcome(kind="success", detail=f"{agreed.protocol} {agreed.cipher}{left}")


TLS: Final = Check(run=run, shallow=True)
