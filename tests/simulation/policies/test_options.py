from __future__ import annotations

import pytest

from balancer.simulation.policies.options import Number, hint, read, split

ALLOWED = {"failure_price": Number(15.0, 0.0, 1e6), "memory": Number(600.0, 1.0, 1e6)}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("two_memory", {}),
        ("two_memory:failure_price=40", {"failure_price": "40"}),
        ("balancer:strategy=price,health.holds=3", {"strategy": "price", "health.holds": "3"}),
        ("p:a=b=c", {"a": "b=c"}),
    ],
)
def test_what_follows_the_colon_is_cut_into_pairs(text: str, options: dict[str, str]) -> None:
    assert split(text) == options


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("p:", "'' is no option; write key=value"),
        ("p:a", "'a' is no option; write key=value"),
        ("p:a=", "'a=' is no option; write key=value"),
        ("p:=1", "'=1' is no option; write key=value"),
        ("p:a=1,", "'' is no option; write key=value"),
        ("p:a=1,b,a=2", "'b' is no option; write key=value; a: was given twice"),
    ],
)
def test_a_text_that_is_no_options_is_refused_with_every_problem(text: str, problems: str) -> None:
    with pytest.raises(ValueError) as refused:
        split(text)
    assert str(refused.value) == problems


def test_what_is_not_given_keeps_its_default() -> None:
    assert read({}, ALLOWED) == {"failure_price": 15.0, "memory": 600.0}
    assert read({"memory": "1.5e2"}, ALLOWED) == {"failure_price": 15.0, "memory": 150.0}


def test_bounds_are_allowed_themselves() -> None:
    assert read({"failure_price": "0", "memory": "1e6"}, ALLOWED) == {"failure_price": 0.0, "memory": 1e6}


def test_every_wrong_option_is_told_at_once() -> None:
    with pytest.raises(ValueError) as refused:
        read({"failure_prize": "1", "memory": "0.5", "failure_price": "cheap"}, ALLOWED)
    assert str(refused.value) == (
        "failure_prize: unknown option; did you mean failure_price?; "
        "memory: 0.5 is out of range; use 1 to 1e+06; "
        "failure_price: 'cheap' is no number"
    )


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1"])
def test_what_is_no_price_is_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        read({"failure_price": text}, ALLOWED)


@pytest.mark.parametrize(
    ("wrong", "allowed", "text"),
    [
        ("memry", ALLOWED, "did you mean memory?"),
        ("zzz", ALLOWED, "use failure_price, memory"),
        ("zzz", {}, "there are none"),
    ],
)
def test_a_hint_names_what_is_near_or_all_there_is(wrong: str, allowed: dict[str, Number], text: str) -> None:
    assert hint(wrong, allowed) == text
