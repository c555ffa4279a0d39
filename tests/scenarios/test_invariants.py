from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import balancer

SCRIPT = Path(__file__).with_name("invariants.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path
EACH = 20  # seeds a process; a slow machine needs most of a minute for a hundred


@pytest.mark.parametrize("first", range(0, 100, EACH))
def test_a_hundred_random_histories_break_no_promise_at_any_step(first: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--first", str(first), "--seeds", str(EACH)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    met = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", done.stdout)}
    assert met["seeds"] == EACH
    assert met["broken"] == 0
    # A history in which nothing happens would break nothing.
    for name in ("decisions", "trials", "panics", "refusals", "ejections", "readmissions"):
        assert met[name] > EACH / 10, name
