"""Reload: from somebody's word to a configuration in force, or to every reason why not.

Theory of operation: all or nothing. The files are read and judged in a thread of their own (`candidate`), and then
followed in one step without an await, so that a client that hangs up leaves nothing half-way. One reload at a time,
or an older file that was read slowly could win.

Reading may hang, on a file system that is gone: after some patience the reload is refused, and so is every other
until the thread is back; neither the next reload nor the stop waits for it. A bug of ours refuses the reload too,
whoever asked for it: it is no reason for a service that answers to end.

What this module does not know: what follows a configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from balancer.config import Config, ConfigError, ConfigProblem
from balancer.daemon.candidate import Candidate, following
from balancer.daemon.supervision import Supervision
from balancer.http import PreparedTls, Reloaded, Unreloadable
from balancer.metrics import Metrics
from balancer.service import clock
from balancer.service.log import Log
from balancer.service.sockets import Passed
from balancer.service.worker import Worker

PATIENCE: Final = 20.0  # s; a thousand files are read in two, and `balancer reload` waits for a minute


class Reloading:
    """Reloads. `read` gives the new configuration, `current` the one in force; `follow` puts another into force.

    `serving` is the TLS in force. `follow` returns the number of the configuration that is in force then.
    Units: `patience` in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Config] | None,
        *,
        passed: Sequence[Passed],
        current: Callable[[], Config],
        serving: Callable[[], PreparedTls | None],
        follow: Callable[[Candidate], int],
        supervision: Supervision,
        metrics: Metrics,
        log: Log,
        patience: float = PATIENCE,
    ) -> None:
        self._read = read
        self._passed = passed
        self._current = current
        self._serving = serving
        self._follow = follow
        self._supervision = supervision
        self._metrics = metrics
        self._log = log
        self._patience = patience
        self._one = asyncio.Lock()
        self._reader = Worker("configuration")
        metrics.reloaded(successful=True, wall=clock.wall())

    async def reload(self) -> Reloaded:
        """Read the configuration anew and follow it; tell what that changed.

        Raises: ConfigError with every problem, Unreloadable without a file; the old one stays in force.
        """
        if self._read is None:
            raise Unreloadable("this daemon was started without a configuration file")
        async with self._one:
            with self._supervision.reloading():
                found = await self._found(self._read)
                generation = self._followed(found)
        self._metrics.reloaded(successful=True, wall=clock.wall())
        changes = {sort: names for sort, names in found.changes.facts().items() if names}
        facts = {"endpoints": len(found.config.endpoints), "generation": generation, **changes}
        waiting = list(found.waiting)
        if waiting:
            self._log.warning("config.loaded", **facts, at_next_start=waiting)
        else:
            self._log.info("config.loaded", **facts)
        return Reloaded(config_generation=generation, at_next_start=waiting, changes=changes)

    async def by_signal(self) -> None:
        """Reload, and leave the one line that every deed of an operator leaves. Raises nothing."""
        facts: dict[str, Any] = {"result": "unfinished"}
        try:
            done = await self.reload()
            facts = {"result": "done", "config_generation": done.config_generation}
        except (ConfigError, Unreloadable) as refusal:
            facts = {"result": "refused", "refusal": str(refusal).partition("\n")[0]}
        finally:
            self._log.audit("operator.acted", verb="reload", token=None, peer="SIGHUP", **facts)

    async def _found(self, read: Callable[[], Config]) -> Candidate:
        old, passed, serving = self._current(), self._passed, self._serving()
        try:
            if self._reader.busy:
                raise _unread("an earlier reload still waits for its files", "look at their file system")
            async with asyncio.timeout(self._patience):
                return await self._reader.start(lambda: following(read, old, passed, serving=serving))
        except ConfigError as error:
            self._reject(error)
            raise
        except TimeoutError:
            slow = _unread(f"the files were not read within {self._patience:g} s", "look at their file system")
            self._reject(slow)
            raise slow from None
        except Exception as bug:
            broken = _unread("it could not be read, by an error of ours", "see the log")
            self._reject(broken, bug)
            raise broken from bug

    def _followed(self, found: Candidate) -> int:
        """Put it into force. Raises: ConfigError where a bug of ours left that half-way, in words that say so."""
        try:
            return self._follow(found)
        except Exception as bug:
            broken = _unread("it could not be followed, by an error of ours", "see the log, and restart")
            self._reject(broken, bug)
            raise broken from bug

    def _reject(self, error: ConfigError, bug: Exception | None = None) -> None:
        self._metrics.reloaded(successful=False, wall=clock.wall())
        facts: dict[str, Any] = {} if bug is None else {"exc_info": bug}
        self._log.error("config.rejected", problems=[str(problem) for problem in error.problems], **facts)


def _unread(found: str, allowed: str) -> ConfigError:
    return ConfigError([ConfigProblem(file="reload", line=None, path="", found=found, allowed=allowed)])
