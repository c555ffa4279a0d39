"""Evidence about one endpoint → ejected or not, and the way back.

Theory of operation: four phases, and every change between them is a row of `TRANSITIONS`; anything else is a
programmer's error. The one exception is `absolve`, which puts it back where it stood before a trip that proved
nothing. An endpoint is tripped by what its last outcomes show (`recent`), by failed probes in a row, or by the
word of a detector that looks elsewhere (slow calls, calls that do not come back, its whole provider). It is then
held for a time that doubles with each ejection, jittered and capped. When the hold is over, one real request (or
one probe that does real work) is the trial; success leads to `recovering`, which ramps by number of requests. An
endpoint that is only watched is not kept from requests, so there each of them may be the trial.

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

from collections.abc import Callable
from dataclasses import replace
from math import inf
from random import Random
from typing import Final

from balancer.core.cheap import Cheap
from balancer.core.kept import COUNT_MAX, SPAN_MAX, Ended, HealthKept, span
from balancer.core.model import HealthPolicy, Source
from balancer.core.outcome import COUNTS, Outcome
from balancer.core.phases import TRANSITIONS, Cause, Change, Event, Lease, Phase
from balancer.core.recent import RECENT_AGE, Peers, Recent

RECOVERING_FAILURES: Final = 2  # in a row; one failure is within the normal floor of 1-3 %
REFUSALS: Final = 3  # without a success between; one 401 may be a rotation under way
LEASE_SLACK: Final = 1.0  # s; a proxy's clock for the trial may start before it asked us
EJECTION_DECAY: Final = 900.0  # s of good time that take one off the count; 600 let one flap six times an hour
FLAPPING: Final = 4  # ejections not yet decayed; then one good probe is no proof, and it takes two in a row
SLOW_HOLD_MAX: Final = 60.0  # s; a slow endpoint still serves, and finding out costs one slow answer and no failure


def _nobody() -> Peers | None:
    return None


class Health:
    """One endpoint's phase and the evidence since its last change.

    `until` is when the hold ends, `since` when the phase began, `generation` counts changes of phase,
    `ejections` the trips that have not yet decayed, `cause` what the last was for, `ramp_left` the successes until
    fully back.
    """

    __slots__ = (
        "_before", "_cheap", "_proved", "_random", "_refusals", "_refused_at", "_refused_deep", "cause",
        "ejections", "generation", "lease", "misconfigured", "phase", "ramp_left", "reason", "recent", "since",
        "until",
    )  # fmt: skip

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
        self._proved = False
        self._before: tuple[float, Phase, float, float, float, int, str, Cause | None] | None = None
        self.recent = Recent()
        self.cause: Cause | None = None
        self._cheap = Cheap()
        self._refusals = 0
        self._refused_at = inf
        self._refused_deep = False

    # ---- reading -------------------------------------------------------------------------------------

    def phase_at(self, now: float) -> Phase:
        """The phase, with an expired lease already gone."""
        if self.phase == "half_open" and self.lease is not None and now >= self.lease.expires:
            return "ejected"
        return self.phase

    @property
    def out(self) -> bool:
        """Whether another failure is no news: it was taken out of service, or is on trial."""
        return self.phase in ("ejected", "half_open")

    @property
    def was_slow(self) -> bool:
        """Whether it is out of service because it was slow."""
        return self.cause == "slow_calls" and self.phase in ("ejected", "half_open")

    def trial_due(self, now: float) -> bool:
        """Whether the next request may be the trial: the hold is over, and no failed probe speaks against it."""
        due = self.phase_at(now) == "ejected" and now >= self.until
        return due and not self._cheap.vetoes(now, ejected=self.since)

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
            cause=self.cause,
            recent=[Ended(span(now - ended), good) for ended, good in self.recent.outcomes],
            usual=self.recent.usual,
            learned=min(self.recent.learned, COUNT_MAX),
            shallow=self._cheap.bits,
            shallow_age=None if self._cheap.failed_at == -inf else span(now - self._cheap.failed_at),
            refusals=min(self._refusals, COUNT_MAX),
            refused_deep=self._refused_deep,
            misconfigured=self.misconfigured,
        )

    # ---- changing ------------------------------------------------------------------------------------

    def restore(self, kept: HealthKept, *, then: float, now: float, policy: HealthPolicy) -> None:
        """Take back what was told at `then`, unless something was seen since: that is newer, and all stays.

        Shape: good time goes on while we are away, so the ejections decay, and holds are never longer than policy.
        """
        if self.generation or self.recent.outcomes or self._refusals or self._cheap.bits:
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
        self.cause = kept.cause
        outcomes = [(then - each.age, each.good) for each in kept.recent]
        self.recent.restore(outcomes, usual=kept.usual, learned=kept.learned)
        self._cheap.restore(kept.shallow, -inf if kept.shallow_age is None else then - kept.shallow_age)
        self._refusals, self._refused_deep = kept.refusals, kept.refused_deep
        self._refused_at = -inf if kept.refusals else inf  # nobody's doubt reaches back beyond a restart
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
        """Forget the refusals, as the operator may say; true if it was misconfigured for them."""
        forgiven = self.misconfigured is not None
        self.misconfigured = None
        self._refusals = 0
        self._refused_at = inf
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
        enforced: bool = True,
        slow: bool = False,
        answered: float = inf,
        others: Callable[[], Peers | None] = _nobody,
    ) -> Change | None:
        """Take one outcome; tell what it changed.

        Shape: where it is not `enforced`, requests come in spite of an ejection, and any that began after the hold
        is as good as a trial. `slow`: it was a success, and slow. `answered` is when anybody last answered a probe.
        `others` tells what the peers do, if asked.
        """
        self.lapse(now)
        counts = COUNTS[outcome.kind]
        leased = self.phase == "half_open" and self.lease is not None and decision == self.lease.decision
        if leased and not outcome.shallow and began >= self.since - LEASE_SLACK:
            change = self._decide_trial(counts, outcome, now, policy, slow=slow)
            refused = self._refuse(outcome, ended, now)
            if change is not None and refused is not None and outcome.kind == "refused":
                return replace(refused, cause=change.cause)
            return change
        if began < self.since or counts in ("none", "rate_limited"):
            return None
        change = self._refuse(outcome, ended, now)
        if change is not None or self.misconfigured is not None:
            return change
        good = counts == "success"
        if outcome.shallow:
            found = self._cheap.record(good, now, answered=answered)
            if found is None or self.phase not in ("closed", "recovering"):
                return None
            return self._trip("failed_probes", f"{found} ({_what(outcome)})", now, policy)
        if self.phase in ("ejected", "half_open"):
            free = source == "probe" or not enforced
            if good and source == "probe" and self.ejections >= FLAPPING and not self._proved:
                self._proved = ended >= self.until
                return None
            if free and self.phase == "ejected" and (ended if source == "probe" else began) >= self.until:
                return self._decide_trial(counts, outcome, now, policy, slow=slow)
            return None
        return self._take(outcome, good, ended, now, policy, others)

    def trip(
        self, cause: Cause, reason: str, now: float, policy: HealthPolicy, *, grows: bool = True
    ) -> Change | None:
        """Eject on the word of another detector, if it is in service. `grows`: the next hold will be longer."""
        if self.phase not in ("closed", "recovering") or self.misconfigured is not None:
            return None
        return self._trip(cause, reason, now, policy, grows=grows)

    def _take(
        self,
        outcome: Outcome,
        good: bool,
        ended: float,
        now: float,
        policy: HealthPolicy,
        others: Callable[[], Peers | None],
    ) -> Change | None:
        recent = self.recent
        recent.record(good, ended)
        if self.phase == "closed":
            recent.learn(good)
        if good:
            self._cheap.forgive()
            if self.phase == "recovering":
                self.ramp_left = min(self.ramp_left, policy.ramp_requests) - 1  # a reload may have shortened it
                if self.ramp_left <= 0:
                    self._move("ramped", now)
                    return Change("endpoint.recovered", "slow start is over")
            return None
        if self.phase == "recovering":
            streak = recent.streak(now, age=RECENT_AGE)
            if streak >= min(RECOVERING_FAILURES, policy.consecutive_failures):
                reason = f"{streak} failures in a row while recovering ({_what(outcome)})"
                return self._trip("consecutive_failures", reason, now, policy)
        verdict = recent.verdict(now, policy, others())
        if verdict is None:
            return None
        cause, reason = verdict
        return self._trip(cause, f"{reason} ({_what(outcome)})", now, policy)

    def _decide_trial(
        self, counts: str, outcome: Outcome, now: float, policy: HealthPolicy, *, slow: bool
    ) -> Change | None:
        still_slow = counts == "success" and slow and self.cause == "slow_calls"
        if counts == "success" and not still_slow:
            self._cheap.refute()
            self._move("pass", now)
            self.ramp_left = policy.ramp_requests
            if self.ramp_left == 0:
                self._move("ramped", now)
            return Change("endpoint.readmitted", "trial passed")
        if counts == "failure" or still_slow:
            reason = "trial was slow" if still_slow else f"trial failed ({_what(outcome)})"
            if not still_slow:
                self.cause = "failed_trial"  # it answers no longer: that is more than slow
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

    def _refuse(self, outcome: Outcome, ended: float, now: float) -> Change | None:
        if outcome.kind != "refused":
            deep_enough = not outcome.shallow or not self._refused_deep
            if COUNTS[outcome.kind] == "success" and deep_enough and self.forgive():
                self.since = now
                return Change("endpoint.readmitted", "the provider accepts us again")
            return None
        self._refusals += 1
        self._refused_at = min(self._refused_at, ended)
        self._refused_deep = self._refused_deep or not outcome.shallow
        if self.misconfigured is not None or self._refusals < REFUSALS:
            return None
        self.recent.clear()
        self.misconfigured = f"refused {REFUSALS} times without a success between ({_what(outcome)})"
        return Change("endpoint.misconfigured", self.misconfigured)

    def _trip(self, cause: Cause, reason: str, now: float, policy: HealthPolicy, *, grows: bool = True) -> Change:
        here = self.phase, self.since, self.until, self.ejections, self.ramp_left, self.reason, self.cause
        self._before = (now, *here)
        self.ejections = max(0.0, self.ejections - max(0.0, now - self.since) / EJECTION_DECAY)
        self.cause = cause
        before = self.ejections
        self._hold(now, policy, grows=True)
        if not grows:
            self.ejections = before
        self._move("trip", now)
        self.reason = reason
        return Change("endpoint.ejected", reason, cause)

    def _hold(self, now: float, policy: HealthPolicy, *, grows: bool) -> None:
        if not grows:
            return
        grown = policy.hold * 2.0 ** min(self.ejections, 32.0)
        longest = min(policy.hold_max, SLOW_HOLD_MAX) if self.cause == "slow_calls" else policy.hold_max
        hold = min(grown, longest)
        # Equal jitter (Finagle): never shorter than half, and many daemons do not try at the same moment.
        self.until = max(self.until, now + hold / 2 + self._random.random() * hold / 2)
        # Past the cap the count stands still: a day of failed trials must not cost days of good time to decay.
        if grown < longest:
            self.ejections += 1

    def _move(self, event: Event, now: float) -> None:
        self.phase = TRANSITIONS[self.phase, event]
        self._proved = False
        self.since = now
        self.generation += 1
        self.lease = None
        self.recent.clear()
        self._cheap.forgive()

    def absolve(self, *, since: float) -> bool:
        """Forget the failures since then, whose witness is suspect; true if what they brought about was undone.

        Shape: it stands where it stood before a trip since then, and what is under way counts as if there had been
        none. Refusals in a row are forgotten where the first of them ended since then.
        """
        self.recent.forgive(since=since)
        self._cheap.forgive(since)
        accepted = self._refused_at >= since and self.forgive()
        before = self._before
        if before is None or before[0] < since:
            return accepted
        _, self.phase, self.since, self.until, self.ejections, self.ramp_left, self.reason, self.cause = before
        self._before, self.lease = None, None
        self.generation += 1
        return True


def _what(outcome: Outcome) -> str:
    return str(outcome.status) if outcome.status is not None else outcome.kind
