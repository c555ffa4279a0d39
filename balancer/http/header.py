"""Which headers are refused, parsed or not, and why.

What this module does not know: the size of a line, which the parser judges, and how long a header may take.
"""

from __future__ import annotations

from itertools import chain

from aiohttp import HttpVersion10
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpParser, RawRequestMessage

from balancer.http.answers import Refused
from balancer.http.limits import HEADER_MAX
from balancer.http.words import shown


def fault(message: RawRequestMessage) -> Refused | None:
    """Why a request is not served, whatever it asks for."""
    if size(message) > HEADER_MAX:
        return too_long()
    if message.version == HttpVersion10 and "Transfer-Encoding" in message.headers:
        # Who knows 1.0 alone takes the chunks for something else. Source: RFC 9112, 6.1.
        return Refused(400, "not a well-formed HTTP request: Transfer-Encoding is not of HTTP/1.0")
    return None


def size(message: RawRequestMessage) -> int:
    """The header's size without the blanks that mean nothing. Units: bytes."""
    lines = message.raw_headers
    marks = 4 * len(lines) + 14  # of each line a colon, a blank and its end; of the first " HTTP/1.1" and so on
    return len(message.method) + len(message.path) + sum(map(len, chain.from_iterable(lines))) + marks


def begun(parser: HttpParser[RawRequestMessage] | None) -> bool:
    """Whether a parser is in the middle of a header; one that is is of no use afterwards.

    Shape: it is told a blank line, which ends a header that has begun, and means nothing between two requests.
    """
    assert parser is not None, "the connection is open"
    try:
        messages, *_ = parser.feed_data(b"\r\n\r\n")
    except HttpProcessingError:
        return True
    return bool(messages)


def unparsed(error: HttpProcessingError) -> Refused:
    """The answer to what is no request."""
    if isinstance(error, LineTooLong):
        return Refused(431, "a line of the header is too long; 8190 bytes are allowed")
    first = str(error.message).partition("\n")[0].strip().rstrip(":")
    return Refused(400, f"not a well-formed HTTP request: {shown(first)}")


def too_long() -> Refused:
    """The answer to a header that is too long, complete or not."""
    return Refused(431, f"the header is longer than {HEADER_MAX} bytes")
