"""The envelope: one shape, whatever was refused."""

import json

import pytest

from balancer.core.model import Constraint
from balancer.http.answers import ERROR_TYPES, Availability, Refused, answer, plain


@pytest.mark.parametrize("status", ERROR_TYPES)
def test_every_status_that_we_refuse_with_has_a_type(status: int) -> None:
    response = Refused(status, "no").response()
    assert isinstance(response.body, bytes)
    assert response.status == status
    assert json.loads(response.body) == {
        "error": {"code": status, "message": "no", "metadata": {"error_type": ERROR_TYPES[status]}}
    }


def test_a_refusal_may_tell_more_and_hide_its_status_from_the_status_line() -> None:
    refusal = Refused(
        429,
        "later",
        metadata={"a": 1},
        availability=Availability(
            code="capacity_exhausted",
            excluded_by=("throttled",),
            constraint=Constraint(field="exclude", detail="rules out 1 of 2 endpoints"),
            requested_models=("m",),
            retryable=True,
            retry_after=1.5,
        ),
        headers={"Retry-After": "2"},
        line=503,
    )
    response = refusal.response()
    assert isinstance(response.body, bytes)
    assert (response.status, response.headers["Retry-After"]) == (503, "2")
    assert json.loads(response.body)["error"] == {
        "code": 429,
        "message": "later",
        "metadata": {"error_type": "rate_limit_exceeded", "a": 1},
        "availability": {
            "code": "capacity_exhausted",
            "excluded_by": ["throttled"],
            "constraint": {"field": "exclude", "detail": "rules out 1 of 2 endpoints"},
            "requested_models": ["m"],
            "retryable": True,
            "retry_after": 1.5,
        },
    }


def test_what_a_refusal_does_not_know_is_left_out() -> None:
    bare = Availability(code="unavailable", excluded_by=(), requested_models=("m",), retryable=False)
    body = Refused(503, "no", availability=bare).response().body
    assert isinstance(body, bytes)
    assert json.loads(body)["error"]["availability"] == {
        "code": "unavailable",
        "excluded_by": [],
        "requested_models": ["m"],
        "retryable": False,
    }


def test_answers_are_not_to_be_stored_unless_they_say_so() -> None:
    assert answer({"a": 1}).headers["Cache-Control"] == "no-store"
    kept = plain(b"{}", headers={"Cache-Control": "max-age=300"})
    assert kept.headers.getall("Cache-Control") == ["max-age=300"]


def test_numbers_that_json_cannot_say_are_null() -> None:
    assert answer([float("inf"), float("nan")]).body == b"[null,null]"
