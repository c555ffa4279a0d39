"""Errors inside answers: their text, and the status that each would have had."""

import pytest

from balancer.probing.dialects.errors import about_us, complained, delay, error_in, regained, trouble_in


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


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("Your credit balance is too low to access the Anthropic API.", "money"),
        ("You have reached your specified API usage limits.", "money"),
        ("You have reached your specified workspace API usage limits.", "money"),
        ("Billing hard limit has been reached", "money"),
        ("Insufficient Balance", "money"),
        ("API Key not found. Please pass a valid API key.", "key"),
        ("API key expired. Please renew the API key.", "key"),
        ("User location is not supported for the API use.", "key"),
        ("Incorrect API key provided: ***", "key"),
        ("max_tokens must be at least 16", None),
        ("the limits of the balance of keys", None),
    ],
)
def test_a_bad_request_may_be_one_because_of_us(text, who):
    assert about_us(400, text) == about_us(422, f'{{"error": {{"message": "{text}"}}}}') == who
    assert [about_us(status, text) for status in (401, 429, 500)] == [None] * 3


def test_the_day_on_which_access_comes_back_is_a_wait():
    text = "You will regain access on 2026-04-01 at 00:30 UTC."
    assert regained(text, wall=1_775_001_600.0) == 1800.0
    assert regained("You will regain access on 2026-99-01 at 00:30 UTC.", wall=1_775_001_600.0) is None
    assert regained("soon", wall=0.0) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "53s"}', 53.0),
        ('[{"error": {"message": "Please retry in 53.5s.", "details": [{"retryDelay":"54s"}', 54.0),
        ("You exceeded your current quota. Please retry in 53.5s.", 53.5),
        ("Rate limit reached. Please try again in 6m0s. Visit", 360.0),
        ("Please try again in 20ms.", 0.02),
        ("retry in a moment", None),
        ("", None),
    ],
)
def test_a_refusals_body_may_say_how_long_to_stay_away(text, seconds):
    assert delay(text, wall=0.0) == seconds
