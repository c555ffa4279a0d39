"""The table: the one mutable thing. Outcomes go in, decisions come out.

Theory of operation: one `Row` an endpoint, found by id. `record` moves evidence and health; `best` lets the
`Router` plan, and then leases, sticks, counts and tells; `view` reads. There is no I/O, no clock and no lock: every
call is synchronous and so atomic under one event loop, `now` is always an argument, and the only randomness is
a `random.Random(seed)` held here, so that the same seed and the same calls give the same answers.

Where `best` writes: it may lease a trial, stick a session, advance the random state, and count. With `explain=True`
or `dry=True` it changes nothing that could be observed.

What this module does not know: credentials, and which decisions were never reported: of a decision nothing is kept
but the lease of an endpoint in trial. Wall time it knows only if somebody says it (`set_wall`), for prices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from math import inf
from random import Random
from typing import Any, Final

from msgspec import structs

from balancer.core import explain as explaining
from balancer.core import snapshot
from balancer.core.accounts import Accounts
from balancer.core.announcement import Level
from balancer.core.detectors import Detectors
from balancer.core.discount import heed, nothing, set_aside
from balancer.core.doubt import Doubt
from balancer.core.drains import Drains, meant
from balancer.core.evidence import Evidence, evidence
from balancer.core.hearsay import Hearsay
from balancer.core.lineup import Asked
from balancer.core.model import Catalog, Considered, Decision, NoEndpoint, RetryBudget, Source, State, Transition
from balancer.core.notes import Drain
from balancer.core.outcome import Outcome
from balancer.core.refusal import UNKNOWN_MODEL, refused, unknown
from balancer.core.request import Request
from balancer.core.retries import decision_id
from balancer.core.routing import Plan, Router, decided
from balancer.core.row import Row
from balancer.core.rows import follow
from balancer.core.snapshot import Place
from balancer.core.telling import Teller
from balancer.core.view import EndpointView, TableView, all_views, endpoint_views
from balancer.core.witness import ReporterView, Suspicion

ALL_BITS: Final = 2**64 - 1


class Balancer:
    """Every endpoint's evidence, and the decisions that follow from it."""

    def __init__(self, catalog: Catalog, *, seed: int | None = None, now: float = 0.0) -> None:
        self._random = Random(seed)
        self._catalog = Catalog()
        self._rows: dict[str, Row] = {}
        self._drains = Drains()
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._accounts = Accounts(catalog)
        self._teller = Teller()
        self._generation = 0
        self._wall: float | None = None
        self._doubt = Doubt()
        self._detectors = Detectors()
        self._hearsay = Hearsay(self._teller)
        self.apply(catalog, now=now)

    # ---- configuration -------------------------------------------------------------------------------

    def apply(self, catalog: Catalog, *, now: float) -> None:
        """Take a configuration by key: what did not change keeps its evidence.

        Shape: an endpoint whose address, upstream model or credential changed starts anew; new spans of the
        windows empty the windows and nothing else.
        """
        self._teller.make_room(max(len(catalog.endpoints), len(self._rows)))
        rows, gone = follow(self._catalog, catalog, self._rows, teller=self._teller, random=self._random, now=now)
        self._rows, self._catalog = rows, catalog
        self._accounts.apply(catalog, gone)
        self._teller.forget_models(catalog.models)
        self._generation += 1
        self._drains.assign(rows.values())
        self._router = Router(catalog, rows, self._accounts, now=now)
        self._doubt.apply(self._router.fates, gone)
        self._detectors.apply(self._router.fates, rows)
        self._hearsay.retain(catalog.providers, rows.values(), now=now, policy=catalog.health)
        self._hearsay.assign(rows.values(), now=now, policy=catalog.health)

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
        reporter: str | None = None,
        decision: str | None = None,
        session_id: str | None = None,
        age: float = 0.0,
        duration: float | None = None,
    ) -> bool:
        """Take one outcome that ended `age` seconds before `now`; false when older than the longest window.

        Shape: it began `duration` before it ended; the outcome's latency where that is not given. `reporter` names
        who saw it, `None` for whoever holds the table, as with every probe. `session_id` is the request's own, so
        that the session stays where it was answered.
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
        self._teller.lapse(row, now, policy)
        ended = now - age
        took = outcome.latency if duration is None else duration
        began = ended if took is None else ended - took
        out, fresh = row.health.out, began >= row.health.since
        verdict = self._doubt.take(
            endpoint, outcome, source=source, reporter=reporter, began=began, ended=ended, now=now, out=out
        )
        if self._doubt.news:
            self._heed(now)
        believed = outcome if verdict == "evidence" else nothing(outcome)
        if source == "report":
            self._detectors.reported(row, now)
            self._accounts.reported(row, believed, decision=decision, session_id=session_id, ended=ended, now=now)
        if verdict == "doubted":
            changes = set_aside(
                row, outcome, source=source, began=began, ended=ended, now=now, decision=decision, policy=policy
            )
        else:
            changes = row.record(
                believed,
                source=source,
                ended=ended,
                duration=duration,
                now=now,
                decision=decision,
                policy=policy,
                random=self._random,
                company=self._router.pools[row.endpoint.model].rows,
                answered=self._doubt.answered,
            )
            for other, found in self._detectors.recorded(
                row, believed, fresh=fresh, ended=ended, now=now, policy=policy
            ):
                self._teller.changes(other, found, now, policy)
        self._teller.changes(row, changes, now, policy)
        if believed.account:
            facts = {"began": began, "ended": ended, "now": now, "longest": policy.throttle_max}
            for other, held in self._accounts.hold(self._rows, row, believed, **facts, random=self._random):
                self._teller.changes(other, held, now, policy)
        return True

    def stalled(self, *, since: float, now: float) -> None:
        """Say that whoever holds the table did not run between the two: probes under way then measured that."""
        self._doubt.stalled(since=since, now=now)
        self._heed(now)

    def settle(self, *, now: float) -> None:
        """End and tell what only time has ended: doubts of which nothing was heard any more."""
        self._doubt.settle(now)
        self._heed(now)
        self._hearsay.lapse(self._rows.values(), now=now, policy=self._catalog.health)

    def reached(self, target: str, fault: str | None, *, began: float, now: float) -> None:
        """Take a check of our own reach: `fault` is what it met, `None` for an answer."""
        self._doubt.checked(target, fault, began=began, now=now)
        self._heed(now)

    def announce(self, provider: str, level: Level, *, detail: str = "", now: float, lasting: float) -> None:
        """Take what a provider's status page says; it stands for `lasting` seconds. Raises: KeyError."""
        key, rows, policy = self._catalog.providers[provider].key, self._rows.values(), self._catalog.health
        self._hearsay.take(key, level, detail, rows, now=now, lasting=lasting, policy=policy)

    def retain(self, *, reporters: Iterable[str], targets: Iterable[str], pages: Iterable[str], now: float) -> None:
        """Forget every reporter but these, target of our own reach, and provider's status page."""
        self._doubt.retain(reporters)
        self._doubt.retain_targets(targets, now)
        self._heed(now)
        self._hearsay.retain(frozenset(pages), self._rows.values(), now=now, policy=self._catalog.health)

    def _heed(self, now: float) -> None:
        policy = self._catalog.health
        heed(self._doubt, self._rows, self._detectors, self._teller, policy=policy, now=now)

    def drain(self, target: str, *, now: float, until: float | None = None, reason: str = "") -> list[str]:
        """Take a target (endpoint id, tag, provider or model) out of service; tell which endpoints it meant.

        Raises: KeyError when the target names nothing that is configured.
        """
        key, those = meant(target, self._rows.values(), self._router.names)
        story = reason or "drained by the operator"
        self._drains.begin(Drain(key, story, now, until), now=now)
        self._drains.assign(those)
        for row in those:
            self._teller.endpoint(now, "endpoint.drained", row.endpoint.id, story, row, next_at=until)
        return [row.endpoint.id for row in those]

    def resume(self, target: str, *, now: float) -> list[str]:
        """End the drain of exactly this target, and forget that its provider refused us; tell what changed.

        Raises: KeyError when the target names nothing that is configured.
        """
        key, those = meant(target, self._rows.values(), self._router.names)
        held = self._drains.end(key, now=now)
        self._drains.assign(those)
        changed: list[str] = []
        for row in those:
            if row.health.forgive() or held:
                changed.append(row.endpoint.id)
                self._teller.resumed(row, now)
        return changed

    def dump(self, *, now: float) -> dict[str, Any]:
        """Tell all that a restart keeps, in values that JSON can spell, changing nothing (see `snapshot`)."""
        return snapshot.joined(self.parts(now=now))

    def parts(self, *, now: float) -> Iterator[dict[str, Any]]:
        """The same bit by bit, for who cannot wait for all of it: anything may happen in between."""
        return snapshot.parts(self._catalog, self._rows, self._drains.kept, self._accounts, now=now)

    def restore(self, state: object, *, now: float, away: float) -> None:
        """Take back what `dump` told `away` seconds ago. Raises: ValueError, and then nothing is changed."""
        for _ in self.restoring(lambda: (state,), now=now, away=away):
            pass

    def restoring(
        self, parts: Callable[[], Iterable[object]], *, now: float, away: float, late: bool = False
    ) -> Iterator[None]:
        """The same bit by bit, of all parts given twice (see `snapshot`); `late` tells how it changes states."""
        told = self._teller if late else None
        yield from snapshot.restoring(
            parts, lambda: Place(self._catalog, self._rows, self._drains, self._accounts, told), now=now, away=away
        )
        self._detectors.apply(self._router.fates, self._rows)

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
                self._decisions[UNKNOWN_MODEL, router.ranking, "model_not_found"] += 1
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
        bits = random.getrandbits(64)
        # The next real decision will draw these very bits: a reader must not be told its name.
        key = decision_id(bits ^ ALL_BITS if reading else bits, plan.order[0].row.mark)
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
            self._decisions[refusal.model, strategy, refusal.code] += 1
        return refusal

    def _lease(self, plan: Plan, request: Request, asked: list[Asked], decision: str, now: float) -> RetryBudget:
        policy = self._catalog.health
        for each in asked:
            pool = each.pool
            # A request's own filters may leave only the ejected: that is its panic, and not yet the model's.
            self._teller.panic(pool.model.id, pool.leaderless(now), now)
        first = plan.order[0]
        if plan.trial is not None:
            row = first.row
            self._teller.lapse(row, now, policy)
            limit = row.speed.timeouts(request.prompt_tokens, now=now, policy=self._catalog.routing.timeouts).total
            started = row.health.start_trial(decision=decision, now=now, expires=now + limit)
            row.touch()
            self._teller.changes(row, [started], now, policy)
        result = "panic" if plan.panic else "trial" if plan.trial else "selected"
        self._decisions[plan.model.id, plan.strategy, result] += 1
        budget = self._accounts.sent(first, request, plan.need, now)
        hanging = self._detectors.sent(first.row, now, policy, doubt=self._doubt)
        if hanging:
            self._teller.changes(first.row, hanging, now, policy)
        return budget

    # ---- reading -------------------------------------------------------------------------------------

    def view(self, *, now: float) -> TableView:
        """Take a snapshot of everything, changing nothing."""
        endpoints, models = all_views(self._catalog, self._rows, self._accounts, now)
        return TableView(
            now=now,
            generation=self._generation,
            endpoints=endpoints,
            models=models,
            drains=self._drains.holding(now),
            decisions=dict(self._decisions),
            sessions=len(self._accounts.sessions),
            self_suspicion=self._doubt.own(now),
            announcements=self._hearsay.standing(now),
            reporters=self._doubt.reporters(now),
        )

    def endpoint(self, key: str, *, now: float) -> EndpointView:
        """Take a snapshot of one endpoint. Raises: KeyError when it is not configured."""
        company = self._router.pools[self._rows[key].endpoint.model].rows
        return next(view for view in endpoint_views(company, self._catalog, now) if view.id == key)

    def states(self, *, now: float) -> Counter[State]:
        """How many endpoints are in each state."""
        return Counter(row.state(now) for row in self._rows.values())

    def evidence(self, key: str, *, now: float) -> Evidence:
        """What is known of an endpoint without asking it. Raises: KeyError when it is not configured."""
        return evidence(row := self._rows[key], self._router.pools[row.endpoint.model].rows, now)

    def self_suspicion(self, now: float) -> Suspicion | None:
        """Why and since when our own sight is in doubt; `None` while it is not."""
        return self._doubt.own(now)

    def reporters(self, now: float) -> tuple[ReporterView, ...]:
        """Every reporter that was heard of, and whether it is believed."""
        return self._doubt.reporters(now)

    def transitions(self, after: int) -> list[Transition]:
        """The state changes with a higher number than `after`, oldest first, as far back as remembered."""
        return self._teller.after(after)
