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
from typing import Final

from balancer.core.health import wilson

FLOOR: Final = 0.02  # the normal error share of hosted models is 1-3 %
WEIGHT: Final = 10.0  # outcomes that the day's share is worth against the last minutes
# Outcomes that the peers are worth against the endpoint's own day. Five times more than the step above: with 10,
# one early failure kept a cheaper endpoint without traffic for a day in simulation, and with no traffic it could
# never show better.
PEERS_WEIGHT: Final = 50.0
ALARM_Z: Final = 1.64  # 95 % one-sided; it only moves a score, so it may be bolder than an ejection
BOUNDS: Final = (0.001, 0.999)  # never certain, in either direction


def peers_prior(own: Sequence[float]) -> float:
    """What a model's endpoints are like: the median of their `own`, so that one dead host does not darken the rest.

    Shape: `own` ascends.
    """
    if not own:
        return FLOOR
    middle = len(own) // 2
    return own[middle] if len(own) % 2 else (own[middle - 1] + own[middle]) / 2


def terms(
    long: Sequence[int], memory: Sequence[int], alarm: Sequence[int], outcomes_min: int
) -> tuple[float, float, float, float]:
    """What an endpoint's own counts say: successes, failures and 429s of the longest, second and shortest window.

    Shape: `base`, `slope`, `alarm`, `own`: the chance of failure is `base` + `slope` × prior and at least `alarm`,
    `own` is the endpoint's own long share, its part in the peers' prior. The two shrinkings are linear in the
    prior, so that a model's endpoints need not be counted again when one of them moves it.
    """
    succeeded, failed, limited = long
    failed += limited
    tries = succeeded + failed
    succeeded, lately, limited = memory
    lately += limited
    recent = succeeded + lately + WEIGHT
    peers = WEIGHT / recent / (tries + PEERS_WEIGHT)
    own = (failed + WEIGHT * FLOOR) / (tries + WEIGHT)
    base = lately / recent + peers * failed
    lower = BOUNDS[0]
    if alarm[1] or alarm[2]:
        now = alarm[1] + alarm[2]
        seen = alarm[0] + now
        if seen >= outcomes_min and now > base * seen:  # the bound is below the share: else it says nothing new
            lower = max(lower, wilson(now, seen, ALARM_Z)[0])
    return base, peers * PEERS_WEIGHT, lower, own


def failure_probability(base: float, slope: float, alarm: float, prior: float) -> float:
    """The chance that the next call fails, 0.001..0.999: what `terms` found, for the peers' prior."""
    chance = base + slope * prior
    if chance < alarm:
        chance = alarm
    return min(chance, BOUNDS[1])
