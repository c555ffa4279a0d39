"""The messages of a chat: what they hold, and which conversation they belong to."""

import json
from typing import Any

import msgspec
import pytest

from balancer.http.messages import Message, conversation, digest, modalities

SYSTEM = {"role": "system", "content": "You are a pirate."}
ASKED = {"role": "user", "content": "Hello!"}
ANSWER = {"role": "assistant", "content": "Ahoy."}
MORE = {"role": "user", "content": "Tell me a story."}


def read(*messages: dict[str, Any]) -> list[Message]:
    return msgspec.json.decode(json.dumps(messages), type=list[Message])


@pytest.mark.parametrize(
    ("part", "modality"),
    [
        ({"type": "text", "text": "x"}, ("text",)),
        ({"type": "image_url", "image_url": {"url": "https://x.test"}}, ("image",)),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, ("audio",)),
        ({"type": "file", "file": {"filename": "a.pdf"}}, ("file",)),
        ({"type": "video_url", "video_url": {"url": "https://x.test"}}, ("video",)),
        ({"type": "refusal", "refusal": "no"}, ()),
    ],
)
def test_modalities_follow_from_the_parts(part: dict[str, Any], modality: tuple[str, ...]) -> None:
    assert modalities(read({"role": "user", "content": [part, part]})) == modality


def test_a_conversation_is_the_same_in_every_turn() -> None:
    first = conversation(read(SYSTEM, ASKED))
    assert first is not None
    assert conversation(read(SYSTEM, ASKED, ANSWER, MORE)) == first
    assert conversation(read({**SYSTEM, "role": "developer"}, ASKED, SYSTEM)) == first
    parts = [{"type": "text", "text": "Hel"}, {"type": "image_url"}, {"type": "text", "text": "lo!"}]
    assert conversation(read(SYSTEM, {"role": "user", "content": parts})) == first


def test_conversations_that_began_otherwise_are_others() -> None:
    began = [
        (SYSTEM, ASKED),
        (SYSTEM, MORE),
        (SYSTEM,),
        (ASKED,),
        ({**SYSTEM, "content": "You are a pirate.Hel"}, {**ASKED, "content": "lo!"}),
        ({**SYSTEM, "content": SYSTEM["content"] + ASKED["content"]},),
        ({**ASKED, "content": SYSTEM["content"] + ASKED["content"]},),
    ]
    keys = [conversation(read(*messages)) for messages in began]
    assert None not in keys
    assert len(set(keys)) == len(began)


@pytest.mark.parametrize(
    "messages",
    [
        (),
        ({"role": "user"},),
        ({"role": "user", "content": ""},),
        ({"role": "user", "content": []}, {"role": "system", "content": None}),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test"}}]},),
        ({"role": "user", "content": ""}, {"role": "user", "content": "second"}),
    ],
)
def test_messages_that_begin_without_text_tell_no_conversation(messages: tuple[dict[str, Any], ...]) -> None:
    assert conversation(read(*messages)) is None


def test_a_digest_is_hexadecimal_short_and_holds_nothing_of_the_text() -> None:
    key = conversation(read(SYSTEM, ASKED))
    for each in (key, digest("x" * 1000)):
        assert each is not None
        assert len(each) == 64
        assert set(each) <= set("0123456789abcdef")
