"""The options of a policy, read from their text.

Theory of operation: `split` cuts what follows the name in `two_memory:failure_price=40` into pairs of words; a
policy names its options with a default and bounds, and `read` turns the words into numbers. Each tells every
problem at once.

What this module does not know: what an option does, and the options of the core (`ours` reads those).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from balancer.config.problems import near, one_of


class Number(NamedTuple):
    """One option: its default and its bounds, both allowed."""

    default: float
    least: float
    most: float


def split(text: str) -> dict[str, str]:
    """Cut the options out of `name:key=value,key=value`. Raises: ValueError with every problem."""
    _, colon, rest = text.partition(":")
    options: dict[str, str] = {}
    problems: list[str] = []
    for pair in rest.split(",") if colon else ():
        key, sign, value = pair.partition("=")
        if not (key and sign and value):
            problems.append(f"{pair!r} is no option; write key=value")
        elif key in options:
            problems.append(f"{key}: was given twice")
        else:
            options[key] = value
    if problems:
        raise ValueError("; ".join(problems))
    return options


def read(options: Mapping[str, str], allowed: Mapping[str, Number]) -> dict[str, float]:
    """Give each option that is allowed its value. Raises: ValueError with every problem."""
    values = {key: number.default for key, number in allowed.items()}
    problems: list[str] = []
    for key, text in options.items():
        if key not in allowed:
            problems.append(f"{key}: unknown option; {hint(key, allowed)}")
            continue
        _, least, most = allowed[key]
        try:
            value = float(text)
        except ValueError:
            problems.append(f"{key}: {text!r} is no number")
            continue
        if least <= value <= most:  # false of nan too
            values[key] = value
        else:
            problems.append(f"{key}: {text} is out of range; use {least:g} to {most:g}")
    if problems:
        raise ValueError("; ".join(problems))
    return values


def hint(wrong: str, allowed: Mapping[str, object]) -> str:
    """The nearest of what is allowed, or all of it."""
    if not allowed:
        return "there are none"
    meant = near(wrong, tuple(allowed))
    return f"use {one_of(allowed)}" if meant is None else f"did you mean {meant}?"
