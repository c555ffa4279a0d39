"""What the README says is what the code does: a name that is missing there, or only there, fails here."""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

from msgspec.structs import fields

from balancer.cli import VERBS, simulate
from balancer.config import json_schema, parse_config
from balancer.core.balancer import Balancer
from balancer.core.model import STATES
from balancer.core.outcome import ERROR_WORDS, KINDS, Outcome, classify
from balancer.core.phases import CAUSES
from balancer.http.access import WHYS
from balancer.http.gate import PHASES
from balancer.http.openapi import document
from balancer.metrics import Metrics
from balancer.service.log import EVENTS
from balancer.simulation import invented
from balancer.simulation.policies import POLICIES
from balancer.simulation.report import COLUMNS

README = (Path(__file__).parents[1] / "README.md").read_text()
CHANGELOG = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()
ONE_ENDPOINT = """
providers: {p: {base_url: "http://127.0.0.1:9"}}
models: {a/m: {endpoints: [{provider: p, model: m}]}}
"""


def section(title):
    """The text of one `##` or `###` section."""
    found = re.search(rf"^(##+) {title}\n(.*?)(?=^##)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[2]


def words(text):
    return set(re.findall(r"`([^`\n]+)`", text))


def spans(text):
    """The numbers in "100–199, 408"."""
    numbers = set()
    for first, last in re.findall(r"(\d{3})(?:–(\d{3}))?", text):
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def test_the_table_of_outcomes_is_the_classification():
    said = defaultdict(set)
    for line in section("Outcomes").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`") and "probe_invalid" not in cells[0]:
            for kind in words(cells[0]):
                said[kind] = spans(cells[1])
    done = defaultdict(set)
    for status in range(100, 600):
        done[classify(status=status)].add(status)
    assert {kind: said[kind] for kind in done} == dict(done)
    assert words(section("Outcomes")) >= set(KINDS) | set(ERROR_WORDS)


def test_every_verb_is_documented():
    rows = re.findall(r"^\| `balancer (\w+)", section("Command line"), re.MULTILINE)
    assert rows == list(VERBS)


def test_every_route_is_documented():
    text = section("HTTP API")
    for path, methods in json.loads(document())["paths"].items():
        assert path in text, path
        assert methods


def test_every_metric_is_documented_and_the_other_way_round():
    table = Balancer(parse_config(ONE_ENDPOINT, source="test"))
    table.record("a/m@p", Outcome(kind="success", latency=1.0, ttft=0.5), now=1.0)
    for kind in ("success",) * 10 + ("rate_limited",) * 3:  # enough to teach a ceiling
        table.record("a/m@p", Outcome(kind=kind), now=1.0)
    metrics = Metrics(view=lambda: table.view(now=1.0), version="1")
    metrics.providers(["p"])
    metrics.certificate("a/m@p", 1.0)
    metrics.own_certificate(1.0)
    metrics.lag(0.0)
    metrics.scheduler(in_flight=0, stretch=1.0, left_out={}, spent={"p": (0, 0.0)}, limits={"p": (1, 1.0)})
    metrics.reloaded(successful=True, wall=1.0)
    metrics.http(
        connections=0,
        evicted=0,
        timeouts=dict.fromkeys(PHASES, 0),
        unauthorized=dict.fromkeys(WHYS, 0),
        body_bytes=0,
        bodies_refused=0,
    )
    table.record("a/m@p", Outcome(kind="success"), now=1.0, reporter="proxy")
    metrics.reporters(["proxy"])
    metrics.lookouts(["status_page:p"])
    metrics.looked_out("status_page:p", good=True)
    metrics.stored(errors={}, dropped=0, saved=1.0, interval=10.0)
    table.announce("p", "partial_outage", now=1.0, lasting=60.0)
    exposed = set(re.findall(r"^# TYPE (balancer_\w+)", metrics.render("")[0].decode(), re.MULTILINE))
    assert {word for word in words(section("Metrics")) if word.startswith("balancer_")} == exposed
    assert words(section("Metrics")) >= {*CAUSES, *PHASES, *WHYS}


def test_every_log_event_is_documented_and_the_other_way_round():
    assert {word for word in words(section("Log events")) if "." in word} == EVENTS


def test_every_state_is_documented():
    assert words(section("Theory in one page")) >= set(STATES)


def keys(schema, root):
    """Every property name below a schema."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for name, below in schema.get("properties", {}).items():
        yield name
        yield from keys(below, root)
    for part in (*schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        yield from keys(part, root)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from keys(schema[key], root)


def test_every_configuration_key_is_documented():
    schema = json_schema()
    said = {part for word in words(section("Configuration")) for part in re.split(r"[.\[\]: {}]+", word)}
    missing = {key for key in keys(schema, schema) if key not in said}
    assert not missing


def defaults():
    """The rows of the configuration table that give each of their keys a default: path and default."""
    for line in section("Configuration").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:3]]
        if len(cells) == 2:
            paths = re.findall(r"`([^`]+)`", cells[0])
            values = [part.strip(" `") for part in re.split(r",(?![^\[]*\])", cells[1])]
            if len(paths) == len(values) and all(
                re.fullmatch(r"(routing|health|probe|store|log|self_check|providers\.KEY\.status_page)\.[\w.]+", p)
                for p in paths
            ):
                yield from zip(paths, values, strict=True)


def alternatives(schema, root):
    """A schema, what it refers to, and its alternatives."""
    yield schema
    if "$ref" in schema:
        yield from alternatives(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for part in schema.get("anyOf", ()):
        yield from alternatives(part, root)


def default_of(path, root):
    """What the schema says of a key, as the README would write it."""
    place = root
    for step in path.split("."):
        parts = list(alternatives(place, root))
        if step == "KEY":
            found = [part["additionalProperties"] for part in parts if part.get("additionalProperties")]
        else:
            found = [part["properties"][step] for part in parts if step in part.get("properties", {})]
        assert found, path
        needed = any(step in part.get("required", ()) for part in parts)
        place = found[0]
    value = next((part["default"] for part in alternatives(place, root) if "default" in part), None)
    if value is None:
        return "required" if needed else "—"
    return (
        f"[{', '.join(map(str, value))}]"
        if isinstance(value, list)
        else json.dumps(value).strip('"').removesuffix(".0")
    )


def test_every_default_of_the_table_is_the_schemas():
    schema = json_schema()
    said = {path: default.removesuffix(".0") for path, default in defaults()}
    assert len(said) > 20
    assert {path: default_of(path, schema) for path in said} == said


def test_every_option_policy_and_column_of_a_simulation_is_documented():
    text = section("Simulation")
    parser = argparse.ArgumentParser()
    simulate.options(parser)
    assert set(re.findall(r"--[a-z][a-z-]*", text)) == set(re.findall(r"--[a-z][a-z-]*", parser.format_help())) - {
        "--help"
    }
    heads = {re.sub(r"@\d", "@k", re.split("[ /]", head)[0]) for head in COLUMNS}
    assert words(text) >= {*POLICIES, *heads}


def test_the_invented_world_of_the_readme_can_be_read_and_shows_every_key():
    text = section("Simulation")
    world = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert world is not None
    assert invented.parse(world[1], source="README.md").tracks
    shapes = (invented.WorldShape, invented.ModelShape, invented.EndpointShape, invented.EpisodeShape)
    names = {each.encode_name for shape in shapes for each in fields(shape)}
    assert {name for name in names if not re.search(rf"\b{name}:|`{name}`", text)} == set()


def test_the_changelog_has_what_is_not_released():
    assert "## Unreleased" in CHANGELOG
