"""A configuration that may come into force: read whole, and judged by what is already open.

Theory of operation: everything here may block, and nothing has changed when it raises. A file is judged against its
own `listen` when it is read; but what is bound stays bound until the next start, and sockets that a service manager
passed are in no file, so both are judged here once more. The files of our own TLS are read, so that a certificate
and a key that do not fit refuse a reload and not the next handshake.

Their paths are most often the same as before, and so it is here that new content of them is told as a change.

What this module does not know: who is to follow it, and how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from balancer.config import Change, Config, ConfigError, ConfigProblem, Difference, difference
from balancer.config.units import is_wide
from balancer.http import PreparedTls, prepare_tls, refuse_wide
from balancer.service.sockets import Passed

AT_START: Final = ("listen", "log", "state_dir")  # what is taken once, and not by a reload


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What would come into force; `waiting` are the keys in which it differs and which wait for the next start."""

    config: Config
    tls: PreparedTls | None
    waiting: tuple[str, ...] = ()
    changes: Difference = field(default_factory=Difference)


def first(config: Config, passed: Sequence[Passed]) -> Candidate:
    """Judge the configuration of a start. Raises: ConfigError."""
    refuse_wide(passed, config)
    return Candidate(config=config, tls=None if config.tls is None else prepare_tls(config.tls))


def following(
    read: Callable[[], Config], old: Config, passed: Sequence[Passed], *, serving: PreparedTls | None = None
) -> Candidate:
    """Read and judge the configuration of a reload; `serving` is the TLS in force. Raises: ConfigError."""
    found = read()
    refuse_wide(passed, found)
    if not passed:
        _refuse_bound(old, found)
    fixed: dict[str, Any] = {key: getattr(old, key) for key in AT_START}
    waiting = [key for key, value in fixed.items() if getattr(found, key) != value]
    if (found.tls is None) != (old.tls is None):  # a listening socket speaks TLS, or does not
        fixed["tls"] = old.tls
        waiting.append("tls")
    if found.store.history != old.store.history:
        fixed["store"] = replace(found.store, history=old.store.history)
        waiting.append("store.history")
    config = replace(found, **fixed, **_as_it_was(found, old))
    # What waits for the next start is looked at all the same: that start would be refused.
    prepared = None if found.tls is None else prepare_tls(found.tls)
    tls = None if "tls" in waiting else prepared
    changes = difference(old, found)
    rotated = _rotated(serving, tls)
    if rotated:
        changes = replace(changes, changed=(Change(name="tls", keys=rotated), *changes.changed))
    return Candidate(config=config, tls=tls, waiting=tuple(waiting), changes=changes)


def _rotated(old: PreparedTls | None, new: PreparedTls | None) -> tuple[str, ...]:
    """What is another in files of TLS that were there before."""
    if old is None or new is None:
        return ()
    pairs = {"certificate": (old.certificate, new.certificate), "client_ca": (old.client_ca, new.client_ca)}
    return tuple(key for key, (before, after) in pairs.items() if None not in (before, after) and before != after)


def _as_it_was(found: Config, old: Config) -> dict[str, Any]:
    """What did not change, by the very values that are in force: nobody has to compare them in the loop again."""
    return {
        name: {key: before[key] if key in before and before[key] == each else each for key, each in after.items()}
        for name in ("endpoints", "probes", "credentials")
        for before, after in ((getattr(old, name), getattr(found, name)),)
    }


def _refuse_bound(old: Config, found: Config) -> None:
    wide = [str(listen) for listen in old.listen if is_wide(listen)]
    if wide and not found.tokens and not found.insecure:
        told = f"{', '.join(wide)} stays open until the next start, and would let others in without any token"
        allowed = "give auth.tokens or insecure: true, or restart"
        raise ConfigError([ConfigProblem(file="reload", line=None, path="auth", found=told, allowed=allowed)])
