"""The state file: what was told, one part a line, behind two lines that say what it is and whether it is whole.

Theory of operation:

```
balancer-state 1 CHECKSUM          what it is, the version of this format, and blake2b of all that follows
{"saved": …, "boot": …, …}         when and by whom it was written, and how long the rest is
["table", {…}]                     the parts, each with the name of the section that it belongs to
```

The first line is judged by its letters and everything else by the checksum, so there is no byte whose loss or
change is not noticed; only then is anything decoded. Of a file that is not whole nothing is believed: half a table
is worse than none, since nobody can say what the other half would have answered.

Decoded a part takes ten times its room, and holds the interpreter. So that is done line by line, when and as often
as somebody asks for the next: no more than one line is decoded at a time.

The time away is exact as long as the machine was not started anew: the clock that counts from its start stands in
the file. Else the wall clocks tell, which may have been set back or have been years ahead meanwhile; but at least
as much time has passed as the machine is up.

What this module does not know: files, and what the parts mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Final

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder, Encoder

from balancer.core.kept import SPAN_MAX

VERSION: Final = 1
SIZE_MAX: Final = 128 * 1024**2  # bytes; as many sessions as are kept take 35 MB, and 20,000 endpoints 80 MB
PART_MAX: Final = 8 * 1024**2  # bytes; an endpoint takes 5 kB, and 8 MB of small lists 300 MB of memory
HEAD_MAX: Final = 1024  # bytes of the two lines in front
LONG: Final = 365 * 86_400.0  # s; who was away that long has more likely a clock that was wrong
DIGEST_SIZE: Final = 32  # bytes; two files with one checksum will not be met

_FIRST: Final = re.compile(rb"balancer-state (\d{1,9}) ([0-9a-f]{64})\n")


class StateFileError(ValueError):
    """What was found is no state that can be taken; the words say why, and repeat nothing of it."""


class Header(Struct, forbid_unknown_fields=True, kw_only=True):
    """When a file was written, by which process, and how long it is behind these lines.

    Units: `saved` in Unix seconds; `moment` in seconds of the clock that began with `boot`; bytes.
    """

    saved: Annotated[float, Meta(ge=-1e12, le=1e12)]
    moment: Annotated[float, Meta(ge=0, le=SPAN_MAX)]
    boot: Annotated[str, Meta(max_length=100)] | None
    writer: Annotated[str, Meta(max_length=100)]
    length: Annotated[int, Meta(ge=0, le=SIZE_MAX)]


@dataclass(frozen=True, slots=True)
class Away:
    """How many seconds passed since a file was written, and what is odd about the clocks; `None`: nothing."""

    seconds: float
    odd: str | None = None


_encoder: Final = Encoder()
_part: Final = Decoder(tuple[str, dict[str, Any]])
_header: Final = Decoder(Header)
_UNDECODABLE: Final = (DecodeError, UnicodeDecodeError, RecursionError, OverflowError)


def encoded(section: str, part: object) -> bytes:
    """One part as a line; letters that no UTF-8 can spell become question marks."""
    try:
        return _encoder.encode((section, part)) + b"\n"
    except UnicodeEncodeError:  # half a letter, out of somebody's JSON or header: no reason to lose all the rest
        return _encoder.encode((section, _spelled(part))) + b"\n"


def _spelled(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_spelled(key): _spelled(each) for key, each in value.items()}
    return [_spelled(each) for each in value] if isinstance(value, (list, tuple)) else value


def head(content: Iterable[bytes], *, saved: float, moment: float, boot: str | None, writer: str) -> bytes:
    """The two lines in front of a content, which is the lines of its parts in pieces of any length."""
    pieces = tuple(content)
    length = sum(map(len, pieces))
    second = _encoder.encode(Header(saved=saved, moment=moment, boot=boot, writer=writer, length=length)) + b"\n"
    checksum = blake2b(second, digest_size=DIGEST_SIZE)
    for piece in pieces:  # long ones are digested while other threads run
        checksum.update(piece)
    return b"balancer-state %d %s\n%s" % (VERSION, checksum.hexdigest().encode(), second)


class Lines:
    """The parts of a whole file with the names of their sections, decoded anew each time that they are asked for.

    Raises: StateFileError where one is not what we write, and nothing else.
    """

    def __init__(self, data: bytes, begin: int) -> None:
        self._data = data
        self._begin = begin

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        data, at, view = self._data, self._begin, memoryview(self._data)
        while at < len(data):
            end = data.find(b"\n", at)
            if end < 0:
                raise StateFileError("it is whole, and its last line has no end")
            if end - at > PART_MAX:
                raise StateFileError(f"it is whole, and a line of it is longer than {PART_MAX} bytes")
            try:
                part = _part.decode(view[at:end])
            except _UNDECODABLE as error:
                raise StateFileError(f"it is whole, and not what we write: {error}") from None
            yield part
            at = end + 1


def judged(data: bytes) -> tuple[Header, Lines]:
    """Take a whole file: its header, and its parts, of which nothing is known yet. Raises: StateFileError."""
    first = _FIRST.match(data)
    if first is None:
        raise StateFileError("it is empty" if not data else "it is no state file, or its beginning is lost")
    version = int(first[1])
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise StateFileError(f"it is of {age} balancer: format {version}, and {VERSION} is known here")
    view = memoryview(data)
    if blake2b(view[first.end() :], digest_size=DIGEST_SIZE).hexdigest().encode() != first[2]:
        raise StateFileError("its checksum is wrong: it was cut, or something in it was changed")
    end = data.find(b"\n", first.end(), first.end() + HEAD_MAX)
    try:
        header = _header.decode(view[first.end() : end] if end >= 0 else b"")
    except _UNDECODABLE as error:
        raise StateFileError(f"it is whole, and not what we write: {error}") from None
    length = len(data) - end - 1
    if header.length != length:
        raise StateFileError(f"it is whole, and says {header.length} bytes where {length} are")
    return header, Lines(data, end + 1)


def away(header: Header, *, wall: float, moment: float, boot: str | None) -> Away:
    """How long ago a file was written, by the clocks of now."""
    known = boot is not None and header.boot is not None
    if known and header.boot == boot and moment >= header.moment:
        return Away(moment - header.moment)
    least = moment if known and header.boot != boot else 0.0
    passed = wall - header.saved
    odd = None
    if passed < 0:
        odd = f"the wall clock is {-passed:.0f} s behind the one that the file was written by"
    elif passed > LONG:
        odd = f"the wall clock is {passed / 86_400:.0f} days ahead of the one that the file was written by"
    return Away(min(max(passed, least), SPAN_MAX), odd)
