"""Which failures are worth a line of the log: an outage of a day is a line now and then, not one a probe.

Theory of operation: of each place (an event of an endpoint or a lookout) the first failure of a kind in `SPAN` is
told. The same again is counted, and the number told with the next line; so are other kinds beyond a few, because
what a provider says may be different each time. A success in between changes nothing: who answers every second
probe would write as much as who answers none. What became of the endpoint is told by its transitions, which are
never left out.

What this module does not know: probes, and the clock.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

SPAN: Final = 600.0  # s; often enough for who reads the log of the last quarter of an hour
KINDS_MAX: Final = 5  # of a place in a span


@dataclass(slots=True)
class _Span:
    """The failures of one place since the first that was told."""

    began: float
    kinds: set[Hashable] = field(default_factory=set)
    left_out: int = 0


class Repeats:
    """What was told of every place lately. Units: seconds."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: dict[Hashable, _Span] = {}

    def count(self, place: Hashable, kind: Hashable, *, now: float) -> int | None:
        """Count a failure: how many were left out since the last line, or `None` where this one is left out too."""
        span = self._spans.get(place)
        if span is None or now - span.began >= SPAN:
            span = self._spans[place] = _Span(began=now, left_out=0 if span is None else span.left_out)
        if kind in span.kinds or len(span.kinds) == KINDS_MAX:
            span.left_out += 1
            return None
        span.kinds.add(kind)
        left_out, span.left_out = span.left_out, 0
        return left_out

    def clear(self) -> None:
        """Tell everything anew, as who has just mended something wants to see."""
        self._spans.clear()
