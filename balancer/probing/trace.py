"""What one probe writes down about itself: how long each phase took, and a transcript without secrets.

Theory of operation: a probe is in at most one phase at a time, and entering one ends the one before, so a
timeout can always name the phase that it happened in. A phase that did not happen (a kept connection needs
no `connect`, only a stream has a `first_token`) is absent. When a request is sent again, the phases of the last try
replace the first's.

Everything that leaves a probe as text goes through `clean`, so that there is one place where the credential and
the secrets among the headers are removed, however they are spelled (`redaction`). A stream may say a secret in
words of a few letters: the transcript looks at what all of its events said together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final, Literal

from balancer.config.secret import Secret
from balancer.core.announcement import Level
from balancer.probing.redaction import BEGINNING_MAX, HIDDEN, Redaction, redaction

Phase = Literal["resolve", "connect", "tls", "request", "first_byte", "first_token", "transfer"]

LINES_MAX: Final = 200  # a models list or a short completion fits; more is not read by a person
LINE_MAX: Final = 500  # characters: a whole JSON chunk of a stream
BODY_MAX: Final = 2 * LINE_MAX  # bytes of a good body that are made fit for a line: every probe has one
CLEANED: Final = 10  # times as much text as is shown is made fit for it: there may be much white space in it
SNIPPET_MAX: Final = 200  # characters of an error body in an outcome: a message, not a page

# What a model says in an event, whichever dialect it is of: the text is looked at before it is understood.
_WORDS: Final = re.compile(
    r'"(?:content|text|thinking|reasoning(?:_content)?|arguments|partial_json)"\s*:\s*"((?:[^"\\]|\\.)*)'
)
_MORE_EVENTS: Final = re.compile(r"[\r\n]data:")


class Trace:
    """The notes of one probe. One that is not `transcribed` drops its lines: nobody will read them."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        credential: Secret | None,
        others: Iterable[Secret] = (),
        transcribed: bool = True,
    ) -> None:
        self._clock = clock
        self._secrets = (*others,) if credential is None else (credential, *others)
        self._transcribed = transcribed
        self._phases: dict[str, float] = {}
        self._entered = 0.0
        self._lines: list[str] = []
        self._said: list[tuple[int, str]] = []  # what a stream says: the number of its line, and the words there
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
        if not self._transcribed:
            return ()
        lines = list(self._lines)
        for number in self._telling():
            lines[number] = f"< {HIDDEN}"
        return tuple(lines)

    def enter(self, phase: Phase) -> None:
        """Begin a phase, ending the one before."""
        now = self._clock()
        self._end(now)
        self.phase = phase
        self._entered = now

    def rename(self, phase: Phase) -> None:
        """Call the present phase otherwise, from its beginning on."""
        if self.phase is not None:
            self.phase = phase

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
        if not self._transcribed:
            return
        if len(self._lines) < LINES_MAX - 1:
            self._lines.append(self.clean(line, LINE_MAX))
        elif len(self._lines) == LINES_MAX - 1:
            self._lines.append("* the rest is left out")

    def say_body(self, body: bytes) -> None:
        """Add the beginning of a body to the transcript, and how long the whole is."""
        if body and self._transcribed:
            self.say(f"< {body[:BODY_MAX].decode('utf-8', 'replace')}")
        self.say(f"< ({len(body)} bytes)")

    def say_event(self, data: str) -> None:
        """Add one event of a stream to the transcript."""
        if not self._transcribed:
            return
        near = self._redaction.length_max
        if near > 0 and len(self._lines) < LINES_MAX - 1:
            words = "".join(_WORDS.findall(data[: LINE_MAX * CLEANED]))
            # What stands further from both borders than a secret is long was looked at with its line.
            words = words if len(words) <= 2 * near else f"{words[:near]} {words[-near:]}"
            self._said.append((len(self._lines), words))
        self.say(f"< {data}")

    def clean(self, text: str, length_max: int) -> str:
        """Make text fit to show: no secret, one printable line, at most `length_max` characters."""
        if not text:
            return text
        # Of megabytes only the beginning is looked at, and as much more as tells a secret that begins there.
        seen = length_max * CLEANED
        text = _first_event(text[: seen + BEGINNING_MAX])
        line = " ".join(self.redacted(text)[:seen].split())
        if not line.isprintable():
            line = "".join(letter if letter.isprintable() else "?" for letter in line)
        return line if len(line) <= length_max else line[: length_max - 1] + "…"

    def redacted(self, text: str) -> str:
        """Replace the credential and other secrets by `***`, leaving the rest of the text as it is."""
        return self._redaction.of(text)

    @cached_property
    def _redaction(self) -> Redaction:
        return redaction(self._secrets)  # most good probes have no text at all

    def _telling(self) -> Iterator[int]:
        """The numbers of the lines of which the words are part of a secret that others go on with."""
        places = self._redaction.places("".join(words for _, words in self._said))
        began = 0
        for number, words in self._said:
            ended = began + len(words)
            if any(start < ended and end > began and (start < began or end > ended) for start, end in places):
                yield number
            began = ended

    def _end(self, now: float) -> None:
        if self.phase is not None:
            self._phases[self.phase] = now - self._entered


def _first_event(text: str) -> str:
    """Of a stream that is told in one piece, the first event: together they may say a secret in words."""
    begun = text.find("data:")
    more = None if begun < 0 else _MORE_EVENTS.search(text, begun)
    return text if more is None else f"{text[: more.start()]} (and more events)"
