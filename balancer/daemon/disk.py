"""What the daemon keeps on disk: the state that a restart takes back, and the past.

Theory of operation: both live in `state_dir`, each with a thread of its own, and both are handed what to keep and
never ask. The state is taken back before anything is decided, and saved last, when nothing changes it any more.
Where its disk comes late, it is taken back beside decisions, and what that changes is told like all else.
Without a `state_dir` nothing is kept, and every call here does nothing.

What this module does not know: what a disk can do wrong; `store` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from balancer.config import Config
from balancer.core.balancer import Balancer
from balancer.core.history import HistoryQuery, Past
from balancer.core.model import Source, Transition
from balancer.core.outcome import Outcome
from balancer.core.view import EndpointView
from balancer.http import no_history
from balancer.metrics import Metrics
from balancer.probing import Budgets, BudgetsKept, budgets_kept
from balancer.service import clock
from balancer.service.log import Log
from balancer.store import Directory, History, Keeper, Parts

PATIENCE: Final = (
    4.0  # s for the last save, and for the past at the same time; a disk that needs longer is not well
)

_WELL: Final = frozenset({"healthy", "unverified", "recovering"})


class Disk:
    """The state and the past of one daemon; `changed` is called when a late state may have told something."""

    def __init__(
        self, config: Config, balancer: Balancer, budgets: Budgets, *, changed: Callable[[], None], log: Log
    ) -> None:
        self._balancer = balancer
        self._budgets = budgets
        self._changed = changed
        self._deciding = False
        self._keeper: Keeper | None = None
        self._history: History | None = None
        if config.state_dir is None:
            return
        directory = Path(config.state_dir)
        self._keeper = Keeper(
            Directory(directory),
            interval=config.store.save_interval,
            dump=self._dump,
            take=self._take,
            clock=clock.monotonic,
            wall=clock.wall,
            boot=clock.boot(),
            log=log,
        )
        if config.store.history:
            self._history = History(directory, config.store, log=log, clock=clock.monotonic, wall=clock.wall)

    # ---- starting and ending -------------------------------------------------------------------------

    async def open(self) -> None:
        """Take back what is kept. Raises: OSError where another daemon keeps its own there."""
        if self._keeper is not None:
            await self._keeper.open()
        self._deciding = True
        if self._history is not None:
            self._history.start()
            found = self._balancer.view(now=clock.monotonic()).endpoints
            # What keeps an endpoint out chooses, also where health is only watched.
            out = [
                (each.id, each.state, each.enforced or not each.eligible, _story(each))
                for each in found
                if each.state not in _WELL
            ]
            self._history.started(out, wall=clock.wall())

    async def run(self) -> None:
        """Save the state again and again, until cancelled."""
        if self._keeper is not None:
            await self._keeper.run()

    async def close(self) -> None:
        """Save what there is, and let go."""
        async with asyncio.TaskGroup() as closing:  # both at once: a disk that hangs takes its time of each
            if self._keeper is not None:
                closing.create_task(self._keeper.close(patience=PATIENCE), name="close state")
            if self._history is not None:
                closing.create_task(self._history.close(PATIENCE), name="close history")

    def follow(self, config: Config) -> None:
        """Keep as much and as often as this configuration says; where, is for the next start."""
        if self._keeper is not None:
            self._keeper.interval = config.store.save_interval
        if self._history is not None:
            self._history.follow(config.store)

    # ---- what is kept --------------------------------------------------------------------------------

    def outcome(self, endpoint: str, outcome: Outcome, *, source: Source, ended: float, cost: float | None) -> None:
        """Keep one outcome, which ended at that Unix time. Units: `cost` in USD."""
        if self._history is not None:
            self._history.outcome(endpoint, outcome, source=source, wall=ended, cost=cost)

    def transition(self, transition: Transition) -> None:
        """Keep one transition; an operator's word is saved at once.

        What was told before `open` is no news of the past: that every endpoint is new to this process, and has no
        evidence yet. How each one is then, `open` tells.
        """
        if self._history is not None and self._deciding:
            self._history.transition(transition, now=clock.monotonic(), wall=clock.wall())
        if self._keeper is not None and transition.event in ("endpoint.drained", "endpoint.resumed"):
            self._keeper.save_soon()

    def tick(self) -> None:
        """Hand over what was gathered, where it is time."""
        if self._history is not None:
            self._history.tick(now=clock.monotonic(), wall=clock.wall())

    async def past(self, query: HistoryQuery) -> Past:
        """Answer a question about the past. Raises: HistoryAbsent, HistoryTooLong."""
        return await (no_history(query) if self._history is None else self._history.read(query))

    def troubles(self) -> dict[str, str]:
        """What is wrong with the disk at present, by store, and why; a late state that is not read yet is too."""
        found = {
            "state": None if self._keeper is None else self._keeper.trouble,
            "history": None if self._history is None else self._history.trouble,
        }
        return {store: trouble for store, trouble in found.items() if trouble is not None}

    def show(self, metrics: Metrics) -> None:
        """Show how the disk fares."""
        keeper, history = self._keeper, self._history
        metrics.stored(
            errors={
                "state": 0 if keeper is None else keeper.errors,
                "history": 0 if history is None else history.errors,
            },
            dropped=0 if history is None else history.dropped,
            saved=None if keeper is None else keeper.saved,
            interval=None if keeper is None else keeper.interval,
        )

    # ---- the state, in parts -------------------------------------------------------------------------

    def _dump(self, now: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield "budgets", self._budgets.dump()
        for part in self._balancer.parts(now=now):
            yield "table", part

    def _take(self, parts: Parts, now: float, away: float) -> Iterator[None]:
        budgets: list[BudgetsKept] = []

        def table() -> Iterator[Mapping[str, Any]]:
            budgets.clear()
            for section, part in parts:
                if section == "budgets":
                    budgets.append(budgets_kept(part))  # refused before anything is taken
                elif section == "table":
                    yield part

        for _ in self._balancer.restoring(table, now=now, away=away, late=self._deciding):
            if self._deciding:
                self._changed()  # step by step: a thousand endpoints told at once would hold the loop
            yield
        for each in budgets:
            self._budgets.restore(each)


def _story(view: EndpointView) -> str:
    """Why an endpoint is out as the daemon starts: by its configuration, or by what was saved."""
    if view.endpoint.misconfigured is not None and "drained" not in view.states:
        return view.reason
    return f"as it was saved: {view.reason}" if view.reason else "as it was saved"
