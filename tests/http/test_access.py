"""Tokens and scopes: who may ask what."""

from typing import Any

import aiohttp
import pytest

from balancer.config import ConfigError, ConfigProblem, Scope, Sealed, Token
from balancer.http.access import ANONYMOUS, WHYS, reporters
from balancer.http.complaints import LINES_MAX

ROUTES = {
    ("GET", "/v1/best-provider?model=gpt-4.1"): "read",
    ("HEAD", "/v1/best-provider?model=gpt-4.1"): "read",
    ("POST", "/v1/best-provider"): "read",
    ("POST", "/v1/reports"): "report",
    ("GET", "/v1/models"): "read",
    ("GET", "/v1/model?id=gpt-4.1"): "read",
    ("GET", "/v1/providers"): "read",
    ("GET", "/v1/endpoints"): "read",
    ("GET", "/v1/endpoint?id=openai/gpt-4.1@openai"): "read",
    ("HEAD", "/v1/events"): "read",
    ("GET", "/v1/config"): "read",
    ("POST", "/v1/drain"): "admin",
    ("POST", "/v1/resume"): "admin",
    ("POST", "/v1/probe"): "admin",
    ("POST", "/-/reload"): "admin",
    ("GET", "/-/healthy"): None,
    ("GET", "/-/ready"): None,
    ("GET", "/metrics"): "read",
    ("GET", "/openapi.json"): "read",
}
MAY = {
    "reader": {"read"},
    "reporter": {"report"},
    "proxy": {"read", "report"},
    "ops": {"read", "report", "admin"},
}
BODIES = {
    "/v1/best-provider": {"model": "gpt-4.1"},
    "/v1/reports": {"endpoint": "openai/gpt-4.1@openai", "status": 200},
    "/v1/drain": {"target": "azure"},
    "/v1/resume": {"target": "azure"},
    "/v1/probe": {"endpoint": "openai/gpt-4.1@openai"},
    "/-/reload": {},
}


@pytest.mark.parametrize("who", [None, *MAY])
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_lets_in_whom_it_should(
    guarded: Any, client: aiohttp.ClientSession, method: str, path: str, who: str | None
) -> None:
    scope = ROUTES[method, path]
    headers = {} if who is None else {"Authorization": f"Bearer token-of-{who}"}
    body = BODIES[path] if method == "POST" else None
    async with client.request(method, guarded.url + path, headers=headers, json=body) as response:
        expected = 200 if scope is None else 401 if who is None else 200 if scope in MAY[who] else 403
        assert response.status == expected
        challenge = response.headers.get("WWW-Authenticate")
        if expected == 401:
            assert challenge == "Bearer"
        elif expected == 403:
            assert challenge == f'Bearer error="insufficient_scope", scope="{scope}"'
        else:
            assert challenge is None
        if expected != 200 and method != "HEAD":
            error = (await response.json())["error"]
            assert error["code"] == expected
            assert error["metadata"]["error_type"] == {401: "authentication", 403: "permission_denied"}[expected]
            assert guarded.changes == 0


@pytest.mark.parametrize(
    "given",
    [
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        "Basic token-of-ops",
        "token-of-ops",
        "Bearer token-of-op",
        "Bearer token-of-opsx",
        "Bearer t\u00f6ken",
    ],
)
async def test_a_token_that_is_not_known_is_refused(
    guarded: Any, client: aiohttp.ClientSession, given: str
) -> None:
    async with client.get(f"{guarded.url}/v1/models", headers={"Authorization": given}) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert "token-of" not in await response.text()


async def test_bytes_that_are_no_text_are_no_token(guarded: Any, raw: Any) -> None:
    answer = await raw(
        guarded.port,
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert guarded.lines.events == ["request.refused"]


DEEDS = {path: body for path, body in BODIES.items() if ROUTES["POST", path] == "admin"}


@pytest.mark.parametrize("path", DEEDS)
@pytest.mark.parametrize(
    ("who", "body", "result"),
    [("ops", None, "done"), ("ops", b"x" * 70_000, "refused"), ("proxy", None, "refused")],
)
async def test_an_operators_word_leaves_exactly_one_line_whatever_comes_of_it(
    guarded: Any, client: aiohttp.ClientSession, path: str, who: str, body: bytes | None, result: str
) -> None:
    headers = {"Authorization": f"Bearer token-of-{who}"}
    given = {"json": DEEDS[path]} if body is None else {"data": body}
    async with client.post(guarded.url + path, headers=headers, **given) as response:
        assert response.status == (200 if result == "done" else 413 if who == "ops" else 403)
    (deed,) = guarded.lines.deeds
    assert (deed["verb"], deed["token"], deed["result"]) == (path.rpartition("/")[2], who, result)
    if result == "refused":
        assert (deed["status"], "token-of" in deed["refusal"]) == (response.status, False)
    elif path != "/-/reload":
        assert deed["target"] in DEEDS[path].values()
    assert guarded.lines.others == []


async def test_a_reload_that_is_refused_leaves_its_line_too(guarded: Any, client: aiohttp.ClientSession) -> None:
    async def refuse() -> list[str]:
        raise ConfigError([ConfigProblem(file="a.yaml", line=1, path="", found="is wrong", allowed="mend it")])

    guarded.reload = refuse
    headers = {"Authorization": "Bearer token-of-ops"}
    async with client.post(f"{guarded.url}/-/reload", headers=headers) as response:
        assert response.status == 422
    (deed,) = guarded.lines.deeds
    assert (deed["verb"], deed["token"], deed["result"], deed["status"]) == ("reload", "ops", "refused", 422)


@pytest.mark.parametrize(
    ("given", "why"),
    [(None, "no_token"), ("Bearer token-of-nobody", "unknown_token"), ("Bearer token-of-reporter", "no_scope")],
)
async def test_whoever_is_turned_away_is_logged_without_the_token_and_counted(
    guarded: Any, client: aiohttp.ClientSession, given: str | None, why: str
) -> None:
    headers = {} if given is None else {"Authorization": given}
    async with client.get(f"{guarded.url}/v1/models?key=in-the-query", headers=headers) as response:
        refused = await response.json()
    ((level, event, facts),) = guarded.lines.lines
    assert (level, event) == ("warning", "request.refused")
    assert (facts["status"], facts["path"]) == (refused["error"]["code"], "/v1/models")
    assert facts["reason"] == refused["error"]["message"]
    assert facts["peer"].startswith("127.0.0.1:")
    assert "token-of" not in str(facts)
    assert guarded.server.counts().unauthorized == {**dict.fromkeys(WHYS, 0), why: 1}


async def test_an_attack_fills_no_log(guarded: Any, client: aiohttp.ClientSession) -> None:
    for number in range(LINES_MAX * 2):
        headers = {"Authorization": f"Bearer guess-{number}"}
        async with client.post(f"{guarded.url}/v1/drain", headers=headers, json={"target": "azure"}) as response:
            assert response.status == 401
    assert guarded.lines.events == ["request.refused"] * LINES_MAX
    assert guarded.server.counts().unauthorized["unknown_token"] == LINES_MAX * 2


async def test_the_scheme_may_be_written_in_any_case(guarded: Any, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{guarded.url}/v1/models", headers={"Authorization": "bEARER token-of-ops"}) as response:
        assert response.status == 200


async def test_refuse_with_never_hides_a_missing_token(guarded: Any, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{guarded.url}/v1/best-provider?model=x&refuse_with=503") as response:
        assert response.status == 401


async def test_an_unknown_path_needs_no_token_to_be_unknown(guarded: Any, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{guarded.url}/nowhere") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("scopes", "names"),
    [
        ({}, (ANONYMOUS,)),
        ({"proxy": {"read", "report"}, "watcher": {"read"}, "ops": {"admin"}}, ("proxy", "ops")),
        ({"watcher": {"read"}}, ()),
    ],
)
def test_reporters_are_the_tokens_that_may_report(scopes: dict[str, set[Scope]], names: tuple[str, ...]) -> None:
    tokens = [Token(name=name, scopes=frozenset(of), secret=Sealed(name)) for name, of in scopes.items()]
    assert reporters(tokens) == names
