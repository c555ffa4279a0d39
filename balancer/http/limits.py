"""How long, how big, how many: every limit of the API in one place, but those of a request's values (`core`).

Theory of operation: files are what runs out first, and who cannot open one is mute. So what may be open goes by how
many files this process may have: three quarters for connections to providers (`probing`), a fifth for those of
clients, a twentieth for clients that shake hands. Of the last few none is for clients: the operator's own socket,
the configuration and the state need one at a time.

What this module does not know: who enforces them. The sizes of single lines are aiohttp's own (8190 bytes a line,
128 lines), and so a query is never longer than 8 KiB.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from typing import Final

HEADER_MAX: Final = 32_768  # bytes of a whole header, as nginx allows; 128 lines of 8 KiB would be a megabyte each
BODY_MAX: Final = 65_536  # bytes; an operator's word is a line
REPORTS_BODY_MAX: Final = 8 * 1024 * 1024  # bytes; 10,000 reports of 800 bytes
CHAT_BODY_MAX: Final = 32 * 1024 * 1024  # bytes; a prompt with some images in it
WISHES_MAX: Final = (
    1024 * 1024
)  # bytes of a list or an object in a chat body that routing reads; 100 names need 20,000
REASON_MAX: Final = 500  # characters of an operator's reason
FILES_SHARE: Final = 0.2  # of the files that may be open; probing leaves a quarter of them to all others
HANDSHAKES_SHARE: Final = 0.05  # of them as well: beside connections, as nobody knows yet whether they become any
SPARE_SHARE: Final = 0.125  # of them at most is left to others, or where there are few no client would get in


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience with clients, and room for them. Units: seconds; `connections` a number, `bodies` bytes.

    `handshake`: of TLS, from the connection on. `first_byte`: a new connection may say nothing. `header`: from
    its first byte until a request's header is complete. `body`: for the whole body. `answer`: a client may leave
    what is written for it untaken. `idle`: a connection between two requests. `linger`: reading on after an early
    answer, so that the client sees it. `comment`: between two signs of life on an event stream, and for a client
    that does not read one.

    `connections` are open at once, and `handshakes` may become some; `streams` of events are among them. `spare`
    are the files that no client takes. `bodies` is what all bodies together may hold while they are read and used.
    """

    handshake: float = 5.0  # two round trips and a signature; a phone on a bad net has it in two
    first_byte: float = 20.0  # of pools that connect ahead; nobody else waits before the first word
    header: float = 10.0
    body: float = 30.0
    answer: float = 30.0  # the largest answers are a few MB: 100 kB/s
    idle: float = 75.0  # longer than the 60 s for which most proxies keep an idle upstream connection
    linger: float = 5.0
    comment: float = 15.0
    connections: int = 4096  # some dozens of proxies with a hundred each; 60 MB when all say nothing
    handshakes: int = 256  # of an honest client one takes milliseconds
    streams: int = 100  # each is a socket and a timer
    spare: int = 16  # a reload, a save, a page of the history and some operators in the same instant
    bodies: int = (
        128 * 1024 * 1024
    )  # four of the largest chat bodies, or a thousand usual ones, in the same instant


LIMITS: Final = Limits()


def connections_max(limits: Limits) -> int:
    """How many connections may be open, as many files as this process may open now."""
    return max(1, min(limits.connections, _part(FILES_SHARE)))


def handshakes_max(limits: Limits) -> int:
    """How many clients may shake hands at a time, as many files as this process may open now."""
    return max(1, min(limits.handshakes, _part(HANDSHAKES_SHARE)))


def streams_max(limits: Limits) -> int:
    """How many streams of events may be open: they never make room, so half of all connections is for others."""
    return max(1, min(limits.streams, connections_max(limits) // 2))


def file_max(limits: Limits) -> int:
    """The number below which a client's file must be; the kernel gives the lowest that is free."""
    return _files() - min(limits.spare, _part(SPARE_SHARE))


def _part(share: float) -> int:
    return int(share * _files())


def _files() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else files
