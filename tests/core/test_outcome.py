"""The table of contract §5, written again by hand: the module's own tables are not looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.outcome import COUNTS, ERROR_WORDS, KINDS, Kind, Outcome, classify, retry_after
from balancer.core.waits import RETRY_AFTER_MAX

SERVER_ERROR_4XX = {408, 421, 423, 424, 425, 426, 498}
REFUSED = {401, 402, 403, 404, 405, 410}
CALLER_ERROR_NAMED = {400, 409, 411, 412, 413, 414, 415, 416, 417, 422, 451}

COUNTED = {
    "success": "success",
    "server_error": "failure",
    "timeout": "failure",
    "connect": "failure",
    "tls": "failure",
    "dns": "failure",
    "reset": "failure",
    "stream": "failure",
    "empty": "failure",
    "malformed": "failure",
    "overloaded": "failure",
    "rate_limited": "rate_limited",
    "refused": "failure",
    "caller_error": "none",
    "cancelled": "none",
    "probe_invalid": "none",
    "local": "none",
}


def expected(status: int, source: str) -> str:
    if status < 200 or 300 <= status < 400:
        return "server_error"
    if status < 300:
        return "success"
    if status == 429:
        return "rate_limited"
    if status in (503, 529):
        return "overloaded"
    if status >= 500 or status in SERVER_ERROR_4XX:
        return "server_error"
    if status in REFUSED:
        return "refused"
    if status == 499:
        return "cancelled"
    if source == "probe" and status in (400, 422):
        return "probe_invalid"
    return "caller_error"


@pytest.mark.parametrize("source", ["probe", "report"])
def test_every_http_status_has_the_outcome_of_the_contract(source: str) -> None:
    found = {status: classify(status=status, source=source) for status in range(100, 600)}  # type: ignore[arg-type]
    assert found == {status: expected(status, source) for status in range(100, 600)}


@pytest.mark.parametrize("status", sorted(CALLER_ERROR_NAMED))
def test_what_the_contract_names_as_the_callers_fault_is_that(status: int) -> None:
    assert classify(status=status) == "caller_error"


@pytest.mark.parametrize(
    "word", ["timeout", "connect", "tls", "dns", "reset", "stream", "empty", "malformed", "cancelled"]
)
def test_every_transport_error_is_its_own_outcome(word: str) -> None:
    assert classify(error=word) == word  # type: ignore[arg-type]
    assert word in ERROR_WORDS


def test_the_words_of_a_transport_error_are_a_closed_list() -> None:
    assert len(ERROR_WORDS) == 9


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize(
    ("finish_reason", "completion_tokens", "kind"),
    [
        (None, None, "success"),
        ("stop", 12, "success"),
        ("length", 0, "success"),
        ("tool_calls", None, "success"),
        (None, 3, "success"),
        (None, 0, "empty"),
        ("", 0, "empty"),
        ("error", None, "server_error"),
        ("error", 40, "server_error"),
        ("content_filter", 0, "caller_error"),
        ("sensitive", 0, "caller_error"),
        ("abort", 3, "server_error"),
        ("network_error", 3, "server_error"),
        ("insufficient_system_resource", 3, "overloaded"),
        ("eos", 3, "success"),  # nobody knows the word, and it says nothing bad
    ],
)
def test_a_200_is_judged_by_how_it_finished(
    status: int, finish_reason: str | None, completion_tokens: int | None, kind: str
) -> None:
    assert classify(status=status, finish_reason=finish_reason, completion_tokens=completion_tokens) == kind


def test_a_failed_status_stays_what_it_is_however_it_finished() -> None:
    assert classify(status=500, finish_reason="stop", completion_tokens=9) == "server_error"
    assert classify(status=429, finish_reason="error") == "rate_limited"


def test_every_kind_is_reachable_and_local_is_left_to_the_prober() -> None:
    reached = {classify(status=status, source="probe") for status in range(100, 600)}
    reached |= {classify(status=status) for status in range(100, 600)}
    reached |= {classify(error=word) for word in ERROR_WORDS}
    assert reached == set(KINDS) - {"local"}


def test_every_kind_says_what_it_counts_for() -> None:
    assert dict(COUNTS) == COUNTED
    assert set(KINDS) == set(COUNTED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of status and error"),
        ({"status": 200, "error": "timeout"}, "exactly one of status and error"),
        ({"status": 99}, "status 99 is not an HTTP status; use 100 to 599"),
        ({"status": 600}, "status 600 is not an HTTP status; use 100 to 599"),
        ({"status": 0}, "status 0 is not an HTTP status"),
        ({"status": -1}, "status -1 is not an HTTP status"),
    ],
)
def test_what_is_no_outcome_is_refused_with_words(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classify(**arguments)  # type: ignore[arg-type]


WALL = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:29:00 GMT"}, 60.0),
        ({"retry-after": "2015-10-21T07:29:00Z"}, 60.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "60"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "60"}, 0.0),
        ({"retry-after-ms": "nonsense", "retry-after": "60"}, 60.0),
        ({"retry-after-ms": "1e11"}, RETRY_AFTER_MAX),
        ({"x-ms-retry-after-ms": "2500", "retry-after": "3"}, 2.5),
    ],
)
def test_a_retry_hint_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, wall=WALL) == seconds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("account", [False, True])
def test_a_429_holds_and_of_the_rest_who_names_a_time_and_means_load_or_money(kind: Kind, account: bool) -> None:
    assert Outcome(kind=kind, account=account).holds is (kind == "rate_limited")
    named = Outcome(kind=kind, retry_after=0.0, account=account)
    assert named.holds is (kind in ("rate_limited", "overloaded", "refused", "success"))


@given(st.text(max_size=40))
def test_no_text_of_a_provider_raises_or_leaves_the_range(text: str) -> None:
    for headers in ({"retry-after": text}, {"retry-after-ms": text}):
        seconds = retry_after(headers, wall=WALL)
        assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX
