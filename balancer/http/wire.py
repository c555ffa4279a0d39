"""What only the kernel knows of a connection, or does at once.

What this module does not know: transports, and what is said over them.
"""

from __future__ import annotations

import os
import socket
import termios
from array import array
from contextlib import suppress
from fcntl import ioctl


def held(file: int) -> int:
    """How many bytes the kernel has received that nobody has read."""
    count = array("i", [0])
    ioctl(file, termios.FIONREAD, count)
    return count[0]


def half_close(file: int) -> None:
    """Send nothing more, from now on and not from a later turn of the loop."""
    with suppress(OSError), socket.socket(fileno=os.dup(file)) as same:
        same.shutdown(socket.SHUT_WR)
