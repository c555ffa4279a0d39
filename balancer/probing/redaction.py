"""Secrets in text, and the text without them.

Theory of operation: a server may say what it was sent in any spelling: as it is, in other capitals (names of
headers are in small letters here), as a URL, JSON (also inside JSON), HTML, Python, hexadecimal or base64, which
looks different by what stands before it (`user:` in a Basic login). The whole spellings are looked for as texts,
which costs almost nothing and mostly finds nothing. Only where there is one, or a sign by which single letters are
spelled (`%`, a backslash, `&#`), a pattern goes over the text in which each letter may be spelled in each way.

A limit of ours may cut a spelling; so its beginning at the end of a text goes too.

What this module does not know: where the text goes.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

from balancer.config.secret import Secret

HIDDEN: Final = "***"
PART_MIN: Final = 8  # characters of a secret at the end of a text: fewer are words like `Bearer` or `sk-proj`
ENCODED_MIN: Final = 8  # characters of a secret whose base64 is looked for: that of fewer is found in any text
LETTER_MAX: Final = 10  # characters by which one letter is spelled; `\\\\u0041` and `&#x0041;` are 8
KNOWN_MAX: Final = (
    256  # sets of secrets that are remembered; whoever has more pays a tenth of a millisecond a probe
)

_SIGNS: Final = ("%", "\\", "&#")
_NAMED: Final = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


class Redaction:
    """What some secrets look like, all of them together."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        given = [secret.reveal() for secret in secrets]
        self._texts = _longest_first(text.lower() for whole in given for text in (whole, whole.strip()))
        self._spellings = _longest_first(spelling.lower() for text in given for spelling in _spellings(text))
        self._beginnings = {spelling[:PART_MIN] for spelling in self._spellings}
        self._pattern: re.Pattern[str] | None = None

    @property
    def length_max(self) -> int:
        """No spelling of any of the secrets is longer."""
        return LETTER_MAX * len(max(self._texts, key=len, default=""))

    def of(self, text: str) -> str:
        """Replace every secret by `***`, leaving the rest of the text as it is."""
        if not self._texts:
            return text
        plain = _lowered(text)
        if any(spelling in plain for spelling in self._spellings) or any(sign in plain for sign in _SIGNS):
            text = self._without(text, plain)
            plain = _lowered(text)
        kept = self._part(plain)
        return text if kept is None else f"{text[:kept]}{HIDDEN}"

    def _without(self, text: str, plain: str) -> str:
        if self._pattern is None:  # most probes never need one
            parts = [*map(_letters, self._texts), *map(re.escape, self._spellings)]
            self._pattern = re.compile("|".join(parts))
        pieces, ended = [], 0
        for found in self._pattern.finditer(plain):
            pieces += [text[ended : found.start()], HIDDEN]
            ended = found.end()
        return "".join([*pieces, text[ended:]])

    def _part(self, plain: str) -> int | None:
        """Where the beginning of a spelling starts that the text ends with; `None` where there is none."""
        tail = plain[-len(self._spellings[0]) :]
        if not any(beginning in tail for beginning in self._beginnings):
            return None
        for spelling in self._spellings:
            for length in range(len(spelling) - 1, PART_MIN - 1, -1):
                if tail.endswith(spelling[:length]):
                    return len(plain) - length
        return None


@lru_cache(maxsize=KNOWN_MAX)
def redaction(secrets: tuple[Secret, ...]) -> Redaction:
    """The redaction of some secrets, made once: those of a provider's endpoints are the same."""
    return Redaction(secrets)


def _longest_first(texts: Iterable[str]) -> list[str]:
    """Each once, and in an order in which none leaves a rest of another."""
    return sorted({text for text in texts if text}, key=lambda text: (-len(text), text))


def _lowered(text: str) -> str:
    """The text in small letters, each in its place: some of other alphabets become two."""
    plain = text.lower()
    if len(plain) == len(text):
        return plain
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _spellings(whole: str) -> Iterator[str]:
    for text in (whole, whole.strip()):
        yield text
        yield from (quote(text), quote(text, safe=""), quote_plus(text))
        yield from (json.dumps(text)[1:-1], text.replace("/", "\\/"), html.escape(text))
        data = text.encode()
        yield from (repr(text)[1:-1], repr(data)[2:-1])
        if len(text) >= ENCODED_MIN:
            yield data.hex()
            yield from (_base64(data, before) for before in range(3))
            yield from (_base64(data, before).replace("+", "-").replace("/", "_") for before in range(3))


def _base64(data: bytes, before: int) -> str:
    """The part of the base64 of `data` that is the same whatever stands around it; `before` bytes, modulo 3."""
    whole = b64encode(bytes(before) + data).decode()
    return whole[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]


def _letters(text: str) -> str:
    """A pattern of the text (in small letters) of which each letter may be spelled in each way."""
    return "".join(map(_letter, text))


def _letter(letter: str) -> str:
    code = ord(letter)
    ways = [re.escape(letter), rf"\\{{1,4}}{re.escape(letter)}"]
    # Of a capital, too: the text was made small, but not what its numbers mean.
    for number in sorted({code, ord(letter.upper()) if letter.isascii() else code}):
        encoded = "".join(f"%{byte:02x}" for byte in chr(number).encode())
        ways += [
            encoded,
            rf"\\{{1,4}}u{number:04x}",
            rf"\\{{1,4}}x{number:02x}",
            f"&#0?{number};",
            f"&#x0{{0,2}}{number:x};",
        ]
    if letter in _NAMED:
        ways.append(f"&{_NAMED[letter]};")
    return f"(?:{'|'.join(ways)})"
