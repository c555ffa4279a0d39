"""The live table: what is true of each provider, beside what the daemon thinks of it.

Theory of operation: `table` and `line` are pure: ledger in, text out. On a terminal `Painter` draws the table again
over itself: it moves the cursor up by as many lines as it drew, and clears each line to its end. No alternate
screen, no scrolling region: that survives tmux, a resize and an early end. Elsewhere a line is written every few
seconds. No line is wider than the terminal, so none ever wraps and the count of lines stays true.

What this module does not know: how the numbers were made, and when to draw.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

from balancer.demo.ledger import INELIGIBLE, Ledger

WIDTH_MIN: Final = 80  # columns; narrower terminals see the lines cut
GREEN: Final = "\x1b[32m"
YELLOW: Final = "\x1b[33m"
RED: Final = "\x1b[31m"
BOLD: Final = "\x1b[1m"
PLAIN: Final = "\x1b[0m"

_COLUMNS: Final = "{:<9}{:<12}{:<11.10}{:>4}{:>6}  {:>5}{:>5}  {:>5}{:>5}  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What one drawing needs besides the ledger. Units: seconds."""

    now: float
    duration: float
    api: str
    model: str
    seed: int


def table(ledger: Ledger, frame: Frame, *, width: int, colour: bool) -> list[str]:
    """The whole screen as lines, none longer than `width`; the escape sequences of colours do not count."""
    left = max(0.0, frame.duration - frame.now)
    truth = {spell.provider: spell for spell in ledger.spells if spell.end is None}
    shares = ledger.shares(now=frame.now)
    balanced, blind = ledger.scores["balanced"], ledger.scores["round_robin"]
    lines = [
        _cut(f"balancer demo   API {frame.api}   seed {frame.seed}   {left:.0f} s left", width),
        "",
        _cut(" " * 36 + "  LAST    BALANCED ROUND-ROBIN", width),
        _styled(
            _cut(
                _COLUMNS.format("PROVIDER", "TRUTH", "OPINION", "EST", "5 s", "TRIES", "BAD", "TRIES", "BAD")
                + "WHY",
                width,
            ),
            BOLD,
            colour,
        ),
    ]
    for key in ledger.providers:
        spell = truth.get(key)
        told = "well" if spell is None else f"{spell.kind} {frame.now - spell.start:.0f}s"
        opinion = ledger.opinions.get(key)
        text = _cut(
            _COLUMNS.format(
                key,
                told,
                "?" if opinion is None else opinion.state,
                _estimate(ledger, key),
                f"{shares[key]:.0%}",
                balanced.first_tries[key],
                balanced.failed_tries[key],
                blind.first_tries[key],
                blind.failed_tries[key],
            )
            + _why(ledger, key),
            width,
        )
        lines.append(
            _styled(
                text, _colour_of(ill=spell is not None, state=None if opinion is None else opinion.state), colour
            )
        )
    lines += [
        "",
        *(_cut(text, width) for text in totals(ledger)),
        "",
        _cut(f"try: curl '{frame.api}/v1/best-provider?model={frame.model}'", width),
    ]
    return lines


def totals(ledger: Ledger) -> list[str]:
    """What reached the clients so far, both ways."""
    balanced, blind = ledger.scores["balanced"], ledger.scores["round_robin"]
    return [
        f"lost after two tries   balanced {balanced.lost} of {balanced.requests}   round-robin {blind.lost}",
        f"first tries that failed   balanced {balanced.first_errors}   round-robin {blind.first_errors}",
    ]


def line(ledger: Ledger, frame: Frame) -> str:
    """The same in one line, for a log or a pipe."""
    balanced, blind = ledger.scores["balanced"], ledger.scores["round_robin"]
    ill = [
        f"{spell.provider} {spell.kind} ({_state(ledger, spell.provider)})"
        for spell in ledger.spells
        if spell.end is None
    ]
    away = [
        f"{key} well ({_state(ledger, key)})"
        for key in ledger.providers
        if _state(ledger, key) in INELIGIBLE and not any(text.startswith(f"{key} ") for text in ill)
    ]
    return (
        f"{frame.now:5.0f} s  lost {balanced.lost} of {balanced.requests}, round-robin {blind.lost}"
        f"  {', '.join(ill + away) if ill or away else 'all well'}"
    )


def closing(summary: Mapping[str, Any]) -> list[str]:
    """The summary for people."""
    lines = [
        "",
        f"{summary['requests']} requests each way in {summary['duration']:.0f} s, seed {summary['seed']}",
        f"{'':<26}{'balanced':>10}{'round-robin':>14}",
        _pair("lost after two tries", summary["client_errors"], summary["round_robin_client_errors"]),
        _pair("first tries that failed", summary["first_try_errors"], summary["round_robin_first_try_errors"]),
        "",
        f"{'PROVIDER':<9}{'SHARE':>6}  {'FAULT':<8}{'FROM':>7}{'TO':>8}   {'OUT OF FIRST PLACE':<20}ELIGIBLE AGAIN",
    ]
    for provider in summary["providers"]:
        start = f"{provider['id']:<9}{provider['share']:>6.0%}  "
        for fault in provider["faults"]:
            lines.append(
                f"{start}{fault['kind']:<8}{_seconds(fault['start']):>7}{_seconds(fault['end']):>8}"
                f"   {_found(fault['detected_after']):<20}{_back(fault)}"
            )
            start = " " * len(start)
        if not provider["faults"]:
            lines.append(f"{start}none")
    return lines


class Painter:
    """Writes tables over each other on a terminal, and lines elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.live = out.isatty()
        self._drawn = 0

    def paint(self, ledger: Ledger, frame: Frame) -> None:
        if not self.live:
            self._out.write(line(ledger, frame) + "\n")
            self._out.flush()
            return
        size = shutil.get_terminal_size()
        # The last column and the last row stay free: writing there makes some terminals wrap or scroll.
        lines = table(ledger, frame, width=size.columns - 1, colour=True)[: max(1, size.lines - 1)]
        up = f"\x1b[{self._drawn}A" if self._drawn > 0 else "\x1b[?25l"
        self._out.write(up + "\r" + "".join(f"{text}\x1b[K\n" for text in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """Give the cursor back."""
        if self._drawn > 0:
            self._out.write("\x1b[?25h")
            self._out.flush()
            self._drawn = 0


def _why(ledger: Ledger, key: str) -> str:
    opinion = ledger.opinions.get(key)
    if opinion is None:
        return ""
    if opinion.next is None:
        return opinion.reason
    when = "" if opinion.next_in is None or opinion.next_in < 0.5 else f" in {opinion.next_in:.0f} s"
    return f"{opinion.reason}; {opinion.next}{when}"


def _estimate(ledger: Ledger, key: str) -> str:
    """The daemon's estimate of success: it moves the first place before the state does."""
    opinion = ledger.opinions.get(key)
    return "" if opinion is None or opinion.estimate is None else f"{opinion.estimate:.0%}"


def _state(ledger: Ledger, key: str) -> str:
    opinion = ledger.opinions.get(key)
    return "?" if opinion is None else opinion.state


def _colour_of(*, ill: bool, state: str | None) -> str | None:
    """Red: ill and trusted. Yellow: ill and known, or well and not yet back. Green: well and trusted."""
    trusted = state is not None and state not in INELIGIBLE
    if ill:
        return RED if trusted else YELLOW
    return GREEN if trusted else YELLOW


def _styled(text: str, style: str | None, colour: bool) -> str:
    return f"{style}{text}{PLAIN}" if colour and style is not None else text


def _cut(text: str, width: int) -> str:
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= width else clean[: max(0, width - 1)] + "…"


def _pair(what: str, balanced: int, blind: int) -> str:
    return f"{what:<26}{balanced:>10}{blind:>14}"


def _seconds(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f} s"


def _found(value: float | None) -> str:
    if value is None:
        return "not while it lasted"
    return "was not in it" if value == 0 else f"after {value:.2f} s"


def _back(fault: Mapping[str, Any]) -> str:
    value = fault["returned_after"]
    if value is None:
        return "not by the end"
    return "was not out" if value == 0 else f"after {value:.1f} s"
