"""Whether two names mean the same model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.probing.model_name import is_same, plain


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("openai/gpt-4.1", "gpt-4.1"),
        ("GPT-4.1", "gpt-4-1"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-latest"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4-20250514"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-20250514"),
        ("gemini-2.0-flash", "models/gemini-2.0-flash-001"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("accounts/fireworks/models/llama-v3p3-70b-instruct", "llama-v3p3-70b-instruct"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct-turbo"),
        ("llama3.2", "llama3.2:latest"),
        ("deepseek/deepseek-chat:free", "deepseek-chat"),
        ("grok-4", "grok-4-0709"),
        ("gemini-flash-latest", "gemini-2.5-flash-preview-09-2025"),
        ("openrouter/auto", "anthropic/claude-sonnet-4"),
        ("model-router", "gpt-4.1-nano-2025-04-14"),
        (" model ", "model"),
    ],
)
def test_names_that_differ_by_ornaments_mean_the_same(wanted, found):
    assert is_same(wanted, found)
    assert is_same(found, wanted)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("gpt-4.1", "gpt-4o"),
        ("gpt-4.1-mini", "gpt-4.1-nano"),
        ("gpt-4.1", "gpt-3.5-turbo-0125"),
        ("claude-opus-4-20250514", "claude-sonnet-4-20250514"),
        ("claude-opus-4-latest", "claude-sonnet-4-20250514"),
        ("gemini-flash-latest", "gemini-2.5-pro"),
        ("meta-llama/llama-3.3-70b", "meta-llama/llama-3.1-70b"),
        ("us.anthropic.claude-opus-4-v1:0", "meta.llama3-3-70b-instruct-v1:0"),
    ],
)
def test_other_models_are_others(wanted, found):
    assert not is_same(wanted, found)
    assert not is_same(found, wanted)


@pytest.mark.parametrize("name", ["gpt-4.1", "grok-4.3", "qwen2.5-72b", "o3", "phi-4"])
def test_a_version_in_the_middle_of_a_name_stays(name):
    assert plain(name) == name.replace(".", "-")


@given(st.text(max_size=60))
def test_whatever_a_model_is_called_it_is_itself(name):
    assert is_same(name, name)
