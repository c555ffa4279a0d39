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
    (faults.page_url_fault, faults.PAGE_PATTERN),
    (faults.target_fault, faults.TARGET_PATTERN),
    (faults.date_fault, faults.DATE_PATTERN),
]
TEXTS = st.text(alphabet="abz019/.:-_@?# ", max_size=20)
ADDRESSES = st.builds("http{}://{}{}".format, st.sampled_from(["", "s"]), TEXTS, TEXTS)
TARGETS = st.builds("{}://{}{}".format, st.sampled_from(["http", "https", "tcp", "dns", "TCP", ""]), TEXTS, TEXTS)
DAYS = st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
WORDS = st.sampled_from(["nitro", "floor", "exacto", "free", "floors"])
SUFFIXED = st.builds("{}/{}:{}".format, TEXTS, TEXTS, WORDS) | st.builds("a/{}:{}:{}".format, TEXTS, WORDS, TEXTS)
CLOCKS = st.builds("{:02}{}{:02}".format, st.integers(0, 25), st.sampled_from(["", ":"]), st.integers(0, 61))


@pytest.mark.parametrize(("fault", "pattern"), PAIRS)
@given(text=TEXTS | ADDRESSES | TARGETS | DAYS | SUFFIXED | CLOCKS)
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


PAGES = [
    "https://status.example.com", "https://status.example.com/", "http://127.0.0.1:8080/api/v1/summary",
    "https://[::1]:8443", "https://a?x=1", "https://a/b?x=@/ü y", "HTTPS://a",
]  # fmt: skip
NO_PAGES = [
    ("", "is not an http or https address"),
    ("status.example.com", "is not an http or https address"),
    ("//a", "is not an http or https address"),
    ("https://", "is not an http or https address"),
    ("https://?x=1", "is not an http or https address"),
    ("tcp://a:1", "is not an http or https address"),
    ("https://u@a", "carries a user or password, and none is sent there"),
    ("https://a:x/", "is not an address"),
    ("https://a:0", "is not an address"),
    ("https://a b", "is not an address"),
    ("https://ü", "is not an address"),
    ("https://a#b", "has a fragment, which is never sent"),
    ("https://a/?b#", "has a fragment, which is never sent"),
]


@pytest.mark.parametrize("text", PAGES)
def test_these_are_pages(text: str) -> None:
    assert faults.page_url_fault(text) is None


@pytest.mark.parametrize(("text", "fault"), NO_PAGES)
def test_these_are_no_pages(text: str, fault: str) -> None:
    assert faults.page_url_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "https://one.one.one.one", "http://127.0.0.1/ok?x=1", "https://[::1]:8443/", "tcp://1.1.1.1:53",
        "tcp://[2606:4700:4700::1111]:443", "tcp://a-b.example:65535", "dns://example.com", "dns://localhost",
    ],
)  # fmt: skip
def test_these_show_that_we_are_online(text: str) -> None:
    assert faults.target_fault(text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not an address that can be asked"),
        ("example.com", "is not an address that can be asked"),
        ("1.1.1.1:53", "is not an address that can be asked"),
        ("tcp:1.1.1.1:53", "is not an address that can be asked"),
        ("udp://1.1.1.1:53", "is not an address that can be asked"),
        ("TCP://1.1.1.1:53", "is not an address that can be asked"),
        ("icmp://1.1.1.1", "is not an address that can be asked"),
        ("https://", "is not an http or https address"),
        ("https://u:p@a", "carries a user or password, and none is sent there"),
        ("https://a#b", "has a fragment, which is never sent"),
        ("tcp://", "is not a host and a port"),
        ("tcp://:53", "is not a host and a port"),
        ("tcp://1.1.1.1:53/", "is not a host and a port"),
        ("tcp://a:53?x", "is not a host and a port"),
        ("tcp://u@a:53", "is not a host and a port"),
        ("tcp://a b:53", "is not a host and a port"),
        ("tcp://ü:53", "is not a host and a port"),
        ("tcp://a", "has no port"),
        ("tcp://a:", "has no port"),
        ("tcp://a:0", "has no port"),
        ("tcp://a:65536", "is not an address"),
        ("tcp://a:ssh", "is not an address"),
        ("tcp://[::1", "is not an address"),
        ("dns://", "is not a host's name"),
        ("dns://a/b", "is not a host's name"),
        ("dns://u@a", "is not a host's name"),
        ("dns://a\\b", "is not a host's name"),
        ("dns://a:53", "has a port, which no name has"),
        ("dns://a:", "has a port, which no name has"),
        ("dns://1.1.1.1", "holds an address: nothing to resolve"),
        ("dns://[::1]", "holds an address: nothing to resolve"),
    ],
)
def test_these_show_nothing(text: str, fault: str) -> None:
    assert faults.target_fault(text) == fault


def test_a_regular_expression_with_a_doubtful_set_is_accepted_quietly() -> None:
    assert faults.regex_fault("[[a]--b]") is None
    assert faults.regex_fault("a{99999999999}") is not None
    assert faults.regex_fault("(") is not None
