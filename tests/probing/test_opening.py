"""How connections are opened, and what is said of those that are not."""

import asyncio
import os
import resource
import socket
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

# In a process of its own: it needs as many files as we do.
SERVER = """
import socketserver

class Keeps(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b'HTTP/1.1 200 OK\\r\\ncontent-length: 12\\r\\n\\r\\n{"data": []}')

with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Keeps) as server:
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


@asynccontextmanager
async def another_process():
    """The URL of a good server."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
    port = int(await process.stdout.readline())
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        await process.communicate()


@contextmanager
def few_files(more):
    """As many open files as now, and so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    holes = []
    try:
        with suppress(OSError):
            while True:
                holes.append(os.open("/dev/null", os.O_RDONLY))
        for hole in holes[:more]:
            os.close(hole)
        del holes[:more]
        if more > 0:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hole in holes:
            os.close(hole)


def entry(address):
    family = 10 if ":" in address else 2
    return (family, 1, 6, "", (address, 80))


async def test_one_address_is_tried_and_the_others_are_named(lab):
    lab.connections.names.lookup = lambda *_, **__: [entry(f"127.0.0.{last}") for last in (1, 2, 3, 4, 5)]
    result = await lab.probe("http://many.test:1/v1", "models")
    assert result.outcome.kind == "connect"
    assert "(127.0.0.1 port 1; not tried: 127.0.0.2, 127.0.0.3, 127.0.0.4)" in result.outcome.detail


async def test_where_no_more_files_may_be_open_a_kept_connection_makes_room(lab):
    async with another_process() as url:
        with few_files(10):
            for number in range(40):
                result = await lab.probe(url, "models", endpoint={"id": f"author/model@{number}"})
                assert (number, result.outcome.kind) == (number, "success")
        assert 0 < lab.connections.idle <= 20


def opens(path):
    """A lookup that reads a file, as a resolver does."""

    def lookup(host, port, *, family, type):  # noqa: A002  # getaddrinfo's own word
        with Path(path).open():
            return [(family, type, 6, "", ("127.0.0.1", port))]

    return lookup


def unknown(host, port, *, family, type):  # noqa: A002
    """A lookup that takes it for granted that a file which it cannot open has no such name."""
    try:
        return opens("/dev/null")(host, port, family=family, type=type)
    except OSError:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None


@pytest.mark.parametrize("lookup", [opens("/dev/null"), unknown, socket.getaddrinfo])
@pytest.mark.parametrize("kind", ["models", "dns"])
async def test_where_no_more_files_may_be_open_a_kept_connection_makes_room_for_a_lookup(lab, lookup, kind):
    lab.connections.names.lookup = lookup
    async with another_process() as url:
        named = url.replace("127.0.0.1", "localhost")
        # Once before: what is imported and looked at by the first lookup of a process stays open.
        assert (await lab.probe(named, "dns", ip_version="4")).outcome.kind == "success"
        with few_files(10):
            for number in range(40):
                endpoint = {"id": f"author/model@{number}"}
                assert (await lab.probe(url, "models", endpoint=endpoint)).outcome.kind == "success"
                result = await lab.probe(named, kind, endpoint=endpoint, ip_version="4")
                assert (number, result.outcome.kind) == (number, "success")


async def test_where_nothing_is_kept_that_no_file_can_be_opened_is_our_own_trouble(lab):
    async with another_process() as url:
        with few_files(0):
            result = await lab.probe(url, "models")
        assert result.outcome.kind == "local"
        assert "Too many open files" in result.outcome.detail
