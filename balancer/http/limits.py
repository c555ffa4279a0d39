"""How long and how big: every limit of the API in one place, but those of a request's values (`core.request`).

What this module does not know: who enforces them. Line and header sizes are aiohttp's own (8190 bytes a line,
128 lines), and so a query is never longer than 8 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BODY_MAX: Final = 65_536  # bytes; an operator's word is a line
REPORTS_BODY_MAX: Final = 8 * 1024 * 1024  # bytes; 10,000 reports of 800 bytes
CHAT_BODY_MAX: Final = 32 * 1024 * 1024  # bytes; a prompt with some images in it
WISHES_MAX: Final = (
    1024 * 1024
)  # bytes of a list or an object in a chat body that routing reads; 100 names need 20,000
REASON_MAX: Final = 500  # characters of an operator's reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience with a client. Units: seconds.

    `handshake`: of TLS, from the connection on. `header`: from its first byte until a request's header is complete.
    `body`: for the whole body. `idle`: a connection between two requests. `linger`: reading on after an early
    answer, so that the client sees it. `comment`: between two signs of life on an event stream, and for a client
    that does not read one.
    """

    handshake: float = 5.0  # two round trips and a signature; a phone on a bad net has it in two
    header: float = 10.0
    body: float = 30.0
    idle: float = 75.0  # longer than the 60 s for which most proxies keep an idle upstream connection
    linger: float = 5.0
    comment: float = 15.0


LIMITS: Final = Limits()
