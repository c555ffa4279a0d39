"""POST /v1/best-provider: an OpenAI chat-completions body as it is → what it needs of an endpoint.

Theory of operation: the body is decoded into types that hold only what routing asks about; pictures, sounds and
unknown keys are passed over without being built. What the request needs follows from what it uses: parameters
from the keys that are there, modalities from the parts of the messages, the prompt's length from its text.
Content is counted and let go: nothing of it is kept, answered or logged.

A key that asks *us* for something that this version cannot do is refused, so that nobody believes it was
honoured; a key that is the provider's business is ignored.

What this module does not know: tokenizers. `prompt_tokens` in the body's `balancer` object is better than any
guess made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from balancer.core.model import QUANTIZATIONS, Preferences, Request
from balancer.http.answers import Refused
from balancer.http.body import decode, fields
from balancer.http.limits import COUNT_MAX, NAME_MAX, TOKENS_MAX, WORDS_MAX
from balancer.http.question import PRICE_MAX, Question, known_words, price
from balancer.http.words import UNREADABLE, shown

CHARACTERS_PER_TOKEN: Final = 4  # OpenAI's rule of thumb for English
IMAGE_TOKENS: Final = 765  # a picture of 1024 × 1024 in high detail, by OpenAI's published rule for GPT-4o
BRACES_MAX: Final = 1_000_000  # objects that a body may hold; each is built for a moment, whatever its size

PARAMETERS: Final = (
    "temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "max_tokens", "max_completion_tokens", "logit_bias", "logprobs", "top_logprobs",
    "prediction", "seed", "response_format", "structured_outputs", "stop", "tools", "tool_choice",
    "parallel_tool_calls", "include_reasoning", "reasoning", "reasoning_effort", "web_search_options", "verbosity",
)  # fmt: skip
"""Keys of a body that an endpoint supports or not. Source: OpenRouter's `supported_parameters`."""

_PART_MODALITIES: Final = {
    "text": "text",
    "image_url": "image",
    "input_audio": "audio",
    "file": "file",
    "video_url": "video",
}
_UNUSED: Final = frozenset({b"", b"null", b"[]", b"{}"})

Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
Slugs = Annotated[list[Annotated[str, Meta(max_length=NAME_MAX)]], Meta(max_length=WORDS_MAX)]
Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
Price = Annotated[float, Meta(ge=0, le=PRICE_MAX)] | Annotated[str, Meta(max_length=40)]


class Part(Struct):
    """One part of a message; what a picture holds is passed over."""

    type: str = ""
    text: str | None = None


class Message(Struct):
    """One message; a tool call counts with its JSON."""

    content: str | list[Part] | None = None
    tool_calls: Raw = Raw()


class MaxPrice(Struct, forbid_unknown_fields=True):
    """Limits on prices. Units: USD per million tokens, as a number or its text."""

    prompt: Price | None = None
    completion: Price | None = None


class Wishes(Struct):
    """OpenRouter's `provider` object. The last four are refused; other keys are ignored, as there."""

    order: Slugs | None = None
    only: Slugs | None = None
    ignore: Slugs | None = None
    quantizations: Slugs | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    max_price: MaxPrice | None = None
    sort: Raw = Raw()
    partition: Raw = Raw()
    preferred_max_latency: Raw = Raw()
    preferred_min_throughput: Raw = Raw()


class Extras(Struct, forbid_unknown_fields=True):
    """What a chat body cannot say."""

    prompt_tokens: Tokens | None = None
    exclude: Slugs | None = None
    count: Annotated[int, Meta(ge=0, le=COUNT_MAX)] | None = None
    explain: bool | None = None


class _Format(Struct):
    type: str = ""


class _Body(Struct):
    model: Name
    models: Raw = Raw()
    messages: list[Message] | None = None
    modalities: Slugs | None = None
    provider: Wishes | None = None
    balancer: Extras | None = None


# The parameters are fields by name, passed over as raw JSON: that they are there is all that is asked.
_Chat: Final[Any] = msgspec.defstruct(
    "Chat", [(name, Raw, msgspec.field(default=Raw())) for name in PARAMETERS], bases=(_Body,)
)
_decoder: Final = msgspec.json.Decoder(_Chat)
_tokens: Final[msgspec.json.Decoder[int | None]] = msgspec.json.Decoder(Tokens | None)
_format: Final = msgspec.json.Decoder(_Format)
_KNOWN: Final = (*fields(Extras), *fields(MaxPrice))


def chat(body: bytes | bytearray) -> Question:
    """Read a chat-completions body. Raises: Refused."""
    if body.count(b"{") > BRACES_MAX:
        raise Refused(413, f"the body holds more than {BRACES_MAX} objects")
    said = _decoded(body)
    wishes = Wishes() if said.provider is None else said.provider
    extras = Extras() if said.balancer is None else said.balancer
    _refuse_unbuilt(said, wishes)
    messages: Sequence[Message] = () if said.messages is None else said.messages
    estimate = estimated_tokens(messages, said.tools)
    try:
        request = Request(
            model=said.model,
            prompt_tokens=estimate if extras.prompt_tokens is None else extras.prompt_tokens,
            max_tokens=_max_tokens(said),
            require=tuple(name for name in PARAMETERS if _used(name, getattr(said, name))),
            require_parameters=wishes.require_parameters is True,
            input_modalities=_modalities(messages),
            output_modalities=_slugs(said.modalities),
            exclude=_slugs(extras.exclude),
            count=extras.count,
            provider=_preferences(wishes),
        )
    except ValueError as error:
        raise Refused(400, str(error)) from None
    return Question(request=request, explain=extras.explain is True)


def _decoded(body: bytes | bytearray) -> Any:
    try:
        return decode(body, _decoder, _KNOWN)
    except Refused as refusal:
        # Only what asks us for something forbids unknown keys: `balancer` and `max_price`.
        unbuilt = refusal.message.replace(": unknown field;", ": is not supported by this version;")
        raise Refused(refusal.status, unbuilt) from None


def estimated_tokens(messages: Sequence[Message], tools: Raw) -> int:
    """Guess the prompt's length: a token per four characters of text, tools and tool calls, 765 a picture.

    Shape: within about 30 % for English prose; code and other alphabets take more tokens than this (Chinese up
    to four times as many); sounds, films and files count for nothing.
    """
    characters = len(tools)
    images = 0
    for message in messages:
        characters += len(message.tool_calls)
        if isinstance(message.content, str):
            characters += len(message.content)
            continue
        for part in () if message.content is None else message.content:
            characters += 0 if part.text is None else len(part.text)
            images += part.type == "image_url"
    return ceil(characters / CHARACTERS_PER_TOKEN) + images * IMAGE_TOKENS


def _refuse_unbuilt(said: Any, wishes: Wishes) -> None:
    asked = [("models", said.models)]
    asked += [
        (f"provider.{name}", getattr(wishes, name))
        for name in ("sort", "partition", "preferred_max_latency", "preferred_min_throughput")
    ]
    for name, value in asked:
        if _raw(value) not in (b"", b"null"):
            raise Refused(400, f"{name}: is not supported by this version; leave it out")


def _used(name: str, value: Raw) -> bool:
    if _raw(value) in _UNUSED:
        return False
    if name == "response_format":
        try:
            return _format.decode(value).type != "text"  # the default, spelt out
        except UNREADABLE:
            return True
    return True


def _max_tokens(said: Any) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):  # the newer name wins, as at OpenAI
        value = _raw(getattr(said, name))
        if value:
            try:
                tokens = _tokens.decode(value)
            except UNREADABLE:
                text = shown(value[:100].decode(errors="replace"))
                raise Refused(400, f"{name}: {text} is not a whole number from 0 to {TOKENS_MAX}") from None
            if tokens is not None:
                return tokens
    return None


def _modalities(messages: Sequence[Message]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for message in messages:
        if isinstance(message.content, str):
            found["text"] = None
        elif message.content is not None:
            for part in message.content:
                if part.type in _PART_MODALITIES:
                    found[_PART_MODALITIES[part.type]] = None
    return tuple(found)


def _preferences(wishes: Wishes) -> Preferences:
    limits = MaxPrice() if wishes.max_price is None else wishes.max_price
    return Preferences(
        order=_slugs(wishes.order),
        only=_slugs(wishes.only),
        ignore=_slugs(wishes.ignore),
        quantizations=known_words(_slugs(wishes.quantizations), QUANTIZATIONS),
        allow_fallbacks=wishes.allow_fallbacks is not False,
        data_collection="allow" if wishes.data_collection is None else wishes.data_collection,
        zdr=wishes.zdr is True,
        enforce_distillable_text=wishes.enforce_distillable_text is True,
        max_price_prompt=_price(limits.prompt),
        max_price_completion=_price(limits.completion),
    )


def _price(value: float | str | None) -> float | None:
    return price(value) if isinstance(value, str) else value


def _slugs(words: Sequence[str] | None) -> tuple[str, ...]:
    return () if words is None else tuple(word.strip().lower() for word in words)


def _raw(value: Raw) -> bytes:
    return bytes(value).strip()
