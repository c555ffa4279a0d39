"""What the rims measured, and the one door to all metrics.

Theory of operation: what the rims tell is kept here as plain numbers, every series made before its first event.
Facts of the table are not counted here: a scrape takes one view and writes it down. A gauge that nobody has set
has no sample. The `process_*` family is prometheus_client's, read at each scrape.

A probe may end after a reload removed its provider; what it measured is dropped, lest it bring a removed series
back.

What this module does not know: the clock, HTTP, and the table beyond its view. It is not thread-safe, as the
table is not: `render` and `rendered` are called in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from platform import python_version
from typing import Final, Literal, get_args

from prometheus_client import ProcessCollector

from balancer.core.view import TableView
from balancer.metrics.histogram import Histogram
from balancer.metrics.table import reporter_families, table_families
from balancer.metrics.text import OPENMETRICS, TEXT, Family, collected, exposition, line, wants_openmetrics
from balancer.metrics.traffic import traffic_families

PHASES: Final = ("resolve", "connect", "tls", "request", "first_byte", "first_token", "transfer")
"""What a probe spends its time on: the closed set behind the label `phase`."""

REPORT_RESULTS: Final = ("recorded", "duplicate", "stale", "rejected")
"""What became of a report: the closed set behind the label `result`."""

# A decision takes 20-200 µs; 100 ms is a loop that was blocked.
_DECISION_BUCKETS: Final = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 1e-1)
# From a loopback connect to the default timeout of a whole probe (10 s); few, as each is five lines a provider.
_PROBE_BUCKETS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Of a healthy loop milliseconds; beyond 5 s a turn is not taken at all.
_LATE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)

Store = Literal["state", "history"]
"""What is kept on disk: the closed set behind the label `store`."""

LeftOut = Literal["late", "busy", "fresh", "budget"]
"""Why a turn was not used for the probe that it was for: the closed set behind the label `reason`."""

_GAUGES: Final[Mapping[str, str]] = {
    "balancer_event_loop_lag_seconds": "How late the event loop ran a timer, measured last.",
    "balancer_store_saved_timestamp_seconds": "When the state that a restart takes back was saved, in Unix time.",
    "balancer_store_save_interval_seconds": "How often that state is to be saved.",
    "balancer_probes_in_flight": "Probes that run now.",
    "balancer_probe_stretch_ratio": "What all probe intervals are multiplied with, as we are overloaded.",
    "balancer_tls_certificate_expiry_timestamp_seconds": "When our own certificate ends, in Unix time.",
    "balancer_config_last_reload_successful": "1 if the newest configuration was taken, 0 if it was refused.",
    "balancer_config_last_reload_success_timestamp_seconds": "When a configuration was last taken, in Unix time.",
}


class Metrics:
    """All metrics of one daemon. Units: seconds, USD."""

    def __init__(self, *, view: Callable[[], TableView], version: str) -> None:
        self._view = view
        self._build = line("balancer_build_info", {"version": version, "python": python_version()}, 1)
        self._process = ProcessCollector(registry=None)
        self._decisions = Histogram("balancer_decision_duration_seconds", {}, _DECISION_BUCKETS)
        self._late = Histogram("balancer_probe_lateness_seconds", {}, _LATE_BUCKETS)
        self._reports = dict.fromkeys(REPORT_RESULTS, 0)
        self._phases: dict[str, dict[str, Histogram]] = {}
        self._costs: dict[str, float] = {}
        self._certificates: dict[str, float] = {}
        self._gauges: dict[str, float] = {}
        self._left_out: dict[LeftOut, int] = dict.fromkeys(get_args(LeftOut), 0)
        self._spent: dict[str, tuple[int, float]] = {}
        self._limits: dict[str, tuple[int, float]] = {}
        self._reporters: tuple[str, ...] = ()
        self._lookouts: dict[str, bool | None] = {}
        self._traffic: list[Family] = []
        self._log_dropped = 0
        self._store_errors: dict[Store, int] = dict.fromkeys(get_args(Store), 0)
        self._store_dropped = 0

    # ---- counting ------------------------------------------------------------------------------------

    def probe_started(self, late: float) -> None:
        """Count one probe that began, so many seconds after its turn had come."""
        self._late.observe(late)

    def probed(self, provider: str, phases: Mapping[str, float], cost: float | None) -> None:
        """Count one finished probe: seconds by phase, and its price in USD (`None`: unknown or free)."""
        known = self._phases.get(provider)
        if known is None:
            return
        for phase, duration in phases.items():
            assert phase in known, f"{phase} is no phase of a probe; use {', '.join(PHASES)}"
            known[phase].observe(duration)
        if cost is not None:
            self._costs[provider] += cost

    def decided(self, duration: float) -> None:
        """Count how long one decision or refusal took."""
        self._decisions.observe(duration)

    def reported(self, result: str, count: int) -> None:
        """Count reports with one result out of `REPORT_RESULTS`."""
        assert result in self._reports, f"{result} is no result of a report; use {', '.join(REPORT_RESULTS)}"
        self._reports[result] += count

    # ---- setting -------------------------------------------------------------------------------------

    def certificate(self, endpoint: str, expires: float | None) -> None:
        """Show until when the certificate that a probe met is good, in Unix time; `None` changes nothing."""
        if expires is not None:
            self._certificates[endpoint] = expires

    def own_certificate(self, expires: float) -> None:
        """Show until when the certificate of our own TLS is good. Units: Unix seconds."""
        self._gauges["balancer_tls_certificate_expiry_timestamp_seconds"] = expires

    def lag(self, seconds: float) -> None:
        """Show how late the event loop is."""
        self._gauges["balancer_event_loop_lag_seconds"] = seconds

    def log_dropped(self, total: int) -> None:
        """Show how many log events were lost since the daemon began."""
        self._log_dropped = total

    def scheduler(
        self,
        *,
        in_flight: int,
        stretch: float,
        left_out: Mapping[LeftOut, int],
        spent: Mapping[str, tuple[int, float]],
        limits: Mapping[str, tuple[int, float]],
    ) -> None:
        """Show what the probe scheduler is doing: turns left out by reason, and by provider what it paid for today.

        Shape: `left_out` by `LeftOut`; `spent` and its `limits` are a number of requests, and USD.
        """
        self._gauges["balancer_probes_in_flight"] = in_flight
        self._gauges["balancer_probe_stretch_ratio"] = stretch
        self._left_out.update(left_out)
        self._spent = dict(spent)
        self._limits = dict(limits)

    def http(
        self,
        *,
        connections: int,
        evicted: int,
        timeouts: Mapping[str, int],
        unauthorized: Mapping[str, int],
        body_bytes: int,
        bodies_refused: int,
    ) -> None:
        """Show what has come in at the API so far."""
        self._traffic = traffic_families(
            connections=connections,
            evicted=evicted,
            timeouts=timeouts,
            unauthorized=unauthorized,
            body_bytes=body_bytes,
            bodies_refused=bodies_refused,
        )

    def reloaded(self, *, successful: bool, wall: float) -> None:
        """Show how the newest configuration fared, the one at start included. Units: `wall` in Unix seconds."""
        self._gauges["balancer_config_last_reload_successful"] = int(successful)
        if successful:
            self._gauges["balancer_config_last_reload_success_timestamp_seconds"] = wall

    def providers(self, keys: Iterable[str]) -> None:
        """Make the series of new providers, and forget those of removed ones."""
        wanted = dict.fromkeys(keys)
        for key in self._phases.keys() - wanted.keys():
            del self._phases[key], self._costs[key]
        for key in wanted:
            if key not in self._phases:
                self._costs[key] = 0.0
                self._phases[key] = {
                    phase: Histogram(
                        "balancer_probe_duration_seconds", {"provider": key, "phase": phase}, _PROBE_BUCKETS
                    )
                    for phase in PHASES
                }

    def encrypted(self, keys: Iterable[str]) -> None:
        """Keep the certificates of these endpoints, and of no others."""
        wanted = frozenset(keys)
        self._certificates = {key: at for key, at in self._certificates.items() if key in wanted}

    def lookouts(self, keys: Iterable[str]) -> None:
        """Show these lookouts and no others."""
        self._lookouts = {key: self._lookouts.get(key) for key in keys}

    def looked_out(self, key: str, *, good: bool) -> None:
        """Note how the last probe of a lookout ended."""
        if key in self._lookouts:
            self._lookouts[key] = good

    def stored(
        self, *, errors: Mapping[Store, int], dropped: int, saved: float | None, interval: float | None
    ) -> None:
        """Show how keeping things on disk fares; what is dropped is history.

        Units: `saved` in Unix seconds; `None`: never yet. `interval` between two saves; `None`: no state is kept.
        """
        self._store_errors.update(errors)
        self._store_dropped = dropped
        if saved is not None:
            self._gauges["balancer_store_saved_timestamp_seconds"] = saved
        if interval is not None:
            self._gauges["balancer_store_save_interval_seconds"] = interval

    def reporters(self, names: Iterable[str]) -> None:
        """Show these reporters and no others."""
        self._reporters = tuple(names)

    # ---- reading -------------------------------------------------------------------------------------

    def render(self, accept: str) -> tuple[bytes, str]:
        """Write down everything in the format that an `Accept` header asks for; return the body and its type."""
        openmetrics = wants_openmetrics(accept)
        return exposition(self._families(), openmetrics=openmetrics), OPENMETRICS if openmetrics else TEXT

    async def rendered(self, accept: str) -> tuple[bytes, str]:
        """The same, in a turn of the event loop for each family, so that decisions need not wait for all of it.

        Shape: of one view; what the rims count meanwhile is in it or not, family by family.
        """
        openmetrics = wants_openmetrics(accept)
        families: list[Family] = []
        for family in self._families():
            families.append(family)
            await asyncio.sleep(0)
        return exposition(families, openmetrics=openmetrics), OPENMETRICS if openmetrics else TEXT

    def _families(self) -> Iterator[Family]:
        view = self._view()
        yield from table_families(view)
        yield from reporter_families(view, self._reporters)
        yield from self._own()
        yield from map(collected, self._process.collect())

    def _own(self) -> list[Family]:
        durations = [series for phases in self._phases.values() for series in phases.values()]
        return [
            Family(
                name="balancer_build",
                kind="info",
                help="Which balancer this is, and the Python it runs on.",
                lines=[self._build],
            ),
            Family(
                name="balancer_decision_duration_seconds",
                kind="histogram",
                help="Time that the table took to answer one question, explained ones and HEAD included.",
                lines=self._decisions.lines(),
            ),
            Family(
                name="balancer_reports",
                kind="counter",
                help="Reports that came in, by what became of them.",
                lines=[line("balancer_reports_total", {"result": key}, n) for key, n in self._reports.items()],
            ),
            Family(
                name="balancer_probe_duration_seconds",
                kind="histogram",
                help="Time that probes spent in each of their phases; a phase that did not happen is not counted.",
                lines=[text for series in durations for text in series.lines()],
            ),
            Family(
                name="balancer_probe_lateness_seconds",
                kind="histogram",
                help="How long after its due time each probe began.",
                lines=self._late.lines(),
            ),
            Family(
                name="balancer_probe_cost_usd",
                kind="counter",
                help="What paid probes cost by the configured prices.",
                lines=[
                    line("balancer_probe_cost_usd_total", {"provider": key}, usd)
                    for key, usd in self._costs.items()
                ],
            ),
            Family(
                name="balancer_probe_turns_left_out",
                kind="counter",
                help="Turns that were not used: late, busy provider; paid probes: fresh evidence, budget.",
                lines=[
                    line("balancer_probe_turns_left_out_total", {"reason": key}, n)
                    for key, n in self._left_out.items()
                ],
            ),
            Family(
                name="balancer_probe_budget_used_requests",
                kind="gauge",
                help="Paid probes of the present UTC day.",
                lines=[
                    line("balancer_probe_budget_used_requests", {"provider": key}, requests)
                    for key, (requests, _) in self._spent.items()
                ],
            ),
            Family(
                name="balancer_probe_budget_used_usd",
                kind="gauge",
                help="What they cost by the configured prices.",
                lines=[
                    line("balancer_probe_budget_used_usd", {"provider": key}, usd)
                    for key, (_, usd) in self._spent.items()
                ],
            ),
            Family(
                name="balancer_probe_budget_limit_requests",
                kind="gauge",
                help="How many paid probes there may be in a UTC day.",
                lines=[
                    line("balancer_probe_budget_limit_requests", {"provider": key}, requests)
                    for key, (requests, _) in self._limits.items()
                ],
            ),
            Family(
                name="balancer_probe_budget_limit_usd",
                kind="gauge",
                help="What they may cost together.",
                lines=[
                    line("balancer_probe_budget_limit_usd", {"provider": key}, usd)
                    for key, (_, usd) in self._limits.items()
                ],
            ),
            Family(
                name="balancer_probe_certificate_expiry_timestamp_seconds",
                kind="gauge",
                help="When the certificate that the last TLS connection of a probe met ends, in Unix time.",
                lines=[
                    line("balancer_probe_certificate_expiry_timestamp_seconds", {"endpoint": key}, expires)
                    for key, expires in self._certificates.items()
                ],
            ),
            Family(
                name="balancer_store_dropped",
                kind="counter",
                help="Outcomes and transitions that were never written, after long trouble with the disk.",
                lines=[line("balancer_store_dropped_total", {"store": "history"}, self._store_dropped)],
            ),
            Family(
                name="balancer_lookout_success",
                kind="gauge",
                help="1 if the last probe of a status page or of our own reach was good; at first no sample.",
                lines=[
                    line("balancer_lookout_success", {"lookout": key}, int(good))
                    for key, good in self._lookouts.items()
                    if good is not None
                ],
            ),
            *self._traffic,
            Family(
                name="balancer_log_dropped",
                kind="counter",
                help="Log events that were lost because nobody took them in time.",
                lines=[line("balancer_log_dropped_total", {}, self._log_dropped)],
            ),
            Family(
                name="balancer_store_errors",
                kind="counter",
                help="Saves and readings that a disk refused or did not answer.",
                lines=[
                    line("balancer_store_errors_total", {"store": key}, n) for key, n in self._store_errors.items()
                ],
            ),
            *(
                Family(name=name, kind="gauge", help=story, lines=[line(name, {}, self._gauges[name])])
                for name, story in _GAUGES.items()
                if name in self._gauges
            ),
        ]
