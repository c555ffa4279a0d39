"""What the daemon hands the API: the table, and one callable for each thing that lives in another room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from balancer.config import Config
from balancer.core.balancer import Balancer
from balancer.core.history import HistoryAbsent, HistoryQuery, Past
from balancer.core.outcome import Outcome
from balancer.service.log import Log


class Healthy(Struct, kw_only=True):
    """Whether the process is alive, and not only its sockets: a supervisor restarts it where this says no.

    Units: seconds. `problems` names what has not run when it should have.
    """

    healthy: bool
    event_loop_lag: float
    problems: list[str]


class Ready(Struct, kw_only=True):
    """Whether traffic may come, and what is missing until it may.

    Ready is: configuration valid, sockets bound, saved state read or its disk given 20 s.
    `first_picture`: every probed endpoint was probed once, or given up. `self_suspect`: we seem to be at fault
    rather than the providers; reporters are names of tokens. `store_trouble_reasons`: what is wrong with the disk,
    by store (`state`, `history`), also that a saved state is not read yet; it holds no traffic back.
    """

    ready: bool
    missing: list[str]
    first_picture: bool
    endpoints: int
    config_generation: int
    self_suspect: bool
    self_suspect_reason: str | None
    reporters_suspect: list[str]
    reporters_suspect_reasons: dict[str, str]
    store_trouble_reasons: dict[str, str]


class Reloaded(Struct, kw_only=True):
    """What a reload did: the number of the configuration now in force, and how it differs from the one before.

    `at_next_start` are the keys that changed and wait for the next start; `changes` are names, by those of `added`,
    `removed`, `changed` and `misconfigured` that have any. The last are endpoints that cannot be called now, each
    with the reason, and could before, or were not there.
    """

    config_generation: int
    at_next_start: list[str]
    changes: dict[str, list[str]]


class Unreloadable(Exception):
    """There is no file to read the configuration from."""


class Unprobed(Exception):
    """An endpoint that is there, and why it cannot be probed now."""


async def no_history(query: HistoryQuery) -> Past:
    """The past, where none is kept. Raises: HistoryAbsent."""
    del query
    raise HistoryAbsent("no history is kept: store.history is false, or there is no state_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """The API's only way to anything outside of this room.

    `config` is the one in force; `clock` is monotonic and `wall` Unix seconds. `changed` is called after every
    write to the table. `waiting(n)` returns once there are transitions above n, or the daemon is stopping; `boot`
    marks this process in event ids. `probe` raises KeyError for an endpoint that is not there and Unprobed for one
    that cannot be probed now, `reload` ConfigError with the problems or Unreloadable. `metrics` takes the Accept
    header and gives body and content type. `decided` takes the seconds of one decision, `reported` a result
    (recorded, duplicate, stale, rejected) and how many, `recorded` the outcome of each report that counts and the
    Unix time at which its request ended. `history` tells the past; it raises HistoryAbsent and HistoryTooLong.
    """

    balancer: Balancer
    config: Callable[[], Config]
    clock: Callable[[], float]
    wall: Callable[[], float]
    changed: Callable[[], None]
    waiting: Callable[[int], Awaitable[None]]
    boot: str
    probe: Callable[[str], Awaitable[dict[str, Any]]]
    reload: Callable[[], Awaitable[Reloaded]]
    healthy: Callable[[], Healthy]
    ready: Callable[[], Ready]
    metrics: Callable[[str], Awaitable[tuple[bytes, str]]]
    decided: Callable[[float], None]
    reported: Callable[[str, int], None]
    log: Log
    recorded: Callable[[str, Outcome, float], None]
    history: Callable[[HistoryQuery], Awaitable[Past]]
