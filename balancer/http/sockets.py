"""Listening sockets: made from addresses or handed over, who may reach them, and what they are called.

Theory of operation: all are made, or none. A unix socket cannot be connected to before it listens, and it listens
only once its group and mode are right, so there is no moment at which others than those may come in. The file of a
dead daemon is removed; a living one's is not, nor anything that is no socket. Where a service manager hands sockets
over they are served as they are: it made them, it keeps them, and their backlog is the next process's to serve.

What this module does not know: connections and TLS.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from socket import (
    AF_INET6,
    AF_UNIX,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_STREAM,
    SOL_SOCKET,
)
from socket import socket as Socket  # noqa: N812 - `socket` is the field of what is handed over
from typing import Final

from balancer.config import Config, ConfigError, ConfigProblem, Listen
from balancer.service.sockets import Passed

BACKLOG: Final = 1024  # connections that the kernel holds while the loop is busy
ALIVE_TIMEOUT: Final = 1.0  # s; a unix socket that somebody serves accepts at once
GROUP_MODE: Final = 0o660  # of a unix socket with a group and no mode: connecting needs the right to write

# What a name's other addresses may lack on this machine: the address itself, or the whole family.
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens. `file` is the path and inode of a unix socket that is ours to remove.

    `ours`: nobody else serves it after us, so what waits in its backlog is ours too.
    """

    socket: Socket
    ours: bool
    file: tuple[Path, int] | None = None

    def address(self, *, tls: bool) -> str:
        """Tell where it is, as a client would write it; unix sockets are never encrypted."""
        return address_of(self.socket, scheme="https" if tls else "http")

    def close(self) -> None:
        """Let go of it; remove its file, unless a successor has bound the same path by now."""
        self.socket.close()
        if self.file is not None:
            _remove(*self.file)


def address_of(bound: Socket, *, scheme: str) -> str:
    """Tell where a socket is bound: `http://127.0.0.1:8790`, `unix:/run/b.sock`, `unix:@name` (without a file)."""
    name = bound.getsockname()
    if bound.family == AF_UNIX:
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{bytes(name[1:]).decode(errors='replace')}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if bound.family == AF_INET6 else f"{scheme}://{host}:{port}"


def refuse_wide(passed: Sequence[Passed], config: Config) -> None:
    """Refuse to serve others than this machine without any token, as `listen` is refused when it is read.

    Raises: ConfigError naming every such socket; to be asked before serving, and of each new configuration.
    """
    wide = [
        f"{each.name} ({address_of(each.socket, scheme='tcp').removeprefix('tcp://')})"
        for each in passed
        if each.socket.family != AF_UNIX and not _is_loopback(each.socket.getsockname()[0])
    ]
    if wide and not config.tokens and not config.insecure:
        found = f"without any token the passed socket {', '.join(wide)} lets others than this machine in"
        allowed = "give auth.tokens, let the socket unit listen on 127.0.0.1 or a path, or set insecure: true"
        raise ConfigError([ConfigProblem(file="sockets", line=None, path="auth", found=found, allowed=allowed)])


def taken_over(passed: Sequence[Passed]) -> list[Listening]:
    """Take sockets that were handed over, as they are; whoever took them from the manager has judged them."""
    for each in passed:
        each.socket.setblocking(False)
    return [Listening(each.socket, ours=False) for each in passed]


async def bound(addresses: Sequence[Listen]) -> list[Listening]:
    """Make one listening socket of every address, or several.

    Raises: OSError naming the address; then there is none.
    """
    made: list[Listening] = []
    for each in addresses:
        try:
            made += await (_tcp(each) if each.path is None else _unix(each, Path(each.path)))
        except OSError as error:
            for other in made:
                other.close()
            reason = str(error) if error.strerror is None else error.strerror
            raise OSError(error.errno, f"cannot listen on {each}: {reason}") from error
    return made


async def _tcp(listen: Listen) -> list[Listening]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(listen.host, listen.port, type=SOCK_STREAM, flags=AI_PASSIVE)
    made: list[Listening] = []
    absent: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            made.append(Listening(_tcp_socket(family, address, reuse_port=listen.reuse_port), ours=True))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                for each in made:
                    each.close()
                raise
            absent = error  # `localhost` has an IPv6 address on machines that have no IPv6
    if not made:
        assert absent is not None, "a lookup that succeeds finds something"
        raise absent
    return made


def _tcp_socket(family: int, address: tuple[object, ...], *, reuse_port: bool) -> Socket:
    made = Socket(family, SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # a restart need not wait for old connections' TIME_WAIT
        if reuse_port:
            made.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if family == AF_INET6:
            made.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)  # [::] beside 0.0.0.0, not instead of it
        made.bind(address)
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


async def _unix(listen: Listen, path: Path) -> list[Listening]:
    group = None if listen.group is None else await asyncio.to_thread(_group_id, listen.group)
    inode = _in_the_way(path)
    if inode is not None:
        if await _is_served(path):
            raise OSError(errno.EADDRINUSE, "another process serves this socket")
        _remove(path, inode)
    return [_unix_socket(listen, path, group)]


def _unix_socket(listen: Listen, path: Path, group: int | None) -> Listening:
    mode = GROUP_MODE if listen.mode is None and group is not None else listen.mode
    made = Socket(AF_UNIX, SOCK_STREAM)
    file: tuple[Path, int] | None = None
    try:
        made.setblocking(False)
        if mode is not None:
            os.fchmod(made.fileno(), 0o600)  # Linux gives it to the file that `bind` makes
        made.bind(str(path))
        file = (path, path.stat().st_ino)
        if group is not None:
            _give_to(path, group, name=listen.group)
        if mode is not None:
            path.chmod(mode)
        made.listen(BACKLOG)  # before, a connection is refused whoever asks
    except BaseException:
        Listening(made, ours=True, file=file).close()
        raise
    return Listening(made, ours=True, file=file)


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(errno.ENOENT, f"there is no group {name} on this machine") from None


def _give_to(path: Path, group: int, *, name: str | None) -> None:
    try:
        os.chown(path, -1, group)
    except PermissionError as error:
        found = f"it cannot be given to the group {name}, of which this user is no member (SupplementaryGroups=)"
        raise OSError(error.errno, found) from None


def _in_the_way(path: Path) -> int | None:
    """Give the inode of a socket that is there already. Raises: OSError when it is something else."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(there.st_mode):
        what = _WORDS.get(stat.S_IFMT(there.st_mode), "no socket")
        raise OSError(errno.EEXIST, f"{what} is there, and is left alone; remove it, or use another path")
    return there.st_ino


def _remove(path: Path, inode: int) -> None:
    """Remove a file, unless another has taken its path by now."""
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


_WORDS: Final = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
}


async def _is_served(path: Path) -> bool:
    try:
        async with asyncio.timeout(ALIVE_TIMEOUT):
            _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except (TimeoutError, BlockingIOError):
        return True  # its queue is full: somebody has it
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
