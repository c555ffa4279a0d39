"""The benchmark of keeping the state, small enough for every run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).with_name("state.py")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    small = ("--endpoints", "50", "--sessions", "2000")
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *small, *options], capture_output=True, text=True, timeout=60
    )


def test_a_state_is_saved_beside_decisions_and_taken_back() -> None:
    done = run("--limit", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("50 endpoints, 2000 sessions: 0.")
    assert done.stdout.endswith("good\n")


def test_a_wait_beyond_the_limit_is_told_with_1() -> None:
    done = run("--limit", "0.001")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "TOO MUCH: the limit is 0.001 ms")
