"""Raw bytes for a socket: valid requests, and everything that can be wrong with them.

`conversation(seed, index)` is what one client sends, and always the same for the same two numbers, so that any of a
million can be sent again alone. Most are a valid request with one or two mutations; the rest is no HTTP at all.

In `smuggled` hides a valid order to drain the provider that nothing else names: a server that takes one request for
two carries it out, and that can be seen afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

TOKEN: Final = "token-of-the-fuzzer"
BUSY: Final = "busy/large"  # the model that is asked for
QUIET: Final = "quiet"  # the provider that nobody may touch

GETS: Final = (
    f"/v1/best-provider?model={BUSY}",
    f"/v1/best-provider?model={BUSY}:floor&require=tools,seed&session_id=s&count=2&explain=true",
    f"/v1/best-provider?models={BUSY},busy/small&prompt_tokens=100&max_tokens=9&max_price.prompt=3&sort=price",
    f"/v1/best-provider?model={BUSY}&only=one&ignore=two&order=one,two&preferred_max_latency.p90=2&refuse_with=403",
    "/v1/models", f"/v1/model?id={BUSY}", "/v1/providers", f"/v1/endpoints?model={BUSY}&state=healthy",
    f"/v1/endpoint?id={BUSY}@one", "/v1/config", "/-/healthy", "/-/ready", "/metrics", "/openapi.json",
)  # fmt: skip
POSTS: Final = (
    ("/v1/best-provider", {"model": BUSY, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}),
    ("/v1/best-provider", {
        "models": [BUSY, "busy/small"],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "provider": {"order": ["one"], "max_price": {"prompt": "2"}, "sort": {"by": "price"}},
        "balancer": {"count": 1, "explain": True, "exclude": ["two"]},
        "messages": [{"role": "user", "content": [{"type": "image_url",
        "image_url": {"url": "data:image/png;base64,AA"}}]}],
    }),
    ("/v1/reports", {"endpoint": f"{BUSY}@one", "status": 200, "latency": 0.4, "id": "r"}),
    ("/v1/reports", {"reports": [
        {"endpoint": f"{BUSY}@two", "error": "timeout", "age": 3},
        {"endpoint": f"{BUSY}@two", "status": 429, "retry_after": "1m30s", "ratelimit": {"reset": 7,
        "scope": "account"}},
    ]}),
    ("/v1/drain", {"target": "two", "for": "10m", "reason": "fuzz"}),
    ("/v1/resume", {"target": "two"}),
    ("/v1/probe", {"endpoint": f"{BUSY}@one"}),
    ("/-/reload", {}),
)  # fmt: skip
HEADERS: Final = (
    b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA", b"Expect: 100-continue",
    b"Expect: 200-ok", b"Content-Encoding: gzip", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Content-Type: multipart/form-data; boundary=", b"Content-Type: application/x-ndjson", b"Content-Type: \xff",
    b"Content-Type: text/plain; charset=utf-7", b"Accept: application/openmetrics-text;q=x;;=,,",
    b"Range: bytes=0-",
    b"Last-Event-ID: x-99999999999999999999", b"If-None-Match: *", b"X-Session-Id: \xff\xfe", b"Cookie: a=b; a=b",
    b"Host: other", b"Origin: null", b"Authorization: Basic eA==", b"Authorization: Bearer",
    b"X-Forwarded-For: ::1",
    b"Content-Length: 5", b"TE: trailers", b"Trailer: Content-Length", b"Sec-Fetch-Site: cross-site",
)  # fmt: skip
LENGTHS: Final = (
    b"-1", b"+5", b"0x5", b"5, 5", b"5,6", b"99999999999999999999999", b"1e3", b"", b" ", b"5 5", b"\xb2",
    b"005", b"33554433",
)  # fmt: skip
VALUES: Final = (
    "null", "-1", "1e999", "NaN", "9" * 400, '"\\ud800"', '"' + "x" * 3000 + '"', "[" * 3000, '{"a":' * 3000,
    "{}", "[]",
    '""', "true", '"\\u0000"', "0.1e-400", "[[[[]]]]", "1" + "0" * 20,
)  # fmt: skip
HELLO: Final = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))  # the beginning of a TLS handshake
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


class Conversation(NamedTuple):
    """What one client sends, piece by piece, and what kind of nonsense it is."""

    kind: str
    pieces: list[bytes]


def conversation(seed: int, index: int) -> Conversation:
    """Make the conversation of this number."""
    random = Random(f"{seed}/{index}")
    if random.random() < 0.12:
        kind = random.choice(tuple(_WHOLE))
        said = _WHOLE[kind](random)
    else:
        kind = random.choice(tuple(_MUTATIONS))
        said = _MUTATIONS[kind](random, _valid(random))
        if random.random() < 0.3:
            second = random.choice(tuple(_MUTATIONS))
            kind, said = f"{kind}, {second}", _MUTATIONS[second](random, said)
    return Conversation(kind, _cut(random, said))


def _valid(random: Random) -> bytes:
    """A request that is as it should be."""
    close = random.choice((b"", b"Connection: close\r\n"))
    head = b"Host: balancer\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n" + close
    if random.random() < 0.4:
        method = random.choice(("GET", "GET", "GET", "HEAD"))
        return f"{method} {random.choice(GETS)} HTTP/1.1\r\n".encode() + head + b"\r\n"
    path, body = random.choice(POSTS)
    line = f"POST {path} HTTP/1.1\r\n".encode() + head
    content = json.dumps(body).encode()
    if random.random() < 0.3:
        line += b"Transfer-Encoding: chunked\r\n"
        at = random.randrange(len(content) + 1)
        chunks = (each for each in (content[:at], content[at:]) if each)
        return line + b"\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    return line + b"Content-Length: %d\r\n\r\n" % len(content) + content


def _cut(random: Random, said: bytes) -> list[bytes]:
    """Send it as one piece, or as some: bytes come as the network likes."""
    if random.random() < 0.6 or len(said) < 2:
        return [said]
    places = sorted(random.randrange(len(said)) for _ in range(random.randint(1, 5)))
    return [said[begin:end] for begin, end in zip([0, *places], [*places, len(said)], strict=True) if begin < end]


def _place(random: Random, said: bytes) -> int:
    """Somewhere, more often in the header."""
    end = said.find(b"\r\n\r\n")
    return random.randrange((end if end > 0 and random.random() < 0.7 else len(said)) + 1)


def _in_header(said: bytes, line: bytes) -> bytes:
    head, end, body = said.partition(b"\r\n\r\n")
    return head + b"\r\n" + line + end + body


# ---- mutations of a valid request ------------------------------------------------------------------------


def _as_it_is(_random: Random, said: bytes) -> bytes:
    return said


def _truncated(random: Random, said: bytes) -> bytes:
    return said[: _place(random, said)]


def _doubled(random: Random, said: bytes) -> bytes:
    at = _place(random, said)
    return random.choice((said + said, said[:at] + said, said * 40))


def _bytes_added(random: Random, said: bytes) -> bytes:
    at = _place(random, said)
    some = random.choice(
        (random.randbytes(random.randint(1, 40)), b"\x00", b"\r", b"\n", b"\r\n", b"\x7f", b"\xff", b" ")
    )
    return said[:at] + some + said[at:]


def _bytes_lost(random: Random, said: bytes) -> bytes:
    at = _place(random, said)
    return said[:at] + said[at + random.randint(1, 8) :]


def _bits_flipped(random: Random, said: bytes) -> bytes:
    changed = bytearray(said)
    for _ in range(random.randint(1, 6)):
        if changed:
            changed[_place(random, said) % len(changed)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _bare_line_feeds(random: Random, said: bytes) -> bytes:
    return said.replace(b"\r\n", b"\n", random.choice((-1, 1, 2)))


def _header_added(random: Random, said: bytes) -> bytes:
    for _ in range(random.randint(1, 3)):
        said = _in_header(said, random.choice(HEADERS))
    return said


def _header_folded(_random: Random, said: bytes) -> bytes:
    return _in_header(said, b"X-Folded: a\r\n b\r\n\tc")


def _header_huge(random: Random, said: bytes) -> bytes:
    line = random.choice(
        (b"X: " + b"a" * 9000, b"X" * 9000 + b": a", b"X: " + b"a" * 300_000, b"\r\n".join([b"X: y"] * 500))
    )
    return _in_header(said, line)


def _length_wrong(random: Random, said: bytes) -> bytes:
    head, end, body = said.partition(b"\r\n\r\n")
    lines = [each for each in head.split(b"\r\n") if not each.lower().startswith(b"content-length")]
    near = (b"%d" % max(0, len(body) + step) for step in (-9, -1, 1, 9, 1000))
    lines.append(b"Content-Length: " + random.choice((*LENGTHS, *near)))
    return b"\r\n".join(lines) + end + body


def _chunks_broken(random: Random, said: bytes) -> bytes:
    head, end, body = said.partition(b"\r\n\r\n")
    lines = [
        each
        for each in head.split(b"\r\n")
        if not each.lower().startswith((b"content-length", b"transfer-encoding"))
    ]
    first = random.choice((
        b"zz\r\n", b"-1\r\n", b"\r\n", b"fffffffffffffffff\r\n", b"5", b"5;ext=" + b"x" * 9000 + b"\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\nContent-Length: 9\r\n\r\n", b"5 \r\n", b"0x5\r\n", b"5\n", b"5\r", b"00000000000000005\r\n",
    ))  # fmt: skip
    coding = random.choice(
        (b"chunked", b"CHUNKED", b"chunked, chunked", b"\tchunked", b"chunked\x00", b"x, chunked")
    )
    return b"\r\n".join([*lines, b"Transfer-Encoding: " + coding]) + end + first + body + b"\r\n0\r\n\r\n"


def _line_strange(random: Random, said: bytes) -> bytes:
    _, end, rest = said.partition(b"\r\n")
    method = random.choice(
        (b"GET", b"POST", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"get", b"G\x00T", b"X" * 300, b"")
    )
    target = random.choice((
        b"*", b"/", b"//", b"/../../etc/passwd", b"http://balancer/v1/models", b"http://[::1/v1/models", b"http://",
        b"https://u:p@x:99999/-/healthy", b"ws://x/-/ready", b"balancer:80", b"/v1/models#x",
        b"/v1/model?id=%", b"/%00", b"/%ff%fe",
        b"/v1/model?id=%00", b"/v1/best-provider?model=%f0%9f%92%a9", b"/v1/best-provider?" + b"&" * 5000,
        b"/v1/model?id=\xff",
        b"/v1/best-provider?" + b"model=a&" * 900, b"/v1/endpoint?id=" + b"@" * 4000, b"?", b"",
        b"/v1/model?id=a&id=b", b"/ /",
        "/\u20ac".encode(), b"/v1/events", b"/v1/best-provider?model=busy/large&prompt_tokens=" + b"9" * 4000,
    ))  # fmt: skip
    version = random.choice(
        (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9", b"HTTP/1.10", b"", b"http/1.1")
    )
    return b" ".join((method, target, version)) + end + rest


def _query_strange(random: Random, said: bytes) -> bytes:
    first, end, rest = said.partition(b"\r\n")
    words = [
        b"model",
        b"sort",
        b"require",
        b"count",
        b"explain",
        b"max_price.prompt",
        b"partition",
        b"refuse_with",
        b"zdr",
        b"x",
        b"",
    ]
    pairs = (
        random.choice(words)
        + b"="
        + random.choice((b"", b"1", b"-1", b"true", b"%00", b"%zz", b"a,b,,", b"nan", b"1e999", b"busy/large"))
        for _ in range(random.randint(1, 30))
    )
    return (
        b" ".join((b"GET", b"/v1/best-provider?" + b"&".join(pairs), b"HTTP/1.1")) + end + rest if first else said
    )


def _json_strange(random: Random, _said: bytes) -> bytes:
    path, body = random.choice(POSTS)
    content = json.dumps(body)
    spots = [at for at, sign in enumerate(content) if sign == ":"]
    if spots and random.random() < 0.8:
        at = random.choice(spots) + 1
        stop = min(end for end in (content.find(sign, at) for sign in ",}]") if end > 0)
        content = content[:at] + random.choice(VALUES) + content[stop:]
    else:
        content = random.choice(
            (
                *VALUES,
                content + content,
                content[:-1],
                "\ufeff" + content,
                content.replace('"', "'"),
                f"{content}\n" * 30,
            )
        )
    said = content.encode(errors="surrogatepass")
    if random.random() < 0.1:
        said = said.replace(b"o", b"\xff", 1)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(said) + said


def _junk_behind(random: Random, said: bytes) -> bytes:
    return said + random.choice(
        (random.randbytes(200), b"\r\n\r\n\r\n", HELLO, PREFACE, b"GET", b"\x00" * 5000, b"A" * 70_000)
    )


# ---- what is no request at all ---------------------------------------------------------------------------


def _smuggled(random: Random) -> bytes:
    order = json.dumps({"target": QUIET}).encode()
    inner = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode()
    inner += b"\r\nContent-Length: %d\r\n\r\n" % len(order) + order
    both = random.choice((
        b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 4",
        b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        b"Content-Length: %d\r\nContent-Length: 0" % len(inner),
        b"Content-Length: 0\r\nContent-Length: %d" % len(inner),
        b"Transfer-Encoding:\x0bchunked", b"Content-Length: 0, %d" % len(inner), b"X: y\nContent-Length: 0",
        b"Content-Length: +0", b"Content-Length: 0\x00", b"Transfer-Encoding: chunked\x00\r\nContent-Length: 0",
    ))  # fmt: skip
    path = random.choice((b"/nowhere", b"/v1/resume", b"/v1/reports"))
    first = (
        b"POST "
        + path
        + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + TOKEN.encode()
        + b"\r\n"
        + both
        + b"\r\n\r\n"
    )
    return first + random.choice((b"", b"0\r\n\r\n")) + inner


_WHOLE: Final[dict[str, Callable[[Random], bytes]]] = {
    "random bytes": lambda random: random.randbytes(random.randint(1, 3000)),
    "nothing": lambda _: b"",
    "blank lines": lambda random: b"\r\n" * random.randint(1, 2000),
    "zeros": lambda random: b"\x00" * random.randint(1, 100_000),
    "one endless line": lambda _: b"G" * 200_000,
    "TLS": lambda _: HELLO,
    "HTTP/2": lambda _: PREFACE,
    "HTTP/0.9": lambda _: b"GET /v1/models\r\n",
    "an answer": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "another protocol": lambda random: random.choice(
        (b"EHLO x\r\n", b"SSH-2.0-x\r\n", b"*1\r\n$4\r\nPING\r\n", b"PROXY TCP4 1 2 3 4\r\n")
    ),
    "smuggled": _smuggled,
}
_MUTATIONS: Final[dict[str, Callable[[Random, bytes], bytes]]] = {
    "as it is": _as_it_is, "truncated": _truncated, "doubled": _doubled, "bytes added": _bytes_added,
    "bytes lost": _bytes_lost, "bits flipped": _bits_flipped, "bare line feeds": _bare_line_feeds,
    "header added": _header_added, "header folded": _header_folded, "header huge": _header_huge,
    "length wrong": _length_wrong, "chunks broken": _chunks_broken, "line strange": _line_strange,
    "query strange": _query_strange, "JSON strange": _json_strange, "junk behind": _junk_behind,
}  # fmt: skip
