"""Errors inside answers: their text, and the status that each would have had."""

import pytest

from balancer.probing.dialects.errors import complained, error_in, trouble_in


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"error": {"code": 502, "type": "server", "message": "bad"}}, "502 server bad"),
        ({"error": {"message": "bad"}}, "bad"),
        ({"error": {}}, None),
        ({"error": ""}, None),
        ({"error": []}, None),
        ({"error": False}, None),
        ({"error": {"details": 7}}, "{'details': 7}"),
        ({"error": "words"}, "words"),
        ({"object": "error", "message": "bad", "code": 400}, "400 bad"),
        ({"error": None}, None),
        ({"data": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_an_error_is_found_in_any_of_its_shapes(value, text):
    assert error_in(value) == text
    trouble = trouble_in(value)
    assert (None if trouble is None else trouble.text) == text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429, "message": "slow"}, 429),
        ({"code": "429"}, 429),
        ({"status_code": 503, "code": "boom"}, 503),
        ({"code": 403, "status": "PERMISSION_DENIED"}, 403),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, 429),
        ({"code": None, "type": "insufficient_quota"}, 429),
        ({"status": "RESOURCE_EXHAUSTED"}, 429),
        ({"type": "overloaded_error", "message": "Overloaded"}, 529),
        ({"type": "service_unavailable_error", "code": "server_is_overloaded"}, 503),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "authentication_error"}, 401),
        ({"type": "api_error", "message": "bug"}, 500),
        ({"code": 500, "message": "The model is overloaded"}, 503),
        ({"type": "server_error", "message": "Rate limit reached for tokens"}, 429),
        ({"code": 404, "message": "overloaded names"}, 404),
        ("Too many requests, slow down", 429),
        ({"code": 200}, None),
        ({"code": True}, None),
        ({"code": 7}, None),
        ({"code": 10**30}, None),
        ({"code": "٤٢٩"}, None),
        ({"code": ["429"]}, None),
        ({"message": "bad"}, None),
        ("words", None),
    ],
)
def test_the_status_is_that_of_its_number_its_word_or_its_message(error, status):
    trouble = trouble_in({"error": error})
    assert trouble is not None
    assert trouble.status == status


def test_the_error_of_a_refusal_is_an_object_or_empty():
    assert complained('{"error": {"code": 5}}') == {"code": 5}
    for text in ('{"error": "words"}', '{"error": null}', "[]", "nonsense", '{"error": {"code"', ""):
        assert complained(text) == {}
