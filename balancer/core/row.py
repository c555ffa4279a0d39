"""One endpoint's row in the table: its configuration, its evidence and its state.

Theory of operation: a row joins what `window`, `latency`, `health` and `capacity` each know, and is the only
place where they meet. Its totals live in it, so that a removed endpoint takes its series with it. `states` is a
projection at `now`; several states may hold, and the first in the order of `STATES` is shown.

What this module does not know: other rows. Ranking and peers are the table's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from random import Random
from typing import Final

from balancer.core.capacity import Throttle
from balancer.core.estimate import failure_probability
from balancer.core.health import Cause, Change, Health, wilson
from balancer.core.latency import TIMEOUTS_UNKNOWN, Quantiles, timeouts
from balancer.core.model import SOURCES, Endpoint, HealthPolicy, Source, State, Timeouts
from balancer.core.outcome import COUNTS, Kind, Outcome
from balancer.core.window import BUCKETS, FAILURE, RATE_LIMITED, SUCCESS, Column, Counts, Windows

ELIGIBLE: Final = frozenset[State]({"recovering", "degraded", "unverified", "healthy"})
UNUSABLE: Final = frozenset[State]({"drained", "misconfigured"})

DEGRADED: Final = 0.05  # OpenRouter: 95 % and more is normal
DEGRADED_Z: Final = 1.96  # 95 %: two failures of five, or three of twenty, are significant
DEGRADED_MIN: Final = 5  # outcomes; below it there is no verdict
DEGRADED_STREAK: Final = (
    3  # at a 2 % error floor and ten requests a second it happens by chance once in three hours
)
OUTAGE_FAILURES: Final = 2  # in the shortest window; one failure is no outage
FAILURES_MAX: Final = 20  # kept after many successes have come

_COLUMN: Final[dict[str, Column]] = {"success": SUCCESS, "failure": FAILURE, "rate_limited": RATE_LIMITED}


@dataclass(frozen=True, slots=True)
class Drain:
    """The operator's word that a target gets no traffic. `until` is `None` for "until resumed"."""

    target: str
    reason: str
    since: float
    until: float | None

    def holds(self, now: float) -> bool:
        """Whether it still applies."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call, kept for the operator."""

    ended: float
    source: Source
    kind: Kind
    status: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts of real work in the shortest, the second and the longest window."""

    alarm: Counts
    memory: Counts
    long: Counts


@dataclass(frozen=True, slots=True)
class Standing:
    """The state shown, why, and what happens next and when (`None`: nothing is scheduled)."""

    state: State
    states: tuple[State, ...]
    reason: str
    next: str | None
    next_at: float | None


class Row:
    """Everything about one endpoint."""

    __slots__ = (
        "_evidence",
        "_evidence_at",
        "_widths",
        "drains",
        "endpoint",
        "failures",
        "health",
        "last_outcome",
        "last_report",
        "latency",
        "outcomes",
        "probes_deep",
        "selections",
        "shown",
        "throttle",
        "timeouts",
        "trips",
        "ttft",
        "verified",
        "windows",
    )

    def __init__(self, endpoint: Endpoint, policy: HealthPolicy, *, random: Random, now: float) -> None:
        self.endpoint = endpoint
        self.health = Health(random=random, now=now)
        self.throttle = Throttle()
        self.latency = Quantiles()
        self.ttft = Quantiles()
        self.timeouts: Timeouts = TIMEOUTS_UNKNOWN
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
        self.forget_windows(policy)

    def forget_windows(self, policy: HealthPolicy) -> None:
        """Begin new windows, because their spans changed."""
        self.windows = {source: Windows(policy.windows) for source in SOURCES}
        self._widths = tuple([policy.windows[index] / BUCKETS for index in (0, 1, -1)])
        self._evidence: Evidence | None = None
        self._evidence_at: tuple[int, ...] = ()

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
        self._evidence = None
        took = outcome.latency if duration is None else duration
        began = ended if took is None else ended - took
        counts = COUNTS[outcome.kind]
        self.outcomes[source, outcome.kind] = self.outcomes.get((source, outcome.kind), 0) + 1
        if source == "probe":
            self.probes_deep = not outcome.shallow
        if counts != "none":
            self.windows[source].record(ended, _COLUMN[counts])
            self.last_outcome = ended if self.last_outcome is None else max(ended, self.last_outcome)
            if source == "report":
                self.last_report = ended if self.last_report is None else max(ended, self.last_report)
        if counts == "success":
            self.verified = True
        if counts in ("failure", "rate_limited") or outcome.kind == "probe_invalid":
            self.failures.append(Failure(ended, source, outcome.kind, outcome.status, outcome.detail))
        changes = self._throttle(outcome, began=began, ended=ended, now=now, policy=policy, random=random)
        if counts == "success" and not outcome.shallow:
            self._time(outcome, ended, now)
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
        held = self.throttle.holds(now)
        self.throttle.limit(
            hint=outcome.retry_after, began=began, ended=ended, hold_max=policy.throttle_max, random=random
        )
        if held or not self.throttle.holds(now):
            return []
        return [Change("endpoint.throttled", f"{outcome.kind} ({self.throttle.until - now:.1f} s)")]

    def _time(self, outcome: Outcome, ended: float, now: float) -> None:
        if outcome.latency is not None:
            self.latency.record(ended, outcome.latency)
        if outcome.ttft is not None:
            self.ttft.record(ended, outcome.ttft)
        # A quantile costs tens of microseconds: the timeouts follow every sixteenth sample once there are many.
        if outcome.latency is not None and (self.latency.count < 64 or self.latency.count % 16 == 0):
            self.timeouts = timeouts(self.latency, self.ttft, now)

    # ---- reading -------------------------------------------------------------------------------------

    def evidence(self, now: float) -> Evidence:
        """What the windows say about real work: reports, and probes where they do real work."""
        # A memo of a pure function, not state: counts change only with an outcome or with a bucket's border, and
        # a busy table is asked a thousand times between two of those.
        borders = tuple([floor(now / width) for width in self._widths])
        if self._evidence is None or self._evidence_at != borders:
            self._evidence = Evidence(*[self._counts(index, now) for index in (0, 1, -1)])
            self._evidence_at = borders
        return self._evidence

    def _counts(self, index: int, now: float) -> Counts:
        counts = self.windows["report"].counts(index, now)
        return counts.plus(self.windows["probe"].counts(index, now)) if self.probes_deep else counts

    def failure_probability(self, now: float, *, prior: float, policy: HealthPolicy) -> float:
        """The chance that the next call fails."""
        evidence = self.evidence(now)
        return failure_probability(
            long=evidence.long,
            memory=evidence.memory,
            alarm=evidence.alarm,
            prior=prior,
            outcomes_min=policy.min_outcomes,
        )

    def drained(self, now: float) -> Drain | None:
        """The drain that lasts longest, if one holds."""
        holding = [drain for drain in self.drains if drain.holds(now)]
        return max(holding, key=lambda drain: float("inf") if drain.until is None else drain.until, default=None)

    def degraded(self, now: float) -> bool:
        """Whether the errors of the last minutes are significantly above the normal share, or the last all failed.

        Without the second a router that quickly goes elsewhere would call what it fled from healthy: three
        failures among hundreds of successes are no share.
        """
        if self._streak(now) >= DEGRADED_STREAK:
            return True
        counts = self.evidence(now).memory
        if counts.failure == 0 or counts.outcomes < DEGRADED_MIN:
            return False
        return wilson(counts.failure, counts.outcomes, DEGRADED_Z)[0] > DEGRADED

    def _streak(self, now: float) -> int:
        # As old as the counts beside it, no older: with no traffic nothing else would end it.
        return self.health.streak(now, age=self._widths[1] * BUCKETS)

    def tier(self, now: float, policy: HealthPolicy) -> int:
        """0 stable, 1 degraded, 2 an outage in the shortest window: the tiers of the strategy `price`."""
        recent = self.evidence(now).alarm
        ratio = recent.error_ratio
        if recent.failure >= OUTAGE_FAILURES and ratio is not None and ratio >= policy.error_ratio:
            return 2
        return 1 if self.degraded(now) else 0

    def states(self, now: float) -> tuple[State, ...]:
        """Every state that holds, in the order in which one of them is shown."""
        return tuple(self._holding(now))

    def state(self, now: float) -> State:
        """The one state that is shown."""
        return next(self._holding(now))

    def _holding(self, now: float) -> Iterator[State]:
        # Lazily and in the order of `STATES`: a decision asks only for the first, for every endpoint.
        quiet = True
        if self.drains and self.drained(now) is not None:
            quiet = False
            yield "drained"
        if self.misconfigured is not None:
            quiet = False
            yield "misconfigured"
        phase = self.health.phase_at(now)
        if phase == "ejected" or phase == "half_open":
            quiet = False
            yield phase
        if self.throttle.holds(now):
            quiet = False
            yield "throttled"
        if phase == "recovering":
            yield "recovering"
        elif phase == "closed" and not self.verified:
            yield "unverified"
        elif phase == "closed" and self.degraded(now):
            yield "degraded"
        elif quiet:
            yield "healthy"

    @property
    def misconfigured(self) -> str | None:
        """Why the endpoint cannot be called until somebody changes something."""
        return self.endpoint.misconfigured if self.endpoint.misconfigured is not None else self.health.misconfigured

    def standing(self, now: float, policy: HealthPolicy) -> Standing:
        """The state with its reason and its next moment."""
        states = self.states(now)
        reason, following, moment = self._story(states[0], now, policy)
        return Standing(states[0], states, reason, following, moment)

    def _story(self, state: State, now: float, policy: HealthPolicy) -> tuple[str, str | None, float | None]:
        health = self.health
        match state:
            case "drained":
                drain = self.drained(now)
                assert drain is not None
                return drain.reason, None if drain.until is None else "drain ends", drain.until
            case "misconfigured":
                reason = self.misconfigured
                assert reason is not None
                return reason, "waits for a change of configuration", None
            case "ejected":
                if health.trial_due(now):
                    return health.reason, "trial with the next request", now
                following = "trial" if now < health.until else "trial after a good probe"
                return health.reason, following, health.until if now < health.until else None
            case "half_open":
                assert health.lease is not None
                return f"one trial is out, after {health.reason}", "trial lapses", health.lease.expires
            case "throttled":
                return "rate limited by the provider", "hold ends", self.throttle.until
            case "recovering":
                done = max(0, policy.ramp_requests - health.ramp_left)
                return f"trial passed; {done} of {policy.ramp_requests} requests of the ramp", None, None
            case "degraded":
                streak, counts = self._streak(now), self.evidence(now).memory
                if streak >= DEGRADED_STREAK:
                    return f"{streak} failures in a row", None, None
                return f"{counts.failure} of {counts.outcomes} failed lately", None, None
            case "unverified":
                return "no success yet" if self.failures else "no evidence yet", None, None
            case _:
                return "", None, None
