"""Several keys of one door: copies of its endpoints, each with a key and a quota domain of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.config import Config, ConfigError, parse_config
from balancer.core.model import Endpoint, Limits

TEXT = """
providers:
  openai:
    base_url: https://api.example/v1
    credential: [{env: FIRST}, {file: second.key}, {credential: third}]
    limits: {rpm: 100, tpm: 5000}
    variants:
      eu: {base_url: "https://eu.example/v1", limits: {rpm: 10}}
      own: {credential: [{env: OWN_1}, {env: OWN_2}], limits: {}}
      shared: {credential: {file: second.key}}
  single: {base_url: "https://single.example", credential: {env: SINGLE}}
  local: {base_url: "http://127.0.0.1:8000"}
models:
  x/y:
    endpoints:
      - {provider: openai, model: a, cache_ttl: 5m, pricing: {prompt: 1}, probe: {interval: 1m}}
      - {provider: openai/eu, model: a}
      - {provider: openai/own, model: a}
      - {provider: openai/shared, model: a}
      - {provider: openai/undeclared, model: a}
      - {provider: single, model: a}
      - {provider: local, model: a}
      - {provider: local/other, model: a}
"""


def config(text: str = TEXT, source: str = "t.yaml", **environ: str) -> Config:
    return parse_config(text, source=source, environ=environ)


def endpoint(tag: str, **environ: str) -> Endpoint:
    return config(**environ).endpoints[f"x/y@{tag}"]


def test_each_further_key_copies_every_endpoint_of_the_door() -> None:
    whole = config()
    assert tuple(one.tag for one in whole.endpoints.values()) == (
        "openai", "openai:2", "openai:3", "openai/eu", "openai/eu:2", "openai/eu:3", "openai/own", "openai/own:2",
        "openai/shared", "openai/undeclared", "openai/undeclared:2", "openai/undeclared:3", "single", "local",
        "local/other",
    )  # fmt: skip
    assert whole.models["x/y"].endpoints == tuple(whole.endpoints)
    assert all(key == one.id == f"{one.model}@{one.tag}" for key, one in whole.endpoints.items())
    assert whole.providers["openai"].tags == tuple(
        one.tag for one in whole.endpoints.values() if one.provider == "openai"
    )
    assert set(whole.probes) == set(whole.credentials) == set(whole.endpoints)


def test_a_copy_is_the_endpoint_but_for_its_name_and_its_key() -> None:
    whole = config()
    first, second = whole.endpoints["x/y@openai"], whole.endpoints["x/y@openai:2"]
    names = ("id", "tag", "credential", "quota", "identity", "misconfigured")
    differing = [name for name in Endpoint.__slots__ if getattr(first, name) != getattr(second, name)]
    assert sorted(differing) == sorted(names)
    assert (first.door, second.door) == ("openai", "openai")
    assert whole.endpoints["x/y@openai/eu:3"].door == "openai/eu"
    assert whole.probes[first.id] == whole.probes[second.id]
    assert whole.probes[second.id].interval == 60.0


def test_an_endpoint_says_where_its_key_is_and_never_the_key() -> None:
    whole = config(FIRST="sk-1", SINGLE="sk-2")
    places = {one.tag: one.credential for one in whole.endpoints.values()}
    assert {tag: places[tag] for tag in ("openai", "openai:2", "openai:3", "single", "local", "openai/own:2")} == {
        "openai": "env FIRST",
        "openai:2": "file second.key",
        "openai:3": "systemd credential third",
        "single": "env SINGLE",
        "local": None,
        "openai/own:2": "env OWN_2",
    }
    assert "sk-" not in repr(whole)


def test_endpoints_that_share_a_key_share_its_quota() -> None:
    assert {one.tag: one.quota for one in config().endpoints.values()} == {
        "openai": "openai", "openai:2": "openai:2", "openai:3": "openai:3",
        "openai/eu": "openai", "openai/eu:2": "openai:2", "openai/eu:3": "openai:3",
        "openai/own": "openai/own", "openai/own:2": "openai/own:2",
        "openai/shared": "openai:2",
        "openai/undeclared": "openai", "openai/undeclared:2": "openai:2", "openai/undeclared:3": "openai:3",
        "single": "single", "local": "local", "local/other": "local",
    }  # fmt: skip


def test_two_providers_never_share_a_quota() -> None:
    whole = config(TEXT.replace("{env: SINGLE}", "{env: FIRST}"))
    assert whole.endpoints["x/y@single"].quota == "single"
    assert whole.endpoints["x/y@openai"].quota == "openai"


def test_the_limits_of_a_variant_replace_those_of_the_provider_whole() -> None:
    limits = {one.tag: one.limits for one in config().endpoints.values()}
    assert limits["openai"] == limits["openai:2"] == limits["openai/shared"] == Limits(rpm=100, tpm=5000)
    assert limits["openai/eu"] == limits["openai/eu:3"] == Limits(rpm=10)
    assert limits["openai/own"] is limits["openai/own:2"] is limits["local"] is None


def test_each_copy_is_misconfigured_by_its_own_key_alone(tmp_path: Path) -> None:
    (tmp_path / "second.key").write_text("sk-2\n")
    whole = config(source=str(tmp_path / "balancer.yaml"), FIRST="sk-1", OWN_2="sk-3")
    absent = {one.tag: one.misconfigured for one in whole.endpoints.values() if one.misconfigured is not None}
    assert absent == {
        "openai:3": "systemd credential third: CREDENTIALS_DIRECTORY is not set",
        "openai/eu:3": "systemd credential third: CREDENTIALS_DIRECTORY is not set",
        "openai/undeclared:3": "systemd credential third: CREDENTIALS_DIRECTORY is not set",
        "openai/own": "OWN_1 is not set",
        "single": "SINGLE is not set",
    }
    held = {tag: whole.credentials[f"x/y@{tag}"] for tag in ("openai", "openai:2", "openai/shared", "openai/own:2")}
    assert {tag: secret.reveal() for tag, secret in held.items() if secret is not None} == {
        "openai": "sk-1", "openai:2": "sk-2", "openai/shared": "sk-2", "openai/own:2": "sk-3",
    }  # fmt: skip
    assert whole.credentials["x/y@openai:3"] is None


def test_a_new_key_changes_the_mark_of_its_own_copy_only() -> None:
    before, after = config(FIRST="sk-1", OWN_1="a"), config(FIRST="sk-2", OWN_1="a")
    changed = [key for key in before.endpoints if before.endpoints[key].identity != after.endpoints[key].identity]
    assert changed == ["x/y@openai", "x/y@openai/eu", "x/y@openai/undeclared"]


def test_a_key_taken_out_from_the_middle_gives_its_name_to_the_next_with_another_mark() -> None:
    fewer = config(TEXT.replace("{file: second.key}, {credential", "{credential", 1))
    copy = fewer.endpoints["x/y@openai:2"]
    assert copy.credential == "systemd credential third"
    assert copy.identity == config().endpoints["x/y@openai:3"].identity
    assert "x/y@openai:3" not in fewer.endpoints


def test_one_key_in_a_list_is_one_key() -> None:
    assert config(TEXT.replace("{env: SINGLE}", "[{env: SINGLE}]")) == config()


def test_without_an_environment_the_copies_are_there_and_no_key_is_looked_for() -> None:
    whole = parse_config(TEXT, source="t.yaml")
    assert set(whole.endpoints) == set(config().endpoints)
    assert {one.misconfigured for one in whole.endpoints.values()} == {None}
    assert set(whole.credentials.values()) == {None}
    assert whole.endpoints["x/y@openai:2"].credential == "file second.key"


def test_twenty_keys_are_enough() -> None:
    def listed(count: int) -> str:
        return TEXT.replace("{env: SINGLE}", f"[{', '.join(f'{{env: K{number}}}' for number in range(count))}]")

    assert "x/y@single:20" in config(listed(20)).endpoints
    with pytest.raises(ConfigError, match=r"providers\.single\.credential: 21 in the list; use 20 or fewer"):
        config(listed(21))


def test_a_prompt_stays_cached_as_long_as_the_endpoint_says() -> None:
    assert (endpoint("openai").cache_ttl, endpoint("openai:2").cache_ttl) == (300.0, 300.0)
    assert type(endpoint("openai").cache_ttl) is float
    assert endpoint("local").cache_ttl is None


@pytest.mark.parametrize("text", ["0s", "8d", "5", "never"])
def test_a_cache_outside_of_a_second_to_a_week_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="use 1s to 7d"):
        config(TEXT.replace("cache_ttl: 5m", f"cache_ttl: {text}"))
