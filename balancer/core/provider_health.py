"""Whether a provider fails as a whole: the evidence on its endpoints, pooled.

Theory of operation: endpoints of one fate (`fates`) often fail together, and mostly they do not. So the question is
asked anew after each failure: did something begin at some moment, the *onset*, since which nearly every call fails,
whichever endpoint it goes to? Every failure may be the onset, and the sums over all suffixes are compared, as CUSUM
does, of the log of how much likelier an outage of the provider makes what was seen of each endpoint.

What that is weighed against is not only the usual share of failures but an endpoint that is down by itself, as each
is for `ALONE` of its time. That bounds what one endpoint can say, however often it is called and fails, to less
than a third of the threshold. (A bound on its share of the failures would be blind where one endpoint has most of
the traffic.) A success has no such bound, for an outage of the provider spares nobody. Four endpoints must have
failed at least, and for every one that answered well there must be four that did not.

An endpoint whose last outcome before the onset was a failure says nothing: it was down already. Without that, a few
dead endpoints that are probed one after the other would look like an outage once a minute.

A verdict condemns the endpoints without a success since the onset, and those that nobody has called since then:
that is its use, for those that were called are soon ejected by their own failures. So it must be rare and right.
A recorded week knows four such outages among fifty providers, and a dozen moments at which a third or a half of a
provider's models fell together; the threshold is set between the two. A provider of three endpoints or fewer never
gets a verdict, and one that still answers a tenth of its calls often gets none: their own failures tell.

Only the last outcomes of each endpoint are kept, so that a busy one does not push out the others. All of it is
ordered by when calls ended: reports may be late. Nothing is kept over a restart: what is minutes old says nothing
about now, and the ejections that followed are kept by `health`.

What this module does not know: which endpoints there are, and what becomes of those that it condemns.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import exp, inf, log
from typing import Final, NamedTuple

FAILING: Final = 0.9  # of all calls, in an outage of the provider; a cache or one region may go on answering
ALONE: Final = 0.02  # of an endpoint's time it is down by itself: recorded, 1.9 % of the polls are below 80 %
USUAL: Final = 0.05  # failure share of a provider of which little is known
USUAL_WEIGHT: Final = 200  # outcomes that it is worth; an outage right after the start must not become usual
USUAL_MEMORY: Final = 2000  # outcomes; an outage of forty failures moves the share by a fiftieth
USUAL_BOUNDS: Final = (0.05, 0.2)  # above the normal floor of 1-3 %, which has clusters; half down is not usual

# A likelihood ratio of e^14 comes by chance once in 1.2 million outcomes at most, if what fails usually is known.
# As it is never taken below 5 %, no verdict was false in 150 simulated days at 5 requests a second of which 2 %
# fail, and none in 100 days at 10 %. In the recorded week (7 outcomes a minute and endpoint, eight seeds) 95 % of
# the condemned endpoints succeeded in less than half of their calls; with 12 it was 88 %.
EVIDENCE: Final = 14.0
ENDPOINTS_MIN: Final = 4  # failing; fewer cannot reach the threshold, each being worth log(1 / ALONE) at most
SPARED_MAX: Final = 0.25  # endpoints that succeeded for each that failed; of those unseen no more may be well

LAST: Final = 8  # outcomes kept of an endpoint; the third failure adds a thirtieth to what it says
AGE: Final = 900.0  # s; as for one endpoint's failures


@dataclass(frozen=True, slots=True)
class Verdict:
    """A provider's outage: when the first call failed in it, which endpoints failed since, and why so in words.

    Shape: `failed` ascends; `succeeded` are those with a success since the onset, and the only ones spared.
    """

    onset: float
    failed: tuple[str, ...]
    succeeded: frozenset[str]
    reason: str

    def condemns(self, endpoint: str) -> bool:
        """Whether an endpoint of this provider is meant: seen failing or not seen at all since the onset."""
        return endpoint not in self.succeeded


class _Seen(NamedTuple):
    """One outcome; `news` is false where the endpoint's outcome before was a failure.

    Shape: in descending order the successes of a moment come first: who has one at the onset is spared.
    """

    ended: float
    good: bool
    endpoint: str
    news: bool


class _Tally:
    """What was seen of one endpoint since a moment that moves back. `evidence` is the log of a likelihood ratio."""

    __slots__ = ("_ratio", "evidence", "failures", "news", "successes")

    def __init__(self) -> None:
        self._ratio = 0.0
        self.evidence = 0.0
        self.failures = 0
        self.successes = 0
        self.news = True

    def take(self, seen: _Seen, gain: float, loss: float) -> float:
        """Take the outcome before those taken; tell by how much that moved the evidence."""
        before = self.evidence
        self.news = seen.news
        if seen.good:
            self.successes += 1
            self._ratio += loss
        else:
            self.failures += 1
            self._ratio += gain
        evidence = self._ratio - log(1.0 - ALONE + ALONE * exp(self._ratio))
        self.evidence = evidence if seen.news else min(evidence, 0.0)
        return self.evidence - before

    @property
    def failing(self) -> bool:
        """Whether it fails, and did not before."""
        return self.news and self.successes == 0


class ProviderHealth:
    """The last outcomes of the endpoints that share one fate. `name` is how operators call it."""

    __slots__ = ("_failed", "_failing", "_recent", "_taken", "_told", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._recent: dict[str, list[tuple[float, bool]]] = {}  # ended, good; ascending
        self._failing: set[str] = set()  # whose newest outcome is a failure
        self._failed = USUAL * USUAL_WEIGHT
        self._taken = float(USUAL_WEIGHT)
        self._told = -inf

    # ---- changing ------------------------------------------------------------------------------------

    def record(self, endpoint: str, good: bool, ended: float) -> None:
        """Take one outcome of real work or of a probe that does real work; a verdict may be new after a failure.

        Shape: no 429, no refusal and no caller's error, which say nothing about a provider's health.
        """
        recent = self._recent.get(endpoint)
        if recent is None:
            recent = self._recent[endpoint] = []
        if recent and ended <= recent[-1][0]:
            insort(recent, (ended, good))  # a late one; and of two at one moment the order is that of no arrival
        else:
            recent.append((ended, good))
        if len(recent) > LAST:
            del recent[0]
        self._taken += 1.0
        if not good:
            self._count_failure()
        if not good or self._failing:
            self._note(endpoint, recent)

    def take_back(self, endpoint: str, *, ended: float) -> None:
        """Forget a failure that is not believed any more. Shape: one that is not kept changes nothing."""
        recent = self._recent.get(endpoint, [])
        if (ended, False) not in recent:
            return
        recent.remove((ended, False))
        self._taken = max(self._taken - 1.0, 1.0)
        self._failed = max(self._failed - 1.0, 0.0)
        self._note(endpoint, recent)
        if not recent:
            del self._recent[endpoint]

    def forget(self, now: float) -> None:
        """Begin to judge anew after a verdict, so that an outage is told once.

        Shape: what ended before `now` is no evidence any more, but whoever failed last still is no news.
        """
        self._told = max(self._told, now)

    def retain(self, endpoints: Iterable[str]) -> None:
        """Forget all endpoints but these."""
        kept = set(endpoints)
        self._recent = {key: recent for key, recent in self._recent.items() if key in kept}
        self._failing &= kept

    def _count_failure(self) -> None:
        self._failed += 1.0
        if self._taken > USUAL_MEMORY:
            self._failed /= 2
            self._taken /= 2

    def _note(self, endpoint: str, recent: list[tuple[float, bool]]) -> None:
        if recent and not recent[-1][1]:
            self._failing.add(endpoint)
        else:
            self._failing.discard(endpoint)

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def usual(self) -> float:
        """The share of calls that usually fail, within its bounds."""
        return min(max(self._failed / self._taken, USUAL_BOUNDS[0]), USUAL_BOUNDS[1])

    def verdict(self, now: float) -> Verdict | None:
        """The outage that the last outcomes show; `None` while it may be chance."""
        since = self._since(now)
        if sum([self._recent[endpoint][-1][0] > since for endpoint in self._failing]) < ENDPOINTS_MIN:
            return None
        usual = self.usual
        gain, loss = log(FAILING / usual), log((1.0 - FAILING) / (1.0 - usual))
        tallies: dict[str, _Tally] = {}
        evidence, best = 0.0, EVIDENCE
        found: Verdict | None = None
        for seen in sorted(self._outcomes(since, now), reverse=True):
            tally = tallies.get(seen.endpoint)
            if tally is None:
                tally = tallies[seen.endpoint] = _Tally()
            evidence += tally.take(seen, gain, loss)
            if not seen.good and evidence >= best:
                verdict = self._outage(tallies, seen.ended, now)
                if verdict is not None:
                    best, found = evidence, verdict
        return found

    def _outage(self, tallies: dict[str, _Tally], onset: float, now: float) -> Verdict | None:
        failing = {key: tally for key, tally in tallies.items() if tally.failing}
        spared = {key: tally for key, tally in tallies.items() if tally.successes}
        if len(failing) < ENDPOINTS_MIN or len(spared) > SPARED_MAX * len(failing):
            return None
        seen = [*failing.values(), *spared.values()]
        failures = sum(tally.failures for tally in seen)
        calls = failures + sum(tally.successes for tally in seen)
        whose = f"{len(seen)} endpoints of {self.name}"
        reason = f"{failures} of {calls} calls to {whose} failed in {now - onset:.0f} s"
        return Verdict(onset, tuple(sorted(failing)), frozenset(spared), reason)

    def _since(self, now: float) -> float:
        """The moment before which no outage can have begun: too many endpoints would have succeeded in it.

        Shape: a bound that costs little, because most failures come alone; the rule itself is in `_outage`.
        """
        since = max(self._told, now - AGE)
        spared = int(SPARED_MAX * len(self._failing))
        good = [recent[-1][0] for recent in self._recent.values() if recent[-1][1]]
        if len(good) <= spared:
            return since
        good.sort(reverse=True)
        return max(since, good[spared])

    def _outcomes(self, since: float, now: float) -> Iterator[_Seen]:
        """Every outcome after that moment, in no order."""
        for endpoint, recent in self._recent.items():
            if recent[-1][0] <= since:
                continue
            # Of one that only failed as far back as is kept, it is not known when that began.
            failing = len(recent) == LAST and not recent[0][1]
            for ended, good in recent:
                if ended > since:
                    yield _Seen(ended, good, endpoint, not failing)
                failing = not good and now - ended < AGE
