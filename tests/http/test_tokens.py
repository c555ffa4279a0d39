from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from time import thread_time
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from balancer.http.messages import Message, Part
from balancer.http.tokens import SAMPLE_MAX, estimated_tokens, image_tokens, json_tokens, text_tokens, tile_tokens

TEXTS = Path(__file__).with_name("texts")
ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = sorted(path.stem.removeprefix("rights-") for path in TEXTS.glob("rights-*.txt"))
CHUNK = 50_000  # characters; the tokenizer refuses much longer texts

ENGLISH_ERROR = 0.15  # of prose, chat, Python and JSON; the promise in the module's header
LANGUAGE_ERROR = 0.25  # of every other language


@cache
def tokenizer() -> Any:
    """OpenAI's o200k_base, the vocabulary of GPT-4o, GPT-4.1 and later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how the package opens its data
        import bpe_openai
    return bpe_openai.get_encoding("o200k_base")


def real(text: str) -> int:
    return sum(len(tokenizer().encode(text[begin : begin + CHUNK])) for begin in range(0, len(text), CHUNK))


def source(*modules: ModuleType) -> str:
    return "\n".join(Path(str(module.__file__)).read_text() for module in modules)


def records() -> str:
    """Rows as an API answers them: ids, times, numbers, words."""
    random = Random(1)
    rows = [
        {
            "id": random.randbytes(8).hex(),
            "created_at": f"2025-{random.randrange(1, 13):02}-{random.randrange(1, 29):02}T08:15:{place % 60:02}Z",
            "status": random.choice(["paid", "open", "refunded"]),
            "amount": round(random.uniform(1, 5000), 2),
            "shippingAddress": {
                "city": random.choice(["Berlin", "Osaka", "Quito"]),
                "postcode": str(10_000 + place),
            },
            "tags": random.sample(["gift", "priority", "wholesale", "returned"], 2),
            "note": None,
        }
        for place in range(100)
    ]
    return json.dumps(rows)


def tools() -> Any:
    return json.loads((TEXTS / "tools.json").read_text())


KINDS: dict[str, Callable[[], str]] = {
    "English prose, a novel": (TEXTS / "novel-en.txt").read_text,
    "English prose, the declaration": (TEXTS / "rights-en.txt").read_text,
    "English chat": (TEXTS / "chat-en.txt").read_text,
    "Markdown, our README": (ROOT / "README.md").read_text,
    "Python, dataclasses": lambda: source(dataclasses),
    "Python, argparse": lambda: source(argparse),
    "Python, statistics": lambda: source(statistics),
    "Python, our core": lambda: "\n".join(
        path.read_text() for path in sorted((ROOT / "balancer" / "core").glob("*.py"))
    ),
    "JSON, records": records,
    "JSON, tools, indented": lambda: json.dumps(tools(), indent=2),
    "JSON, tools, compact": lambda: json.dumps(tools(), separators=(",", ":")),
}
BOUNDS = {
    **dict.fromkeys(KINDS, ENGLISH_ERROR),
    **{f"declaration, {language}": LANGUAGE_ERROR for language in LANGUAGES if language != "en"},
}


def text_of(kind: str) -> str:
    if kind in KINDS:
        return KINDS[kind]()
    return (TEXTS / f"rights-{kind.removeprefix('declaration, ')}.txt").read_text()


def everything() -> str:
    """All but our own files: with each of their changes a sample of the whole would fall elsewhere, by chance."""
    return "\n".join([text_of(kind) for kind in BOUNDS if "our" not in kind])


def spent(call: Callable[[], object]) -> float:
    """Seconds of this thread, the least of three."""
    times = []
    for _ in range(3):
        begin = thread_time()
        call()
        times.append(thread_time() - begin)
    return min(times)


def reference() -> None:
    """Plain Python, beside which times on different machines compare: a dict, floats and a branch."""
    counts: dict[int, float] = {}
    for turn in range(1000):
        counts[turn % 17] = counts.get(turn % 17, 0.0) * 0.5 + turn


@pytest.mark.parametrize(("kind", "bound"), BOUNDS.items())
def test_the_error_against_a_real_tokenizer_is_within_the_promise(kind: str, bound: float) -> None:
    text = text_of(kind)
    assert text_tokens(text) / real(text) == pytest.approx(1, abs=bound)


def test_the_table_of_errors_and_times_is_printed_under_s() -> None:
    base = spent(reference)
    print(f"\n{'':<34} {'characters':>10} {'real':>8} {'estimate':>9} {'ratio':>6} {'µs/KB':>7} {'× loop/KB':>10}")
    for kind in (*BOUNDS, "all of it, ten times"):
        text = text_of(kind) if kind in BOUNDS else everything() * 10
        tokens, estimate = real(text), text_tokens(text)
        cost = spent(lambda text=text: text_tokens(text)) / len(text.encode()) * 1e3  # type: ignore[misc]
        print(
            f"{kind:<34} {len(text):>10} {tokens:>8} {estimate:>9.0f} {estimate / tokens:>6.2f} {cost * 1e6:>7.1f} "
            f"{cost / base:>10.3f}"
        )
        assert tokens > 0


def test_all_kinds_together_are_closer_than_each() -> None:
    text = everything()
    assert text_tokens(text) / real(text) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", ["Python, argparse", "Python, dataclasses", "declaration, ru"])
def test_a_sample_of_a_long_text_speaks_for_the_whole(kind: str) -> None:
    text = text_of(kind)
    text *= 1 + 3 * SAMPLE_MAX // len(text)
    assert text_tokens(text) / real(text) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        (b64encode(Random(1).randbytes(6000)).decode(), 2),
        (Random(1).randbytes(6000).hex(), 2),
        ("".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=8000)), 2),
        ("".join(map(chr, (Random(1).randrange(0x1F300, 0x1F650) for _ in range(2000)))), 2),
        ("".join(Random(1).choices("!@#$%^&*()[]{};:,./?", k=8000)), 3),
    ],
    ids=["base64", "hashes", "letters", "emoji", "signs"],
)
def test_what_is_no_language_is_within_a_factor(text: str, factor: float) -> None:
    assert 1 / factor < text_tokens(text) / real(text) < factor


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "A",
        " ",
        "\n",
        "-",
        "\t",
        "1",
        "a.",
        "A-",
        " .",
        "word ",
        "Ab",
        "ы",
        "字",
        "ạ",
        "\U0001f600",
        "\ud800",
        "?",
    ],
)
def test_a_megabyte_of_anything_does_not_hold_the_loop(unit: str) -> None:
    text = unit * (1_000_000 // len(unit.encode(errors="surrogatepass")))
    assert spent(lambda: text_tokens(text)) < 0.05  # 1 to 3 ms where nothing else runs


def test_a_megabyte_of_all_characters_does_not_hold_the_loop() -> None:
    text = "".join(map(chr, range(0x80, 0x110000)))
    assert spent(lambda: text_tokens(text)) < 0.05
    tools = Raw(json.dumps(["\u4e2d\\" * 50_000]).encode())
    assert spent(lambda: json_tokens([tools])) < 0.05


@given(st.text(st.one_of(st.characters(), st.characters(categories=["Cs"]))))
@example("\ud800")
@example("ạ" * 500)
@example("?" * 9)
def test_any_text_costs_between_nothing_and_four_tokens_a_character(text: str) -> None:
    assert 0 <= text_tokens(text) <= 4 * len(text)
    assert 0 <= json_tokens([Raw(json.dumps(text).encode())]) <= 4 * len(json.dumps(text))


def test_json_too_deep_to_be_compacted_is_counted_as_it_is() -> None:
    assert json_tokens([Raw(b"[" * 100_000 + b"]" * 100_000)]) > 0


@st.composite
def real_pieces(draw: st.DrawFn) -> str:
    text = text_of(draw(st.sampled_from(sorted(BOUNDS))))
    begin = draw(st.integers(0, len(text)))
    return text[begin : begin + draw(st.integers(0, 2000))]


@given(real_pieces(), real_pieces())
def test_two_texts_together_cost_about_as_much_as_each_alone(first: str, second: str) -> None:
    one, other = text_tokens(first), text_tokens(second)
    both = text_tokens(first + second)
    assert both >= 0.9 * max(one, other) - 3
    assert 0.75 * (one + other) - 3 <= both <= 1.35 * (one + other) + 3


def test_an_empty_chat_has_no_tokens() -> None:
    assert estimated_tokens([], Raw()) == 0
    assert estimated_tokens([], Raw(b"null")) == estimated_tokens([], Raw(b" [ ] ")) == 0


def test_a_message_costs_four_tokens_and_the_reply_three() -> None:
    assert estimated_tokens([Message()], Raw()) == 4 + 3
    assert estimated_tokens([Message(content="")] * 10, Raw()) == 40 + 3
    assert estimated_tokens([Message(content="Hello, world!")], Raw()) == 4 + 3 + 5


def test_a_name_costs_its_text_and_one_token() -> None:
    alone = estimated_tokens([Message(content="Hi")], Raw())
    assert estimated_tokens([Message(content="Hi", name=Raw(b'"anna"'))], Raw()) == alone + 2
    assert estimated_tokens([Message(content="Hi", name=Raw(b"null"))], Raw()) == alone


def test_a_picture_in_a_message_costs_by_its_detail() -> None:
    parts = [Part(type="image_url", image_url=Raw(b'{"url": "https://example.com/a.png", "detail": "low"}'))]
    assert estimated_tokens([Message(content=parts)], Raw()) == 4 + 3 + 85


def test_text_counts_alike_whole_and_in_parts() -> None:
    whole = estimated_tokens([Message(content="Tell me why. It is late.")], Raw())
    parts = [Part(type="text", text="Tell me why."), Part(type="text", text="It is late."), Part(type="file")]
    assert estimated_tokens([Message(content=parts)], Raw()) == whole


def test_many_short_messages_cost_what_their_text_costs() -> None:
    words = text_of("English prose, a novel").split("\n\n") * 100
    tokens = estimated_tokens([Message(content=text) for text in words], Raw())
    assert tokens == pytest.approx(4 * len(words) + sum(map(real, words)), rel=0.15)


def test_tools_and_tool_calls_count_as_compact_json() -> None:
    compact = json.dumps(tools(), separators=(",", ":")).encode()
    counted = estimated_tokens([], Raw(compact))
    assert counted == pytest.approx(real(compact.decode()), rel=ENGLISH_ERROR)
    assert estimated_tokens([], Raw(json.dumps(tools(), indent=8).encode())) == counted
    calls = Raw(b'[{"id": "call_1", "function": {"name": "f", "arguments": "{\\"city\\": \\"Paris\\"}"}}]')
    read = '[{"id":"call_1","function":{"name":"f","arguments":"{"city": "Paris"}"}}]'
    assert estimated_tokens([Message(tool_calls=calls)], Raw()) - 4 - 3 == pytest.approx(real(read), abs=3)


def test_what_json_escapes_counts_as_what_it_stands_for() -> None:
    chinese = text_of("declaration, zh-hans")
    escaped, plain = (Raw(json.dumps(chinese, ensure_ascii=escapes).encode()) for escapes in (True, False))
    assert json_tokens([escaped]) == pytest.approx(json_tokens([plain]))
    assert json_tokens([plain]) == pytest.approx(real(chinese), rel=LANGUAGE_ERROR)


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (1024, 1024, 765),  # the three of OpenAI's page
        (2048, 4096, 1105),
        (512, 512, 255),
        (1, 1, 255),
        (768, 2048, 85 + 170 * 8),
        (4_000_000_000, 1, 85 + 170 * 4),
    ],
)
def test_pictures_cost_by_their_tiles(width: int, height: int, tokens: int) -> None:
    assert tile_tokens(width, height) == tokens


def png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02" * 40
    )


def jpeg(width: int, height: int, exif: int = 0) -> bytes:
    head = b"\xff\xd8\xff\xe1" + (exif + 2).to_bytes(2, "big") + bytes(exif)
    return head + b"\xff\xc2\0\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes(60)


def data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def pictures() -> Iterator[tuple[str, Any, int]]:
    yield "elsewhere", {"url": "https://example.com/a.png"}, 765
    yield "high", {"url": "https://example.com/a.png", "detail": "high"}, 765
    yield "low", {"url": data("png", png(2048, 4096)), "detail": "low"}, 85
    yield "png", {"url": data("png", png(2048, 4096))}, 1105
    yield "png, an address alone", data("png", png(2048, 4096)), 1105
    yield "png of no size", {"url": data("png", png(0, 7))}, 765
    yield "png cut off", {"url": data("png", png(1, 1)[:20])}, 765
    yield "jpeg", {"url": data("jpeg", jpeg(512, 512))}, 255
    yield "jpeg with much Exif", {"url": data("jpeg", jpeg(512, 512, exif=40_000))}, 255
    yield "jpeg with more than is looked at", {"url": data("jpeg", jpeg(512, 512, exif=65_000))}, 765
    yield "jpeg cut off", {"url": data("jpeg", jpeg(512, 512)[:9])}, 765
    yield "jpeg of segments without length", {"url": data("jpeg", b"\xff\xd8" + b"\xff\xe0\0\0" * 40)}, 765
    yield "gif", {"url": data("gif", b"GIF89a")}, 765
    yield "not base64", {"url": "data:image/png;base64,€€€"}, 765
    yield "no base64", {"url": "data:image/png,abc"}, 765
    yield "nothing", {}, 765
    yield "null", None, 765
    yield "a wrong type", {"url": 7, "detail": {}}, 765


@pytest.mark.parametrize(("image", "tokens"), [pytest.param(*rest, id=name) for name, *rest in pictures()])
def test_the_size_of_a_picture_is_read_where_it_is_told(image: Any, tokens: int) -> None:
    assert image_tokens(Raw(json.dumps(image).encode())) == tokens
    assert image_tokens(Raw(json.dumps(image).replace("/", "\\/").encode())) == tokens


@given(st.binary(max_size=300))
def test_no_bytes_of_a_picture_break_the_estimate(content: bytes) -> None:
    for begin in (b"", b"\xff\xd8\xff", png(1, 1)[:16]):
        assert 85 < image_tokens(Raw(json.dumps({"url": data("png", begin + content)}).encode())) <= 85 + 170 * 8
