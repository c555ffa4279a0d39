"""Secrets in text, and the text without them.

Theory of operation: a server may say what it was sent in any spelling: as it is, in other capitals (names of
headers are in small letters here), as a URL, JSON (also inside JSON), HTML, Python, hexadecimal or base64, which
looks different by what stands before it (`user:` in a Basic login). It may break it into lines, and it may say only
the beginning or the end of it. So text and secrets are compared in a normal form: each spelled letter is the letter
that it means, in small letters, and white space, quotes and backslashes are left out. Wherever `PART_MIN` letters
stand with which a secret begins or ends, they go, and with them all that follows as the secret does.

Most texts hold nothing of it. That is found out without knowing where a letter of the normal form stood; only a
text that holds something is read letter by letter.

What this module does not know: where the text goes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from balancer.config.secret import Secret

HIDDEN: Final = "***"
PART_MIN: Final = 8  # letters with which a secret begins or ends: fewer are words like `Bearer` or `sk-proj`
ENCODED_MIN: Final = 8  # characters of a secret whose base64 is looked for: that of fewer is found in any text
LETTER_MAX: Final = 10  # characters by which one letter is spelled; `\\\\u0041` and `&#x0041;` are 8
BEGINNING_MAX: Final = PART_MIN * LETTER_MAX  # characters of a secret by which it is known
KNOWN_MAX: Final = 256  # sets of secrets that are remembered; whoever has more pays a few microseconds a probe

# Each alternative eats every backslash, `25` or `amp;` at once, so that no text takes longer than its length.
_SPELLED: Final = re.compile(
    r"\\+(?:u(?P<unit>[0-9a-f]{4})|x(?P<byte>[0-9a-f]{2})|[nrt])?"
    r"|%(?:25)*(?P<url>[0-9a-f]{2})"
    r"|&(?:amp;)*(?:#0{0,8}(?P<decimal>[0-9]{1,7});|#x0{0,8}(?P<hexadecimal>[0-9a-f]{1,5});"
    r"|(?P<name>amp|lt|gt|quot|apos|nbsp);)"
)
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": "", "apos": "", "nbsp": ""}
# What may stand between two letters of a secret that was wrapped, quoted or sent in 16 bits a letter.
_LEFT_OUT: Final = dict.fromkeys([*range(0x21), 0x7F, *map(ord, "\"'\\")])


class Redaction:
    """What some secrets look like, all of them together."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        given = [secret.reveal() for secret in secrets]
        forms = {_normal(_lowered(form)) for text in given for form in _forms(text)}
        self._forms = sorted(form for form in forms if form)
        self._edges = sorted({edge for form in self._forms for edge in (form[:PART_MIN], form[-PART_MIN:])})
        self._longest = max(map(len, given), default=0)

    @property
    def length_max(self) -> int:
        """No spelling of any of the secrets is longer, unless it is broken into pieces."""
        return LETTER_MAX * self._longest

    def of(self, text: str) -> str:
        """Replace every secret by `***`, leaving the rest of the text as it is."""
        pieces, ended = [], 0
        for start, end in self.places(text):
            pieces += [text[ended:start], HIDDEN]
            ended = end
        return "".join([*pieces, text[ended:]]) if pieces else text

    def places(self, text: str) -> list[tuple[int, int]]:
        """Find where secrets, or their beginnings and ends, stand: start and end of each place, in order."""
        plain = _lowered(text)
        normal = _normal(plain)
        for edge in self._edges:  # most texts end here, and a generator would take twice the time
            if edge in normal:
                break
        else:
            return []
        found = sorted(place for form in self._forms for place in _found(form, normal))
        letters = _letters(plain)
        places: list[tuple[int, int]] = []
        for first, last in found:
            start, end = letters[first][0], letters[last - 1][1]
            if places and start <= places[-1][1]:
                start, end = places[-1][0], max(end, places.pop()[1])
            places.append((start, end))
        return places


@lru_cache(maxsize=KNOWN_MAX)
def redaction(secrets: tuple[Secret, ...]) -> Redaction:
    """The redaction of some secrets, made once: those of a provider's endpoints are the same."""
    return Redaction(secrets)


def _found(form: str, text: str) -> Iterator[tuple[int, int]]:
    """Where a secret begins or ends in a text, both in normal form, with as much of it as stands there."""
    first, last = form[:PART_MIN], form[-PART_MIN:]
    ended = 0
    while (start := text.find(first, ended)) >= 0:
        ended = start + _alike(form, text[start : start + len(form)])
        yield start, ended
    backwards, ended = form[::-1], 0
    while (start := text.find(last, ended)) >= 0:
        # No further back than the end before: what is repeated must not be read again and again.
        before, ended = ended, start + len(last)
        piece = text[max(before, ended - len(form)) : ended]
        yield ended - _alike(backwards, piece[::-1]), ended


def _alike(one: str, other: str) -> int:
    """How many letters two texts have in common from their beginnings on."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)


def _lowered(text: str) -> str:
    """The text in small letters, each in its place: some of other alphabets become two."""
    plain = text.lower()
    if len(plain) == len(text):
        return plain
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _normal(plain: str) -> str:
    """The normal form of a text in small letters; letters beyond ASCII are those of their bytes."""
    if not plain.isascii():
        plain = plain.encode("utf-8", "replace").decode("latin-1")
    if "%" in plain or "\\" in plain or "&" in plain:
        plain = _SPELLED.sub(_meant, plain)
    return plain.translate(_LEFT_OUT)


def _letters(plain: str) -> list[tuple[int, int]]:
    """Where each letter of the normal form stood in the text: its start and its end."""
    letters: list[tuple[int, int]] = []
    ended = 0
    for spelled in _SPELLED.finditer(plain):
        letters += _unspelled(plain, ended, spelled.start())
        letters += [spelled.span()] * len(_normal(spelled.group()))
        ended = spelled.end()
    return [*letters, *_unspelled(plain, ended, len(plain))]


def _unspelled(plain: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where each letter of the normal form stands in a piece of text that spells none."""
    piece = plain[start:end]
    if piece.isascii():
        return [(at, at + 1) for at, letter in enumerate(piece, start) if ord(letter) not in _LEFT_OUT]
    return [(at, at + 1) for at, letter in enumerate(piece, start) for _ in _normal(letter)]


def _meant(spelled: re.Match[str]) -> str:
    byte = spelled["byte"] if spelled["url"] is None else spelled["url"]
    if byte is not None:
        return chr(int(byte, 16)).lower() if int(byte, 16) < 0x80 else chr(int(byte, 16))
    if spelled["name"] is not None:
        return _NAMED[spelled["name"]]
    number = spelled["unit"] if spelled["hexadecimal"] is None else spelled["hexadecimal"]
    if number is None and spelled["decimal"] is None:
        return ""
    code = int(spelled["decimal"]) if number is None else int(number, 16)
    return chr(code).lower().encode("utf-8", "replace").decode("latin-1") if code <= 0x10FFFF else ""


def _forms(whole: str) -> Iterator[str]:
    """The spellings that are not read letter by letter."""
    for text in {whole, whole.strip()}:
        yield text
        yield text.replace(" ", "+")  # in forms of the web
        if len(text) >= ENCODED_MIN:
            data = text.encode()
            yield data.hex()
            yield from (_base64(data, before) for before in range(3))
            yield from (_base64(data, before).replace("+", "-").replace("/", "_") for before in range(3))


def _base64(data: bytes, before: int) -> str:
    """The part of the base64 of `data` that is the same whatever stands around it; `before` bytes, modulo 3."""
    whole = b64encode(bytes(before) + data).decode()
    return whole[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
