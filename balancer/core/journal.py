"""What changed, in order and numbered, as far back as is remembered.

Readers that reconnect ask for everything after the last number they saw, so nothing is queued per reader.

What this module does not know: who reads.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from balancer.core.model import State, Transition

TRANSITIONS_MAX: Final = 1000  # remembered for readers that reconnect; four an endpoint where those are more


class Journal:
    """The last transitions."""

    def __init__(self) -> None:
        self._kept: deque[Transition] = deque(maxlen=TRANSITIONS_MAX)
        self._number = 0

    def make_room(self, endpoints: int) -> None:
        """One reload may tell two things of every endpoint that comes, and one of others that go or stay."""
        remembered = max(TRANSITIONS_MAX, 4 * endpoints)
        if remembered != self._kept.maxlen:
            self._kept = deque(self._kept, maxlen=remembered)

    def tell(
        self,
        now: float,
        event: str,
        reason: str,
        *,
        endpoint: str | None = None,
        model: str | None = None,
        reporter: str | None = None,
        provider: str | None = None,
        state: State | None = None,
        next_at: float | None = None,
        enforced: bool = True,
    ) -> None:
        """Add one."""
        self._number += 1
        self._kept.append(
            Transition(
                number=self._number,
                now=now,
                event=event,
                endpoint=endpoint,
                model=model,
                reporter=reporter,
                provider=provider,
                state=state,
                reason=reason,
                next_at=next_at,
                enforced=enforced,
            )
        )

    def after(self, number: int) -> list[Transition]:
        """Those with a higher number, oldest first."""
        if number >= self._number:
            return []
        # Numbers are in order and the kept ones without a gap: the newer ones are the last of them.
        newer = min(self._number - number, len(self._kept))
        return [*islice(reversed(self._kept), newer)][::-1]
