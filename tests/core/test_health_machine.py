"""What any sequence of calls keeps: a machine that plays everything the public door of `Health` allows."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from balancer.core.health import LEASE_SLACK, SLOW_HOLD_MAX, Health
from balancer.core.model import HealthPolicy, Source
from balancer.core.outcome import COUNTS, KINDS, Kind, Outcome
from balancer.core.phases import CAUSES, TRANSITIONS, Cause
from balancer.core.recent import Peers

PHASES = ("closed", "ejected", "half_open", "recovering")


def facts(health: Health) -> tuple[object, ...]:
    return (
        health.phase,
        health.generation,
        health.until,
        health.since,
        health.ejections,
        health.lease,
        health.ramp_left,
        health.misconfigured,
    )


REACHABLE = {phase: {to for (at, _), to in TRANSITIONS.items() if at == phase} for phase in PHASES}

policies = st.builds(
    HealthPolicy,
    consecutive_failures=st.integers(1, 6),
    error_ratio=st.sampled_from((0.05, 0.2, 0.9)),
    min_outcomes=st.integers(1, 10),
    hold=st.sampled_from((1.0, 10.0)),
    hold_max=st.sampled_from((1.0, 60.0, 300.0)),
    ramp_requests=st.integers(0, 4),
)


class HealthMachine(RuleBasedStateMachine):
    """Everything the public door allows, in any order, beside a small independent reading of the rules."""

    @initialize(policy=policies, seed=st.integers(0, 10), others=st.sampled_from((None, Peers(0.01, 0.13))))
    def begin(self, policy: HealthPolicy, seed: int, others: Peers | None) -> None:
        self.now = 0.0
        self.policy = policy
        self.health = Health(random=Random(seed), now=0.0)
        self.leases = 0
        self.others = others

    @rule(seconds=st.one_of(st.floats(0, 30), st.floats(0, 2000), st.just(1e6), st.floats(-20, 0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.health.phase_at(self.now) == "ejected")
    @rule(lasts=st.floats(1, 200))
    def lease(self, lasts: float) -> None:
        generation, until = self.health.generation, self.health.until
        lapsed = self.health.phase == "half_open"
        self.leases += 1
        change = self.health.start_trial(decision=f"dec_{self.leases}", now=self.now, expires=self.now + lasts)
        assert change.event == "endpoint.trial_started"
        assert self.health.phase == "half_open"
        assert self.health.generation == generation + 1 + lapsed
        assert self.health.until == until

    @rule(cause=st.sampled_from(("slow_calls", "overdue", "provider_failure")), grows=st.booleans())
    def another_detector_says_it_is_ill(self, cause: Cause, grows: bool) -> None:
        health = self.health
        in_service = health.phase in ("closed", "recovering") and health.misconfigured is None
        before, until, ejections = facts(health), health.until, health.ejections
        change = health.trip(cause, "seen elsewhere", self.now, self.policy, grows=grows)
        assert (change is not None) == in_service
        if change is None:
            assert facts(health) == before
            return
        assert (change.event, change.cause, change.reason) == ("endpoint.ejected", cause, "seen elsewhere")
        assert (health.phase, health.cause, health.reason) == ("ejected", cause, "seen elsewhere")
        assert health.until >= until
        assert health.ejections <= ejections + grows
        if health.until > until:
            assert health.until - self.now <= self.longest_hold(cause)

    def longest_hold(self, cause: Cause | None) -> float:
        return min(self.policy.hold_max, SLOW_HOLD_MAX) if cause == "slow_calls" else self.policy.hold_max

    @rule()
    def the_operator_forgives(self) -> None:
        before = self.health.misconfigured, self.health.phase, self.health.generation
        assert self.health.forgive() == (before[0] is not None)
        assert self.health.misconfigured is None
        assert (self.health.phase, self.health.generation) == before[1:]

    @rule(
        kind=st.sampled_from(KINDS),
        shallow=st.booleans(),
        source=st.sampled_from(("probe", "report")),
        age=st.one_of(st.just(0.0), st.floats(0, 40)),
        latency=st.one_of(st.just(0.0), st.floats(0, 60)),
        carries=st.sampled_from(("nothing", "the lease", "an old lease", "another")),
        times=st.sampled_from((1, 1, 2, 6)),
        enforced=st.sampled_from((True, True, False)),
        slow=st.booleans(),
    )
    def an_outcome_comes(
        self,
        kind: Kind,
        shallow: bool,
        source: Source,
        age: float,
        latency: float,
        carries: str,
        times: int,
        enforced: bool,
        slow: bool,
    ) -> None:
        for _ in range(times):
            outcome = Outcome(kind=kind, shallow=shallow, status=None)
            self._record(outcome, source, age, latency, carries, enforced, slow and kind == "success")

    def _record(
        self, outcome: Outcome, source: Source, age: float, latency: float, carries: str, enforced: bool, slow: bool
    ) -> None:
        health, now = self.health, self.now
        lapses = health.phase == "half_open" and health.phase_at(now) == "ejected"
        lease = None if lapses else health.lease
        decision = None
        if carries == "the lease" and health.lease is not None:
            decision = health.lease.decision
        elif carries == "an old lease" and self.leases > 1:
            decision = f"dec_{self.leases - 1}"
        elif carries == "another":
            decision = "dec_elsewhere"
        ended = now - age
        began = ended - latency
        before = facts(health)
        phase, generation, until, ejections = (
            health.phase_at(now),
            health.generation,
            health.until,
            health.ejections,
        )
        ramp_left, misconfigured = health.ramp_left, health.misconfigured
        since, cause = now if lapses else health.since, health.cause
        change = health.record(
            outcome,
            source=source,
            began=began,
            ended=ended,
            now=now,
            decision=decision,
            policy=self.policy,
            enforced=enforced,
            slow=slow,
            others=lambda: self.others,
        )
        decides = (
            lease is not None
            and decision == lease.decision
            and not outcome.shallow
            and began >= since - LEASE_SLACK
        )
        moves = health.generation - generation - lapses

        # Phases change only along the table, and only a change of phase makes a new generation.
        if moves == 0:
            assert health.phase == phase
        elif moves == 1:
            assert health.phase in REACHABLE[phase]
        else:
            assert (moves, self.policy.ramp_requests, health.phase) == (2, 0, "closed")
        # Deadlines only move later, and a hold is as long as its count says.
        assert health.until >= until
        if health.until > until:
            most = self.longest_hold(health.cause)
            longest = min(self.policy.hold * 2.0**ejections, most)
            shortest = min(self.policy.hold * 2.0 ** max(0.0, health.ejections - 1), most) / 2
            assert shortest - 1e-6 <= health.until - now <= longest + 1e-6
        # An ejection is told, is counted, and has a cause of the closed list.
        if change is not None and change.cause is not None:
            assert change.cause in CAUSES
            assert health.phase == "ejected"
            # A success says nothing bad but that it was slow, and that only of one that was ejected for it.
            assert COUNTS[outcome.kind] == "failure" or (slow and cause == health.cause == "slow_calls")
        # A straggler decides nothing.
        if began < since and not decides:
            assert change is None
            if not lapses:
                assert facts(health) == before
        # 429s and what counts for nothing move no phase; the lease's own ends undecided, at no cost.
        if COUNTS[outcome.kind] in ("rate_limited", "none"):
            assert change is None if not decides else change.event == "endpoint.trial_lapsed"
            assert health.phase == ("ejected" if decides else phase)
            assert (health.until, health.ejections, health.misconfigured) == (until, ejections, misconfigured)
        # A trial is decided by the request that carries it, and by nothing else.
        if phase == "half_open" and not decides:
            assert health.phase == "half_open"
            assert health.lease == lease
        if phase == "half_open" and decides:
            assert health.phase != "half_open"
            assert health.lease is None
        # A cheap check never readmits, and real work readmits only from a trial.
        if outcome.shallow and phase in ("ejected", "half_open"):
            assert health.phase == phase
        if phase == "ejected" and health.phase != "ejected":
            assert outcome.kind == "success"
            assert not (slow and cause == "slow_calls")
            assert source == "probe" or not enforced
            assert (ended if source == "probe" else began) >= until
        # The slow start takes exactly its number of successes.
        if phase == "recovering" and health.phase == "closed":
            assert ramp_left == 1
        if phase == "recovering" and health.ramp_left != ramp_left and health.phase == "recovering":
            assert (outcome.kind, outcome.shallow, health.ramp_left) == ("success", False, ramp_left - 1)
        # Misconfigured comes from refusals and goes with a success.
        if misconfigured is None and health.misconfigured is not None:
            assert outcome.kind == "refused"
        if misconfigured is not None and health.misconfigured is None:
            assert outcome.kind == "success"

    @invariant()
    def the_facts_agree(self) -> None:
        if not hasattr(self, "health"):
            return
        health = self.health
        assert (health.phase == "half_open") == (health.lease is not None)
        assert health.phase_at(self.now) in PHASES
        assert 0 < health.admission(self.policy) <= 1
        assert (health.admission(self.policy) < 1) == (
            health.phase == "recovering" and health.ramp_left > 0 and self.policy.ramp_requests > 0
        )
        assert 0 <= health.ejections <= 10
        if health.trial_due(self.now):
            assert health.phase_at(self.now) == "ejected"
            assert self.now >= health.until


TestHealthMachine = HealthMachine.TestCase
TestHealthMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
