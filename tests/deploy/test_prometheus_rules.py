"""The shipped rules and alerts: promtool's tests of them, and that they agree with the daemon and the runbook."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from balancer.cli import VERBS
from balancer.core.model import STATES
from balancer.core.outcome import COUNTS
from balancer.http.openapi import document
from balancer.metrics.table import DECISION_RESULTS
from balancer.service.log import EVENTS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = (FOLDER / "README.md").read_text()
TESTS = yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]

GREPPED = re.compile(r"grep (?:-E ')?\(?(daemon|config|probe|lookout)\\?\.\(?([a-z_|]+)")
"""Events that the runbook looks for in the journal."""

SEVERITIES = {"critical", "warning", "info"}
CLOSED = {"state": set(STATES), "outcome": set(COUNTS), "result": set(DECISION_RESULTS)}
"""Labels whose values are a closed set of ours."""


def asked_of(test: dict[str, Any]) -> list[set[str]]:
    """What fires, as labels' text, at each moment at which a test asks for all alerts."""
    return [
        {sample["labels"] for sample in each["exp_samples"]}
        for each in test["promql_expr_test"]
        if each["expr"] == 'ALERTS{alertstate="firing"}'
    ]


def pairs(labels: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', labels))


def labels_of(alert: str) -> set[str]:
    """The labels that an alert has in every one of its test cases."""
    samples = [
        set(re.findall(r"(\w+)=", sample["labels"]))
        for test in TESTS
        for each in test["promql_expr_test"]
        for sample in each["exp_samples"]
        if f'alertname="{alert}"' in sample["labels"]
    ]
    return set.intersection(*samples)


@pytest.mark.parametrize("name", ["rules.yml", "alerts.yml"])
def test_promtool_finds_the_rules_right(promtool: Callable[..., str], name: str) -> None:
    assert "SUCCESS" in promtool("check", "rules", name)


def test_promtool_s_tests_of_the_rules_pass(promtool: Callable[..., str]) -> None:
    assert "SUCCESS" in promtool("test", "rules", "tests.yml")


def test_promtool_finds_the_scrape_configuration_right(promtool: Callable[..., str]) -> None:
    assert "2 rule files found" in promtool("check", "config", "scrape.yml")


def test_what_is_commented_out_in_the_scrape_configuration_is_right_too(
    promtool: Callable[..., str], tmp_path: Path
) -> None:
    for name in ("balancer.token", "balancer-ca.pem"):
        (tmp_path / name).write_text("")
    text = (FOLDER / "scrape.yml").read_text()
    text, found = re.subn(r"^    # (\w+: [{\w].*)$", r"    \1", text, flags=re.MULTILINE)
    assert found == 3
    text = text.replace("/etc/prometheus/", f"{tmp_path}/").replace("[rules.yml, alerts.yml]", "[]")
    (tmp_path / "scrape.yml").write_text(text)
    job = yaml.safe_load(text)["scrape_configs"][0]
    assert (job["scheme"], list(job["authorization"]), list(job["tls_config"])) == (
        "https",
        ["credentials_file"],
        ["ca_file"],
    )
    promtool("check", "config", "--syntax-only", str(tmp_path / "scrape.yml"))


def test_the_job_is_the_one_that_the_alerts_ask_for(alerts: list[dict[str, Any]]) -> None:
    job = yaml.safe_load((FOLDER / "scrape.yml").read_text())["scrape_configs"][0]
    asked = {name for rule in alerts for name in re.findall(r'job="(\w+)"', rule["expr"])}
    assert asked == {job["job_name"]}
    assert job.get("metrics_path", "/metrics") == "/metrics"


def test_every_metric_that_a_rule_asks_for_exists(
    alerts: list[dict[str, Any]],
    recording_rules: list[dict[str, Any]],
    known_metrics: set[str],
    names_in: Callable[[str], set[str]],
) -> None:
    asked = {name for rule in (*recording_rules, *alerts) for name in names_in(rule["expr"])}
    assert asked - known_metrics == set()


def test_every_recorded_series_is_named_level_metric_operations(recording_rules: list[dict[str, Any]]) -> None:
    for rule in recording_rules:
        assert re.fullmatch(
            r"(endpoint|provider|model|balancer):\w+:(count|ratio|rate5m|ratio_rate\w+|increase\w+)",
            rule["record"],
        ), rule["record"]


def test_closed_labels_are_asked_for_by_words_that_exist(
    alerts: list[dict[str, Any]], recording_rules: list[dict[str, Any]]
) -> None:
    for rule in (*recording_rules, *alerts):
        for label, words in re.findall(r'\b(state|outcome|result)[!=]~?"([^"]*)"', rule["expr"]):
            assert set(words.split("|")) <= CLOSED[label], rule["expr"]


def test_the_ratios_count_what_the_daemon_s_own_ratios_count(recording_rules: list[dict[str, Any]]) -> None:
    counted = {
        rule["record"]: set(re.search(r'outcome=~"([^"]*)"', rule["expr"])[1].split("|"))
        for rule in recording_rules
        if "outcome=~" in rule["expr"]
    }
    failures = {kind for kind, count in COUNTS.items() if count == "failure"}
    assert counted == {
        "endpoint:balancer_outcomes:rate5m": failures | {"success"},
        "endpoint:balancer_outcomes_failed:rate5m": failures,
    }


def test_long_windows_count_samples_of_their_groups_own_interval() -> None:
    groups = {each["name"]: each for each in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]}
    interval = groups["balancer-outcomes"]["interval"]
    assert groups["balancer-error-budget"]["interval"] == interval == "30s"
    counts = [rule["expr"] for rule in groups["balancer-error-budget"]["rules"] if ":increase" in rule["record"]]
    assert counts
    assert all(expression.startswith("30 * sum_over_time(") for expression in counts)
    assert yaml.safe_load((FOLDER / "tests.yml").read_text())["evaluation_interval"] == interval


def test_every_alert_is_named_ranked_and_told(alerts: list[dict[str, Any]]) -> None:
    names = [rule["alert"] for rule in alerts]
    assert len(names) == len(set(names))
    for rule in alerts:
        name, notes = rule["alert"], rule["annotations"]
        assert re.fullmatch(r"Balancer([A-Z][a-z]+)+", name)
        assert rule["labels"].keys() == {"severity"}, name
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert notes.keys() == {"summary", "description", "runbook_url"}, name
        assert "{{" not in notes["summary"], f"{name}: a summary is the same for all"
        assert notes["summary"].endswith("."), name
        assert notes["runbook_url"] == f"deploy/prometheus/README.md#{name.lower()}"


def test_every_alert_has_its_section_in_the_runbook_and_the_other_way_round(alerts: list[dict[str, Any]]) -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in alerts}
    sections = re.split(r"^##+ ", RUNBOOK, flags=re.MULTILINE)
    for section in sections:
        if section.startswith("Balancer"):
            assert re.search(r"\*\*Means\.\*\*.*\*\*Look\*?\*?.*\*\*[Dd]o", section, re.DOTALL), section


def test_the_runbook_s_commands_events_and_routes_are_ours() -> None:
    code = "\n".join(re.findall(r"`+[^`]+`+", RUNBOOK))
    verbs = set(re.findall(r"(?:^|[`\n]|with_keys |-- )balancer (\w+)", code))
    assert verbs >= {"status", "best", "drain", "resume", "reload", "probe", "check"}
    assert verbs <= set(VERBS)
    routes = set(re.findall(r"(/(?:v1|-)/[\w-]+)", code))
    assert len(routes) >= 4
    assert routes <= set(json.loads(document())["paths"])
    spoken = {f"{noun}.{word}" for noun, words in GREPPED.findall(code) for word in words.split("|")}
    assert len(spoken) >= 6
    assert spoken <= EVENTS


def test_the_runbook_s_verbs_that_read_the_configuration_do_so_with_what_the_unit_has() -> None:
    unit = (ROOT / "deploy" / "systemd" / "balancer.service").read_text()
    sections = RUNBOOK[RUNBOOK.index("\n## The daemon\n") :]
    alone = re.findall(r"(?<!with_keys )balancer (?:check|probe)\b", sections)
    assert alone == [], "without the unit's credentials a good file is told to be bad"
    [helper] = re.findall(r"(?ms)^with_keys\(\) \{\n(.*?)^\}", RUNBOOK)
    given = re.findall(r"--property=(\S+)", helper)
    assert {each.partition("=")[0] for each in given} == {"LoadCredential", "EnvironmentFile"}
    assert set(given) <= set(unit.splitlines())
    program, _, configuration = re.search(r"(?m)^ExecStart=(\S+) run (-c (\S+))$", unit).groups()
    assert f"{program.rpartition('/')[0]}/$1" in helper
    assert f"-c {configuration}" in helper
    assert f"export PATH={program.rpartition('/')[0]}:$PATH" in RUNBOOK


def test_the_readme_counts_the_alerts(alerts: list[dict[str, Any]]) -> None:
    for name in ("README.md", "CHANGELOG.md"):
        assert f"{len(alerts)} alerts" in (ROOT / name).read_text(), name


def test_the_runbook_s_links_lead_somewhere() -> None:
    titles = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK):
        place, _, anchor = target.partition("#")
        assert anchor in titles if not place else (FOLDER / place).exists(), target


def test_every_alert_fires_beside_something_of_its_kind_for_which_it_does_not(
    alerts: list[dict[str, Any]],
) -> None:
    for rule in alerts:
        name = rule["alert"]
        held = []  # test cases in which it fires, and in which some series are of none of those that fire
        for test in TESTS:
            fired = [pairs(text) for moment in asked_of(test) for text in moment if f'"{name}"' in text]
            series = [pairs(each["series"]) for each in test["input_series"]]
            if fired and any(
                all(any(mine[label] != labels[label] for label in mine.keys() & labels.keys()) for mine in fired)
                for labels in series
            ):
                held.append(test["name"])
        assert held, f"{name} fires in no test that has a near miss"


def test_an_alert_s_words_only_name_labels_that_it_has(alerts: list[dict[str, Any]]) -> None:
    for rule in alerts:
        asked = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
        optional = {"instance"} if rule["alert"] == "BalancerAbsent" else set()  # absent() has none, and it says so
        assert asked - optional <= labels_of(rule["alert"]), rule["alert"]
