"""What a model family wants otherwise than most, so that no probe fails by its own fault.

Theory of operation: a table for each dialect, read from the top; the first row that fits the model's name decides.
A name without a row is asked as most want it: `max_tokens`, few of them, nothing else. No row sends a temperature:
reasoning models refuse any but their own. Effort is the lowest that the family accepts: an answer's worth is not
judged, and thoughts cost money. Where thoughts are hidden but counted, the limit leaves room for them; a limit
costs nothing that is not used. What the table does not know, `amended` learns from the refusal.

What this module does not know: how a request is written (the dialects).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from balancer.core.model import Dialect, Endpoint
from balancer.probing.dialects.interface import TOKENS_MAX

THINKING_TOKENS: Final = 512
"""Room for hidden thoughts at low effort. Too little is a 400 of OpenAI ("Could not finish the message because
max_tokens or model output limit was reached")."""

LIMIT: Final = "max_tokens"
NEWER_LIMIT: Final = "max_completion_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a family is asked: the limit's name, the limit, and parameters besides.

    `forced` is false for a family that refuses to be forced to call a tool.
    """

    forced: bool = True
    limit: str = LIMIT
    tokens: int = TOKENS_MAX
    besides: Mapping[str, Any] = field(default_factory=dict)


PLAIN: Final = Recipe()


@dataclass(frozen=True, slots=True)
class _Row:
    """`model` is searched in the name from its start, `host` at the end of the URL's host."""

    model: re.Pattern[str]
    recipe: Recipe
    host: str = ""


def _openai(effort: str | None, tokens: int = THINKING_TOKENS) -> Recipe:
    return Recipe(limit=NEWER_LIMIT, tokens=tokens, besides={} if effort is None else {"reasoning_effort": effort})


def _effort(effort: str) -> Recipe:
    return Recipe(tokens=THINKING_TOKENS, besides={"reasoning_effort": effort})


_OPENAI: Final = (
    # OpenAI, API reference, `reasoning_effort`: before gpt-5.1 no `none`; `minimal` came with gpt-5; gpt-5-pro has
    # `high` only. `max_tokens` is "not compatible with o-series models" and refused by gpt-5.
    _Row(re.compile(r"gpt-5[^/]*-chat"), _openai(None, TOKENS_MAX)),  # no reasoning model, and refuses an effort
    _Row(re.compile(r"gpt-5(\.\d+)?-pro"), _openai("high")),
    # gpt-5.1-codex: "neither offers a minimal variant"; the model page of gpt-5-codex lists low, medium and high.
    _Row(re.compile(r"gpt-5(\.\d+)?-codex"), _openai("low")),
    _Row(re.compile(r"gpt-5\.\d"), _openai("none")),
    _Row(re.compile(r"gpt-5"), _openai("minimal")),
    # OpenAI, "Reasoning models": the first two take neither an effort nor a `max_tokens`.
    _Row(re.compile(r"o1-(mini|preview)"), _openai(None)),
    _Row(re.compile(r"o[1-9]\d*(-|$)"), _openai("low")),
    # Google, "OpenAI compatibility": `none` turns thinking off, which 2.5 Pro and 3 cannot; 3 Pro has low and high.
    _Row(re.compile(r"gemini-2\.5-flash"), _effort("none"), "generativelanguage.googleapis.com"),
    _Row(re.compile(r"gemini-([3-9]|2\.5-pro)"), _effort("low"), "generativelanguage.googleapis.com"),
    # xAI, "Reasoning": grok-3-mini has low and high, 4.3 has none to high; the rest refuses the parameter, thinks
    # unseen, and counts its thoughts.
    _Row(re.compile(r"grok-3-mini"), _effort("low"), "x.ai"),
    _Row(re.compile(r"grok-4[.-]3"), _effort("none"), "x.ai"),
    _Row(re.compile(r"grok-4"), Recipe(tokens=THINKING_TOKENS), "x.ai"),
    # DeepSeek, "Thinking Mode": on by default, and off by this; there is no lower effort.
    _Row(
        re.compile(r"deepseek-(v[4-9]|flash|pro)"),
        Recipe(besides={"thinking": {"type": "disabled"}}),
        "api.deepseek.com",
    ),
    # Alibaba Cloud, "Deep thinking": hybrid models answer at once without it; those named thinking cannot.
    _Row(re.compile(r"qwen[^/]*thinking"), PLAIN, "aliyuncs.com"),
    _Row(re.compile(r"qwen3|qwen-(plus|flash|turbo)"), Recipe(besides={"enable_thinking": False}), "aliyuncs.com"),
)
# DeepSeek-R1, QwQ, Magistral and their like elsewhere have no row: they show their thoughts as they come, and an
# answer that used up its tokens on them is whole.

_OFF: Final = {"thinking": {"type": "disabled"}}
_LOW: Final = {"output_config": {"effort": "low"}}
_CLAUDE: Final = r"(?:[a-z]+\.)*claude-"  # Bedrock writes authors before it

# Source: Anthropic, "What's new in Claude Opus 5.5" and the same of Sonnet 5.5; "Thinking", "Effort".
_ANTHROPIC: Final = (
    # No up-front thinking with this; it takes no `disabled`, and no forced tool.
    _Row(
        re.compile(_CLAUDE + r"sonnet-5[.-]5(?!\d)"),
        Recipe(forced=False, tokens=THINKING_TOKENS, besides={"thinking": {"type": "between_tools"}, **_LOW}),
    ),
    # They think always, and take no forced tool.
    _Row(
        re.compile(_CLAUDE + r"(opus-5[.-]5(?!\d)|fable|mythos)"),
        Recipe(forced=False, tokens=THINKING_TOKENS, besides=_LOW),
    ),
    # Thinking is on by default, and may be turned off: then a tool may be forced.
    _Row(re.compile(_CLAUDE + r"(opus|sonnet)-5(?![.-]?\d(?!\d))"), Recipe(tokens=THINKING_TOKENS, besides=_OFF)),
    # DeepSeek, "Thinking Mode", and the same rule about tools.
    _Row(re.compile(r"deepseek-(v[4-9]|flash|pro)"), Recipe(besides=_OFF), "api.deepseek.com"),
)

_TABLES: Final[Mapping[Dialect, tuple[_Row, ...]]] = {"openai": _OPENAI, "anthropic": _ANTHROPIC}


def recipe(endpoint: Endpoint) -> Recipe:
    """Find the recipe of an endpoint's model, by the provider's name for it or else by ours.

    Source: a deployment's name is anybody's choice, and the model's id then says what it is.
    """
    host = _host(endpoint.base_url)
    for name in (endpoint.upstream_model, endpoint.model):
        family = name.lower().rpartition("/")[2]
        for row in _TABLES[endpoint.api]:
            if row.model.match(family) is not None and (not row.host or f".{host}".endswith(f".{row.host}")):
                return row.recipe
    return PLAIN


def _host(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return ""  # said where it is asked
    return "" if host is None else host
