"""Evidence about one endpoint → ejected or not, and the way back.

Theory of operation: four phases, and every change between them is a row of `TRANSITIONS`; anything else is a
programmer's error. An endpoint is tripped by failures in a row, or by a failure share of its last outcomes
whose Wilson lower bound is above the policy's ratio (few and noisy outcomes: a bound, not a bare ratio), or
by failed probes in a row. It is then held for a time that doubles with each ejection, jittered and capped. When
the hold is over, one real request (or one probe that does real work) is the trial; success leads to
`recovering`, which ramps by number of requests.

Three rules keep stragglers and cheap checks from lying:
- an outcome that began before the last change of phase decides nothing;
- only the request that carries the lease decides a trial;
- a shallow probe (listing models, opening a socket) can trip and can postpone a trial; it never readmits.

`misconfigured` is beside the phases: the provider refused our account or the model several times in a row.
Waiting does not heal it; a success that is at least as deep as what condemned it does, or the operator.

A restart keeps all of it but the trial under way, which lapses with its process.

What this module does not know: other endpoints, windows, 429s (they move neither streaks nor phases), and
time between calls. `phase_at(now)` is a projection; the only thing that time alone changes is an expired lease.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, sqrt
from operator import itemgetter
from random import Random
from typing import Final, Literal, get_args

from balancer.core.kept import COUNT_MAX, SPAN_MAX, Ended, HealthKept, span
from balancer.core.model import HealthPolicy, Source
from balancer.core.outcome import COUNTS, Outcome

Phase = Literal["closed", "ejected", "half_open", "recovering"]
Event = Literal["trip", "lease", "pass", "fail", "lapse", "ramped"]

Cause = Literal["consecutive_failures", "failure_share", "failed_probes", "failed_trial"]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
"""Why endpoints are ejected: the closed set behind the label `reason` of the ejection counter."""

TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    ("closed", "trip"): "ejected",
    ("recovering", "trip"): "ejected",
    ("recovering", "ramped"): "closed",
    ("ejected", "lease"): "half_open",
    ("ejected", "pass"): "recovering",  # a probe that does real work, after the hold
    ("ejected", "fail"): "ejected",  # the same, failed: a longer hold
    ("half_open", "pass"): "recovering",
    ("half_open", "fail"): "ejected",
    ("half_open", "lapse"): "ejected",  # the report never came, or said nothing about the provider
}

RECENT_MAX: Final = 20  # outcomes in the test; the simulated detector's size
RECENT_AGE: Final = 900.0  # s; older outcomes say nothing about now
WILSON_Z: Final = 2.58  # 99 %: 0.5 false trips a day at half a request a second and a 2 % floor (simulated)
SHALLOW_FAILURES: Final = 3  # probes in a row; kubelet's failureThreshold and HAProxy's fall
SHALLOW_AGE: Final = 300.0  # s; a failed probe postpones trials no longer than this, lest probing stopped
RECOVERING_FAILURES: Final = 2  # in a row; one failure is within the normal floor of 1-3 %
REFUSALS: Final = 3  # without a success between; one 401 may be a rotation under way
LEASE_SLACK: Final = 1.0  # s; a proxy's clock for the trial may start before it asked us
EJECTION_DECAY: Final = 600.0  # s of good time that take one ejection off the count


def wilson(failures: int, outcomes: int, z: float) -> tuple[float, float]:
    """Bounds of the true failure share behind `failures` of `outcomes`.

    Shape: (lower, upper), (0, 1) for no outcomes: no opinion without a special case.
    Source: Wilson 1927, score interval.
    """
    if outcomes == 0:
        return 0.0, 1.0
    share = failures / outcomes
    spread = z * z / outcomes
    centre = share + spread / 2
    half = z * sqrt(share * (1 - share) / outcomes + spread / (4 * outcomes))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


@dataclass(frozen=True, slots=True)
class Lease:
    """Permission for one request to be the trial. `due` is false for one that panic sent before its time."""

    decision: str
    expires: float
    due: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a call did: the log event, the reason in words, and for an ejection its cause."""

    event: str
    reason: str
    cause: Cause | None = None


class Health:
    """One endpoint's phase and the evidence since its last change.

    `until` is when the hold ends, `since` when the phase began, `generation` counts changes of phase,
    `ejections` the trips that have not yet decayed, `ramp_left` the successes until fully back.
    """

    __slots__ = (
        "_random",
        "_recent",
        "_refusals",
        "_refused_deep",
        "_shallow_failed",
        "_shallow_streak",
        "ejections",
        "generation",
        "lease",
        "misconfigured",
        "phase",
        "ramp_left",
        "reason",
        "since",
        "until",
    )

    def __init__(self, *, random: Random, now: float) -> None:
        self._random = random
        self.phase: Phase = "closed"
        self.since = now
        self.generation = 0
        self.until = float("-inf")
        self.ejections = 0.0
        self.reason = ""
        self.lease: Lease | None = None
        self.ramp_left = 0
        self.misconfigured: str | None = None
        self._recent: list[tuple[float, bool]] = []
        self._shallow_streak = 0
        self._shallow_failed = float("-inf")
        self._refusals = 0
        self._refused_deep = False

    # ---- reading -------------------------------------------------------------------------------------

    def phase_at(self, now: float) -> Phase:
        """The phase, with an expired lease already gone."""
        if self.phase == "half_open" and self.lease is not None and now >= self.lease.expires:
            return "ejected"
        return self.phase

    def streak(self, now: float, *, age: float) -> int:
        """How many of the last outcomes failed in a row, none of them older than `age`."""
        failures = 0
        for ended, good in reversed(self._recent):
            if good or now - ended >= age:
                break
            failures += 1
        return failures

    @property
    def failing(self) -> bool:
        """Whether the last outcome was a failure."""
        return bool(self._recent) and not self._recent[-1][1]

    def streak_ends(self, now: float, *, age: float) -> float:
        """When the oldest failure of the streak grows too old to count; `inf` without a streak."""
        failures = self.streak(now, age=age)
        return inf if failures == 0 else self._recent[-failures][0] + age

    def trial_due(self, now: float) -> bool:
        """Whether the next request may be the trial: the hold is over, and no failed probe speaks against it."""
        return (
            self.phase_at(now) == "ejected" and now >= self.until and not now - self._shallow_failed < SHALLOW_AGE
        )

    def admission(self, policy: HealthPolicy) -> float:
        """The share of first picks that this endpoint may take: 1, or less in slow start."""
        if self.phase != "recovering" or policy.ramp_requests == 0:
            return 1.0
        done = max(0, policy.ramp_requests - self.ramp_left)  # a reload may have shortened the ramp under way
        return (done + 1) / (policy.ramp_requests + 1)

    def dump(self, now: float) -> HealthKept:
        """What is to be kept. A trial under way is told as lapsed: nobody will know its lease again."""
        phase = self.phase_at(now)
        return HealthKept(
            phase="ejected" if phase == "half_open" else phase,
            age=span(now - self.since),
            hold=max(-SPAN_MAX, min(self.until - now, SPAN_MAX)),
            reason=self.reason,
            ejections=self.ejections,
            ramp_left=min(max(0, self.ramp_left), COUNT_MAX),
            recent=[Ended(span(now - ended), good) for ended, good in self._recent],
            shallow_streak=min(self._shallow_streak, COUNT_MAX),
            shallow_age=None if self._shallow_failed == -inf else span(now - self._shallow_failed),
            refusals=min(self._refusals, COUNT_MAX),
            refused_deep=self._refused_deep,
            misconfigured=self.misconfigured,
        )

    # ---- changing ------------------------------------------------------------------------------------

    def restore(self, kept: HealthKept, *, then: float, now: float, policy: HealthPolicy) -> None:
        """Take back what was told at `then`, unless something was seen since: that is newer, and all stays.

        Shape: good time goes on while we are away, so the ejections decay, and holds are never longer than policy.
        """
        if self.generation or self._recent or self._refusals or self._shallow_streak:
            return
        self.phase = kept.phase
        self.since = then - kept.age
        self.generation += 1
        self.until = then + min(kept.hold, policy.hold_max)
        self.reason = kept.reason
        # In the other phases time counts from `since`, when the next trip comes.
        away = now - then if kept.phase == "ejected" else 0.0
        self.ejections = max(0.0, kept.ejections - away / EJECTION_DECAY)
        self.ramp_left = kept.ramp_left
        self._recent = sorted([(then - each.age, each.good) for each in kept.recent], key=itemgetter(0))
        del self._recent[:-RECENT_MAX]
        self._shallow_streak = kept.shallow_streak
        self._shallow_failed = -inf if kept.shallow_age is None else then - kept.shallow_age
        self._refusals, self._refused_deep = kept.refusals, kept.refused_deep
        self.misconfigured = kept.misconfigured

    def lapse(self, now: float) -> Change | None:
        """End a trial whose lease has expired. `start_trial` and `record` do it too, without telling."""
        if self.phase != "half_open" or self.phase_at(now) != "ejected":
            return None
        self._move("lapse", now)
        return Change("endpoint.trial_lapsed", "the trial was never reported")

    def start_trial(self, *, decision: str, now: float, expires: float) -> Change:
        """Lease the trial to one request until it reports or the lease expires."""
        self.lapse(now)
        due = now >= self.until
        self._move("lease", now)
        self.lease = Lease(decision, expires, due)
        return Change("endpoint.trial_started", f"trial after {self.reason}")

    def forgive(self) -> bool:
        """Forget refusals by the operator's word; true if there was something to forget."""
        forgiven = self.misconfigured is not None
        self.misconfigured = None
        self._refusals = 0
        self._refused_deep = False
        return forgiven

    def record(
        self,
        outcome: Outcome,
        *,
        source: Source,
        began: float,
        ended: float,
        now: float,
        decision: str | None,
        policy: HealthPolicy,
    ) -> Change | None:
        """Take one outcome; tell what it changed."""
        self.lapse(now)
        counts = COUNTS[outcome.kind]
        leased = self.phase == "half_open" and self.lease is not None and decision == self.lease.decision
        if leased and not outcome.shallow and began >= self.since - LEASE_SLACK:
            change = self._decide_trial(counts, outcome, now, policy)
            refused = self._refuse(outcome, now)
            if change is not None and refused is not None and outcome.kind == "refused":
                return replace(refused, cause=change.cause)
            return change
        if began < self.since or counts in ("none", "rate_limited"):
            return None
        change = self._refuse(outcome, now)
        if change is not None or self.misconfigured is not None:
            return change
        good = counts == "success"
        if outcome.shallow:
            return self._take_shallow(outcome, good, now, policy)
        if self.phase in ("ejected", "half_open"):
            if source == "probe" and self.phase == "ejected" and ended >= self.until:
                return self._decide_trial(counts, outcome, now, policy)
            return None
        return self._take(outcome, good, ended, now, policy)

    def _take(self, outcome: Outcome, good: bool, ended: float, now: float, policy: HealthPolicy) -> Change | None:
        # Reports may come late: a streak is one of endings, not of arrivals.
        insort(self._recent, (ended, good), key=itemgetter(0))
        del self._recent[:-RECENT_MAX]
        if good:
            self._shallow_streak = 0
            if self.phase == "recovering":
                self.ramp_left = min(self.ramp_left, policy.ramp_requests) - 1  # a reload may have shortened it
                if self.ramp_left <= 0:
                    self._move("ramped", now)
                    return Change("endpoint.recovered", "slow start is over")
            return None
        verdict = self._verdict(outcome, now, policy)
        return None if verdict is None else self._trip(*verdict, now, policy)

    def _take_shallow(self, outcome: Outcome, good: bool, now: float, policy: HealthPolicy) -> Change | None:
        if good:
            self._shallow_streak = 0
            self._shallow_failed = float("-inf")
            return None
        self._shallow_streak += 1
        self._shallow_failed = now
        if self.phase in ("closed", "recovering") and self._shallow_streak >= SHALLOW_FAILURES:
            reason = f"{SHALLOW_FAILURES} probes failed in a row ({_what(outcome)})"
            return self._trip("failed_probes", reason, now, policy)
        return None

    def _verdict(self, outcome: Outcome, now: float, policy: HealthPolicy) -> tuple[Cause, str] | None:
        fresh = [good for ended, good in self._recent if now - ended < RECENT_AGE]
        streak = self.streak(now, age=RECENT_AGE)
        if self.phase == "recovering" and streak >= min(RECOVERING_FAILURES, policy.consecutive_failures):
            return "consecutive_failures", f"{streak} failures in a row while recovering ({_what(outcome)})"
        if streak >= policy.consecutive_failures:
            return "consecutive_failures", f"{streak} failures in a row ({_what(outcome)})"
        failures = len(fresh) - sum(fresh)
        lower, _ = wilson(failures, len(fresh), WILSON_Z)
        if len(fresh) >= policy.min_outcomes and lower > policy.error_ratio:
            return "failure_share", f"{failures} of the last {len(fresh)} failed ({_what(outcome)})"
        return None

    def _decide_trial(self, counts: str, outcome: Outcome, now: float, policy: HealthPolicy) -> Change | None:
        if counts == "success":
            self._move("pass", now)
            self.ramp_left = policy.ramp_requests
            if self.ramp_left == 0:
                self._move("ramped", now)
            return Change("endpoint.readmitted", "trial passed")
        if counts == "failure":
            reason = f"trial failed ({_what(outcome)})"
            # In panic every request is a trial: only one whose time had come makes the hold grow, or an outage
            # of seconds would end in holds of minutes.
            self._hold(now, policy, grows=self.lease is None or self.lease.due)
            self._move("fail", now)
            self.reason = reason
            return Change("endpoint.ejected", reason, "failed_trial")
        if self.phase == "half_open":
            self._move("lapse", now)
            return Change("endpoint.trial_lapsed", f"the trial decided nothing ({_what(outcome)})")
        return None

    def _refuse(self, outcome: Outcome, now: float) -> Change | None:
        if outcome.kind != "refused":
            deep_enough = not outcome.shallow or not self._refused_deep
            if COUNTS[outcome.kind] == "success" and deep_enough:
                self._refusals = 0
                if self.forgive():
                    self.since = now
                    return Change("endpoint.readmitted", "the provider accepts us again")
            return None
        self._refusals += 1
        self._refused_deep = self._refused_deep or not outcome.shallow
        if self.misconfigured is not None or self._refusals < REFUSALS:
            return None
        self._recent.clear()
        self.misconfigured = f"refused {REFUSALS} times without a success between ({_what(outcome)})"
        return Change("endpoint.misconfigured", self.misconfigured)

    def _trip(self, cause: Cause, reason: str, now: float, policy: HealthPolicy) -> Change:
        self.ejections = max(0.0, self.ejections - max(0.0, now - self.since) / EJECTION_DECAY)
        self._hold(now, policy, grows=True)
        self._move("trip", now)
        self.reason = reason
        return Change("endpoint.ejected", reason, cause)

    def _hold(self, now: float, policy: HealthPolicy, *, grows: bool) -> None:
        if not grows:
            return
        grown = policy.hold * 2.0 ** min(self.ejections, 32.0)
        hold = min(grown, policy.hold_max)
        # Equal jitter (Finagle): never shorter than half, and many daemons do not try at the same moment.
        self.until = max(self.until, now + hold / 2 + self._random.random() * hold / 2)
        # Past the cap the count stands still: a day of failed trials must not cost days of good time to decay.
        if grown < policy.hold_max:
            self.ejections += 1

    def _move(self, event: Event, now: float) -> None:
        self.phase = TRANSITIONS[self.phase, event]
        self.since = now
        self.generation += 1
        self.lease = None
        self._recent.clear()
        self._shallow_streak = 0


def _what(outcome: Outcome) -> str:
    return str(outcome.status) if outcome.status is not None else outcome.kind
