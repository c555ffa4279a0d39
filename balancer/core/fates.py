"""Which endpoints fail together: those of one provider, and those on one host, whatever it is called.

What this module does not know: how much likelier a shared failure is (`strategies.adaptive`).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from balancer.core.model import Endpoint


def shared_fates(endpoints: Iterable[Endpoint]) -> dict[str, int]:
    """Number the fates. Shape: endpoint id → number, the same for those that share a provider or a host."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            name = parents[name]
        return name

    providers: dict[str, str] = {}
    for endpoint in endpoints:
        host = urlsplit(endpoint.base_url).netloc.rpartition("@")[2].lower()
        providers[endpoint.id] = f"provider {endpoint.provider}"
        parents[root(f"host {host}")] = root(providers[endpoint.id])
    numbers: dict[str, int] = {}
    return {key: numbers.setdefault(root(name), len(numbers)) for key, name in providers.items()}
