"""The messages of a chat: what they hold, and which conversation they belong to.

Theory of operation: messages are decoded into types that hold only what routing asks about; pictures and sounds are
passed over without being built. A conversation is known by how it began: its first system message and the first
message after it stay the same in every turn. Of them a digest is kept, and never the text.

What this module does not know: tokens, and what a body says beside its messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

from msgspec import Raw, Struct

DIGEST_SIZE: Final = 32  # bytes; nobody finds two conversations with one digest

_SYSTEM: Final = ("system", "developer")
_PART_MODALITIES: Final = {
    "text": "text",
    "image_url": "image",
    "input_audio": "audio",
    "file": "file",
    "video_url": "video",
}


class Part(Struct):
    """One part of a message; a picture is kept as it was written, which copies nothing."""

    type: str = ""
    text: str | None = None
    image_url: Raw = Raw()


class Message(Struct):
    """One message; its tool calls are kept as they were written."""

    role: str = ""
    name: Raw = Raw()
    content: str | list[Part] | None = None
    tool_calls: Raw = Raw()


def modalities(messages: Sequence[Message]) -> tuple[str, ...]:
    """What the messages hold, each once."""
    found: dict[str, None] = {}
    for message in messages:
        if isinstance(message.content, str):
            found["text"] = None
        elif message.content is not None:
            for part in message.content:
                if part.type in _PART_MODALITIES:
                    found[_PART_MODALITIES[part.type]] = None
    return tuple(found)


def conversation(messages: Sequence[Message]) -> str | None:
    """Digest how a conversation began; `None` where neither of the two messages has text.

    Source: OpenRouter's key for sticky routing, the first system or developer message and the first other one.
    """
    system = next((each for each in messages if each.role in _SYSTEM), None)
    other = next((each for each in messages if each.role not in _SYSTEM), None)
    texts = [[] if each is None else list(_texts(each)) for each in (system, other)]
    if not any(map(any, texts)):
        return None
    hashed = blake2b(digest_size=DIGEST_SIZE)
    for pieces in texts:
        # The lengths keep apart what would read the same when strung together.
        encoded = "".join(pieces).encode()
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return hashed.hexdigest()


def digest(text: str) -> str:
    """Digest a key that is too long to be kept."""
    return blake2b(text.encode(), digest_size=DIGEST_SIZE).hexdigest()


def _texts(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
    elif message.content is not None:
        yield from (part.text for part in message.content if part.text is not None)
