"""How likely a call is to fail: what an endpoint is like at this moment, believed from little and noisy evidence.

Theory of operation: an endpoint is at each moment at one of a few hidden levels of success (`LEVELS`), from perfect
to dead. It stays there for about half an hour and then jumps to another, to each as often as it has been seen there
before. That is a hidden Markov model, and its filter is exact and small: an outcome multiplies the belief in each
level by how likely that level makes it; time lets the belief sink back into what is usual for this endpoint. So one
memory is as short as the evidence is clear: two failures move the belief of an endpoint that never fails, and
hardly that of one that fails one call in ten. What is usual is the time spent at each level, remembered for a day.

Where an endpoint has no past, its provider's other endpoints and its model's peers say what is usual: own →
provider → peers, each by the weight of its evidence. The chance of failure is linear in that prior (`base` +
`slope` × prior), so that a model's endpoints need not be looked at again when one of them moves it. A 429 is half
a failed try here.

Why not two exponential memories, or exact windows: over the recorded week, at the same price, this filter loses 7 %
fewer first tries than the best two memories that were found (5–15 minutes on 12 hours–1 day, which all lay within
each other's noise); six levels and stays of 10 to 60 minutes did no better. `balancer simulate` has two memories as
a reference. No average hides an outage here, because each failure weighs as much as it tells.

What this module does not know: why a call failed, and what it costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, floor, inf, log
from typing import Final, NamedTuple

from balancer.core.kept import BeliefKept, span

LEVELS: Final = (0.998, 0.97, 0.88, 0.6, 0.1)
"""The levels of success. Source: the recorded week's shares; six levels gained nothing, four lost a little."""

USUAL: Final = (0.8, 0.12, 0.05, 0.02, 0.01)
"""How often hosted models are at each: together they fail 2.8 % of calls. Source: the same."""

STAY: Final = 1800.0  # s that an endpoint stays at a level on average; 15 to 60 minutes lay within noise, 10 lost
USUAL_WEIGHT: Final = 7200.0  # s of its own past that the usual elsewhere is worth; half an hour to 8 h did alike
USUAL_MEMORY: Final = 86_400.0  # s; an endpoint's habits change within days

UNSEEN_MAX: Final = 600.0
"""Between two outcomes further apart, s, nobody knows where it was.

Source: recorded week, 0.6 requests a minute without probes, 4 and 5 seeds, against two memories: 120 loses 4 of
10,000 more, 600 none or one more at their cost, 900 one fewer at 0.004 more, 1800 three fewer at 0.015 more.
"""

PROVIDER_WEIGHT: Final = 0.2  # of the prior; one provider's endpoints fail together only a little more than others
BOUNDS: Final = (0.001, 0.999)  # never certain, in either direction

# What a 429 says, in failures. The hold and the learned ceiling answer it already: counted whole, a burst of three
# kept a cheap endpoint with a quota away for minutes again and again. Counted at nothing, it lost a twentieth more
# on a recorded day with 429s in it.
REFUSAL: Final = 0.5

# The belief that it is at one of the three lower levels (12 % of calls fail there, or more) which makes an endpoint
# degraded, and which ends it: two thresholds, lest it flap. One failure never makes one of a usual endpoint.
DEGRADED_ENTER: Final = 0.98
DEGRADED_LEAVE: Final = 0.8  # with no news it is reached after some seven minutes
DEGRADED_MAX: Final = 3600.0  # s without news; then nobody knows, not even of one that is usually that bad

# An endpoint whose last call was good, and that is still believed to do so much worse than usual but not that
# badly, may well be back: it is worth looking at.
HOPEFUL: Final = (0.02, 0.5)

TICK: Final = 5.0  # s at the least for which a chance that time moves is taken for constant
DRIFT: Final = (
    0.0005  # of a chance; so little moves nobody, at a price of a failure of 15 no more than 1 % of a price
)

ROW_MAX: Final = 40  # failures in a row that can be taken back; as many are remembered of their witness

_Shares = tuple[float, float, float, float, float]

_STEP: Final = 1.0  # s; outcomes nearer to each other than this are of one moment
_S0, _S1, _S2, _S3, _S4 = LEVELS
_F0, _F1, _F2, _F3, _F4 = [1 - level for level in LEVELS]
_R0, _R1, _R2, _R3, _R4 = [(1 - level) ** REFUSAL for level in LEVELS]
_U0, _U1, _U2, _U3, _U4 = [USUAL_WEIGHT * share for share in USUAL]

FLOOR: Final = sum(share * (1 - level) for share, level in zip(USUAL, LEVELS, strict=True))
"""The chance of failure of an endpoint of which nothing is known, nor of its like."""


class _Before(NamedTuple):
    """What was believed before a failure that `ended` then."""

    ended: float
    hard: bool
    at: float
    levels: _Shares
    failing: float
    bad: float
    degraded: bool
    good: bool
    usual: tuple[_Shares, float, float, float]


class Terms(NamedTuple):
    """The chance of failure is `base` + `slope` × prior."""

    base: float
    slope: float


class Belief:
    """What one endpoint is like. `at` is the moment of the newest outcome, long past where none was seen.

    `own` is how often its calls usually fail: its part in its peers' prior.
    """

    __slots__ = (
        "_bad",
        "_before",
        "_degraded",
        "_failing",
        "_good",
        "_levels",
        "_places",
        "_seen",
        "_usually_bad",
        "at",
        "own",
    )

    def __init__(self) -> None:
        self.at = -inf
        self.own = FLOOR
        self._levels: _Shares = USUAL
        self._places: _Shares = (0.0, 0.0, 0.0, 0.0, 0.0)  # s spent at each level
        self._seen = 0.0  # their sum
        self._failing = FLOOR
        self._bad = self._usually_bad = USUAL[2] + USUAL[3] + USUAL[4]
        self._degraded = False
        self._before: list[_Before] = []  # of each of the last failures in a row
        self._good = False

    # ---- changing ------------------------------------------------------------------------------------

    def record(self, good: bool, ended: float, *, hard: bool = True) -> None:
        """Take one outcome; one that comes late counts as if it came now.

        Shape: a failure that is not `hard` is a 429; it says less, and cannot degrade.
        """
        if not good:
            self._note(ended, hard)
        elif self._before:
            self._before.clear()
        passed = ended - self.at
        if passed >= _STEP:
            self._degraded = self._degraded and self.degraded(ended)  # what time has ended must be entered anew
            self._pass(passed, ended)
        a, b, c, d, e = self._levels
        self._good = good
        if good:
            a, b, c, d, e = a * _S0, b * _S1, c * _S2, d * _S3, e * _S4
        elif hard:
            a, b, c, d, e = a * _F0, b * _F1, c * _F2, d * _F3, e * _F4
        else:
            a, b, c, d, e = a * _R0, b * _R1, c * _R2, d * _R3, e * _R4
        total = a + b + c + d + e
        self._levels = a, b, c, d, e = a / total, b / total, c / total, d / total, e / total
        self._failing = a * _F0 + b * _F1 + c * _F2 + d * _F3 + e * _F4
        self._bad = bad = c + d + e
        if bad < DEGRADED_LEAVE:
            self._degraded = False
        elif bad >= DEGRADED_ENTER and hard and not good:
            self._degraded = True

    def _pass(self, passed: float, now: float) -> None:
        """Let time pass: belief sinks into what is usual, and what was believed meanwhile becomes usual."""
        self.at = now
        a, b, c, d, e = self._levels
        spent = passed if passed < UNSEEN_MAX else UNSEEN_MAX if passed < inf else 0.0
        keep = exp(-passed / USUAL_MEMORY)
        v, w, x, y, z = self._places
        self._places = v, w, x, y, z = (
            v * keep + a * spent,
            w * keep + b * spent,
            x * keep + c * spent,
            y * keep + d * spent,
            z * keep + e * spent,
        )
        self._seen = seen = v + w + x + y + z
        all_seen = seen + USUAL_WEIGHT
        v, w, x, y, z = (
            (v + _U0) / all_seen,
            (w + _U1) / all_seen,
            (x + _U2) / all_seen,
            (y + _U3) / all_seen,
            (z + _U4) / all_seen,
        )
        self.own = v * _F0 + w * _F1 + x * _F2 + y * _F3 + z * _F4
        self._usually_bad = x + y + z
        stays = exp(-passed / STAY)
        goes = 1 - stays
        self._levels = (
            a * stays + v * goes,
            b * stays + w * goes,
            c * stays + x * goes,
            d * stays + y * goes,
            e * stays + z * goes,
        )

    def _note(self, ended: float, hard: bool) -> None:
        usual = self._places, self._seen, self._usually_bad, self.own
        note = _Before(
            ended, hard, self.at, self._levels, self._failing, self._bad, self._degraded, self._good, usual
        )
        self._before.append(note)
        if len(self._before) > ROW_MAX:
            del self._before[0]

    def forgive(self, failures: Sequence[float]) -> None:
        """Take back the failures that ended at these moments, whose witness is in doubt; those of others stay.

        Shape: where no success has come since the first of them, it believes what it would without them. Else it
        believes what is usual and what failed since that success: a filter cannot be run backwards.
        """
        doubted, row = Counter(failures), self._before
        if doubted <= Counter([each.ended for each in row]):
            first = next((place for place, each in enumerate(row) if each.ended in doubted), len(row))
            self._before, row = row[:first], row[first:]
            if row:
                before = row[0]
                self.at, self._levels = before.at, before.levels
                self._failing, self._bad, self._degraded = before.failing, before.bad, before.degraded
                self._good = before.good
                self._places, self._seen, self._usually_bad, self.own = before.usual
        else:
            self._before = []
            places = zip(self._places, (_U0, _U1, _U2, _U3, _U4), strict=True)
            a, b, c, d, e = [(place + start) / (self._seen + USUAL_WEIGHT) for place, start in places]
            self._levels, self._failing, self._bad = (a, b, c, d, e), self.own, self._usually_bad
            self._degraded = False
            if row:
                self.record(True, row[0].at)  # the success that began the row
        for each in row:
            if doubted[each.ended] > 0:
                doubted[each.ended] -= 1
            else:
                self.record(False, each.ended, hard=each.hard)

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def seen(self) -> bool:
        """Whether there was any outcome."""
        return self.at > -inf

    @property
    def hopeful(self) -> bool:
        """Whether it may well be back, though it is not yet believed."""
        worse, worst = HOPEFUL
        return self._good and self.own + worse < self._failing < worst

    def terms(self, now: float) -> Terms:
        """What it says of the chance of failure at `now`."""
        passed = now - self.at
        if passed <= 0:
            return Terms(self._failing, 0.0)
        stays, keep = exp(-passed / STAY), exp(-passed / USUAL_MEMORY)
        left = self._seen * keep + USUAL_WEIGHT
        # `own` leans on the usual elsewhere; take that out again, for here the true prior takes its place.
        alone = (self.own * (self._seen + USUAL_WEIGHT) - FLOOR * USUAL_WEIGHT) * keep / left
        return Terms(self._failing * stays + alone * (1 - stays), USUAL_WEIGHT / left * (1 - stays))

    def slice(self, now: float) -> tuple[float, float]:
        """The moment whose `terms` stand for those of `now`, for little changes since, and when the next begins.

        Shape: slices count from the newest outcome, so that it does not matter who asked between.
        """
        at = self.at
        if at == -inf:
            return now, inf
        ahead = abs(self._failing - self.own)
        width = max(TICK, STAY * DRIFT / ahead) if ahead > DRIFT else STAY
        number = floor((now - at) / width) if now > at else 0
        return at + number * width, at + (number + 1) * width

    def degraded(self, now: float) -> bool:
        """Whether it surely fails far more than is normal; ends with good news, or when the news is old."""
        if not self._degraded:
            return False
        passed = now - self.at
        if passed >= DEGRADED_MAX:
            return False
        stays = exp(-passed / STAY) if passed > 0 else 1.0
        return self._usually_bad + (self._bad - self._usually_bad) * stays >= DEGRADED_LEAVE

    @property
    def degraded_until(self) -> float:
        """When time alone will end that it is degraded."""
        if self._usually_bad >= DEGRADED_LEAVE:
            return self.at + DEGRADED_MAX
        ends = STAY * log((self._bad - self._usually_bad) / (DEGRADED_LEAVE - self._usually_bad))
        return self.at + min(ends, DEGRADED_MAX)

    # ---- a restart -----------------------------------------------------------------------------------

    def dump(self, now: float) -> BeliefKept | None:
        """What is to be kept; nothing where nothing was seen."""
        if self.at == -inf:
            return None
        return BeliefKept(
            age=span(now - self.at),
            good=self._good,
            levels=self._levels,
            places=self._places,
            degraded=self._degraded,
        )

    def restore(self, kept: BeliefKept, *, then: float) -> None:
        """Take back what was told at `then`, unless something was seen since: that is newer, and all stays."""
        if self.at > -inf:
            return
        total = sum(kept.levels)
        if total <= 0:
            return
        a, b, c, d, e = kept.levels
        self._levels = a / total, b / total, c / total, d / total, e / total
        self._places = kept.places
        self.at = then - kept.age
        self._pass(0.0, self.at)
        self._failing = sum(share * (1 - level) for share, level in zip(self._levels, LEVELS, strict=True))
        self._bad = sum(self._levels[2:])
        self._degraded, self._good = kept.degraded, kept.good


def failure_probability(base: float, slope: float, prior: float) -> float:
    """The chance that the next call fails, 0.001..0.999: what `terms` found, for the prior of its like."""
    chance = base + slope * prior
    return BOUNDS[0] if chance < BOUNDS[0] else min(chance, BOUNDS[1])


def peers_prior(own: Sequence[float]) -> float:
    """What a model's endpoints are like: the median of their `own`, so that one dead host does not darken the rest.

    Shape: `own` ascends.
    """
    if not own:
        return FLOOR
    middle = len(own) // 2
    return own[middle] if len(own) % 2 else (own[middle - 1] + own[middle]) / 2
