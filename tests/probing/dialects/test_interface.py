"""Reading what servers send without believing its shape."""

from typing import get_args

import pytest

from balancer.core.model import Dialect
from balancer.probing.dialects import DIALECTS
from balancer.probing.dialects.interface import complained, count, error_in, mapping, parsed, used_up


def test_every_dialect_has_its_rules():
    assert set(DIALECTS) == set(get_args(Dialect))


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match="not JSON"):
        parsed(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"error": {"code": 502, "type": "server", "message": "bad"}}, "502 server bad"),
        ({"error": {"message": "bad"}}, "bad"),
        ({"error": {}}, "{}"),
        ({"error": "words"}, "words"),
        ({"error": None}, None),
        ({"data": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_an_error_is_found_in_any_of_its_shapes(value, text):
    assert error_in(value) == text


def test_only_whole_numbers_from_zero_up_are_counts():
    assert [count(value) for value in (0, 7, -1, True, 1.5, "3", None)] == [0, 7, *[None] * 5]


def test_only_objects_are_mappings():
    assert mapping({"a": 1}) == {"a": 1}
    assert mapping([1]) == {}


def test_the_error_of_a_refusal_is_an_object_or_empty():
    assert complained('{"error": {"code": 5}}') == {"code": 5}
    for text in ('{"error": "words"}', '{"error": null}', "[]", "nonsense", '{"error": {"code"', ""):
        assert complained(text) == {}


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"a-left": "0", "a-reset": "30"}, 30.0),
        ({"a-left": "1", "a-reset": "30"}, None),
        ({"a-left": "0"}, None),
        ({"a-reset": "30"}, None),
        ({"a-left": "", "a-reset": "30"}, None),
        ({"a-left": "0", "a-reset": "30", "b-left": "0", "b-reset": "40"}, 40.0),
        ({"a-left": "0", "a-reset": "30", "b-left": "5", "b-reset": "40"}, 30.0),
        ({"a-left": "0", "a-reset": "-1", "b-left": "0", "b-reset": "inf"}, None),
        ({"a-left": "0", "a-reset": "1m30s", "b-left": "0", "b-reset": "1700000080"}, 90.0),
        ({"a-left": "0", "a-reset": "nonsense", "b-left": "0", "b-reset": "2023-11-14T22:13:50Z"}, 30.0),
        ({"a-left": "-1", "a-reset": "0"}, None),  # Azure, where it does not count
    ],
)
def test_the_wait_is_the_longest_of_the_limits_of_which_nothing_is_left(headers, wait):
    assert used_up(headers, [("a-left", "a-reset"), ("b-left", "b-reset")], wall=1_700_000_000.0) == wait
