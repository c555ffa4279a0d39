"""The benchmark of scrapes measures what it says: a small run of it, its arithmetic, and the world it makes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import balancer
from balancer.config import parse_config

SCRIPT = Path(__file__).with_name("scrape.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scrape", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scrape"] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        timeout=110,
    )


def test_a_small_run_asks_and_scrapes_as_many_series_as_are_due() -> None:
    done = run("--series", "2000", "--span", "1.5", "--passes", "1", "--rate", "50")
    assert done.returncode in (0, 1), done.stdout + done.stderr  # a busy machine adds what it likes
    said, head, quiet, scraped, added, *told = done.stdout.splitlines()
    assert said.startswith("50 decisions a second, a scrape every 1 s; ")
    assert head.split()[-6:] == ["p99", "p99.9", "max", "beside", "a", "scrape"]
    series = int(re.match(r"([\d,]+) series, scraped", scraped)[1].replace(",", ""))
    assert 2000 <= series < 2300
    # decisions, p50, p99, p99.9, max; and of the scraped also those beside a scrape, and how long one took
    assert len(quiet.partition("no scrape")[2].split()) == 5
    numbers = [float(each) for each in scraped.partition("scraped")[2].split()]
    assert len(numbers) in (6, 7)  # of so few, none may be beside one
    assert numbers[0] > 25
    assert numbers[-1] > 0
    assert added.startswith("added")
    assert told[-1].startswith(("good: a scrape every second adds ", "TOO MUCH: a scrape every second adds "))


def test_what_scrapes_add_is_the_median_of_the_pairs(benchmark: ModuleType) -> None:
    def span(*decisions: float) -> object:
        return benchmark.Span(decisions=decisions)

    pairs = [span(1.0, 2.0), span(1.0, 5.0), span(1.0, 9.0), span(1.0, 10.0), span(1.0, 2.0), span(1.0, 4.0)]
    assert benchmark.added(pairs, 0.99) == 2.0
    assert benchmark.added(pairs, 0.5) == 0.0


def test_a_quantile_is_one_of_the_values(benchmark: ModuleType) -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [benchmark.quantile(values, share) for share in (0.5, 0.99, 0.999)] == [50.0, 99.0, 100.0]
    assert benchmark.quantile([7.0], 0.5) == 7.0


def test_every_endpoint_is_configured_and_reported_of(benchmark: ModuleType) -> None:
    config = parse_config(benchmark.written(3, 8790), source="test")
    told = {name for model in range(3) for name in re.findall(rb'"endpoint":"([^"]+)"', benchmark.reports(model))}
    assert {name.decode() for name in told} == set(config.endpoints)
    assert {probe.kind for probe in config.probes.values()} == {"none"}


def test_wrong_use_is_refused() -> None:
    done = run("--span", "0")
    assert done.returncode == 2
    assert "--span must be above 0" in done.stderr
