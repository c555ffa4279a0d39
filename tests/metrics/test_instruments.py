"""All metrics together: both formats, what the rims told, and what a reload forgets."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from balancer.core.balancer import Balancer
from balancer.core.outcome import Outcome
from balancer.metrics import PHASES, REPORT_RESULTS, Metrics

Read = Callable[[bytes], Mapping[tuple[str, frozenset[tuple[str, str]]], float]]

# contract.md §6, but `balancer_store_errors_total`. Then what it does not ask for.
NAMES = [
    "balancer_build_info", "balancer_endpoint_info", "balancer_outcomes_total", "balancer_endpoint_state",
    "balancer_endpoint_error_ratio", "balancer_endpoint_rate_limited_ratio",
    "balancer_endpoint_window_outcomes", "balancer_endpoint_success_estimate",
    "balancer_endpoint_latency_seconds", "balancer_endpoint_ttft_seconds", "balancer_endpoint_selections_total",
    "balancer_ejections_total", "balancer_decisions_total", "balancer_decision_duration_seconds",
    "balancer_model_panic", "balancer_reports_total", "balancer_probe_duration_seconds",
    "balancer_probes_in_flight", "balancer_probe_lateness_seconds", "balancer_probe_cost_usd_total",
    "balancer_probe_stretch_ratio", "balancer_probe_turns_left_out_total", "balancer_probe_budget_used_requests",
    "balancer_probe_budget_used_usd", "balancer_probe_budget_limit_requests", "balancer_probe_budget_limit_usd",
    "balancer_event_loop_lag_seconds", "balancer_self_suspect", "balancer_config_last_reload_successful",
    "balancer_config_last_reload_success_timestamp_seconds", "process_cpu_seconds_total",
    "process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds", "process_max_fds",
    "process_virtual_memory_bytes",
    "balancer_endpoint_throughput_tokens_per_second", "balancer_endpoint_cache_hit_ratio",
    "balancer_endpoint_in_flight", "balancer_endpoint_ceiling_requests_per_second", "balancer_model_retry_ratio",
    "balancer_model_retry_budget_exhausted", "balancer_sessions", "balancer_reporter_reports_total",
    "balancer_reporter_silence_seconds", "balancer_reporter_suspect",
    "balancer_probe_certificate_expiry_timestamp_seconds", "balancer_lookout_success",
    "balancer_provider_announced", "balancer_http_connections", "balancer_http_connections_evicted_total",
    "balancer_http_timeouts_total", "balancer_http_unauthorized_total", "balancer_http_body_bytes",
    "balancer_http_bodies_refused_total",
    "balancer_log_dropped_total", "balancer_store_errors_total", "balancer_store_saved_timestamp_seconds",
    "balancer_store_dropped_total", "balancer_store_save_interval_seconds",
    "balancer_tls_certificate_expiry_timestamp_seconds",
]  # fmt: skip

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def metrics(table: Balancer) -> Metrics:
    """Metrics of the table at 10.0 s, of the providers near and far."""
    metrics = Metrics(view=lambda: table.view(now=10.0), version="1.2.3")
    metrics.providers(["near", "far"])
    metrics.reporters(["proxy"])
    return metrics


def busy(metrics: Metrics, table: Balancer) -> None:
    """Let every metric have a sample."""
    table.record("acme/small@near", Outcome(kind="success", latency=1.0, ttft=0.1), now=9.0)
    for kind in ("success",) * 10 + ("rate_limited",) * 3:  # enough to teach a ceiling
        table.record("acme/small@far", Outcome(kind=kind), now=9.0)
    table.record("acme/small@near", Outcome(kind="success"), now=9.0, reporter="proxy")
    metrics.probed("near", {"connect": 0.03, "first_byte": 0.4}, 0.002)
    metrics.certificate("acme/small@near", 1_800_000_000.0)
    metrics.lookouts(["status_page:near"])
    metrics.looked_out("status_page:near", good=True)
    table.announce("near", "partial_outage", now=9.0, lasting=60.0)
    metrics.decided(3e-5)
    metrics.reported("recorded", 3)
    metrics.own_certificate(1_900_000_000.0)
    metrics.lag(0.002)
    metrics.log_dropped(12)
    metrics.probe_started(0.01)
    metrics.probe_started(0.0101)
    metrics.scheduler(
        in_flight=2,
        stretch=1.25,
        left_out={"fresh": 7},
        spent={"near": (3, 0.5)},
        limits={"near": (20, 1.5)},
    )
    metrics.http(
        connections=3,
        evicted=2,
        timeouts={"header": 1},
        unauthorized={"no_token": 4},
        body_bytes=65_536,
        bodies_refused=5,
    )
    metrics.reloaded(successful=True, wall=1_700_000_000.0)
    metrics.stored(errors={"state": 2}, dropped=12, saved=1_700_000_001.0, interval=10.0)


def test_every_metric_of_the_contract_is_there_with_help_and_type(metrics: Metrics, table: Balancer) -> None:
    busy(metrics, table)
    body, kind = metrics.render("")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    text = body.decode()
    typed = [each.split()[2] for each in text.splitlines() if each.startswith("# TYPE ")]
    helped = [each.split()[2] for each in text.splitlines() if each.startswith("# HELP ")]
    assert sorted(typed) == sorted(NAMES)
    assert helped == typed
    assert "_created" not in text
    assert "NaN" not in text


def test_openmetrics_tells_the_same_and_parses_strictly(metrics: Metrics, table: Balancer, samples: Read) -> None:
    busy(metrics, table)
    body, kind = metrics.render(OPENMETRICS)
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    strict = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    plain = samples(metrics.render("")[0])
    assert strict.keys() == plain.keys()
    assert {key: value for key, value in strict.items() if not key[0].startswith("process_")} == {
        key: value for key, value in plain.items() if not key[0].startswith("process_")
    }


def test_the_rims_counts_start_at_zero(metrics: Metrics, samples: Read) -> None:
    scrape = samples(metrics.render("")[0])
    for result in REPORT_RESULTS:
        assert scrape["balancer_reports_total", frozenset({("result", result)})] == 0
    assert scrape["balancer_store_dropped_total", frozenset({("store", "history")})] == 0
    for provider in ("near", "far"):
        assert scrape["balancer_probe_cost_usd_total", frozenset({("provider", provider)})] == 0
        for phase in PHASES:
            labels = frozenset({("provider", provider), ("phase", phase)})
            assert scrape["balancer_probe_duration_seconds_count", labels] == 0
    assert scrape["balancer_decision_duration_seconds_count", frozenset()] == 0
    assert scrape["balancer_log_dropped_total", frozenset()] == 0


def test_a_gauge_that_nobody_has_set_has_no_sample(metrics: Metrics) -> None:
    text = metrics.render("")[0].decode()
    for name in ("event_loop_lag", "probes_in_flight", "probe_stretch", "config_last_reload", "http_"):
        assert f"balancer_{name}" not in text


def test_what_the_rims_tell_is_shown(metrics: Metrics, table: Balancer, samples: Read) -> None:
    busy(metrics, table)
    metrics.reported("rejected", 2)
    scrape = samples(metrics.render("")[0])

    def value(name: str, **labels: str) -> float:
        return scrape[f"balancer_{name}", frozenset(labels.items())]

    assert value("store_dropped_total", store="history") == 12
    assert (
        value("build_info", **dict(next(labels for name, labels in scrape if name == "balancer_build_info"))) == 1
    )
    assert value("reports_total", result="recorded") == 3
    assert value("reports_total", result="rejected") == 2
    assert value("decision_duration_seconds_bucket", le="2.5e-05") == 0
    assert value("decision_duration_seconds_bucket", le="5e-05") == 1
    assert value("probe_duration_seconds_sum", provider="near", phase="first_byte") == 0.4
    assert value("probe_duration_seconds_count", provider="near", phase="tls") == 0
    assert value("probe_cost_usd_total", provider="near") == 0.002
    assert value("event_loop_lag_seconds") == 0.002
    assert value("log_dropped_total") == 12
    assert value("probe_certificate_expiry_timestamp_seconds", endpoint="acme/small@near") == 1_800_000_000.0
    assert value("tls_certificate_expiry_timestamp_seconds") == 1_900_000_000.0
    assert value("probes_in_flight") == 2
    assert value("probe_lateness_seconds_bucket", le="0.01") == 1
    assert value("probe_lateness_seconds_bucket", le="0.02") == 2
    assert value("probe_lateness_seconds_sum") == pytest.approx(0.0201)
    assert value("probe_stretch_ratio") == 1.25
    assert value("probe_turns_left_out_total", reason="fresh") == 7
    assert value("probe_turns_left_out_total", reason="late") == 0
    assert value("probe_budget_used_requests", provider="near") == 3
    assert value("probe_budget_used_usd", provider="near") == 0.5
    assert value("probe_budget_limit_requests", provider="near") == 20
    assert value("probe_budget_limit_usd", provider="near") == 1.5
    assert value("config_last_reload_successful") == 1
    assert value("config_last_reload_success_timestamp_seconds") == 1_700_000_000.0


def test_a_refused_reload_keeps_the_time_of_the_last_good_one(metrics: Metrics, samples: Read) -> None:
    metrics.reloaded(successful=True, wall=100.0)
    metrics.reloaded(successful=False, wall=200.0)
    scrape = samples(metrics.render("")[0])
    assert scrape["balancer_config_last_reload_successful", frozenset()] == 0
    assert scrape["balancer_config_last_reload_success_timestamp_seconds", frozenset()] == 100.0


def test_a_reload_forgets_removed_providers_and_keeps_the_others(metrics: Metrics, samples: Read) -> None:
    metrics.probed("near", {"connect": 0.03}, 0.5)
    metrics.probed("far", {"connect": 0.03}, 0.25)
    metrics.providers(["near", "new"])
    metrics.probed("far", {"connect": 0.03}, 0.25)
    scrape = samples(metrics.render("")[0])
    costs = {labels: value for (name, labels), value in scrape.items() if name == "balancer_probe_cost_usd_total"}
    assert costs == {frozenset({("provider", "near")}): 0.5, frozenset({("provider", "new")}): 0}
    durations = {
        dict(labels)["provider"] for name, labels in scrape if name == "balancer_probe_duration_seconds_count"
    }
    assert durations == {"near", "new"}


def test_a_reload_forgets_removed_reporters(metrics: Metrics, table: Balancer, samples: Read) -> None:
    busy(metrics, table)
    metrics.reporters(["other"])
    told = {(name, *labels) for name, labels in samples(metrics.render("")[0]) if "reporter" in dict(labels)}
    assert told == {
        ("balancer_reporter_reports_total", ("reporter", "other")),
        ("balancer_reporter_suspect", ("reporter", "other")),
    }


def test_words_outside_the_closed_sets_are_programmers_errors(metrics: Metrics) -> None:
    before = metrics.render("")[0].partition(b"# HELP process_")[0]
    with pytest.raises(AssertionError, match="use recorded, duplicate, stale, rejected"):
        metrics.reported("lost", 1)
    with pytest.raises(AssertionError, match="use resolve, connect"):
        metrics.probed("near", {"handshake": 0.1}, None)
    assert metrics.render("")[0].partition(b"# HELP process_")[0] == before


def test_a_scrape_takes_one_view(table: Balancer) -> None:
    taken: list[float] = []

    def view():
        taken.append(10.0)
        return table.view(now=10.0)

    Metrics(view=view, version="1.2.3").render("")
    assert taken == [10.0]


def test_a_certificate_is_shown_while_its_endpoint_may_meet_one(metrics: Metrics, samples: Read) -> None:
    name = "balancer_probe_certificate_expiry_timestamp_seconds"
    for endpoint in ("acme/small@near", "acme/small@far"):
        metrics.certificate(endpoint, 1_800_000_000.0)
    metrics.certificate("acme/small@near", None)
    metrics.encrypted(["acme/small@near", "acme/small@new"])
    shown = {key: value for key, value in samples(metrics.render("")[0]).items() if key[0] == name}
    assert shown == {(name, frozenset({("endpoint", "acme/small@near")})): 1_800_000_000.0}


def test_a_lookout_is_shown_from_its_first_probe_until_it_is_removed(metrics: Metrics, samples: Read) -> None:
    def shown() -> dict[str, float]:
        found = samples(metrics.render("")[0]).items()
        return {
            dict(labels)["lookout"]: value for (name, labels), value in found if name.startswith("balancer_look")
        }

    metrics.lookouts(["status_page:near", "self:dns://one"])
    assert shown() == {}
    metrics.looked_out("status_page:near", good=True)
    metrics.looked_out("self:dns://one", good=False)
    metrics.looked_out("status_page:gone", good=True)
    assert shown() == {"status_page:near": 1.0, "self:dns://one": 0.0}
    metrics.lookouts(["self:dns://one"])
    assert shown() == {"self:dns://one": 0.0}


async def test_what_is_written_in_turns_is_what_is_written_at_once_and_others_run_between(
    metrics: Metrics, table: Balancer
) -> None:
    turns = 0
    done = asyncio.Event()

    async def others() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(others(), name="others")
        bodies = [await metrics.rendered(accept) for accept in ("", OPENMETRICS)]
        done.set()
    for (body, kind), accept in zip(bodies, ("", OPENMETRICS), strict=True):
        at_once, same_kind = metrics.render(accept)
        assert kind == same_kind
        assert still(body) == still(at_once)
    families = at_once.count(b"# TYPE ")
    assert turns >= 2 * families


def still(body: bytes) -> list[bytes]:
    """The lines that do not move by themselves: the process goes on between two scrapes."""
    return [line for line in body.splitlines() if not line.startswith(b"process_")]
