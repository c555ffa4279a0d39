"""Lines about what clients do wrong: the first of each kind, and the number of the rest."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from balancer.http.complaints import LINES_MAX, SPAN, Complaints
from balancer.service.log import Log


class Lines:
    def __init__(self) -> None:
        self.facts: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **facts: Any) -> None:
        self.facts.append((event, facts))


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time is what the test says."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self.now = 100.0

    def time(self) -> float:
        return self.now


def run(work: Callable[[Loop, Complaints, Lines], None]) -> None:
    loop, lines = Loop(), Lines()

    async def inside() -> None:
        work(loop, Complaints(Log(lines)), lines)

    loop.run_until_complete(inside())
    loop.close()


def test_the_first_lines_of_a_minute_are_written_and_the_rest_is_counted() -> None:
    def work(loop: Loop, complaints: Complaints, lines: Lines) -> None:
        for number in range(LINES_MAX + 7):
            complaints.tell("request.refused", status=400, reason=f"no {number}")
        assert [facts["reason"] for _, facts in lines.facts] == [f"no {number}" for number in range(LINES_MAX)]
        loop.now += SPAN
        complaints.tell("request.refused", status=400, reason="again")
        assert lines.facts[-1] == ("request.refused", {"status": 400, "reason": "again", "left_out": 7})
        loop.now += SPAN
        complaints.tell("request.refused", status=400, reason="and again")
        assert lines.facts[-1] == ("request.refused", {"status": 400, "reason": "and again"})

    run(work)


def test_one_kind_does_not_hide_another() -> None:
    def work(_loop: Loop, complaints: Complaints, lines: Lines) -> None:
        for _ in range(LINES_MAX * 3):
            complaints.tell("request.refused", status=400)
        complaints.tell("request.refused", status=401)
        complaints.tell("connection.evicted", peer="a")
        assert lines.facts[LINES_MAX:] == [
            ("request.refused", {"status": 401}),
            ("connection.evicted", {"peer": "a"}),
        ]

    run(work)
