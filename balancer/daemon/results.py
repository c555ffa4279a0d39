"""What probes and lookouts found → the table, the metrics and the log.

Theory of operation: a result of an endpoint is recorded as any outcome is; how long it took is left out where our
own event loop stood still meanwhile. Lookouts are no endpoints: a status page announces, and a check of our own
reach says whether we are online. Whatever a reload has removed while its probe was under way is dropped.

What this module does not know: when anything is probed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import structs

from balancer.config import Config
from balancer.core.balancer import Balancer
from balancer.core.model import Endpoint
from balancer.core.outcome import COUNTS
from balancer.daemon.disk import Disk
from balancer.daemon.pulse import Pulse
from balancer.daemon.repeats import Repeats
from balancer.metrics import Metrics
from balancer.probing import ProbeResult
from balancer.service import clock
from balancer.service.log import Log

READINGS: Final = 5  # of a status page that may fail before nobody knows what it says


class Results:
    """Takes every result of both schedules. `config` is the one in force."""

    def __init__(
        self,
        balancer: Balancer,
        *,
        config: Callable[[], Config],
        pulse: Pulse,
        metrics: Metrics,
        disk: Disk,
        changed: Callable[[], None],
        log: Log,
    ) -> None:
        self._balancer = balancer
        self._config = config
        self._pulse = pulse
        self._metrics = metrics
        self._disk = disk
        self._changed = changed
        self._log = log
        self._repeats = Repeats()

    def follow(self) -> None:
        """Know that another configuration is in force."""
        self._repeats.clear()

    def probed(self, result: ProbeResult) -> None:
        """Take a result of an endpoint."""
        now = clock.monotonic()
        endpoint = self._config().endpoints.get(result.endpoint)
        if endpoint is None:
            return
        self._pulse.notice_stall(now)  # the ticker wakes at the same moment, and perhaps later
        outcome = result.outcome
        if result.began < self._pulse.stalled:  # it worked, and how long it took is our own time
            outcome = structs.replace(outcome, latency=None, ttft=None)
        self._balancer.record(
            result.endpoint,
            outcome,
            now=now,
            source="probe",
            age=max(0.0, now - result.ended),
            duration=result.ended - result.began,
        )
        ended = clock.wall() - (now - result.ended)
        self._disk.outcome(result.endpoint, outcome, source="probe", ended=ended, cost=result.cost)
        self._metrics.probed(endpoint.provider, result.phases, result.cost)
        self._metrics.certificate(endpoint.id, result.certificate_expires)
        self._tell(result, endpoint, now)
        self._changed()

    def looked_out(self, result: ProbeResult) -> None:
        """Take a result of a lookout."""
        now = clock.monotonic()
        lookout = self._config().lookouts.get(result.endpoint)
        if lookout is None:
            return
        self._pulse.notice_stall(now)
        kind, place = result.outcome.kind, lookout.endpoint
        if result.kind == "self" and kind != "probe_invalid":  # which is no word about the network
            fault = None if kind == "success" else kind
            self._balancer.reached(result.endpoint, fault, began=result.began, now=now)
        if result.announced is not None:
            level, detail = result.announced
            lasting = lookout.settings.interval * READINGS
            self._balancer.announce(place.provider, level, detail=detail, now=now, lasting=lasting)
        self._metrics.looked_out(result.endpoint, good=kind == "success")
        whose = {"provider": place.provider} if lookout.settings.kind == "status_page" else {}
        facts = {"lookout": result.endpoint, **whose, "outcome": kind, "status": result.outcome.status}
        if result.bug is not None or kind != "success":
            self._complain("lookout.failed", result, facts, warns=kind == "probe_invalid", now=now)
        self._changed()

    def _tell(self, result: ProbeResult, endpoint: Endpoint, now: float) -> None:
        outcome = result.outcome
        facts = {
            "endpoint": result.endpoint,
            "model": endpoint.model,
            "provider": endpoint.provider,  # so that a provider's lines are found by its name
            "outcome": outcome.kind,
            "status": outcome.status,
        }
        if outcome.kind == "probe_invalid":
            self._complain("probe.rejected", result, facts, warns=True, now=now)
        elif result.bug is not None or COUNTS[outcome.kind] == "failure" or outcome.kind == "local":
            self._complain("probe.failed", result, facts, warns=False, now=now)

    def _complain(
        self, event: str, result: ProbeResult, facts: Mapping[str, Any], *, warns: bool, now: float
    ) -> None:
        """Write a line, unless the same was written lately; a bug of ours is one whatever it was to be."""
        outcome = result.outcome
        if result.bug is not None:
            event = "probe.crashed"
        # Of each event apart: what a provider says must not hide that a recipe is wrong, or that we are.
        place, kind = (result.endpoint, event), (outcome.kind, outcome.status, outcome.detail, result.bug)
        left_out = self._repeats.count(place, kind, now=now)
        if left_out is None:
            return
        more = {"left_out": left_out} if left_out else {}
        if result.bug is not None:
            self._log.error(event, **facts, **more, traceback=result.bug)
            return
        write = self._log.warning if warns else self._log.info
        write(event, **facts, detail=outcome.detail, **more)
