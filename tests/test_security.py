"""What SECURITY.md says is what the code does, as far as a test can hold the two together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from balancer.config.resolve import TOKEN_MIN
from balancer.http.bodies import SMALL, YOUNG
from balancer.http.complaints import LINES_MAX, SPAN
from balancer.http.limits import (
    BODY_MAX,
    CHAT_BODY_MAX,
    FILES_SHARE,
    HANDSHAKES_SHARE,
    HEADER_MAX,
    LIMITS,
    REPORTS_BODY_MAX,
    SPARE_SHARE,
)
from balancer.service.log import EVENTS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = {cells[1].strip(): cells[2].strip() for line in TEXT.splitlines() if len(cells := line.split("|")) == 5}


def mib(size: int) -> str:
    return f"{size // 2**20} MiB"


def test_every_file_that_it_names_is_there() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", TEXT)
    named = re.findall(r"`(tests/[\w/.]+|python (tests/[\w/.]+)[^`]*)`", TEXT)
    paths = [*linked, *(script or path for path, script in named)]
    assert len(linked) >= 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_metric_and_event_that_it_names_exists() -> None:
    metrics = set(re.findall(r"`(balancer_\w+)`", TEXT))
    assert len(metrics) >= 4
    assert {each for each in metrics if f"`{each}`" not in README} == set()
    assert set(re.findall(r"`([a-z]+\.acted)`", TEXT)) <= EVENTS


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("connections", f"{LIMITS.connections}, or a fifth of the files that may be open"),
        (
            "TLS handshakes",
            f"{LIMITS.handshakes} at a time, or a twentieth of the files, {LIMITS.handshake:g} s each",
        ),
        (
            "until the first byte, for a header, for a body",
            f"{LIMITS.first_byte:g} s, {LIMITS.header:g} s, {LIMITS.body:g} s",
        ),
        ("idle between two requests", f"{LIMITS.idle:g} s"),
        ("an answer that is not taken", f"{LIMITS.answer:g} s"),
        ("a line of a header, its lines, all of it", f"8190 bytes, 128, {HEADER_MAX // 1024} KiB"),
        (
            "a body: of a chat, of reports, of an operator",
            f"{mib(CHAT_BODY_MAX)}, {mib(REPORTS_BODY_MAX)}, {BODY_MAX // 1024} KiB",
        ),
        ("all bodies together", mib(LIMITS.bodies)),
        ("event streams", f"{LIMITS.streams}, or half of the connections"),
        ("files", f"{LIMITS.spare}, or an eighth, are left to ourselves and to the operator's own socket"),
        ("lines in the log about what others do wrong", f"{LINES_MAX} a minute of a kind"),
    ],
)
def test_every_limit_that_it_tells_is_the_one_that_is_held(what: str, limit: str) -> None:
    assert ROWS[what] == limit


def test_what_it_says_in_words_is_so_too() -> None:
    assert (FILES_SHARE, HANDSHAKES_SHARE, SPARE_SHARE, SPAN, TOKEN_MIN) == (0.2, 0.05, 0.125, 60.0, 16)
    assert f"Tokens have {TOKEN_MIN} characters or more" in TEXT
    assert f"more than {YOUNG:g} s are cut off" in TEXT
    assert f"up to {SMALL // 1024} KiB always go through" in TEXT


def test_what_it_says_of_users_is_about_the_shipped_unit() -> None:
    assert "its `PrivateUsers=yes` leaves the daemon no users" in " ".join(TEXT.split())
    assert "\nPrivateUsers=yes\n" in (ROOT / "deploy" / "systemd" / "balancer.service").read_text()


def test_the_readme_leads_to_it() -> None:
    assert "(SECURITY.md)" in README
