"""What is shipped in `deploy/`, read as data."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

PROMTOOL_MAX = 100.0  # s; its tests take eight on a machine that does nothing else

NAME = re.compile(r"\b((?:balancer|process|python)_\w+|up\b|\w+:\w+:\w+)")
QUOTED = re.compile(r'"[^"]*"')


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression asks for; words within quotes are labels' values."""
    return set(NAME.findall(QUOTED.sub('""', expression)))


def rules_of(name: str) -> list[dict[str, Any]]:
    """All rules of a shipped file, whatever their group."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture
def names_in() -> Callable[[str], set[str]]:
    """Find the metrics in an expression."""
    return metric_names


@pytest.fixture(scope="session")
def recording_rules() -> list[dict[str, Any]]:
    """What `rules.yml` records."""
    return rules_of("rules.yml")


@pytest.fixture(scope="session")
def alerts() -> list[dict[str, Any]]:
    """What `alerts.yml` alerts on."""
    return rules_of("alerts.yml")


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    """The shipped dashboard."""
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "balancer.json").read_text())
    return found


@pytest.fixture(scope="session")
def known_metrics(recording_rules: list[dict[str, Any]]) -> set[str]:
    """Every metric that may be asked for: what the README's table names, and what the rules record.

    The table is held against the daemon's own exposition by tests/test_readme.py.
    """
    table = re.search(r"^## Metrics\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    exposed = set(re.findall(r"`(balancer_\w+)`", table[1]))
    buckets = {f"{name}_bucket" for name in exposed if name.endswith("_seconds")}
    foreign = {"up", "process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"}
    foreign |= {"process_start_time_seconds"}
    return exposed | buckets | foreign | {rule["record"] for rule in recording_rules}


@pytest.fixture
def promtool(needs: Callable[[str], str]) -> Callable[..., str]:
    """Run promtool in the folder of the rules; it must have nothing to complain of. Returns what it said."""
    binary = needs("promtool")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [binary, *arguments],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            timeout=PROMTOOL_MAX,
        )
        assert done.returncode == 0, f"promtool {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run
