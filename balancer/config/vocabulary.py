"""The words that the file's shape is written in: kinds of text and numbers, each with what it allows.

A type carries what it allows as a `Meta`: bounds and patterns are msgspec's own; `extra` holds the words of
a message (`use`, `default`, `words`), the bounds of durations and sizes (`low`, `high`), and `fault`, a
function that says what is wrong with a value that a pattern cannot judge.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from balancer.config.faults import (
    ALIAS_PATTERN,
    DATE_PATTERN,
    GROUP_PATTERN,
    KEY_PATTERN,
    MODE_PATTERN,
    MODEL_PATTERN,
    PAGE_PATTERN,
    TAG_PATTERN,
    TARGET_PATTERN,
    URL_PATTERN,
    address_fault,
    clock_fault,
    date_fault,
    directory_fault,
    group_fault,
    header_fault,
    key_fault,
    mode_fault,
    model_fault,
    name_fault,
    page_url_fault,
    path_fault,
    probe_url_fault,
    regex_fault,
    sent_name_fault,
    sent_value_fault,
    tag_fault,
    target_fault,
    url_fault,
)
from balancer.config.units import CLOCK_PATTERN, LISTEN_PATTERN, WEEKDAYS, duration_text, size_text
from balancer.core.model import MODALITIES, QUANTIZATIONS

T = TypeVar("T")
Given: TypeAlias = T | UnsetType
"""A key that may be left out; `UNSET` is a key that is not there."""

HOUR: Final = 3600.0
DAY: Final = 86_400.0


class Shape(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A mapping of the file. An unknown key is a mistake."""


def told(meaning: str, default: object = None) -> Meta:
    """Describe a key; `default` as it would be written in the file."""
    if default is None:
        return Meta(description=meaning)
    return Meta(description=meaning, extra={"default": _written(default)}, extra_json_schema={"default": default})


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def words(*allowed: str) -> Meta:
    """One of a closed list of words."""
    return Meta(extra={"words": allowed}, extra_json_schema={"enum": list(allowed)})


def text(use: str, fault: Any = None, **limits: Any) -> Meta:
    """Text with a rule: `use` is what a message recommends, `fault(value)` says what is wrong or `None`."""
    return Meta(extra={"use": use, "fault": fault}, **limits)


def lasts(low: float, high: float) -> Meta:
    """A duration between two bounds in seconds."""
    use = f"{duration_text(low)} to {duration_text(high)}"
    return Meta(extra={"use": use, "low": low, "high": high})


def whole(low: int, high: int) -> Meta:
    """A whole number between two bounds."""
    return Meta(ge=low, le=high, extra={"use": f"a whole number, {low} to {high}"})


def number(low: int, high: int) -> Meta:
    """A number between two bounds."""
    return Meta(ge=low, le=high, extra={"use": f"a number, {low} to {high}"})


def above(low: int, high: int) -> Meta:
    """A number above one bound, up to another."""
    return Meta(gt=low, le=high, extra={"use": f"a number above {low}, up to {high}"})


def holds(low: int, high: int) -> Meta:
    """A size between two bounds in bytes."""
    return Meta(extra={"use": f"{size_text(low)} to {size_text(high)}", "low": low, "high": high})


class SecretShape(Shape, frozen=True, kw_only=True):
    """Where a secret is; never the secret itself. Exactly one of the three."""

    env: Given[Annotated[str, told("Name of the environment variable that holds it.")]] = UNSET
    file: Given[Annotated[str, told("Path of the file that holds it; relative to the configuration.")]] = UNSET
    credential: Given[Annotated[str, told("Name of a systemd credential, a file in $CREDENTIALS_DIRECTORY.")]] = (
        UNSET
    )


PLACES: Final = "{env: NAME}, {file: PATH} or {credential: NAME}"


Key = Annotated[str, text("lowercase letters, digits and . _ : -", key_fault, pattern=KEY_PATTERN)]
Tag = Annotated[
    str, text("a provider's key or provider/variant, e.g. azure/eastus2", tag_fault, pattern=TAG_PATTERN)
]
ModelId = Annotated[
    str,
    text(
        "author/slug of lowercase letters, digits and . _ - / :, e.g. openai/gpt-4.1",
        model_fault,
        pattern=MODEL_PATTERN,
    ),
]
Alias = Annotated[str, text("lowercase letters, digits and . _ - / :", name_fault, pattern=ALIAS_PATTERN)]
Url = Annotated[str, text("an absolute address, e.g. https://api.openai.com/v1", url_fault, pattern=URL_PATTERN)]
ProbeUrl = Annotated[str, text("an http or https address, or a path such as /health", probe_url_fault)]
PageUrl = Annotated[
    str, text("an http or https address, e.g. https://status.example.com", page_url_fault, pattern=PAGE_PATTERN)
]
Target = Annotated[str, text("https://HOST/…, tcp://HOST:PORT or dns://NAME", target_fault, pattern=TARGET_PATTERN)]
Header = Annotated[str, text("letters, digits and -", header_fault)]
SentName = Annotated[str, text("the name of a header that is not set already", sent_name_fault)]
SentValue = Annotated[str, text("printable ASCII without spaces at its ends", sent_value_fault, max_length=4096)]
JsonPath = Annotated[str, text("a JSONPath, e.g. $.status.indicator", path_fault, pattern=r"^\$", max_length=500)]
Address = Annotated[
    str,
    text("host:port, [ipv6]:port or unix:/path, e.g. 127.0.0.1:8790", address_fault, pattern=LISTEN_PATTERN),
]
Mode = Annotated[
    str, text('permissions as chmod takes them, in quotes, e.g. "0660"', mode_fault, pattern=MODE_PATTERN)
]
Group = Annotated[str, text("a group's name, e.g. haproxy", group_fault, pattern=GROUP_PATTERN)]
Day = Annotated[str, text("a day as YYYY-MM-DD", date_fault, pattern=DATE_PATTERN)]
Clock = Annotated[str, text('HHMM in UTC, e.g. "0830"', clock_fault, pattern=CLOCK_PATTERN)]
Weekday = Annotated[str, words(*WEEKDAYS)]
File = Annotated[str, text("a file's path", min_length=1, max_length=1000)]
Directory = Annotated[str, text("a directory's path, or none", directory_fault, min_length=1, max_length=1000)]
Pattern = Annotated[str, text("a regular expression of Python", regex_fault, min_length=1)]
Name = Annotated[str, text("1 to 200 characters", min_length=1, max_length=200)]
Region = Annotated[str, text("1 to 64 characters, e.g. us or eu-west-1", min_length=1, max_length=64)]
Tokens = Annotated[int, whole(1, 1_000_000_000)]
Price = Annotated[float, number(0, 1_000_000)]
Quantization = Annotated[str, words(*QUANTIZATIONS)]
Modality = Annotated[str, words(*MODALITIES)]
Parameter = Annotated[str, text("1 to 64 characters", min_length=1, max_length=64)]
Status = Annotated[int, Meta(ge=100, le=599, extra={"use": "an HTTP status, 100 to 599"})]
