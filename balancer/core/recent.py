"""The last outcomes of one endpoint, and whether they are surely worse than what it and its peers usually do.

Theory of operation: four tests, each with its minimum of evidence, and any of them is a verdict:

- failures in a row: as many as the policy says, and more where the endpoint's own usual share of failures is so
  high that this many come by chance;
- CUSUM: the largest sum, over the last outcomes, of log-likelihood ratios "it fails half of its calls" against "it
  fails as usual". That is the quickest test there is for a given rate of false alarms (Lorden 1971), and what is
  usual is learned: one endpoint's ordinary hour is another's outage;
- against the policy: the Wilson lower bound of the failure share is above `error_ratio`, whatever is usual for it;
- against its peers, four or more of them: the same bound is above their median by four times their spread (MAD).

What counts is how often they are wrong in a day, not among so many calls: the limits of the first two rise with the
logarithm of the rate of outcomes, so that a busy endpoint has no more false verdicts than a quiet one.

Where the peers fail as well, all but the first test wait: an endpoint is not sick because all are.

What counts as usual is learned by number of outcomes, only while the endpoint is in service, and never above
`error_ratio`. All tests look at outcomes of the last quarter of an hour in the order in which they ended.

What this module does not know: phases, holds, and whose outcomes these are.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from math import ceil, inf, log, sqrt
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from balancer.core.model import HealthPolicy

Verdict = Literal["consecutive_failures", "failure_share", "peers_outlier"]

RECENT_MAX: Final = 40  # outcomes; of half an outage against a usual 10 %, 20 hold too little evidence
RECENT_AGE: Final = 900.0  # s; older outcomes say nothing about now

USUAL_START: Final = 0.02  # the normal failure share of hosted models is 1-3 %
USUAL_MIN: Final = 0.05  # below it a single failure would weigh too much
USUAL_STEPS: Final = 500  # outcomes that it remembers; fewer at first
USUAL_SOON: Final = 20  # outcomes that the start is worth

RATE_LEAST: Final = 0.5  # outcomes a second; below it the limits of the two quick tests fall no further
RATE_SPAN: Final = 1.0  # s; outcomes of one moment are no rate

# How often so many in a row of an endpoint that fails as usual are all failures, once a second: about once a day.
# At a usual 10 % and 5 a second, five in a row come four times a day and six once in two and a half days.
STREAK_CHANCE: Final = 1.25e-5

SHIFT: Final = 0.5  # the failure share that CUSUM looks for: half an outage
SHIFT_MIN: Final = 0.3  # above the usual, where that is high
# At one outcome a second. Simulated (tests/benchmarks/detectors.py): with the first test below one false alarm a
# day at a usual 10 %, whatever the rate, and below a tenth at 2 %.
CUSUM_LIMIT: Final = 9.7

WILSON_Z: Final = 3.0  # 99.9 % one-sided, of a test that is asked again with every failure
WILSON_MIN: Final = 20  # outcomes
PEERS_MIN: Final = 4  # of fewer there is no median worth the name
PEERS_SPREAD: Final = 4.0  # MADs, scaled to a normal's deviation (1.4826); Iglewicz and Hoaglin say 3.5
MAD_MIN: Final = 0.02  # peers that all do alike must not make a small difference an outlier


class Peers(NamedTuple):
    """What the other endpoints of the model do at present: failure shares, median and limit of the ordinary."""

    median: float
    limit: float


def peers(shares: Sequence[float]) -> Peers | None:
    """Judge what is ordinary among `shares` of failure; `None` where they are too few.

    Source: median and MAD stand up to nearly half of them being broken.
    """
    if len(shares) < PEERS_MIN:
        return None
    middle = _median(shares)
    spread = max(_median([abs(share - middle) for share in shares]), MAD_MIN)
    return Peers(middle, middle + PEERS_SPREAD * 1.4826 * spread)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


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


class Recent:
    """The last outcomes of hard work, and what is usual. `usual` is a share of failures, `learned` of how many."""

    __slots__ = ("_outcomes", "_row", "learned", "usual")

    def __init__(self) -> None:
        self._outcomes: list[tuple[float, bool]] = []
        self._row = 0  # failures in a row that are not learned yet
        self.usual = USUAL_START
        self.learned = 0

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def outcomes(self) -> Sequence[tuple[float, bool]]:
        """When each ended, and whether it was good; oldest first."""
        return self._outcomes

    @property
    def failing(self) -> bool:
        """Whether the last outcome was a failure."""
        return bool(self._outcomes) and not self._outcomes[-1][1]

    def streak(self, now: float, *, age: float) -> int:
        """How many of the last outcomes failed in a row, none of them older than `age`."""
        failures = 0
        for ended, good in reversed(self._outcomes):
            if good or now - ended >= age:
                break
            failures += 1
        return failures

    def rate(self, now: float) -> float:
        """How many outcomes a second the limits must hold for, of the last ones."""
        if not self._outcomes:
            return RATE_LEAST
        return max(len(self._outcomes) / max(now - self._outcomes[0][0], RATE_SPAN), RATE_LEAST)

    def streak_limit(self, policy: HealthPolicy, rate: float) -> int:
        """How many failures in a row are a verdict: the policy's, and more where they usually come by chance."""
        usual = min(self.usual, policy.error_ratio)
        by_chance = 0 if usual <= USUAL_MIN else ceil(log(STREAK_CHANCE / rate) / log(min(usual, 0.5)))
        more = max(0, by_chance - 5)  # five are the policy's default, and its measure
        return min(policy.consecutive_failures + more, RECENT_MAX)

    def verdict(self, now: float, policy: HealthPolicy, others: Peers | None) -> tuple[Verdict, str] | None:
        """What the last outcomes show, asked after a failure: which test, and the facts in words."""
        streak, rate = self.streak(now, age=RECENT_AGE), self.rate(now)
        if streak >= self.streak_limit(policy, rate):
            return "consecutive_failures", f"{streak} failures in a row"
        fresh = [good for ended, good in self._outcomes if now - ended < RECENT_AGE]
        usual = min(max(self.usual, USUAL_MIN), max(policy.error_ratio, USUAL_MIN))
        if others is not None:
            usual = max(usual, others.median)
        if usual >= 1 - SHIFT_MIN:
            return None
        found = cusum(fresh, usual=usual, least=policy.min_outcomes, limit=CUSUM_LIMIT + log(rate))
        if found is not None:
            failures, of = found
            return "failure_share", f"{failures} of the last {of} failed; usual is {self.usual:.0%}"
        if len(fresh) < WILSON_MIN:
            return None
        failures = len(fresh) - sum(fresh)
        lower, _ = wilson(failures, len(fresh), WILSON_Z)
        if others is not None and lower > max(others.limit, policy.error_ratio / 2):
            return (
                "peers_outlier",
                f"{failures} of the last {len(fresh)} failed; its peers fail {others.median:.0%}",
            )
        if lower > policy.error_ratio and (others is None or lower > others.median):
            return "failure_share", f"{failures} of the last {len(fresh)} failed"
        return None

    # ---- changing ------------------------------------------------------------------------------------

    def record(self, good: bool, ended: float) -> None:
        """Take one outcome. Reports may come late: the order is that of endings, not of arrivals."""
        insort(self._outcomes, (ended, good), key=itemgetter(0))
        if len(self._outcomes) > RECENT_MAX:
            del self._outcomes[0]

    def learn(self, good: bool) -> None:
        """Take one outcome in service into what is usual: a failure only when a success has ended its row.

        Otherwise the outage of an endpoint of which little is known would make itself usual, and find no end.
        """
        if not good:
            self._row += 1
            return
        for _ in range(self._row):
            self._learn(1.0)
        self._row = 0
        self._learn(0.0)

    def _learn(self, share: float) -> None:
        self.learned += 1
        steps = min(self.learned + USUAL_SOON, USUAL_STEPS)
        self.usual += (share - self.usual) / steps

    def clear(self) -> None:
        """Forget the outcomes: what comes next is judged by itself. What is usual stays."""
        self._outcomes.clear()
        self._row = 0

    def forgive(self, *, since: float) -> None:
        """Forget the failures that ended since then."""
        self._outcomes = [each for each in self._outcomes if each[1] or each[0] < since]
        self._row = 0

    def restore(self, outcomes: Iterable[tuple[float, bool]], *, usual: float, learned: int) -> None:
        """Take back what was told."""
        self._outcomes = sorted(outcomes, key=itemgetter(0))[-RECENT_MAX:]
        self.usual, self.learned = usual, learned


def cusum(outcomes: Sequence[bool], *, usual: float, least: int, limit: float) -> tuple[int, int] | None:
    """Find the end of `outcomes` that shows a shift above what is usual: how many failed of how many, if any.

    Shape: it is at least `least` long. Source: Page 1954; the sum over the best of all suffixes is its statistic.
    """
    shifted = max(SHIFT, usual + SHIFT_MIN)
    failed, passed = log(shifted / usual), log((1 - shifted) / (1 - usual))
    total, best = 0.0, -inf
    failures, found = 0, None
    for of, good in enumerate(reversed(outcomes), 1):
        if good:
            total += passed
        else:
            total += failed
            failures += 1
        if of >= least and total > best:
            best, found = total, (failures, of)
    return found if best >= limit else None
