"""What is written down beside an endpoint for its operator: drains that hold, calls that failed.

What this module does not know: which endpoint it is, and what follows from a note.
"""

from __future__ import annotations

from dataclasses import dataclass

from balancer.core.model import Source
from balancer.core.outcome import Kind


@dataclass(frozen=True, slots=True)
class Drain:
    """The operator's word that a target gets no traffic. `until` is `None` for "until resumed"."""

    target: str
    reason: str
    since: float
    until: float | None

    def holds(self, now: float) -> bool:
        """Whether it still applies."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call, kept for the operator."""

    ended: float
    source: Source
    kind: Kind
    status: int | None
    detail: str
