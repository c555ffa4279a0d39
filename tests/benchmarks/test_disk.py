"""The benchmark of a disk in trouble measures what it says: a small run of it, and what it makes of numbers."""

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
from balancer.config import parse_config

SCRIPT = Path(__file__).with_name("disk.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path
NO_DISK = 2


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("disk", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["disk"] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **environ},
        timeout=110,
    )


def test_a_small_run_tells_of_every_phase_and_that_it_is_well_again() -> None:
    done = run("--only", "garbage", "--span", "1.5", "--passes", "1", "--rate", "40")
    if done.returncode == NO_DISK and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # a busy machine adds what it likes
    said, head, calm, during, after, *judged = done.stdout.splitlines()
    assert said.startswith("40 decisions and reports a second, spans of 1.5 s; ")
    assert head.split()[-6:] == ["×", "calm", "errors", "dropped", "told", "well"]
    assert [calm.split()[:2], during.split()[0], after.split()[0]] == [["garbage", "calm"], "during", "after"]
    numbers = during.split()
    assert 40 < int(numbers[1]) < 80
    assert all(float(each) > 0 for each in numbers[2:7])
    assert numbers[7:10] == ["0+1", "0", "1/1"]
    assert 0 < float(numbers[10]) < 20
    assert judged[-1].startswith(("good: garbage adds ", "TOO MUCH: garbage adds "))


def test_what_a_trouble_adds_is_the_median_of_its_passes(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def passed(calm: float, trouble: float, **changes: Any) -> Any:
        facts = {"after": [0.001], "counts": {}, "failed": 1, "recovered": 1, "well": 1.0, **changes}
        return benchmark.Pass(calm=[calm], trouble=[trouble], **facts)

    good = [passed(0.001, 0.0015), passed(0.001, 0.5), passed(0.002, 0.002)]
    assert benchmark.judged({"full": good, "locked": good[2:]}) == 0
    assert capsys.readouterr().out == "good: full adds 0.50 ms to p99, the most; under 1 ms are allowed\n"
    assert benchmark.judged({"full": good, "locked": [passed(0.001, 0.003)]}) == 1
    assert capsys.readouterr().out.startswith("TOO MUCH: locked adds 2.00 ms to p99")
    assert benchmark.judged({"full": [passed(0.001, 0.001, recovered=0)]}) == 1
    assert capsys.readouterr().out.startswith("TOLD WRONG: full\n")


def test_a_store_that_tells_is_well_again_when_that_was_its_last_word(benchmark: ModuleType) -> None:
    failed, well = (1.0, "history", "store.failed"), (2.0, "history", "store.recovered")
    other = (1.0, "state", "store.recovered")
    history, both = frozenset({"history"}), frozenset({"history", "state"})
    assert benchmark._settled([], history) is None
    assert benchmark._settled([failed], history) is None
    assert benchmark._settled([failed, well, failed], both) is None
    assert benchmark._settled([other, failed, well], history) is None, "nobody expects that of the state"
    assert benchmark._settled([failed, well], history) == [failed, well]
    assert benchmark._settled([other], both) == [other]
    assert benchmark._settled([], frozenset()) == []


def test_its_world_has_50_endpoints(benchmark: ModuleType) -> None:
    assert len(parse_config(benchmark.written(8080), source="test").endpoints) == 50


def test_without_a_right_to_mount_it_says_so_and_stops(tmp_path: Path) -> None:
    refusing = tmp_path / "mount"
    refusing.write_text("#!/bin/sh\necho 'mount: must be superuser' >&2\nexit 1\n")
    refusing.chmod(0o755)
    done = run("--only", "full", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (NO_DISK, "")
    assert done.stderr == "a disk cannot be mounted here: mount: must be superuser; run it as root\n"


@pytest.mark.parametrize("arguments", [("--span", "0"), ("--passes", "-1"), ("--only", "nobody")])
def test_wrong_use_is_refused(arguments: tuple[str, str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
