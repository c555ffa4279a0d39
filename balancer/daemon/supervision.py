"""What the service manager is told: ready, reloading, stopping, how it goes, and that we are alive.

Theory of operation: systemd kills and restarts a service that stops pinging. A ping is worth nothing if a thread or
a timer sends it while the API is mute, so each must be earned: the loop is not late, the ticker and the probe
schedules run (`pulse`), and one question was answered by our own API, from the bytes of a request to the bytes of
an answer. The question goes over a socket pair and not through a listening socket: a firewall, a client certificate
or a full backlog must not make the watchdog kill a daemon that is well. What fails is logged once, when it begins.

There are three tries within the time that the manager allows, so that one late answer costs nothing. Without a
manager that asks for it the same is checked as often, for the log.

What this module does not know: the wire to systemd (`service.notify`), and what a restart restores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from balancer.daemon.pulse import STALL, Pulse
from balancer.service import clock
from balancer.service.log import Log
from balancer.service.notify import Notify

CHECK: Final = 10.0  # s between two checks where nobody asks for a ping; each costs a millisecond
TRIES: Final = 3  # in the time within which a ping must come. Source: `man sd_watchdog_enabled` advises half of it
PATIENCE_MAX: Final = 5.0  # s for our own answer, which takes less than one thousandth of it
EXTEND: Final = 5.0  # s that are asked for at a time while stopping takes longer
SERVED: Final = frozenset({200, 404, 429, 503})  # a decision, or a refusal that was decided


class Supervision:
    """Speaks to the service manager. `ask` gives the HTTP status of our own answer, `state` says how it goes."""

    def __init__(
        self,
        notify: Notify,
        pulse: Pulse,
        *,
        ask: Callable[[], Awaitable[int]],
        state: Callable[[], str],
        log: Log,
    ) -> None:
        self._notify = notify
        self._pulse = pulse
        self._ask = ask
        self._state = state
        self._log = log
        self._sick: str | None = None
        self._refused = False
        self._over = False
        self._extending: asyncio.TimerHandle | None = None

    def ready(self) -> None:
        """Say that requests are served."""
        if not self._over:  # the manager would take it for the word of a service that has not stopped
            self._notify.ready(self._status())

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that we reload for as long as the context is open, and from then on whether that was refused."""
        if not self._over:
            self._notify.reloading()
        refused = self._refused
        try:
            yield
            refused = False
        except Exception:  # and not a cancellation, which says nothing of the configuration
            refused = True
            raise
        finally:
            self._refused = refused
            self.ready()

    async def run(self) -> None:
        """Tell how it goes, and ping while all is well, until cancelled."""
        asked = self._notify.watchdog
        period = CHECK if asked is None else asked / TRIES
        while not self._over:
            wrong = await self._wrong(min(period / 2, PATIENCE_MAX))
            if self._over:
                return  # an API that lets go of its sockets is not unwell
            if wrong is None:
                if asked is not None:
                    self._notify.alive()
                self._notify.status(self._status())
            else:
                self._notify.status(f"unwell: {wrong}")
            self._tell(wrong)
            await asyncio.sleep(period)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Say that we stop, and ask for more time for as long as the context is open."""
        if not self._over:
            self._notify.stopping()
        self._over = True
        self._extend()
        try:
            yield
        finally:
            if self._extending is not None:
                self._extending.cancel()

    def _extend(self) -> None:
        self._notify.extend(EXTEND)
        self._extending = asyncio.get_running_loop().call_later(EXTEND / 2, self._extend)

    def _status(self) -> str:
        return f"{self._state()}; the last reload was refused" if self._refused else self._state()

    async def _wrong(self, patience: float) -> str | None:
        now = clock.monotonic()
        found = self._pulse.unwell(now)
        lag = self._pulse.lag(now)
        if lag > STALL:
            found.append(f"the event loop is {lag:.1f} s late")
        try:
            async with asyncio.timeout(patience):
                status = await self._ask()
        except TimeoutError:
            found.append(f"our own API gave no answer within {patience:g} s")
        except (OSError, EOFError, ValueError) as error:
            found.append(f"our own API gave no answer: {error}")
        else:
            if status not in SERVED:
                found.append(f"our own API answered {status}")
        return "; ".join(found) if found else None

    def _tell(self, wrong: str | None) -> None:
        if wrong is not None and self._sick is None:
            self._log.error("daemon.unwell", reason=wrong)
        elif wrong is None and self._sick is not None:
            self._log.info("daemon.well")
        self._sick = wrong
