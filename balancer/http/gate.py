"""Everything that comes in, counted and bounded in one place: connections, bodies, and complaints about them.

What this module does not know: what any request asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from balancer.http.access import WHYS, Why
from balancer.http.bodies import Bodies
from balancer.http.complaints import Complaints
from balancer.http.crowd import Crowd
from balancer.http.limits import Limits, connections_max
from balancer.service.log import Log

Phase = Literal["first_byte", "header", "body", "answer"]
"""What a client takes its time for: the closed set behind the label `phase`."""
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


class Counts(NamedTuple):
    """What a scrape shows. Units: `body_bytes` in bytes. Shape: `timeouts` by `Phase`, `unauthorized` by `Why`."""

    connections: int
    evicted: int
    timeouts: Mapping[Phase, int]
    unauthorized: Mapping[Why, int]
    body_bytes: int
    bodies_refused: int


class Gate:
    """One for all sockets of a server."""

    def __init__(self, limits: Limits, log: Log) -> None:
        self.crowd: Final = Crowd(connections_max(limits))
        self.bodies: Final = Bodies(limits.bodies)
        self.complaints: Final = Complaints(log)
        self._timeouts: dict[Phase, int] = dict.fromkeys(PHASES, 0)
        self._unauthorized: dict[Why, int] = dict.fromkeys(WHYS, 0)

    def lost_patience(self, phase: Phase) -> None:
        """Count a client that took too long."""
        self._timeouts[phase] += 1

    def turned_away(self, why: Why) -> None:
        """Count a request of somebody who may not."""
        self._unauthorized[why] += 1

    def counts(self) -> Counts:
        """Everything counted so far."""
        return Counts(
            connections=len(self.crowd),
            evicted=self.crowd.evicted,
            timeouts=dict(self._timeouts),
            unauthorized=dict(self._unauthorized),
            body_bytes=self.bodies.used,
            bodies_refused=self.bodies.refused,
        )
