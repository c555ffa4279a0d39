"""Pieces of a client's text: short, printable, never able to break a line."""

import msgspec
import pytest

from balancer.http.words import UNREADABLE, close, fault, header, hint


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://a.test:8443/v1?x=1&y", "https://a.test:8443/v1?x=1&y"),
        ("a\r\nb", "a%0D%0Ab"),
        ("a\x00", "a%00"),
        ("\u00e9\u20ac", "%C3%A9%E2%82%AC"),
        ("50%\n", "50%25%0A"),
    ],
)
def test_a_header_holds_only_printable_ascii(text: str, safe: str) -> None:
    assert header(text) == safe


def test_what_was_meant_is_suggested_or_else_all_that_is_allowed() -> None:
    assert hint("modle", ("model", "count")) == "did you mean model?"
    assert hint("xyz", ("model", "count")) == "allowed: model, count"
    assert close("GPT-4", ("gpt-4.1", "llama")) == ["gpt-4.1"]


class _Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int = 0


class _Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: _Inner | None = None
    name: str = ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"inner": {"number": "x"}}', "inner.number: expected int, got str"),
        (b'{"inner": {"numbre": 1}}', "inner.numbre: unknown field; did you mean number?"),
        (b'{"naem": 1}', "naem: unknown field; did you mean name?"),
        (b"5", "expected object, got int"),
        (b"{", "malformed JSON: Input data was truncated"),
        (b'{"name": NaN}', "malformed JSON: invalid character (byte 9)"),
        (b'{"name": "\xff"}', "malformed JSON: not valid UTF-8"),
    ],
)
def test_what_is_wrong_with_json_is_said_with_its_place(text: bytes, told: str) -> None:
    with pytest.raises(UNREADABLE) as raised:
        msgspec.json.decode(text, type=_Outer)
    assert fault(raised.value, ("inner", "name", "number")) == told


def test_a_name_made_to_mislead_stays_on_one_line() -> None:
    with pytest.raises(UNREADABLE) as raised:
        msgspec.json.decode(b'{"a\\nb` - at `$.x`": 1}', type=_Outer)
    assert "unknown field" in fault(raised.value, ("name",))
    assert "\n" not in fault(raised.value, ("name",))
