"""The long life of `memory.py`, shortened: its whole length is run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import balancer

SCRIPT = Path(__file__).with_name("memory.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        timeout=110,
    )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_unreported_decisions_cost_no_memory() -> None:
    done = run("--decisions", "80000", "--since", "30000", "--limit", "0.7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("good: ")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_more_growth_than_the_limit_is_a_failure() -> None:
    done = run("--decisions", "2000", "--since", "100", "--limit", "-1000")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("TOO MUCH: ")
