"""The endpoints of one model, ready to be ranked.

Theory of operation: a decision must cost little while evidence keeps changing, and evidence changes for one
endpoint at a time. So the pool keeps an `Entry` for each endpoint with the figures that strategies read, and
`refresh` looks again only at rows that were changed (they put themselves into `news`) and at those whose picture
time has made old. The peers' prior is the median of a list that is kept in order; when one row moves it, the
others' chance of failure follows without counting anything again. All of it is a memo of pure functions of the rows
and `now`: whoever only reads may refresh too.

Which endpoints pass a request's filters depends on the configuration alone, so the answer is kept by what the
request asks for. Numbers (prompt, answer) are first cut into the spans that the endpoints' own limits tell apart,
so that ten thousand lengths are a handful of keys.

What this module does not know: precedence, sessions, and what a decision is (`routing`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from math import inf
from typing import Final, NamedTuple

from balancer.core.eligibility import asked, excluded_by, out_of_tier, soft_excluded
from balancer.core.estimate import failure_probability, peers_prior
from balancer.core.latency import SLICE
from balancer.core.model import HealthPolicy, Model, Selected, Sort, State, Tier, TimeoutPolicy
from balancer.core.picture import picture
from balancer.core.pricing import effective, next_change, prices_at, thresholds
from balancer.core.request import Request
from balancer.core.row import ELIGIBLE, UNUSABLE, Row
from balancer.core.strategies import Candidate, Figure, Strategy
from balancer.core.tools import THROUGHPUT_SIGMAS, TOOL_REQUESTS_MIN, TOOL_SIGMAS, deranked

WORDS_KEPT: Final = 60  # of a request that is remembered: lists of hundreds are nobody's habit
PASSING_MAX: Final = 128  # answers of the filters that one model remembers
FLIGHT_LONGEST: Final = 120.0  # s; a report that has not come by then was lost, or the proxy sends none
THROUGHPUT_SAMPLES_MIN: Final = 17  # in five minutes; OpenRouter asks for 100 requests in half an hour
TTFT_SAMPLES_MIN: Final = 10  # in five minutes; the median of fewer is off by a third
MEDIAN: Final = 0  # the place of p50 among the percentiles


class Entry(Candidate):
    """One endpoint of a pool: its row and its present state beside the figures that strategies read."""

    __slots__ = ("base", "degraded", "own", "priced", "row", "slope", "state", "until")

    row: Row
    state: State
    degraded: bool
    base: float
    slope: float
    own: float
    until: float
    priced: bool

    def __init__(self, row: Row, fate: int) -> None:
        super().__init__(endpoint=row.endpoint, fate=fate, weight=row.endpoint.weight)
        self.row = row

    def recovered(self, failure: float) -> Entry:
        """What it would be if it were well, and failed as often as that."""
        well = copy(self)
        well.failure, well.tier, well.stale = failure, 0, False
        if self.row.health.was_slow:
            well.ttft, well.latency, well.load = self.row.slowness.typical(), None, None
        return well


class Group(NamedTuple):
    """Equals, between whom the strategy chooses. `key` is what stands above it, outermost first."""

    key: tuple[int, ...]
    strategy: Strategy
    entries: list[Entry]


class Passing:
    """The endpoints that one kind of request may use, whatever their health; `groups` is the lineup's memo."""

    __slots__ = ("entries", "groups", "version")

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.groups: list[Group] = []
        self.version = 0


class Pool:
    """One model's endpoints in the configured order.

    `version` grows whenever a state changed. `calm`: nobody is in slow start, limited or at a learned ceiling, so
    that the groups of a kind of request stay the same until then. `stale`: somebody was not seen lately.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[Row],
        *,
        policy: HealthPolicy,
        fates: Mapping[str, int],
        now: float,
    ) -> None:
        self.model = model
        self.rows = tuple(rows)
        self.entries = tuple([Entry(row, fates[row.endpoint.id]) for row in rows])
        self.by_id = {entry.endpoint.id: entry for entry in self.entries}
        self.version = 0
        self.calm = False
        self.stale = False
        self._last: list[Entry] = []
        self.limited = any(row.endpoint.limits is not None for row in rows)
        self.ejected: list[Entry] = []
        self._policy = policy
        self._of = {entry.row: entry for entry in self.entries}
        self._news: set[Row] = set()
        for row in rows:
            row.news = self._news
        self._spans = sorted({length for row in rows for length in thresholds(row.endpoint.pricing)})
        self._span = -1
        self._complete = True
        self._wall: float | None = None
        self._prices_until = -inf
        self._contexts = _limits(row.endpoint.context_length for row in rows)
        self._prompts = _limits(row.endpoint.max_prompt_tokens for row in rows)
        self._answers = _limits(row.endpoint.max_completion_tokens for row in rows)
        self._passing: dict[object, Passing] = {}
        self._at = now
        pictures = [picture(row, now, policy) for row in rows]
        self._own = sorted(seen.own for seen in pictures)
        self.prior = peers_prior(self._own)
        for entry, seen in zip(self.entries, pictures, strict=True):
            entry.state, entry.degraded, entry.until = seen.state, seen.degraded, seen.until
            entry.base, entry.slope = seen.base, seen.slope
            entry.own, entry.tier, entry.stale = seen.own, seen.tier, seen.stale
            entry.failure = failure_probability(entry.base, entry.slope, self.prior)
        self._until = min([entry.until for entry in self.entries], default=inf)
        self.price(0, now)
        self._settle()

    # ---- keeping up ----------------------------------------------------------------------------------

    def refresh(self, now: float, wall: float | None) -> None:
        """Bring every figure up to `now`; `wall` is the Unix time of the same moment, if anybody knows it."""
        if wall is not None and (self._wall is None or not self._wall <= wall < self._prices_until):
            self._turn(wall)
        if now >= self._until or now < self._at:  # time made something old, or somebody asks about the past
            past = now < self._at
            self._look_at([entry for entry in self.entries if past or entry.until <= now], now)
            self._until = min([entry.until for entry in self.entries], default=inf)
        self._at = now
        news = self._news
        if news:
            self._look_at([self._of[row] for row in news], now)
            news.clear()

    def _look_at(self, entries: Sequence[Entry], now: float) -> None:
        changed = False
        repriced: list[Entry] = []
        shares, policy = self._own, self._policy
        for entry in entries:
            row = entry.row
            seen = picture(row, now, policy)
            state, degraded, entry.base, entry.slope, own, entry.tier, stale, until = seen
            if own != entry.own:
                del shares[bisect_left(shares, entry.own)]
                insort(shares, own)
                entry.own = own
            if (
                state is not entry.state
                or stale is not entry.stale
                or degraded is not entry.degraded
                or (row.ceiling.learned and row.enforced)
            ):
                changed = True
                entry.state, entry.degraded, entry.stale = state, degraded, stale
            if row.hits.seen:
                repriced.append(entry)
            entry.until = until
            if until < self._until:
                self._until = until
        prior = peers_prior(shares)
        if prior != self.prior:
            self.prior, entries = prior, self.entries
        for entry in entries:
            entry.failure = failure_probability(entry.base, entry.slope, prior)
        if repriced:
            self._price(repriced, now)
        if changed or not (self.calm or self.limited):  # a ceiling may have been forgotten meanwhile
            self._settle()

    def _settle(self) -> None:
        self.version += 1
        self.ejected = [entry for entry in self.entries if entry.state == "ejected"]
        self.stale = any(entry.stale for entry in self.entries)
        # A tier is chosen only when it is asked for, so it keeps no ordinary request out of panic.
        plain = [entry for entry in self.entries if entry.endpoint.tier is None]
        ordinary = plain or list(self.entries)
        self._last = [] if any(entry.state in ELIGIBLE for entry in ordinary) else ordinary
        # Slow starts are drawn anew by each decision, and limits fill with each: no memo of groups then.
        self.calm = not self.limited and not any(
            entry.state == "recovering" or (entry.row.ceiling.learned and entry.row.enforced)
            for entry in self.entries
        )

    def leaderless(self, now: float) -> bool:
        """Whether health leaves nobody for an ordinary request; drains, holds and quotas are no panic."""
        return any(last_resort(entry.row.states(now), enforced=entry.row.enforced) for entry in self._last)

    def _turn(self, wall: float) -> None:
        """Prices change with the time of the day."""
        self._wall = wall
        self._prices_until = min([next_change(entry.endpoint.pricing, wall) for entry in self.entries], default=inf)
        if any(entry.endpoint.pricing.overrides for entry in self.entries):
            self._passing.clear()  # a limit on prices is judged by those in force
            self._span = -1

    def price(self, prompt_tokens: int, now: float) -> None:
        """Bring the prices to a prompt of this length: overrides may tell apart long ones."""
        span = bisect_left(self._spans, prompt_tokens) if self._spans else 0
        if span != self._span:
            self._span = span
            self._price(self.entries, now)

    def _price(self, entries: Sequence[Entry], now: float) -> None:
        length = self._spans[self._span - 1] + 1 if self._span > 0 else 0
        for entry in entries:
            prices = prices_at(entry.endpoint.pricing, prompt_tokens=length, wall=self._wall)
            found = effective(prices, entry.row.hits.rate(now))
            entry.priced = found is not None
            if found is not None:
                entry.sent, entry.answered = found
        if entries is self.entries:
            self._complete = all(entry.priced for entry in self.entries)
        if not self._complete:
            unknown = [entry for entry in self.entries if not entry.priced]
            # Silence attracts nothing: who does not say what it costs is as dear as the dearest.
            known = [entry for entry in self.entries if entry.priced]
            sent = max([entry.sent for entry in known], default=0.0)
            answered = max([entry.answered for entry in known], default=0.0)
            for entry in unknown:
                entry.sent, entry.answered = sent, answered

    # ---- reading -------------------------------------------------------------------------------------

    def passing(self, request: Request, tiers: frozenset[Tier], sort: Sort | None, soft: bool) -> Passing:
        """The endpoints that pass the request's filters, those of `soft` preference among them or not."""
        prompt, answer = request.prompt_tokens, request.max_tokens
        total = (0 if prompt is None else prompt) + (0 if answer is None else answer)
        key = (
            bisect_left(self._contexts, total),
            None if prompt is None else bisect_left(self._prompts, prompt),
            None if prompt is None or not self._spans else bisect_left(self._spans, prompt),
            None if answer is None else bisect_left(self._answers, answer),
            request.provider.said,
            request.require,
            request.require_parameters,
            request.input_modalities,
            request.output_modalities,
            request.region,
            request.exclude,
            request.service_tier,
            tiers,
            sort,
            soft,
        )
        found = self._passing.get(key)
        if found is None:
            reasons = self.reasons(request, tiers, soft=soft)
            found = Passing(tuple([entry for entry in self.entries if entry.endpoint.id not in reasons]))
            wishes = request.provider
            words = len(request.exclude) + len(wishes.order) + len(wishes.only) + len(wishes.ignore)
            if words + len(request.require) <= WORDS_KEPT:
                if len(self._passing) >= PASSING_MAX:
                    self._passing.clear()
                self._passing[key] = found
        return found

    def reasons(self, request: Request, tiers: frozenset[Tier], *, soft: bool) -> dict[str, tuple[str, ...]]:
        """Each endpoint that a filter rules out, with the names of all that do."""
        reasons: dict[str, tuple[str, ...]] = {}
        rules = asked(request, wall=self._wall)
        for entry in self.entries:
            names = excluded_by(entry.endpoint, request, rules)
            if out_of_tier(entry.endpoint, request, tiers):
                names = (*names, "service_tier")
            if names:
                reasons[entry.endpoint.id] = names
        left = [entry.endpoint for entry in self.entries if entry.endpoint.id not in reasons]
        if request.service_tier == "flex" and any(entry.endpoint.tier == "flex" for entry in self.entries):
            # Whoever asks for flex wants its price; only a model without flex is served as usual.
            reasons |= {each.id: ("service_tier",) for each in left if each.tier != "flex"}
            left = [each for each in left if each.tier == "flex"]
        if soft:
            for key, parameter in soft_excluded(left, request).items():
                reasons[key] = (f"supported_parameters:{parameter}",)
        return reasons

    def fill(self, needs: frozenset[Figure], now: float) -> None:
        """Fill in the figures that cost more to read."""
        for entry in self.entries:
            row = entry.row
            if "latency" in needs:
                entry.latency = row.speed.latency.mean(now)
            if "ttft" in needs:
                entry.ttft = _median(row.speed.percentiles("ttft", now))
                if row.speed.ttft.samples(now) < TTFT_SAMPLES_MIN:  # a few say less than what it always was
                    usual = row.slowness.typical()
                    entry.ttft = entry.ttft if usual is None else usual
            if "throughput" in needs:
                entry.throughput = _median(row.speed.percentiles("throughput", now))
            if "load" in needs:
                peak = row.peak.value(now)
                waiting = row.flight.count(now, longest=FLIGHT_LONGEST)
                entry.load = None if peak is None else (waiting + 1) * peak
        if "quality" in needs:
            self._judge(now)

    def _judge(self, now: float) -> None:
        """Who is far below its peers in throughput or in tool calls, and of whom too little is known."""
        rows = [entry.row for entry in self.entries]
        speeds = [
            _median(row.speed.percentiles("throughput", now))
            if row.speed.throughput.samples(now) >= THROUGHPUT_SAMPLES_MIN
            else None
            for row in rows
        ]
        known = [row.tools.requests(now) >= TOOL_REQUESTS_MIN for row in rows]
        rates = [row.tools.rate(now) for row in rows]
        right = [
            1 - rate if enough and rate is not None else None for rate, enough in zip(rates, known, strict=True)
        ]
        slow = deranked(speeds, sigmas=THROUGHPUT_SIGMAS, low_is_bad=True)
        wrong = deranked(right, sigmas=TOOL_SIGMAS, low_is_bad=True)
        for entry, enough, bad in zip(self.entries, known, map(any, zip(slow, wrong, strict=True)), strict=True):
            entry.quality = 2 if bad else 0 if enough else 1


def selected(order: Iterable[Entry], size: int, now: float, policy: TimeoutPolicy) -> list[Selected]:
    """What a proxy needs to call each of `order`; `size` is the length of the prompt's length in bits, or -1."""
    tick = now // SLICE
    found: list[Selected] = []
    for entry in order:
        row = entry.row
        ready = row.ready.get(size)
        if (
            ready is None
            or ready.state is not entry.state
            or row.ready_version != row.speed.version
            or row.ready_tick != tick
        ):
            ready = row.selected(entry.state, size, tick, policy)
        found.append(ready)
    return found


def last_resort(states: Sequence[State], *, enforced: bool) -> bool:
    """Whether panic may choose one that is in these states: health keeps it out, and nothing else does."""
    down = enforced and ("ejected" in states or "half_open" in states)
    return down and "throttled" not in states and UNUSABLE.isdisjoint(states)


def _limits(values: Iterable[int | None]) -> list[int]:
    return sorted({value for value in values if value is not None})


def _median(percentiles: Sequence[float] | None) -> float | None:
    return None if percentiles is None else percentiles[MEDIAN]
