"""Several files as one: what is joined, what is refused, and that a cut through a file changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import ConfigError, json_schema, load_config, parse_config
from balancer.config.document import NODES_MAX, Node, read
from balancer.config.join import join
from balancer.config.problems import Problems

SEVERAL = Path(__file__).parent / "several"
ENVIRON = {"PRESENT": "present-value-of-a-test", "LEVEL": "level-value"}
SECRETS = ("sk-live-123456", "hunter2", "present-value", "level-value")

Tree = dict[str, Any]


@pytest.mark.parametrize("case", sorted(path.name for path in SEVERAL.iterdir()))
def test_broken_files_are_refused_with_exactly_these_lines(case: str, tmp_path: Path) -> None:
    # A copy, because a checkout may be open to all, and then none of it would be read.
    place = shutil.copytree(SEVERAL / case, tmp_path / case, copy_function=shutil.copyfile)
    for directory in (place, place / "balancer.d"):
        directory.chmod(0o755)
    with pytest.raises(ConfigError) as caught:
        load_config(place / "balancer.yaml", environ=ENVIRON)
    told = str(caught.value).replace(f"{place}/", "") + "\n"
    assert told == (place / "expected").read_text(encoding="utf-8")
    assert not any(secret in told for secret in SECRETS)


def tree(text: str, name: str) -> Node:
    problems = Problems(name)
    node = read(text, problems, {})
    assert node is not None
    assert not problems
    return node


def joined(*texts: str) -> tuple[object, list[str]]:
    problems = Problems("whole")
    node = join([tree(text, f"{number}.yaml") for number, text in enumerate(texts)], problems)
    assert node is not None
    return plain(node), [str(problem) for problem in problems.error().problems]


def plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(one) for one in node.value] if isinstance(node.value, list) else node.value


def test_mappings_are_joined_however_deep_and_keep_the_order_of_the_files() -> None:
    whole, told = joined("b: {x: {one: 1}}\na: 1", "b: {x: {two: 2}, y: [3]}", "c: {}\nb: {x: {three: [3]}}")
    assert whole == {"b": {"x": {"one": 1, "two": 2, "three": [3]}, "y": [3]}, "a": 1, "c": {}}
    assert list(whole) == ["b", "a", "c"]
    assert told == []


@pytest.mark.parametrize(
    ("first", "second", "held", "told"),
    [
        ("a: 1", "a: 1", 1, "given in 0.yaml:1 too; keep one of them"),
        ("a: [1]", "a: [2]", [1], "given in 0.yaml:1 too; keep one of them: a list stands in one file"),
        ("a: {b: 1}", "a: [2]", {"b": 1}, "a list, and a mapping in 0.yaml:1; keep one of them"),
        ("a: {env: A}", "a: {file: B}", {"env": "A"}, "given in 0.yaml:1 too; keep one of them"),
        ("a: {env: A}", "a: {env: A}", {"env": "A"}, "given in 0.yaml:1 too; keep one of them"),
    ],
)
def test_what_is_no_section_is_given_once(first: str, second: str, held: object, told: str) -> None:
    assert joined(first, second) == ({"a": held}, [f"1.yaml:1: a: {told}"])


def test_where_a_section_is_something_else_in_one_file_that_one_is_told() -> None:
    assert joined("a: text", "a: {b: 1}", "a: {c: 2}") == (
        {"a": {"b": 1, "c": 2}},
        ["0.yaml:1: a: text, and a mapping in 1.yaml:1; keep one of them"],
    )


@pytest.mark.parametrize(("first", "second"), [("a:", "a: {b: 1}"), ("a: {b: 1}", "a:")])
def test_an_empty_section_gives_way(first: str, second: str) -> None:
    assert joined(first, second) == ({"a": {"b": 1}}, [])


@pytest.mark.parametrize("files", [("a: {}", "a: {b: 1}"), ("a: {b: 1}", "a: {}"), ("a:", "a: {}", "a: {b: 1}")])
def test_that_there_is_nothing_is_said_and_refused_beside_something(files: tuple[str, ...]) -> None:
    empty, full = files.index("a: {}"), files.index("a: {b: 1}")
    problem = (
        f"{empty}.yaml:1: a: {{}} says that there is nothing, and {full}.yaml:1 has something; keep one of them"
    )
    assert joined(*files) == ({"a": {"b": 1}}, [problem])


@pytest.mark.parametrize("lifted_first", [True, False])
def test_the_limits_that_one_file_lifts_are_set_by_no_other(lifted_first: bool, tmp_path: Path) -> None:
    door: Tree = {"base_url": "https://a.example", "limits": {"rpm": 5}, "variants": {"eu": {"limits": {}}}}
    model: Tree = {"endpoints": [{"provider": "a/eu", "model": "m"}]}
    main: Tree = {"providers": {"a": door}, "models": {"b/m": model}}
    other: Tree = {"providers": {"a": {"variants": {"eu": {"limits": {"rpm": 7}}}}}}
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, [main, other] if lifted_first else [other, main]), environ=ENVIRON)
    (problem,) = caught.value.problems
    assert problem.path == "providers.a.variants.eu.limits"


@pytest.mark.parametrize("empty", ["a:", "a: {}"])
def test_an_empty_section_in_every_file_is_empty(empty: str) -> None:
    assert joined(empty, empty) == ({"a": None if empty == "a:" else {}}, [])


def test_a_file_without_any_key_is_nobodys_mistake() -> None:
    assert joined("{}", "a: {b: 1}") == ({"a": {"b": 1}}, [])


def test_every_file_after_the_first_is_told() -> None:
    _, told = joined("a: 1", "a: 2", "a: 3")
    assert [line.partition(":")[0] for line in told] == ["1.yaml", "2.yaml"]


def test_providers_with_the_names_of_a_secrets_places_are_no_place() -> None:
    whole, told = joined("p: {env: {base_url: a}}", "p: {file: {base_url: b}}")
    assert whole == {"p": {"env": {"base_url": "a"}, "file": {"base_url": "b"}}}
    assert told == []


def test_more_values_than_one_file_may_have_are_too_many_in_several() -> None:
    bomb = "a: &a [" + "1, " * 999 + "1]\n" + "b: &b [" + "*a, " * 599 + "*a]\n"
    problems = Problems("whole")
    one, two = (tree(bomb.replace("a: &", f"{name}: &").replace("b: &", f"{name}b: &"), name) for name in "xy")
    assert one.size < NODES_MAX < one.size + two.size
    assert join([one, two], problems) is None
    assert str(problems.error()) == f"whole: more than {NODES_MAX} values in all files together; use fewer"


WHOLE: Tree = {
    "listen": ["127.0.0.1:0"],
    "auth": {"tokens": [{"name": "ops", "scopes": ["admin"], "token": {"env": "PRESENT"}}]},
    "providers": {
        "openai": {
            "base_url": "https://api.openai.com/v1",
            "credential": {"env": "PRESENT"},
            "limits": {"rpm": 60, "tpm": 1000},
            "variants": {"eu": {"zdr": True, "limits": {"tpm": 1000}}, "us": {"region": "us"}},
            "status_page": {"url": "https://status.example", "interval": "2m"},
        },
        "other": {"base_url": "https://other.example", "name": "Other"},
    },
    "models": {
        "openai/gpt-4.1": {
            "aliases": ["gpt"],
            "context_length": 1000,
            "health": {"enforce": False},
            "endpoints": [{"provider": "openai/eu", "model": "a", "probe": {"concurrency": 2, "interval": "20s"}}],
        },
        "team/large": {"name": "large", "endpoints": [{"provider": "other", "model": "b"}]},
    },
    "routing": {"strategy": "price", "sticky": {"ttl": "1m", "max_sessions": 10}, "timeouts": {"connect": "1s"}},
    "health": {"hold": "1s", "hold_max": "2s"},
    "probe": {"kind": "http", "url": "/health", "send_headers": {"X-A": "a", "X-B": {"env": "PRESENT"}}},
    "log": {"level": "debug"},
}  # fmt: skip


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    """Everything that a cut may not go through, with its path."""
    found: list[tuple[tuple[str, ...], object]] = []
    for key, value in tree.items():
        if isinstance(value, dict) and not value.keys() <= {"env", "file", "credential"}:
            found += leaves(value, (*path, key))
        else:
            found.append(((*path, key), value))
    return found


def put(tree: Tree, path: tuple[str, ...], value: object) -> None:
    *inside, last = path
    for key in inside:
        tree = tree.setdefault(key, {})
    tree[last] = value


PIECES = leaves(WHOLE)
FRAGMENT = jsonschema.Draft202012Validator(json_schema(fragment=True))


def written(folder: Path, files: list[Tree]) -> Path:
    """Write a main file and what stands beside it, open to nobody else however the tests are run."""
    main, *others = files
    (folder / "balancer.d").mkdir(mode=0o755)
    for number, other in enumerate(others):
        (folder / "balancer.d" / f"{number}.yaml").write_text(json.dumps(other))
    (folder / "balancer.yaml").write_text(json.dumps(main))
    for path in folder.rglob("*.yaml"):
        path.chmod(0o644)
    return folder / "balancer.yaml"


@given(st.lists(st.integers(0, 2), min_size=len(PIECES), max_size=len(PIECES)))
@settings(max_examples=40, deadline=None)
def test_however_a_file_is_cut_the_pieces_are_the_same_configuration(owners: list[int]) -> None:
    files: list[Tree] = [{}, {}, {}]
    for owner, (path, value) in zip(owners, PIECES, strict=True):
        put(files[owner], path, value)
    for file in files:
        FRAGMENT.validate(file)
    with TemporaryDirectory() as folder:
        cut = load_config(written(Path(folder), files), environ=ENVIRON)
    assert cut == parse_config(json.dumps(WHOLE), source=f"{folder}/balancer.yaml", environ=ENVIRON)


@given(st.sampled_from(PIECES))
@settings(max_examples=20, deadline=None)
def test_what_is_given_again_in_another_file_is_one_problem_that_names_both(piece: tuple[Any, Any]) -> None:
    again: Tree = {}
    put(again, *piece)
    with TemporaryDirectory() as folder, pytest.raises(ConfigError) as caught:
        load_config(written(Path(folder), [WHOLE, again]), environ=ENVIRON)
    (problem,) = caught.value.problems
    assert problem.file == f"{folder}/balancer.d/0.yaml"
    assert problem.found == f"given in {folder}/balancer.yaml:1 too"
