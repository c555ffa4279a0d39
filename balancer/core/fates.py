"""Which endpoints fail together: those of one provider, and those on one host, whatever it is called.

What usually becomes of calls to those of one fate says something of each: `Kin` keeps the mean. It moves in small
steps, so that the others need be looked at again only now and then.

What this module does not know: how much likelier a shared failure is (`strategies.adaptive`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from balancer.core.model import Endpoint
from balancer.core.row import Row

KIN_STEP: Final = 0.005  # of a failure share; less would not change anybody's place


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


class Kin:
    """The rows of one fate, and the mean share of failures that is usual among those that were seen."""

    __slots__ = ("_own", "_rows", "_sum", "usual")

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._own = {row: row.belief.own for row in rows if row.belief.seen}
        self._sum = sum(self._own.values())
        self.usual = self._sum / len(self._own) if self._own else None
        told = next((row.kin for row in rows if row.kin is not None), None)
        if self.usual is not None and told is not None and abs(self.usual - told) < KIN_STEP:
            self.usual = told  # a reload that changes nothing moves nobody
        self._tell()

    def take(self, row: Row) -> None:
        """Take note that a row's belief has moved; tell all of them when the mean has moved a step."""
        if row.belief.seen:
            own = row.belief.own
            self._sum += own - self._own.get(row, 0.0)
            self._own[row] = own
        elif row in self._own:  # all that was seen of it was taken back
            self._sum -= self._own.pop(row)
        usual = self._sum / len(self._own) if self._own else None
        if usual is None and self.usual is None:
            return  # where only cheap probes come nothing is seen of anybody, and there may be thousands to tell it
        if usual is None or self.usual is None or abs(usual - self.usual) >= KIN_STEP:
            self.usual = usual
            self._tell()

    def _tell(self) -> None:
        for row in self._rows:
            if row.kin != self.usual:
                row.kin = self.usual
                row.touch()
