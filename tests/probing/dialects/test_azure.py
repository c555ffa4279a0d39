"""Which URLs lead to Azure, and which credentials are tokens."""

import pytest

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
