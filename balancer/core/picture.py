"""What a decision goes by: one row at a moment, in a handful of figures.

Theory of operation: a `Picture` is a pure function of a row and `now`, with the moment until which time alone will
change little of it: old news grow older, a hold ends, a lease expires, a drain is over. So a model's pool looks
again only at rows that were changed, and at those whose picture has become old. A row that is not `enforced` is
only watched: it has all of its states, and its picture shows what would be without any.

What this module does not know: other rows. Ranking and peers are the pool's.
"""

from __future__ import annotations

from math import floor
from typing import Final, NamedTuple

from balancer.core.estimate import FLOOR, PROVIDER_WEIGHT
from balancer.core.model import HealthPolicy, State
from balancer.core.row import PROBES_FIRST, Row
from balancer.core.window import BUCKETS

OUTAGE_FAILURES: Final = 2  # in the shortest window; one failure is no outage, and `Row` remembers as many


class Picture(NamedTuple):
    """What a decision goes by, good from now to `until` if nothing is recorded.

    `base` and `slope` make the chance of failure of the prior of its like, `own` is its part in that prior;
    `tier` is 0 stable, 1 degraded, 2 an outage in the shortest window; `stale`: nothing was seen of it lately, by
    reports or by probes that do real work, or the last was good after many that were not.
    """

    state: State
    degraded: bool
    base: float
    slope: float
    own: float
    tier: int
    stale: bool
    until: float


def picture(row: Row, now: float, policy: HealthPolicy) -> Picture:
    """Look at a row."""
    health, belief = row.health, row.belief
    moment, until = belief.slice(now)
    base, slope = belief.terms(moment)
    if row.kin is not None:
        base += slope * PROVIDER_WEIGHT * row.kin
        slope *= 1 - PROVIDER_WEIGHT
    if row.hits.seen:  # with the rate of cache hits goes the price
        until = min(until, row.hits.changes_at(now))
    stale = now - belief.at >= policy.windows[1]
    if not stale:
        until = min(until, belief.at + policy.windows[1])
        if belief.hopeful and row.enforced:
            stale = now - row.probed_at >= PROBES_FIRST  # until then a probe will find out, and no request
            until = until if stale else min(until, row.probed_at + PROBES_FIRST)
    tier = 0
    if now - row.failed_before < policy.windows[0]:
        counts = row.evidence(0, now)
        width = policy.windows[0] / BUCKETS
        until = min(until, row.failed_before + policy.windows[0], (floor(now / width) + 1) * width)
        if counts.failure >= OUTAGE_FAILURES and counts.failure >= policy.error_ratio * counts.outcomes:
            tier = 2
    if not row.enforced:
        return _watched(row, now, stale, until)
    degraded = belief.degraded(now)
    if degraded:
        until = min(until, belief.degraded_until)
    if row.announced is not None:
        until = min(until, row.announced.changes_at(belief.at, now))
        if row.announced.counts(belief.at, now):
            degraded = True
            base, slope = row.announced.risen(base, slope)
    if degraded:
        tier = max(tier, 1)
    if row.plain(now):
        state: State = "degraded" if degraded else "healthy" if row.verified else "unverified"
        return Picture._make((state, degraded, base, slope, belief.own, tier, stale, until))
    ends = [row.throttle.until, *[drain.until for drain in row.drains if drain.until is not None]]
    if health.lease is not None:
        ends.append(health.lease.expires)
    until = min([until, *[end for end in ends if end > now]])
    return Picture(row.states(now)[0], degraded, base, slope, belief.own, tier, stale, until)


def _watched(row: Row, now: float, stale: bool, until: float) -> Picture:
    """What decisions go by where health only watches: the operator's word, and whether it can be called."""
    state: State = "healthy" if row.verified else "unverified"
    if row.endpoint.misconfigured is not None:
        state = "misconfigured"
    drain = row.drained(now)
    if drain is not None:
        state = "drained"
    ends = [each.until for each in row.drains if each.until is not None and each.until > now]
    return Picture(state, False, FLOOR, 0.0, row.belief.own, 0, stale, min([until, *ends]))
