"""The table: the one mutable thing. Outcomes go in, decisions come out.

Theory of operation: one `Row` an endpoint, found by id. `record` moves evidence and health; `best` lets the
`Router` plan, and then leases, sticks, counts and tells; `view` reads. There is no I/O, no clock and no lock: every
call is synchronous and so atomic under one event loop, `now` is always an argument, and the only randomness is
a `random.Random(seed)` held here, so that the same seed and the same calls give the same answers.

Where `best` writes: it may lease a trial, stick a session, advance the random state, and count. With `explain=True`
or `dry=True` it changes nothing that could be observed.

What this module does not know: credentials, and which decisions were never reported. Nothing is kept per decision
but the one lease of an endpoint in trial, so unreported decisions cost no memory. Wall time it knows only if
somebody says what time it is (`set_wall`), and uses it for prices that depend on the time of the day.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from random import Random
from typing import Any, Final

from msgspec import structs

from balancer.core import explain as explaining
from balancer.core import snapshot
from balancer.core.accounts import Accounts
from balancer.core.health import Change
from balancer.core.journal import Journal
from balancer.core.lineup import Asked
from balancer.core.model import Catalog, Considered, Decision, Model, NoEndpoint, RetryBudget, Source, Transition
from balancer.core.notes import Drain
from balancer.core.outcome import COUNTS, Outcome
from balancer.core.refusal import UNKNOWN_MODEL, refused, unknown
from balancer.core.request import Request
from balancer.core.retries import decision_id
from balancer.core.routing import Plan, Router, decided
from balancer.core.row import Row
from balancer.core.standing import standing
from balancer.core.view import EndpointView, ModelView, TableView, endpoint_views, model_view

ALL_BITS: Final = 2**64 - 1
LOCAL_AGE: Final = 60.0  # s for which a failure of our own network casts doubt


class Balancer:
    """Every endpoint's evidence, and the decisions that follow from it."""

    def __init__(self, catalog: Catalog, *, seed: int | None = None, now: float = 0.0) -> None:
        self._random = Random(seed)
        self._catalog = Catalog()
        self._rows: dict[str, Row] = {}
        self._drains: dict[str, Drain] = {}
        self._panics: set[str] = set()
        self._decisions: dict[tuple[str, str, str], int] = {}
        self._accounts = Accounts(catalog)
        self._journal = Journal()
        self._generation = 0
        self._wall: float | None = None
        self._local_at = -inf
        self._worked_at = -inf
        self.apply(catalog, now=now)

    # ---- configuration -------------------------------------------------------------------------------

    def apply(self, catalog: Catalog, *, now: float) -> None:
        """Take a configuration by key: what did not change keeps its evidence.

        Shape: an endpoint whose address, upstream model or credential changed starts anew; new spans of the
        windows empty the windows and nothing else.
        """
        self._journal.make_room(max(len(catalog.endpoints), len(self._rows)))
        respan = catalog.health.windows != self._catalog.health.windows
        rows: dict[str, Row] = {}
        for key, endpoint in catalog.endpoints.items():
            row = self._rows.get(key)
            if row is None or row.endpoint.identity != endpoint.identity:
                fresh = row is None
                row = Row(endpoint, catalog.health, random=self._random, now=now)
                reason = "configured" if fresh else "address, model or credential changed"
                self._tell(now, "endpoint.added", key, reason, row)
                if endpoint.misconfigured is not None:
                    self._tell(now, "endpoint.misconfigured", key, endpoint.misconfigured, row)
            else:
                row.configure(endpoint)
                if respan:
                    row.forget_windows(catalog.health)
            rows[key] = row
        gone = {
            key for key, row in self._rows.items() if rows.get(key) is not row
        }  # their prompts are not cached now
        for key in self._rows:
            if key not in rows:
                self._tell(now, "endpoint.removed", key, "no longer configured", None)
        self._rows = rows
        self._catalog = catalog
        self._accounts.apply(catalog, gone)
        self._panics &= catalog.models.keys()
        self._generation += 1
        for row in rows.values():
            self._assign_drains(row)
            row.shown = row.state(now)
        self._router = Router(catalog, rows, self._accounts, now=now)

    @property
    def catalog(self) -> Catalog:
        """The configuration in force."""
        return self._catalog

    @property
    def generation(self) -> int:
        """How many configurations were applied."""
        return self._generation

    def set_wall(self, wall: float, *, now: float) -> None:
        """Say what time it is: `wall` is the Unix time at `now`. Without it prices have no time of the day."""
        self._wall = wall - now

    # ---- evidence ------------------------------------------------------------------------------------

    def record(
        self,
        endpoint: str,
        outcome: Outcome,
        *,
        now: float,
        source: Source = "report",
        decision: str | None = None,
        session_id: str | None = None,
        age: float = 0.0,
        duration: float | None = None,
    ) -> bool:
        """Take one outcome that ended `age` seconds before `now`; false when older than the longest window.

        Shape: it began `duration` before it ended; the outcome's latency where that is not given. `session_id` is
        the request's own, so that the session stays where it was answered.
        Raises: KeyError for an endpoint that is not configured, ValueError for a time that is negative or no
        number. Nothing is recorded in any of these cases.
        """
        row = self._rows[endpoint]
        for span in (age, duration, outcome.latency, outcome.ttft, outcome.retry_after):
            if span is not None and not 0 <= span < inf:
                raise ValueError(f"{span} is no span of time; use seconds from 0 up")
        policy = self._catalog.health
        if age >= policy.windows[-1]:
            return False
        if outcome.kind == "local":
            self._local_at = now - age
        elif COUNTS[outcome.kind] == "success":
            self._worked_at = max(self._worked_at, now - age)
        self._lapse(row, now)
        if source == "report":
            self._accounts.reported(row, outcome, decision=decision, session_id=session_id, ended=now - age)
        changes = row.record(
            outcome,
            source=source,
            ended=now - age,
            duration=duration,
            now=now,
            decision=decision,
            policy=policy,
            random=self._random,
        )
        self._publish(row, changes, now)
        return True

    def drain(self, target: str, *, now: float, until: float | None = None, reason: str = "") -> list[str]:
        """Take a target (endpoint id, tag, provider or model) out of service; tell which endpoints it meant.

        Raises: KeyError when the target names nothing that is configured.
        """
        key, meant = self._meant(target)
        story = reason or "drained by the operator"
        self._drains = {name: drain for name, drain in self._drains.items() if drain.holds(now)}
        self._drains[key] = Drain(key, story, now, until)
        for row in meant:
            self._assign_drains(row)
            self._tell(now, "endpoint.drained", row.endpoint.id, story, row, next_at=until)
        return [row.endpoint.id for row in meant]

    def resume(self, target: str, *, now: float) -> list[str]:
        """End the drain of exactly this target, and forget that its provider refused us; tell what changed.

        Raises: KeyError when the target names nothing that is configured.
        """
        key, meant = self._meant(target)
        ended = self._drains.pop(key, None)
        held = ended is not None and ended.holds(now)
        changed: list[str] = []
        for row in meant:
            self._assign_drains(row)
            row.touch()
            if row.health.forgive() or held:
                changed.append(row.endpoint.id)
                self._tell(now, "endpoint.resumed", row.endpoint.id, "resumed by the operator", row)
        return changed

    def dump(self, *, now: float) -> dict[str, Any]:
        """Tell all that a restart keeps, in values that JSON can spell, changing nothing (see `snapshot`)."""
        return snapshot.dump(self._catalog, self._rows, self._drains, self._accounts, now=now)

    def restore(self, state: object, *, now: float, away: float) -> None:
        """Take back what `dump` told `away` seconds ago. Raises: ValueError, and then nothing is changed."""
        snapshot.restore(state, self._catalog, self._rows, self._drains, self._accounts, now=now, away=away)
        for row in self._rows.values():
            self._assign_drains(row)
            row.shown = row.state(now)

    def _meant(self, target: str) -> tuple[str, list[Row]]:
        word = target.lower()
        model = self._model(word)
        key = word if model is None else model.id  # a drain by an alias is the model's
        meant = [row for row in self._rows.values() if _means(key, row)]
        if not meant:
            raise KeyError(target)
        return key, meant

    def _assign_drains(self, row: Row) -> None:
        row.drains = tuple(drain for target, drain in self._drains.items() if _means(target, row))
        row.touch()

    def _model(self, name: str) -> Model | None:
        found = self._router.names.find(name)
        return None if found is None else found.model

    # ---- the decision --------------------------------------------------------------------------------

    def best(self, request: Request, *, now: float, explain: bool = False, dry: bool = False) -> Decision:
        """Choose an endpoint and its fallbacks.

        `explain` adds a line for each endpoint of the asked models; `explain` and `dry` change nothing, and are
        never a trial.
        Raises: NoEndpoint, and nothing else.
        """
        reading = explain or dry
        random = self._random
        if reading:
            random = Random()
            random.setstate(self._random.getstate())
        router = self._router
        asked = router.asked(request)
        if not asked:
            if not reading:
                self._count(UNKNOWN_MODEL, router.ranking, "model_not_found")
            raise unknown(request, router.names)
        wall = None if self._wall is None else self._wall + now
        count = self._catalog.routing.fallbacks if request.count is None else request.count
        if not request.provider.allow_fallbacks and not request.provider.order:
            count = 0
        places = len(self._rows) if explain else count + 1
        plan = router.plan(request, asked, now=now, wall=wall, random=random, trials=not reading, places=places)
        if plan is None and request.require:
            # A soft filter prefers and rules out nobody: when those it left cannot serve, the others may.
            asked = [each._replace(soft=False) for each in asked]
            plan = router.plan(request, asked, now=now, wall=wall, random=random, trials=not reading, places=places)
        if plan is None:
            raise self._refused(request, asked, now=now, reading=reading, explain=explain)
        first = plan.order[0]
        bits = random.getrandbits(64)
        # The next real decision will draw these very bits: a reader must not be told its name.
        key = decision_id(bits ^ ALL_BITS if reading else bits, first.row.mark)
        if reading:
            budget = self._accounts.retry_budget(plan.model.id, now)
        else:
            budget = self._lease(plan, request, asked, key, now)
        decision = decided(
            plan, request, key=key, budget=budget, count=count, routing=self._catalog.routing, now=now
        )
        if not explain:
            return decision
        lines = explaining.considered(
            router, request, asked, plan.order, panic=plan.panic, now=now, policy=self._catalog.health
        )
        return structs.replace(decision, considered=lines)

    def _refused(
        self, request: Request, asked: list[Asked], *, now: float, reading: bool, explain: bool
    ) -> NoEndpoint:
        policy, router = self._catalog.health, self._router
        lines: tuple[Considered, ...] = ()
        if explain:
            lines = explaining.considered(router, request, asked, (), panic=True, now=now, policy=policy)
        entries = [entry for each in asked for entry in each.pool.entries]
        need = router.lineups.need(request, asked)
        held = router.lineups.lineup(request, asked, need, now=now).held
        refusal = refused(
            request,
            [each.pool.model.id for each in asked],
            entries,
            explaining.reasons(request, asked),
            held,
            now=now,
            wall=None if self._wall is None else self._wall + now,
            policy=policy,
            considered=lines,
        )
        if not reading:
            strategy = router.lineups.strategy_of(request, asked[0]).name
            self._count(refusal.model, strategy, refusal.code)
        return refusal

    def _lease(self, plan: Plan, request: Request, asked: list[Asked], decision: str, now: float) -> RetryBudget:
        for each in asked:
            pool = each.pool
            # A request's own filters may leave only the ejected: that is its panic, and not yet the model's.
            if pool.leaderless is not (pool.model.id in self._panics):
                self._note_panic(pool.model.id, pool.leaderless, now)
        first = plan.order[0]
        if plan.trial is not None:
            row = first.row
            self._lapse(row, now)
            limit = row.speed.timeouts(request.prompt_tokens, now=now, policy=self._catalog.routing.timeouts).total
            started = row.health.start_trial(decision=decision, now=now, expires=now + limit)
            row.touch()
            self._publish(row, [started], now)
        self._count(plan.model.id, plan.strategy, "panic" if plan.panic else "trial" if plan.trial else "selected")
        return self._accounts.sent(first, request, plan.need, now)

    # ---- reading -------------------------------------------------------------------------------------

    def view(self, *, now: float) -> TableView:
        """Take a snapshot of everything, changing nothing."""
        catalog = self._catalog
        endpoints: list[EndpointView] = []
        models: list[ModelView] = []
        for model in catalog.models.values():
            views = endpoint_views([self._rows[key] for key in model.endpoints], catalog, now)
            models.append(model_view(model, views, self._accounts.retry_budget(model.id, now)))
            endpoints += views
        return TableView(
            now=now,
            generation=self._generation,
            endpoints=tuple(endpoints),
            models=tuple(models),
            drains=tuple(drain for drain in self._drains.values() if drain.holds(now)),
            decisions=dict(self._decisions),
            sessions=len(self._accounts.sessions),
            self_suspect=self.self_suspect(now),
        )

    def endpoint(self, key: str, *, now: float) -> EndpointView:
        """Take a snapshot of one endpoint. Raises: KeyError when it is not configured."""
        model = self._catalog.models[self._rows[key].endpoint.model]
        views = endpoint_views([self._rows[other] for other in model.endpoints], self._catalog, now)
        return next(view for view in views if view.id == key)

    def report_age(self, key: str, *, now: float) -> float | None:
        """How long ago the endpoint's newest report ended; `None` when there was none or no such endpoint."""
        row = self._rows.get(key)
        return None if row is None or row.last_report is None else max(0.0, now - row.last_report)

    def self_suspect(self, now: float) -> bool:
        """Whether our own network failed lately and nothing has worked since."""
        return now - self._local_at < LOCAL_AGE and self._worked_at < self._local_at

    def transitions(self, after: int) -> list[Transition]:
        """The state changes with a higher number than `after`, oldest first, as far back as remembered."""
        return self._journal.after(after)

    # ---- telling -------------------------------------------------------------------------------------

    def _lapse(self, row: Row, now: float) -> None:
        lapsed = row.health.lapse(now)
        if lapsed is not None:
            row.touch()
            self._publish(row, [lapsed], now)

    def _publish(self, row: Row, changes: Iterable[Change], now: float) -> None:
        policy = self._catalog.health
        for change in changes:
            following = standing(row, now, policy).next_at
            self._tell(now, change.event, row.endpoint.id, change.reason, row, next_at=following)
        state = row.state(now)
        if state != row.shown and not changes and state in ("degraded", "healthy"):
            self._tell(now, f"endpoint.{state}", row.endpoint.id, standing(row, now, policy).reason, row)
        row.shown = state

    def _note_panic(self, model: str, panic: bool, now: float) -> None:
        if panic:
            self._panics.add(model)
            self._journal.tell(now, "model.panic_entered", "health leaves no endpoint", model=model)
        else:
            self._panics.remove(model)
            self._journal.tell(now, "model.panic_left", "health no longer leaves it without one", model=model)

    def _tell(
        self, now: float, event: str, key: str, reason: str, row: Row | None, next_at: float | None = None
    ) -> None:
        state = None if row is None else row.state(now)
        model = None if row is None else row.endpoint.model
        self._journal.tell(now, event, reason, endpoint=key, model=model, state=state, next_at=next_at)

    def _count(self, model: str, strategy: str, result: str) -> None:
        key = (model, strategy, result)
        self._decisions[key] = self._decisions.get(key, 0) + 1


def _means(target: str, row: Row) -> bool:
    endpoint = row.endpoint
    return target in (endpoint.id, endpoint.tag, endpoint.door, endpoint.provider, endpoint.model)
