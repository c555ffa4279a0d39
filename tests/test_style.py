"""The house's own rules, run as the commands that a developer runs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "balancer"
TESTS = ROOT / "tests"

LINES_MAX = 400  # of the package: a file holds one idea
TEST_LINES_MAX = 600  # a test file mirrors one module, and its tables are long

UNMIRRORED = {
    "__init__.py": "a door: it only names what others hold",
    "__main__.py": "one call of the command line, tested as a process",
}
"""File names of the package that need no test file, each with its reason."""

VERBS = "tests/cli/test_verbs.py"  # a verb is tested as the process that a user starts
LOADED = "tests/config/test_load.py"  # the broken files, each with its exact message, are the test of every rule
TESTED_ELSEWHERE = {
    "balancer/cli/best.py": VERBS,
    "balancer/cli/check.py": VERBS,
    "balancer/cli/drain.py": VERBS,
    "balancer/cli/resume.py": VERBS,
    "balancer/cli/schema.py": VERBS,
    "balancer/cli/status.py": VERBS,
    "balancer/config/overlay.py": LOADED,
    "balancer/config/rules.py": LOADED,
    "balancer/config/settings.py": "tests/config/test_check.py",  # sections have exactly the keys of their values
    "balancer/config/shape.py": "tests/config/test_schema.py",  # every key, its bounds and its default
    "balancer/http/parameters.py": "tests/http/test_openapi.py",  # the page that they are part of
    "balancer/store/history/questions.py": "tests/store/history/test_reading.py",  # their answers
    "balancer/config/vocabulary.py": "tests/config/test_schema.py",
}
"""Modules whose test file has another name, because they are only seen through another door."""

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
SOURCES = sorted(path for path in (*MODULES, *TESTS.rglob("*.py")) if "__pycache__" not in path.parts)


def run(*command: str) -> None:
    """Run a tool of this very environment in the root of the repository; show what it says when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def beside(name: str) -> str:
    """The script that was installed beside this interpreter."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is not installed beside {sys.executable}; pip install '.[test]'"
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", ".")


def test_everything_is_formatted() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_the_types_are_strict_and_right() -> None:
    run(sys.executable, "-m", "mypy")


def test_the_floors_of_the_house_hold() -> None:
    run(beside("lint-imports"))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{named(path)} has no docstring"


@pytest.mark.parametrize("path", [path for path in MODULES if path.name not in UNMIRRORED], ids=named)
def test_every_module_has_a_test_file_of_its_name_or_another_named_here(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    mirrored = named(TESTS / inside.with_name(f"test_{inside.name}"))
    tested = TESTED_ELSEWHERE.get(named(path), mirrored)
    assert (ROOT / tested).exists(), f"{named(path)} is tested nowhere; write {tested}"


def test_what_is_tested_elsewhere_exists_and_has_no_file_of_its_own() -> None:
    for module in TESTED_ELSEWHERE:
        path = ROOT / module
        assert path.exists(), f"{module} is gone; take it off the list"
        inside = path.relative_to(PACKAGE)
        own = TESTS / inside.with_name(f"test_{inside.name}")
        assert not own.exists(), f"{named(own)} exists; take {module} off the list"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_file_is_too_long(path: Path) -> None:
    most = LINES_MAX if PACKAGE in path.parents else TEST_LINES_MAX
    lines = len(path.read_text().splitlines())
    assert lines <= most, f"{named(path)} has {lines} lines; {most} are allowed"
