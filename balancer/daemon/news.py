"""What changed in the table → the log, the disk, the probe schedule, and everybody who follows the events.

Theory of operation: after every write to the table somebody calls `changed`. New transitions become log lines, an
endpoint of which something new is known has its next turn reconsidered, and readers of the event stream are woken.
They read the table's own memory of transitions, so nothing is queued per reader.

What this module does not know: who wrote to the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from balancer.core.balancer import Balancer
from balancer.core.model import Transition
from balancer.service.log import Log

_LOUD: Final = frozenset(
    {
        "endpoint.ejected",
        "endpoint.misconfigured",
        "endpoint.throttled",
        "model.panic_entered",
        "self.suspected",
        "reporter.suspected",
    }
)


class News:
    """Tells every transition once, `keep` first; `reconsider` the id of each endpoint of which something is new."""

    def __init__(
        self,
        balancer: Balancer,
        *,
        keep: Callable[[Transition], None],
        reconsider: Callable[[str], None],
        log: Log,
    ) -> None:
        self._balancer = balancer
        self._keep = keep
        self._reconsider = reconsider
        self._log = log
        self._told = 0
        self._arrived = asyncio.Event()
        self._over = False

    def changed(self) -> None:
        """Tell what is new since the last call."""
        news = self._balancer.transitions(self._told)
        if not news:
            return
        self._told = news[-1].number
        for transition in news:
            self._keep(transition)
            self._tell(transition)
            if transition.endpoint is not None:
                self._reconsider(transition.endpoint)  # its next turn was planned for a calmer time
        self._wake()

    async def waiting(self, after: int) -> None:
        """Wait until there are transitions above `after`, or there will be none any more."""
        while not self._over and not self._balancer.transitions(after):
            await self._arrived.wait()

    def end(self) -> None:
        """Let go of all who wait."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived.clear()

    def _tell(self, transition: Transition) -> None:
        facts = {
            key: value
            for key, value in asdict(transition).items()
            if key in ("endpoint", "model", "provider", "reporter", "state", "reason") and value not in (None, "")
        }
        endpoint = self._balancer.catalog.endpoints.get(transition.endpoint or "")
        if endpoint is not None:  # so that a provider's lines are found by its name
            facts.setdefault("provider", endpoint.provider)
        if transition.next_at is not None:
            facts["next_in"] = round(max(0.0, transition.next_at - transition.now), 3)
        if not transition.enforced:
            facts["enforced"] = False
        if transition.event == "endpoint.added":
            self._log.debug(transition.event, **facts)
        elif transition.event in _LOUD and transition.enforced:  # what is only watched asks nobody to act
            self._log.warning(transition.event, **facts)
        else:
            self._log.info(transition.event, **facts)
