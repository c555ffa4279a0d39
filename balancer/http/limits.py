"""How long, how big, how many: every limit of the API in one place, but those of a request's values (`core`).

What this module does not know: who enforces them. The sizes of single lines are aiohttp's own (8190 bytes a line,
128 lines), and so a query is never longer than 8 KiB.
"""

from __future__ import annotations

import resource
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience with clients, and room for them. Units: seconds; `connections` a number, `bodies` bytes.

    `handshake`: of TLS, from the connection on. `first_byte`: a new connection may say nothing. `header`: from
    its first byte until a request's header is complete. `body`: for the whole body. `answer`: a client may leave
    what is written for it untaken. `idle`: a connection between two requests. `linger`: reading on after an early
    answer, so that the client sees it. `comment`: between two signs of life on an event stream, and for a client
    that does not read one.

    `connections` are open at once; `bodies` is what all bodies together may hold while they are read and used.
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
    bodies: int = (
        128 * 1024 * 1024
    )  # four of the largest chat bodies, or a thousand usual ones, in the same instant


LIMITS: Final = Limits()


def connections_max(limits: Limits) -> int:
    """How many connections may be open, as many files as this process may open now."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits.connections
    return max(1, min(limits.connections, int(FILES_SHARE * files)))
