"""Problems as values and as lines."""

from __future__ import annotations

import pytest

from balancer.config.problems import ConfigError, ConfigProblem, Problems, near, path_text, shown


def test_a_problem_is_one_line_of_place_found_and_allowed() -> None:
    problem = ConfigProblem(
        file="a.yaml", line=6, path="probe.interval", found="0s is out of range", allowed="use 1s to 1h"
    )
    assert str(problem) == "a.yaml:6: probe.interval: 0s is out of range; use 1s to 1h"


def test_a_problem_of_the_whole_file_has_neither_line_nor_path() -> None:
    problem = ConfigProblem(file="a.yaml", line=None, path="", found="Is a directory", allowed="")
    assert str(problem) == "a.yaml: Is a directory"


def test_an_error_lists_its_problems_in_the_order_of_the_file() -> None:
    problems = Problems("a.yaml")
    problems.add(9, ("b",), "late", "")
    problems.add(2, ("a", 3, "c"), "early", "")
    error = problems.error()
    assert isinstance(error, ConfigError)
    assert str(error) == "a.yaml:2: a[3].c: early\na.yaml:9: b: late"


def test_a_problem_touches_every_place_around_it_and_none_beside_it() -> None:
    problems = Problems("a.yaml")
    problems.add(1, ("a", 0, "b"), "x", "")
    assert [problems.touches(path) for path in (("a",), ("a", 0), ("a", 0, "b"), ("a", 1), ("b",))] == [
        True, True, True, False, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a\nb", '"a\\nb"'),
        (" a", '" a"'),
        ("x" * 100, "x" * 79 + "…"),
        ("https://user:word@host/path?key=1#f", "https://***@host/path?***"),
        ("https://user:wo/rd#@host", "https://***@host"),
        ("user:word@host", "***@host"),
        ("https://host/v1", "https://host/v1"),
    ],
)
def test_text_is_repeated_on_one_line_and_without_what_is_private(text: str, line: str) -> None:
    assert shown(text) == line


def test_a_path_reads_like_the_file() -> None:
    assert (
        path_text(("models", "openai/gpt-4.1", "endpoints", 1, "weight"))
        == "models.openai/gpt-4.1.endpoints[1].weight"
    )


def test_the_nearest_word_is_named_only_when_it_is_near() -> None:
    assert near("wieght", ("weight", "model")) == "weight"
    assert near("zzz", ("weight", "model")) is None
