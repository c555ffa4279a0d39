"""Every path: unknown ones, wrong methods, wrong content and our own bugs have one shape of error."""

from dataclasses import replace
from typing import Any

import aiohttp
import pytest

GETS = (
    "/v1/models", "/v1/model?id=gpt-4.1", "/v1/providers", "/v1/endpoints",
    "/v1/endpoint?id=openai/gpt-4.1@openai", "/v1/config", "/-/healthy", "/-/ready", "/metrics", "/openapi.json",
)  # fmt: skip
POSTS = ("/v1/best-provider", "/v1/reports", "/v1/drain", "/v1/resume", "/v1/probe")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/histories", "/v1/models/", "/V1/models", "/v1/%6dodels", "/%E2%82%AC"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
async def test_an_unknown_path_is_404_in_the_envelope(
    world: Any, client: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with client.request(method, aiohttp.client.URL(world.url + path, encoded=True)) as response:
        assert response.status == 404
        if method != "HEAD":
            error = (await response.json())["error"]
            assert (error["code"], error["metadata"]) == (404, {"error_type": "not_found"})
    assert world.lines.lines == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("GET", "/v1/reports", "POST"),
        ("HEAD", "/v1/drain", "POST"),
        ("PUT", "/v1/best-provider", "GET, HEAD, POST"),
        ("GET", "/-/reload", "POST"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_405_with_those_that_are_right(
    world: Any, client: aiohttp.ClientSession, method: str, path: str, allow: str
) -> None:
    async with client.request(method, world.url + path) as response:
        assert (response.status, response.headers["Allow"]) == (405, allow)
        if method != "HEAD":
            assert (await response.json())["error"]["metadata"] == {"error_type": "method_not_allowed"}


@pytest.mark.parametrize("path", GETS)
async def test_head_answers_like_get_without_a_body(world: Any, client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(world.url + path) as got, client.head(world.url + path) as head:
        assert got.status == head.status == 200
        assert await head.read() == b""
        assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("path", [path for path in GETS if "?" not in path])
async def test_a_parameter_that_a_route_does_not_know_is_refused(
    world: Any, client: aiohttp.ClientSession, path: str
) -> None:
    async with client.get(f"{world.url}{path}?nonsense=1") as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"].startswith("nonsense: unknown parameter; ")


@pytest.mark.parametrize("path", POSTS)
async def test_a_post_takes_no_parameter_that_it_does_not_know(
    world: Any, client: aiohttp.ClientSession, path: str
) -> None:
    async with client.post(f"{world.url}{path}?model=a", json={}) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"].startswith("model: unknown parameter; ")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"{", "malformed JSON"),
        (b"\xff\xfe", "malformed JSON"),
        (b"null", "expected object, got null"),
        (b'"text"', "expected object, got str"),
        (b"[" * 50_000, "expected object, got array"),
    ],
)
async def test_a_malformed_body_is_400_in_the_envelope(
    world: Any, client: aiohttp.ClientSession, path: str, body: bytes, message: str
) -> None:
    async with client.post(world.url + path, data=body) as response:
        assert response.status == 400 or (path == "/v1/reports" and response.status == 422)
        assert message in (await response.json())["error"]["message"]
    assert world.lines.lines == []
    assert world.changes == 0


async def test_a_bug_of_ours_is_500_and_one_line_with_its_traceback(
    world: Any, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async def explode(endpoint: str) -> dict[str, Any]:
        raise RuntimeError("secret inside")

    world.probe = explode
    async with client.post(f"{world.url}/v1/probe", json={"endpoint": "a"}) as response:
        assert response.status == 500
        assert (await response.json())["error"] == {
            "code": 500,
            "message": "an error of ours; the log tells more",
            "metadata": {"error_type": "internal"},
        }
    ((level, event, facts),) = world.lines.lines
    assert (level, event, facts["path"]) == ("error", "request.crashed", "/v1/probe")
    assert isinstance(facts["exc_info"], RuntimeError)
    assert caplog.records == []


async def test_an_absolute_target_is_understood_as_from_a_proxy(world: Any, raw: Any) -> None:
    target = b"GET http://any.test/-/healthy?x=1 HTTP/1.1\r\nHost: any.test\r\nConnection: close\r\n\r\n"
    assert b"x: unknown parameter" in await raw(world.port, target)


async def test_a_page_of_another_site_cannot_post_where_no_token_is_needed(
    world: Any, guarded: Any, client: aiohttp.ClientSession
) -> None:
    body = {"target": "azure"}
    headers = {"Sec-Fetch-Site": "cross-site"}
    async with client.post(f"{world.url}/v1/drain", json=body, headers=headers) as response:
        assert response.status == 403
    assert world.changes == 0
    headers["Authorization"] = "Bearer token-of-ops"
    async with client.post(f"{guarded.url}/v1/drain", json=body, headers=headers) as response:
        assert response.status == 200


async def test_a_reload_changes_who_may_ask(world: Any, guarded: Any, client: aiohttp.ClientSession) -> None:
    guarded.config = replace(guarded.config, tokens=())
    async with client.get(f"{guarded.url}/v1/models") as response:
        assert response.status == 200
