"""The table: the one mutable thing. Outcomes go in, decisions come out.

Theory of operation: one `Row` an endpoint, found by id. `record` moves evidence and health; `best` lets the
`Router` plan, and then leases, counts and tells; `view` reads. There is no I/O, no clock and no lock: every
call is synchronous and so atomic under one event loop, `now` is always an argument, and the only randomness is
a `random.Random(seed)` held here, so that the same seed and the same calls give the same answers.

Where `best` writes: it may lease a trial, advance the random state, and count. With `explain=True` or
`dry=True` it changes nothing at all.

What this module does not know: wall time, credentials, and which decisions were never reported. Nothing is
kept per decision but the one lease of an endpoint in trial, so unreported decisions cost no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from random import Random
from typing import Final

from balancer.core.health import Change
from balancer.core.model import Catalog, Decision, Model, NoEndpoint, Request, Selected, Source, State, Transition
from balancer.core.outcome import COUNTS, Outcome
from balancer.core.routing import Plan, Router
from balancer.core.row import ELIGIBLE, UNUSABLE, Drain, Row
from balancer.core.view import EndpointView, ModelView, TableView, endpoint_view

TRANSITIONS_MAX: Final = 1000  # remembered for readers that reconnect; four an endpoint where those are more
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
        self._transitions: deque[Transition] = deque(maxlen=TRANSITIONS_MAX)
        self._number = 0
        self._generation = 0
        self._local_at = float("-inf")
        self._worked_at = float("-inf")
        self.apply(catalog, now=now)

    # ---- configuration -------------------------------------------------------------------------------

    def apply(self, catalog: Catalog, *, now: float) -> None:
        """Take a configuration by key: what did not change keeps its evidence.

        Shape: an endpoint whose address, upstream model or credential changed starts anew; new spans of the
        windows empty the windows and nothing else.
        """
        # One reload may tell two things of every endpoint that comes and one of every one that goes.
        remembered = max(TRANSITIONS_MAX, 4 * max(len(catalog.endpoints), len(self._rows)))
        if remembered != self._transitions.maxlen:
            self._transitions = deque(self._transitions, maxlen=remembered)
        respan = catalog.health.windows != self._catalog.health.windows
        rows: dict[str, Row] = {}
        for key, endpoint in catalog.endpoints.items():
            row = self._rows.get(key)
            if row is None or row.endpoint.identity != endpoint.identity:
                fresh = row is None
                row = Row(endpoint, catalog.health, random=self._random, now=now)
                rows[key] = row
                reason = "configured" if fresh else "address, model or credential changed"
                self._tell(now, "endpoint.added", key, reason, row)
                if endpoint.misconfigured is not None:
                    self._tell(now, "endpoint.misconfigured", key, endpoint.misconfigured, row)
            else:
                row.endpoint = endpoint
                if respan:
                    row.forget_windows(catalog.health)
                rows[key] = row
        for key in self._rows:
            if key not in rows:
                self._tell(now, "endpoint.removed", key, "no longer configured", None)
        self._rows = rows
        self._catalog = catalog
        self._router = Router(catalog, rows)
        self._ordinary = {key: _ordinary(model, catalog) for key, model in catalog.models.items()}
        self._panics &= catalog.models.keys()
        self._generation += 1
        for row in rows.values():
            self._assign_drains(row)
            row.shown = row.state(now)

    @property
    def catalog(self) -> Catalog:
        """The configuration in force."""
        return self._catalog

    @property
    def generation(self) -> int:
        """How many configurations were applied."""
        return self._generation

    # ---- evidence ------------------------------------------------------------------------------------

    def record(
        self,
        endpoint: str,
        outcome: Outcome,
        *,
        now: float,
        source: Source = "report",
        decision: str | None = None,
        age: float = 0.0,
        duration: float | None = None,
    ) -> bool:
        """Take one outcome that ended `age` seconds before `now`; false when older than the longest window.

        Shape: it began `duration` before it ended; the outcome's latency where that is not given.
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
            if row.health.forgive() or held:
                changed.append(row.endpoint.id)
                self._tell(now, "endpoint.resumed", row.endpoint.id, "resumed by the operator", row)
        return changed

    def _meant(self, target: str) -> tuple[str, list[Row]]:
        word = target.lower()
        model = self._router.model(word)
        key = word if model is None else model.id  # a drain by an alias is the model's
        meant = [row for row in self._rows.values() if _means(key, row)]
        if not meant:
            raise KeyError(target)
        return key, meant

    def _assign_drains(self, row: Row) -> None:
        row.drains = tuple(drain for target, drain in self._drains.items() if _means(target, row))

    # ---- the decision --------------------------------------------------------------------------------

    def best(self, request: Request, *, now: float, explain: bool = False, dry: bool = False) -> Decision:
        """Choose an endpoint and its fallbacks.

        `explain` adds a line for each endpoint of the model; `explain` and `dry` change nothing, and are never
        a trial.
        Raises: NoEndpoint, and nothing else for a well-formed request.
        """
        reading = explain or dry
        random = self._random
        if reading:
            random = Random()
            random.setstate(self._random.getstate())
        try:
            plan = self._router.plan(request, now=now, random=random, trials=not reading, explain=explain)
        except NoEndpoint as refusal:
            if not reading:
                self._count(refusal.model, refusal.code)
            raise
        bits = random.getrandbits(64)
        # The next real decision will draw these very bits: a reader must not be told its name.
        key = f"dec_{bits ^ ALL_BITS if reading else bits:016x}"
        decision = self._decision(key, plan, request, now)
        if not reading:
            self._lease(plan, key, now)
        return decision

    def _lease(self, plan: Plan, decision: str, now: float) -> None:
        # A request's own filters may leave only the ejected: that is its panic, and not yet the model's.
        ordinary = self._ordinary[plan.model.id]
        self._note_panic(plan.model.id, not any(plan.states[key] in ELIGIBLE for key in ordinary), now)
        first = plan.order[0]
        if plan.trial is not None:
            self._lapse(first, now)
            started = first.health.start_trial(decision=decision, now=now, expires=now + first.timeouts.total)
            self._publish(first, [started], now)
        self._count(plan.model.id, "panic" if plan.panic else "trial" if plan.trial else "selected")
        first.selections += 1

    def _decision(self, key: str, plan: Plan, request: Request, now: float) -> Decision:
        routing, first = self._catalog.routing, plan.order[0]
        count = routing.fallbacks if request.count is None else request.count
        if not request.provider.allow_fallbacks and not request.provider.order:
            count = 0
        return Decision(
            id=key,
            model=plan.model.id,
            strategy=self._router.strategy.name,
            selected=_selected(first, "half_open" if plan.trial else plan.states[first.endpoint.id]),
            fallbacks=tuple(_selected(row, plan.states[row.endpoint.id]) for row in plan.order[1 : 1 + count]),
            panic=plan.panic,
            trial=plan.trial is not None,
            valid_for=0.0 if plan.trial is not None else routing.valid_for,
            evidence_age=None if first.last_outcome is None else max(0.0, now - first.last_outcome),
            considered=plan.considered,
        )

    # ---- reading -------------------------------------------------------------------------------------

    def view(self, *, now: float) -> TableView:
        """Take a snapshot of everything, changing nothing."""
        views: list[EndpointView] = []
        models: list[ModelView] = []
        for model in self._catalog.models.values():
            rows = [self._rows[key] for key in model.endpoints]
            prior = self._router.prior(rows, now)
            of_model = [endpoint_view(row, prior=prior, policy=self._catalog.health, now=now) for row in rows]
            eligible = sum(view.state in ELIGIBLE for view in of_model)
            ordinary = [view for view in of_model if view.id in self._ordinary[model.id]]
            panic = not any(view.state in ELIGIBLE for view in ordinary) and any(map(_last_resort, ordinary))
            models.append(ModelView(model.id, eligible, len(rows), panic=panic))
            views += of_model
        return TableView(
            now=now,
            generation=self._generation,
            endpoints=tuple(views),
            models=tuple(models),
            drains=tuple(drain for drain in self._drains.values() if drain.holds(now)),
            decisions=dict(self._decisions),
            self_suspect=self.self_suspect(now),
        )

    def endpoint(self, key: str, *, now: float) -> EndpointView:
        """Take a snapshot of one endpoint. Raises: KeyError when it is not configured."""
        row = self._rows[key]
        peers = [self._rows[other] for other in self._catalog.models[row.endpoint.model].endpoints]
        return endpoint_view(row, prior=self._router.prior(peers, now), policy=self._catalog.health, now=now)

    def report_age(self, key: str, *, now: float) -> float | None:
        """How long ago the endpoint's newest report ended; `None` when there was none or no such endpoint."""
        row = self._rows.get(key)
        return None if row is None or row.last_report is None else max(0.0, now - row.last_report)

    def self_suspect(self, now: float) -> bool:
        """Whether our own network failed lately and nothing has worked since."""
        return now - self._local_at < LOCAL_AGE and self._worked_at < self._local_at

    def transitions(self, after: int) -> list[Transition]:
        """The state changes with a higher number than `after`, oldest first, as far back as remembered."""
        if after >= self._number:
            return []
        return [each for each in self._transitions if each.number > after]

    # ---- telling -------------------------------------------------------------------------------------

    def _lapse(self, row: Row, now: float) -> None:
        lapsed = row.health.lapse(now)
        if lapsed is not None:
            self._publish(row, [lapsed], now)

    def _publish(self, row: Row, changes: Iterable[Change], now: float) -> None:
        for change in changes:
            following = row.standing(now, self._catalog.health).next_at
            self._tell(now, change.event, row.endpoint.id, change.reason, row, next_at=following)
        state = row.state(now)
        if state != row.shown and not changes and state in ("degraded", "healthy"):
            reason = row.standing(now, self._catalog.health).reason
            self._tell(now, f"endpoint.{state}", row.endpoint.id, reason, row)
        row.shown = state

    def _note_panic(self, model: str, panic: bool, now: float) -> None:
        if panic and model not in self._panics:
            self._panics.add(model)
            self._emit(now, "model.panic_entered", None, model, None, "health leaves no endpoint")
        elif not panic and model in self._panics:
            self._panics.remove(model)
            self._emit(now, "model.panic_left", None, model, None, "an endpoint is eligible again")

    def _tell(
        self, now: float, event: str, key: str, reason: str, row: Row | None, next_at: float | None = None
    ) -> None:
        state = None if row is None else row.state(now)
        model = None if row is None else row.endpoint.model
        self._emit(now, event, key, model, state, reason, next_at)

    def _emit(
        self,
        now: float,
        event: str,
        endpoint: str | None,
        model: str | None,
        state: State | None,
        reason: str,
        next_at: float | None = None,
    ) -> None:
        self._number += 1
        self._transitions.append(
            Transition(
                number=self._number,
                now=now,
                event=event,
                endpoint=endpoint,
                model=model,
                state=state,
                reason=reason,
                next_at=next_at,
            )
        )

    def _count(self, model: str, result: str) -> None:
        key = (model, self._router.strategy.name, result)
        self._decisions[key] = self._decisions.get(key, 0) + 1


def _ordinary(model: Model, catalog: Catalog) -> frozenset[str]:
    # A tier is chosen only when it is asked for, so it keeps no ordinary request out of panic.
    plain = frozenset(key for key in model.endpoints if catalog.endpoints[key].tier is None)
    return plain or frozenset(model.endpoints)


def _last_resort(view: EndpointView) -> bool:
    down = "ejected" in view.states or "half_open" in view.states
    return down and "throttled" not in view.states and UNUSABLE.isdisjoint(view.states)


def _means(target: str, row: Row) -> bool:
    endpoint = row.endpoint
    return target in (endpoint.id, endpoint.tag, endpoint.provider, endpoint.model)


def _selected(row: Row, state: State) -> Selected:
    endpoint = row.endpoint
    return Selected(
        id=endpoint.id,
        tag=endpoint.tag,
        provider=endpoint.provider,
        model=endpoint.upstream_model,
        base_url=endpoint.base_url,
        api=endpoint.api,
        state=state,
        timeouts=row.timeouts,
    )
