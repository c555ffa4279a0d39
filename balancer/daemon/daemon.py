"""The whole daemon: builds every part, starts and ends them in order, and follows a new configuration.

Theory of operation: a `Daemon` holds one table and gives each rim only the callables that it needs, so that
probing, HTTP and metrics do not know of each other. `running()` binds the sockets, starts the tasks inside one
TaskGroup, and ends all of them on the way out; a crash of any of them ends the daemon, because a daemon that
decides without probes and does not say so would be a lie.

The end comes in the order of the start reversed: the API lets go of its sockets and finishes the answers under way,
only then the probes stop. Each step has a bound.

Status pages and our own reach are probed by a schedule of their own: they wait for no provider's slots.

What this module does not know: signals and the command line (`cli/run.py`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

from balancer.config import Config, ProbeSettings
from balancer.core.balancer import Balancer
from balancer.core.evidence import CALM, Evidence
from balancer.core.outcome import Outcome
from balancer.core.pricing import charged
from balancer.daemon.candidate import Candidate, first
from balancer.daemon.control import Control
from balancer.daemon.disk import Disk
from balancer.daemon.news import News
from balancer.daemon.pulse import Pulse
from balancer.daemon.reloading import Reloading
from balancer.daemon.results import Results
from balancer.daemon.supervision import Supervision
from balancer.http import Hands, Healthy, PreparedTls, Ready, Reloaded, Server, Unprobed, reporters
from balancer.metrics import Metrics
from balancer.probing import Budgets, Scheduler
from balancer.service import clock
from balancer.service.log import Log, silent
from balancer.service.notify import Notify
from balancer.service.sockets import Passed

STOP_GRACE: Final = 1.5  # s; answers under way may finish, and SIGTERM still ends us within two


class Daemon:
    """One running balancer. `addresses` are the bound sockets once it runs."""

    def __init__(
        self,
        config: Config,
        *,
        seed: int | None = None,
        reload: Callable[[], Config] | None = None,
        log: Log | None = None,
        notify: Notify | None = None,
        passed: Sequence[Passed] = (),
        runtime_dir: Path | None = None,
    ) -> None:
        self.config = config
        self.addresses: list[str] = []
        self.balancer = Balancer(config, seed=seed, now=clock.monotonic())
        self._log = silent() if log is None else log
        self._passed = passed
        self._stopping = False
        self._tls: PreparedTls | None = None
        self._asked = 0  # questions that we asked ourselves
        self._pages: dict[str, tuple[str, ProbeSettings]] = {}
        budgets = Budgets(wall=clock.wall)
        self._disk = Disk(config, self.balancer, budgets, changed=lambda: self._news.changed(), log=self._log)
        self._metrics = Metrics(view=lambda: self.balancer.view(now=clock.monotonic()), version=version("balancer"))
        self._scheduler = Scheduler(
            clock=clock.monotonic,
            wall=clock.wall,
            rng=Random(seed),
            on_result=lambda result: self._results.probed(result),
            look=lambda key, now: self.balancer.evidence(key, now=now),
            on_spent=lambda provider, said: self._log.warning("probe.budget_spent", provider=provider, spent=said),
            on_start=self._metrics.probe_started,
            budgets=budgets,
        )
        self._lookouts = Scheduler(
            clock=clock.monotonic,
            wall=clock.wall,
            rng=Random(seed),
            on_result=lambda result: self._results.looked_out(result),
            look=_calm,
            stretches=False,  # they are few, and needed most where we are in trouble
        )
        self._news = News(
            self.balancer, keep=self._disk.transition, reconsider=self._scheduler.reconsider, log=self._log
        )
        self._pulse = Pulse(
            self.balancer,
            overdue={"the probe schedule": self._scheduler.overdue, "the lookouts": self._lookouts.overdue},
            stretch=lambda: self._scheduler.stretch,
            lagged=self._metrics.lag,
            ticked=self._ticked,
            log=self._log,
        )
        self._results = Results(
            self.balancer,
            config=lambda: self.config,
            pulse=self._pulse,
            metrics=self._metrics,
            disk=self._disk,
            changed=self._news.changed,
            log=self._log,
        )
        hands = Hands(
            balancer=self.balancer,
            config=lambda: self.config,
            clock=clock.monotonic,
            wall=clock.wall,
            changed=self._news.changed,
            waiting=self._news.waiting,
            boot=secrets.token_hex(4),
            probe=self._probe,
            reload=self.reload,
            healthy=self._healthy,
            ready=self._ready,
            metrics=self._render,
            decided=self._metrics.decided,
            reported=self._metrics.reported,
            recorded=self._recorded,
            history=self._disk.past,
            log=self._log,
        )
        self._server = Server(hands)
        self._control = Control(hands, runtime_dir)
        self._supervision = Supervision(
            Notify(None, watchdog=None) if notify is None else notify,
            self._pulse,
            ask=self._ask_ourselves,
            state=self._state,
            log=self._log,
        )
        self.reloading = Reloading(
            reload,
            passed=passed,
            current=lambda: self.config,
            serving=lambda: self._tls,
            follow=self._take,
            supervision=self._supervision,
            metrics=self._metrics,
            log=self._log,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve and probe for as long as the context is open.

        Raises: ConfigError for files of TLS that cannot be used and sockets that let everybody in; OSError naming
        the address that cannot be bound, or the state directory that another daemon has; what crashes a task.
        """
        self._log.info("daemon.started", endpoints=len(self.config.endpoints), models=len(self.config.models))
        start = await asyncio.to_thread(first, self.config, self._passed)
        self._news.changed()  # of whom there is nothing to be known, before the past is told
        try:
            await self._disk.open()  # before anybody is answered: who is drained must get no request
            listen = self.config.listen
            self.addresses = await self._server.start(listen, passed=self._passed, tls=start.tls)
            await self._control.start()
            self._follow(start.tls)
            async with asyncio.TaskGroup() as tasks:
                owned = [
                    tasks.create_task(self._scheduler.run(), name="scheduler"),
                    tasks.create_task(self._lookouts.run(), name="lookouts"),
                    tasks.create_task(self._pulse.run(), name="pulse"),
                    tasks.create_task(self._supervision.run(), name="supervision"),
                    tasks.create_task(self._disk.run(), name="disk"),
                ]
                self._log.info("daemon.ready", addresses=self.addresses)
                self._supervision.ready()
                try:
                    yield
                finally:
                    with self._supervision.stopping():
                        await self._end(owned)
        except BaseExceptionGroup as crash:
            self._log.error("daemon.crashed", exc_info=crash)
            raise
        finally:
            with self._supervision.stopping():
                await self._close()
        self._log.info("daemon.stopped")

    async def _end(self, owned: list[asyncio.Task[None]]) -> None:
        """Answer what is under way and nothing else, then end every task."""
        self._stopping = True
        self._log.info("daemon.stopping")
        self._news.end()
        try:
            await asyncio.gather(self._server.stop(grace=STOP_GRACE), self._control.stop(grace=STOP_GRACE))
        finally:
            for task in owned:
                task.cancel()

    async def _close(self) -> None:
        """Let go of what is left, also where the tasks have crashed or never began."""
        self._stopping = True
        self._news.end()
        async with (
            AsyncExitStack() as rest
        ):  # from the last one up, and each of them whatever becomes of the others
            rest.push_async_callback(self._disk.close)
            rest.push_async_callback(self._lookouts.close)
            rest.push_async_callback(self._scheduler.close)
            rest.push_async_callback(self._control.stop, grace=STOP_GRACE)
            await self._server.stop(grace=STOP_GRACE)

    # ---- following a configuration -------------------------------------------------------------------

    async def reload(self) -> Reloaded:
        """Read the configuration anew and follow it; see `Reloading.reload`."""
        return await self.reloading.reload()

    def _take(self, found: Candidate) -> int:
        """Put a configuration into force. No await: a client that hangs up must leave nothing half-way."""
        self.balancer.apply(found.config, now=clock.monotonic())
        self.config = found.config
        self._follow(found.tls)
        self._news.changed()
        return self.balancer.generation

    def _follow(self, tls: PreparedTls | None) -> None:
        self._scheduler.apply(self.config.endpoints, self.config.probes, self.config.credentials)
        places = self.config.lookouts.items()
        settings = {key: each.settings for key, each in places}
        self._lookouts.apply({key: each.endpoint for key, each in places}, settings, {})
        self._metrics.lookouts(self.config.lookouts)
        self._metrics.providers(self.config.providers)
        self._metrics.encrypted(key for key in self.config.endpoints if self._meets_tls(key))
        names = reporters(self.config.tokens)
        kept, self._pages = self._pages, _pages(self.config)
        self.balancer.retain(
            reporters=names,
            targets=[key for key, each in settings.items() if each.kind == "self"],
            pages=[provider for provider, page in self._pages.items() if kept.get(provider) == page],
            now=clock.monotonic(),
        )
        self._metrics.reporters(names)
        self._results.follow()
        self._disk.follow(self.config)
        if tls is not None:
            self._tls = tls
            self._server.use_tls(tls)
            self._metrics.own_certificate(tls.expires)

    def _meets_tls(self, key: str) -> bool:
        """Whether the probes of an endpoint may meet a certificate."""
        places = (self.config.endpoints[key].base_url, self.config.probes[key].url)
        return any(place is not None and place.lower().startswith("https:") for place in places)

    # ---- what the rims are handed --------------------------------------------------------------------

    async def _probe(self, endpoint: str) -> dict[str, Any]:
        reason = self.config.endpoints[endpoint].misconfigured
        if reason is None and self.config.probes[endpoint].kind == "none":
            reason = "its probe.kind is none"
        if reason is not None:
            raise Unprobed(reason)
        try:
            result = await self._scheduler.probe_now(endpoint)
        except RuntimeError as error:  # the budget is spent, or the schedule stops or loses the endpoint
            raise Unprobed(str(error)) from None
        return {**result.facts(), "state": self.balancer.endpoint(endpoint, now=clock.monotonic()).state}

    def _healthy(self) -> Healthy:
        now = clock.monotonic()
        problems = self._pulse.unwell(now)
        return Healthy(healthy=not problems, event_loop_lag=self._pulse.lag(now), problems=problems)

    def _ready(self) -> Ready:
        now = clock.monotonic()
        missing = [] if self.addresses else ["sockets"]  # which are bound after all else
        if self._stopping:
            missing.append("it is stopping")
        suspicion = self.balancer.self_suspicion(now)
        reporters = {
            each.name: each.suspicion.reason for each in self.balancer.reporters(now) if each.suspicion is not None
        }
        return Ready(
            ready=not missing,
            missing=missing,
            first_picture=self._scheduler.first_picture,
            endpoints=len(self.config.endpoints),
            config_generation=self.balancer.generation,
            self_suspect=suspicion is not None,
            self_suspect_reason=None if suspicion is None else suspicion.reason,
            reporters_suspect=list(reporters),
            reporters_suspect_reasons=reporters,
            store_trouble_reasons=self._disk.troubles(),
        )

    def _recorded(self, endpoint: str, outcome: Outcome, ended: float) -> None:
        cost = charged(
            self.config.endpoints[endpoint].pricing,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            cached_tokens=outcome.cached_tokens,
            wall=ended,
        )
        self._disk.outcome(endpoint, outcome, source="report", ended=ended, cost=cost)

    def _ticked(self) -> None:
        self._news.changed()
        self._disk.tick()

    async def _render(self, accept: str) -> tuple[bytes, str]:
        self._metrics.http(**self._server.counts()._asdict())
        self._metrics.log_dropped(self._log.dropped)
        self._disk.show(self._metrics)
        schedule = self._scheduler
        self._metrics.scheduler(
            in_flight=schedule.in_flight,
            stretch=schedule.stretch,
            left_out=schedule.left_out,
            spent={key: (spent.requests, spent.usd) for key, spent in schedule.all_spent().items()},
            limits={key: (budget.requests, budget.usd) for key, budget in schedule.budgets().items()},
        )
        return await self._metrics.rendered(accept)

    # ---- what the service manager is told ------------------------------------------------------------

    async def _ask_ourselves(self) -> int:
        """Ask our own API for a decision that leases nothing, each time for the next model."""
        models = list(self.config.models)
        self._asked += 1
        model = models[self._asked % len(models)]
        return await self._server.ask(f"/v1/best-provider?model={quote(model, safe='')}")

    def _state(self) -> str:
        """How it goes, in one line: what an operator would ask first."""
        states = self.balancer.states(now=clock.monotonic())
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        picture = "" if self._scheduler.first_picture else "; not all were probed yet"
        models = _counted(len(self.config.models), "model")
        return f"{models}, {_counted(states.total(), 'endpoint')}: {told}{picture}"


def _pages(config: Config) -> dict[str, tuple[str, ProbeSettings]]:
    """Every provider's status page, and how it is read."""
    found = [each for each in config.lookouts.values() if each.settings.kind == "status_page"]
    return {each.endpoint.provider: (each.endpoint.base_url, each.settings) for each in found}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _calm(key: str, now: float) -> Evidence:
    """What is known of a lookout without asking it: nothing."""
    del key, now
    return CALM
