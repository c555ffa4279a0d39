"""One view of the table as samples: every fact once, nothing made up, nothing left behind."""

from collections.abc import Callable, Mapping

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import SOURCES, STATES, Catalog, NoEndpoint
from balancer.core.outcome import KINDS, Kind, Outcome
from balancer.core.phases import CAUSES
from balancer.core.request import Preferences, Request
from balancer.metrics.table import DECISION_RESULTS, reporter_families, table_families
from balancer.metrics.text import exposition

Read = Callable[[bytes], Mapping[tuple[str, frozenset[tuple[str, str]]], float]]

NEAR = "acme/small@near"


class Scrape:
    """The samples of one view."""

    def __init__(self, table: Balancer, read: Read, *, now: float) -> None:
        self.samples = read(exposition(table_families(table.view(now=now)), openmetrics=False))

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))

    def named(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for key, labels in self.samples if key == name]


def test_every_combination_of_closed_labels_exists_at_zero(table: Balancer, samples: Read) -> None:
    scrape = Scrape(table, samples, now=0.0)
    for endpoint in (NEAR, "acme/small@far"):
        for source in SOURCES:
            for kind in KINDS:
                value = scrape.value("balancer_outcomes_total", endpoint=endpoint, source=source, outcome=kind)
                assert value == 0
        for cause in CAUSES:
            value = scrape.value("balancer_ejections_total", endpoint=endpoint, reason=cause, enforced="true")
            assert value == 0
        assert scrape.value("balancer_endpoint_selections_total", endpoint=endpoint) == 0
    for result in DECISION_RESULTS:
        model = "unknown" if result == "model_not_found" else "acme/small"
        assert scrape.value("balancer_decisions_total", model=model, strategy="adaptive", result=result) == 0


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_moves_its_own_counter_and_no_other(
    table: Balancer, samples: Read, source: str, kind: Kind
) -> None:
    table.record(NEAR, Outcome(kind=kind), now=10.0, source=source)
    scrape = Scrape(table, samples, now=10.0)
    moved = {
        labels: value
        for (name, labels), value in scrape.samples.items()
        if name == "balancer_outcomes_total" and value
    }
    assert moved == {frozenset({("endpoint", NEAR), ("source", source), ("outcome", kind)}): 1}


def test_what_has_no_call_behind_it_has_no_sample(table: Balancer, samples: Read) -> None:
    scrape = Scrape(table, samples, now=0.0)
    assert scrape.named("balancer_endpoint_error_ratio") == []
    assert scrape.named("balancer_endpoint_rate_limited_ratio") == []
    assert scrape.named("balancer_endpoint_latency_seconds") == []
    assert scrape.value("balancer_endpoint_latency_seconds_count", endpoint=NEAR) == 0
    assert scrape.value("balancer_endpoint_ttft_seconds_sum", endpoint=NEAR) == 0
    assert scrape.value("balancer_endpoint_window_outcomes", endpoint=NEAR, source="report", window="30s") == 0


def test_ratios_are_told_by_source_and_window(table: Balancer, samples: Read) -> None:
    for kind, source, ended in (
        ("server_error", "report", 1.0),
        ("success", "report", 100.0),
        ("rate_limited", "report", 100.0),
        ("success", "probe", 100.0),
    ):
        table.record(NEAR, Outcome(kind=kind), now=ended, source=source)
    scrape = Scrape(table, samples, now=100.0)

    def ratio(name: str, **labels: str) -> float | None:
        return scrape.value(f"balancer_endpoint_{name}", endpoint=NEAR, **labels)

    assert ratio("error_ratio", source="report", window="30s") == 0
    assert ratio("error_ratio", source="report", window="5m") == 0.5
    assert ratio("error_ratio", source="probe", window="5m") == 0
    assert ratio("window_outcomes", source="report", window="30s") == 1
    assert ratio("window_outcomes", source="report", window="5m") == 2
    assert ratio("rate_limited_ratio", window="30s") == pytest.approx(1 / 3)
    assert ratio("rate_limited_ratio", window="5m") == 0.25


def test_the_windows_bear_the_names_of_the_configuration(catalog: Callable[..., Catalog], samples: Read) -> None:
    table = Balancer(catalog("near", windows=(45.0, 300.0, 5400.0, 86400.0)), seed=1)
    windows = {
        each["window"] for each in Scrape(table, samples, now=0.0).named("balancer_endpoint_window_outcomes")
    }
    assert windows == {"45s", "5m", "90m", "1d"}


def test_exactly_one_state_of_an_endpoint_is_one(table: Balancer, samples: Read) -> None:
    table.drain(NEAR, now=1.0)
    for _ in range(5):
        table.record(NEAR, Outcome(kind="connect"), now=2.0)
    scrape = Scrape(table, samples, now=3.0)
    states = {state: scrape.value("balancer_endpoint_state", endpoint=NEAR, state=state) for state in STATES}
    assert states == {**dict.fromkeys(STATES, 0), "drained": 1}
    labels = {"endpoint": NEAR, "reason": "consecutive_failures"}
    assert scrape.value("balancer_ejections_total", enforced="true", **labels) == 1
    assert scrape.value("balancer_ejections_total", enforced="false", **labels) is None


def test_would_be_ejections_have_a_label_of_their_own(
    table: Balancer, catalog: Callable[..., Catalog], samples: Read
) -> None:
    def ejections(now: float) -> dict[tuple[str, str], float]:
        """Every series of NEAR, by reason and by whether it chose."""
        return {
            (labels["reason"], labels["enforced"]): value
            for (name, pairs), value in Scrape(table, samples, now=now).samples.items()
            if name == "balancer_ejections_total" and (labels := dict(pairs))["endpoint"] == NEAR
        }

    for _ in range(12):
        table.record(NEAR, Outcome(kind="connect"), now=1.0)
    enforced = {(cause, "true"): 0.0 for cause in CAUSES} | {("consecutive_failures", "true"): 1.0}
    assert ejections(now=1.0) == enforced
    table.apply(catalog("near", "far", enforce=False), now=2.0)
    watched = {(cause, "false"): 0.0 for cause in CAUSES} | {("consecutive_failures", "true"): 1.0}
    assert ejections(now=2.0) == watched  # there at 0 before the first, and what chose once is not forgotten
    table.record(NEAR, Outcome(kind="connect"), now=100.0)
    counted = ejections(now=100.0)
    assert counted == watched | {("failed_trial", "false"): 1.0}
    table.apply(catalog("near", "far"), now=101.0)
    assert ejections(now=101.0) == {**dict.fromkeys(enforced, 0.0), **{k: v for k, v in counted.items() if v}}


def test_times_are_summaries_of_successful_calls(table: Balancer, samples: Read) -> None:
    for latency in (1.0, 2.0, 3.0, 4.0):
        table.record(NEAR, Outcome(kind="success", latency=latency, ttft=0.5), now=10.0)
    table.record(NEAR, Outcome(kind="timeout", latency=60.0), now=10.0)
    scrape = Scrape(table, samples, now=10.0)
    name = "balancer_endpoint_latency_seconds"
    assert scrape.value(name, endpoint=NEAR, quantile="0.5") == pytest.approx(2.0, rel=0.01)
    assert scrape.value(name, endpoint=NEAR, quantile="0.99") == pytest.approx(4.0, rel=0.01)
    assert scrape.value(f"{name}_sum", endpoint=NEAR) == 10.0
    assert scrape.value(f"{name}_count", endpoint=NEAR) == 4
    quantiles = {each["quantile"] for each in scrape.named("balancer_endpoint_ttft_seconds")}
    assert quantiles == {"0.5", "0.75", "0.9", "0.99"}


def test_a_throughputs_quantiles_are_prometheus_own(table: Balancer, samples: Read) -> None:
    name = "balancer_endpoint_throughput_tokens_per_second"
    for tokens in (10, 20, 30, 40):
        facts = {"prompt_tokens": 100, "completion_tokens": tokens}
        table.record(NEAR, Outcome(kind="success", latency=1.0, ttft=0.5, **facts), now=10.0)
    scrape = Scrape(table, samples, now=10.0)
    assert {each["quantile"] for each in scrape.named(name)} == {"0.5", "0.25", "0.1", "0.01"}
    slowest = scrape.value(name, endpoint=NEAR, quantile="0.01")
    middle = scrape.value(name, endpoint=NEAR, quantile="0.5")
    assert (slowest, middle) == (pytest.approx(10.0, rel=0.01), pytest.approx(20.0, rel=0.01))
    assert scrape.value(f"{name}_sum", endpoint=NEAR) == 100.0
    assert scrape.value(f"{name}_count", endpoint=NEAR) == 4


def test_cache_hits_load_and_a_learned_ceiling_are_told(table: Balancer, samples: Read) -> None:
    calm = Scrape(table, samples, now=0.0)
    assert calm.value("balancer_endpoint_cache_hit_ratio", endpoint=NEAR) == 0
    assert calm.value("balancer_endpoint_in_flight", endpoint=NEAR) == 0
    assert calm.named("balancer_endpoint_ceiling_requests_per_second") == []
    facts = {"prompt_tokens": 1000, "completion_tokens": 10, "cached_tokens": 800}
    for _ in range(75):
        chosen = table.best(Request(model="acme/small", provider=Preferences(only=("near",))), now=10.0)
        table.record(NEAR, Outcome(kind="success", latency=0.0, **facts), now=10.0, decision=chosen.id)
    table.best(Request(model="acme/small", provider=Preferences(only=("near",))), now=10.0)
    for _ in range(4):
        table.record(NEAR, Outcome(kind="rate_limited", latency=0.0), now=10.0)
    scrape = Scrape(table, samples, now=10.0)
    # Five requests without a hit are the prior: 75 of 80 count.
    assert scrape.value("balancer_endpoint_cache_hit_ratio", endpoint=NEAR) == pytest.approx(0.8 * 75 / 80)
    assert scrape.value("balancer_endpoint_in_flight", endpoint=NEAR) == 0
    # A fifth below the 79 of the last minute, as a rate a second.
    ceiling = scrape.value("balancer_endpoint_ceiling_requests_per_second", endpoint=NEAR)
    assert ceiling == pytest.approx(0.8 * 79 / 60)
    assert scrape.value("balancer_endpoint_ceiling_requests_per_second", endpoint="acme/small@far") is None


def test_decisions_that_nobody_reported_on_are_in_flight(table: Balancer, samples: Read) -> None:
    for _ in range(3):
        table.best(Request(model="acme/small", provider=Preferences(only=("near",))), now=10.0)
    assert Scrape(table, samples, now=11.0).value("balancer_endpoint_in_flight", endpoint=NEAR) == 3
    assert Scrape(table, samples, now=500.0).value("balancer_endpoint_in_flight", endpoint=NEAR) == 0


def test_sessions_and_retries_are_told(table: Balancer, samples: Read) -> None:
    calm = Scrape(table, samples, now=0.0)
    assert calm.value("balancer_sessions") == 0
    assert calm.value("balancer_model_retry_ratio", model="acme/small") == 0
    assert calm.value("balancer_model_retry_budget_exhausted", model="acme/small") == 0
    table.best(Request(model="acme/small", session_id="a"), now=1.0)
    table.best(Request(model="acme/small", session_id="b"), now=1.0)
    for _ in range(14):
        table.best(Request(model="acme/small", exclude=(NEAR,)), now=1.0)
    scrape = Scrape(table, samples, now=1.0)
    assert scrape.value("balancer_sessions") == 2
    assert scrape.value("balancer_model_retry_ratio", model="acme/small") == pytest.approx(14 / 16)
    assert scrape.value("balancer_model_retry_budget_exhausted", model="acme/small") == 1


def test_decisions_are_counted_by_how_they_ended(table: Balancer, samples: Read) -> None:
    first = table.best(Request(model="acme/small"), now=1.0).selected.id
    with pytest.raises(NoEndpoint):
        table.best(Request(model="acme/other"), now=1.0)
    scrape = Scrape(table, samples, now=1.0)
    name = "balancer_decisions_total"
    assert scrape.value(name, model="acme/small", strategy="adaptive", result="selected") == 1
    assert scrape.value(name, model="unknown", strategy="adaptive", result="model_not_found") == 1
    assert sum(value for (key, _), value in scrape.samples.items() if key == name) == 2
    assert scrape.value("balancer_endpoint_selections_total", endpoint=first) == 1


def test_a_sort_has_its_series_from_its_first_request_on(table: Balancer, samples: Read) -> None:
    name, labels = "balancer_decisions_total", {"model": "acme/small", "result": "selected"}
    assert Scrape(table, samples, now=1.0).value(name, strategy="sort:price", **labels) is None
    table.best(Request(model="acme/small", provider=Preferences(sort="price")), now=1.0)
    scrape = Scrape(table, samples, now=1.0)
    assert scrape.value(name, strategy="sort:price", **labels) == 1
    assert scrape.value(name, strategy="adaptive", **labels) == 0


def test_panic_and_self_suspicion_are_shown(table: Balancer, samples: Read) -> None:
    calm = Scrape(table, samples, now=0.0)
    assert calm.value("balancer_model_panic", model="acme/small") == 0
    assert calm.value("balancer_self_suspect") == 0
    for endpoint in (NEAR, "acme/small@far"):
        for _ in range(5):
            table.record(endpoint, Outcome(kind="connect"), now=1.0)
    table.record(NEAR, Outcome(kind="local"), now=1.0)
    scrape = Scrape(table, samples, now=1.0)
    assert scrape.value("balancer_model_panic", model="acme/small") == 1
    assert scrape.value("balancer_self_suspect") == 1


def test_reporters_are_told_by_their_configured_names(table: Balancer, samples: Read) -> None:
    for number, name in enumerate(("one", "two", "gone")):
        table.record(NEAR, Outcome(kind="success"), now=10.0 + number, reporter=name)
    table.record(NEAR, Outcome(kind="local"), now=13.0, reporter="one")
    families = reporter_families(table.view(now=20.0), ["one", "two", "new"])
    assert samples(exposition(families, openmetrics=False)) == {
        (f"balancer_reporter_{name}", frozenset({("reporter", reporter)})): value
        for name, reporter, value in (
            ("reports_total", "one", 2),
            ("reports_total", "two", 1),
            ("reports_total", "new", 0),
            ("silence_seconds", "one", 7),
            ("silence_seconds", "two", 9),
            ("suspect", "one", 1),
            ("suspect", "two", 0),
            ("suspect", "new", 0),
        )
    }


def test_a_removed_endpoint_takes_all_its_series_with_it(
    table: Balancer, catalog: Callable[..., Catalog], samples: Read
) -> None:
    table.record(NEAR, Outcome(kind="success", latency=1.0), now=1.0)
    table.best(Request(model="acme/small"), now=1.0)
    table.apply(catalog("far"), now=2.0)
    scrape = Scrape(table, samples, now=2.0)
    assert not [key for key in scrape.samples if NEAR in dict(key[1]).values()]
    table.apply(catalog("far", model="acme/large"), now=3.0)
    assert not [key for key in Scrape(table, samples, now=3.0).samples if "acme/small" in str(key)]
