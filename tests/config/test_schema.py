"""The JSON Schema: whole, described, and of one mind with the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from balancer.config import json_schema, parse_config, shape
from balancer.config.document import Node, read
from balancer.config.problems import Problems

SHIPPED = Path(__file__).parents[2] / "balancer.yaml"
BROKEN = Path(__file__).parent / "broken"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

# What a schema cannot see: rules between keys, words of the environment, and texts that are no tree.
UNSEEN = {
    "absent_token", "alias_bomb", "alias_of_itself", "aliases", "colon_in_text", "control_character",
    "copies_with_names_that_are_taken", "credential_outside_its_folder", "dates", "duplicate_keys", "empty",
    "escaped_control_character", "hold_above_hold_max", "hold_max_below_the_default_hold",
    "answer_model_at_the_top", "times_of_probes",
    "free_http_without_url_at_the_top", "free_kind_at_the_top", "free_kinds",
    "http_keys_at_the_top", "http_keys_with_another_kind", "http_probe_messages", "http_probe_without_url",
    "http_probe_without_url_at_the_top", "keys_that_are_not_text", "kinds_without_anything_to_do",
    "limits_of_a_provider", "listed_at_the_top", "merge_of_text", "no_base_url",
    "prompt_above_context", "same_credential_twice", "second_endpoint_of_one_id",
    "secret_that_begins_with_a_star", "status_page_times", "store_minutes_longer_than_hours",
    "tab", "tags", "timeout_above_interval", "timeout_at_the_top",
    "timeout_floor_above_the_default_cap", "timeouts_out_of_order", "tokens_with_one_name", "too_deep",
    "two_documents", "unclosed_bracket", "unknown_provider", "variable_not_set", "variable_of_a_wrong_value",
    "wide_listen", "wide_listen_in_a_list", "windows",
}  # fmt: skip


def plain(node: Node) -> Any:
    """Give the tree as an editor would see it: variables not put in."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(one) for one in node.value]
    return node.written if isinstance(node.value, str) else node.value


def tree_of(text: str) -> Any:
    node = read(text, Problems("t.yaml"), {})
    assert node is not None
    return plain(node)


def shapes() -> Iterator[type[msgspec.Struct]]:
    for value in vars(shape).values():
        if (
            isinstance(value, type)
            and issubclass(value, shape.Shape)
            and value not in (shape.Shape, shape.DoorShape)
        ):
            yield value


def test_it_is_a_schema_of_2020_12() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False


def test_the_shipped_file_passes() -> None:
    VALIDATOR.validate(tree_of(SHIPPED.read_text(encoding="utf-8")))


def test_the_shipped_file_names_the_schema_that_the_program_prints() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=balancer.schema.json\n")
    assert "balancer schema > balancer.schema.json" in text


@pytest.mark.parametrize(
    "credential",
    [{}, {"env": "A", "file": "b"}, {"key": "A"}, "sk", [], [{}], ["sk"], [[{"env": "A"}]], [{"env": "A"}] * 21],
)
def test_what_is_no_place_of_a_key_fails(credential: object) -> None:
    VALIDATOR.validate(endpoint({}) | {"providers": {"a": {"credential": [{"env": "A"}] * 20}}})
    assert not VALIDATOR.is_valid(endpoint({}) | {"providers": {"a": {"credential": credential}}})


@pytest.mark.parametrize("name", sorted({path.stem for path in BROKEN.glob("*.yaml")} - UNSEEN))
def test_a_broken_file_fails_where_a_schema_can_see_it(name: str) -> None:
    assert not VALIDATOR.is_valid(tree_of((BROKEN / f"{name}.yaml").read_text(encoding="utf-8")))


def test_every_key_is_in_the_schema_with_a_meaning() -> None:
    schema = json_schema()
    parts = {"file": schema, **schema["$defs"]}
    seen = 0
    for one in shapes():
        properties = parts[one.__name__.removesuffix("Shape").lower()]["properties"]
        assert set(properties) == {field.encode_name for field in msgspec.structs.fields(one)}
        for key, described in properties.items():
            assert len(described.get("description", "")) >= 10, f"{one.__name__}.{key}"
            seen += 1
    assert seen > 60


def test_the_defaults_that_it_states_are_those_that_hold() -> None:
    schema = json_schema()
    names = ("routing", "sticky", "timeouts", "retrybudget", "health", "log", "probe", "budget", "selfcheck")
    stated = {
        name: {
            key: part["default"] for key, part in schema["$defs"][name]["properties"].items() if "default" in part
        }
        for name in names
    }
    stated["probe"] = {
        key: value for key, value in stated["probe"].items() if key not in ("status", "method", "free_kind")
    }
    stated["probe"]["budget"] = stated.pop("budget")
    stated["self_check"] = stated.pop("selfcheck")
    for name, key in (("sticky", "sticky"), ("timeouts", "timeouts"), ("retrybudget", "retry_budget")):
        stated["routing"][key] = stated.pop(name)
    base = {
        "providers": {"a": {"base_url": "https://a.example"}},
        "models": {"x/y": {"endpoints": [{"provider": "a", "model": "m"}]}},
    }
    small = parse_config(msgspec.json.encode(base).decode(), source="t.yaml")
    spelled = parse_config(msgspec.json.encode({**base, **stated}).decode(), source="t.yaml")
    assert len(stated["health"]) == len(stated["routing"]) + 1 == 9
    assert len(stated["self_check"]) == 3
    assert [len(stated["routing"][key]) for key in ("sticky", "timeouts", "retry_budget")] == [2, 5, 2]
    assert spelled == small


FRAGMENT = jsonschema.Draft202012Validator(json_schema(fragment=True))


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"models": {}},
        {"models": {"x/y": {"health": {"enforce": False}}}},
        {"providers": {"a": {"variants": {"eu": {"region": "eu"}}, "status_page": {"interval": "1m"}}}},
        {"routing": {"strategy": "price"}},
    ],
)
def test_a_fragment_need_not_be_whole(part: dict[str, object]) -> None:
    FRAGMENT.validate(part)
    assert not VALIDATOR.is_valid(part)


@pytest.mark.parametrize(
    "part",
    [
        {"modls": {}},
        {"models": {"x/y": {"endpoints": [{"provider": "a"}]}}},
        {"models": {"x/y": {"endpoints": []}}},
        {"auth": {"tokens": [{"name": "ops", "scopes": ["admin"]}]}},
        {"providers": {"a": {"credential": {}}}},
        {"providers": {"a": {"credential": [{}]}}},
        {"health": {"hold": "soon"}},
    ],
)
def test_what_is_wrong_in_a_fragment_is_wrong_beside_any_other(part: dict[str, object]) -> None:
    assert not FRAGMENT.is_valid(part)


PROVIDER = {"base_url": "https://a.example"}


def endpoint(keys: dict[str, object]) -> dict[str, object]:
    return {"models": {"x/y": {"endpoints": [{"provider": "a", "model": "m", **keys}]}}}


@pytest.mark.parametrize(
    "part",
    [
        {"log": {"level": "${LEVEL:-info}"}},
        {"probe": {"interval": "${INTERVAL:-30s}"}},
        {"listen": "127.0.0.1:${PORT:-8790}"},
        {"routing": None, "health": None, "probe": None, "log": None, "auth": None},
        {"listen": ["127.0.0.1:1", "unix:/run/b.sock"]},
        {"listen": {"address": "unix:/run/b.sock", "mode": "0660", "group": "haproxy"}},
        {"listen": ["127.0.0.1:1", {"address": "127.0.0.1:2", "reuse_port": True}, {"address": "unix:/b.sock"}]},
        {"tls": None},
        {"tls": {"cert_file": "${CERTIFICATE:-cert.pem}"}},
        {"tls": {"cert_file": "cert.pem", "key_file": "/etc/key.pem", "client_ca_file": "clients.pem"}},
        {"providers": {"a": {"base_url": "https://a.example", "credential": {"env": "A"}, "limits": None}}},
        {"providers": {"a": {"base_url": "https://a.example", "credential": [{"env": "A"}, {"file": "b"}]}}},
        {"providers": {"a": {"base_url": "https://a.example", "limits": {"rpm": 1, "tpm": None}}}},
        {"routing": {"sticky": None, "timeouts": {"connect": "${CONNECT:-1s}"}, "retry_budget": {"floor": 0}}},
        {"health": {"enforce": False}},
        {"self_check": None},
        {"self_check": {"targets": ["https://one.example/?x=1", "tcp://[::1]:53", "dns://${NAME:-two.example}"]}},
        {"providers": {"a": {**PROVIDER, "status_page": None}}},
        {"providers": {"a": {**PROVIDER, "status_page": {"url": "https://status.a.example/?x", "timeout": "1s"}}}},
        {"models": {"x/y": {"health": None, "endpoints": [{"provider": "a", "model": "m"}]}}},
        {"models": {"x/y": {"health": {"enforce": None}, "endpoints": [{"provider": "a", "model": "m"}]}}},
        endpoint({"cache_ttl": "5m"}),
        endpoint({"cache_ttl": None, "pricing": {"overrides": []}}),
        endpoint(
            {
                "pricing": {
                    "overrides": [{"utc_start": "08:30", "utc_end": "0000", "utc_days": ["mon"], "prompt": 1}]
                }
            }
        ),
    ],
)
def test_what_the_decoder_accepts_passes(part: dict[str, object]) -> None:
    base = {
        "providers": {"a": {"base_url": "https://a.example"}},
        "models": {"x/y": {"endpoints": [{"provider": "a", "model": "m"}]}},
    }
    VALIDATOR.validate({**base, **part})
    parse_config(msgspec.json.encode({**base, **part}).decode(), source="t.yaml")
