from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import balancer

SCRIPT = Path(__file__).with_name("core.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path


def test_the_benchmark_of_the_core_runs_and_prints_every_cell() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--passes", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["µs", "a", "second", "×", "reference"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "reference loop",
        *(f"best, {size} endpoints, {name}" for name in ("adaptive", "price") for size in (2, 10, 50, 200)),
        *(f"record, {kind}" for kind in ("success", "caller_error", "rate_limited")),
    ]
