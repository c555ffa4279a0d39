"""The walk over the tree: what is kept, and what is told."""

from __future__ import annotations

import msgspec

from balancer.config.check import BROKEN, check_tree, decode
from balancer.config.document import read
from balancer.config.problems import Problems

TEXT = """
providers: {a: {base_url: "https://a.example", zdr: perhaps}}
models:
  x/y:
    endpoints:
      - {model: no provider}
      - {provider: a, model: m, weight: heavy, priority: 3}
      - {provider: a/b, model: m}
"""


def test_what_fits_is_kept_and_remembers_where_it_stood() -> None:
    problems = Problems("t.yaml")
    root = read(TEXT, problems, {})
    assert root is not None
    checked = check_tree(root, problems)
    file = decode(checked)
    endpoints = file.models["x/y"].endpoints
    within = ("models", "x/y", "endpoints")
    assert [(one.provider, one.priority) for one in endpoints] == [("a", 3), ("a/b", msgspec.UNSET)]
    assert [checked.number(within, index) for index in (0, 1)] == [1, 2]
    assert file.providers["a"] is not None
    assert file.providers["a"].zdr is msgspec.UNSET
    assert len(problems.error().problems) == 3


def test_a_file_that_lacks_what_it_must_have_leaves_nothing() -> None:
    problems = Problems("t.yaml")
    root = read("log: {level: debug}", problems, {})
    assert root is not None
    assert check_tree(root, problems).tree is BROKEN
