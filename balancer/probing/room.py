"""Room among the files that this process may have open.

Theory of operation: what is kept between probes is worth less than a probe, so whoever cannot open a file asks for
one that is kept to be closed, and tries again. That is no help to those who do not ask: a request to be accepted,
a configuration to be read again. For them a part is never kept.

What this module does not know: what is kept, and what is opened.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

KEPT_SHARE: Final = 0.75  # of all files may be kept; the rest is for requests, probes under way, and our own

T = TypeVar("T")
MakeRoom = Callable[[], Awaitable[bool]]
"""Closes something that is kept; false where nothing is."""


async def roomy(work: Callable[[], Awaitable[T]], make_room: MakeRoom) -> T:
    """Do what opens a file; where no more may be open, make room and try again. Raises: what `work` raises."""
    while True:
        try:
            return await work()
        except OSError as problem:
            if problem.errno not in (errno.EMFILE, errno.ENFILE) or not await make_room():
                raise


def kept_max() -> float:
    """How many connections may be kept, as many files as this process may open now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if limit == resource.RLIM_INFINITY else KEPT_SHARE * limit
