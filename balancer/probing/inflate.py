"""Compressed bodies, piece by piece: gzip and both of what is called deflate.

Theory of operation: gzip may have several members, one after another, and all of them are the body. What comes
after the last and is none is left out, as clients do. `deflate` is zlib's format by its standard, and many servers
send it without zlib's header (Source: RFC 9110, 8.4.1.2): the first two bytes tell.

What this module does not know: how much is too much.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

_GZIP_OR_ZLIB: Final = 47  # zlib finds out by itself which of the two it reads
_BARE: Final = -zlib.MAX_WBITS


class _Member(Protocol):
    """What `zlib.decompressobj` makes."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Inflate:
    """One compressed body. `bare` where it may be without a header."""

    def __init__(self, bare: bool) -> None:
        self._bare = bare
        self._held = b""  # of a header that is not whole yet
        self._member: _Member | None = None
        self._ended = False
        self._over = False

    @property
    def whole(self) -> bool:
        """Whether the body may end here."""
        return self._ended

    def decoded(self, data: bytes, length_max: int) -> bytes:
        """Take the next bytes, and give what they hold, no more than so much of it. Raises: zlib.error."""
        pieces: list[bytes] = []
        data, self._held = self._held + data, b""
        while data and length_max > 0 and not self._over:
            if self._member is None:
                if len(data) < 2:
                    self._held = data
                    break
                self._member = zlib.decompressobj(_BARE if self._bare and _is_bare(data) else _GZIP_OR_ZLIB)
            try:
                piece = self._member.decompress(data, length_max)
            except zlib.error:
                if not self._ended:
                    raise
                self._over = True
                break
            pieces.append(piece)
            length_max -= len(piece)
            data = b""
            if self._member.eof:
                data = self._member.unused_data
                self._ended, self._member = True, None
            elif piece:
                self._ended = False
        return b"".join(pieces)


def _is_bare(data: bytes) -> bool:
    """Whether two bytes begin neither zlib's format nor gzip's. Source: RFC 1950, 2.2; RFC 1952, 2.3.1."""
    is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return not is_zlib and data[:2] != b"\x1f\x8b"
