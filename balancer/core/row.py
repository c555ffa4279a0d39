"""One endpoint's row in the table: its configuration, its evidence and its state.

Theory of operation: a row joins what `window`, `latency`, `health`, `capacity`, `ceiling`, `pricing` and `tools`
each know, and is the only place where they meet. Its totals live in it, so that a removed endpoint takes its series
with it.
`states` is a projection at `now`; several states may hold, and the first in the order of `STATES` is shown.

Whoever changes a row puts it into `news`, so that a model's pool looks again at those and no others (`picture`). A
row that is not `enforced` is only watched: it has all of its states, and they choose nothing.

What this module does not know: ranking. Of other rows it is told only which are its company.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from random import Random
from typing import Final

from balancer.core.announcement import Announcement
from balancer.core.capacity import InFlight, Throttle
from balancer.core.ceiling import Ceiling
from balancer.core.estimate import FLOOR, PROVIDER_WEIGHT, Belief, failure_probability
from balancer.core.health import Health
from balancer.core.latency import SLICE, Speed
from balancer.core.model import SOURCES, Endpoint, HealthPolicy, Selected, Source, State, TimeoutPolicy
from balancer.core.notes import Drain, Failure
from balancer.core.outcome import COUNTS, Kind, Outcome
from balancer.core.peak import PeakEwma
from balancer.core.phases import Cause, Change
from balancer.core.pricing import CacheHits
from balancer.core.recent import RECENT_AGE, Peers, peers
from balancer.core.retries import mark
from balancer.core.slow import Slowness
from balancer.core.tools import ToolCalls
from balancer.core.window import FAILURE, RATE_LIMITED, SUCCESS, Column, Counts, Windows

ELIGIBLE: Final = frozenset[State]({"recovering", "degraded", "unverified", "healthy"})
UNUSABLE: Final = frozenset[State]({"drained", "misconfigured"})

PROBES_FIRST: Final = 90.0  # s since the last probe that did real work; the next one is a trial that costs no user
SLOW_TOGETHER: Final = 0.5  # of a model's other endpoints; if so many are slow it is the hour, and nobody's fault
FAILURES_MAX: Final = 20  # kept after many successes have come

_COLUMN: Final[dict[str, Column]] = {"success": SUCCESS, "failure": FAILURE, "rate_limited": RATE_LIMITED}


class Row:
    """Everything about one endpoint."""

    __slots__ = (
        "announced", "belief", "ceiling", "drains", "endpoint", "enforced", "failed_at", "failed_before",
        "failures", "flight", "health", "hits", "kin", "last_outcome", "last_report", "mark", "news", "outcomes",
        "peak", "probed_at", "probes_deep", "ready", "ready_tick", "ready_version", "selections", "shown", "slow",
        "slowness", "speed", "throttle", "tools", "trips", "verified", "windows",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, policy: HealthPolicy, *, random: Random, now: float) -> None:
        self.endpoint = endpoint
        self.mark = mark(endpoint.id)
        self.health = Health(random=random, now=now)
        self.belief = Belief()
        self.failed_at = self.failed_before = -inf
        self.enforced = True
        self.kin: float | None = None
        self.slowness = Slowness()
        self.slow = False
        self.throttle = Throttle()
        self.ceiling = Ceiling()
        self.flight = InFlight()
        self.speed = Speed()
        self.peak = PeakEwma()
        self.hits = CacheHits()
        self.tools = ToolCalls()
        self.outcomes: dict[tuple[Source, Kind], int] = {}
        self.trips: dict[tuple[Cause, bool], int] = {}
        self.failures: deque[Failure] = deque(maxlen=FAILURES_MAX)
        self.drains: tuple[Drain, ...] = ()
        self.announced: Announcement | None = None
        self.selections = 0
        self.last_outcome: float | None = None
        self.last_report: float | None = None
        self.probes_deep = False
        self.probed_at = -inf
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
        company: Sequence[Row] = (),
        answered: float = inf,
    ) -> list[Change]:
        """Take one outcome into every piece of evidence; tell what it changed.

        Shape: `company` are the rows of the same model, which are asked only when something looks wrong here;
        `answered` is when anybody last answered a probe.
        """
        self.touch()
        took = outcome.latency if duration is None else duration
        began = ended if took is None else ended - took
        counts = COUNTS[outcome.kind]
        self.outcomes[source, outcome.kind] = self.outcomes.get((source, outcome.kind), 0) + 1
        if source == "probe":
            self._probed(outcome.shallow, counts, ended, policy)
        if counts != "none":
            if not (outcome.shallow and self.probes_deep):  # a list that works would hide a model that does not
                self.windows[source].record(ended, _COLUMN[counts])
            if not outcome.shallow:
                self.belief.record(counts == "success", ended, hard=counts == "failure")
                if counts == "failure":
                    self.failed(ended)
            self.last_outcome = ended if self.last_outcome is None else max(ended, self.last_outcome)
            if source == "report":
                self.last_report = ended if self.last_report is None else max(ended, self.last_report)
        if counts == "success":
            self.verified = True
        if counts in ("failure", "rate_limited") or outcome.kind == "probe_invalid":
            self.failures.append(Failure(ended, source, outcome.kind, outcome.status, outcome.detail))
        changes = self._throttle(outcome, began=began, ended=ended, now=now, policy=policy, random=random)
        slow = False
        if counts == "success" and not outcome.shallow:
            slow = self._measure(outcome, began=began, ended=ended, now=now)
        change = self.health.record(
            outcome,
            source=source,
            began=began,
            ended=ended,
            now=now,
            decision=decision,
            policy=policy,
            enforced=self.enforced,
            slow=slow,
            answered=answered,
            others=lambda: self._others(company, now),
        )
        if change is not None and change.event == "endpoint.readmitted":
            self.slowness.forget()
            self.slow = False
        if change is None and (slow or self.slow):
            change = self._slow(company, now, policy)
        if change is not None:
            changes.append(change)
            self._count(change)
        return changes

    def _probed(self, shallow: bool, counts: str, ended: float, policy: HealthPolicy) -> None:
        """Note which kind of probe comes here: cheap ones fill the windows only where no others do."""
        if shallow:
            self.probes_deep = self.probes_deep and ended - self.probed_at < policy.windows[-1]
            return
        self.probes_deep = True
        if counts in ("success", "failure"):  # what decides nothing is no trial
            self.probed_at = max(self.probed_at, ended)

    def failed(self, ended: float) -> None:
        """Remember when its last two failures of real work ended: one alone is no outage, and nobody need count."""
        self.failed_before = max(self.failed_before, min(self.failed_at, ended))
        self.failed_at = max(self.failed_at, ended)

    def eject(
        self, cause: Cause, reason: str, now: float, policy: HealthPolicy, *, grows: bool = True
    ) -> list[Change]:
        """Take it out of service on the word of a detector that looks elsewhere; tell what that changed."""
        change = self.health.trip(cause, reason, now, policy, grows=grows)
        if change is None:
            return []
        self.touch()
        self._count(change)
        return [change]

    def _count(self, change: Change) -> None:
        if change.cause is not None:
            key = change.cause, self.enforced
            self.trips[key] = self.trips.get(key, 0) + 1

    def _slow(self, company: Sequence[Row], now: float, policy: HealthPolicy) -> Change | None:
        """Judge whether its answers have become slow, which those of others at the same time have not."""
        found = self.slowness.verdict(now)
        self.slow = found is not None
        if found is None:
            return None
        others = [row for row in company if row is not self]
        lately = [row for row in others if row.slow and now - row.belief.at < RECENT_AGE]
        if others and len(lately) >= SLOW_TOGETHER * len(others):
            return None
        change = self.health.trip("slow_calls", f"{found[0]} of the last {found[1]} answers were slow", now, policy)
        if change is not None:
            self.slowness.forget()
        return change

    def _others(self, company: Sequence[Row], now: float) -> Peers | None:
        shares: list[float] = []
        for row in company:
            if row is not self and row.belief.seen:
                seen = row.belief.terms(now)
                shares.append(seen.base + seen.slope * FLOOR)
        return peers(shares)

    def _throttle(
        self, outcome: Outcome, *, began: float, ended: float, now: float, policy: HealthPolicy, random: Random
    ) -> list[Change]:
        if not outcome.shallow and outcome.kind == "success":
            self.throttle.ease(began=began)
        elif not outcome.shallow and outcome.kind == "rate_limited":
            self.ceiling.limited(began=began, ended=ended, now=now)
        longest = policy.throttle_max
        return self.hold(outcome, "", began=began, ended=ended, now=now, longest=longest, random=random)

    def hold(
        self, outcome: Outcome, of: str, *, began: float, ended: float, now: float, longest: float, random: Random
    ) -> list[Change]:
        """Leave it alone for as long as an outcome says, its own or one `of` another's; tell what that changed."""
        if not outcome.holds:
            return []
        self.touch()
        held = self.throttle.holds(now)
        self.throttle.limit(hint=outcome.retry_after, began=began, ended=ended, hold_max=longest, random=random)
        if held or not self.throttle.holds(now):
            return []
        what = "quota used up" if outcome.kind == "success" else outcome.kind
        return [Change("endpoint.throttled", f"{what}{of} ({self.throttle.until - now:.1f} s)")]

    def _measure(self, outcome: Outcome, *, began: float, ended: float, now: float) -> bool:
        """Take what a success shows of speed, cache and tools; tell whether it was slow."""
        read = outcome.prompt_tokens
        if read is not None and outcome.cached_tokens is not None:
            read = max(0, read - outcome.cached_tokens)
        # What began before the last change of phase says nothing of now.
        fresh = began >= self.health.since
        slow = fresh and self.slowness.record(
            ended,
            ttft=outcome.ttft,
            latency=outcome.latency,
            prompt_tokens=read,
            completion_tokens=outcome.completion_tokens,
        )
        if not slow and fresh and self.enforced and self.health.was_slow:
            self.speed.forget()  # its slow trials would keep it out of first place for minutes
            self.peak = PeakEwma()
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
        return slow

    # ---- reading -------------------------------------------------------------------------------------

    def evidence(self, index: int, now: float) -> Counts:
        """What the window at that place counts of real work: reports, and probes where they do real work."""
        counts = self.windows["report"].counts(index, now)
        return counts.plus(self.windows["probe"].counts(index, now)) if self.probes_deep else counts

    def success_estimate(self, now: float, *, prior: float) -> float:
        """The chance that the next call succeeds, enforced or not, where its peers usually fail as `prior` says."""
        base, slope = self.belief.terms(now)
        warning = self.warning(now)
        if warning is not None:
            base, slope = warning.risen(base, slope)
        like = prior if self.kin is None else PROVIDER_WEIGHT * self.kin + (1 - PROVIDER_WEIGHT) * prior
        return 1 - failure_probability(base, slope, like)

    def admission(self, policy: HealthPolicy) -> float:
        """The share of first picks that it may take: less than 1 in slow start, if that is enforced."""
        return self.health.admission(policy) if self.enforced else 1.0

    def trial_due(self, now: float) -> bool:
        """Whether a request may be its trial: the hold is over, and no probe that does real work will be it."""
        return now - self.probed_at >= PROBES_FIRST and self.health.trial_due(now)

    def drained(self, now: float) -> Drain | None:
        """The drain that lasts longest, if one holds."""
        holding = [drain for drain in self.drains if drain.holds(now)]
        return max(holding, key=lambda drain: inf if drain.until is None else drain.until, default=None)

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
        if self.plain(now):
            return "degraded" if self.degraded(now) else "healthy" if self.verified else "unverified"
        return self.states(now)[0]

    def warning(self, now: float) -> Announcement | None:
        """What its provider's status page says, where that counts: nothing better is known of it."""
        said = self.announced
        return said if said is not None and said.counts(self.belief.at, now) else None

    def degraded(self, now: float) -> bool:
        """Whether it fails more than is normal, by what was seen of it or else by its provider's own word."""
        return self.belief.degraded(now) or self.warning(now) is not None

    def plain(self, now: float) -> bool:
        """Whether nothing keeps it out or eases it in: no phase, hold, drain or fault, as is the rule."""
        return (
            self.health.phase == "closed"
            and now >= self.throttle.until
            and not self.drains
            and self.health.misconfigured is None
            and self.endpoint.misconfigured is None
        )

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
