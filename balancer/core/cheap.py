"""What cheap probes of one endpoint say: enough to eject, never to readmit.

Theory of operation: a cheap probe (a list of models, a handshake) does no real work. That it fails says much, that
it succeeds little. Three failures of the last five eject; where nobody at all has answered us since the first of
those in a row our own network may be cut, and it takes all five. A failure postpones a trial that is due, for a
request there is likely lost, but not for ever: what is probed may be broken where the model works. If a trial
passes in spite of it, the cheap probe is refuted, and says nothing until it has succeeded itself.

What this module does not know: phases and holds (`health`).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

FAILURES: Final = 3  # kubelet's failureThreshold and HAProxy's fall …
LAST: Final = 5  # … of so many: a good probe between two bad ones is how a sick server looks, and no cure
FAILED_AGE: Final = 300.0  # s; a failed probe postpones trials no longer than this, lest probing stopped
VETO_MAX: Final = 900.0  # s from an ejection on; a list of models may be broken for ever where the models work

_ALL: Final = 2**LAST - 1


class Cheap:
    """The last cheap probes: `bits` has a one for each that failed, the newest lowest."""

    __slots__ = ("_failures", "_refuted", "bits", "failed_at")

    def __init__(self) -> None:
        self.bits = 0
        self.failed_at = -inf
        self._failures: deque[float] = deque()  # when each that is in `bits` came
        self._refuted = False

    # ---- changing ------------------------------------------------------------------------------------

    def restore(self, bits: int, failed_at: float) -> None:
        """Take back what a restart kept."""
        self.bits, self.failed_at = bits & _ALL, failed_at
        self._failures = deque([failed_at] * self.bits.bit_count())

    def record(self, good: bool, now: float, *, answered: float) -> str | None:
        """Take one; tell which failures eject, if they do. Shape: `answered` is when anybody last answered us."""
        if good:
            self._refuted = False
        elif self._refuted:
            return None
        self.bits = (self.bits << 1 | (not good)) & _ALL
        if not good:
            self._failures.append(now)
        while len(self._failures) > self.bits.bit_count():
            self._failures.popleft()
        if good:
            self.failed_at = -inf
            return None
        self.failed_at = now
        row = (self.bits ^ (self.bits + 1)).bit_length() - 1  # failures since the last good one
        needed = FAILURES if row == 1 or answered >= self._failures[-row] else LAST
        if self.bits.bit_count() < needed:
            return None
        in_a_row = self.bits & (2**needed - 1) == 2**needed - 1
        return f"{needed} probes failed in a row" if in_a_row else f"{needed} of the last {LAST} probes failed"

    def refute(self) -> None:
        """Believe no failure until the next success: real work succeeded while they failed."""
        self._refuted = self.failed_at > -inf
        self.failed_at = -inf

    def forgive(self, since: float = inf) -> None:
        """Count from nothing; the newest failure too is forgotten where it came after that."""
        self.bits = 0
        self._failures.clear()
        if self.failed_at >= since:
            self.failed_at = -inf

    # ---- reading -------------------------------------------------------------------------------------

    def vetoes(self, now: float, *, ejected: float) -> bool:
        """Whether a failure postpones a trial of an endpoint that was `ejected` then."""
        return now - self.failed_at < FAILED_AGE and now - ejected < VETO_MAX
