"""What model families want otherwise than most."""

import pytest

from balancer.probing.dialects.interface import TOKENS_MAX
from balancer.probing.dialects.recipes import LIMIT, NEWER_LIMIT, PLAIN, THINKING_TOKENS, recipe

OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
XAI = "https://api.x.ai/v1"
ALIBABA = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"


def found(lab, model, url=OPENAI, ours="author/model"):
    return recipe(lab.endpoint(url, upstream_model=model, model=ours))


@pytest.mark.parametrize(
    ("model", "tokens", "effort"),
    [
        ("o1", THINKING_TOKENS, "low"),
        ("o3-mini-2025-01-31", THINKING_TOKENS, "low"),
        ("o4-mini", THINKING_TOKENS, "low"),
        ("o1-mini", THINKING_TOKENS, None),
        ("o1-preview", THINKING_TOKENS, None),
        ("gpt-5", THINKING_TOKENS, "minimal"),
        ("openai/GPT-5-mini", THINKING_TOKENS, "minimal"),
        ("gpt-5-2025-08-07", THINKING_TOKENS, "minimal"),
        ("gpt-5-pro", THINKING_TOKENS, "high"),
        ("gpt-5-codex", THINKING_TOKENS, "low"),
        ("gpt-5.1-codex-max", THINKING_TOKENS, "low"),
        ("gpt-5.1", THINKING_TOKENS, "none"),
        ("gpt-5.4-mini", THINKING_TOKENS, "none"),
        ("gpt-5-chat-latest", TOKENS_MAX, None),
        ("gpt-5.1-chat-latest", TOKENS_MAX, None),
    ],
)
def test_openais_reasoning_models_have_the_newer_limit_and_the_lowest_effort(lab, model, tokens, effort):
    wanted = found(lab, model)
    assert (wanted.limit, wanted.tokens, wanted.besides.get("reasoning_effort")) == (NEWER_LIMIT, tokens, effort)


@pytest.mark.parametrize(
    ("model", "url", "tokens", "besides"),
    [
        ("gemini-2.5-flash-lite", GOOGLE, THINKING_TOKENS, {"reasoning_effort": "none"}),
        ("models/gemini-2.5-pro", GOOGLE, THINKING_TOKENS, {"reasoning_effort": "low"}),
        ("gemini-3-pro-preview", GOOGLE, THINKING_TOKENS, {"reasoning_effort": "low"}),
        ("grok-3-mini", XAI, THINKING_TOKENS, {"reasoning_effort": "low"}),
        ("grok-4.3", XAI, THINKING_TOKENS, {"reasoning_effort": "none"}),
        ("grok-4-0709", XAI, THINKING_TOKENS, {}),
        ("deepseek-v4-flash", "https://api.deepseek.com", TOKENS_MAX, {"thinking": {"type": "disabled"}}),
        ("deepseek-flash", "https://api.deepseek.com", TOKENS_MAX, {"thinking": {"type": "disabled"}}),
        ("qwen3-32b", ALIBABA, TOKENS_MAX, {"enable_thinking": False}),
        ("qwen3-30b-a3b-thinking-2507", ALIBABA, TOKENS_MAX, {}),
    ],
)
def test_what_a_provider_calls_its_own_is_sent_to_it_alone(lab, model, url, tokens, besides):
    wanted = found(lab, model, url)
    assert (wanted.limit, wanted.tokens, dict(wanted.besides)) == (LIMIT, tokens, besides)
    assert found(lab, model, "https://elsewhere.example/v1") == PLAIN


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4.1",
        "gpt-4o",
        "gpt-oss-120b",
        "deepseek-r1",
        "magistral-medium",
        "llama-3.3-70b",
        "phi-o3-x",
        "opus-1",
        "ollama",
    ],
)
def test_a_family_without_a_row_is_asked_as_most(lab, model):
    assert found(lab, model) == PLAIN


def test_our_own_id_tells_what_a_deployment_is(lab):
    assert found(lab, "large-prod", ours="openai/gpt-5") == found(lab, "gpt-5")
    assert found(lab, "gpt-5.1", ours="openai/gpt-4.1") == found(lab, "gpt-5.1")


@pytest.mark.parametrize("url", ["https://notx.ai/v1", "https://x.ai.example/v1", "https://[bad", "nonsense"])
def test_a_host_is_matched_by_whole_names(lab, url):
    assert found(lab, "grok-4.3", url) == PLAIN


OFF = {"thinking": {"type": "disabled"}}
LOW = {"output_config": {"effort": "low"}}


@pytest.mark.parametrize(
    ("model", "besides", "forced"),
    [
        ("claude-opus-5", OFF, True),
        ("claude-sonnet-5-20260701", OFF, True),
        ("us.anthropic.claude-sonnet-5-v1:0", OFF, True),
        ("anthropic/claude-opus-5.5", LOW, False),
        ("claude-opus-5-5-20260922", LOW, False),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}, **LOW}, False),
        ("claude-fable-5-1", LOW, False),
        ("claude-mythos-5", LOW, False),
        ("claude-opus-4-5", {}, True),
        ("claude-sonnet-4-5-20250929", {}, True),
        ("claude-haiku-5-5", {}, True),
        ("claude-opus-6", {}, True),
    ],
)
def test_claude_is_told_not_to_think_as_far_as_it_listens(lab, model, besides, forced):
    endpoint = lab.endpoint("https://api.anthropic.com/v1", upstream_model=model, api="anthropic")
    wanted = recipe(endpoint)
    assert (dict(wanted.besides), wanted.forced) == (besides, forced)
    assert wanted.tokens == (THINKING_TOKENS if besides else TOKENS_MAX)
    assert found(lab, model) == PLAIN  # OpenAI's dialect has none of these parameters
