"""The door: files and texts in, a frozen `Config` or every problem out."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import Config, ConfigError, Listen, Sealed, load_config, parse_config
from balancer.config.files import SIZE_MAX
from balancer.config.settings import SelfCheck, StatusPage

BROKEN = Path(__file__).parent / "broken"
SHIPPED = Path(__file__).parents[2] / "balancer.yaml"
ENVIRON = {"PRESENT": "present-value-of-a-test", "LEVEL": "level-value", "WEAK": "fifteen-letters"}
GOOD = """
providers:
  openai: {base_url: https://api.openai.com/v1, credential: {env: OPENAI_API_KEY}}
models:
  openai/gpt-4.1:
    endpoints:
      - {provider: openai, model: gpt-4.1}
"""
SECRETS = ("sk-live-123456", "tok-live-123456", "hunter2", "present-value", "level-value", "fifteen")


def problems_of(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="broken.yaml", environ=ENVIRON if environ is None else environ)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in BROKEN.glob("*.yaml")))
def test_a_broken_file_is_refused_with_exactly_these_lines(name: str) -> None:
    text = (BROKEN / f"{name}.yaml").read_text(encoding="utf-8")
    assert problems_of(text) + "\n" == (BROKEN / f"{name}.expected").read_text(encoding="utf-8")


def test_there_are_many_broken_files_and_none_expects_nothing() -> None:
    expected = [path.read_text(encoding="utf-8") for path in BROKEN.glob("*.expected")]
    assert len(expected) >= 30
    assert all(text.startswith("broken.yaml") for text in expected)


def test_no_expected_message_repeats_a_secret_or_what_a_variable_held() -> None:
    for path in BROKEN.glob("*.expected"):
        text = path.read_text(encoding="utf-8")
        assert not any(secret in text for secret in SECRETS), path.name


def test_the_shipped_file_loads_without_any_key_and_says_which_variables_it_wants() -> None:
    config = load_config(SHIPPED, environ={})
    reasons = {endpoint.id: endpoint.misconfigured for endpoint in config.endpoints.values()}
    local = [identifier for identifier in reasons if identifier.endswith("@local")]
    assert len(local) == 1
    assert reasons.pop(local[0]) is None
    assert all(reason is not None and reason.endswith(" is not set") for reason in reasons.values())


def test_the_shipped_file_offers_its_models_at_several_hosts() -> None:
    models = load_config(SHIPPED).models
    assert len(models["openai/gpt-4.1"].endpoints) == 3
    assert len(models["anthropic/claude-sonnet-4.5"].endpoints) == 3
    assert len(models["meta-llama/llama-3.3-70b-instruct"].endpoints) >= 5
    assert len(models["deepseek/deepseek-v3.2"].endpoints) >= 5


def test_what_the_shipped_file_shows_commented_out_is_the_default() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    start = text.index("# How a decision is made.")
    shown: list[str] = []
    for line in text[start:].splitlines():
        bare = line.removeprefix("# ")
        if bare.startswith(("routing:", "health:", "probe:", "store:", "log:", "  ")):
            shown.append(bare)
    opened = parse_config(text[:start] + "\n".join(shown), source="opened.yaml")
    plain = load_config(SHIPPED)
    assert [line for line in shown if not line.startswith(" ")] == [
        "routing:",
        "health:",
        "probe:",
        "store:",
        "log:",
    ]
    assert opened == plain


def test_the_shipped_examples_of_what_is_asked_besides_endpoints_can_be_taken_as_they_are() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    opened = re.sub(r"(?m)^( *)# (status_page|self_check): \{", r"\1\2: {", text)
    lookouts = parse_config(opened, source="opened.yaml").lookouts
    pages = [look for look in lookouts.values() if look.settings.kind == "status_page"]
    assert [look.endpoint.provider for look in pages] == ["openai"]
    assert len(lookouts) - len(pages) == 2
    for look in lookouts.values():
        usual = StatusPage() if look in pages else SelfCheck()
        assert (look.settings.interval, look.settings.timeout) == (usual.interval, usual.timeout)
    assert load_config(SHIPPED).lookouts == {}


def test_a_key_in_the_environment_clears_the_endpoint() -> None:
    config = parse_config(GOOD, source="good.yaml", environ={"OPENAI_API_KEY": "sk-live-123456\n"})
    endpoint = config.endpoints["openai/gpt-4.1@openai"]
    secret = config.credentials[endpoint.id]
    assert endpoint.misconfigured is None
    assert secret is not None
    assert secret.reveal() == "sk-live-123456"


def test_a_configuration_never_prints_its_secrets() -> None:
    text = GOOD + "auth: {tokens: [{name: ops, scopes: [admin], token: {env: OPS}}]}"
    config = parse_config(
        text, source="good.yaml", environ={"OPENAI_API_KEY": "sk-live-123456", "OPS": "hunter2" * 3}
    )
    assert config.tokens[0].secret == Sealed("hunter2" * 3)
    assert not any(secret in repr(config) + str(config) for secret in SECRETS)


def test_without_an_environment_nothing_secret_is_looked_for() -> None:
    text = GOOD + "auth: {tokens: [{name: ops, scopes: [admin], token: {env: OPS}}]}"
    config = parse_config(text, source="good.yaml")
    assert config.tokens == ()
    assert config.credentials == {"openai/gpt-4.1@openai": None}
    assert config.endpoints["openai/gpt-4.1@openai"].misconfigured is None


def test_a_small_file_gets_every_default() -> None:
    config = parse_config(GOOD, source="good.yaml", environ={})
    bare = Config()
    for section in ("listen", "tokens", "log", "routing", "health"):
        assert getattr(config, section) == getattr(bare, section), section
    assert config.listen == (Listen(host="127.0.0.1", port=8790),)
    assert {one.name for one in fields(Config)} >= {"probes", "credentials"}


def test_json_is_accepted_however_it_is_indented() -> None:
    tree = {
        "providers": {"openai": {"base_url": "https://api.openai.com/v1", "name": "Open \U0001f600"}},
        "models": {"openai/gpt-4.1": {"endpoints": [{"provider": "openai", "model": "gpt-4.1"}]}},
        "routing": {"failure_price": 1e1},
    }
    for indent in (None, 2, "\t"):
        config = parse_config(json.dumps(tree, indent=indent), source="good.json")
        assert config.providers["openai"].name == "Open \U0001f600"
        assert config.routing.failure_price == 10.0


def test_anchors_and_merges_work() -> None:
    config = parse_config(
        """
providers:
  openai: &base {base_url: https://api.openai.com/v1, region: us}
  other: {<<: *base, region: eu}
models:
  openai/gpt-4.1:
    endpoints:
      - &endpoint {provider: openai, model: gpt-4.1, weight: 2}
      - {<<: *endpoint, provider: other}
""",
        source="good.yaml",
    )
    other = config.endpoints["openai/gpt-4.1@other"]
    assert (other.base_url, other.region, other.weight) == ("https://api.openai.com/v1", "eu", 2.0)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "balancer.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config(path).models.keys() == {"openai/gpt-4.1"}


def test_a_file_that_cannot_be_read_is_one_problem_without_a_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(missing)
    assert str(caught.value) == f"{missing}: No such file or directory; use a file that can be read"
    assert caught.value.problems[0].line is None
    with pytest.raises(ConfigError, match="not a file's name"):
        load_config("a\0b")


def test_no_name_is_not_every_file_of_the_present_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "balancer.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_config(".").models
    with pytest.raises(ConfigError) as caught:
        load_config("")
    assert str(caught.value) == '"": no file\'s name; name a file or a directory'


def test_a_file_that_is_not_utf_8_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "balancer.yaml"
    path.write_bytes(b"providers:\n  openai: {name: \xff}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert str(caught.value) == f"{path}:2: not UTF-8; save the file as UTF-8"


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "balancer.yaml"
    with path.open("wb") as file:
        file.truncate(SIZE_MAX + 1)
    with pytest.raises(ConfigError, match="longer than 16 MiB; use a shorter file"):
        load_config(path)


def test_half_a_surrogate_pair_is_refused() -> None:
    assert problems_of("log: \ud800").startswith("broken.yaml: not valid Unicode")


def test_a_thousand_mistakes_are_cut_to_what_can_be_read() -> None:
    lines = problems_of(GOOD + "\n".join(f"key{number}: 1" for number in range(1000))).splitlines()
    assert len(lines) == 501
    assert lines[-1] == "broken.yaml: 500 more problems are not shown; mend these first"


TEXTS = st.text(alphabet=st.sampled_from(list("ab:-[]{}&*!|>'\"%@`#?,.$ \n\t\\0919~<=")), max_size=60)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from(["30s", "openai", "a/b", "${A}"])
)
KEYS = st.sampled_from(
    ["providers", "models", "listen", "auth", "tokens", "name", "scopes", "token", "env", "file", "openai", "a/b",
     "endpoints", "provider", "model", "pricing", "prompt", "probe", "kind", "url", "status", "headers", "body",
     "interval", "timeout", "routing", "health", "windows", "hold", "hold_max", "log", "level", "base_url",
     "variants", "credential", "aliases", "created", "<<", "weight", "nonsense", "limits", "rpm", "cache_ttl",
     "overrides", "utc_start", "utc_days", "min_prompt_tokens", "sticky", "ttl", "retry_budget", "total_min"]
)  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


@given(st.text(max_size=200) | TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_configuration_or_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text, source="any.yaml", environ={"A": "b"})


def tried(tree: object) -> Config | ConfigError:
    try:
        return parse_config(json.dumps(tree), source="any.yaml", environ={"A": "b"})
    except ConfigError as error:
        return error


@given(st.dictionaries(KEYS, TREES, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_tree_is_a_configuration_or_a_configuration_error(tree: dict[str, object]) -> None:
    result = tried(tree)
    if isinstance(result, ConfigError):
        assert len(str(result).splitlines()) == len(result.problems) > 0


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_good_file_with_one_part_replaced_is_good_or_told(data: st.DataObject) -> None:
    tree = json.loads(json.dumps(WHOLE))
    node, parts = tree, []
    while isinstance(node, (dict, list)) and node and (not parts or data.draw(st.booleans() | st.just(True))):
        step = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        parts.append((node, step))
        node = node[step]
    holder, step = data.draw(st.sampled_from(parts))
    holder[step] = data.draw(TREES)
    result = tried(tree)
    if isinstance(result, ConfigError):
        assert len(result.problems) > 0
    else:
        assert set(result.probes) == set(result.credentials) == set(result.endpoints)


WHOLE = {
    "listen": ["127.0.0.1:0", "unix:/run/balancer.sock"],
    "auth": {"tokens": [{"name": "ops", "scopes": ["admin"], "token": {"env": "A"}}]},
    "providers": {
        "openai": {
            "base_url": "https://api.openai.com/v1",
            "credential": [{"env": "A"}, {"env": "B"}],
            "limits": {"rpm": 60},
            "variants": {"eu": {"zdr": True, "limits": {"tpm": 1000}}, "us": {"credential": {"env": "A"}}},
        }
    },
    "models": {
        "openai/gpt-4.1": {
            "aliases": ["gpt"],
            "context_length": 1000,
            "endpoints": [
                {
                    "provider": "openai/eu",
                    "model": "a",
                    "pricing": {
                        "prompt": 1,
                        "overrides": [{"utc_start": "0830", "utc_end": "0030", "utc_days": ["mon"], "prompt": 2}],
                    },
                    "cache_ttl": "5m",
                    "probe": {"kind": "http", "url": "/x"},
                },
                {"provider": "openai", "model": "a", "max_prompt_tokens": 10, "weight": 2.5},
            ],
        }
    },
    "routing": {
        "strategy": "price",
        "valid_for": "1s",
        "sticky": {"ttl": "1m"},
        "timeouts": {"total_min": "1s"},
        "retry_budget": {"ratio": 0.1},
    },
    "health": {"hold": "1s", "hold_max": "2s", "windows": ["10s", "20s"]},
    "probe": {"interval": "10s", "timeout": "2s", "budget": {"usd": 2}},
    "log": {"level": "debug"},
}


def reachable(start: object) -> Iterator[object]:
    """Everything that can be come at from a value, but for modules and what they hold."""
    seen: set[int] = set()
    rest = [start]
    while rest:
        one = rest.pop()
        if id(one) not in seen and not isinstance(one, (type, ModuleType, FunctionType)):
            seen.add(id(one))
            yield one
            rest += gc.get_referents(one)


def test_nothing_of_a_configuration_leads_to_the_text_of_a_token() -> None:
    text = GOOD + "auth: {tokens: [{name: ops, scopes: [admin], token: {env: OPS}}]}"
    config = parse_config(
        text, source="good.yaml", environ={"OPENAI_API_KEY": "sk-live-123456", "OPS": "hunter2" * 3}
    )
    texts = [one for one in reachable(config) if isinstance(one, (str, bytes))]
    assert "sk-live-123456" in texts  # a provider is told its key, so that the search would find one
    assert not any(secret in texts for secret in ("hunter2" * 3, b"hunter2" * 3))
