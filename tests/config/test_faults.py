"""What is wrong with one piece of text; the patterns for editors never accept less."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config import faults
from balancer.config.units import CLOCK_PATTERN

PAIRS = [
    (faults.name_fault, faults.ALIAS_PATTERN),
    (faults.clock_fault, CLOCK_PATTERN),
    (faults.key_fault, faults.KEY_PATTERN),
    (faults.tag_fault, faults.TAG_PATTERN),
    (faults.model_fault, faults.MODEL_PATTERN),
    (faults.url_fault, faults.URL_PATTERN),
    (faults.date_fault, faults.DATE_PATTERN),
]
TEXTS = st.text(alphabet="abz019/.:-_@?# ", max_size=20)
ADDRESSES = st.builds("http{}://{}{}".format, st.sampled_from(["", "s"]), TEXTS, TEXTS)
DAYS = st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
WORDS = st.sampled_from(["nitro", "floor", "exacto", "free", "floors"])
SUFFIXED = st.builds("{}/{}:{}".format, TEXTS, TEXTS, WORDS) | st.builds("a/{}:{}:{}".format, TEXTS, WORDS, TEXTS)
CLOCKS = st.builds("{:02}{}{:02}".format, st.integers(0, 25), st.sampled_from(["", ":"]), st.integers(0, 61))


@pytest.mark.parametrize(("fault", "pattern"), PAIRS)
@given(text=TEXTS | ADDRESSES | DAYS | SUFFIXED | CLOCKS)
def test_what_has_no_fault_fits_its_pattern(fault: Callable[[str], str | None], pattern: str, text: str) -> None:
    if fault(text) is None:
        assert re.search(pattern, text) is not None


@pytest.mark.parametrize("text", ["openai/gpt-4.1", "a/b:free", "a/b/c", "01-ai/yi_1.5", "a/b:nitro-2"])
def test_these_are_model_ids(text: str) -> None:
    assert faults.model_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/",
        "/a",
        "a//b",
        "A/b",
        "a/b:nitro",
        "a/b:floor",
        "a/b:exacto",
        "a/b:nitro:free",
        "a/b:free:floor",
        "a:exacto:b/c",
        "a/b c",
        "a/b\n",
        "a/ü",
        "a/" + "b" * 200,
    ],
)
def test_these_are_no_model_ids(text: str) -> None:
    assert faults.model_fault(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "https://a", "http://127.0.0.1:1/v1", "http://[::1]:8000/v1/", "https://a.b-c/d_e", "https://a?b",
        "https://a/v1?author=b&design=c",
        "https://name.openai.azure.com/openai/deployments/large?api-version=2024-10-21",
    ],
)  # fmt: skip
def test_these_are_base_addresses(text: str) -> None:
    assert faults.url_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a", "//a", "https:a", "https://", "https://[::1", "https://a:0", "https://a:x", "https://u@a", "https://:p@a",
        "https://a#b", "https://a?", "https://a/v1?b#c", "https://a?key=x", "https://a?b=1&API-Key=x",
        "https://a?access_token", "https://a?sig=x", "https://a?code=x", "https://a b", "https://a\\b", "https://ü",
        "file:///a",
    ],
)  # fmt: skip
def test_these_are_no_base_addresses(text: str) -> None:
    assert faults.url_fault(text) is not None


def test_a_regular_expression_with_a_doubtful_set_is_accepted_quietly() -> None:
    assert faults.regex_fault("[[a]--b]") is None
    assert faults.regex_fault("a{99999999999}") is not None
    assert faults.regex_fault("(") is not None
