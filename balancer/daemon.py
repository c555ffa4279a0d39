"""The daemon: builds everything, owns the tasks, and carries what happens from one rim to another.

Theory of operation: a `Daemon` holds one table and gives each rim only the callables that it needs, so that
probing, HTTP and metrics do not know of each other. `running()` binds the sockets, starts the probe scheduler
and the ticker inside one TaskGroup, and ends all of them on the way out; a crash of any of them ends the
daemon, because a daemon that decides without probes and does not say so would be a lie.

Status pages and our own reach are probed by a schedule of their own: they wait for no provider's slots.

After every write to the table somebody calls `_changed`: new transitions become log lines, and readers of the
event stream are woken. They read the table's own memory of transitions, so nothing is queued per reader.

Reload is all or nothing: the whole file is read and decoded first; then the table, the probe schedule and the
metrics follow it without an await between them, so that a client that hangs up leaves nothing half-way. The
listening sockets and the log are bound at the start and stay as they are.

What this module does not know: signals and the command line (`cli/run.py`), and anything that survives a
restart; nothing does in this version.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from math import inf
from random import Random
from typing import Any, Final

from msgspec import structs

from balancer.config import Config, ConfigError, ConfigProblem, ProbeSettings
from balancer.config.units import is_wide
from balancer.core.balancer import Balancer
from balancer.core.evidence import CALM, Evidence
from balancer.core.model import Transition
from balancer.core.outcome import COUNTS
from balancer.http import Hands, Server, Unprobed, reporters
from balancer.metrics import Metrics
from balancer.probing import ProbeResult, Scheduler
from balancer.service import clock
from balancer.service.log import Log, silent

TICK: Final = 0.5  # s; how often loop lag, doubts and the wall clock are looked at
# s that the loop may be late. A batch of reports or a collection of garbage takes tenths of one; a second more or
# less decides no probe of the usual ten, but it does decide a connect of two.
STALL: Final = 1.0
READINGS: Final = 5  # of a status page that may fail before nobody knows what it says
STOP_GRACE: Final = 1.5  # s; answers under way may finish, and SIGTERM still ends us within two

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


class Daemon:
    """One running balancer. `addresses` are the bound sockets once it runs."""

    def __init__(
        self,
        config: Config,
        *,
        seed: int | None = None,
        reload: Callable[[], Config] | None = None,
        log: Log | None = None,
    ) -> None:
        self.config = config
        self.addresses: list[str] = []
        self.balancer = Balancer(config, seed=seed, now=clock.monotonic())
        self._tell_time()
        self._log = silent() if log is None else log
        self._read_config = reload
        self._told = 0
        self._news = asyncio.Event()
        self._stopping = False
        self._due = inf  # when the ticker should wake
        self._stalled = -inf  # when the last stall was over
        self._pages: dict[str, tuple[str, ProbeSettings]] = {}
        self._reloading = asyncio.Lock()
        self._metrics = Metrics(view=lambda: self.balancer.view(now=clock.monotonic()), version=version("balancer"))
        self._metrics.reloaded(successful=True, wall=clock.wall())
        self._scheduler = Scheduler(
            clock=clock.monotonic,
            wall=clock.wall,
            rng=Random(seed),
            on_result=self._probed,
            look=lambda key, now: self.balancer.evidence(key, now=now),
            on_spent=lambda provider, said: self._log.warning("probe.budget_spent", provider=provider, spent=said),
            on_start=self._metrics.probe_started,
        )
        self._lookouts = Scheduler(
            clock=clock.monotonic,
            wall=clock.wall,
            rng=Random(seed),
            on_result=self._looked_out,
            look=_calm,
            stretches=False,  # they are few, and needed most where we are in trouble
        )
        self._server = Server(
            Hands(
                balancer=self.balancer,
                config=lambda: self.config,
                clock=clock.monotonic,
                wall=clock.wall,
                changed=self._changed,
                waiting=self._waiting,
                boot=secrets.token_hex(4),
                probe=self._probe,
                reload=self.reload,
                ready=self._ready,
                metrics=self._render,
                decided=self._metrics.decided,
                reported=self._metrics.reported,
                log=self._log,
            )
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve and probe for as long as the context is open.

        Raises: OSError naming the address that cannot be bound; whatever crashes a task of ours.
        """
        self._log.info("daemon.started", endpoints=len(self.config.endpoints), models=len(self.config.models))
        self.addresses = await self._server.start(self.config.listen)
        try:
            self._follow()
            async with asyncio.TaskGroup() as tasks:
                owned = [
                    tasks.create_task(self._scheduler.run(), name="scheduler"),
                    tasks.create_task(self._lookouts.run(), name="lookouts"),
                    tasks.create_task(self._tick(), name="ticker"),
                ]
                self._changed()
                self._log.info("daemon.ready", addresses=self.addresses)
                try:
                    yield
                finally:
                    self._stopping = True
                    self._news.set()
                    self._log.info("daemon.stopping")
                    for task in owned:
                        task.cancel()
        except BaseExceptionGroup as crash:
            self._log.error("daemon.crashed", exc_info=crash)
            raise
        finally:
            self._stopping = True
            await self._server.stop(grace=STOP_GRACE)
            await self._scheduler.close()
            await self._lookouts.close()
        self._log.info("daemon.stopped")

    async def reload(self) -> list[str]:
        """Read the configuration anew and follow it; tell which of its keys wait for the next start.

        Raises: ConfigError with every problem, LookupError when there is no file; the old one stays in force.
        """
        if self._read_config is None:
            raise LookupError("this daemon was started without a configuration file")
        async with self._reloading:  # one at a time, or an older file that was read slowly could win
            return await self._reload(self._read_config)

    async def _reload(self, read: Callable[[], Config]) -> list[str]:
        try:
            config = await asyncio.to_thread(read)
            self._guard_sockets(config)
        except ConfigError as error:
            self._metrics.reloaded(successful=False, wall=clock.wall())
            self._log.error("config.rejected", problems=[str(problem) for problem in error.problems])
            raise
        waiting = [key for key in ("listen", "log") if getattr(config, key) != getattr(self.config, key)]
        self.config = replace(config, listen=self.config.listen, log=self.config.log)
        self.balancer.apply(self.config, now=clock.monotonic())
        self._follow()
        self._metrics.reloaded(successful=True, wall=clock.wall())
        facts = {"endpoints": len(config.endpoints), "generation": self.balancer.generation}
        if waiting:
            self._log.warning("config.loaded", **facts, at_next_start=waiting)
        else:
            self._log.info("config.loaded", **facts)
        self._changed()
        return waiting

    def _guard_sockets(self, config: Config) -> None:
        # The file was judged against its own `listen`, but what is bound stays bound until the next start.
        wide = [str(listen) for listen in self.config.listen if is_wide(listen)]
        if wide and not config.tokens and not config.insecure:
            found = f"{', '.join(wide)} stays open until the next start, and would let others in without any token"
            allowed = "give auth.tokens or insecure: true, or restart"
            raise ConfigError([ConfigProblem(file="reload", line=None, path="auth", found=found, allowed=allowed)])

    # ---- what the rims are handed --------------------------------------------------------------------

    def _follow(self) -> None:
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

    def _meets_tls(self, key: str) -> bool:
        """Whether the probes of an endpoint may meet a certificate."""
        places = (self.config.endpoints[key].base_url, self.config.probes[key].url)
        return any(place is not None and place.lower().startswith("https:") for place in places)

    def _probed(self, result: ProbeResult) -> None:
        now = clock.monotonic()
        endpoint = self.config.endpoints.get(result.endpoint)
        if endpoint is None:
            return  # removed by a reload while its probe was under way
        self._notice_stall(now)  # the ticker wakes at the same moment, and perhaps later
        outcome = result.outcome
        if result.began < self._stalled:  # it worked, and how long it took is our own time
            outcome = structs.replace(outcome, latency=None, ttft=None)
        self.balancer.record(
            result.endpoint,
            outcome,
            now=now,
            source="probe",
            age=max(0.0, now - result.ended),
            duration=result.ended - result.began,
        )
        self._metrics.probed(endpoint.provider, result.phases, result.cost)
        self._metrics.certificate(endpoint.id, result.certificate_expires)
        self._tell_probe(result)
        self._changed()

    def _looked_out(self, result: ProbeResult) -> None:
        now = clock.monotonic()
        lookout = self.config.lookouts.get(result.endpoint)
        if lookout is None:
            return
        self._notice_stall(now)
        kind, place = result.outcome.kind, lookout.endpoint
        if result.kind == "self" and kind != "probe_invalid":  # which is no word about the network
            fault = None if kind == "success" else kind
            self.balancer.reached(result.endpoint, fault, began=result.began, now=now)
        if result.announced is not None:
            level, detail = result.announced
            lasting = lookout.settings.interval * READINGS
            self.balancer.announce(place.provider, level, detail=detail, now=now, lasting=lasting)
        self._metrics.looked_out(result.endpoint, good=kind == "success")
        facts = {"lookout": result.endpoint, "outcome": kind, "status": result.outcome.status}
        if result.bug is not None:
            self._log.error("probe.crashed", **facts, traceback=result.bug)
        elif kind != "success":
            tell = self._log.warning if kind == "probe_invalid" else self._log.info
            tell("lookout.failed", **facts, detail=result.outcome.detail)
        self._changed()

    def _tell_probe(self, result: ProbeResult) -> None:
        outcome = result.outcome
        facts = {"endpoint": result.endpoint, "outcome": outcome.kind, "status": outcome.status}
        if result.bug is not None:
            self._log.error("probe.crashed", **facts, traceback=result.bug)
        elif outcome.kind == "probe_invalid":
            self._log.warning("probe.rejected", **facts, detail=outcome.detail)
        elif COUNTS[outcome.kind] == "failure" or outcome.kind == "local":
            self._log.info("probe.failed", **facts, detail=outcome.detail)

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

    def _ready(self) -> dict[str, Any]:
        now = clock.monotonic()
        suspicion = self.balancer.self_suspicion(now)
        reporters = {
            each.name: each.suspicion.reason for each in self.balancer.reporters(now) if each.suspicion is not None
        }
        return {
            "ready": bool(self.addresses) and not self._stopping,
            "first_picture": self._scheduler.first_picture,
            "endpoints": len(self.config.endpoints),
            "config_generation": self.balancer.generation,
            "self_suspect": suspicion is not None,
            "self_suspect_reason": None if suspicion is None else suspicion.reason,
            "reporters_suspect": list(reporters),
            "reporters_suspect_reasons": reporters,
        }

    async def _render(self, accept: str) -> tuple[bytes, str]:
        schedule = self._scheduler
        self._metrics.scheduler(
            in_flight=schedule.in_flight,
            stretch=schedule.stretch,
            left_out=schedule.left_out,
            spent={key: (spent.requests, spent.usd) for key, spent in schedule.all_spent().items()},
            limits={key: (budget.requests, budget.usd) for key, budget in schedule.budgets().items()},
        )
        return self._metrics.render(accept)

    # ---- news ----------------------------------------------------------------------------------------

    def _changed(self) -> None:
        news = self.balancer.transitions(self._told)
        if not news:
            return
        self._told = news[-1].number
        for transition in news:
            self._tell(transition)
            if transition.endpoint is not None:
                self._scheduler.reconsider(transition.endpoint)  # its next turn was planned for a calmer time
        self._news.set()
        self._news.clear()

    def _tell(self, transition: Transition) -> None:
        facts = {
            key: value
            for key, value in asdict(transition).items()
            if key in ("endpoint", "model", "provider", "reporter", "state", "reason") and value not in (None, "")
        }
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

    async def _waiting(self, after: int) -> None:
        while not self._stopping and not self.balancer.transitions(after):
            await self._news.wait()

    def _tell_time(self) -> None:
        # Again and again: a stepped clock and a suspended machine part the two clocks, and prices have hours.
        self.balancer.set_wall(clock.wall(), now=clock.monotonic())

    async def _tick(self) -> None:
        stretch = 1.0
        while True:
            due = self._due = clock.monotonic() + TICK
            await asyncio.sleep(TICK)
            now = clock.monotonic()
            self._metrics.lag(max(0.0, now - due))
            stretch = self._tell_stretch(stretch)
            self._tell_time()
            self._notice_stall(now)
            self.balancer.settle(now=now)
            self._changed()

    def _tell_stretch(self, before: float) -> float:
        """Tell that probes are fewer because we are overloaded, and when that is over."""
        stretch = self._scheduler.stretch
        if stretch > before:
            self._log.warning("probe.stretched", ratio=round(stretch, 2))
        elif stretch == 1.0 < before:
            self._log.info("probe.unstretched")
        return stretch

    def _notice_stall(self, now: float) -> None:
        if now - self._due > STALL:
            self.balancer.stalled(since=self._due - TICK, now=now)
            self._stalled = now
            self._due = now  # told once, by whoever wakes first


def _pages(config: Config) -> dict[str, tuple[str, ProbeSettings]]:
    """Every provider's status page, and how it is read."""
    found = [each for each in config.lookouts.values() if each.settings.kind == "status_page"]
    return {each.endpoint.provider: (each.endpoint.base_url, each.settings) for each in found}


def _calm(key: str, now: float) -> Evidence:
    """What is known of a lookout without asking it: nothing."""
    del key, now
    return CALM
