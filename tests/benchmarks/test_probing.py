"""The benchmark of probing measures what it says: a small run of it, its arithmetic, and the world it makes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import balancer
from balancer.core.balancer import Balancer
from balancer.core.model import Catalog
from balancer.metrics import Metrics

SCRIPT = Path(__file__).with_name("probing.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("probing", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["probing"] = module
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


def measured(benchmark: ModuleType, **changes: Any) -> Any:
    late = [90, 95, 97, 98, 99, 100, 100, 100, 100, 100, 100]
    values = {"core": 0.1, "probes": 10.0, "connects": 0.0, "cost": 0.01, "memory": 5.0, "late": late}
    return benchmark.Measured(**(values | changes))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_small_run_prints_every_prober_and_what_memory_is_made_of() -> None:
    done = run("--targets", "60", "--interval", "1", "--span", "2", "--passes", "1")
    assert done.returncode in (0, 1), done.stdout + done.stderr  # a fixed cost is much for so few targets
    said, head, *lines = done.stdout.splitlines()
    assert said.startswith("60 targets at 1 s, spans of 2 s; ")
    assert head.split()[2:4] == ["probes/s", "connects/s"]
    for name, line in zip(("models", "tcp", "bare aiohttp"), lines, strict=False):
        probes, connects, core, cost, ratio, _, p99, within, memory = line.removeprefix(name).split()
        assert 45 < float(probes) < 75, line
        assert float(connects) == (float(probes) if name == "tcp" else 0.0), line
        assert 0.0 < float(core.rstrip("%")) < 100.0, line
        assert float(cost) == pytest.approx(float(core.rstrip("%")) * 1e4 / float(probes), rel=0.05), line
        assert (float(ratio) == 1.0) == (name == "bare aiohttp"), line
        assert 0.0 < float(p99) <= 5000.0, line
        assert 0.0 < float(within.rstrip("%")) <= 100.0, line
        assert float(memory) > 0.0, line
    assert lines[3].startswith("of these kB: the table's rows alone ")
    assert all(line.startswith(("good: ", "TOO MUCH: ")) for line in lines[4:])
    assert len(lines) > 4


def test_the_bounds_are_those_of_the_metric(benchmark: ModuleType) -> None:
    table = Balancer(Catalog())
    metrics = Metrics(view=lambda: table.view(now=0.0), version="1")
    for bound in benchmark.BOUNDS:
        metrics.probe_started(bound)
    lines = [line for line in metrics.render("")[0].decode().splitlines() if line.startswith(benchmark.LATE)]
    assert [int(line.split()[-1]) for line in lines] == [*range(1, 11), 10]


def test_a_quantile_is_interpolated_within_its_bucket(benchmark: ModuleType) -> None:
    late = [50, 90, 90, 98, 100, 100, 100, 100, 100, 100, 100]
    assert benchmark.quantile(late, 0.25) == pytest.approx(0.0005)
    assert benchmark.quantile(late, 0.7) == pytest.approx(0.00175)
    assert benchmark.quantile(late, 0.94) == pytest.approx(0.0075)
    assert benchmark.quantile(late, 0.99) == pytest.approx(0.015)
    assert benchmark.quantile([0] * 10 + [3], 0.5) == 5.0


def test_a_broken_bound_is_told(benchmark: ModuleType) -> None:
    good = measured(benchmark)
    assert benchmark.broken([good, good], 10.0) == []
    loaded = measured(benchmark, core=0.3)
    assert benchmark.broken([good, good, loaded], 10.0) == [], "a busy moment of the machine is not ours"
    assert benchmark.broken([loaded], 10.0) == ["30.0 % of the core; under 15 % are allowed"]
    late = measured(benchmark, late=[0, 0, 0, 0, 9_899, *[10_000] * 6])
    assert benchmark.broken([late, good], 10.0) == ["98.99% of the starts within 20 ms; 99 % must be"]
    fat = measured(benchmark, memory=15.0)
    assert benchmark.broken([good, fat], 10.0) == ["15.0 kB a target; under 15 kB are allowed"]
    assert benchmark.broken([good], 10.6) == ["10.0 probes a second; 10.6 are due"]


@pytest.mark.parametrize("targets", [1, 50, 120])
def test_every_target_is_an_endpoint_at_a_port_of_its_own_with_a_key(
    benchmark: ModuleType, tmp_path: Path, targets: int
) -> None:
    file = tmp_path / "world.yaml"
    file.write_text(benchmark.written(range(20_000, 20_000 + targets), kind="models", interval=15))
    config = benchmark.read(file, targets)
    urls = {endpoint.base_url for endpoint in config.endpoints.values()}
    assert urls == {f"http://127.0.0.1:{port}/v1" for port in range(20_000, 20_000 + targets)}
    assert all(endpoint.misconfigured is None for endpoint in config.endpoints.values())
    assert None not in config.credentials.values()
    assert {(each.kind, each.interval) for each in config.probes.values()} == {("models", 15.0)}
    names = {endpoint.upstream_model for endpoint in config.endpoints.values()}
    assert all(f'"{name}"'.encode() in benchmark.listing() for name in names)


@pytest.mark.parametrize("arguments", [("--targets", "0"), ("--span", "-1"), ("--passes", "0")])
def test_wrong_use_is_refused(arguments: tuple[str, str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert f"{arguments[0]} must be above 0" in done.stderr
