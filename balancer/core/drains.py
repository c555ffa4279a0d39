"""Which endpoints the operator took out of service, by the names that the operator used.

Theory of operation: a drain is kept under its target and not under the endpoints that it meant then, so that an
endpoint which a reload adds to a drained provider is drained too. Every row is handed the drains that mean it.

A saved drain may come when the operator has spoken of its target already. So the last word on every target is
remembered, also where it was to resume: it is newer, and stands.

What this module does not know: who tells of a drain, and what follows from one (`row`, `eligibility`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from balancer.core.names import Names
from balancer.core.notes import Drain
from balancer.core.row import Row

TARGETS_MAX: Final = 10_000  # of which the last word is remembered; only a script speaks of more, over many reloads


class Drains:
    """The drains in force, and those that have ended since the last was begun. `kept` is by target."""

    __slots__ = ("_resumed", "kept")

    def __init__(self) -> None:
        self.kept: dict[str, Drain] = {}
        self._resumed: dict[str, bool] = {}  # whether the operator's last word was to resume it, the newest last

    def begin(self, drain: Drain, *, now: float) -> None:
        """Take note of a drain, in the place of another of the same target."""
        self.kept = {target: each for target, each in self.kept.items() if each.holds(now)}
        self.kept[drain.target] = drain
        self._speak(drain.target, resume=False)

    def end(self, target: str, *, now: float) -> bool:
        """Forget the drain of exactly this target; true if it held."""
        self._speak(target, resume=True)
        ended = self.kept.pop(target, None)
        return ended is not None and ended.holds(now)

    def restore(self, drain: Drain, *, now: float) -> None:
        """Take back a drain that was saved, unless it is over or the operator has spoken of its target here."""
        known = self.kept.get(drain.target)
        if drain.target not in self._resumed and drain.holds(now) and (known is None or not known.holds(now)):
            self.kept[drain.target] = drain

    def resumed(self, row: Row) -> bool:
        """Whether to resume was the operator's last word on something that means this row."""
        return any(resumed and _means(target, row) for target, resumed in self._resumed.items())

    def _speak(self, target: str, *, resume: bool) -> None:
        self._resumed.pop(target, None)
        self._resumed[target] = resume
        if len(self._resumed) > TARGETS_MAX:
            del self._resumed[next(iter(self._resumed))]

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
