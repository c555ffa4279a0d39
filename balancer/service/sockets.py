"""The listening sockets that the service manager opened for us.

Theory of operation: systemd passes them as the file descriptors from 3 on and says in LISTEN_PID to which process,
in LISTEN_FDS how many, in LISTEN_FDNAMES under which names. They outlive us: what connects while we restart waits
in them. Each is looked at before it is used, as the number of a descriptor says nothing about what it is, and all
that is wrong is told at once. The variables are taken out of the environment, and the descriptors are not passed
on: a child that kept one open would take our connections.

What this module does not know: who serves on them, and which name is for what.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from typing import Final, NamedTuple

from balancer.service.plain import printable

FIRST: Final = 3  # SD_LISTEN_FDS_START: behind standard input, output and error
FDS_MAX: Final = 1024  # more than any unit names; a number from outside is not walked without an end
UNNAMED: Final = "unknown"  # sd_listen_fds_with_names(3), where LISTEN_FDNAMES is not set

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_KINDS: Final = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
)


class Passed(NamedTuple):
    """One listening socket and the name that its unit gives it (`FileDescriptorName=`)."""

    name: str
    socket: socket.socket


def passed(environ: MutableMapping[str, str], *, pid: int) -> list[Passed]:
    """The sockets that were passed to this process, ready for an event loop; none where they are for another.

    Shape: in the order of their numbers. A name may come more than once. Of a unix socket the file belongs to the
    manager: it must not be removed.
    Raises: ValueError naming every variable or descriptor that is not as it should be.
    """
    whose, count, names = (environ.pop(f"LISTEN_{name}", None) for name in ("PID", "FDS", "FDNAMES"))
    environ.pop("LISTEN_PIDFDID", None)  # of newer managers: says of the process what LISTEN_PID says
    if whose is None or count is None or _number("LISTEN_PID", whose) != pid:
        return []
    number = _number("LISTEN_FDS", count)
    if number > FDS_MAX:
        raise ValueError(f"LISTEN_FDS: {number} sockets are too many; up to {FDS_MAX} are taken")
    called = [UNNAMED] * number if names is None else names.split(":") if number else []
    if len(called) != number:
        found = printable(":".join(called), most=200)
        raise ValueError(f"LISTEN_FDNAMES: {found!r} names {len(called)}, and LISTEN_FDS passes {number}")
    return _taken([(FIRST + index, name) for index, name in enumerate(called)])


def _taken(found: list[tuple[int, str]]) -> list[Passed]:
    taken, problems = [], []
    for number, name in found:
        try:
            taken.append(Passed(name, _listening(number)))
        except ValueError as problem:
            problems.append(f"file descriptor {number} ({printable(name, most=200)}) {problem}")
    if problems:
        for each in taken:
            each.socket.close()
        raise ValueError(f"LISTEN_FDS: {'; '.join(problems)}; a listening stream socket is needed")
    return taken


def _listening(number: int) -> socket.socket:
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        raise ValueError("is not open") from None
    os.set_inheritable(number, False)
    if not stat.S_ISSOCK(mode):
        raise ValueError(f"is {next((word for is_one, word in _KINDS if is_one(mode)), 'no socket')}")
    found = socket.socket(fileno=number)
    family = found.family if found.family in _FAMILIES else None
    if family is None or found.type != socket.SOCK_STREAM:
        wrong = f"is a socket of {_named(found.family)} and {_named(found.type)}"
    elif not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        wrong = "is a socket that does not listen"
    else:
        found.setblocking(False)
        return found
    found.close()
    raise ValueError(wrong)


def _named(constant: int) -> str:
    return getattr(constant, "name", str(constant))  # one that Python does not know stays a number


def _number(variable: str, found: str) -> int:
    if not (found.isascii() and found.isdecimal() and len(found) <= 20):
        raise ValueError(f"{variable}: {printable(found, most=200)!r} is no number")
    return int(found)
