"""What one probe writes down about itself: how long each phase took, and a transcript without secrets.

Theory of operation: a probe is in at most one phase at a time, and entering one ends the one before, so a
timeout can always name the phase that it happened in. A phase that did not happen (a kept connection needs
no `connect`) is absent. When a request is sent again, the phases of the last try replace the first's.

Everything that leaves a probe as text goes through `clean`, so that there is one place where the credential and
the secrets among the headers are removed, however they are spelled (`redaction`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

from balancer.config.secret import Secret
from balancer.core.announcement import Level
from balancer.probing.redaction import redaction

Phase = Literal["resolve", "connect", "tls", "first_byte", "transfer"]

LINES_MAX: Final = 200  # a models list or a short completion fits; more is not read by a person
LINE_MAX: Final = 500  # characters: a whole JSON chunk of a stream
CLEANED: Final = 10  # times as much text as is shown is made fit for it: there may be much white space in it
SNIPPET_MAX: Final = 200  # characters of an error body in an outcome: a message, not a page


class Trace:
    """The notes of one probe."""

    def __init__(
        self, *, clock: Callable[[], float], credential: Secret | None, others: Iterable[Secret] = ()
    ) -> None:
        self._clock = clock
        self._redaction = redaction((*others,) if credential is None else (credential, *others))
        self._phases: dict[str, float] = {}
        self._entered = 0.0
        self._lines: list[str] = []
        self.phase: Phase | None = None
        self.address: str | None = None
        self.proxy: str | None = None  # while we connect to it
        self.unresolved: Literal["dns", "local"] | None = None  # whose fault a lookup is that nobody waits for
        self.certificate_expires: float | None = None  # Unix time
        self.announced: tuple[Level, str] | None = None  # what a status page says, and its words

    @property
    def phases(self) -> Mapping[str, float]:
        """Units: seconds by phase, of the phases that have ended."""
        return dict(self._phases)

    @property
    def transcript(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def enter(self, phase: Phase) -> None:
        """Begin a phase, ending the one before."""
        now = self._clock()
        self._end(now)
        self.phase = phase
        self._entered = now

    def leave(self) -> None:
        """End the present phase, if there is one."""
        self._end(self._clock())
        self.phase = None

    def restart(self) -> None:
        """Forget the phases so far: a fresh connection is about to be measured instead of a dead one."""
        self._phases.clear()
        self.phase = None

    def say(self, line: str) -> None:
        """Add one line to the transcript; past the limit lines are dropped, and the last one says so."""
        if len(self._lines) < LINES_MAX - 1:
            self._lines.append(self.clean(line, LINE_MAX))
        elif len(self._lines) == LINES_MAX - 1:
            self._lines.append("* the rest is left out")

    def clean(self, text: str, length_max: int) -> str:
        """Make text fit to show: no secret, one printable line, at most `length_max` characters."""
        # Of megabytes only the beginning is looked at, and a secret that begins there to its end.
        seen = length_max * CLEANED
        line = " ".join(self.redacted(text[: seen + self._redaction.length_max])[:seen].split())
        line = "".join(letter if letter.isprintable() else "?" for letter in line)
        return line if len(line) <= length_max else line[: length_max - 1] + "…"

    def redacted(self, text: str) -> str:
        """Replace the credential and other secrets by `***`, leaving the rest of the text as it is."""
        return self._redaction.of(text)

    def _end(self, now: float) -> None:
        if self.phase is not None:
            self._phases[self.phase] = now - self._entered
