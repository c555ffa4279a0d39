"""The walk over the tree: what is kept, and what is told."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from balancer.config.check import BROKEN, check_tree, decode, decode_as
from balancer.config.document import read
from balancer.config.problems import Problems
from balancer.config.vocabulary import Shape, told

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


class PairShape(Shape, frozen=True, kw_only=True):
    """Two numbers."""

    low: Annotated[float, told("The lower.")]


class OtherShape(Shape, frozen=True, kw_only=True):
    """Another file than the configuration: a key that is Python's own word, one kind or another, and a status."""

    lasting: Annotated[float, told("How long.")] = msgspec.field(name="for")
    price: Annotated[float | PairShape, told("One, or two.")]
    error: Annotated[Literal["429", "timeout"], told("What it is.")]


def test_other_files_are_checked_by_their_own_shape() -> None:
    problems = Problems("t.yaml")
    for text, price, error in (
        ("{for: 1, price: 2, error: 429}", 2, "429"),
        ("{for: 1, price: {low: 3}, error: timeout}", PairShape(low=3), "timeout"),
    ):
        root = read(text, problems, {})
        assert root is not None
        other = decode_as(check_tree(root, problems, OtherShape), OtherShape)
        assert (other.lasting, other.price, other.error) == (1, price, error)
    assert not problems
    root = read("{fro: 1, price: {hihg: 3}, error: 430}", problems, {})
    assert root is not None
    assert check_tree(root, problems, OtherShape).tree is BROKEN
    assert [str(problem) for problem in problems.error().problems] == [
        "t.yaml:1: fro: unknown key; did you mean for?",
        "t.yaml:1: price.hihg: unknown key; use low",
        "t.yaml:1: price.low: missing; give the lower",
        "t.yaml:1: error: 430 is a number; use 429, timeout",
        "t.yaml:1: for: missing; give how long",
    ]
