"""One directory, one daemon, one file that is always whole: real files on real disks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from balancer.store.directory import BAD_MAX, BESIDE, NAME, Directory, InUse
from balancer.store.frame import HEAD_MAX, StateFileError


class Disk(Protocol):
    """What the fixture `tmpfs` mounts."""

    path: Path

    def remount(self, options: str) -> None: ...


WALL = 1_700_000_000.25


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    made = Directory(tmp_path / "state")
    made.open()
    yield made
    made.close()


def names(directory: Directory) -> list[str]:
    return sorted(each.name for each in directory.path.iterdir())


# ---- whose it is -------------------------------------------------------------------------------------


def test_it_is_made_where_it_is_missing_and_nobody_else_may_look(directory: Directory) -> None:
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert names(directory) == []


def test_only_the_last_step_of_its_path_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Directory(tmp_path / "disk" / "state").open()
    assert list(tmp_path.iterdir()) == []


def test_a_second_daemon_is_told_whose_it_is(directory: Directory) -> None:
    second = Directory(directory.path)
    with pytest.raises(InUse) as refused:
        second.open()
    assert refused.value.strerror == (
        f"{directory.path} is the state directory of a balancer that runs already; "
        "stop that one, or give this one another state_dir"
    )
    assert not second.is_open
    directory.close()
    second.open()
    second.close()


def test_the_lock_ends_with_the_process_that_is_killed(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from balancer.store.directory import Directory\n"
        "d = Directory(Path(sys.argv[1])); d.open(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        mine = Directory(tmp_path / "state")
        with pytest.raises(InUse):
            mine.open()
        process.kill()
        process.wait()
        mine.open()
        mine.close()


def test_a_file_where_a_directory_belongs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(NotADirectoryError):
        Directory(tmp_path / "state").open()


def test_it_notices_when_its_path_leads_elsewhere(directory: Directory, tmp_path: Path) -> None:
    assert directory.leads_here()
    directory.path.rename(tmp_path / "other")
    assert not directory.leads_here()
    directory.path.mkdir()
    assert not directory.leads_here()
    directory.path.rmdir()
    directory.path.write_text("")
    assert not directory.leads_here()
    directory.path.unlink()
    (tmp_path / "other").rename(directory.path)
    assert directory.leads_here()


# ---- writing and reading -----------------------------------------------------------------------------


def test_what_was_written_is_read_and_replaced(directory: Directory) -> None:
    assert directory.read() is None
    directory.write([b"one ", b"", b"two"])
    assert directory.read() == b"one two"
    directory.write([b"three"])
    assert directory.read() == b"three"
    assert names(directory) == [NAME]


def test_only_the_daemon_may_read_it(directory: Directory) -> None:
    before = os.umask(0)
    try:
        directory.write([b"x"])
    finally:
        os.umask(before)
    assert (directory.path / NAME).stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_is_removed_at_the_start_and_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / BESIDE).write_bytes(b"half a st")
    directory = Directory(tmp_path)
    directory.open()
    assert names(directory) == []
    (tmp_path / BESIDE).symlink_to(tmp_path / "elsewhere")
    directory.write([b"x"])
    assert names(directory) == [NAME]
    directory.close()


def test_a_link_is_not_followed(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (directory.path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateFileError, match="cannot be opened"):
        directory.read()
    directory.write([b"x"])
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert directory.read() == b"x"


def test_what_is_no_regular_file_is_refused_and_can_be_set_aside(directory: Directory) -> None:
    for make in (os.mkfifo, os.mkdir):
        make(directory.path / NAME)
        with pytest.raises(StateFileError, match=r"it is no regular file|it cannot be read"):
            directory.read()
        assert directory.set_aside(wall=WALL) is not None
        assert directory.read() is None
        for each in directory.path.iterdir():
            each.rmdir() if each.is_dir() else each.unlink()


def test_no_more_is_read_than_can_be_a_state(directory: Directory) -> None:
    with (directory.path / NAME).open("wb") as file:
        file.truncate(128 * 1024**2 + HEAD_MAX + 1)  # takes no room
    with pytest.raises(StateFileError, match="it is longer than 134217728 bytes"):
        directory.read()


# ---- setting aside -----------------------------------------------------------------------------------


def test_what_is_set_aside_has_the_time_in_its_name(directory: Directory) -> None:
    directory.write([b"bad"])
    assert directory.set_aside(wall=WALL) == "balancer.state.bad-20231114T221320.250000Z"
    assert directory.read() is None
    assert (directory.path / "balancer.state.bad-20231114T221320.250000Z").read_bytes() == b"bad"


def test_only_the_last_few_are_kept(directory: Directory) -> None:
    for number in range(6):
        directory.write([b"%d" % number])
        directory.set_aside(wall=WALL + number)
    assert [each.read_bytes() for each in sorted(directory.path.iterdir())] == [b"3", b"4", b"5"][-BAD_MAX:]


def test_the_one_that_was_just_set_aside_is_kept_though_the_clock_went_back(directory: Directory) -> None:
    for wall in (5.0, 4.0, 3.0, 2.0, 1.0):
        directory.write([b"%d" % wall])
        directory.set_aside(wall=wall)
    assert b"1" in {each.read_bytes() for each in directory.path.iterdir()}
    assert len(names(directory)) == BAD_MAX


def test_there_may_be_nothing_to_set_aside_any_more(directory: Directory) -> None:
    assert directory.set_aside(wall=WALL) is None


@pytest.mark.parametrize("wall", [1e15, -1e15])
def test_an_impossible_clock_names_it_all_the_same(directory: Directory, wall: float) -> None:
    directory.write([b"bad"])
    name = directory.set_aside(wall=wall)
    assert name == f"balancer.state.bad-{wall:.0f}"


# ---- bad disks ---------------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_old_file_and_what_was_begun_takes_no_room(tmpfs: Callable[[int], Disk]) -> None:
    directory = Directory(tmpfs(256 * 1024).path)
    directory.open()
    directory.write([b"old"])
    with pytest.raises(OSError, match="No space left"):
        directory.write([b"x" * 65536] * 8)
    assert names(directory) == [NAME]
    assert directory.read() == b"old"
    directory.write([b"x" * 65536] * 2)
    directory.close()


def test_a_read_only_disk_is_locked_and_read_and_not_written(tmpfs: Callable[[int], Disk]) -> None:
    disk = tmpfs(256 * 1024)
    (disk.path / NAME).write_bytes(b"old")
    (disk.path / BESIDE).write_bytes(b"half")
    disk.remount("ro")
    directory = Directory(disk.path)
    directory.open()
    with pytest.raises(InUse):
        Directory(disk.path).open()
    assert directory.read() == b"old"
    with pytest.raises(OSError, match="Read-only"):
        directory.write([b"x"])
    with pytest.raises(OSError, match="Read-only"):
        directory.set_aside(wall=WALL)
    assert directory.read() == b"old"
    directory.close()
