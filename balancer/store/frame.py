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

The time away is exact as long as the machine was not started anew: the clock that counts from its start stands in
the file. Else the wall clocks tell, which may have been set back or have been years ahead meanwhile; but at least
as much time has passed as the machine is up.

What this module does not know: files, and what the parts mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Final

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder, Encoder

from balancer.core.kept import SPAN_MAX

VERSION: Final = 1
SIZE_MAX: Final = 256 * 1024**2  # bytes; 2,000 endpoints and 100,000 sessions take 20 MB
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


def judged(data: bytes) -> tuple[Header, dict[str, list[dict[str, Any]]]]:
    """Take a whole file: its header, and the parts of each section. Raises: StateFileError, and nothing else."""
    first = _FIRST.match(data)
    if first is None:
        raise StateFileError("it is empty" if not data else "it is no state file, or its beginning is lost")
    version = int(first[1])
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise StateFileError(f"it is of {age} balancer: format {version}, and {VERSION} is known here")
    rest = memoryview(data)[first.end() :]
    if blake2b(rest, digest_size=DIGEST_SIZE).hexdigest().encode() != first[2]:
        raise StateFileError("its checksum is wrong: it was cut, or something in it was changed")
    second, _, content = bytes(rest).partition(b"\n")
    try:
        header = _header.decode(second)
        sections: dict[str, list[dict[str, Any]]] = {}
        for line in content.split(b"\n")[:-1]:
            section, part = _part.decode(line)
            sections.setdefault(section, []).append(part)
    except (DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise StateFileError(f"it is whole, and not what we write: {error}") from None
    if header.length != len(content) or content[-1:] not in (b"\n", b""):
        raise StateFileError(f"it is whole, and says {header.length} bytes where {len(content)} are")
    return header, sections


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
