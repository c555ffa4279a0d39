"""A URL of the operator's choice: statuses, headers, body, and who gets the credential."""

import pytest


async def test_a_path_is_below_the_base_url_and_gets_the_credential(lab):
    server = await lab.serve(lambda seen: seen.answer(200, "fine"))
    result = await lab.probe(server.url, "http", secret="key", url="/health?full=1")
    assert (result.outcome.kind, result.outcome.status, result.outcome.shallow) == ("success", 200, True)
    assert result.outcome.latency is None
    assert server.requests[0].target == "/v1/health?full=1"
    assert server.requests[0].headers["authorization"] == "Bearer key"


async def test_an_absolute_url_is_taken_as_it_is_and_its_origin_decides_about_the_credential(lab):
    server = await lab.serve(lambda seen: seen.answer(200, "fine"))
    stranger = await lab.serve(lambda seen: seen.answer(200, "fine"))
    own = f"http://127.0.0.1:{server.port}/status"
    foreign = f"http://127.0.0.1:{stranger.port}/status"
    for url in (own, foreign):
        assert (await lab.probe(server.url, "http", secret="key", url=url)).outcome.kind == "success"
    assert server.requests[0].target == "/status"
    assert server.requests[0].headers["authorization"] == "Bearer key"
    assert stranger.requests[0].target == "/status"
    assert "authorization" not in stranger.requests[0].headers


async def test_without_a_url_the_base_url_itself_is_asked(lab):
    server = await lab.serve(lambda seen: seen.answer(200))
    assert (await lab.probe(server.url, "http")).outcome.kind == "success"
    assert server.requests[0].target == "/v1"


async def test_the_expected_statuses_are_good_whatever_they_are(lab):
    server = await lab.serve(lambda seen: seen.answer(401, "log in"))
    result = await lab.probe(server.url, "http", status=(200, 401))
    assert (result.outcome.kind, result.outcome.status) == ("success", 401)


async def test_a_good_status_that_was_not_expected_is_malformed(lab):
    server = await lab.serve(lambda seen: seen.answer(200, "fine"))
    result = await lab.probe(server.url, "http", status=(204, 206))
    assert result.outcome.kind == "malformed"
    assert result.outcome.detail == "expected status 204, 206; got 200 Because: fine"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X-Region": "eu"}, None),
        ({"x-region": "eu-", "content-type": "text"}, None),
        ({"X-Region": "us"}, "header X-Region is 'eu-west'; it must contain 'us'"),
        ({"X-Missing": "a"}, "header X-Missing is absent; it must contain 'a'"),
    ],
)
async def test_headers_must_be_there_and_contain(lab, headers, words):
    server = await lab.serve(lambda seen: seen.answer(200, x_region="eu-west", content_type="text/plain"))
    outcome = (await lab.probe(server.url, "http", headers=headers)).outcome
    assert (outcome.kind, outcome.detail) == (("success", "") if words is None else ("malformed", words))


@pytest.mark.parametrize(
    ("pattern", "kind"), [("status.*: ok", "success"), ("^ok$", "malformed"), ("(", "probe_invalid")]
)
async def test_the_body_must_match_the_expression(lab, pattern, kind):
    server = await lab.serve(lambda seen: seen.answer(200, "status of all: ok"))
    result = await lab.probe(server.url, "http", body=pattern)
    assert result.outcome.kind == kind
    assert result.bug is None


async def test_a_redirect_is_not_followed(lab):
    server = await lab.serve(lambda seen: seen.answer(302, b"", location="/elsewhere"))
    assert (await lab.probe(server.url, "http")).outcome.kind == "server_error"
    assert len(server.requests) == 1
