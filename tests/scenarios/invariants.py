"""What holds at every step, whatever happens: the real table through seeded random histories.

Run `python tests/scenarios/invariants.py --seeds 1000`; some minutes. A world has one to three models on shared
providers, with any strategy and policy. Endpoints fail, refuse, slow down, come and go and change their price;
reports come late, in batches or never; there are probes or none, sessions, retries, drains, and models where health
only watches. Two tables live through the same: one is read, reloaded and restored at every step, its twin never.

A seed that breaks a promise is told with the step and what was found; `--first SEED --seeds 1` repeats it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from math import floor, isclose
from random import Random
from time import process_time
from typing import Any, Final, Literal, NamedTuple, get_args

from balancer.core.balancer import Balancer
from balancer.core.estimate import PROVIDER_WEIGHT
from balancer.core.fates import KIN_STEP
from balancer.core.model import (
    SOURCES,
    Catalog,
    Decision,
    Endpoint,
    HealthPolicy,
    Model,
    NoEndpoint,
    Pricing,
    Provider,
    Routing,
    Source,
    State,
    StrategyName,
    TimeoutPolicy,
)
from balancer.core.outcome import COUNTS, Outcome
from balancer.core.request import Preferences, Request
from balancer.core.routing import TRIAL_ANYWAY
from balancer.core.row import PROBES_FIRST
from balancer.core.view import EndpointView, TableView, window_name
from balancer.core.window import BUCKETS, Counts

STEPS: Final = 30  # of a seed; a thousand seeds show more than a hundred long ones
MET: Final = ("decisions", "trials", "panics", "refusals", "ejections", "readmissions", "doubts")

Fault = Literal["well", "leaky", "half", "dead", "silent", "limited", "hinting", "slow", "denied"]
FAULTS: Final = get_args(Fault)
# What is usual at a provider moves in steps: two tables may each be one beside the mean.
ROUGH: Final = 2 * KIN_STEP * PROVIDER_WEIGHT
NEVER: Final = frozenset[State]({"drained", "misconfigured", "throttled"})  # not even in panic
COLUMNS: Final = {"success": 0, "failure": 1, "rate_limited": 2}
SUSPECTED: Final = frozenset({"self.suspected", "reporter.suspected"})
TRIAL_ENDS: Final = frozenset(
    {"endpoint.ejected", "endpoint.readmitted", "endpoint.trial_lapsed", "endpoint.added"}
)


class Broken(Exception):
    """A promise was not kept."""


def hold(promise: bool, what: str, *found: object) -> None:
    """Insist on a promise."""
    if not promise:
        raise Broken(": ".join([what, *map(repr, found)]))


class Report(NamedTuple):
    """One report under way, and when it may be told. `number` tells apart what is told together."""

    due: float
    number: int
    ended: float
    endpoint: str
    outcome: Outcome
    facts: dict[str, Any]


class World:
    """What is configured and what is true; everything is drawn from the seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.health = HealthPolicy(
            windows=random.choice(((30.0, 300.0, 1800.0, 86400.0), (30.0, 300.0), (10.0, 120.0, 900.0))),
            consecutive_failures=random.choice((3, 5)),
            hold=random.choice((5.0, 10.0, 30.0)),
            hold_max=random.choice((60.0, 300.0)),
            throttle_max=random.choice((30.0, 300.0)),
            ramp_requests=random.choice((0, 3, 10)),
        )
        self.routing = Routing(
            strategy=random.choice(get_args(StrategyName)),
            fallbacks=random.choice((0, 3)),
            timeouts=TimeoutPolicy(total_min=30.0, total_max=60.0),
        )
        self.watched = {name: random.random() < 0.2 for name in "abc"[: random.randint(1, 3)]}
        self.endpoints: dict[str, Endpoint] = {}
        for model in self.watched:
            for tag in random.sample(("p0", "p1", "p2/x", "p2/y", "p3"), random.randint(1, 4)):
                self.add(model, tag)
        self.gone: dict[str, Endpoint] = {}
        self.faults: dict[str, Fault] = dict.fromkeys(self.endpoints, "well")

    def add(self, model: str, tag: str) -> None:
        """Configure an endpoint."""
        provider = tag.partition("/")[0]
        price = self.random.choice((1.0, 1.0, 1.5, 3.0))
        self.endpoints[f"{model}@{tag}"] = Endpoint(
            id=f"{model}@{tag}",
            model=model,
            tag=tag,
            provider=provider,
            provider_name=provider,
            upstream_model=model,
            base_url=f"https://{provider}.example",
            pricing=Pricing(prompt=price, completion=price),
            priority=self.random.choice((0, 0, 0, 1)),
            quota=provider,
        )

    def catalog(self) -> Catalog:
        """The configuration at present."""
        return Catalog(
            providers={key: Provider(key=key, name=key) for key in ("p0", "p1", "p2", "p3")},
            models={
                name: Model(id=name, name=name, endpoints=self.of(name), enforce=False if watched else None)
                for name, watched in self.watched.items()
            },
            endpoints=dict(self.endpoints),
            routing=self.routing,
            health=self.health,
        )

    def of(self, model: str) -> tuple[str, ...]:
        """The endpoints of a model at present."""
        return tuple(key for key, each in self.endpoints.items() if each.model == model)

    def turn(self) -> None:
        """Let the fortunes of an endpoint, a provider, a model or all of them change."""
        random = self.random
        one = self.endpoints[random.choice(list(self.endpoints))]
        reach = random.random()
        fault = random.choice(("well", "well", "dead", *FAULTS))
        for key, each in self.endpoints.items():
            together = reach < 0.05 or (reach < 0.2 and each.provider == one.provider)
            if each is one or together or (reach > 0.9 and each.model == one.model):
                self.faults[key] = fault

    def reprice(self) -> None:
        """Change a price, or let an endpoint go or come back."""
        random = self.random
        key = random.choice(list(self.endpoints))
        if self.gone and random.random() < 0.5:
            back = random.choice(list(self.gone))
            self.endpoints[back] = self.gone.pop(back)
        elif len(self.endpoints) > 1 and random.random() < 0.4:
            self.gone[key] = self.endpoints.pop(key)
        else:
            price = random.choice((0.5, 1.0, 2.0))
            self.endpoints[key] = replace(self.endpoints[key], pricing=Pricing(prompt=price, completion=price))

    def outcome(self, key: str, *, shallow: bool = False) -> Outcome:
        """Draw what becomes of a call."""
        random = self.random
        latency = 0.3 * 2 ** random.gauss(0, 0.5)
        fault, chance = self.faults[key], random.random()
        failing = {"leaky": 0.15, "half": 0.5, "dead": 1.0, "silent": 1.0, "denied": 1.0}.get(fault, 0.01)
        if fault in ("limited", "hinting") and not shallow and chance < 0.8:
            hint = 10.0 if fault == "hinting" else None
            account = fault == "hinting" and chance < 0.2
            return Outcome(kind="rate_limited", latency=0.05, status=429, retry_after=hint, account=account)
        if chance < failing:
            if fault == "denied":
                return Outcome(kind="refused", latency=0.1, status=401, shallow=shallow)
            if fault == "silent":
                return Outcome(kind="timeout", latency=5.0, shallow=shallow)
            return Outcome(kind="server_error", latency=0.1, status=500, shallow=shallow)
        if chance > 0.99:
            return Outcome(kind="caller_error", latency=latency, status=400, shallow=shallow)
        took = latency * (10 if fault == "slow" else 1)
        return Outcome(kind="success", latency=took, ttft=None if shallow else took / 4, shallow=shallow)


class Course:
    """One seed's history, and the promises that are held at each of its steps."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"invariants {seed}")
        self.world = World(self.random)
        self.now = self.random.choice((0.0, 1e6 + 0.7))
        self.gap = self.random.choice((0.5, 2.0, 5.0, 20.0))
        self.probing: str = self.random.choice(("none", "deep", "shallow", "deep"))
        self.reporters: Sequence[str | None] = self.random.choice(((None,), (None,), (None,), ("one", "two")))
        catalog = self.world.catalog()
        self.table = Balancer(catalog, seed=seed, now=self.now)
        self.twin = Balancer(catalog, seed=seed, now=self.now)
        self.both = self.table, self.twin
        self.reports: list[Report] = []
        self.number = 0
        self.next_probe = dict.fromkeys(self.world.endpoints, self.now)
        self.counted: dict[tuple[str, Source], list[tuple[float, int]]] = {}
        self.trials: dict[str, float] = {}
        self.heard = 0
        self.doubted = False
        self.drained: set[str] = set()
        self.seen: Counter[str] = Counter()

    # ---- what happens --------------------------------------------------------------------------------

    def step(self) -> None:
        """Let some time pass, and something happen."""
        random = self.random
        self.seen["steps"] += 1
        self.now += random.expovariate(1 / self.gap) * (60 if random.random() < 0.02 else 1)
        self.tell()
        if self.probing != "none":
            self.probe(20.0)
        if random.random() < 0.15:
            self.world.turn()
        if random.random() < 0.08:
            self.reconfigure()
        if random.random() < 0.06:
            self.operate()
        before = self.table.view(now=self.now)
        for _ in range(random.randint(2, 10)):
            if self.ask(before):
                before = self.table.view(now=self.now)
        self.watch()

    def tell(self) -> None:
        """Report what has ended; a proxy that tells in batches may wait."""
        while self.reports and self.reports[0].due <= self.now and self.random.random() < 0.97:
            told = heappop(self.reports)
            if told.endpoint in self.table.catalog.endpoints:
                self.record(told.endpoint, told.outcome, "report", self.now - told.ended, **told.facts)

    def probe(self, every: float) -> None:
        """Probe whoever is due."""
        for key in list(self.world.endpoints):
            if self.next_probe.get(key, self.now) <= self.now:
                self.next_probe[key] = self.now + every
                outcome = self.world.outcome(key, shallow=self.probing == "shallow")
                if outcome.shallow and outcome.kind == "caller_error":
                    outcome = Outcome(kind="probe_invalid", shallow=True, latency=outcome.latency)
                self.record(key, outcome, "probe", 0.0)

    def record(self, key: str, outcome: Outcome, source: Source, age: float, **facts: Any) -> None:
        """Record with both tables, and by hand."""
        taken = [each.record(key, outcome, now=self.now, source=source, age=age, **facts) for each in self.both]
        hold(taken == [age < self.world.health.windows[-1]] * 2, "what is too old is refused", taken, age)
        column = COLUMNS.get(COUNTS[outcome.kind])
        if column is not None and taken[0]:
            self.counted.setdefault((key, source), []).append((self.now - age, column))
        self.listen()

    def reconfigure(self) -> None:
        """Reload with another configuration."""
        self.world.reprice()
        catalog = self.world.catalog()
        for each in self.both:
            each.apply(catalog, now=self.now)
        for key in self.world.gone:
            for source in SOURCES:
                self.counted.pop((key, source), None)
            self.trials.pop(key, None)
        self.listen()

    def operate(self) -> None:
        """Drain or resume an endpoint, a provider or a model."""
        random = self.random
        if self.drained and random.random() < 0.6:
            self.resume(random.choice(sorted(self.drained)))
            return
        endpoint = self.world.endpoints[random.choice(list(self.world.endpoints))]
        target = random.choice((endpoint.id, endpoint.id, endpoint.tag, endpoint.model))
        until = None if random.random() < 0.5 else self.now + 10 * self.gap
        for each in self.both:
            each.drain(target, now=self.now, until=until)
        self.drained.add(target)
        self.listen()

    def resume(self, target: str) -> None:
        """End a drain, if its target still is."""
        for each in self.both:
            try:
                each.resume(target, now=self.now)
                self.drained.discard(target)
            except KeyError:  # it may come back, and is drained then
                hold(target not in self.world.endpoints, "a configured endpoint can be resumed", target)
        self.listen()

    # ---- questions -----------------------------------------------------------------------------------

    def ask(self, before: TableView) -> bool:
        """Ask as a proxy would, and let the tries begin; tell whether that changed a state."""
        random = self.random
        names = list(self.world.watched)
        session = random.choice((None, None, "s", "t"))
        request = Request(
            model=random.choice(names),
            models=tuple(names) if random.random() < 0.1 else (),
            session_id=session,
            count=random.choice((None, 0, 2, 9)),
            exclude=(random.choice(list(self.world.endpoints)),) if random.random() < 0.1 else (),
            provider=Preferences(allow_fallbacks=random.random() > 0.1),
        )
        if random.random() < 0.1:
            self.look(request)
        found, other = answer(self.table, request, self.now), answer(self.twin, request, self.now)
        hold(plain(found) == plain(other), "what is only read changes no answer", plain(found), plain(other))
        # The very question may find that calls hang: then nobody can know the states by which it was answered.
        moved = any(each.event == "endpoint.ejected" for each in self.table.transitions(self.heard))
        if not moved:
            self.judge(request, found, before)
        self.listen()
        if isinstance(found, Decision):
            self.send(found, session)
        return moved or (isinstance(found, Decision) and found.trial)

    def send(self, found: Decision, session: str | None) -> None:
        """Try the endpoints in their order, and report most of the tries when they have ended."""
        ended = self.now
        reporter = self.random.choice(self.reporters)
        for each in (found.selected, *found.fallbacks):
            outcome = self.world.outcome(each.id)
            assert outcome.latency is not None
            ended += outcome.latency
            if self.random.random() < 0.97:
                self.number += 1
                decision = found.id if self.random.random() < 0.98 else None
                facts = {"decision": decision, "session_id": session, "reporter": reporter}
                due = ended + self.random.choice((0.0,) * 20 + (0.9 * self.world.health.windows[0],))
                heappush(self.reports, Report(due, self.number, ended, each.id, outcome, facts))
            if outcome.kind == "success":
                return

    def judge(self, request: Request, found: Decision | NoEndpoint, before: TableView) -> None:
        """Hold an answer against the states before it."""
        asked = {request.model, *request.models}
        those = [each for each in before.endpoints if each.endpoint.model in asked]
        passing = {each.id: each for each in those if each.id not in request.exclude}
        usable = {key for key, each in passing.items() if callable_at_all(each)}
        eligible = {key for key, each in passing.items() if each.eligible}
        hold(eligible <= usable, "who is eligible can be called", eligible - usable)
        if isinstance(found, NoEndpoint):
            self.seen["refusals"] += 1
            hold(not usable, "whoever can be called is ranked, in a total outage too", usable, found.message)
            self.judge_refusal(found, passing)
            return
        self.seen["decisions"] += 1
        chosen = [found.selected.id, *(each.id for each in found.fallbacks)]
        hold(len(set(chosen)) == len(chosen), "nobody is told twice", chosen)
        hold(set(chosen) <= usable, "nobody is chosen who cannot be called", set(chosen) - usable)
        hold(found.panic == (not eligible), "panic is when health leaves nobody", found.panic, eligible)
        first = passing[chosen[0]]
        if found.trial:
            self.seen["trials"] += 1
            hold("ejected" in first.states, "a trial is of an ejected endpoint", first.states)
        if found.panic:
            self.seen["panics"] += 1
        else:
            well = set(chosen[1:] if found.trial else chosen)
            hold(well <= eligible, "no ejected endpoint outside panic", well - eligible)
            if found.trial:
                over = first.next_at is not None and first.next_at <= self.now
                hold(over and first.states == ("ejected",), "a trial waits for its hold", first.states)
        count = self.world.routing.fallbacks if request.count is None else request.count
        most = len(usable if found.panic else eligible) + (found.trial and not found.panic)
        places = 1 + (count if request.provider.allow_fallbacks else 0)
        hold(len(chosen) == min(places, most), "as many are told as were asked for", len(chosen), places, most)

    def judge_refusal(self, found: NoEndpoint, passing: Mapping[str, EndpointView]) -> None:
        """Hold a refusal against what stands in the way."""
        if not passing:
            hold(found.code == "constraint_filtered", "who excludes all is told so", found.code)
            return
        waiting = [each for each in passing.values() if each.state not in ("drained", "misconfigured")]
        code = "capacity_exhausted" if waiting else "unavailable"
        hold(found.code == code, "a quota is told from an outage", found.code, code)
        ends = [each.next_at for each in waiting if each.next_at is not None and each.state == "throttled"]
        if waiting and len(ends) == len(waiting):
            wait = min(ends) - self.now
            told = found.retry_after
            hold(told is not None and isclose(told, wait), "the smallest wait is told", told, wait)

    # ---- promises of every step ----------------------------------------------------------------------

    def listen(self) -> None:
        """Follow the journal: one live trial of an endpoint at a time."""
        told = self.table.transitions(self.heard)
        hold(told == self.twin.transitions(self.heard), "both tables tell the same")
        for each in told:
            self.heard = each.number
            if each.event in SUSPECTED:
                self.doubted = True
                self.seen["doubts"] += 1
            self.seen["ejections"] += each.event == "endpoint.ejected"
            self.seen["readmissions"] += each.event == "endpoint.readmitted"
            key = each.endpoint
            if key is None:
                continue
            if each.event == "endpoint.trial_started":
                hold(self.now >= self.trials.get(key, self.now), "one live trial", key, self.trials, self.now)
                assert each.next_at is not None
                self.trials[key] = each.next_at
            elif each.event in TRIAL_ENDS and each.state != "half_open":
                self.trials.pop(key, None)

    def watch(self) -> None:
        """All that holds between any two calls."""
        view = self.table.view(now=self.now)
        self.recount(view)
        for each in view.endpoints:
            live = self.now < self.trials.get(each.id, self.now)
            ended = live and "misconfigured" in each.states  # a refusal may have decided it
            hold(("half_open" in each.states) == live or ended, "half-open is who has a live trial", each.id, live)
        dump = self.table.dump(now=self.now)
        self.look(Request(model=self.random.choice(list(self.world.watched))))
        self.table.apply(self.world.catalog(), now=self.now)
        again = replace(self.table.view(now=self.now), generation=view.generation)
        hold(
            again == view, "neither a reading nor the same configuration changes the view", *difference(again, view)
        )
        hold(self.table.dump(now=self.now) == dump, "neither a reading nor the same configuration changes the dump")
        self.restart(view, dump)

    def look(self, request: Request) -> None:
        """Read in every way, of the table only."""
        table, now = self.table, self.now
        answer(table, request, now, dry=True)
        answer(table, request, now, explain=True)
        answer(table, request, now + self.random.choice((0.0, 3.0, 1000.0)), dry=True)
        table.view(now=now + self.random.choice((0.0, 50.0)))
        table.endpoint(self.random.choice(list(self.world.endpoints)), now=now)

    def recount(self, view: TableView) -> None:
        """Count every window by hand. Doubt takes failures back, which nobody can know who only listens."""
        for each in view.endpoints:
            for source in SOURCES:
                told = self.counted.get((each.id, source), [])
                for span in self.world.health.windows:
                    width = span / BUCKETS
                    newest = floor(self.now / width)
                    columns = [0, 0, 0]
                    for ended, column in told:
                        if newest - floor(ended / width) < BUCKETS:
                            columns[column] += 1
                    shown = each.windows[source][window_name(span)]
                    same = shown == Counts(*columns)
                    if self.doubted:
                        same = all(a <= b for a, b in zip(shown, columns, strict=True))
                    hold(same, "windows equal a recount", each.id, source, span, shown, columns)

    def restart(self, view: TableView, dump: dict[str, Any]) -> None:
        """Take the dump into a fresh table, by the same clock or another's."""
        later = self.now + self.random.choice((0.0, 5000.5))
        fresh = Balancer(self.world.catalog(), seed=self.number, now=later)
        fresh.restore(json.loads(json.dumps(dump, allow_nan=False)), now=later, away=0.0)
        again = fresh.view(now=later)
        for old, new in zip(view.endpoints, again.endpoints, strict=True):
            states = tuple("ejected" if state == "half_open" else state for state in old.states)
            hold(new.states == states, "a restart keeps every state", old.id, old.states, new.states)
            hold(new.eligible == old.eligible, "a restart keeps who is eligible", old.id)
            if old.state != "half_open" and (old.state != "degraded" or later == self.now):
                hold(new.reason == old.reason, "a restart keeps every reason", old.reason, new.reason)
                hold((new.next_at is None) == (old.next_at is None), "a restart keeps what is next", old.id)
            if old.next_at is not None and new.next_at is not None and old.state != "half_open":
                left, shown = old.next_at - self.now, new.next_at - later
                hold(isclose(left, shown, abs_tol=1e-6), "a restart keeps every hold", old.id, left, shown)
            near = isclose(new.success_estimate, old.success_estimate, abs_tol=ROUGH)
            hold(near, "a restart keeps the estimates", old.id, old.success_estimate, new.success_estimate)
            if later == self.now:
                hold(new.windows == old.windows, "a restart keeps the windows", old.id)
        if later == self.now:
            found = difference(fresh.dump(now=later), dump)
            hold(not found, "a dump that was restored is told again", *found)

    # ---- the end -------------------------------------------------------------------------------------

    def heal(self) -> None:
        """All is well at last: everybody is in service within the rest of the hold, and whole after the ramp."""
        every = 10.0
        policy = self.world.health
        self.reports.clear()  # whoever knew of them is gone: trials lapse
        self.world.faults = dict.fromkeys(self.world.faults, "well")
        self.probing = "deep" if self.probing == "deep" else "none"
        for target in sorted(self.drained):
            self.resume(target)
        if self.probing == "none":
            for key in self.world.endpoints:
                self.resume(key)  # a refused account is heard of again by a probe, or by the operator's word
        bounds: dict[str, float] = {}
        while True:
            view = self.table.view(now=self.now)
            missing = [each for each in view.endpoints if not each.eligible]
            if not missing:
                break
            for each in missing:
                left = each.next_at if each.next_at is not None else self.now
                # Who asked for its trial before the hold was over waits for both.
                left += policy.hold_max if each.state == "half_open" else 0.0
                left += policy.throttle_max
                left += PROBES_FIRST if self.probing == "deep" else 300.0 + TRIAL_ANYWAY
                bound = bounds.setdefault(each.id, left + every * (2 + len(view.endpoints)))
                hold(self.now <= bound, "who is healed comes back", each.id, each.states, each.reason, bound)
            self.now += every
            self.serve(every)
        self.now += 1.0
        for key in (each.id for each in view.endpoints if each.enforced):
            for _ in range(policy.ramp_requests):
                self.table.record(key, Outcome(kind="success", latency=0.3), now=self.now)
            states = self.table.endpoint(key, now=self.now).states
            hold("recovering" not in states, "the ramp ends with its requests", key, states)

    def serve(self, every: float) -> None:
        """One request of each model, well answered, and a round of probes."""
        for key in self.world.endpoints if self.probing == "deep" else ():
            self.table.record(key, Outcome(kind="success", latency=0.3, ttft=0.1), now=self.now, source="probe")
        for model in self.world.watched:
            found = answer(self.table, Request(model=model), self.now)
            if isinstance(found, Decision):
                outcome = Outcome(kind="success", latency=0.3, ttft=0.1)
                self.table.record(found.selected.id, outcome, now=self.now + 0.3, decision=found.id)
        self.now += 0.3


def callable_at_all(each: EndpointView) -> bool:
    """Whether panic may choose it: health is overruled, and nothing else."""
    return NEVER.isdisjoint(each.states) if each.enforced else "drained" not in each.states


def answer(table: Balancer, request: Request, now: float, **how: bool) -> Decision | NoEndpoint:
    """The decision, or why there is none."""
    try:
        return table.best(request, now=now, **how)
    except NoEndpoint as refusal:
        return refusal


def plain(found: Decision | NoEndpoint) -> object:
    """All that an answer says."""
    if isinstance(found, Decision):
        return found
    return found.code, found.message, found.excluded_by, found.retry_after


def difference(one: object, other: object, where: str = "") -> list[tuple[str, object, object]]:
    """The places where two plain values differ by more than rounding."""
    if one == other:
        return []
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return [each for key in one for each in difference(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [each for place, (a, b) in pairs for each in difference(a, b, f"{where}[{place}]")]
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return [] if isclose(one, other, rel_tol=1e-6, abs_tol=1e-6) else [(where, one, other)]
    slots = getattr(one, "__slots__", None)
    if slots and type(one) is type(other):
        return [
            each for key in slots for each in difference(getattr(one, key), getattr(other, key), f"{where}.{key}")
        ]
    return [(where, one, other)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Live through every seed; tell what broke, and what was met on the way."""
    parser = argparse.ArgumentParser(description="Random histories of the table, every promise held at each step.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each ({STEPS})")
    given = parser.parse_args(arguments)
    met: Counter[str] = Counter()
    broken, begun = 0, process_time()
    for seed in range(given.first, given.first + given.seeds):
        course = Course(seed)
        try:
            while course.seen["steps"] < given.steps:
                course.step()
            course.heal()
        except Broken as problem:
            broken += 1
            print(f"seed {seed}, step {course.seen['steps']}: {problem}", flush=True)
        met += course.seen
    told = ", ".join(f"{met[name]} {name}" for name in MET)
    print(f"{given.seeds} seeds of {given.steps} steps: {told}; {broken} broken; {process_time() - begun:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
