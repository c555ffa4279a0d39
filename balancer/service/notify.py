"""What the service manager is told: ready, reloading, stopping, alive.

Theory of operation: one datagram a message to the socket named by NOTIFY_SOCKET, never waiting for room. Two kinds
of message differ in what happens when there is none. A state (`ready`, `reloading`, `stopping`) must
arrive, and in order: systemd waits for READY, and ignores one that was not preceded by the RELOADING it waits for.
So states are kept, and tried again before whatever is sent next; and as there is no clock here, `retry` is for
somebody who has one. Of the rest only the newest is true: a status replaces the one that was not sent, and a sign
of life or a plea for time that is late is worth nothing, so those are dropped and counted.

The variables are taken out of the environment: a child that spoke in our name could end us.

What this module does not know: when we are ready or alive, and whether anybody listens.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import MutableMapping
from typing import Final

from balancer.service.clock import awake_usec
from balancer.service.plain import cut, printable

# systemd ignores a message of more than 4,096 bytes (PIPE_BUF), and UTF-8 has up to 4 a character.
STATUS_MAX: Final = 400
OWED_MAX: Final = 8  # states that wait: the last ones tell how things stand

_PATH_MAX: Final = 108  # bytes of an address of the kernel's (sun_path), the closing zero of a path among them


class Notify:
    """Speaks to the service manager, or to nobody. It never waits and never raises.

    Shape: `watchdog` is within how many seconds a sign of life is expected, `None` where nobody expects one.
    """

    def __init__(self, address: bytes | None, *, watchdog: float | None) -> None:
        self.watchdog = watchdog
        self._address = address
        self._socket = None if address is None else socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._owed: deque[bytes] = deque(maxlen=OWED_MAX)
        self._status: str | None = None
        self._lost = 0

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], *, pid: int) -> Notify:
        """Take what systemd passed to this process out of its environment.

        Raises: ValueError for an address or a time that cannot be meant.
        """
        found = environ.pop("NOTIFY_SOCKET", "")
        within, whose = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        address = None if found == "" else _address(found)
        expected = _watchdog(within)
        if address is None or (whose != "" and whose != str(pid)):
            expected = None
        return cls(address, watchdog=expected)

    @property
    def supervised(self) -> bool:
        """Whether there is somebody to tell."""
        return self._address is not None

    @property
    def owed(self) -> int:
        """How many messages wait for room in the socket."""
        return len(self._owed) + (self._status is not None)

    @property
    def lost(self) -> int:
        """How many messages could not be sent and will not be."""
        return self._lost

    def ready(self, status: str | None = None) -> None:
        """Tell that we serve, for the first time or again after a reload."""
        self._tell_state(b"READY=1", status)

    def reloading(self) -> None:
        """Tell that a reload has begun; `ready` ends it, also one that was refused."""
        self._tell_state(b"RELOADING=1\nMONOTONIC_USEC=%d" % awake_usec())

    def stopping(self, status: str | None = None) -> None:
        """Tell that we are about to end."""
        self._tell_state(b"STOPPING=1", status)

    def status(self, text: str) -> None:
        """Show one line beside the unit's state; `systemctl status` prints it."""
        if self.supervised:
            self._status = text
            self.retry()

    def alive(self) -> None:
        """Give the sign of life that the watchdog waits for. One that cannot be sent is lost: the next is newer."""
        self._tell_once(b"WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for so many more seconds to start or to stop, from now; to be repeated before they are over."""
        self._tell_once(b"EXTEND_TIMEOUT_USEC=%d" % round(seconds * 1_000_000))

    def retry(self) -> bool:
        """Send what waited for room, in order; tell whether nothing waits any more."""
        while self._owed:
            if not self._sent(self._owed[0]):
                return False
            self._owed.popleft()
        if self._status is not None:
            if not self._sent(_status(self._status)):
                return False
            self._status = None
        return True

    def close(self) -> None:
        """Let go of the socket; what is told after this goes nowhere."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._address = None
        self._lost += self.owed
        self._owed.clear()
        self._status = None

    def _tell_state(self, message: bytes, status: str | None = None) -> None:
        if not self.supervised:
            return
        if len(self._owed) == OWED_MAX:
            self._lost += 1
        if status is not None:
            message += b"\n" + _status(status)
            self._status = None  # an older one must not come after
        self._owed.append(message)
        self.retry()

    def _tell_once(self, message: bytes) -> None:
        if self.supervised and not (self.retry() and self._sent(message)):
            self._lost += 1

    def _sent(self, message: bytes) -> bool:
        if self._socket is None or self._address is None:
            return False
        try:
            # To its address each time: the socket of a manager that has started anew is another one.
            self._socket.sendto(message, socket.MSG_DONTWAIT, self._address)
        except OSError:  # full, or for a moment nobody's: either way it may be possible later
            return False
        return True


def _status(text: str) -> bytes:
    # Spaces, not escapes: systemd 252 eats backslashes, and ignores a whole message, READY too, that ends with one.
    line = "".join(each if each.isprintable() and each != "\\" else " " for each in cut(text, most=STATUS_MAX))
    return b"STATUS=" + line.encode()


def _address(found: str) -> bytes:
    """The kernel's form of an address: a path, or a name without a file behind it."""
    address = os.fsencode(found)
    # A name may fill the whole of the kernel's field, a path leaves room for its end.
    most = _PATH_MAX if found[0] == "@" else _PATH_MAX - 1
    if found[0] not in "/@" or len(address) < 2 or len(address) > most:
        shown = printable(found, most=200)
        raise ValueError(f"NOTIFY_SOCKET: {shown!r} is no address; use /path or @name, up to {most} bytes")
    return b"\0" + address[1:] if found[0] == "@" else address


def _watchdog(found: str) -> float | None:
    """Seconds, of a number of microseconds."""
    if found == "":
        return None
    if not (found.isascii() and found.isdecimal() and len(found) <= 20) or int(found) == 0:
        shown = printable(found, most=200)
        raise ValueError(f"WATCHDOG_USEC: {shown!r} is no time; use microseconds, from 1 on")
    return int(found) / 1_000_000
