"""Servers that do everything wrong, on real sockets: each ends as what it is, in time, and leaves nothing."""

import asyncio
import gc
import gzip
import socket
import ssl
import struct
import threading
import time
import tracemalloc
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import h11
import pytest
import uvloop

import balancer
from balancer.core.outcome import KINDS
from balancer.probing import Connections, probe

HERE = Path(__file__).parent
PATIENCE = 5.0  # s; the timeout of a probe that must end by something else
HASTE = 0.5  # s; the timeout of a probe that must end by it
MARGIN = 1.5  # s that a busy machine may be late
ROUNDS = 4  # of the whole table, after the two that fill every cache
CROWDED = 2.0  # times as long may they take who all run together
GROWN_MAX = 32_768  # bytes in `ROUNDS` rounds: the standard library's cache of URLs takes a third of them, once

MIB = 1024 * 1024
SIZE_MAX = MIB // 4  # of a body; what never ends need not be long to show it
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"content-type: application/json\r\n"
STREAM = OK + b"content-type: text/event-stream\r\n\r\n"
CHUNKED = JSON + b"transfer-encoding: chunked\r\n\r\n"
LISTING = b'{"data": [{"id": "model-1"}]}'
TEXT = b'data: {"model": "model-1", "choices": [{"delta": {"content": "OK"}}]}\n\n'
STOP = b'data: {"model": "model-1", "choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
COMMENT = b": still here\n\n"
BOMB = gzip.compress(bytes(64 * MIB), 9)  # 64 KiB, a thousandth

PAGE = OK + b"content-type: text/html\r\n\r\n<html>Welcome</html>"
GZIP = "content-encoding: gzip"
ZIPPED = JSON + GZIP.encode() + b"\r\n\r\n"
TOO_LARGE = "larger than probe.size_max"


def sized(body: bytes, length: int | None = None, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer of JSON, or one that lies about its length."""
    told = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {told}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def usage(tokens: str) -> bytes:
    told = f'data: {{"choices": [], "usage": {{"prompt_tokens": {tokens}, "completion_tokens": 1}}}}\n\n'
    return STREAM + TEXT + STOP + told.encode() + DONE


async def close(seen):
    seen.writer.close()


async def hang(seen):
    await seen.reader.read()  # until the prober hangs up: nothing of the server may outlive it


async def reset(seen):
    seen.reset()


def sends(*pieces: bytes, then=close, **serving: Any):
    """A server that reads a request, sends the pieces one after another, and then …"""

    async def behaviour(seen):
        for piece in pieces:
            await seen.send(piece)
        await then(seen)

    async def start(lab):
        return (await lab.serve(behaviour, **serving)).url

    return start


def drips(before: bytes, drop: bytes, *, every: float):
    """A server that never ends its answer. Without a pause it sends as much as is taken."""

    async def behaviour(seen):
        await seen.send(before)
        while not seen.writer.is_closing():
            await seen.send(drop)
            await asyncio.sleep(every)

    async def start(lab):
        return (await lab.serve(behaviour)).url

    return start


def talks(connected, *, scheme: str = "http"):
    """A server below HTTP."""

    async def start(lab):
        server = await lab.serve_raw(connected)
        return f"{scheme}://127.0.0.1:{server.port}/v1"

    return start


def secured(pem: str):
    """A good server whose certificate is not."""
    return sends(sized(LISTING), tls=True, asking=lambda context: context.load_cert_chain(HERE / pem))


async def speaks_old_tls(reader, writer):
    """Shake hands as a server of 2010 would. By hand: asyncio hangs up without telling why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "self_signed.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    heard.write(await reader.read(4096))
    with suppress(ssl.SSLError):
        context.wrap_bio(heard, said, server_side=True).do_handshake()
    writer.write(said.read())
    await reader.read()


async def silent(reader, writer):
    del writer
    await reader.read()


async def accepts_and_resets(reader, writer):
    del reader
    abort(writer)


async def resets_in_the_handshake(reader, writer):
    await reader.read(10)
    abort(writer)


async def closes_in_the_handshake(reader, writer):
    await reader.read(10)
    writer.close()


async def greets_as_ssh(reader, writer):
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


async def loops(seen):
    await seen.send(sized(b"", None, f"location: {seen.target}", status="302 Found"))


async def redirects_to_itself(lab):
    return (await lab.serve(loops)).url


async def closed_port(lab):
    """Nobody listens, and nobody else gets the port."""
    held = lab.holds(socket.socket())
    held.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{held.getsockname()[1]}/v1"


async def full_backlog(lab):
    """Nobody accepts, and no more connections fit in the queue."""
    listening = lab.holds(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(8):
        filler = lab.holds(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(listening.getsockname())
    return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = has_ipv6()


def named(host: str, *, address: str = "127.0.0.1"):
    """A good server that has a name; where there is no such address, the prober cannot have one either."""

    async def behaviour(seen):
        await seen.send(sized(LISTING))

    async def start(lab):
        server = await lab.serve(behaviour, host=address if IPV6 else "127.0.0.1")
        return f"http://{host}:{server.port}/v1"

    return start


def abort(writer) -> None:
    """Close with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Names:
    """A resolver of our own: it knows some names, and hangs at one until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, host: str, port: int, *, family: int, type: int):  # noqa: A002  # getaddrinfo's own word
        if host == "slow.test":
            self.let_go.wait(PATIENCE)
        known = {"six.test": (socket.AF_INET6, "::1"), "slow.test": (socket.AF_INET, "127.0.0.1")}
        if host == "nowhere.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "later.test":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        there, address = known[host]
        if family not in (socket.AF_UNSPEC, there):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(there, type, 6, "", (address, port))]


@dataclass(frozen=True)
class Fault:
    """One way to be broken, and what a probe must say of it.

    Shape: `kind` may be two words where a system may tell the fault as either; `says` is in the detail. `timeout`
    is short where a probe ends by it.
    """

    what: str
    start: Callable[[Any], Awaitable[str]]
    kind: str
    says: str
    _: KW_ONLY
    probe: str = "models"
    timeout: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.what

    @property
    def limit(self) -> float:
        if self.timeout is not None:
            return self.timeout
        return HASTE if self.kind == "timeout" or self.says == "(in resolve)" else PATIENCE


AT_A_LIST = [
    ("refused port", closed_port, "connect", "Connect"),
    ("full backlog", full_backlog, "timeout", "not done after"),  # some systems let it in all the same
    ("no such name", named("nowhere.test"), "dns", "Name or service not known"),
    ("no resolver", named("later.test"), "local dns", "Temporary failure"),
    ("slow resolver", named("slow.test"), "local dns", "(in resolve)"),
    ("IPv6 only", named("six.test", address="::1"), "success" if IPV6 else "local", ""),
    ("IPv6 only, and nobody there", named("six.test"), "connect" if IPV6 else "local", "(::1 port "),
    ("reset after accept", talks(accepts_and_resets), "reset", ""),
    ("reset in the handshake", talks(resets_in_the_handshake, scheme="https"), "reset", "(in tls)"),
    ("close in the handshake", talks(closes_in_the_handshake, scheme="https"), "reset tls", ""),
    ("reset before the answer", sends(then=reset), "reset", "(in first_byte)"),
    ("close before the answer", sends(), "reset", "without an answer"),
    ("reset in the headers", sends(JSON, then=reset), "stream reset", "broke"),
    ("reset after the answer", sends(sized(LISTING), then=reset), "success", ""),
    ("reset after a refusal", sends(sized(b"no", status="401 No"), then=reset), "refused", "401 No: no"),
    ("close in the headers", sends(JSON), "stream", "in the answer"),
    ("reset in the body", sends(sized(b"[", 9), then=reset), "stream reset", "broke"),
    ("hang after accept", talks(silent), "timeout", "(in first_byte)"),
    ("hang in the handshake", talks(silent, scheme="https"), "timeout", "(in tls)"),
    ("hang before the answer", sends(then=hang), "timeout", "(in first_byte)"),
    ("hang before the answer, by TLS", sends(then=hang, tls=True), "timeout", "(in first_byte)"),
    ("hang in the body, by TLS", sends(sized(b"[", 9), then=hang, tls=True), "timeout", "(in transfer)"),
    ("reset in the body, by TLS", sends(sized(b"[", 9), then=reset, tls=True), "stream reset", ""),
    ("close in the body, by TLS", sends(sized(b"[", 9), tls=True), "stream", "in the answer"),
    ("hang in the headers", sends(JSON, then=hang), "timeout", "(in transfer)"),
    ("hang in the body", sends(sized(b"[", 9), then=hang), "timeout", "(in transfer)"),
    ("headers drop by drop", drips(OK, b"x", every=0.02), "timeout", "(in transfer)"),
    ("body drop by drop", drips(sized(b"[", 9_999), b" ", every=0.02), "timeout", "(in transfer)"),
    ("headers without end", drips(OK, b"x-more: " + b"y" * 999 + b"\r\n", every=0), "malformed", "not HTTP/1.1"),
    ("one header without end", drips(OK + b"x-more: ", b"y" * 999, every=0), "malformed", "not HTTP/1.1"),
    ("body without end", drips(JSON + b"\r\n[", b"1," * 9_999, every=0), "probe_invalid", TOO_LARGE),
    (
        "refusal without end",
        drips(b"HTTP/1.1 500 No\r\n\r\n", b"no" * 999, every=0),
        "server_error",
        "500 No: nono",
    ),
    ("gzip bomb", sends(sized(BOMB, None, GZIP)), "probe_invalid", TOO_LARGE),
    ("gzip, and more", drips(ZIPPED + gzip.compress(LISTING), b"x" * 999, every=0), "probe_invalid", TOO_LARGE),
    ("empty gzip without end", drips(ZIPPED, gzip.compress(b"") * 99, every=0), "probe_invalid", TOO_LARGE),
    ("gzip bomb in a refusal", sends(sized(BOMB, None, GZIP, status="500 Boom")), "server_error", "500 Boom"),
    ("length too long", sends(sized(LISTING, 99)), "stream", "in the answer"),
    ("length too short", sends(sized(LISTING, 9)), "malformed", "not JSON"),
    ("length of letters", sends(JSON + b"content-length: ten\r\n\r\n" + LISTING), "malformed", "not HTTP/1.1"),
    (
        "two lengths",
        sends(JSON + b"content-length: 9\r\ncontent-length: 29\r\n\r\n" + LISTING),
        "malformed",
        "not HTTP/1.1",
    ),
    ("one length twice", sends(sized(LISTING, None, f"content-length: {len(LISTING)}")), "success", ""),
    ("data after the answer", sends(sized(LISTING) + b"HTTP/1.1 500 More\r\n\r\n", then=hang), "success", ""),
    ("cut chunk", sends(CHUNKED + b"1d\r\n" + LISTING[:9]), "stream", "in the answer"),
    ("no last chunk", sends(CHUNKED + b"1d\r\n" + LISTING + b"\r\n"), "stream", "in the answer"),
    ("wrong chunk size", sends(CHUNKED + b"xyz\r\n" + LISTING), "malformed", "not HTTP/1.1"),
    ("huge chunk size", sends(CHUNKED + b"f" * 99 + b"\r\n" + LISTING), "malformed", "not HTTP/1.1"),
    ("cut gzip", sends(sized(gzip.compress(LISTING)[:-9], None, GZIP)), "malformed", "compressed body ends early"),
    ("gzip that is none", sends(sized(LISTING, None, GZIP)), "malformed", "compressed body is broken"),
    (
        "encoding that nobody knows",
        sends(sized(LISTING, None, "content-encoding: rot13")),
        "malformed",
        "'rot13' was not asked for",
    ),
    ("greeting of SSH", talks(greets_as_ssh), "malformed", "SSH-2.0"),
    ("HTTP/0.9", sends(b"<html>hello</html>"), "malformed", "not HTTP: "),
    ("HTTP/2", sends(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), then=hang), "malformed", "not HTTP: "),
    ("HTTP/2 in letters", sends(b"HTTP/2 200\r\n\r\n"), "malformed", "not HTTP/1.1"),
    ("status 999", sends(sized(LISTING, status="999 Odd")), "malformed", "status 999"),
    (
        "100 informational answers",
        sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + sized(LISTING)),
        "malformed",
        "more than 20 informational",
    ),
    (
        "an upgrade that nobody asked for",
        sends(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"),
        "malformed",
        "not HTTP/1.1",
    ),
    ("self-signed certificate", secured("named.pem"), "tls", "self-signed certificate"),
    ("TLS 1.1", talks(speaks_old_tls, scheme="https"), "tls", "protocol version"),
    ("plain HTTP instead of TLS", talks(greets_as_ssh, scheme="https"), "tls", "TLS failed"),
    ("redirect loop", redirects_to_itself, "server_error", "302 Found: not followed: /v1/models"),
    ("204", sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "malformed", "not JSON"),
    ("page instead of a list", sends(PAGE), "malformed", "not JSON"),
    (
        "error with 200 instead of a list",
        sends(sized(b'{"error": {"message": "no"}}')),
        "malformed",
        '"message": "no"',
    ),
    ("invalid UTF-8 in a list", sends(sized(LISTING.replace(b"model-1", b"\xff\xfe"))), "malformed", "not JSON"),
    ("JSON that is nested without end", sends(sized(b"[" * 99_999)), "malformed", "not JSON"),
]
AT_A_STREAM = [
    ("reset in the stream", sends(STREAM, TEXT, then=reset), "stream reset", "broke"),
    ("hang in the stream", sends(STREAM, TEXT, then=hang), "timeout", "(in transfer)"),
    ("events drop by drop", drips(STREAM, TEXT, every=0.02), "timeout", "(in transfer)"),
    ("comments only, without end", drips(STREAM, COMMENT, every=0.02), "timeout", "(in first_token)"),
    ("comments only", sends(STREAM, COMMENT * 9), "stream", "without a finish reason"),
    ("stream without end", drips(STREAM, TEXT * 99, every=0), "probe_invalid", TOO_LARGE),
    ("event without end", drips(STREAM + b"data: ", b"y" * 9_999, every=0), "probe_invalid", TOO_LARGE),
    ("line of 8 MB", sends(STREAM + b"data: " + b"y" * 8 * MIB + b"\n\n"), "probe_invalid", TOO_LARGE),
    (
        "redirect elsewhere",
        sends(sized(b"", None, "location: https://example.com/", status="307 Go")),
        "server_error",
        "not followed: https://example.com/",
    ),
    ("reset after the finish reason", sends(STREAM, TEXT, STOP, then=reset), "success", "no usage"),
    ("204 to a completion", sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "empty", "no body"),
    ("page instead of a stream", sends(PAGE), "malformed", "not an event stream: text/html"),
    ("error with 200 instead of a stream", sends(sized(b'{"error": {"message": "no"}}')), "server_error", "no"),
    ("no choices", sends(sized(b'{"choices": []}')), "empty", "no choices"),
    ("no choices in the stream", sends(STREAM + b'data: {"choices": []}\n\n' + DONE), "empty", "no choices"),
    ("no text", sends(STREAM, STOP, DONE), "empty", "no text"),
    ("stream without [DONE]", sends(STREAM, TEXT, STOP), "success", ""),
    ("stream without end mark or finish reason", sends(STREAM, TEXT), "stream", "without a finish reason"),
    (
        "error in the stream",
        sends(STREAM, TEXT, b'data: {"error": {"message": "oh no"}}\n\n'),
        "server_error",
        "error in the stream: oh no",
    ),
    (
        "rate limit in the stream",
        sends(STREAM, TEXT, b'data: {"error": {"message": "no", "code": 429}}\n\n'),
        "rate_limited",
        "error in the stream: 429 no",
    ),
    (
        "overload in the stream",
        sends(STREAM, TEXT, b'data: {"error": {"message": "Overloaded"}}\n\n'),
        "overloaded",
        "Overloaded",
    ),
    ("usage that is no number", sends(usage("NaN")), "malformed", "not JSON"),
    ("negative usage", sends(usage("-5")), "malformed", "'-5', and no number of tokens"),
    ("usage without end", sends(usage("1e999")), "malformed", ""),
    ("another model", sends(STREAM, TEXT.replace(b"model-1", b"other"), STOP, DONE), "malformed", "of model other"),
    ("invalid UTF-8 in a stream", sends(STREAM, TEXT.replace(b"OK", b"\xff\xfe"), STOP, DONE), "success", ""),
    ("invalid UTF-8 instead of a stream", sends(STREAM, b"data: \xff\xfe\n\n"), "malformed", "not JSON"),
]
FAULTS = [
    *(Fault(*row) for row in AT_A_LIST),
    *(Fault(*row, probe="completion") for row in AT_A_STREAM),
    Fault("no such name, asked for itself", named("nowhere.test"), "dns", "not known", probe="dns"),
    Fault("slow resolver, asked itself", named("slow.test"), "local dns", "(in resolve)", probe="dns"),
    Fault(
        "IPv6 only, by IPv4",
        named("six.test", address="::1"),
        "dns",
        "(as IPv4, by probe.ip_version)",
        settings={"ip_version": "4"},
    ),
    Fault(
        "hang after the finish reason",
        sends(STREAM, TEXT, STOP, then=hang),
        "success",
        "no usage",
        probe="completion",
        timeout=HASTE,
    ),
    Fault(
        "hang after [DONE]",
        sends(STREAM, TEXT, STOP, DONE, then=hang),
        "success",
        "no usage",
        probe="completion",
        timeout=HASTE,
    ),
    Fault(
        "hang in a refusal",
        sends(sized(b"wait", 9, status="429 Slow"), then=hang),
        "rate_limited",
        "429 Slow: wait",
        timeout=HASTE,
    ),
    Fault(
        "hang in a refused completion",
        sends(sized(b"wait", 9, status="503 Busy"), then=hang),
        "overloaded",
        "503 Busy: wait",
        probe="completion",
        timeout=HASTE,
    ),
    Fault(
        "allowed line of 8 MB",
        sends(STREAM + b"data: " + b"y" * 8 * MIB + b"\n\n"),
        "malformed",
        "not JSON",
        probe="completion",
        settings={"size_max": 16 * MIB},
    ),
    Fault(
        "expired certificate",
        secured("expired.pem"),
        "tls",
        "certificate has expired",
        settings={"ca_file": str(HERE / "expired.pem")},
    ),
    Fault(
        "expired certificate, asked for itself",
        secured("expired.pem"),
        "tls",
        "certificate has expired",
        probe="tls",
        settings={"ca_file": str(HERE / "expired.pem")},
    ),
    Fault(
        "certificate of another name",
        secured("named.pem"),
        "tls",
        "certificate is not valid for",
        settings={"ca_file": str(HERE / "named.pem")},
    ),
    Fault("page instead of a status page", sends(PAGE), "malformed", "not JSON", probe="status_page"),
    Fault("status page elsewhere", redirects_to_itself, "server_error", "not followed", probe="status_page"),
    Fault(
        "status page without end",
        drips(JSON + b'\r\n{"components": [', b"{}," * 9_999, every=0),
        "probe_invalid",
        "larger than what is read of one",
        probe="status_page",
        settings={"size_max": 16 * MIB},
    ),
    Fault(
        "cut status page",
        sends(sized(b'{"status": {"indicator": "none"}}', 99)),
        "stream",
        "in the answer",
        probe="status_page",
    ),
    Fault("204 to a tool call", sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "empty", "no body", probe="tools"),
    Fault("page instead of a tool call", sends(PAGE), "malformed", "not JSON", probe="tools"),
    Fault(
        "rate limit with 200",
        sends(sized(b'{"error": {"message": "no", "code": 429}}')),
        "rate_limited",
        "429 no",
        probe="tools",
    ),
]


async def judged(lab, fault: Fault, url: str, connections: Connections, *, slower: float = 1.0) -> None:
    """Probe, and hold the result against the table."""
    limit = fault.limit * slower
    settings = lab.settings(fault.probe, **({"timeout": limit, "size_max": SIZE_MAX} | fault.settings))
    result = await probe(lab.endpoint(url, id=fault.what), settings, None, connections=connections)
    outcome = result.outcome
    assert (fault.what, outcome.kind) in [(fault.what, kind) for kind in fault.kind.split()], outcome.detail
    assert fault.says in outcome.detail, fault.what
    assert result.bug is None
    assert result.ended - result.began < limit + MARGIN, fault.what


@pytest.fixture
def names():
    resolver = Names()
    yield resolver
    resolver.let_go.set()


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_every_fault_ends_as_what_it_is_and_in_time(lab, names, fault):
    connections = Connections(clock=time.monotonic, tls=lab.trusting, lookup=names)
    try:
        await judged(lab, fault, await fault.start(lab), connections)
    finally:
        await connections.close()


def test_the_table_is_of_different_faults_and_of_words_that_outcomes_have():
    assert len(FAULTS) >= 45
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)
    assert {kind for fault in FAULTS for kind in fault.kind.split()} <= set(KINDS)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_whole_table_many_times_over_leaves_no_task_no_socket_and_no_memory(laboratory, names, loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(many_rounds(laboratory(), names))


async def many_rounds(lab, names: Names) -> None:
    try:
        faults = [(fault, await fault.start(lab)) for fault in FAULTS]
        await one_round(lab, names, faults)
        tasks, sockets = len(asyncio.all_tasks()), open_files()
        tracemalloc.start()
        await one_round(lab, names, faults)
        before = await settled(tasks, sockets)
        for _ in range(ROUNDS):
            await one_round(lab, names, faults)
        assert await settled(tasks, sockets) - before < GROWN_MAX
    finally:
        tracemalloc.stop()
        await lab.close()


async def one_round(lab, names: Names, faults) -> None:
    """Probe many at once, as a daemon does, and close what may be kept."""
    connections = Connections(clock=time.monotonic, tls=lab.trusting, lookup=names)
    names.let_go.clear()
    # Those with little time first, and by themselves: the others keep the loop busy.
    for hasty in (True, False):
        async with asyncio.TaskGroup() as group:
            for fault, url in faults:
                if (fault.limit == HASTE) is hasty:
                    group.create_task(judged(lab, fault, url, connections, slower=CROWDED), name=fault.what)
    await connections.close()
    names.let_go.set()
    for server in lab.servers:
        server.requests.clear()  # what a server remembers is no growth of balancer's


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def settled(tasks: int, files: int) -> int:
    """Wait until there are no more tasks and files than that; answer the bytes that balancer and h11 hold then."""
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > tasks or open_files() > files:
            await asyncio.sleep(0.01)
    gc.collect()
    ours = [tracemalloc.Filter(True, f"{Path(module.__file__).parent}/*") for module in (balancer, h11)]
    held = tracemalloc.take_snapshot().filter_traces(ours)
    return sum(each.size for each in held.statistics("filename"))
