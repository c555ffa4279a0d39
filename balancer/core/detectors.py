"""The detectors that look beyond one endpoint's own outcomes: at its provider's others, and at what is under way.

Theory of operation: what endpoints of one fate do is pooled (`provider_health`), so that a provider's outage is
seen after a few calls to any of them; all that did not succeed since its onset are ejected, and the hold of those
that were not asked since does not grow for it. What is usual for some of them says something of the others (`Kin`).
Requests that do not come back tell long before their timeouts: where the proxies do
report, several in a row that are older than nearly any answer was eject the endpoint to which they went.

What this module does not know: an endpoint's own outcomes (`recent`) and how slow its answers are (`slow`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

from balancer.core.doubt import Doubt
from balancer.core.fates import Kin
from balancer.core.model import HealthPolicy
from balancer.core.outcome import COUNTS, Outcome
from balancer.core.phases import Change
from balancer.core.pool import FLIGHT_LONGEST
from balancer.core.provider_health import ProviderHealth
from balancer.core.row import Row

P99: Final = 3  # its place among the percentiles
LATENCIES_MIN: Final = 20  # below it a p99 is only the largest value seen

Changed = tuple[Row, list[Change]]


class Detectors:
    """The memory of one table's providers, and when it last heard of any endpoint."""

    def __init__(self) -> None:
        self._providers: dict[str, ProviderHealth] = {}
        self._of: dict[str, ProviderHealth] = {}
        self._rows: dict[str, list[Row]] = {}
        self._kin: dict[str, Kin] = {}
        self._heard: tuple[str, float] = ("", -inf)
        self._heard_else: tuple[str, float] = ("", -inf)

    def apply(self, fates: Mapping[str, int], rows: Mapping[str, Row]) -> None:
        """Follow a configuration: a provider is known by the name of the first of its endpoints' providers."""
        together: dict[int, list[Row]] = {}
        for key, row in rows.items():
            together.setdefault(fates[key], []).append(row)
        before, self._providers = self._providers, {}
        self._of, self._rows, self._kin = {}, {}, {}
        for those in together.values():
            name = those[0].endpoint.provider
            if len(those) == 1:
                if those[0].kin is not None:  # the others were removed
                    those[0].kin = None
                    those[0].touch()
                continue
            pooled = self._providers[name] = before.get(name, ProviderHealth(name))
            pooled.retain([row.endpoint.id for row in those])
            kin = Kin(those)
            for row in those:
                key = row.endpoint.id
                self._of[key], self._rows[key], self._kin[key] = pooled, those, kin

    def recorded(
        self, row: Row, outcome: Outcome, *, fresh: bool, ended: float, now: float, policy: HealthPolicy
    ) -> list[Changed]:
        """Take an outcome; tell which endpoints of its provider are ejected for it.

        Shape: a failure that is not `fresh` began before the endpoint's last change of phase, and decides nothing.
        """
        key, counts = row.endpoint.id, COUNTS[outcome.kind]
        self.believed(row)
        pooled = self._of.get(key)
        if pooled is None or outcome.shallow or counts not in ("success", "failure") or outcome.kind == "refused":
            return []
        if counts == "success" or fresh:
            pooled.record(key, counts == "success", ended)
        if counts == "success" or not fresh:
            return []
        verdict = pooled.verdict(now)
        if verdict is None:
            return []
        pooled.forget(now)  # one outage is told once
        changed: list[Changed] = []
        for other in self._rows[key]:
            name = other.endpoint.id
            if verdict.condemns(name):
                grows = name in verdict.failed
                changed.append((other, other.eject("provider_failure", verdict.reason, now, policy, grows=grows)))
        return changed

    def believed(self, row: Row) -> None:
        """Take note that what is believed of a row has moved, whatever moved it: those of its fate lean on it."""
        kin = self._kin.get(row.endpoint.id)
        if kin is not None:
            kin.take(row)

    def take_back(self, endpoint: str, *, ended: float) -> None:
        """Forget a failure whose witness is in doubt."""
        pooled = self._of.get(endpoint)
        if pooled is not None:
            pooled.take_back(endpoint, ended=ended)

    def reported(self, row: Row, now: float) -> None:
        """Take note that a request's end was told."""
        key = row.endpoint.id
        if self._heard[0] != key:
            self._heard_else = self._heard
        self._heard = key, now

    def sent(self, row: Row, now: float, policy: HealthPolicy, *, doubt: Doubt) -> list[Change]:
        """A request was sent there; tell whether those before it hang, and nobody's own network may be why."""
        longest = min(FLIGHT_LONGEST, now - row.health.since)  # what began before the last change decides nothing
        if row.flight.count(now, longest=longest) <= policy.consecutive_failures:
            return []
        times = row.speed.percentiles("latency", now)
        if times is None or row.speed.latency.samples(now) < LATENCIES_MIN:
            return []
        # Nobody else was heard of meanwhile: then it may be the proxy that is silent.
        _, heard = self._heard_else if self._heard[0] == row.endpoint.id else self._heard
        if now - heard > times[P99]:
            return []
        hanging = row.flight.hanging(now, than=times[P99], longest=longest)
        if hanging is None or doubt.blind(now):
            return []
        reason = f"{hanging} requests in a row are under way for more than {times[P99]:.1f} s, its p99"
        return row.eject("overdue", reason, now, policy)
