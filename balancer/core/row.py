"""One endpoint's row in the table: its configuration, its evidence and its state.

Theory of operation: a row joins what `window`, `latency`, `health`, `capacity`, `pricing` and `tools` each know,
and is the only place where they meet. Its totals live in it, so that a removed endpoint takes its series with it.
`states` is a projection at `now`; several states may hold, and the first in the order of `STATES` is shown.

A `Picture` is what decisions go by, with the moment until which time alone will not change it: a ring forgets at
the border of a bucket and only if it holds something, a hold ends, a lease expires. Whoever changes a row puts it
into `news`, so that a model's pool looks again at those and no others.

What this module does not know: other rows. Ranking and peers are the table's.
"""

from __future__ import annotations

from collections import deque
from math import floor, inf
from random import Random
from typing import Final, NamedTuple

from balancer.core.capacity import Ceiling, InFlight, Throttle
from balancer.core.estimate import failure_probability, terms
from balancer.core.health import Cause, Change, Health, wilson
from balancer.core.latency import SLICE, PeakEwma, Speed
from balancer.core.model import SOURCES, Endpoint, HealthPolicy, Selected, Source, State, TimeoutPolicy
from balancer.core.notes import Drain, Failure
from balancer.core.outcome import COUNTS, Kind, Outcome
from balancer.core.pricing import CacheHits
from balancer.core.retries import mark
from balancer.core.tools import ToolCalls
from balancer.core.window import BUCKETS, FAILURE, RATE_LIMITED, SUCCESS, Column, Counts, Windows

ELIGIBLE: Final = frozenset[State]({"recovering", "degraded", "unverified", "healthy"})
UNUSABLE: Final = frozenset[State]({"drained", "misconfigured"})

DEGRADED: Final = 0.05  # OpenRouter: 95 % and more is normal
DEGRADED_Z: Final = 1.96  # 95 %: two failures of five, or three of twenty, are significant
DEGRADED_MIN: Final = 5  # outcomes; below it there is no verdict
DEGRADED_STREAK: Final = 3  # at a 2 % error floor and ten requests a second it comes by chance once in three hours
OUTAGE_FAILURES: Final = 2  # in the shortest window; one failure is no outage
FAILURES_MAX: Final = 20  # kept after many successes have come

_COLUMN: Final[dict[str, Column]] = {"success": SUCCESS, "failure": FAILURE, "rate_limited": RATE_LIMITED}


class Evidence(NamedTuple):
    """Counts of real work in the shortest, the second and the longest window."""

    alarm: Counts
    memory: Counts
    long: Counts


class Picture(NamedTuple):
    """What a decision goes by, good from now to `until` if nothing is recorded.

    `base`, `slope` and `alarm` make the chance of failure of the peers' prior, `own` is its part in that prior;
    `tier` is 0 stable, 1 degraded, 2 an outage in the shortest window; `stale`: nothing was seen of it lately, by
    reports or by probes that do real work.
    """

    state: State
    degraded: bool
    base: float
    slope: float
    alarm: float
    own: float
    tier: int
    stale: bool
    until: float


class Row:
    """Everything about one endpoint."""

    __slots__ = (
        "_live",
        "_until",
        "_widths",
        "ceiling",
        "drains",
        "endpoint",
        "failures",
        "flight",
        "health",
        "hits",
        "last_outcome",
        "last_report",
        "mark",
        "news",
        "outcomes",
        "peak",
        "probes_deep",
        "ready",
        "ready_tick",
        "ready_version",
        "selections",
        "shown",
        "speed",
        "throttle",
        "tools",
        "trips",
        "verified",
        "windows",
    )

    def __init__(self, endpoint: Endpoint, policy: HealthPolicy, *, random: Random, now: float) -> None:
        self.endpoint = endpoint
        self.mark = mark(endpoint.id)
        self.health = Health(random=random, now=now)
        self.throttle = Throttle()
        self.ceiling = Ceiling()
        self.flight = InFlight()
        self.speed = Speed()
        self.peak = PeakEwma()
        self.hits = CacheHits()
        self.tools = ToolCalls()
        self.outcomes: dict[tuple[Source, Kind], int] = {}
        self.trips: dict[Cause, int] = {}
        self.failures: deque[Failure] = deque(maxlen=FAILURES_MAX)
        self.drains: tuple[Drain, ...] = ()
        self.selections = 0
        self.last_outcome: float | None = None
        self.last_report: float | None = None
        self.probes_deep = False
        self.verified = False
        self.shown: State = "unverified"
        self.news: set[Row] = set()
        # What was answered lately, by the length of the prompt's length in bits: timeouts differ by it.
        self.ready: dict[int, Selected] = {}
        self.ready_tick = self.ready_version = -1.0
        self.forget_windows(policy)

    def forget_windows(self, policy: HealthPolicy) -> None:
        """Begin new windows, because their spans changed."""
        self.windows = {source: Windows(policy.windows) for source in SOURCES}
        self._live = ([0, 0, 0], [0, 0, 0], [0, 0, 0])
        self._until = [-inf, -inf, -inf]
        self._widths = tuple([policy.windows[index] / BUCKETS for index in (0, 1, -1)])

    # ---- changing ------------------------------------------------------------------------------------

    def record(
        self,
        outcome: Outcome,
        *,
        source: Source,
        ended: float,
        duration: float | None,
        now: float,
        decision: str | None,
        policy: HealthPolicy,
        random: Random,
    ) -> list[Change]:
        """Take one outcome into every piece of evidence; tell what it changed."""
        self.touch()
        took = outcome.latency if duration is None else duration
        began = ended if took is None else ended - took
        counts = COUNTS[outcome.kind]
        self.outcomes[source, outcome.kind] = self.outcomes.get((source, outcome.kind), 0) + 1
        if source == "probe" and self.probes_deep is outcome.shallow:
            self.probes_deep = not outcome.shallow
            self._until = [-inf, -inf, -inf]
        if counts != "none":
            self.windows[source].record(ended, _COLUMN[counts])
            if source == "report" or self.probes_deep:
                self._grow(_COLUMN[counts], ended, now)
            self.last_outcome = ended if self.last_outcome is None else max(ended, self.last_outcome)
            if source == "report":
                self.last_report = ended if self.last_report is None else max(ended, self.last_report)
        if counts == "success":
            self.verified = True
        if counts in ("failure", "rate_limited") or outcome.kind == "probe_invalid":
            self.failures.append(Failure(ended, source, outcome.kind, outcome.status, outcome.detail))
        changes = self._throttle(outcome, began=began, ended=ended, now=now, policy=policy, random=random)
        if counts == "success" and not outcome.shallow:
            self._measure(outcome, ended=ended, now=now)
        change = self.health.record(
            outcome, source=source, began=began, ended=ended, now=now, decision=decision, policy=policy
        )
        if change is not None:
            changes.append(change)
            if change.cause is not None:
                self.trips[change.cause] = self.trips.get(change.cause, 0) + 1
        return changes

    def _throttle(
        self, outcome: Outcome, *, began: float, ended: float, now: float, policy: HealthPolicy, random: Random
    ) -> list[Change]:
        if COUNTS[outcome.kind] == "success" and not outcome.shallow:
            self.throttle.ease(began=began)
        hinted = outcome.kind == "overloaded" and outcome.retry_after is not None
        if outcome.kind != "rate_limited" and not hinted:
            return []
        if outcome.kind == "rate_limited" and not outcome.shallow:
            self.ceiling.limited(began=began, now=now)
        held = self.throttle.holds(now)
        self.throttle.limit(
            hint=outcome.retry_after, began=began, ended=ended, hold_max=policy.throttle_max, random=random
        )
        if held or not self.throttle.holds(now):
            return []
        return [Change("endpoint.throttled", f"{outcome.kind} ({self.throttle.until - now:.1f} s)")]

    def _measure(self, outcome: Outcome, *, ended: float, now: float) -> None:
        self.speed.record(
            ended=ended,
            latency=outcome.latency,
            ttft=outcome.ttft,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            now=now,
        )
        if outcome.latency is not None:
            self.peak.record(ended, outcome.latency)
        if outcome.cached_tokens is not None and outcome.prompt_tokens:
            self.hits.record(ended, prompt_tokens=outcome.prompt_tokens, cached_tokens=outcome.cached_tokens)
        if outcome.tool_call_errors is not None:
            self.tools.record(ended, outcome.tool_call_errors)

    # ---- reading -------------------------------------------------------------------------------------

    def evidence(self, now: float) -> Evidence:
        """What the windows say about real work: reports, and probes where they do real work."""
        return Evidence(*[Counts._make(self._count(index, now)) for index in (0, 1, 2)])

    def _count(self, index: int, now: float) -> list[int]:
        """The counts of one window as they stand at `now`, kept while they only grow."""
        if not self._until[index] - self._widths[index] <= now < self._until[index]:
            self._read(index, now)
        return self._live[index]

    def _read(self, index: int, now: float) -> float:
        """Read the counts of one window anew; tell until when they hold."""
        width, place = self._widths[index], (0, 1, -1)[index]
        counts = self.windows["report"].counts(place, now)
        if self.probes_deep:
            counts = counts.plus(self.windows["probe"].counts(place, now))
        self._live[index][:] = counts
        self._until[index] = (floor(now / width) + 1) * width
        return self._until[index]

    def _grow(self, column: Column, ended: float, now: float) -> None:
        # A memo of a pure function, not state: counts change only with an outcome or with a bucket's border. An
        # outcome of the present bucket counts in every window, and so the memo grows with it; any other outcome
        # makes the windows be read again.
        for index, width in enumerate(self._widths):
            until = self._until[index]
            if until - width <= ended <= now < until:
                self._live[index][column] += 1
            else:
                self._until[index] = -inf

    def picture(self, now: float, policy: HealthPolicy) -> Picture:
        """What decisions go by."""
        health, (alarm, memory, long), (ends_alarm, ends_memory, ends_long) = self.health, self._live, self._until
        width_alarm, width_memory, width_long = self._widths
        if not ends_memory - width_memory <= now < ends_memory:
            ends_memory = self._read(1, now)
        if not ends_long - width_long <= now < ends_long:
            ends_long = self._read(2, now)
        # Successes alone raise no alarm, nor do fewer of them: then it need not be read again.
        # What is asked of the past may have had some.
        if now < ends_alarm - width_alarm or (now >= ends_alarm and (alarm[1] or alarm[2] or ends_alarm < 0)):
            ends_alarm = self._read(0, now)
        base, slope, least, own = terms(long, memory, alarm, policy.min_outcomes)
        seen = memory[0] or memory[1] or memory[2]
        # An empty window does not change by itself; the long one is empty only if the others are.
        until = ends_memory if seen and ends_memory < ends_long else ends_long if long[0] or any(long) else inf
        if self.hits.seen:  # and with the rate of cache hits goes the price
            until = min(until, self.hits.changes_at(now))
        tier = 0
        if alarm[1] or alarm[2]:
            until = min(until, ends_alarm)
            if alarm[1] >= OUTAGE_FAILURES and alarm[1] >= policy.error_ratio * (alarm[0] + alarm[1]):
                tier = 2
        degraded = False
        if memory[1] or health.failing:
            degraded = self.degraded(now)
            if degraded and tier == 0:
                tier = 1
            if health.failing:
                until = min(until, health.streak_ends(now, age=self._memory))
        stale = not seen
        if (
            health.phase == "closed"
            and now >= self.throttle.until
            and not self.drains
            and health.misconfigured is None
            and self.endpoint.misconfigured is None
        ):
            state: State = "degraded" if degraded else "healthy" if self.verified else "unverified"
            return Picture._make((state, degraded, base, slope, least, own, tier, stale, until))
        moments = [self.throttle.until, *[drain.until for drain in self.drains if drain.until is not None]]
        if health.lease is not None:
            moments.append(health.lease.expires)
        until = min([until, *[moment for moment in moments if moment > now]])
        return Picture(self.states(now)[0], degraded, base, slope, least, own, tier, stale, until)

    def failure_probability(self, now: float, *, prior: float, policy: HealthPolicy) -> float:
        """The chance that the next call fails."""
        seen = self.picture(now, policy)
        return failure_probability(seen.base, seen.slope, seen.alarm, prior)

    def drained(self, now: float) -> Drain | None:
        """The drain that lasts longest, if one holds."""
        holding = [drain for drain in self.drains if drain.holds(now)]
        return max(holding, key=lambda drain: inf if drain.until is None else drain.until, default=None)

    def degraded(self, now: float) -> bool:
        """Whether the errors of the last minutes are significantly above the normal share, or the last all failed.

        Without the second a router that quickly goes elsewhere would call what it fled from healthy: three
        failures among hundreds of successes are no share.
        """
        if self.health.failing and self.streak(now) >= DEGRADED_STREAK:
            return True
        succeeded, failed, _ = self._count(1, now)
        outcomes = succeeded + failed
        if outcomes < DEGRADED_MIN or failed <= DEGRADED * outcomes:  # a lower bound is below the share itself
            return False
        return wilson(failed, outcomes, DEGRADED_Z)[0] > DEGRADED

    def streak(self, now: float) -> int:
        """Failures in a row, none older than the counts beside it: with no traffic nothing else would end it."""
        return self.health.streak(now, age=self._memory)

    @property
    def _memory(self) -> float:
        return self._widths[1] * BUCKETS

    def states(self, now: float) -> tuple[State, ...]:
        """Every state that holds, in the order in which one of them is shown."""
        phase = self.health.phase_at(now)
        holding: list[State] = []
        if self.drains and self.drained(now) is not None:
            holding.append("drained")
        if self.misconfigured is not None:
            holding.append("misconfigured")
        if phase == "ejected" or phase == "half_open":
            holding.append(phase)
        if self.throttle.holds(now):
            holding.append("throttled")
        if phase == "recovering":
            holding.append("recovering")
        elif phase == "closed" and self.degraded(now):
            holding.append("degraded")
        elif phase == "closed" and not self.verified:
            holding.append("unverified")
        elif not holding:
            holding.append("healthy")
        return tuple(holding)

    def state(self, now: float) -> State:
        """The one state that is shown."""
        return self.states(now)[0]

    @property
    def misconfigured(self) -> str | None:
        """Why the endpoint cannot be called until somebody changes something."""
        return self.endpoint.misconfigured if self.endpoint.misconfigured is not None else self.health.misconfigured

    def selected(self, state: State, size: int, tick: float, policy: TimeoutPolicy) -> Selected:
        """What a proxy needs to call it; kept in `ready`.

        `size` is the length of the prompt's length in bits, -1 for unknown; `tick` is the slice of time of `now`.
        """
        if self.speed.version != self.ready_version or tick != self.ready_tick:
            self.ready.clear()
            self.ready_version, self.ready_tick = self.speed.version, tick
        endpoint = self.endpoint
        made = Selected(
            id=endpoint.id,
            tag=endpoint.tag,
            provider=endpoint.provider,
            model=endpoint.upstream_model,
            base_url=endpoint.base_url,
            api=endpoint.api,
            state=state,
            timeouts=self.speed.timeouts_for(size, tick * SLICE, policy),
            credential=endpoint.credential,
        )
        self.ready[size] = made
        return made

    @property
    def caches(self) -> bool:
        """Whether a prompt cache was seen to hit there, and saves something."""
        usual, cached = self.endpoint.pricing.prompt, self.endpoint.pricing.input_cache_read
        return self.hits.seen and usual is not None and cached is not None and cached < usual

    def configure(self, endpoint: Endpoint) -> None:
        """Take what a reload changed, keeping all evidence."""
        self.endpoint = endpoint
        self.ready.clear()

    def touch(self) -> None:
        """Say that something about it changed."""
        self.news.add(self)
