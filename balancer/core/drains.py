"""Which endpoints the operator took out of service, by the names that the operator used.

Theory of operation: a drain is kept under its target and not under the endpoints that it meant then, so that an
endpoint which a reload adds to a drained provider is drained too. Every row is handed the drains that mean it.

What this module does not know: who tells of a drain, and what follows from one (`row`, `eligibility`).
"""

from __future__ import annotations

from collections.abc import Iterable

from balancer.core.names import Names
from balancer.core.notes import Drain
from balancer.core.row import Row


class Drains:
    """The drains in force, and those that have ended since the last was begun. `kept` is by target."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: dict[str, Drain] = {}

    def begin(self, drain: Drain, *, now: float) -> None:
        """Take note of a drain, in the place of another of the same target."""
        self.kept = {target: each for target, each in self.kept.items() if each.holds(now)}
        self.kept[drain.target] = drain

    def end(self, target: str, *, now: float) -> bool:
        """Forget the drain of exactly this target; true if it held."""
        ended = self.kept.pop(target, None)
        return ended is not None and ended.holds(now)

    def assign(self, rows: Iterable[Row]) -> None:
        """Hand each row the drains that mean it."""
        for row in rows:
            row.drains = tuple(drain for target, drain in self.kept.items() if _means(target, row))
            row.touch()

    def holding(self, now: float) -> tuple[Drain, ...]:
        """Those in force."""
        return tuple(drain for drain in self.kept.values() if drain.holds(now))


def meant(target: str, rows: Iterable[Row], names: Names) -> tuple[str, list[Row]]:
    """The target as drains are kept under it, and the rows that it means. Raises: KeyError when it means none."""
    word = target.lower()
    found = names.find(word)
    key = word if found is None else found.model.id  # a drain by an alias is the model's
    those = [row for row in rows if _means(key, row)]
    if not those:
        raise KeyError(target)
    return key, those


def _means(target: str, row: Row) -> bool:
    endpoint = row.endpoint
    return target in (endpoint.id, endpoint.tag, endpoint.door, endpoint.provider, endpoint.model)
