"""The one envelope for errors, and how any value becomes an answer.

Theory of operation: whoever cannot serve a request raises `Refused`; one place (`api`) turns it into the
envelope. A value is encoded by msgspec and marked `no-store`, because everything here changes with time.

What this module does not know: why something was refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from balancer.core.model import Constraint, Refusal

ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "authentication",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    417: "expectation_failed",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    431: "header_too_large",
    500: "internal",
    503: "unavailable",
}
"""`metadata.error_type` by status: OpenRouter's words where it has one."""

BASE: Final[Mapping[str, str]] = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "Server": "balancer",
    "X-Content-Type-Options": "nosniff",  # a browser must not take what a client's text made of us for a page
}
"""The headers of every answer."""

encode: Final = msgspec.json.Encoder().encode


class Availability(Struct, kw_only=True, omit_defaults=True):
    """Why nothing could be chosen. `constraint` is the wish that stood in the way of most endpoints."""

    code: Refusal
    excluded_by: tuple[str, ...]
    constraint: Constraint | None = None
    requested_models: tuple[str, ...]
    close_models: tuple[str, ...] = ()
    retryable: bool
    retry_after: float | None = None


class ErrorBody(Struct, kw_only=True):
    """`code` is the true HTTP status, also where `refuse_with` changed the status line."""

    code: int
    message: str
    metadata: dict[str, Any]
    availability: Availability | UnsetType = UNSET


class ErrorAnswer(Struct, kw_only=True):
    """The one shape of every error, on every path."""

    error: ErrorBody


class Refused(Exception):
    """A request that is not served. `line` is the status of the status line where it is not `status`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        availability: Availability | None = None,
        headers: Mapping[str, str] | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.metadata = {} if metadata is None else metadata
        self.availability = availability
        self.headers = {} if headers is None else headers
        self.line = status if line is None else line

    def body(self) -> ErrorAnswer:
        """The envelope."""
        return ErrorAnswer(
            error=ErrorBody(
                code=self.status,
                message=self.message,
                metadata={"error_type": ERROR_TYPES[self.status], **self.metadata},
                availability=UNSET if self.availability is None else self.availability,
            )
        )

    def response(self) -> web.Response:
        """The answer."""
        return answer(self.body(), status=self.line, headers=self.headers)

    def last_words(self) -> bytes:
        """The answer as it goes over the wire, where no request was understood; the connection ends with it."""
        body = encode(self.body())
        head = "".join(f"{name}: {value}\r\n" for name, value in BASE.items())
        line = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
        return f"{line}{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Encode a value as JSON."""
    return plain(encode(value), status=status, headers=headers)


def plain(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Send bytes that are already encoded; `headers` win over those that every answer has."""
    return web.Response(body=body, status=status, headers=BASE if headers is None else {**BASE, **headers})
