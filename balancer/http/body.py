"""Reading a request's body: bounded in size and time, and only what is JSON.

Theory of operation: a body that arrived with its header is taken at once; any other is read under a timer. The
size is looked at before the first byte where the client tells it, and at every piece where it does not. Encoded
bodies (gzip) are refused rather than unpacked: the limit is on what was sent. What all bodies together may hold is
`bodies`' to say, at every piece.

What this module does not know: what the JSON says.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar, cast

import msgspec
from aiohttp import HttpVersion10, web
from aiohttp.http_exceptions import HttpProcessingError

from balancer.http.answers import Refused
from balancer.http.bodies import Body, no_room
from balancer.http.connection import Connection
from balancer.http.words import UNREADABLE, fault, shown

T = TypeVar("T")

NDJSON_TYPES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_TYPES: Final = NDJSON_TYPES | {
    "application/json",
    "text/json",
    "text/plain",  # what `navigator.sendBeacon` and log shippers say
    "application/x-www-form-urlencoded",  # what `curl -d` says
    "application/octet-stream",  # what aiohttp says for a client that says nothing
}


async def read(request: web.BaseRequest, *, size_max: int, patience: float) -> bytes | bytearray:
    """Read the whole body.

    Units: `patience` in seconds.
    Raises: Refused (408, 413, 415, 417, 503 for want of memory, 400 for broken chunks), ConnectionError when the
    client is gone.
    """
    _refuse_foreign(request)
    told = request.content_length
    if told is not None and told > size_max:
        raise _too_large(size_max)
    connection = cast("Connection", request.protocol)
    body = connection.read_body()
    try:
        if request.content.is_eof():
            data: bytes | bytearray = request.content.read_nowait()
            body.grow(len(data))
        else:
            await _invite(request)
            connection.wait(waiting=True)
            data = await _pieces(request, body, size_max=size_max, patience=patience)
            connection.wait(waiting=False)
    except TimeoutError:
        if body.cut:
            raise no_room() from None
        connection.lost_patience()
        raise Refused(408, f"the body was not complete within {patience:g} s") from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise Refused(400, "the body's transfer encoding is broken") from None
    if len(data) > size_max:
        raise _too_large(size_max)
    return data


async def _pieces(request: web.BaseRequest, body: Body, *, size_max: int, patience: float) -> bytearray:
    data = bytearray()
    async with asyncio.timeout(patience) as turn:
        body.expect(turn)
        async for piece in request.content.iter_any():
            body.grow(len(piece))
            data += piece
            if len(data) > size_max:
                raise _too_large(size_max)
    body.complete()
    return data


def decode(data: bytes | bytearray, decoder: msgspec.json.Decoder[T], known: tuple[str, ...]) -> T:
    """Decode a body. Raises: Refused."""
    if not data:
        raise Refused(400, "the body is empty; JSON is needed")
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise Refused(400, fault(error, known)) from None


def fields(struct: Any) -> tuple[str, ...]:
    """The names that a struct has in JSON."""
    return tuple(struct.__struct_encode_fields__)


def _refuse_foreign(request: web.BaseRequest) -> None:
    kind = request.content_type
    if kind not in _TYPES:
        raise Refused(415, f"Content-Type {shown(kind)} is not supported; send application/json")
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise Refused(415, f"Content-Encoding {shown(coding)} is not supported; send the body as it is")


async def _invite(request: web.BaseRequest) -> None:
    expected = request.headers.get("Expect")
    if expected is None or request.version == HttpVersion10:  # of whom it must be ignored: RFC 9110, 10.1.1
        return
    if expected.lower() != "100-continue":
        raise Refused(417, f"Expect {shown(expected)} is not supported; 100-continue is")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # nothing of the answer itself is out yet


def _too_large(size_max: int) -> Refused:
    return Refused(413, f"the body is larger than {size_max} bytes", metadata={"size_max": size_max})
