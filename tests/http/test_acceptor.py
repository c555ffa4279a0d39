"""Taking connections, on both loops: rotation, slow handshakes, no more files, and the end."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from balancer.config import ConfigError, Listen, TlsSettings
from balancer.http import PreparedTls, Server, prepare_tls
from balancer.http.acceptor import BATCH, PAUSE, Acceptor
from balancer.http.complaints import LINES_MAX, Complaints
from balancer.http.limits import LIMITS, SPARE_SHARE, Limits
from balancer.http.server import LAST_CALL
from balancer.http.sockets import BACKLOG, Listening

ASKED = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
HASTY = Limits(handshake=0.3)

Run = Callable[[Coroutine[Any, Any, None]], None]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a story on one of the loops that the daemon may have."""

    def run(story: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        # What a failed story leaves open is no second failure: as one it would keep uvloop from closing for ever.
        with (
            warnings.catch_warnings(action="ignore", category=ResourceWarning),
            asyncio.Runner(loop_factory=factory) as runner,
        ):
            runner.run(story)

    return run


class Pki:
    """An authority, and the files that it makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.clients = trustme.CA()

    def issue(self, *, clients: trustme.CA | None = None) -> TlsSettings:
        """Write a new pair over the old one."""
        made = self.authority.issue_cert("localhost")
        (self.folder / "cert.pem").write_bytes(made.cert_chain_pems[0].bytes())
        (self.folder / "key.pem").write_bytes(made.private_key_pem.bytes())
        if clients is not None:
            clients.cert_pem.write_to_path(str(self.folder / "clients.pem"))
        return TlsSettings(
            cert_file=str(self.folder / "cert.pem"),
            key_file=str(self.folder / "key.pem"),
            client_ca_file=None if clients is None else str(self.folder / "clients.pem"),
        )

    def client(self, issuer: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if issuer is not None:
            issuer.issue_cert("proxy@example.com").configure_cert(context)
        return context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


async def connect(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask over a connection that is kept; the answer's head."""
    writer.write(ASKED)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return head


async def asked(port: int, context: ssl.SSLContext) -> bytes | None:
    """Ask over a connection of its own; its certificate, or `None` where nobody answers."""
    try:
        reader, writer = await connect(port, context)
        try:
            await ask(reader, writer)
            certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return certificate
        finally:
            writer.close()
    except (OSError, EOFError):
        return None


async def started(world: Any, tls: PreparedTls, *, limits: Limits = LIMITS) -> tuple[Server, int]:
    server = Server(world.hands(), limits=limits)
    (address,) = await server.start([Listen(host="127.0.0.1", port=0)], tls=tls)
    assert address.startswith("https://127.0.0.1:")
    return server, int(address.rpartition(":")[2])


# ---- rotation ---------------------------------------------------------------------------------------------


def test_rotated_files_hold_for_the_next_connection_and_close_none(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        server, port = await started(make_world(), prepare_tls(pki.issue()))
        context = pki.client()
        reader, writer = await connect(port, context)
        await ask(reader, writer)
        before = await asked(port, context)
        server.use_tls(prepare_tls(pki.issue()))
        after = await asked(port, context)
        assert None not in (before, after)
        assert before != after
        assert b" 200 " in await ask(reader, writer), "the open connection goes on"
        writer.close()
        await server.stop(grace=2.0)

    run(story())


def test_a_broken_pair_leaves_the_old_one_in_force(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        settings = pki.issue()
        server, port = await started(make_world(), prepare_tls(settings))
        before = await asked(port, pki.client())
        (pki.folder / "key.pem").write_bytes(pki.authority.issue_cert("localhost").private_key_pem.bytes())
        with pytest.raises(ConfigError, match="not the key of the certificate"):
            prepare_tls(settings)
        assert await asked(port, pki.client()) == before is not None
        await server.stop(grace=2.0)

    run(story())


def test_another_client_authority_holds_for_the_next_connection(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        world = make_world()
        others = trustme.CA()
        server, port = await started(world, prepare_tls(pki.issue(clients=pki.clients)))
        old, new = pki.client(pki.clients), pki.client(others)
        assert await asked(port, old) is not None
        assert await asked(port, new) is None
        assert await asked(port, pki.client()) is None
        assert {event for _, event, _ in world.lines.lines} == {"handshake.failed"}
        reasons = [facts["reason"] for _, _, facts in world.lines.lines]
        assert reasons[-1] == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        server.use_tls(prepare_tls(pki.issue(clients=others)))
        assert await asked(port, old) is None, "also not with a ticket of its former session"
        assert await asked(port, new) is not None
        server.use_tls(prepare_tls(pki.issue()))
        assert await asked(port, pki.client()) is not None
        await server.stop(grace=2.0)

    run(story())


# ---- handshakes -------------------------------------------------------------------------------------------


def test_who_never_shakes_hands_is_cut_off_in_time(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        world = make_world()
        server, port = await started(world, prepare_tls(pki.issue()), limits=HASTY)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01")  # the first bytes of a handshake
        async with asyncio.timeout(3):
            with pytest.raises((ConnectionResetError, EOFError)):
                await reader.readexactly(1)
        writer.close()
        assert world.lines.lines == []
        await server.stop(grace=1.0)

    run(story())


def test_many_who_never_shake_hands_keep_nobody_out(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        server, port = await started(make_world(), prepare_tls(pki.issue()))
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LIMITS.handshakes + 40)]
        async with asyncio.timeout(2):
            assert await asked(port, pki.client()) is not None
            cut = [await reader.read() for reader, _ in slow[:40]]
        assert cut == [b""] * 40, "the oldest gave way"
        for _, writer in slow:
            writer.close()
        await server.stop(grace=1.0)

    run(story())


def test_many_who_come_in_one_turn_of_the_loop_hold_no_more_than_the_bound(run: Run, pki: Pki) -> None:
    async def story() -> None:
        tls = prepare_tls(pki.issue()).context
        for ours in (False, True):  # where the socket is ours the end takes all who wait, in one turn
            with (
                warnings.catch_warnings(record=True, action="always", category=ResourceWarning) as unclosed,
                socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as given,
            ):
                mine = given.dup()
                mine.setblocking(False)
                acceptor = Acceptor(asyncio.Protocol, tls=tls, limits=LIMITS, log=None, complaints=Complaints(None))  # type: ignore[arg-type]
                silent = [socket.create_connection(given.getsockname()) for _ in range(3 * LIMITS.handshakes)]
                before = open_files()
                acceptor.serve(Listening(mine, ours=ours))
                if ours:
                    acceptor.stop()
                async with asyncio.timeout(10):
                    while silent_ones_left(silent) > LIMITS.handshakes or acceptor.opening < LIMITS.handshakes:
                        assert acceptor.opening <= LIMITS.handshakes
                        # Those that gave way in a turn are closed in one of the next.
                        assert ours or open_files() - before <= LIMITS.handshakes + 3 * BATCH
                        await asyncio.sleep(0)
                acceptor.stop()
                acceptor.abort()
                async with asyncio.timeout(10):
                    while acceptor.opening or silent_ones_left(silent):
                        await asyncio.sleep(0)
                for client in silent:
                    client.close()
                gc.collect()
                assert unclosed == []

    run(story())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def silent_ones_left(clients: list[socket.socket]) -> int:
    """How many of them were not hung up on."""
    left = 0
    for client in clients:
        client.setblocking(False)
        try:
            client.recv(1)
        except BlockingIOError:
            left += 1
        except ConnectionResetError:
            pass
    return left


def test_a_crowd_that_speaks_plainly_to_tls_fills_no_log(run: Run, pki: Pki, make_world: Any, until: Until) -> None:
    async def story() -> None:
        world = make_world()
        server, port = await started(world, prepare_tls(pki.issue()))
        for _ in range(LINES_MAX + 5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ASKED)
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
        await until(lambda: len(world.lines.lines) >= LINES_MAX)
        assert await asked(port, pki.client()) is not None  # a whole handshake later
        assert world.lines.events == ["handshake.failed"] * LINES_MAX
        await server.stop(grace=2.0)

    run(story())


def test_who_speaks_plainly_to_tls_is_told_in_the_log(run: Run, pki: Pki, make_world: Any, until: Until) -> None:
    async def story() -> None:
        world = make_world()
        server, port = await started(world, prepare_tls(pki.issue()))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        peer = f"127.0.0.1:{writer.get_extra_info('sockname')[1]}"
        writer.write(ASKED)
        with_reset = False
        try:
            assert b"HTTP" not in await reader.read()
        except ConnectionResetError:
            with_reset = True
        writer.close()
        await until(lambda: world.lines.lines != [])
        assert world.lines.lines == [("info", "handshake.failed", {"reason": "HTTP_REQUEST", "peer": peer})], (
            with_reset
        )
        await server.stop(grace=1.0)

    run(story())


def test_a_unix_socket_stays_plain_and_a_passed_one_is_encrypted(
    run: Run, pki: Pki, make_world: Any, passed: Any
) -> None:
    async def story() -> None:
        path = pki.folder / "b.sock"
        server = Server(make_world().hands())
        tls = prepare_tls(pki.issue())
        assert await server.start([Listen(path=str(path))], tls=tls) == [f"unix:{path}"]
        reader, writer = await asyncio.open_unix_connection(path)
        assert b" 200 " in await ask(reader, writer)
        writer.close()
        await server.stop(grace=1.0)
        with socket.create_server(("127.0.0.1", 0)) as given:
            port = given.getsockname()[1]
            server = Server(make_world().hands())
            addresses = await server.start([], passed=[passed("api", given.dup())], tls=tls)
            assert addresses == [f"https://127.0.0.1:{port}"]
            assert await asked(port, pki.client()) is not None
            await server.stop(grace=1.0)

    run(story())


def test_a_handshake_under_way_at_the_end_is_finished_and_answered(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        server, port = await started(make_world(), prepare_tls(pki.issue()))
        raw = socket.create_connection(("127.0.0.1", port))
        raw.setblocking(False)
        await asyncio.sleep(0.05)  # the server has it, and has heard nothing
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.stop(grace=3.0), name="stop")
            await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_connection(sock=raw, ssl=pki.client(), server_hostname="localhost")
            assert b"\r\nconnection: close\r\n" in (await ask(reader, writer)).lower()
            writer.close()

    run(story())


def test_kept_encrypted_connections_have_a_last_call_too(run: Run, pki: Pki, make_world: Any) -> None:
    async def story() -> None:
        server, port = await started(make_world(), prepare_tls(pki.issue()))
        kept = [await connect(port, pki.client()) for _ in range(3)]
        for reader, writer in kept:
            assert b"connection: close" not in (await ask(reader, writer)).lower()
        async with asyncio.timeout(LAST_CALL + 1.0), asyncio.TaskGroup() as tasks:
            tasks.create_task(server.stop(grace=30.0), name="stop")
            await asyncio.sleep(LAST_CALL / 2)
            assert b"\r\nconnection: close\r\n" in (await ask(*kept[0])).lower()
            assert [await reader.read() for reader, _ in kept] == [b""] * 3
        for _, writer in kept:
            writer.close()

    run(story())


# ---- room -------------------------------------------------------------------------------------------------


FILES_MIN = int(LIMITS.spare / SPARE_SHARE)  # of a process that may open fewer, fewer are spared


@contextmanager
def files_left(count: int) -> Iterator[None]:
    """Let this process open no more files than so many besides those that it has."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    holes: list[int] = []
    if used < FILES_MIN:
        used = FILES_MIN
        holes.append(os.dup2(0, used))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + count, most[1]))
        with suppress(OSError):
            while (number := os.dup(0)) <= used:
                holes.append(number)
            os.close(number)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
        for each in holes:
            os.close(each)


def test_where_no_more_files_may_be_open_connections_wait_and_that_is_told_once(
    run: Run, make_world: Any, until: Until
) -> None:
    async def story() -> None:
        world = make_world()
        server = Server(world.hands())
        (address,) = await server.start([Listen(host="127.0.0.1", port=0)])
        waiting = [socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) for _ in range(3)]
        loop = asyncio.get_running_loop()
        with files_left(LIMITS.spare):
            await asyncio.sleep(PAUSE * 1.5)  # so long that it is tried again: this is the test's subject
            assert world.lines.lines == [("error", "accept.paused", {"reason": "Too many open files"})]
        for client in waiting:
            client.setblocking(False)
            await loop.sock_sendall(client, ASKED)
            async with asyncio.timeout(PAUSE + 2.0):
                assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 200 OK")
            client.close()
        await until(lambda: len(world.lines.lines) == 2)
        assert world.lines.events == ["accept.paused", "accept.resumed"]
        assert PAUSE < world.lines.lines[1][2]["after"] < 10.0
        await server.stop(grace=1.0)

    run(story())


def test_clients_leave_the_last_files_to_the_operators_server_and_to_our_own_question(
    run: Run, make_world: Any, until: Until, tmp_path: Path
) -> None:
    async def story() -> None:
        world, path = make_world(), tmp_path / "control.sock"
        server, control = Server(world.hands()), Server(world.hands(), limits=Limits(spare=0))
        (address,) = await server.start([Listen(host="127.0.0.1", port=0)])
        await control.start([Listen(path=str(path))])
        assert await server.ask("/-/healthy") == 200
        with files_left(LIMITS.spare):
            here = ("127.0.0.1", int(address.rpartition(":")[2]))
            clients = [socket.create_connection(here) for _ in range(LIMITS.spare // 2)]  # each has two ends
            await until(lambda: world.lines.events == ["accept.paused"])
            reader, writer = await asyncio.open_unix_connection(path)
            assert b" 200 " in await ask(reader, writer)
            writer.close()
            assert await server.ask("/-/healthy") == 200
            with files_left(0):
                assert await server.ask("/-/healthy") == 200
            for client in clients:
                client.close()
        await control.stop(grace=1.0)
        await server.stop(grace=1.0)

    run(story())


class Troubled(socket.socket):
    """A socket that finds a dead network first, as Linux tells of it: instead of a connection."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.setblocking(False)
        self.trouble = [errno.ENETDOWN, errno.EPERM, errno.ECONNABORTED]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.trouble:
            raise OSError(self.trouble.pop(0), "no network")
        return super().accept()


def test_trouble_of_one_connection_is_none_of_the_next(run: Run, make_world: Any, until: Until) -> None:
    async def story() -> None:
        world = make_world()
        made: list[asyncio.Protocol] = []

        def protocol() -> asyncio.Protocol:
            made.append(asyncio.Protocol())
            return made[-1]

        for at_the_end in (False, True):
            with socket.create_server(("127.0.0.1", 0)) as given:
                mine = Troubled(given.dup().detach())
                acceptor = Acceptor(
                    protocol,
                    tls=None,
                    limits=LIMITS,
                    log=world.hands().log,
                    complaints=Complaints(world.hands().log),
                )
                acceptor.serve(Listening(mine, ours=True))
                with socket.create_connection(given.getsockname()):
                    if at_the_end:
                        acceptor.stop()
                    await until(lambda: len(made) == 1)
                    acceptor.stop()
            made.clear()
        assert world.lines.lines == []

    run(story())


def test_trouble_that_stays_with_every_connection_is_told_and_does_not_spin(
    run: Run, make_world: Any, until: Until
) -> None:
    async def story() -> None:
        world = make_world()
        log = world.hands().log
        with socket.create_server(("127.0.0.1", 0)) as given:
            mine = Troubled(given.dup().detach())
            mine.trouble = [errno.EPERM] * 100_000
            acceptor = Acceptor(asyncio.Protocol, tls=None, limits=LIMITS, log=log, complaints=Complaints(log))
            acceptor.serve(Listening(mine, ours=False))
            with socket.create_connection(given.getsockname()):
                await until(lambda: world.lines.lines != [])
                for _ in range(10):
                    await asyncio.sleep(0)
            assert 100_000 - len(mine.trouble) == BATCH
            acceptor.stop()
        assert world.lines.lines == [("error", "accept.paused", {"reason": "no network"})]

    run(story())


def test_trouble_of_a_socket_is_told_once_and_does_not_keep_the_daemon_from_its_end(
    run: Run, make_world: Any, until: Until
) -> None:
    async def story() -> None:
        loop, world = asyncio.get_running_loop(), make_world()
        crashes: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: crashes.append(context))
        with socket.create_server(("127.0.0.1", 0)) as given:
            mine = given.dup()
            mine.setblocking(False)
            acceptor = Acceptor(
                asyncio.Protocol,
                tls=None,
                limits=LIMITS,
                log=world.hands().log,
                complaints=Complaints(world.hands().log),
            )
            acceptor.serve(Listening(mine, ours=True))
            given.shutdown(socket.SHUT_RDWR)  # from now on it does not listen, and accepting is an error
            await until(lambda: world.lines.lines != [])
            acceptor.stop()
            assert mine.fileno() == -1
        assert world.lines.lines == [("error", "accept.paused", {"reason": "Invalid argument"})]
        assert crashes == []

    run(story())


# ---- the end ----------------------------------------------------------------------------------------------


def test_what_waits_at_the_end_is_ours_only_on_a_socket_of_our_own(run: Run) -> None:
    async def story() -> None:
        for ours, taken in ((True, 3), (False, 0)):
            made: list[asyncio.Protocol] = []

            def protocol(made: list[asyncio.Protocol] = made) -> asyncio.Protocol:
                made.append(asyncio.Protocol())
                return made[-1]

            with socket.create_server(("127.0.0.1", 0)) as given:
                mine = given.dup()
                mine.setblocking(False)
                acceptor = Acceptor(protocol, tls=None, limits=LIMITS, log=None, complaints=Complaints(None))  # type: ignore[arg-type]
                acceptor.serve(Listening(mine, ours=ours))
                waiting = [socket.create_connection(given.getsockname()) for _ in range(3)]
                acceptor.stop()
                assert (acceptor.opening, mine.fileno()) == (taken, -1)
                while acceptor.opening:
                    await asyncio.sleep(0)
                assert len(made) == taken
                given.setblocking(False)
                left = 0
                while True:
                    try:
                        given.accept()[0].close()
                        left += 1
                    except BlockingIOError:
                        break
                assert left == 3 - taken
                for client in waiting:
                    client.close()

    run(story())
