"""Whether two names mean the same model: the one that was asked for and the one that an answer claims to be from.

Theory of operation: providers answer in names of their own: without the author, with the date of the version, with
dashes for dots, in another order. A name is taken apart into words, the numbers of its version, sizes (`70b`) and
dates; what only adorns (`preview`, `instruct`, `:free`) is left out. Then three answers are possible:

- *same*: the words, version and sizes are equal; a date that only one of them has does not matter, and a name of
  the latest is that of any version;
- *other*: they differ in a word that says how big or of what kind a model is (`mini`, `flash`, `coder`), in a size
  or in the version, or each has a word that the other lacks;
- *doubtful*: the rest, such as a version that only one of them names. Aliases are like that, and so are
  substitutes; so is a server that says its own name. A doubt must not eject anybody; `probe.answer_model` is for
  who wants to know it exactly.

An alias may mean a later version (`grok-4` and `grok-4.3`), so the direction counts: it is doubtful when the answer
names the longer version, and another model when it names the shorter.

What this module does not know: who answered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

Relation = Literal["same", "doubtful", "other"]
_ORDER: Final[tuple[Relation, ...]] = get_args(Relation)  # from the best to the worst

# Bedrock's: `us.anthropic.claude-sonnet-4-20250514-v1:0`, `meta.llama3-3-70b-instruct-v1:0`.
_AUTHORS: Final = re.compile(r"(?:[a-z]+\.)+(?=[a-z])")
_REVISION: Final = re.compile(r"-v[0-9]+(?::[0-9]+)?$")  # and Bedrock's own count, at the end of such a name

# `2025-04-14`, `20250514`, Doubao's `250615`, `preview-09-2025`, `preview-06-05`; Google's `001`, Mistral's `2411`,
# OpenAI's `0613`.
_DATE: Final = re.compile(
    r"(?<![a-z0-9.])(?:20[0-9]{2}-[0-9]{2}-[0-9]{2}|20[0-9]{6}|2[0-9](?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])|(?:0[1-9]|1[0-2])-20[0-9]{2}"
    r"|(?:(?<=preview-)|(?<=exp-))[0-9]{2}-[0-9]{2}|[0-9]{3,4})(?![a-z0-9])"
)
# `70b`, `1.5b`, `8x7b`, `a22b` (those that work at a time), `128e` (experts), `32k` (context).
_SIZE: Final = re.compile(r"(?<![a-z0-9])(?:[ae]?[0-9]+(?:[.x][0-9]+)*[bmke])(?![a-z0-9])")
# `fp8`, `bf16`, `int4`, `mxfp4`, Ollama's `q4_K_M`: how it was packed.
_PACKED: Final = re.compile(
    r"(?<![a-z0-9])(?:(?:fp|bf|int|nvfp|mxfp)[0-9]+|i?q[0-9](?:-[k0-9])?(?:-[sml])?)(?![a-z0-9])"
)
_PART: Final = re.compile(r"[a-z]+|[0-9]+(?:o(?![a-z0-9]))?")  # `4o` is a version of its own

# They say how it was packed or trained, or how it is sold, and not which it is.
_ORNAMENTS: Final = frozenset(
    {
        "v", "latest", "preview", "exp", "experimental", "beta", "stable", "instruct", "it", "hf", "maas", "awq",
        "gptq", "gguf", "free", "nitro", "floor", "exacto", "extended", "online",
    }
)  # fmt: skip
# Some sell another model under such a word, and others the same.
_LOOSE: Final = frozenset(
    {"chat", "turbo", "base", "thinking", "reasoner", "reasoning", "fast", "instant", "versatile"}
)

# How big, or of what kind: who answers as one with another of these words is somebody else, and often cheaper.
_CLASSES: Final = frozenset(
    {
        "mini", "nano", "micro", "tiny", "lite", "small", "medium", "large", "air", "flash", "pro", "ultra", "max",
        "plus", "opus", "sonnet", "haiku", "fable", "mythos", "scout", "maverick", "coder", "code", "codex",
        "distill", "oss", "vl", "vision", "image", "audio", "realtime", "embedding", "guard", "search",
    }
)  # fmt: skip

_LATEST: Final = "latest"
# Azure's own spelling of `gpt-3.5`, whose names of deployments once took no dot; and the name of what ChatGPT has.
_SPELLINGS: Final = (
    (re.compile(r"(?<![a-z0-9])gpt-35(?![a-z0-9])"), "gpt-3-5"),
    (re.compile(r"^chatgpt-"), "gpt-"),
)
_NAMELESS: Final = frozenset({"tgi"})  # what Text Generation Inference says, whichever model it serves
_ROUTERS: Final = frozenset({"auto", "model-router"})  # OpenRouter's `openrouter/auto`, Azure's


@dataclass(frozen=True, slots=True)
class _Name:
    """A name taken apart. `latest` is of an alias that moves along with its family."""

    words: frozenset[str]
    version: tuple[str, ...]
    sizes: frozenset[str]
    dates: frozenset[str]
    latest: bool


def relation(asked: str, found: str) -> Relation:
    """Say how the model that answered is related to the one that was asked for."""
    if _bare(asked) == _bare(found) or not _ROUTERS.isdisjoint((_bare(asked), _bare(found))):
        return "same"
    if _bare(found) in _NAMELESS:
        return "doubtful"
    one, other = _taken_apart(asked), _taken_apart(found)
    relations = (_of_words(one, other), _of_versions(one, other), _of_sizes(one, other), _of_dates(one, other))
    return max(relations, key=_ORDER.index)


def _of_words(one: _Name, other: _Name) -> Relation:
    if one.words == other.words:
        return "same"
    left, right = one.words - _LOOSE, other.words - _LOOSE
    # Of a name that is nothing but a version (Bedrock's `deepseek.v3`) nobody knows the family.
    if left - right and right - left and left and right:
        return "other"
    # An alias without a version, such as `deepseek-chat`, may stand for a class that it does not name.
    if (left ^ right) & _CLASSES and one.version and other.version:
        return "other"
    return "doubtful"


def _of_versions(one: _Name, other: _Name) -> Relation:
    if one.version == other.version:
        return "same"
    if not one.version or not other.version:
        return "same" if one.latest or other.latest else "doubtful"
    return "doubtful" if other.version[: len(one.version)] == one.version else "other"


def _of_sizes(one: _Name, other: _Name) -> Relation:
    if one.sizes == other.sizes:
        return "same"
    return "other" if one.sizes and other.sizes and one.sizes.isdisjoint(other.sizes) else "doubtful"


def _of_dates(one: _Name, other: _Name) -> Relation:
    free = one.latest or other.latest or not one.dates or not other.dates
    return "same" if free or one.dates == other.dates else "doubtful"


def _bare(name: str) -> str:
    """A name without author and capitals, and with dashes for what else stands between words."""
    name = name.strip().lower().rpartition("/")[2]
    authors = _AUTHORS.match(name)
    if authors is not None:
        name = _REVISION.sub("", name[authors.end() :])
    return re.sub(r"[_@:]", "-", name)


def _taken_apart(name: str) -> _Name:
    rest = re.sub(r"(?<=[0-9])p(?=[0-9])", "-", _bare(name))  # Fireworks' `v3p3`
    for spelling, usual in _SPELLINGS:
        rest = spelling.sub(usual, rest)
    rest = _PACKED.sub("", rest)
    dates = frozenset(date.replace("-", "") for date in _DATE.findall(rest))
    rest = _DATE.sub("", rest)
    sizes = frozenset(_SIZE.findall(rest))
    parts = _PART.findall(_SIZE.sub("", rest))
    version = [part for part in parts if part[0].isdigit()]
    while version and version[-1] == "0":  # `claude-sonnet-4-0` is 4
        version.pop()
    words = frozenset(part for part in parts if not part[0].isdigit())
    return _Name(words - _ORNAMENTS, tuple(version), sizes, dates, _LATEST in words)
