"""What changed between two configurations: names, never values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import Config, ConfigError, Difference, difference, parse_config
from balancer.config.compare import ALIKE_MAX, KEYS_MAX, NAMES_MAX, Change

TEXT = """\
auth: {tokens: [{name: ops, scopes: [admin], token: {env: OPS}}]}
providers:
  a: {base_url: "https://a.example/v1", credential: {env: KEY}, limits: {rpm: 60}}
  b: {base_url: "https://b.example/${PATH}"}
models:
  x/large:
    aliases: [large]
    endpoints:
      - {provider: a, model: large, pricing: {prompt: 1}}
      - {provider: b, model: large}
  x/small: {endpoints: [{provider: a, model: small, probe: {kind: http, url: "/h?t=${PATH}"}}]}
routing: {strategy: price, sticky: {ttl: 5m}}
probe: {interval: 30s}
"""
ENVIRON = {"OPS": "tok-live-1234567890", "KEY": "sk-live-123456", "PATH": "path-secret"}


def config(text: str = TEXT, **environ: str) -> Config:
    return parse_config(text, source="t.yaml", environ=ENVIRON | environ)


def told(*changes: tuple[str, str], text: str = TEXT, **environ: str) -> dict[str, list[str]]:
    """What is told when these parts of the text are replaced by others."""
    new = text
    for part, other in changes:
        assert new.count(part) == 1
        new = new.replace(part, other)
    return {
        sort: names for sort, names in difference(config(text), config(new, **environ)).facts().items() if names
    }


def changed(*names: str) -> dict[str, list[str]]:
    return {"changed": list(names)}


def test_the_same_in_other_words_is_no_difference() -> None:
    same = TEXT.replace("probe: {interval: 30s}", "probe: {timeout: 10s}\nlog: {}").replace("5m", "300s")
    assert not difference(config(), config(same))
    assert str(difference(config(), config(same))) == "nothing changed"


@pytest.mark.parametrize(
    ("part", "other", "names"),
    [
        ("strategy: price", "strategy: weighted", ["routing.strategy"]),
        ("ttl: 5m", "ttl: 6m", ["routing.sticky.ttl"]),
        ("routing:", "log: {level: debug}\nrouting:", ["log.level"]),
        ("routing:", "listen: 127.0.0.1:1\nrouting:", ["listen"]),
        ("routing:", "insecure: true\nrouting:", ["insecure"]),
        ("routing:", "health: {windows: [1m, 2m]}\nrouting:", ["health.windows"]),
        ("scopes: [admin]", "scopes: [read]", ["auth.tokens.ops: scopes"]),
        ("aliases: [large]", "aliases: [big]", ["models.x/large: aliases"]),
        ("  b: {", "  b: {name: Bee, ", ["providers.b: name"]),
        ("prompt: 1", "prompt: 2, completion: 3", ["endpoints.x/large@a: pricing.prompt, pricing.completion"]),
        ("model: small", "model: tiny", ["endpoints.x/small@a: model"]),
        ("b.example", "c.example", ["endpoints.x/large@b: base_url"]),
        ("rpm: 60", "rpm: 61", ["endpoints.x/large@a: limits.rpm", "endpoints.x/small@a: limits.rpm"]),
        ("env: KEY", "env: OPS", ["endpoints.x/large@a: credential", "endpoints.x/small@a: credential"]),
        ('"/h?', '"/health?', ["endpoints.x/small@a: probe.url"]),
    ],
)  # fmt: skip
def test_what_changed_is_told_by_the_keys_of_the_file(part: str, other: str, names: list[str]) -> None:
    assert told((part, other)) == changed(*names)


def test_what_comes_and_goes_is_told_by_name_and_its_model_does_not_change_by_it() -> None:
    new = ("      - {provider: b, model: large}\n", "      - {provider: b/eu, model: large}\n")
    assert told(new) == {"added": ["endpoints.x/large@b/eu"], "removed": ["endpoints.x/large@b"]}
    model = ("routing:", "  y/new: {endpoints: [{provider: b, model: n}]}\nrouting:")
    assert told(model) == {"added": ["models.y/new", "endpoints.y/new@b"]}
    token = ("name: ops", "name: operator")
    assert told(token) == {"added": ["auth.tokens.operator"], "removed": ["auth.tokens.ops"]}


def test_another_order_of_endpoints_is_a_change_of_the_model() -> None:
    one, other = "{provider: a, model: large, pricing: {prompt: 1}}", "{provider: b, model: large}"
    assert told((f"- {one}\n      - {other}", f"- {other}\n      - {one}")) == changed("models.x/large: endpoints")


def test_a_rotated_key_is_told_although_the_file_is_the_same() -> None:
    assert told(KEY="sk-live-654321") == changed(
        "endpoints.x/large@a: credential", "endpoints.x/small@a: credential"
    )
    assert told(OPS="tok-live-0987654321") == changed("auth.tokens.ops: token")


def test_an_endpoint_that_lost_its_key_or_comes_without_one_is_told_with_the_reason_once() -> None:
    lost = ["endpoints.x/large@a", "endpoints.x/small@a"]
    for found, reason in ((told(KEY=""), "KEY is empty"), (told(("env: KEY", "env: NONE")), "NONE is not set")):
        assert found == {
            "changed": [f"{each}: credential" for each in lost],
            "misconfigured": [f"{each}: {reason}" for each in lost],
        }
    with_another = TEXT.replace(
        "- {provider: b, model: large}", "- {provider: b, model: large}\n      - {provider: c, model: large}"
    ).replace("models:", "  c: {base_url: 'https://c.example', credential: {env: NEVER_SET}}\nmodels:", 1)
    found = difference(config(), config(with_another))
    assert found.facts()["misconfigured"] == ["endpoints.x/large@c: NEVER_SET is not set"]
    assert "misconfigured endpoints.x/large@c: " in str(found)
    same = difference(config(with_another), config(with_another.replace("interval: 30s", "interval: 40s")))
    assert (same.facts()["misconfigured"], bool(same)) == ([], True)


def test_no_value_is_ever_told() -> None:
    old = config()
    new = config(TEXT.replace("a.example", "c.example"), OPS="t" * 20, KEY="k" * 20, PATH="p" * 20)
    found = difference(old, new)
    text = f"{found} {found!r}"
    secrets = (*ENVIRON.values(), "t" * 20, "k" * 20, "p" * 20, "example")
    assert not any(secret in text for secret in secrets)
    assert found.facts()["changed"] == [
        "auth.tokens.ops: token",
        "endpoints.x/large@a: base_url, credential",
        "endpoints.x/large@b: base_url",
        "endpoints.x/small@a: base_url, probe.url, credential",
    ]


def test_a_status_page_and_a_target_are_lookouts() -> None:
    text = TEXT + 'self_check: {targets: ["https://one.example/?a"]}\n'
    text = text.replace("  b: {", "  b: {status_page: {url: 'https://s.example', interval: 1m}, ")
    assert told(("interval: 1m", "interval: 2m"), text=text) == changed("lookouts.status_page:b: interval")
    assert told(("s.example'", "s.example', components: [API]"), text=text) == changed(
        "lookouts.status_page:b: components"
    )
    assert told(("/?a", "/?b"), text=text) == changed("lookouts.self:https://one.example: url")
    two = ('"https://one.example/?a"', '"https://one.example/?a", "dns://two.example"')
    assert told(two, text=text) == {"added": ["lookouts.self:dns://two.example"]}


def test_what_holds_for_many_endpoints_is_told_once() -> None:
    many = "\n".join(f"  m/{number}: {{endpoints: [{{provider: b, model: m}}]}}" for number in range(ALIKE_MAX + 1))
    text = TEXT.replace("routing:", f"{many}\nrouting:")
    total = ALIKE_MAX + 1 + 3
    assert told(("interval: 30s", "interval: 40s"), text=text) == changed(f"{total} endpoints: probe.interval")
    keyed = text.replace("{provider: b, model: m}", "{provider: a, model: m}")
    lost = told(text=keyed, KEY="")
    assert lost["misconfigured"] == [f"{total - 1} endpoints: KEY is empty"]


SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "balancer.yaml").read_text(encoding="utf-8")) | {
    "routing": {"strategy": "price", "sticky": {"ttl": "1m"}, "timeouts": {"connect": "1s"}},
    "health": {"enforce": False, "hold": "1s"},
    "probe": {"interval": "1m", "budget": {"usd": 2}, "send_headers": {"X-A": "a"}, "ca_file": "a.pem"},
    "self_check": {"targets": ["dns://one.example"], "interval": "1m"},
    "log": {"level": "debug"},
}


def holders(part: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list with each of its keys or positions."""
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        yield part, key
        if isinstance(part[key], dict | list):
            yield from holders(part[key])


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_whatever_is_taken_out_of_a_file_is_told_or_made_no_difference(data: st.DataObject) -> None:
    tree = json.loads(json.dumps(SHIPPED, default=str))
    holder, key = data.draw(st.sampled_from(list(holders(tree))))
    whole = parse_config(json.dumps(tree), source="t.yaml", environ={})
    del holder[key]
    try:
        part = parse_config(json.dumps(tree), source="t.yaml", environ={})
    except ConfigError:
        return
    assert bool(difference(whole, part)) == bool(difference(part, whole)) == (whole != part)


def test_its_words_are_bounded_however_much_changed() -> None:
    names = tuple(f"models.m/{number}" for number in range(1000))
    keys = tuple(f"key{number}" for number in range(50))
    changes = tuple(Change(name=name, keys=keys) for name in names)
    found = Difference(added=names, removed=names, changed=changes, misconfigured=changes)
    for sort, said in found.facts().items():
        assert len(said) == NAMES_MAX + 1, sort
        assert said[-1] == f"{1000 - NAMES_MAX} more"
    assert found.facts()["changed"][0].endswith(f"key{KEYS_MAX - 1}, {50 - KEYS_MAX} more")
    assert len(str(found)) < 4000
    assert str(Difference(added=("a",), changed=(Change(name="b", keys=("c",)),))) == "added a; changed b: c"
