"""The daemon is killed at random moments, and starts again on what it left."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from kills import Rounds

ROUNDS = 20  # 200 and more by `python tests/system/kills.py`


@pytest.mark.timeout(300)
async def test_whatever_the_moment_it_starts_again_and_knows_all_but_the_last_interval(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, seed=7)
    await rounds.run(ROUNDS)
    assert rounds.faults.told == []
