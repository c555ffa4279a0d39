"""YAML text as a tree with lines."""

from __future__ import annotations

import pytest

from balancer.config.document import Node, read
from balancer.config.problems import Problems

TEXT = """\
top: 1
block:
  inner: text
list:
  - a
  -
    b: 2
alias: &x {deep: yes}
again: *x
folded: >
  two
  lines
"""


def tree(text: str, environ: dict[str, str] | None = None) -> Node:
    problems = Problems("t.yaml")
    node = read(text, problems, {} if environ is None else environ)
    assert not problems, str(problems.error())
    assert node is not None
    return node


def told(text: str) -> list[str]:
    problems = Problems("t.yaml")
    read(text, problems, {})
    return str(problems.error()).splitlines()


def plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(one) for one in node.value] if isinstance(node.value, list) else node.value


def at(node: Node, *path: str | int) -> Node:
    for step in path:
        assert isinstance(node.value, (dict, list))
        node = node.value[step]  # type: ignore[index]
    return node


@pytest.mark.parametrize(
    ("path", "line"),
    [(("top",), 1), (("block",), 2), (("block", "inner"), 3), (("list",), 4), (("list", 0), 5), (("list", 1), 7),
     (("list", 1, "b"), 7), (("alias",), 8), (("again",), 9), (("again", "deep"), 8), (("folded",), 10)],
)  # fmt: skip
def test_each_value_knows_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert at(tree(TEXT), *path).place == line


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-7", -7), ("0x1f", 31), ("0o17", 15), ("1e3", 1000.0), ("1.", 1.0), (".5", 0.5), ("true", True),
     ("False", False), ("null", None), ("~", None), ("", None), ("no", "no"), ("on", "on"),
     ("2025-04-14", "2025-04-14"), ("1:30", "1:30"), ("1_000", "1_000"), ("'1'", "1"),
     ('"true"', "true"), ("!!str 1", "1"),
     ("9" * 30, float("9" * 30)), ("-.inf", float("-inf"))],
)  # fmt: skip
def test_a_scalar_has_the_type_of_yaml_1_2(text: str, value: object) -> None:
    node = at(tree(f"key: {text}\n"), "key")
    assert node.value == value
    assert type(node.value) is type(value)


def test_a_number_keeps_how_it_was_written() -> None:
    assert at(tree("version: 1.10"), "version").written == "1.10"


def test_a_variable_is_put_in_and_what_was_written_is_kept() -> None:
    node = at(tree("key: x${A}", {"A": "secret"}), "key")
    assert (node.value, node.written) == ("xsecret", "x${A}")


def test_own_keys_win_over_merged_ones_wherever_they_stand() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b], x: 3}\n"
    assert plain(at(tree(text), "c")) == {"z": 3, "x": 3, "y": 1}


def test_a_quoted_merge_key_is_text() -> None:
    assert plain(tree('"<<": 1')) == {"<<": 1}


def test_aliases_share_one_node_and_count_in_full() -> None:
    node = tree("a: &a [1, 2, 3]\nb: [*a, *a]\n")
    assert at(node, "b").size == 9


def test_nothing_is_built_of_an_empty_text() -> None:
    problems = Problems("t.yaml")
    assert read("# nothing\n", problems, {}) is None
    assert not problems


def test_a_bomb_of_aliases_is_refused_before_it_is_walked() -> None:
    text = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{'*' + chr(97 + n)}{', *' + chr(97 + n)}]\n" for n in range(25)
    )
    assert "once aliases are followed" in told(text)[0]


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000, "1: {" * 500 + "}" * 500])
def test_depth_without_end_is_refused(text: str) -> None:
    assert len(told(text)) >= 1


def test_problems_of_a_failed_first_attempt_are_not_told_twice() -> None:
    lines = told("a: 1\na: 2\nb: [")
    assert len(lines) == 1
    assert lines[0].startswith("t.yaml:3: invalid YAML at column 5: expected the node content, but found")
