"""A machine of our own: the real systemd as PID 1 in fresh namespaces, over a throw-away copy of this one's files.

Theory of operation: three processes, each started by the one before.

`boot` (in the tests) starts the keeper and talks to the machine with `nsenter`. The keeper (`machine.py keep`)
makes a cgroup, starts the machine in it, and holds it until its own standard input ends: that happens however the
tests end, killed ones too, so no machine outlives them. `machine.py become` is the first process inside: it mounts
what a machine has over an overlay of the root directory, whose upper layer is in memory, and becomes systemd.

Four things that are easily got wrong, and fail far from their cause:
- `pivot_root`, not `chroot`: within a chroot the kernel refuses the new user namespaces of `PrivateUsers=`.
- All mounts are made shared at the end: in a container PID 1 leaves that to whoever made the mounts, and without it
  the folders of `LoadCredential=` are empty.
- /proc/sys is read-only: it belongs to the kernel, which we share with the machine outside, and systemd-sysctl
  would write there.
- An overlay sees none of the mounts below its root. What a container engine mounts over /etc/resolv.conf is copied.

Inside is a network of its own with nothing but loopback; a command can be lent the network outside (`online=True`).
Memory and task limits are not enforced where the machine outside gives the controllers to version 1 of cgroups.

`python tests/system/systemd/machine.py` boots one and gives a shell in it.

What this module does not know: what runs inside.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BOOT_MAX: Final = 60.0  # s; it takes a third of one where nothing else runs
DEADLINE: Final = 20.0  # s; until a condition must have become true
POLL: Final = 0.02  # s between two looks
TARGET: Final = "basic.target"  # sockets, timers, the journal, temporary files; no logins
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES: Final = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
SYSTEMD: Final = ("usr/lib/systemd/systemd", "lib/systemd/systemd")  # the second before /usr was merged
DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
# They look after the hardware and the kernel, which are not the machine's; or mount what the namespace may not.
MASKED: Final = (
    "systemd-udevd.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
)
CGROUP_NAME: Final = "balancer-machine-"  # and the keeper's process id


class MachineError(Exception):
    """No machine can be had here, and why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A running machine: its PID 1 as it is known outside."""

    pid: int

    def run(
        self,
        *argv: str,
        check: bool = True,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        online: bool = False,
        timeout: float = DEADLINE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root and wait for it.

        Shape: `text` is its standard input; `online` lends it the network outside and this process's environment.
        Raises: AssertionError with all that it said where `check` is set and it fails; subprocess.TimeoutExpired.
        """
        done = subprocess.run(
            self.argv(*argv, online=online),
            check=False,
            input="" if text is None else text,
            capture_output=True,
            text=True,
            env=self.environ(environ, online=online),
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def argv(self, *argv: str, online: bool = False) -> list[str]:
        """The command that runs another inside."""
        entered = ["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd"]
        return ["nsenter", "--target", str(self.pid), *entered, *(() if online else ("--net",)), "--", *argv]

    def environ(self, more: Mapping[str, str] | None = None, *, online: bool = False) -> dict[str, str]:
        """The environment of a command inside."""
        kept = {key: value for key, value in os.environ.items() if online and not key.startswith("PYTHON")}
        return {**kept, "PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **({} if more is None else more)}

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Ask systemd for something and wait until it is done."""
        return self.run("systemctl", *words, check=check)

    def shown(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", unit, "--property", name, "--value").stdout.strip()

    def path(self, inside: str) -> Path:
        """A file of the machine, as it is reached from outside. Shape: no symbolic link with an absolute target."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the machine, and the folders above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def until(self, condition: Callable[[], bool], what: str, within: float = DEADLINE) -> float:
        """Wait until a condition is true; how long that took, in seconds. Raises: AssertionError with `what`."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < within, f"not within {within:g} s: {what}"
            time.sleep(POLL)
        return time.monotonic() - began


def lacking(root: str = "/") -> str | None:
    """Why no machine can be booted here, as far as one can see; `None` where it is worth a try."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for namespaces"
    missing = [name for name in ("unshare", "nsenter", "pivot_root", "mount") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: util-linux, mount)"
    if _systemd(Path(root)) is None:
        return f"needs systemd on the disk, under {root} (Debian's package systemd; it need not run)"
    known = Path("/proc/filesystems").read_text().split()
    absent = [name for name in ("overlay", "cgroup2") if name not in known]
    return f"needs a kernel with {', '.join(absent)}" if absent else None


@contextmanager
def boot(*, root: str = "/", binds: Mapping[str, str] | None = None) -> Iterator[Machine]:
    """Boot a machine over the files of `root`; it is gone with all its traces when the context ends.

    Shape: `binds` are folders of this machine and where they are found inside.
    Raises: MachineError.
    """
    reason = lacking(root)
    if reason is not None:
        raise MachineError(reason)
    pairs = [f"--bind={source}:{place}" for source, place in ({} if binds is None else binds).items()]
    words = [sys.executable, str(Path(__file__).resolve()), "keep", f"--root={root}", *pairs]
    # The keeper's own mounts, if it needs any, end with it; and no Ctrl-C in a terminal is meant for it.
    argv = ["unshare", "--mount", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        said = keeper.stdout.readline().strip()
        if not said.isdecimal():
            raise MachineError("the machine's keeper ended without a word" if said == "" else said)
        machine = Machine(int(said))
        machine.until(lambda: _is_up(machine), "systemd has started", within=BOOT_MAX)
        yield machine
        # `Popen` closes the keeper's standard input and waits for its end, here and after every exception.


def _is_up(machine: Machine) -> bool:
    state = machine.run("systemctl", "is-system-running", check=False)
    if not Path(f"/proc/{machine.pid}").exists():
        raise MachineError(f"systemd ended while it started: {state.stderr}")
    return state.stdout.strip() in ("running", "degraded")


# ---- the keeper --------------------------------------------------------------------------------------


def keep(root: str, binds: Sequence[str]) -> None:
    """Start a machine, tell its process id, hold it until standard input ends, and leave nothing of it."""
    folder = Path(tempfile.mkdtemp(prefix=CGROUP_NAME))
    try:
        cgroup = _make_cgroup(folder)
        try:
            _hold(root, binds, folder, cgroup)
        finally:
            _remove_cgroup(cgroup)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no machine here: {error}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hold(root: str, binds: Sequence[str], folder: Path, cgroup: Path) -> None:
    stage = folder / "stage"
    stage.mkdir()
    pairs = [f"--bind={each}" for each in binds]
    words = [sys.executable, str(Path(__file__).resolve()), "become", f"--root={root}", f"--stage={stage}", *pairs]
    # --kill-child: where this process is killed the machine's PID 1 dies, and with it all that is inside.
    argv = ["unshare", "--fork", "--kill-child", *NAMESPACES, *words]

    def join() -> None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    with (folder / "log").open("w+") as log:
        machine = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=join
        )
        assert machine.stdout is not None
        said = machine.stdout.readline().strip()
        if said.isdecimal():
            print(said, flush=True)
            sys.stdin.read()
            # Inside is nothing that would miss an orderly end. Its PID 1 and not `unshare`, which then sees it die
            # and buries it: where nobody does, as PID 1 of a container often will not, a dead process stays.
            with suppress(ProcessLookupError):
                os.kill(int(said), signal.SIGKILL)
        else:
            log.seek(0)
            print(f"no machine here: {log.read().strip().replace(chr(10), '; ')}", flush=True)
            machine.kill()
        machine.wait()


def _make_cgroup(folder: Path) -> Path:
    """Make the cgroup that is the machine's root; where the file system is not mounted that is done first."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    place = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if place is None:
        place = folder / "cgroup"
        place.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(place)], check=True)
    for left in place.glob(f"{CGROUP_NAME}*"):  # by a keeper that was killed itself
        if not Path(f"/proc/{left.name.removeprefix(CGROUP_NAME)}").exists():
            _remove_cgroup(left)
    made = place / f"{CGROUP_NAME}{os.getpid()}"
    made.mkdir()
    return made


def _remove_cgroup(cgroup: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while cgroup.exists() and time.monotonic() < deadline:  # the last processes take a moment to be gone
        for inner, _, _ in os.walk(cgroup, topdown=False):
            with suppress(OSError):
                Path(inner).rmdir()
        time.sleep(POLL)


# ---- the machine's first process ---------------------------------------------------------------------


def become(root: str, stage: Path, binds: Sequence[str]) -> None:
    """Mount what a machine has, and become its systemd."""
    init = _systemd(Path(root))
    assert init is not None, "the keeper looked"
    # The mount is still the outer one, and tells what we are called there.
    outside = str(Path("/proc/self").readlink())
    resolver = Path("/etc/resolv.conf").read_bytes() if Path("/etc/resolv.conf").is_file() else b""
    _mount_root(root, stage)
    _mount_kernel(Path())
    for bind in binds:
        source, _, place = bind.rpartition(":")
        inside = Path(place.lstrip("/"))
        inside.mkdir(parents=True, exist_ok=True)
        _mount("--bind", source, str(inside))
    _settle(Path(), resolver)
    subprocess.run(["pivot_root", ".", "."], check=True)
    _mount("--make-rslave", ".")  # or what is unmounted here would be unmounted in the keeper's namespace too
    subprocess.run(["umount", "--lazy", "."], check=True)
    os.chdir("/")
    _mount("--make-rshared", "/")
    print(outside, flush=True)
    os.dup2(2, 1)  # the pipe to the keeper has done its work
    words = ["systemd", "--system", "--show-status=0", f"systemd.unit={TARGET}"]
    os.execve(f"/{init}", words, {"container": "balancer-tests", "PATH": PATH, "LANG": "C.UTF-8"})


def _mount_root(root: str, stage: Path) -> None:
    """Make the overlay, its upper layer in memory, and go there."""
    _mount("--make-rprivate", "/")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(stage))
    os.chdir(stage)
    for name in ("upper", "work", "root"):
        Path(name).mkdir()
    _mount("-t", "overlay", "-o", f"lowerdir={root},upperdir=upper,workdir=work", "overlay", "root")
    os.chdir("root")


def _mount_kernel(here: Path) -> None:
    """Mount the kernel's file systems and the ones in memory."""
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (here / name).mkdir(exist_ok=True)
    strict = "nosuid,nodev,noexec"
    _mount("-t", "proc", "-o", strict, "proc", "proc")
    _mount("--bind", "proc/sys", "proc/sys")
    _mount("-o", f"remount,bind,ro,{strict}", "proc/sys")
    _mount("-t", "sysfs", "-o", f"ro,{strict}", "sysfs", "sys")
    _mount("-t", "cgroup2", "-o", strict, "cgroup2", "sys/fs/cgroup")
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", "dev")
    for name in DEVICES:
        device = Path("/dev", name).stat()
        os.mknod(here / "dev" / name, device.st_mode, device.st_rdev)
        (here / "dev" / name).chmod(device.st_mode & 0o7777)  # mknod heeds the umask
    for name in ("pts", "shm"):
        (here / "dev" / name).mkdir()
    _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", "dev/pts")
    _mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", "dev/shm")
    (here / "dev/ptmx").symlink_to("pts/ptmx")
    (here / "dev/fd").symlink_to("/proc/self/fd")
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", "run")
    _mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", "tmp")


def _settle(here: Path, resolver: bytes) -> None:
    """Make the copy a machine of its own: an identity, none of the outer one's services."""
    # Empty: made at the boot. Missing, it would be a first boot, which enables every service that there is.
    (here / "etc/machine-id").write_text("")
    names = here / "etc/resolv.conf"
    names.unlink(missing_ok=True)
    names.write_bytes(resolver)
    units = here / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for enabled in (*units.glob("*.wants"), *units.glob("*.requires")):
        shutil.rmtree(enabled)
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _systemd(root: Path) -> str | None:
    return next((name for name in SYSTEMD if (root / name).exists()), None)


def main() -> None:
    """One of the three processes; without a word, a shell in a machine."""
    parser = argparse.ArgumentParser(description="Boot a machine with the real systemd; a shell in it.")
    parser.add_argument("part", nargs="?", choices=["shell", "keep", "become"], default="shell")
    parser.add_argument("--bind", action="append", default=[], metavar="FOLDER:INSIDE")
    parser.add_argument("--root", default="/", help="the root directory of another system (/)")
    parser.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part == "keep":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keep(asked.root, asked.bind)
    elif asked.part == "become":
        become(asked.root, asked.stage, asked.bind)
    else:
        binds = dict(each.rsplit(":", 1) for each in asked.bind)
        try:
            with boot(root=asked.root, binds=binds) as machine:
                environ = machine.environ({"TERM": os.environ.get("TERM", "dumb")})
                subprocess.run(machine.argv("bash"), check=False, env=environ)
        except MachineError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
