"""Log lines about what clients do wrong: some of each kind a minute, and how many were left out.

Theory of operation: whoever reaches the API can make it complain as often as he likes, and lines are what fills
disks and hides others. So of each kind (an event and its status) the first of a minute are written; the others are
counted, and the next line that is written tells their number. Kinds are few, as our own words are.

What this module does not know: what any of it means, and lines about operators, which are never left out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal

from balancer.service.log import Log

SPAN: Final = 60.0  # s
LINES_MAX: Final = 20  # of a kind in a span: enough to see who it is


@dataclass(slots=True)
class _Span:
    """The lines of one kind since the first of them."""

    began: float
    lines: int = 0
    left_out: int = 0


class Complaints:
    """Writes lines, a bounded number."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._spans: dict[tuple[str, int | None], _Span] = {}

    def tell(
        self, event: str, *, status: int | None = None, level: Literal["info", "warning"] = "warning", **facts: Any
    ) -> None:
        """Write a line, or count it as left out."""
        now = asyncio.get_running_loop().time()
        kind = (event, status)
        span = self._spans.get(kind)
        left_out = 0
        if span is None or now - span.began >= SPAN:
            left_out = 0 if span is None else span.left_out
            span = self._spans[kind] = _Span(began=now)
        if span.lines >= LINES_MAX:
            span.left_out += 1
            return
        span.lines += 1
        told = {} if status is None else {"status": status}
        more = {"left_out": left_out} if left_out else {}
        write = self._log.info if level == "info" else self._log.warning
        write(event, **told, **facts, **more)
