"""A URL of the operator's choice: statuses, headers, body, and who gets the credential."""

import asyncio
import threading
import time

import pytest

from balancer.config.secret import Secret
from balancer.probing.probe import probe


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


@pytest.mark.parametrize("status", [404, 405, 410])
@pytest.mark.parametrize(
    ("url", "good_before", "kind"),
    [("/health", True, "malformed"), ("/health", False, "probe_invalid"), (None, True, "probe_invalid")],
)
async def test_a_url_that_is_not_there_is_a_wrong_one_unless_it_was_good_before(
    lab, status, url, good_before, kind
):
    server = await lab.serve(lambda seen: seen.answer(status, "default backend"))
    settings = lab.settings("http", url=url)
    result = await probe(
        lab.endpoint(server.url), settings, None, connections=lab.connections, url_good=good_before
    )
    assert (result.outcome.kind, result.outcome.status) == (kind, status)
    if kind == "malformed":
        assert result.outcome.detail == f"expected status 200; got {status} Because: default backend"


async def test_an_expression_without_end_is_a_wrong_recipe_and_nobody_waits_for_it(lab):
    server = await lab.serve(lambda seen: seen.answer(200, "a" * 4000))
    worst, last, result = 0.0, time.monotonic(), None

    async def search():
        nonlocal result
        result = await lab.probe(server.url, "http", url="/", body="^(([a-z])+.)+[A-Z]([a-z])+$", timeout=3.0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(search(), name="search")
        while result is None:
            await asyncio.sleep(0.001)
            worst, last = max(worst, time.monotonic() - last), time.monotonic()
    assert (result.outcome.kind, result.bug) == ("probe_invalid", None)
    assert "probe.body: the search was not done after 1 s" in result.outcome.detail
    assert worst < 0.5  # seconds: a loop that waits for it has one turn in that second


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


@pytest.mark.parametrize(
    "settings", [{"body": "(a|a)+$"}, {"json": {"$[?search(@, '(a|a)+$')]": None}}], ids=["body", "json"]
)
async def test_an_expression_that_never_ends_is_no_fault_of_the_provider(lab, settings):
    server = await lab.serve(lambda seen: seen.answer(200, ["a" * 40 + "!"]))
    result = await lab.probe(server.url, "http", timeout=0.8, **settings)
    assert (result.outcome.kind, result.bug) == ("probe_invalid", None)
    assert "the search was not done after" in result.outcome.detail


async def test_a_path_that_never_ends_is_a_wrong_recipe_and_leaves_no_thread_behind(lab):
    server = await lab.serve(lambda seen: seen.answer(200, [[[[[[1] * 20] * 20]]]] * 20))
    for path in ("$..*..*..*..*", "$..*..*..*.nothing"):
        result = await lab.probe(server.url, "http", json={path: "nothing"}, timeout=1.0)
        assert (result.outcome.kind, result.bug) == ("probe_invalid", None)
        assert f"probe.json {path}: the search was not done after" in result.outcome.detail
    await lab.until(lambda: all(thread.name != "probe.json" for thread in threading.enumerate()))


async def test_a_redirect_is_not_followed(lab):
    server = await lab.serve(lambda seen: seen.answer(302, b"", location="/elsewhere"))
    assert (await lab.probe(server.url, "http")).outcome.kind == "server_error"
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["http", "models", "completion"])
async def test_a_redirect_says_where_it_leads_without_the_credential(lab, kind):
    server = await lab.serve(lambda seen: seen.answer(307, "moved", location="https://else.example/?key=sk-secret"))
    outcome = (await lab.probe(server.url, kind, secret="sk-secret")).outcome
    assert outcome.kind == "server_error"
    assert outcome.detail == "307 Because: not followed: https://else.example/?key=***"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
async def test_it_is_asked_by_the_chosen_method(lab, method):
    async def talk(seen):
        await seen.send(lab.answer(200, b"" if seen.method == "HEAD" else b"fine", content_length="4"))

    server = await lab.serve(talk)
    for _ in range(2):  # the second over the kept connection: the first was read as HTTP wants it
        assert (await lab.probe(server.url, "http", method=method)).outcome.kind == "success"
    assert server.connections == (2 if method in ("POST", "PUT") else 1)  # what acts is sent on a fresh one
    assert [seen.method for seen in server.requests] == [method, method]
    assert ("content-length" in server.requests[0].headers) is (method in ("POST", "PUT"))


@pytest.mark.parametrize(
    ("headers", "content_type"), [({}, "application/json"), ({"Content-Type": "text/plain"}, "text/plain")]
)
async def test_a_body_is_sent_as_json_unless_the_headers_say_otherwise(lab, headers, content_type):
    server = await lab.serve(lambda seen: seen.answer(200))
    result = await lab.probe(server.url, "http", method="POST", send_body='{"ö": 1}', send_headers=headers)
    assert result.outcome.kind == "success"
    assert server.requests[0].body == '{"ö": 1}'.encode()
    assert server.requests[0].headers["content-type"] == content_type


async def test_a_secret_body_is_sent_and_not_told(lab):
    server = await lab.serve(lambda seen: seen.answer(401, b"you sent " + seen.body))
    result = await lab.probe(server.url, "http", method="POST", send_body=Secret("key=sk-secret"))
    assert server.requests[0].body == b"key=sk-secret"
    assert result.outcome.detail == "401 Because: you sent ***"
    assert "sk-secret" not in repr(result)


STATUS = {
    "status": {"indicator": "minor"},
    "count": 3,
    "up": True,
    "none": None,
    "list": [{"id": "a"}, {"id": "b"}],
}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ({"$.status.indicator": "minor", "$.count": "3", "$.up": "true", "$.none": "null"}, None),
        ({"$.list[*].id": "b", "$.status": None, "$.none": None, "$.list[?@.id == 'a']": None}, None),
        ({"$.count": "3", "$.status.*": "none"}, 'probe.json $.status.* found "minor"; it must find none'),
        ({"$.list[*].id": "c"}, 'probe.json $.list[*].id found "a"; it must find c'),
        ({"$.missing": None}, "probe.json $.missing found nothing"),
        ({"$.missing": "x"}, "probe.json $.missing found nothing; it must find x"),
    ],
)  # fmt: skip
async def test_paths_must_find_what_is_wanted_in_the_body(lab, paths, words):
    server = await lab.serve(lambda seen: seen.answer(200, STATUS))
    outcome = (await lab.probe(server.url, "http", json=paths)).outcome
    assert (outcome.kind, outcome.detail) == (("success", "") if words is None else ("malformed", words))


@pytest.mark.parametrize(
    ("body", "path", "kind"),
    [
        ("<html>", "$.a", "malformed"),
        (["x" * 300_000], "$[0]", "probe_invalid"),
        ([1], "$[", "probe_invalid"),
    ],
)
async def test_what_no_path_can_be_followed_in_is_told(lab, body, path, kind):
    server = await lab.serve(lambda seen: seen.answer(200, body))
    result = await lab.probe(server.url, "http", json={path: None})
    assert (result.outcome.kind, result.bug) == (kind, None)


async def test_what_a_path_found_is_told_without_the_credential(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"a": "x" * 95 + seen.headers["authorization"]}))
    outcome = (await lab.probe(server.url, "http", secret="sk-very-secret", json={"$.a": "b"})).outcome
    assert outcome.kind == "malformed"
    assert "sk-" not in outcome.detail


async def test_the_transcript_has_the_beginning_of_a_good_body_and_its_size(lab):
    for body, shown in ((b"all\nis  fine, sk-0123456789", ["< all is fine, ***"]), (b"", []), (b"x" * 9999, None)):
        server = await lab.serve(lambda seen, body=body: seen.answer(200, body))
        result = await lab.probe(server.url, "http", secret="sk-0123456789", url="/")
        lines = list(result.transcript[result.transcript.index(f"< content-length: {len(body)}") + 1 :])
        assert lines[-2:] == [f"< ({len(body)} bytes)", "* success"]
        assert lines[:-2] == (["< " + "x" * 497 + "…"] if shown is None else shown)
