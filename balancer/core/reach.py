"""Whether anything at all can be reached from here, by what the operator named for it.

Theory of operation: each target is asked again and again, and one that answers shows that the way out works. When
the newest check of each has failed, the way does not, since the last answer of any. That is a better witness than
the providers' own failures: it speaks before five of them are counted, and where there is only one provider. But
where providers answer while no target does, it is the targets that are wrong (a firewall, a name that is gone), and
they say nothing more until one of them answers.

What this module does not know: how a target is asked, and what follows (`doubt`).
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import NamedTuple


class Unreached(NamedTuple):
    """No target answered in its newest check. The first of these `began` then, the last answer ended at `since`."""

    began: float
    since: float
    reason: str


class Reach:
    """The newest check of each target. `refuted` is whether providers answered while no target did."""

    def __init__(self) -> None:
        self._faults: dict[str, tuple[str, float]] = {}
        self._answered = -inf
        self.refuted = False

    def answered(self, ended: float) -> None:
        """Take an answer of any target."""
        self._faults.clear()
        self._answered = max(self._answered, ended)
        self.refuted = False

    def failed(self, target: str, fault: str, targets: Collection[str], *, began: float) -> Unreached | None:
        """Take a failed check; tell whether that was the last hope among the `targets` of the configuration."""
        self._faults[target] = fault, began
        self._faults = {key: found for key, found in self._faults.items() if key in targets}
        if self.refuted or len(self._faults) < len(targets):
            return None
        first = min(at for _, at in self._faults.values())
        kinds = ", ".join(sorted({kind for kind, _ in self._faults.values()}))
        of = "the target" if len(targets) == 1 else f"none of the {len(targets)} targets"
        reason = f"{of} of self_check {'does not answer' if len(targets) == 1 else 'answers'} ({kinds})"
        return Unreached(first, first if self._answered == -inf else self._answered, reason)
