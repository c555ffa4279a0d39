"""How likely a call is to fail: a short alarm on a long prior.

Theory of operation: few requests an endpoint and heavy noise are normal, so a bare ratio is never believed.
The chance of failure is shrunk step by step: the model's peers (the median of their long windows) are the prior
of the endpoint's own longest window, which is the prior of its recent minutes. The shortest window may only
raise the result, and only by what its Wilson lower bound shows: that is the alarm. A 429 is a failed try here.

Why two memories and not four: in the recorded-outage simulation memories between 2 and 10 minutes and priors
between 6 hours and 3 days lay within each other's noise, while counting the same failure in every window of a
ladder overstates it.

What this module does not know: why a call failed, and what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from balancer.core.health import wilson
from balancer.core.window import Counts

FLOOR: Final = 0.02  # the normal error share of hosted models is 1-3 %
WEIGHT: Final = 10.0  # outcomes that the day's share is worth against the last minutes
# Outcomes that the peers are worth against the endpoint's own day. Five times more than the step above: with 10,
# one early failure kept a cheaper endpoint without traffic for a day in simulation, and with no traffic it could
# never show better.
PEERS_WEIGHT: Final = 50.0
ALARM_Z: Final = 1.64  # 95 % one-sided; it only moves a score, so it may be bolder than an ejection
BOUNDS: Final = (0.001, 0.999)  # never certain, in either direction


def shrink(counts: Counts, prior: float, weight: float = WEIGHT) -> float:
    """The failure share of `counts` pulled towards `prior`, which is worth `weight` outcomes."""
    failed = counts.failure + counts.rate_limited
    return (failed + weight * prior) / (counts.tries + weight)


def peers_prior(long: Sequence[Counts]) -> float:
    """What a model's endpoints are like: the median, so that one dead host does not darken the rest."""
    return median(shrink(counts, FLOOR) for counts in long) if long else FLOOR


def failure_probability(*, long: Counts, memory: Counts, alarm: Counts, prior: float, outcomes_min: int) -> float:
    """The chance that the next call fails, 0.001..0.999.

    Shape: `long`, `memory` and `alarm` are counts of the longest, second and shortest window.
    """
    chance = shrink(memory, shrink(long, prior, PEERS_WEIGHT))
    if alarm.tries >= outcomes_min:
        lower, _ = wilson(alarm.failure + alarm.rate_limited, alarm.tries, ALARM_Z)
        chance = max(chance, lower)
    return min(max(chance, BOUNDS[0]), BOUNDS[1])
