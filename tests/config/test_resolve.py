"""What an endpoint inherits, and what marks it."""

from __future__ import annotations

import pytest

from balancer.config import Config, ConfigError, Listen, TlsSettings, parse_config
from balancer.core.model import Endpoint, enforced

TEXT = """
providers:
  azure:
    name: Azure
    base_url: https://azure.example/v1/
    credential: {env: AZURE_KEY}
    region: us
    data_collection: deny
    variants:
      eastus2: {base_url: https://eastus2.example/v1, region: us-east, zdr: true, quantization: fp8, api: anthropic}
      west: {credential: {env: WEST_KEY}}
      plain:
  local: {base_url: http://127.0.0.1:8000}
models:
  openai/gpt-4.1:
    aliases: [gpt-4.1]
    created: 2025-04-14
    context_length: 1000
    input_modalities: [text, image]
    distillable: false
    endpoints:
      - {provider: azure, model: a}
      - {provider: azure/eastus2, model: b, region: null, context_length: 500, weight: 2, priority: -1, tier: flex}
      - {provider: azure/west, model: c, quantization: bf16, region: eu, supported_parameters: [tools]}
      - {provider: azure/plain, model: d, base_url: "https://own.example", pricing: {prompt: 0}}
      - {provider: azure/undeclared, model: e}
      - {provider: local, model: f}
"""


def config(text: str = TEXT, **environ: str) -> Config:
    return parse_config(text, source="t.yaml", environ=environ)


def endpoint(tag: str, text: str = TEXT, **environ: str) -> Endpoint:
    return config(text, **environ).endpoints[f"openai/gpt-4.1@{tag}"]


def test_an_endpoint_takes_each_value_from_the_nearest_place_that_gives_it() -> None:
    seen = {
        one.tag: (one.base_url, one.api, one.region, one.quantization, one.zdr, one.data_collection)
        for one in config().endpoints.values()
    }
    assert seen == {
        "azure": ("https://azure.example/v1", "openai", "us", "unknown", False, "deny"),
        "azure/eastus2": ("https://eastus2.example/v1", "anthropic", "us-east", "fp8", True, "deny"),
        "azure/west": ("https://azure.example/v1", "openai", "eu", "bf16", False, "deny"),
        "azure/plain": ("https://own.example", "openai", "us", "unknown", False, "deny"),
        "azure/undeclared": ("https://azure.example/v1", "openai", "us", "unknown", False, "deny"),
        "local": ("http://127.0.0.1:8000", "openai", None, "unknown", False, "allow"),
    }


def test_an_endpoint_takes_its_models_facts() -> None:
    plain, own = endpoint("azure"), endpoint("azure/eastus2")
    assert (plain.context_length, own.context_length) == (1000, 500)
    assert plain.input_modalities == {"text", "image"}
    assert plain.output_modalities == {"text"}
    assert plain.distillable is False
    assert (plain.weight, plain.priority, plain.tier) == (1.0, 0, None)
    assert (own.weight, own.priority, own.tier) == (2.0, -1, "flex")
    assert (plain.supported_parameters, endpoint("azure/west").supported_parameters) == (None, {"tools"})
    assert (plain.pricing.prompt, endpoint("azure/plain").pricing.prompt) == (None, 0.0)


def test_models_and_providers_keep_the_order_of_the_file() -> None:
    whole = config()
    model = whole.models["openai/gpt-4.1"]
    assert (model.aliases, model.created, model.name) == (("gpt-4.1",), "2025-04-14", "openai/gpt-4.1")
    assert model.endpoints == tuple(whole.endpoints)
    assert whole.providers["azure"].tags == tuple(
        one.tag for one in whole.endpoints.values() if one.provider == "azure"
    )
    assert (whole.providers["azure"].name, whole.providers["local"].name) == ("Azure", "local")


def test_a_missing_key_leaves_the_endpoint_misconfigured_with_the_reason() -> None:
    assert endpoint("azure").misconfigured == "AZURE_KEY is not set"
    assert endpoint("azure/west", AZURE_KEY="x").misconfigured == "WEST_KEY is not set"
    assert endpoint("azure/eastus2", AZURE_KEY="").misconfigured == "AZURE_KEY is empty"
    assert endpoint("azure", AZURE_KEY="x").misconfigured is None


def test_a_provider_without_a_credential_needs_none() -> None:
    assert endpoint("local").misconfigured is None
    assert config().credentials["openai/gpt-4.1@local"] is None


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("model: f", "model: g", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/", True),
        ("model: f", "model: f, weight: 3, pricing: {prompt: 9}, region: eu", True),
    ],
)
def test_the_mark_changes_with_address_and_upstream_model_only(old: str, new: str, same: bool) -> None:
    assert (endpoint("local").identity == endpoint("local", TEXT.replace(old, new)).identity) is same


def test_the_mark_changes_with_the_key_and_not_with_its_place() -> None:
    first = endpoint("azure", AZURE_KEY="one").identity
    assert first == endpoint("azure", TEXT.replace("AZURE_KEY", "OTHER"), OTHER="one").identity
    assert len({first, endpoint("azure", AZURE_KEY="two").identity, endpoint("azure").identity}) == 3
    assert "one" not in first


def test_a_token_that_is_there_is_kept_with_its_scopes() -> None:
    text = TEXT + "auth: {tokens: [{name: ops, scopes: [admin, read], token: {env: OPS}}]}\nlisten: 0.0.0.0:80\n"
    (token,) = config(text, OPS="t").tokens
    assert (token.name, token.scopes, token.secret.matches("t")) == ("ops", {"admin", "read"}, True)
    with pytest.raises(ConfigError, match=r"auth\.tokens\[0\]\.token: OPS is not set"):
        config(text)


def test_a_wide_listen_is_accepted_when_it_is_meant() -> None:
    assert config(TEXT + "listen: 0.0.0.0:80\ninsecure: true\n").listen[0].host == "0.0.0.0"


def test_addresses_with_what_only_some_need_are_read() -> None:
    text = """
listen:
  - {address: "unix:/run/b.sock", mode: "0660", group: haproxy}
  - {address: 127.0.0.1:1, reuse_port: true}
  - {address: "unix:/run/c.sock", mode: "600"}
  - 127.0.0.1:2
"""
    assert config(TEXT + text).listen == (
        Listen(path="/run/b.sock", mode=0o660, group="haproxy"),
        Listen(host="127.0.0.1", port=1, reuse_port=True),
        Listen(path="/run/c.sock", mode=0o600),
        Listen(host="127.0.0.1", port=2),
    )
    assert config(TEXT + "listen: {address: '[::1]:1'}\n").listen == (Listen(host="::1", port=1),)


def test_the_files_of_tls_are_beside_the_configuration() -> None:
    text = TEXT + "tls: {cert_file: cert.pem, client_ca_file: /etc/ca.pem}\n"
    found = parse_config(text, source="/etc/balancer/balancer.yaml").tls
    assert found == TlsSettings(cert_file="/etc/balancer/cert.pem", client_ca_file="/etc/ca.pem")
    found = parse_config(text.replace("client_ca_file", "key_file"), source="/etc/balancer/balancer.yaml").tls
    assert found == TlsSettings(cert_file="/etc/balancer/cert.pem", key_file="/etc/ca.pem")
    assert config(TEXT).tls is config(TEXT + "tls:\n").tls is None


def test_a_broken_endpoint_does_not_shift_the_places_of_those_behind_it() -> None:
    text = TEXT.replace("{provider: azure, model: a}", "{model: a}").replace(
        "model: f}", "model: f, max_prompt_tokens: 2000}"
    )
    with pytest.raises(ConfigError) as caught:
        config(text)
    assert [problem.path for problem in caught.value.problems] == [
        "models.openai/gpt-4.1.endpoints[0].provider",
        "models.openai/gpt-4.1.endpoints[5].max_prompt_tokens",
    ]


@pytest.mark.parametrize(
    ("top", "own", "says", "holds"),
    [
        ("", "", None, True),
        ("{enforce: true}", "", None, True),
        ("{enforce: false}", "", None, False),
        ("{enforce: false}", "{}", None, False),
        ("{enforce: false}", "{enforce: null}", None, False),
        ("{enforce: false}", "{enforce: true}", True, True),
        ("{enforce: true}", "{enforce: false}", False, False),
        ("", "{enforce: false}", False, False),
    ],
)
def test_a_model_may_watch_or_enforce_by_itself(top: str, own: str, says: bool | None, holds: bool) -> None:
    text = f"""
providers: {{a: {{base_url: "https://a.example"}}}}
models:
  x/y: {{health: {own}, endpoints: [{{provider: a, model: m}}]}}
  x/z: {{endpoints: [{{provider: a, model: m}}]}}
health: {top}
"""
    whole = config(text)
    assert whole.models["x/y"].enforce is says
    assert enforced(whole.models["x/y"], whole.health) is holds
    assert enforced(whole.models["x/z"], whole.health) is whole.health.enforce is ("false" not in top)
