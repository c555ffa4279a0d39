"""Listening sockets: how they are made, what is left alone, and who can reach them."""

from __future__ import annotations

import grp
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest

from balancer.config import Config, ConfigError, Listen, Secret, Token
from balancer.http import refuse_wide
from balancer.http.sockets import Listening, bound, taken_over


class Passed(NamedTuple):
    name: str
    socket: socket.socket


@pytest.fixture
def path() -> Iterator[Path]:
    """A path for a socket, in a folder that everybody may use."""
    folder = tempfile.mkdtemp()
    Path(folder).chmod(0o777)
    yield Path(folder) / "b.sock"
    shutil.rmtree(folder)


@pytest.fixture
def open_umask() -> Iterator[None]:
    """No right is taken from new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    return made


async def listening(*addresses: Listen) -> list[Listening]:
    made = await bound(addresses)
    for each in made:
        assert each.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not each.socket.getblocking()
    return made


def close(made: list[Listening]) -> None:
    for each in made:
        each.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- unix sockets -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_unix_socket_has_the_mode_that_was_asked_for(path: Path, mode: int) -> None:
    made = await listening(Listen(path=str(path), mode=mode))
    assert (made[0].address(tls=True), mode_of(path)) == (f"unix:{path}", mode)
    close(made)
    assert not path.exists()


async def test_the_umask_takes_nothing_from_a_mode(path: Path) -> None:
    before = os.umask(0o777)
    try:
        made = await listening(Listen(path=str(path), mode=0o666))
    finally:
        os.umask(before)
    assert mode_of(path) == 0o666
    close(made)


async def test_without_a_mode_it_is_as_the_process_makes_its_files(path: Path) -> None:
    before = os.umask(0o027)
    try:
        made = await listening(Listen(path=str(path)))
    finally:
        os.umask(before)
    assert mode_of(path) == 0o750
    close(made)


@pytest.mark.usefixtures("open_umask")
async def test_a_group_alone_makes_it_0660(path: Path) -> None:
    group = grp.getgrgid(os.getgroups()[-1] if os.getuid() else 1)
    made = await listening(Listen(path=str(path), group=group.gr_name))
    assert (path.stat().st_gid, mode_of(path)) == (group.gr_gid, 0o660)
    close(made)


@pytest.mark.usefixtures("open_umask")
async def test_there_is_no_moment_with_wider_rights(path: Path) -> None:
    seen: set[int] = set()
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            try:
                seen.add(mode_of(path))
            except FileNotFoundError:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        times, end = 0, monotonic() + 10.0
        while times < 200 or (not seen and monotonic() < end):  # a busy machine may not let the watcher run at once
            close(await listening(Listen(path=str(path), mode=0o640)))
            times += 1
    finally:
        stopped.set()
        watcher.join()
    assert seen, "the watcher saw some of it"
    assert seen <= {0o600, 0o640}


async def test_a_group_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(OSError, match=f"cannot listen on unix:{path}: there is no group hamsters on this machine"):
        await bound([Listen(path=str(path), group="hamsters")])
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_a_group_of_others_cannot_be_had_and_leaves_nothing(path: Path) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=r"group daemon, of which this user is no member"):
            await bound([Listen(path=str(path), group="daemon")])
    finally:
        os.seteuid(0)
    assert not path.exists()


async def test_a_dead_daemons_file_is_replaced_and_a_living_ones_is_not(path: Path) -> None:
    unix(path).close()
    made = await listening(Listen(path=str(path), mode=0o600))
    with pytest.raises(OSError, match="another process serves this socket"):
        await bound([Listen(path=str(path))])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(made)


async def test_what_is_no_socket_is_left_alone_and_named(path: Path) -> None:
    path.write_text("data")
    with pytest.raises(OSError, match="a regular file is there, and is left alone"):
        await bound([Listen(path=str(path))])
    assert path.read_text() == "data"
    with pytest.raises(OSError, match="a directory is there"):
        await bound([Listen(path=str(path.parent))])
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError, match="a symbolic link is there"):
        await bound([Listen(path=str(link))])
    assert link.is_symlink()


async def test_a_folder_that_is_not_there_is_the_systems_word(path: Path) -> None:
    gone = path.parent / "gone" / "b.sock"
    with pytest.raises(OSError, match=f"cannot listen on unix:{gone}: No such file or directory"):
        await bound([Listen(path=str(gone))])


async def test_a_successors_file_is_not_removed(path: Path) -> None:
    (ours,) = await listening(Listen(path=str(path)))
    path.rename(path.with_name("moved"))  # kept, or its inode could be used again
    with unix(path):
        ours.close()
        assert path.exists()


# ---- TCP --------------------------------------------------------------------------------------------------


async def test_only_who_asks_for_it_shares_a_port() -> None:
    first = await listening(Listen(host="127.0.0.1", port=0, reuse_port=True))
    port = first[0].socket.getsockname()[1]
    second = await listening(Listen(host="127.0.0.1", port=port, reuse_port=True))
    with pytest.raises(OSError, match="Address already in use"):
        await bound([Listen(host="127.0.0.1", port=port)])
    close(first + second)
    alone = await listening(Listen(host="127.0.0.1", port=port))
    with pytest.raises(OSError, match="Address already in use"):
        await bound([Listen(host="127.0.0.1", port=port, reuse_port=True)])
    close(alone)


async def test_a_name_is_every_address_of_it_that_this_machine_has() -> None:
    made = await listening(Listen(host="localhost", port=0))
    assert made
    assert all(each.address(tls=False).startswith(("http://127.0.0.1:", "http://[::1]:")) for each in made)
    assert all(each.address(tls=True).startswith("https://") for each in made)
    close(made)


async def test_one_that_fails_takes_the_others_with_it(path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.7:0: Cannot assign requested address"):
        await bound([Listen(path=str(path)), Listen(host="203.0.113.7", port=0)])
    assert not path.exists()


# ---- handed over ------------------------------------------------------------------------------------------


async def test_a_passed_socket_is_let_go_and_its_file_stays(path: Path) -> None:
    with unix(path) as given:
        given.listen()
        same = socket.socket(fileno=os.dup(given.fileno()))
        (taken,) = taken_over([Passed("api", same)])
        assert taken.address(tls=True) == f"unix:{path}"
        taken.close()
        assert (same.fileno(), path.exists()) == (-1, True)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # it still listens: somebody else has it


def test_a_socket_without_a_file_is_told_by_its_name() -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind("\0balancer-test")
        given.listen()
        assert taken_over([Passed("api", given)])[0].address(tls=False) == "unix:@balancer-test"


@pytest.mark.parametrize(
    ("family", "host", "reached"),
    [
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET, "127.8.8.8", False),
        (socket.AF_INET, "0.0.0.0", True),
        (socket.AF_INET6, "::1", False),
        (socket.AF_INET6, "::", True),
        (socket.AF_INET6, "::ffff:127.0.0.1", False),
    ],
)
def test_a_passed_socket_that_others_reach_needs_a_token(
    family: int, host: str, reached: bool, config: Callable[..., Config]
) -> None:
    with socket.socket(family) as given:
        try:
            given.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = given.getsockname()[1]
        shown = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        passed = [Passed("api", given)]
        if reached:
            with pytest.raises(ConfigError) as caught:
                refuse_wide(passed, config())
            assert str(caught.value) == (
                f"sockets: auth: without any token the passed socket api ({shown}) lets others than this machine "
                "in; give auth.tokens, let the socket unit listen on 127.0.0.1 or a path, or set insecure: true"
            )
        else:
            refuse_wide(passed, config())
        refuse_wide(passed, config(insecure=True))
        refuse_wide(passed, config(tokens=(Token(name="a", scopes=frozenset({"read"}), secret=Secret("t")),)))


def test_a_passed_unix_socket_needs_no_token(path: Path, config: Callable[..., Config]) -> None:
    with unix(path) as given:
        refuse_wide([Passed("api", given)], config())
