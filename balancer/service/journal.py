"""systemd's journal in its own protocol: an event and its facts as fields that can be asked for.

Theory of operation: an entry is one datagram of fields, `KEY=value` a line; a value of several lines has its length
before it. Facts keep their names, in capitals: `journalctl PROVIDER=acme STATE=ejected`. Only a name that has a
meaning for systemd gets `BALANCER_` before it, as our own words do: a fact must never be taken for the identity or
the kind of an entry. A list of texts is a field that is there several times, so that each of them can be asked for;
what is unknown is not there. People read MESSAGE: the event and its facts on one line, and under it the lines of an
exception.

An entry above the socket's limit travels as a sealed memory file instead. Each is sent to the socket's path, so a
journal that started anew is found by itself.

What this module does not know: that sending may take as long as the journal likes. It belongs into an outlet.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from balancer.service.plain import Plain, cut, plain, printable

SOCKET: Final = "/run/systemd/journal/socket"  # systemd, JOURNAL_NATIVE_PROTOCOL
IDENTIFIER: Final = "balancer"

PRIORITIES: Final[Mapping[str, int]] = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog(3)

# systemd.journal-fields(7): what programs tell with a fixed meaning, and what `journalctl --unit` looks at.
RESERVED: Final = frozenset(
    {
        "DOCUMENTATION",
        "ERRNO",
        "EXIT_CODE",
        "EXIT_STATUS",
        "INVOCATION_ID",
        "MESSAGE",
        "MESSAGE_ID",
        "PRIORITY",
        "SESSION_ID",
        "TID",
        "UNIT",
        "USER_INVOCATION_ID",
        "USER_UNIT",
    }
)
RESERVED_BEGINNINGS: Final = ("BALANCER_", "CODE_", "COREDUMP_", "JOB_", "OBJECT_", "SYSLOG_")

NAME_MAX: Final = 64  # characters of a field's name; the journal drops an entry's field with a longer one
SHOWN_MAX: Final = 400  # characters of one fact in MESSAGE; its field has all of it
SEND_BUFFER: Final = 8 << 20  # bytes asked for; the kernel gives what net.core.wmem_max allows

_PROSE: Final = ("exception", "traceback")  # facts of several lines, that people want to read as such
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_TOO_LONG: Final = (errno.EMSGSIZE, errno.ENOBUFS)


def leads_to_journal(descriptor: int, said: str | None) -> bool:
    """Whether a file descriptor is the stream that JOURNAL_STREAM speaks of.

    Source: systemd.exec(5): the variable reaches children whose output goes elsewhere, so device and inode count.
    """
    if said is None:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return said == f"{found.st_dev}:{found.st_ino}"


def is_there(path: str = SOCKET) -> bool:
    """Whether a journal could be written to."""
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


def entry(level: str, event: str, facts: Mapping[str, object], *, timestamp: str) -> bytes:
    """One event in the journal's protocol.

    Shape: `timestamp` as text, when it happened: the journal itself notes only when it was told.
    """
    values = {key: plain(value) for key, value in facts.items()}
    fields = [
        ("MESSAGE", message(event, values)),
        ("PRIORITY", str(PRIORITIES[level])),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ("BALANCER_EVENT", event),
        ("BALANCER_TIMESTAMP", timestamp),
    ]
    for key, value in values.items():
        name = field(key)
        if name is not None:
            fields.extend((name, text) for text in _texts(value))
    return b"".join(_line(name, text.encode("utf-8", "backslashreplace")) for name, text in fields)


def message(event: str, facts: Mapping[str, Plain]) -> str:
    """What people read: the event and its facts on one line, then an exception as it is."""
    told = [
        f"{printable(key)}={_shown(value)}"
        for key, value in facts.items()
        if value is not None and key not in _PROSE
    ]
    prose = [
        printable(line)
        for key in _PROSE
        if isinstance(text := facts.get(key), str)
        for line in text.rstrip("\n").split("\n")
    ]
    return "\n".join([" ".join([event, *told]), *prose])


@lru_cache(maxsize=1024)  # our facts have some dozens of names
def field(key: str) -> str | None:
    """The name under which a fact stands in the journal; `None` where nothing of its name can be used."""
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper()).lstrip("_")
    if name == "":
        return None
    if name in RESERVED or name.startswith(RESERVED_BEGINNINGS) or name[0].isdigit():
        name = f"BALANCER_{name.removeprefix('BALANCER_')}"
    if name in ("BALANCER_EVENT", "BALANCER_TIMESTAMP"):
        name = f"{name}_"
    return name[:NAME_MAX]


class JournalSink:
    """The journal's socket. Shape: one `write` is one entry, whole or not at all."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):  # then long entries travel as files a little sooner
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def write(self, data: bytes) -> int:
        """Send one entry, however long the journal takes to read. Raises: OSError."""
        try:
            return self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in _TOO_LONG:
                raise
        self._send_file(data)
        return len(data)

    def close(self) -> None:
        """Close our end."""
        self._socket.close()

    def _send_file(self, data: bytes) -> None:
        # Sealed, so that the journal may read it where it is: nobody can change it any more, nor could we.
        with os.fdopen(os.memfd_create("balancer-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
            file.write(data)
            file.flush()
            fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, _SEALS)
            passed = array.array("i", [file.fileno()])
            self._socket.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)], 0, self._path)


def _line(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name.encode(), value)


def _texts(value: Plain) -> Iterator[str]:
    """The values of one field: none, one or several."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        yield from (str(each) for each in value)
    elif value is not None:
        yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(value: Plain) -> str:
    """One fact within the line: quoted where it would be taken for more than one."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (text == "" or any(each in text for each in ' ="')):
        text = json.dumps(text, ensure_ascii=False)
    return printable(cut(text, most=SHOWN_MAX), most=SHOWN_MAX)
