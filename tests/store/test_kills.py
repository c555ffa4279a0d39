"""Kill -9 while the state is saved: 20 times here, 200 times by `python tests/store/kills.py`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_whenever_it_is_killed_a_whole_file_is_left_that_is_as_new_as_what_was_saved() -> None:
    script = str(Path(__file__).with_name("kills.py"))
    done = subprocess.run([sys.executable, script, "--rounds", "20"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.fullmatch(r"20 kills, (\d+) of them in the middle of a save, (\d+) saves; 0 faults\n", done.stdout)
    assert said is not None, done.stdout
    assert int(said[1]) > 0  # else nothing was tried
