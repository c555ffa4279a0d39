"""Query strings: names that are known, each given once."""

import pytest

from balancer.http.answers import Refused
from balancer.http.query import FIELDS_MAX, UNKNOWN_MAX, pairs, single, split


def test_names_of_a_query_are_known_and_given_once() -> None:
    assert pairs("", ()) == {}
    assert pairs("a=1&a=2&b=", ("a", "b")) == {"a": ["1", "2"], "b": [""]}
    assert single("a=1", ("a",)) == {"a": "1"}
    for query in ("c=1", "c"):
        with pytest.raises(Refused, match="c: unknown parameter; allowed: a"):
            pairs(query, ("a",))
    with pytest.raises(Refused, match="c: unknown parameter; none is allowed here"):
        pairs("c=1", ())
    with pytest.raises(Refused, match="a: given 2 times"):
        single("a=1&a=1", ("a",))


def test_a_query_has_a_limit_and_is_text() -> None:
    with pytest.raises(Refused, match="more than 300 fields"):
        pairs("&".join(["a=1"] * (FIELDS_MAX + 1)), ("a",))
    with pytest.raises(Refused, match="not valid UTF-8"):
        pairs("a=%FF", ("a",))
    with pytest.raises(Refused, match="not valid UTF-8"):
        pairs("a=\udcff", ("a",))


def test_unknown_names_are_told_beside_the_known_ones_and_not_without_end() -> None:
    values, problems = split("a=1&b=2&c=3&b=4", ("a",))
    assert values == {"a": ["1"]}
    assert problems == ["b: unknown parameter; allowed: a", "c: unknown parameter; allowed: a"]
    with pytest.raises(Refused) as refused:
        pairs("&".join(f"x{number}=1" for number in range(100)), ("a",))
    assert refused.value.message.count("unknown parameter") == UNKNOWN_MAX
    assert refused.value.message.endswith("; 90 more parameters are unknown")
