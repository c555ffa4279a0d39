"""Whether two names mean the same model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.probing.model_name import relation

# Asked for, found, and how they are related: the other way round, too, where a fourth says nothing else.
PAIRS = [
    ("gpt-4.1", "gpt-4.1-2025-04-14", "same"),
    ("openai/gpt-4.1", "gpt-4.1", "same"),
    ("GPT-4.1", "gpt-4-1", "same"),
    ("claude-sonnet-4-20250514", "claude-sonnet-4-latest", "same"),
    ("claude-sonnet-4-0", "claude-sonnet-4-20250514", "same"),
    ("claude-sonnet-4@20250514", "claude-sonnet-4-20250514", "same"),
    ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-20250514", "same"),
    ("anthropic.claude-opus-4-6-v1", "claude-opus-4-6", "same"),
    ("anthropic/claude-sonnet-4.5", "anthropic/claude-4.5-sonnet-20250929", "same"),
    ("gemini-2.0-flash", "models/gemini-2.0-flash-001", "same"),
    ("gemini-2.5-pro", "gemini-2.5-pro-preview-06-05", "same"),
    ("gemini-flash-latest", "gemini-2.5-flash-preview-09-2025", "same"),
    ("mistral-large-latest", "mistral-large-2411", "same"),
    ("accounts/fireworks/models/llama-v3p3-70b-instruct", "llama-v3p3-70b-instruct", "same"),
    ("meta-llama/Llama-3.3-70B-Instruct", "accounts/fireworks/models/llama-v3p3-70b-instruct", "same"),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b-instruct", "same"),
    ("qwen2.5:7b-instruct-q4_K_M", "qwen2.5:7b", "same"),
    ("llama3.2", "llama3.2:latest", "same"),
    ("deepseek-ai/DeepSeek-V3", "deepseek-v3-0324", "same"),
    ("deepseek/deepseek-chat:free", "deepseek-chat", "same"),
    ("grok-4", "grok-4-0709", "same"),
    ("o3", "o3-2025-04-16", "same"),
    ("command-r-plus", "command-r-plus-08-2024", "same"),
    ("openrouter/auto", "anthropic/claude-sonnet-4", "same"),
    ("model-router", "gpt-4.1-nano-2025-04-14", "same"),
    (" model ", "model", "same"),
    ("gpt-35-turbo", "gpt-3.5-turbo", "same"),
    ("azure/gpt-35-turbo", "gpt-3.5-turbo-0125", "same"),
    ("gpt-35-turbo-16k", "gpt-3.5-turbo-16k", "same"),
    ("gpt-35-turbo-1106", "gpt-35-turbo", "same"),
    ("doubao-seed-1-6-250615", "doubao-seed-1-6", "same"),
    ("doubao-seed-1.6", "doubao-seed-1-6-251015", "same"),
    ("gpt-4o", "chatgpt-4o-latest", "same"),
    ("chatgpt-4o-latest", "gpt-4o-2024-11-20", "same"),
    ("doubao-seed-1-6-250615", "doubao-seed-1-6-251015", "doubtful"),
    ("meta-llama/Llama-3.3-70B-Instruct", "tgi", "doubtful", "other"),
    ("deepseek-v4-flash", "deepseek-flash", "doubtful"),
    ("deepseek-chat", "deepseek-v4-flash", "doubtful"),
    ("gpt-4-turbo-preview", "gpt-4-0125-preview", "doubtful"),
    ("gpt-4o-2024-05-13", "gpt-4o-2024-11-20", "doubtful"),
    ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct-turbo", "doubtful"),
    ("kimi-k2", "kimi-k2-thinking", "doubtful"),
    ("grok-4.20", "grok-4.20-0309-reasoning", "doubtful"),
    ("gpt-4", "gpt-4-32k", "doubtful"),
    ("qwen3-235b-a22b", "qwen3-235b", "doubtful"),
    ("deepseek-v3", "deepseek.v3-v1:0", "doubtful"),
    ("grok-4", "grok-4.3", "doubtful", "other"),
    ("gpt-4", "gpt-4.1", "doubtful", "other"),
    ("gpt-5", "gpt-5-nano", "other"),
    ("gpt-35-turbo", "gpt-4", "other"),
    ("doubao-seed-1-6-250615", "doubao-seed-1-6-flash-250615", "other"),
    ("doubao-seed-1-6", "doubao-seed-1-8-251228", "other"),
    ("chatgpt-4o-latest", "gpt-4o-mini", "other"),
    ("gpt-5", "gpt-5-codex", "other"),
    ("gpt-4o", "gpt-4o-mini", "other"),
    ("gpt-4o", "gpt-4", "other"),
    ("gpt-4.1", "gpt-4o", "other"),
    ("gpt-4.1-mini", "gpt-4.1-nano", "other"),
    ("gpt-4.1", "gpt-3.5-turbo-0125", "other"),
    ("glm-4.5", "glm-4.5-air", "other"),
    ("claude-opus-4-20250514", "claude-sonnet-4-20250514", "other"),
    ("claude-opus-4-latest", "claude-sonnet-4-20250514", "other"),
    ("claude-sonnet-4", "claude-sonnet-3-7", "other"),
    ("gemini-flash-latest", "gemini-2.5-pro", "other"),
    ("gemini-2.5-flash", "gemini-2.5-flash-lite-preview-09-2025", "other"),
    ("mistral-large-latest", "mistral-small-2506", "other"),
    ("meta-llama/llama-3.3-70b", "meta-llama/llama-3.1-70b", "other"),
    ("llama-3.1-70b-instruct", "llama-3.1-8b-instruct", "other"),
    ("mixtral-8x7b", "mistral-7b", "other"),
    ("deepseek-r1", "deepseek-r1-distill-llama-70b", "other"),
    ("deepseek-v3", "deepseek-v4", "other"),
    ("o3", "o4", "other"),
    ("us.anthropic.claude-opus-4-v1:0", "meta.llama3-3-70b-instruct-v1:0", "other"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_names_are_the_same_or_in_doubt_or_of_others(pair):
    one, other, expected = pair[:3]
    assert relation(one, other) == expected
    assert relation(other, one) == pair[-1]


@given(st.text(max_size=60))
def test_whatever_a_model_is_called_it_is_itself(name):
    assert relation(name, name) == "same"


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_names_are_related_in_some_way(one, other):
    assert relation(one, other) in ("same", "doubtful", "other")
