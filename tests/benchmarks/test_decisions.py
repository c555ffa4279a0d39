"""The benchmark of decisions measures what it says: it decides and records, and time goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("decisions", Path(__file__).with_name("decisions.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["decisions"] = module
    spec.loader.exec_module(module)
    return module


def test_every_cell_takes_time(benchmark: ModuleType) -> None:
    for name, turn in benchmark.cells().items():
        assert turn() > 0, name


def test_every_goal_is_of_a_cell(benchmark: ModuleType) -> None:
    assert benchmark.GOALS.keys() <= benchmark.cells().keys()
