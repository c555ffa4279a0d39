"""Which URLs lead to Azure, and which credentials are tokens."""

import pytest

from balancer.config import parse_config
from balancer.probing import probe
from balancer.probing.dialects.azure import is_azure, is_token, names_deployments


@pytest.mark.parametrize(
    ("url", "azure"),
    [
        ("https://acme.openai.azure.com/openai/v1", True),
        ("https://ACME.OpenAI.Azure.com/openai/deployments/d?api-version=2024-10-21", True),
        ("https://acme.openai.azure.com.:443/openai/v1", True),
        ("https://acme.services.ai.azure.com/models", True),
        ("https://acme.cognitiveservices.azure.com/openai/v1", True),
        ("https://acme.openai.azure.us/openai/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://openai.azure.com.evil.example/v1", False),
        ("https://evilopenai.azure.com/v1", False),
        ("https://proxy.example/x.openai.azure.com/v1", False),
        ("https://[bad/v1", False),
        ("nonsense", False),
    ],
)
def test_azure_is_known_by_its_hosts(url, azure):
    assert is_azure(url) is azure


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://acme.openai.azure.com/openai/v1", True),
        ("https://gateway.example/openai/deployments/large?api-version=2024-10-21", True),
        ("https://gateway.example/openai/deployments", True),
        ("https://gateway.example/v1?x=/deployments/large", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_deployments_are_named_on_azure_and_on_paths_like_its_own(url, names):
    assert names_deployments(url) is names


@pytest.mark.parametrize(
    ("credential", "token"),
    [
        ("eyJhbGciOi.eyJhdWQ.c2ln", True),
        ("0123456789abcdef0123456789abcdef", False),
        ("eyJ", False),
        ("a.b.c", False),
    ],
)
def test_a_jwt_is_a_token_and_all_else_a_key(credential, token):
    assert is_token(credential) is token


CONFIG = """
probe: {{kind: {kind}, timeout: 5s}}
providers:
  azure:
    base_url: "http://127.0.0.1:{port}/openai/deployments/large/?api-version=${{VERSION:-2024-10-21}}"
    api: {api}
models: {{openai/gpt-4.1: {{endpoints: [{{provider: azure, model: large}}]}}}}
"""


@pytest.mark.parametrize(
    ("api", "kind", "target"),
    [
        ("openai", "completion", "/openai/deployments/large/chat/completions?api-version=2024-10-21"),
        ("anthropic", "models", "/openai/deployments/large/models?limit=1000&api-version=2024-10-21"),
    ],
)
async def test_a_deployment_that_a_configuration_names_is_asked_with_its_version(lab, api, kind, target):
    server = await lab.serve(lambda seen: seen.answer(500))
    config = parse_config(CONFIG.format(port=server.port, api=api, kind=kind), source="test", environ={})
    ((identifier, endpoint),) = config.endpoints.items()
    assert endpoint.base_url.endswith("/deployments/large?api-version=2024-10-21")
    await probe(endpoint, config.probes[identifier], None, connections=lab.connections)
    assert [seen.target for seen in server.requests] == [target]
