"""How many tokens a chat's prompt has, guessed without a tokenizer: from its text, tools and pictures.

Theory of operation: a byte-pair tokenizer first cuts text into words, groups of up to three digits, runs of
punctuation and line ends; then it keeps what it knows whole and splits the rest. So the pieces are counted by
compiled expressions, and what a word costs follows from its length and from the share of common English words, or
of common words of the other large Latin-script languages, around it: a long word of a language that the vocabulary
knows is one token, a long word of another falls into pieces. Letters of other scripts cost a rate each. A prompt
longer than `SAMPLE_MAX` is judged by `SLICES` pieces of it, evenly spread, so that a long one costs no more.

The weights were fitted to OpenAI's o200k_base on Debian's installation guide in 19 languages, Django's
translations, English and Chinese fortune cookies, Python's and C's own sources and JSON Schemas; nine rarer scripts
and Ethiopic each to one text. The promise, kept by `tests/http/test_tokens.py` on texts that the weights were not
fitted to (save Ethiopic): English prose and chat, Python, Markdown and JSON within 15 % of the real count (0.94 to
1.10 of it, measured), 38 other languages within 25 % (0.85 to 1.20), all together within 10 % (1.03). Old Chinese
verse has a third more tokens than told; random letters, hashes, base64 and emoji are within a factor of two, random
signs within three. Other vocabularies differ by more than all this: the older cl100k_base takes three times as many
for Hindi.

Pictures follow OpenAI's published tiles, where a data: URL of PNG or JPEG tells its size in its first bytes; one
elsewhere counts as 1024 × 1024 pixels. Not counted: sounds, films and files, whose tokens follow from a length that
nobody reads here; what a provider adds by itself (its system prompt, a response format's schema).

What this module does not know: which model's tokenizer it will be. A count that the caller gives is better.
"""

from __future__ import annotations

import re
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from balancer.http.messages import Message
from balancer.http.words import UNREADABLE

SAMPLE_MAX: Final = 16_384  # characters judged one by one: some milliseconds of the event loop at most
SLICES: Final = 32  # a slice of 512 characters loses about 1 % at its two cut words

MESSAGE_TOKENS: Final = 4  # 3 separators and the role. Source: OpenAI's cookbook, "How to count tokens"
REPLY_TOKENS: Final = 3  # every reply is primed with <|start|>assistant<|message|>. Source: the same
NAME_TOKENS: Final = 1  # beside the name itself. Source: the same

IMAGE_LOW_TOKENS: Final = 85  # a picture in low detail, whatever its size. Source: OpenAI's rule for GPT-4o
TILE_TOKENS: Final = 170  # each tile of a picture in high detail, beside those 85. Source: the same
TILE: Final = 512  # pixels
SQUARE: Final = 2048  # pixels; a larger picture is first fitted into this square …
SHORT_SIDE: Final = 768  # … and then shrunk until its shorter side is this
UNSEEN: Final = (1024, 1024)  # pixels of a picture that is elsewhere: 765 tokens
HEAD_MAX: Final = (
    65_536  # base64 characters of a picture looked at; a JPEG's size stands behind its Exif of ≤ 64 KiB
)

# Weights, in tokens. Fitted, each with its meaning.
_WORD: Final = 1.05
_LONG_ENGLISH: Final = 0.14  # a letter after the seventh of an English word; nearly all are whole in the vocabulary
_LONG_LARGE: Final = 0.06  # a letter after the third, amid French, Spanish, Portuguese or German
_LONG: Final = 0.14  # a letter after the third, amid other languages
_ENDLESS: Final = 0.5  # a letter after the twentieth: no word of a language, but a key or a sequence
_ACCENT: Final = 0.97  # an accented letter, which mostly splits a word; not in the large languages
_CAPITAL: Final = 0.09  # a letter of a word in capitals, mostly unknown in them
_DIGITS: Final = 1.02  # up to three of them
_PUNCTUATION: Final = 1.0  # a run of up to four, or of one sign over and over; the space before it is free
_JOINED: Final = 0.3  # one sign between two words (_name, .name, (name), which often is one token with the second
_LINE_END: Final = 0.3  # mostly one token with the punctuation before it
_SPACES: Final = 0.73  # two or more
_ENGLISH_FULL: Final = 0.30  # share of common words from which text is English through and through
_LARGE_FULL: Final = 0.30

_COMMON_ENGLISH = """
the of and to a in that for it as with on be by this are or was not from at which have you your his they will can an
is if has all but their no when there any he we one may who so these use used only must
return self def import class none true false null int void const static name type string number value data object
else raise print char list file len str key new get set path args function error properties description required
default id model
"""  # the last three lines: words of programs and of JSON, whose other words are mostly English too
_COMMON_LARGE = """
de la que el en y los del las por con para un una es no al como le les des du et est une pour dans qui sur par au
aux il ce os as do da dos com uma der die und das den von zu ist mit nicht ein eine dem auf sich oder sie
"""
_ENGLISH: Final = frozenset(_COMMON_ENGLISH.split())
_LARGE: Final = frozenset(_COMMON_LARGE.split())

_words: Final = re.compile("[A-Z\u00c0-\u00de]*[a-z\u00df-\u024f\u1e00-\u1eff]+|[A-Z\u00c0-\u00de]+")
_ascii_words: Final = re.compile("[A-Z]*[a-z]+|[A-Z]+")  # three times as fast
_capitals: Final = re.compile(b"AAA+")
_line_ends: Final = re.compile(b"\n[\n ]*")
_spaces: Final = re.compile(b"  +")
_escape: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
# A sign over and over, as in a line under a heading, is one token: these runs are shortened to four.
_rules: Final = {sign * 5: re.compile(f"{re.escape(sign)}{{5,}}") for sign in "-=*#_.~+"}


def _class(code: int) -> bytes:
    """The class of an ASCII character: A, a, 0, line end, space or sign; x is for all else."""
    character = chr(code)
    if character == _BEYOND:
        return b"x"
    if character.isalpha():
        return b"A" if character.isupper() else b"a"
    if character.isspace():
        return b"\n" if character in "\n\r" else b" "
    return b"0" if character.isdigit() else b"."


_BEYOND: Final = "?"  # what `encode` puts for all beyond ASCII; a real one is made another sign before
_CLASSES: Final = b"".join(map(_class, range(256)))


class Script(NamedTuple):
    """Code points from `first` on, up to the next script's, and the tokens of each."""

    first: int
    tokens: float


_ACCENTED: Final = 0.0  # letters of Latin words: the words are counted, and the accents by `_ACCENT`
_SCRIPTS: Final = (
    Script(0x80, 1.0),  # Latin-1 signs: « » § °
    Script(0xC0, _ACCENTED),
    Script(0x250, 1.2),  # phonetic letters, loose accents
    Script(0x370, 0.385),  # Greek
    Script(0x400, 0.36),  # Cyrillic letters of Ukrainian, Serbian …
    Script(0x410, 0.27),  # Cyrillic letters of Russian: see _CYRILLIC_OTHER
    Script(0x450, 0.60),  # Cyrillic letters of Ukrainian, Serbian, Kazakh …: they split words
    Script(0x530, 0.37),  # Armenian
    Script(0x590, 0.44),  # Hebrew
    Script(0x600, 0.37),  # Arabic, Persian, Urdu
    Script(0x780, 1.5),
    Script(0x900, 0.37),  # Devanagari: Hindi, Marathi
    Script(0x980, 0.42),  # Bengali
    Script(0xA00, 0.62),  # Gurmukhi
    Script(0xA80, 0.41),  # Gujarati
    Script(0xB00, 1.15),  # Odia
    Script(0xB80, 0.37),  # Tamil
    Script(0xC00, 0.5),  # Telugu
    Script(0xC80, 0.43),  # Kannada
    Script(0xD00, 0.41),  # Malayalam
    Script(0xD80, 0.66),  # Sinhala
    Script(0xE00, 0.38),  # Thai
    Script(0xE80, 1.9),  # Lao
    Script(0xF00, 1.5),  # Tibetan
    Script(0x1000, 0.56),  # Burmese
    Script(0x10A0, 0.333),  # Georgian
    Script(0x1100, 2.0),  # Ethiopic, and what else the vocabulary hardly holds: byte by byte, two bytes at best
    Script(0x1780, 0.61),  # Khmer
    Script(0x1800, 2.0),
    Script(0x1E00, _ACCENTED),  # mostly Vietnamese
    Script(0x1F00, 1.5),  # old Greek
    Script(0x2000, 0.7),  # dashes, quotation marks
    Script(0x2070, 1.3),  # arrows, mathematics, boxes
    Script(0x3000, 0.8),  # 、 。 「 」
    Script(0x3040, 0.72),  # kana
    Script(0x3100, 2.0),
    Script(0x3400, 2.5),  # rare Han
    Script(0x4E00, 0.8),  # Han: about 0.72 in modern prose, 1.1 in verse of the Tang
    Script(0xA000, 2.0),
    Script(0xAC00, 0.7),  # Hangul
    Script(0xD7B0, 2.0),
    Script(0xFF00, 0.9),  # full-width signs
    Script(0x10000, 3.0),
    Script(0x1F000, 2.0),  # emoji
    Script(0x20000, 3.5),
)
_BLOCK: Final = 16  # code points; every script begins at a multiple
_VIETNAMESE_FULL: Final = (
    0.4  # share of ạ … ỹ among accented letters from which text is Vietnamese, whose words are known
)
_CYRILLIC_OTHER: Final = 0.09  # more for a Cyrillic letter where ы is missing, as in Bulgarian, Serbian, Ukrainian
_YERU_FULL: Final = 0.012  # share of ы among the letters from which text is taken for Russian, which has 0.019


def _rates() -> tuple[float, ...]:
    """Tokens of a character by its block of 16 up to U+20000, beyond which all are alike."""
    rates: list[float] = [0.0] * (0x80 // _BLOCK)
    for script, after in pairwise(_SCRIPTS):
        rates += [script.tokens] * ((after.first - script.first) // _BLOCK)
    return (*rates, _SCRIPTS[-1].tokens)


_RATES: Final = _rates()


class _Image(Struct):
    url: Raw = Raw()
    detail: Raw = Raw()


_NULL: Final = Raw(b"null")
_EMPTY: Final = frozenset({b"", b"null", b"[]", b"{}"})
_image: Final = msgspec.json.Decoder(_Image)


def estimated_tokens(messages: Sequence[Message], tools: Raw) -> int:
    """Guess the prompt's length.

    Units: tokens. Shape: an error of 15 to 25 %, see above; beside walking the messages, time is bounded.
    """
    texts: list[str] = []
    structures = [tools]
    tokens = 0
    for message in messages:
        tokens += MESSAGE_TOKENS
        if len(message.tool_calls):
            structures.append(message.tool_calls)
        if len(message.name) and message.name != _NULL:
            texts.append(bytes(message.name).decode(errors="replace").strip('"'))
            tokens += NAME_TOKENS
        if isinstance(message.content, str):
            texts.append(message.content)
        elif message.content is not None:
            for part in message.content:
                if part.text is not None:
                    texts.append(part.text)
                if part.type == "image_url":
                    tokens += image_tokens(part.image_url)
    if messages:
        tokens += REPLY_TOKENS
    # Together, so that a thousand short messages are sampled as one long one is; a space beside a word is free.
    return tokens + ceil(text_tokens(" ".join(filter(None, texts))) + json_tokens(structures))


def text_tokens(text: str) -> float:
    """Guess the tokens of one text."""
    if not text:
        return 0.0
    sample = _sample(text)
    return _sample_tokens(sample) * len(text) / len(sample)


def json_tokens(pieces: Iterable[Raw]) -> float:
    """Guess the tokens of tools and tool calls: of their compact JSON, with what is escaped in it read.

    Source: models see tools in a form of the provider's own, which OpenAI does not publish; it is about as long.
    """
    compact = (_compact(bytes(piece)) for piece in pieces)
    text = b" ".join(piece for piece in compact if piece not in _EMPTY).decode(errors="replace")
    if not text:
        return 0.0
    sample = _sample(text)
    size = len(sample)
    if "\\" in sample:
        sample = _escape.sub(_unescaped, sample)
        sample = sample.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    return _sample_tokens(sample) * len(text) / size


def image_tokens(image: Raw) -> int:
    """Tokens of one `image_url`: an object with `url` and `detail`, or the address itself."""
    url = memoryview(image)
    if bytes(url[:1]) == b"{":
        try:
            said = _image.decode(image)
        except UNREADABLE:
            return tile_tokens(*UNSEEN)
        if said.detail == Raw(b'"low"'):
            return IMAGE_LOW_TOKENS
        url = memoryview(said.url)
    size = _size(bytes(url[:HEAD_MAX]))
    return tile_tokens(*(UNSEEN if size is None else size))


def tile_tokens(width: int, height: int) -> int:
    """Tokens of a picture in high detail. Units: pixels in. Source: OpenAI's "Images and vision", GPT-4o."""
    scale = min(1.0, SQUARE / max(width, height))
    scale = min(scale, SHORT_SIDE / min(width, height))
    across, down = (max(1, ceil(round(side * scale, 3) / TILE)) for side in (width, height))
    return IMAGE_LOW_TOKENS + TILE_TOKENS * across * down


def _sample(text: str) -> str:
    if len(text) <= SAMPLE_MAX:
        return text
    size = SAMPLE_MAX // SLICES
    last = len(text) - size
    return "".join(text[begin : begin + size] for begin in (last * turn // (SLICES - 1) for turn in range(SLICES)))


def _sample_tokens(sample: str) -> float:
    for rule, shorter in _rules.items():
        if rule in sample:
            sample = shorter.sub(rule[:4], sample)
    ascii_only = sample.isascii()
    words = (_ascii_words if ascii_only else _words).findall(sample)
    english = large = 0.0
    if words:
        english = min(1.0, sum(map(_ENGLISH.__contains__, words)) / len(words) / _ENGLISH_FULL)
        large = min(1.0 - english, sum(map(_LARGE.__contains__, words)) / len(words) / _LARGE_FULL)
    tokens = _pieces(sample.replace(_BEYOND, "!").encode("ascii", "replace").translate(_CLASSES))
    other = 1.0 - english - large
    for length, count in Counter(map(len, words)).items():
        known = min(length, 20)
        excess = english * _LONG_ENGLISH * max(0, known - 7)
        excess += (large * _LONG_LARGE + other * _LONG) * max(0, known - 3)
        tokens += count * (_WORD + excess + _ENDLESS * (length - known))
    return tokens if ascii_only else tokens + _others(sample, accent=_ACCENT * (1.0 - large))


def _pieces(classes: bytes) -> float:
    """Tokens of all that is not a word, from the classes of the characters."""
    joined = classes.count(b".a") - classes.count(b"..a") - classes.count(b" .a")
    joined += classes.count(b".A") - classes.count(b"..A") - classes.count(b" .A")
    digits = classes.replace(b"000", b"1").replace(b"00", b"1")
    signs = classes.replace(b"....", b",").replace(b"...", b",").replace(b"..", b",")
    return (
        _DIGITS * (digits.count(b"1") + digits.count(b"0"))
        + _PUNCTUATION * max(0, signs.count(b",") + signs.count(b".") - joined)
        + _JOINED * joined
        + _LINE_END * len(_line_ends.findall(classes))
        + _SPACES * len(_spaces.findall(classes))
        + _CAPITAL * sum(map(len, _capitals.findall(classes)))
    )


def _others(sample: str, *, accent: float) -> float:
    """Tokens of the characters beyond ASCII. Units: `accent` in tokens for one accented Latin letter."""
    tokens = 0.0
    accented = vietnamese = cyrillic = yeru = 0
    for character, count in Counter(sample).items():
        point = ord(character)
        if 0xC0 <= point < 0x250:
            accented += count
            continue
        tokens += _RATES[min(point, 0x20000) // _BLOCK] * count
        if 0x400 <= point < 0x530:
            cyrillic += count
            yeru += count if character == "ы" else 0
        elif 0x1E00 <= point < 0x1F00:
            vietnamese += count
    if accented:
        tokens += accent * accented * max(0.0, 1.0 - vietnamese / (accented + vietnamese) / _VIETNAMESE_FULL)
    if cyrillic:
        tokens += _CYRILLIC_OTHER * cyrillic * max(0.0, 1.0 - yeru / cyrillic / _YERU_FULL)
    return tokens


def _compact(piece: bytes) -> bytes:
    try:
        return msgspec.json.format(piece, indent=-1) if piece else piece
    except UNREADABLE:  # nested to the limit of the stack; what is written is close enough
        return piece


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _size(url: bytes) -> tuple[int, int] | None:
    """Width and height from the beginning of a data: URL, quoted as in JSON; `None` where it does not tell."""
    url = url.replace(b"\\/", b"/")  # some encoders of JSON escape the slash
    kind, comma, _ = url[:64].partition(b",")
    if not comma or not kind.startswith(b'"data:image/') or not kind.endswith(b";base64"):
        return None
    coded = url[len(kind) + 1 :].rstrip(b'"')
    try:
        head = a2b_base64(coded[: len(coded) // 4 * 4], strict_mode=False)
    except NotBase64:
        return None
    size = _png(head) if head.startswith(b"\x89PNG\r\n\x1a\n") else _jpeg(head)
    return size if size is not None and min(size) > 0 else None


def _png(head: bytes) -> tuple[int, int] | None:
    if len(head) < 24:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame's header: marker, length, then height and width."""
    if not head.startswith(b"\xff\xd8"):
        return None
    place = 2
    while place + 9 <= len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(head[place + 5 : place + 7], "big")
            return int.from_bytes(head[place + 7 : place + 9], "big"), height
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None
