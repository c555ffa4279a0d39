"""Whether two names mean the same model: the one that was asked for and the one that an answer claims to be from.

Theory of operation: providers answer in names of their own: without the author, with the date of the version, with
dashes for dots. What is left after such ornaments is compared, and one that begins with the other counts as the
same (`gpt-4.1` and `gpt-4.1-2025-04-14`, `claude-sonnet-4` and `claude-sonnet-4-5`). A name of the latest is the
same as any that has all of its words (`gemini-flash-latest` and `gemini-2.5-flash`), and a router's as any. A
doubtful difference must not eject anybody; `probe.answer_model` is for who wants to know it exactly.

What this module does not know: which of the two was asked for.
"""

from __future__ import annotations

import re
from typing import Final

# Bedrock's: `us.anthropic.claude-sonnet-4-20250514-v1:0`, `meta.llama3-3-70b-instruct-v1:0`.
_AUTHORS: Final = re.compile(r"(?:[a-z]+\.)+(?=[a-z])")

# `-2025-04-14`, `-20250514`, `-latest`, Google's `-001`, Mistral's `-2411`, Vertex's `@20250514`.
_VERSION: Final = re.compile(r"(?:-[0-9]{4}-[0-9]{2}-[0-9]{2}|-[0-9]{8}|-latest|-[0-9]{3,4}|@.*)$")

_LATEST: Final = "-latest"
_ROUTERS: Final = frozenset({"auto", "model-router"})  # OpenRouter's `openrouter/auto`, Azure's


def is_same(one: str, other: str) -> bool:
    """Whether both may name one model."""
    left, right = plain(one), plain(other)
    if left.startswith(right) or right.startswith(left) or not _ROUTERS.isdisjoint((left, right)):
        return True
    return _leads(one, left, right) or _leads(other, right, left)


def _leads(name: str, alias: str, found: str) -> bool:
    """Whether a name is an alias of the latest model of a family, and the other is in that family."""
    return name.strip().lower().endswith(_LATEST) and set(alias.split("-")) <= set(found.split("-"))


def plain(name: str) -> str:
    """A name without author, version, capitals and dots."""
    name = name.strip().lower().rpartition("/")[2]
    authors = _AUTHORS.match(name)
    if authors is not None:
        name = name[authors.end() :]
    return _VERSION.sub("", name.replace(".", "-"))
