"""The table on a terminal and the lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from balancer.demo.ledger import Ledger, Opinion
from balancer.demo.screen import Frame, Painter, closing, line, table
from balancer.demo.summary import summarise
from balancer.demo.timetable import Fault

FRAME = Frame(now=12.0, duration=60.0, api="http://127.0.0.1:8790", model="demo/llama-70b", seed=7)
FAULT = Fault(provider="alpine", kind="refuse", start=8.0, end=20.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ledger() -> Ledger:
    made = Ledger(("alpine", "boreal"))
    made.began(FAULT, at=8.0)
    made.saw(
        "alpine",
        Opinion(state="ejected", reason="5 failures in a row (connect)", next="trial", next_in=4.2),
        at=9.0,
    )
    made.saw("boreal", Opinion(state="healthy", reason="", estimate=0.984), at=9.0)
    for at in range(8, 12):
        made.decided(provider="boreal", trial=False, at=float(at))
    made.tried("balanced", provider="boreal", attempt=1, ok=True)
    made.finished("balanced", first_ok=True, ok=True)
    made.tried("round_robin", provider="alpine", attempt=1, ok=False)
    made.finished("round_robin", first_ok=False, ok=False)
    return made


def test_the_truth_stands_beside_the_opinion() -> None:
    lines = table(ledger(), FRAME, width=120, colour=False)
    alpine = next(text for text in lines if text.startswith("alpine"))
    boreal = next(text for text in lines if text.startswith("boreal"))
    assert alpine.split()[:4] == ["alpine", "refuse", "4s", "ejected"]
    assert boreal.split()[4] == "100%"
    assert alpine.endswith("5 failures in a row (connect); trial in 4 s")
    assert boreal.split()[:4] == ["boreal", "well", "healthy", "98%"]


def test_address_time_left_and_both_ways_are_shown() -> None:
    text = "\n".join(table(ledger(), FRAME, width=120, colour=False))
    assert "http://127.0.0.1:8790" in text
    assert "48 s left" in text
    assert "balanced 0 of 1   round-robin 1" in text


@pytest.mark.parametrize("width", [10, 79, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    made = ledger()
    made.saw("boreal", Opinion(state="misconfigured", reason="x" * 500), at=10.0)
    assert max(len(text) for text in table(made, FRAME, width=width, colour=False)) <= width
    coloured = table(made, FRAME, width=width, colour=True)
    assert max(len(re.sub(r"\x1b\[[0-9]*m", "", text)) for text in coloured) <= width


def test_at_eighty_columns_all_numbers_and_the_start_of_the_reason_are_there() -> None:
    lines = table(ledger(), FRAME, width=79, colour=False)
    assert "WHY" in lines[3]
    assert "5 fai" in next(text for text in lines if text.startswith("alpine"))


def test_an_escape_sequence_in_a_reason_never_reaches_the_terminal() -> None:
    made = ledger()
    made.saw("boreal", Opinion(state="ejected", reason="bad\x1b[2J\nnews"), at=10.0)
    text = "\n".join(table(made, FRAME, width=120, colour=False))
    assert "\x1b" not in text
    assert "bad?[2J?news" in text


def test_before_the_first_look_the_opinion_is_unknown() -> None:
    lines = table(Ledger(("alpine",)), FRAME, width=80, colour=False)
    assert next(text for text in lines if text.startswith("alpine")).split()[:3] == ["alpine", "well", "?"]


def test_colour_says_who_is_ill_and_trusted() -> None:
    made = ledger()
    made.saw("alpine", Opinion(state="healthy", reason=""), at=10.0)
    lines = table(made, FRAME, width=80, colour=True)
    assert any(text.startswith("\x1b[31malpine") for text in lines)
    assert any(text.startswith("\x1b[32mboreal") for text in lines)


def test_a_line_tells_who_is_ill_and_who_is_not_yet_back() -> None:
    made = ledger()
    assert line(made, FRAME) == "   12 s  lost 0 of 1, round-robin 1  alpine refuse (ejected)"
    made.ended(FAULT, at=12.0)
    assert line(made, FRAME).endswith("alpine well (ejected)")
    made.saw("alpine", Opinion(state="recovering", reason=""), at=13.0)
    assert line(made, FRAME).endswith("all well")


def test_elsewhere_than_on_a_terminal_there_are_lines_without_escapes() -> None:
    out = io.StringIO()
    painter = Painter(out)
    painter.paint(ledger(), FRAME)
    painter.paint(ledger(), FRAME)
    painter.close()
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") == 2


def test_a_terminal_is_redrawn_in_place_and_gets_its_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out = Terminal()
    painter = Painter(out)
    painter.paint(ledger(), FRAME)
    drawn = out.getvalue().count("\n")
    painter.paint(ledger(), FRAME)
    painter.close()
    assert f"\x1b[{drawn}A\r" in out.getvalue()
    assert out.getvalue().startswith("\x1b[?25l")
    assert out.getvalue().endswith("\x1b[?25h")


def test_a_low_terminal_is_never_scrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "6")
    out = Terminal()
    Painter(out).paint(ledger(), FRAME)
    assert out.getvalue().count("\n") == 5


def test_the_end_says_what_was_found_for_every_fault() -> None:
    made = ledger()
    made.ended(FAULT, at=20.0)
    made.saw("alpine", Opinion(state="healthy", reason=""), at=23.5)
    lines = closing(summarise(made, duration=60.0, seed=7))
    assert max(len(each) for each in lines) < 80
    text = "\n".join(lines)
    assert "1 requests each way in 60 s, seed 7" in text
    assert re.search(r"lost after two tries +0 +1$", text, re.MULTILINE)
    assert re.search(r"alpine +0%  refuse +8\.0 s +20\.0 s +was not in it +after 3\.5 s$", text, re.MULTILINE)
    assert re.search(r"boreal +100%  none$", text, re.MULTILINE)
