"""The sections about status pages and our own reach: of one mind with their values, and nothing by default."""

from __future__ import annotations

import dataclasses

import pytest

from balancer.config import ConfigError, parse_config
from balancer.config.beside import COMPONENTS_MAX, TARGETS_MAX, SelfCheckShape, StatusPageShape
from balancer.config.settings import SelfCheck, StatusPage

TEXT = """
providers: {a: {base_url: "https://a.example", status_page: PAGE}}
models: {x/y: {endpoints: [{provider: a, model: m}]}}
self_check: CHECK
"""


def problems(page: str = "", check: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(TEXT.replace("PAGE", page).replace("CHECK", check), source="t.yaml")
    return str(caught.value)


@pytest.mark.parametrize(("section", "value"), [(StatusPageShape, StatusPage), (SelfCheckShape, SelfCheck)])
def test_a_section_has_exactly_the_keys_of_the_value_that_it_becomes(section: type, value: type) -> None:
    assert set(section.__struct_fields__) == {field.name for field in dataclasses.fields(value)}


@pytest.mark.parametrize(
    ("page", "check"), [("", ""), ("null", "{}"), ("", "{targets: []}"), ("", "{interval: 1m}")]
)
def test_nobody_is_asked_unless_the_operator_says_so(page: str, check: str) -> None:
    assert parse_config(TEXT.replace("PAGE", page).replace("CHECK", check), source="t.yaml").lookouts == {}


def test_as_many_components_and_targets_as_may_be_are_taken() -> None:
    names = [f"c{number}" for number in range(COMPONENTS_MAX)]
    targets = [f"dns://h{number}" for number in range(TARGETS_MAX)]
    text = TEXT.replace("PAGE", f"{{url: 'https://s', components: {names}}}").replace(
        "CHECK", f"{{targets: {targets}}}"
    )
    assert len(parse_config(text, source="t.yaml").lookouts) == 1 + TARGETS_MAX
    assert f"{COMPONENTS_MAX + 1} in the list; use {COMPONENTS_MAX} or fewer" in problems(
        f"{{url: 'https://s', components: {[*names, 'one more']}}}"
    )
    assert f"{TARGETS_MAX + 1} in the list; use {TARGETS_MAX} or fewer" in problems(
        check=f"{{targets: {[*targets, 'dns://more']}}}"
    )
