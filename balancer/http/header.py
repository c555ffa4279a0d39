"""What a header may be that was parsed without a complaint: its whole size, and whether it can be read in two ways.

What this module does not know: the size of a line, which the parser judges, and how long a header may take.
"""

from __future__ import annotations

from itertools import chain

from aiohttp.http_parser import RawRequestMessage

from balancer.http.answers import Refused
from balancer.http.limits import HEADER_MAX


def fault(message: RawRequestMessage) -> Refused | None:
    """Why a request is not served, whatever it asks for."""
    if size(message) > HEADER_MAX:
        return too_long()
    return None


def size(message: RawRequestMessage) -> int:
    """The header's size without the blanks that mean nothing. Units: bytes."""
    lines = message.raw_headers
    marks = 4 * len(lines) + 14  # of each line a colon, a blank and its end; of the first " HTTP/1.1" and so on
    return len(message.method) + len(message.path) + sum(map(len, chain.from_iterable(lines))) + marks


def too_long() -> Refused:
    """The answer to a header that is too long, complete or not."""
    return Refused(431, f"the header is longer than {HEADER_MAX} bytes")
