"""Ten thousand requests; more are sent by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import balancer

SCRIPT = Path(__file__).with_name("api.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path
LIMIT = 400  # s; it takes 50 on two free cores


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
@pytest.mark.timeout(LIMIT + 20)
def test_ten_thousand_requests_find_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--requests", "10000"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        timeout=LIMIT,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "good: nothing was wrong"
