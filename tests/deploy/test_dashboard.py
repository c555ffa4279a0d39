"""The shipped dashboard: what it asks for exists, and nothing in it belongs to one Grafana only."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from balancer.core.model import STATES

GRAFANA_S = {"$__rate_interval": "5m", "$job": "balancer", "$instance": ".*", "$model": ".*"}
"""What Grafana puts in the place of variables."""


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(expression: str) -> str:
    for variable, value in GRAFANA_S.items():
        expression = expression.replace(variable, value)
    return expression


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [filled(target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]


def values_of(key: str, node: Any) -> Iterator[Any]:
    """Every value of a key, however deep."""
    if isinstance(node, dict):
        for name, below in node.items():
            if name == key:
                yield below
            yield from values_of(key, below)
    elif isinstance(node, list):
        for below in node:
            yield from values_of(key, below)


def test_it_can_be_imported_anywhere(dashboard: dict[str, Any]) -> None:
    assert dashboard["id"] is None
    assert dashboard["uid"] == "balancer-operators"
    sources = list(values_of("datasource", dashboard))
    assert sources
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert set(values_of("uid", dashboard)) == {"${datasource}", "balancer-operators"}


def test_its_variables_are_those_that_it_uses(dashboard: dict[str, Any]) -> None:
    declared = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert list(declared) == ["datasource", "job", "instance", "model"]
    assert declared["datasource"]["type"] == "datasource"
    used = {
        name
        for expression in values_of("expr", dashboard)
        for name in re.findall(r"\$\{?(\w+)", expression)
        if name != "__rate_interval"
    }
    assert used == {"job", "instance", "model"}


def test_every_metric_that_it_asks_for_exists(
    dashboard: dict[str, Any], known_metrics: set[str], names_in: Callable[[str], set[str]]
) -> None:
    asked = {name for expression in expressions(dashboard) for name in names_in(expression)}
    asked |= {
        name
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
        for name in names_in(variable["definition"])
    }
    assert asked - known_metrics == set()
    assert len(asked) > 40


def test_every_panel_says_what_it_shows_and_in_what_unit(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(titles) == len(set(titles))
    for panel in panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


def test_no_panel_lies_on_another(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_timeline_has_a_word_and_a_number_for_every_state(dashboard: dict[str, Any]) -> None:
    [timeline] = [panel for panel in panels(dashboard) if panel["type"] == "state-timeline"]
    numbers = dict(
        re.findall(r'(\d+) \* \(balancer_endpoint_state\{[^}]*state="(\w+)"', timeline["targets"][0]["expr"])
    )
    assert tuple(numbers.values()) == STATES
    [mapping] = timeline["fieldConfig"]["defaults"]["mappings"]
    assert {number: each["text"] for number, each in mapping["options"].items()} == {
        number: state.replace("_", " ") for number, state in numbers.items()
    }


def test_promtool_finds_every_expression_right(
    dashboard: dict[str, Any], promtool: Callable[..., str], tmp_path: Path
) -> None:
    rules = [
        {"record": f"panel:{place}:expression", "expr": expression}
        for place, expression in enumerate(expressions(dashboard))
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", str(path))
