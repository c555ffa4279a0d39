"""Who is at the other end."""

import asyncio
import os
from pathlib import Path

import pytest

from balancer.http.peers import UNKNOWN, address, peer


class Listener(asyncio.Protocol):
    """Notes the peer of the one connection that is made to it."""

    def __init__(self) -> None:
        self.told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.set_result(peer(transport))
        transport.close()


async def test_an_ipv4_peer_is_its_address_and_port() -> None:
    listener = Listener()
    server = await asyncio.get_running_loop().create_server(lambda: listener, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        host, port = writer.get_extra_info("sockname")
        assert await listener.told == f"{host}:{port}"
        writer.close()


async def test_an_ipv6_peer_stands_in_brackets() -> None:
    listener = Listener()
    try:
        server = await asyncio.get_running_loop().create_server(lambda: listener, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        assert await listener.told == f"[::1]:{writer.get_extra_info('sockname')[1]}"
        writer.close()


async def test_a_peer_on_a_unix_socket_is_its_user_and_process(tmp_path: Path) -> None:
    listener = Listener()
    path = tmp_path / "a.sock"
    async with await asyncio.get_running_loop().create_unix_server(lambda: listener, path):
        _, writer = await asyncio.open_unix_connection(path)
        assert await listener.told == f"unix uid {os.getuid()} pid {os.getpid()}"
        writer.close()


def test_a_connection_that_is_gone_or_has_no_name_has_no_peer() -> None:
    assert peer(None) == UNKNOWN
    assert peer(asyncio.Transport()) == UNKNOWN
    assert address(()) == address("") == UNKNOWN
