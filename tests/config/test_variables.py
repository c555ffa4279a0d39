"""`${NAME}` in text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.variables import expand

ENVIRON = {"A": "alpha", "EMPTY": "", "TRICKY": "${A} $$"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${A}", "alpha"),
        ("x${A}y${A}", "xalphayalpha"),
        ("${B:-beta}", "beta"),
        ("${B:-}", ""),
        ("${A:-beta}", "alpha"),
        ("${EMPTY}", ""),
        ("${EMPTY:-beta}", "beta"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("^ok$", "^ok$"),
        ("$A", "$A"),
        ("${B:-http://127.0.0.1:11434/v1}", "http://127.0.0.1:11434/v1"),
    ],
)
def test_text_is_expanded(text: str, expanded: str) -> None:
    result = expand(text, ENVIRON)
    assert (result.text, result.faults) == (expanded, ())


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    assert expand("${TRICKY}", ENVIRON).text == "${A} $$"


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:+x}", "${A-x}", "${B:-${A}}"])
def test_what_begins_like_a_variable_and_is_none_is_a_fault(text: str) -> None:
    faults = expand(text, {}).faults
    assert next(found for found, _ in faults) == "${ begins no variable"


def test_each_unset_variable_is_a_fault_with_the_way_out() -> None:
    faults = expand("${B}${C}", ENVIRON).faults
    assert faults == (
        ("${B} is not set", "set it, or give a default: ${B:-…}"),
        ("${C} is not set", "set it, or give a default: ${C:-…}"),
    )


@given(st.text())
def test_doubled_dollars_protect_any_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}).text == text


def test_what_the_variables_held_is_told_apart_from_what_was_written() -> None:
    assert expand("x${A}y${B:-beta}$${A}${A}", ENVIRON).held == ("alpha", "alpha")
    assert expand("${EMPTY:-beta}, plain", ENVIRON).held == ()
