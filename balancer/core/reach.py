"""Whether anything at all can be reached from here, by what the operator named for it.

Theory of operation: each target is asked again and again, and one that answers shows that the way out works. When
the last two checks of each have failed, the way does not, since the last answer of any. That is a better witness
than the providers' own failures: it speaks before five of them are counted, and where there is only one provider.
But where providers answer while no target does, it is the targets that are wrong (a firewall, a name that is gone),
and they say nothing more until one of them answers.

What this module does not know: how a target is asked, and what follows (`doubt`).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

CHECKS: Final = 2  # that fail in a row; one packet in fifty is lost on a bad day, and takes a check with it
LATELY: Final = 60.0  # s; as long as one answer speaks for the way out, if nothing speaks against it


class Unreached(NamedTuple):
    """No target answers. The newest check of each `began` then or later; any answered last at `since`."""

    began: float
    since: float
    reason: str


class Reach:
    """The last checks of each target. `answered` is when any did last, `refuted` whether only providers do."""

    def __init__(self) -> None:
        self._targets: frozenset[str] = frozenset()
        self._faults: dict[str, list[tuple[str, float]]] = {}
        self.answered = -inf
        self.refuted = False

    def retain(self, targets: Iterable[str]) -> bool:
        """Check these and no others; tell whether they are others than before, of which nothing is known."""
        wanted = frozenset(targets)
        if wanted == self._targets:
            return False
        self._targets = wanted
        self._faults.clear()
        self.answered, self.refuted = -inf, False
        return True

    def good(self, ended: float) -> None:
        """Take an answer of any target."""
        self._faults.clear()
        self.answered = max(self.answered, ended)
        self.refuted = False

    def online(self, now: float) -> bool:
        """Whether a target answered lately, and not each has failed since."""
        lately = now - self.answered < LATELY
        return lately and any(not self._faults.get(target) for target in self._targets)

    def failed(self, target: str, fault: str, *, began: float) -> Unreached | None:
        """Take a failed check; tell whether that was the last hope."""
        if target not in self._targets:
            return None
        faults = self._faults.setdefault(target, [])
        faults.append((fault, began))
        del faults[:-CHECKS]
        if self.refuted or any(len(self._faults.get(each, ())) < CHECKS for each in self._targets):
            return None
        newest = [found[-1] for found in self._faults.values()]
        first = min(found[0][1] for found in self._faults.values())
        kinds = ", ".join(sorted({kind for kind, _ in newest}))
        reason = f"the target of self_check does not answer ({kinds})"
        if len(self._targets) > 1:
            reason = f"none of the {len(self._targets)} targets of self_check answers ({kinds})"
        began = min(at for _, at in newest)
        return Unreached(began, first if self.answered == -inf else self.answered, reason)
