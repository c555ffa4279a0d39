"""What a dump must look like is seen through `Balancer.restore` too (`test_snapshot`); here are the words."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.kept import SPAN_MAX, CeilingKept, DrainKept, Ended, EndpointKept, Judge, TableKept, read, span

EMPTY: dict[str, Any] = {
    "version": 1, "windows": [30.0], "endpoints": {}, "quotas": {}, "drains": [], "sessions": [],
}  # fmt: skip
HEALTH: dict[str, Any] = {
    "phase": "closed", "age": 1.0, "hold": 0.0, "reason": "", "ejections": 0.0, "cause": None, "ramp_left": 0,
    "recent": [], "usual": 0.02, "learned": 0,
    "shallow": 0, "shallow_age": None, "refusals": 0, "refused_deep": False, "misconfigured": None,
}  # fmt: skip
ENDPOINT: dict[str, Any] = {
    "identity": "1", "age": None, "report_age": None, "verified": False, "probes_deep": False, "probe_age": None,
    "windows": {"report": [[[0, 1, 0, 0]]]}, "health": HEALTH,
    "throttle": {"hold": 0.0, "exponent": 0, "grown": None},
    "ceiling": {"cut": None, "age": 0.0, "rising": 0.0, "peak": 0, "requests": []}, "failures": [],
    "belief": None, "slowness": {"usual": 0.1, "judged": 0, "normals": []},
}  # fmt: skip
BELIEF: dict[str, Any] = {
    "age": 1.0, "good": True, "levels": [0.8, 0.1, 0.1, 0.0, 0.0], "places": [60.0, 0.0, 0.0, 0.0, 0.0],
    "degraded": False,
}  # fmt: skip


def holding(**endpoint: Any) -> dict[str, Any]:
    return EMPTY | {"endpoints": {"m@a": ENDPOINT | endpoint}}


def table(*parts: Any) -> tuple[TableKept, dict[str, EndpointKept]]:
    """The last of these parts, which are all."""
    judge = Judge()
    for each in parts:
        found = judge.look(each)
    judge.end()
    return found


def test_a_span_has_bounds_on_both_sides() -> None:
    assert [span(-1.0), span(2.5), span(float("inf"))] == [0.0, 2.5, SPAN_MAX]


def test_the_smallest_dump_is_one() -> None:
    kept, endpoints = table(EMPTY)
    assert kept.windows == [30.0]
    assert endpoints == {}


def test_an_endpoint_comes_with_its_types() -> None:
    _, endpoints = table(holding(health=HEALTH | {"recent": [[2, True]]}, belief=BELIEF))
    found = endpoints["m@a"]
    assert found.health.recent == [Ended(2.0, True)]
    assert found.belief is not None
    assert (found.belief.levels, found.belief.places[0]) == ((0.8, 0.1, 0.1, 0.0, 0.0), 60.0)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "state: Expected `object`, got `null`"),
        ([], "state: Expected `object`, got `array`"),
        ({}, "state: Object missing required field `version`"),
        (EMPTY | {"version": 2}, "state.version: 2 is not known here; use a dump of version 1"),
        (EMPTY | {"version": "1"}, "state.version: Expected `int`, got `str`"),
        (EMPTY | {"version": True}, "state.version: Expected `int`, got `bool`"),
        (EMPTY | {"extra": 1}, "state: Object contains unknown field `extra`"),
        (EMPTY | {1: 2}, "key in state: Expected `str`"),
        (EMPTY | {"windows": [float("nan")]}, "state.windows[0]: Expected `float` >= 0.0"),
        (EMPTY | {"quotas": {"a": [[0, 1, 2]]}}, "state.quotas[...][0]: Expected `array` of length >= 4"),
        (EMPTY | {"drains": [{}]}, "state.drains[0]: Object missing required field `target`"),
        (EMPTY | {"endpoints": {"m@a": 7}}, "state.endpoints['m@a']: Expected `object`, got `int`"),
        (holding(verified=1), "state.endpoints['m@a'].verified: Expected `bool`, got `int`"),
        (
            holding(health=HEALTH | {"phase": "half_open"}),
            "state.endpoints['m@a'].health.phase: Invalid enum value 'half_open'",
        ),
        (
            holding(health=HEALTH | {"hold": float("inf")}),
            "state.endpoints['m@a'].health.hold: Expected `float` <= 1000000000.0",
        ),
        (
            holding(health=HEALTH | {"cause": "bad luck"}),
            "state.endpoints['m@a'].health.cause: Invalid enum value 'bad luck'",
        ),
        (
            holding(health=HEALTH | {"usual": 1.5}),
            "state.endpoints['m@a'].health.usual: Expected `float` <= 1.0",
        ),
        (
            holding(belief=BELIEF | {"levels": [0.5, 0.5, 0.0, 0.0]}),
            "state.endpoints['m@a'].belief.levels: Expected `array` of length 5, got 4",
        ),
        (
            holding(belief=BELIEF | {"places": [-1.0, 0.0, 0.0, 0.0, 0.0]}),
            "state.endpoints['m@a'].belief.places[0]: Expected `float` >= 0.0",
        ),
        (
            holding(belief=BELIEF | {"levels": [1.0, 0.0, 0.0, 0.0, 2.0]}),
            "state.endpoints['m@a'].belief.levels[4]: Expected `float` <= 1.0",
        ),
        (
            holding(windows={"report": []}),
            "state.endpoints['m@a'].windows.report: 0 windows; state.windows names 1",
        ),
        (
            holding(windows={"report": [[[0, -1, 0, 0]]]}),
            "state.endpoints['m@a'].windows[...][0][0][1]: Expected `int` >= 0",
        ),
    ],
)
def test_what_is_no_dump_is_refused_with_the_place_and_what_was_found(state: object, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        table(state)
    assert str(refused.value) == message


@pytest.mark.parametrize("number", [10**400, 2**31])
def test_numbers_beyond_what_is_counted_with_are_refused(number: int) -> None:
    plain = {"cut": None, "age": 0.0, "rising": 0.0, "peak": number, "requests": []}
    with pytest.raises(ValueError, match=r"^here\.peak: "):
        read(plain, CeilingKept, "here")


def test_text_that_cannot_be_spelled_in_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^here"):
        read({"target": "a", "reason": "", "age": 0.0, "left": None, "\ud800": 1}, DrainKept, "here")
