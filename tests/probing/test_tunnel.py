"""Probes by way of a proxy: through it for TLS, from it for plain HTTP, and whose fault a failure is."""

import asyncio
from pathlib import Path

import pytest

from balancer.config.proxies import Proxies, Proxy
from balancer.config.secret import Absent, Secret

NAMED = Path(__file__).parent / "named.pem"  # certificate and key for api.example, until 2119
TLS_URL = "https://api.example/v1"  # never resolved here: only the proxy has to find it
PLAIN_URL = "http://api.example/v1"
LISTED = [{"id": "model-1"}]


def by(port, **login):
    proxy = Proxy(host="127.0.0.1", port=port, **login)
    return Proxies(http=proxy, https=proxy)


@pytest.fixture
def passing(lab):
    """A proxy that connects wherever it is asked to, but always to one server of the laboratory."""

    async def pass_on(reader, writer):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    def start(server):
        async def behave(seen):
            there, back = await asyncio.open_connection("127.0.0.1", server.port)
            await seen.send(b"HTTP/1.1 103 Wait\r\n\r\nHTTP/1.1 200 Connected\r\n\r\n")
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(pass_on(seen.reader, back), name="up")
                    both.create_task(pass_on(there, seen.writer), name="down")
            finally:
                back.close()

        return lab.serve(behave)

    return start


async def test_tls_goes_through_the_proxy_to_the_server_itself(lab, passing):
    server = await lab.serve(
        lambda seen: seen.answer(200, LISTED), tls=True, asking=lambda context: context.load_cert_chain(NAMED)
    )
    proxy = await passing(server)
    settings = {"ca_file": str(NAMED), "proxy": by(proxy.port)}
    results = [await lab.probe(TLS_URL, "models", secret="sk-key", **settings) for _ in range(2)]
    assert [result.outcome.kind for result in results] == ["success", "success"]
    assert (proxy.connections, server.connections, len(server.requests)) == (1, 1, 2)
    (asked,) = proxy.requests
    assert (asked.method, asked.target, asked.headers) == (
        "CONNECT",
        "api.example:443",
        {"host": "api.example:443"},
    )
    assert (server.requests[0].target, server.requests[0].headers["host"]) == ("/v1/models", "api.example")
    assert server.requests[0].headers["authorization"] == "Bearer sk-key"
    assert set(results[0].phases) == {"connect", "tls", "request", "first_byte", "transfer"}
    assert results[0].certificate_expires is not None
    assert f"* by way of the proxy 127.0.0.1:{proxy.port}" in results[0].transcript


@pytest.mark.parametrize("kind", ["tls", "tcp"])
async def test_a_handshake_or_a_connection_is_tried_through_the_proxy_too(lab, passing, kind):
    async def silent(reader, writer):
        await reader.read()

    server = await lab.serve_raw(silent, tls=True, asking=lambda context: context.load_cert_chain(NAMED))
    proxy = await passing(server)
    result = await lab.probe(TLS_URL, kind, ca_file=str(NAMED), proxy=by(proxy.port))
    assert result.outcome.kind == "success"
    assert len(proxy.requests) == 1


async def test_plain_http_is_asked_of_the_proxy_by_its_whole_address(lab):
    proxy = await lab.serve(lambda seen: seen.answer(200, LISTED))
    login = Secret("bWU6c2VjcmV0LXdvcmQ=")
    settings = {"proxy": by(proxy.port, login=login, password=Secret("secret-word"))}
    result = await lab.probe("http://api.example:8080/v1", "models", **settings)
    assert result.outcome.kind == "success"
    (asked,) = proxy.requests
    assert (asked.method, asked.target) == ("GET", "http://api.example:8080/v1/models")
    assert asked.headers["host"] == "api.example:8080"
    assert asked.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0LXdvcmQ="
    assert "> proxy-authorization: Basic ***" in result.transcript


async def test_a_server_with_tls_never_sees_the_login_and_nobody_else_does(lab):
    async def echo(seen):
        await seen.answer(407, b"", x_echo=seen.headers["proxy-authorization"])

    proxy = await lab.serve(echo)
    settings = {"proxy": by(proxy.port, login=Secret("bWU6c2VjcmV0LXdvcmQ="), password=Secret("secret-word"))}
    result = await lab.probe(TLS_URL, "models", secret="sk-key", **settings)
    (asked,) = proxy.requests
    assert asked.headers == {"host": "api.example:443", "proxy-authorization": "Basic bWU6c2VjcmV0LXdvcmQ="}
    assert result.outcome.detail == f"the proxy 127.0.0.1:{proxy.port} refuses: 407 Because"
    assert "c2Vjcm" not in repr(result)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "probe_invalid", "refuses: 403 No"),
        (b"HTTP/1.1 302 Elsewhere\r\n\r\n", "probe_invalid", "refuses: 302 Elsewhere"),
        (b"HTTP/1.1 502 Gone\r\n\r\n", "connect", "did not get through: 502 Gone"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "local", "gave no answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000, "local", "gave no answer"),
        (b"", "local", "gave no answer"),
    ],
)
async def test_a_proxy_that_does_not_connect_is_told_apart_from_the_provider(lab, data, kind, words):
    async def behave(seen):
        await seen.send(data)
        seen.writer.close()

    proxy = await lab.serve(behave)
    result = await lab.probe(TLS_URL, "models", proxy=by(proxy.port))
    assert result.outcome.kind == kind
    assert f"the proxy 127.0.0.1:{proxy.port} {words}" in result.outcome.detail
    assert result.bug is None


@pytest.mark.parametrize("url", [TLS_URL, PLAIN_URL])
async def test_a_proxy_that_is_not_there_is_our_own_trouble(lab, url):
    result = await lab.probe(url, "models", proxy=by(1))
    assert result.outcome.kind == "local"
    assert result.outcome.detail.startswith("the proxy 127.0.0.1:1: not connected")


async def test_a_proxy_that_cannot_be_used_is_a_wrong_recipe(lab):
    result = await lab.probe(TLS_URL, "models", proxy=Proxies(https=Absent("HTTPS_PROXY: no socks")))
    assert (result.outcome.kind, result.outcome.detail) == ("probe_invalid", "HTTPS_PROXY: no socks")


async def test_a_plain_connection_behind_a_proxy_would_try_only_the_proxy(lab):
    result = await lab.probe(PLAIN_URL, "tcp", proxy=by(1))
    assert (result.outcome.kind, result.phases) == ("probe_invalid", {})


async def test_a_proxy_that_hangs_is_our_own_trouble_until_it_answers_for_somebody_else(lab):
    async def knows_one(seen):
        if seen.target == "other.example:443":
            await seen.answer(502)
        else:
            await seen.hang()

    proxy = await lab.serve(knows_one)
    settings = {"proxy": by(proxy.port), "timeout": 0.2}
    alone = await lab.probe(TLS_URL, "models", **settings)
    said = f"the proxy 127.0.0.1:{proxy.port}: not done after 0.2 s (in connect)"
    assert (alone.outcome.kind, alone.outcome.detail) == ("local", said)
    assert (await lab.probe("https://other.example/v1", "models", **settings)).outcome.kind == "connect"
    after = await lab.probe(TLS_URL, "models", **settings)
    assert (after.outcome.kind, after.outcome.detail) == ("timeout", "not done after 0.2 s (in connect)")


async def test_a_hang_behind_the_proxy_is_the_providers(lab, passing):
    async def silent(reader, writer):
        await reader.read()

    proxy = await passing(await lab.serve_raw(silent))
    result = await lab.probe(TLS_URL, "models", proxy=by(proxy.port), timeout=0.2)
    assert (result.outcome.kind, result.outcome.detail) == ("timeout", "not done after 0.2 s (in tls)")


async def test_a_login_that_the_proxy_refuses_is_no_answer_of_the_provider(lab):
    proxy = await lab.serve(lambda seen: seen.answer(407, "who are you?"))
    for url in (TLS_URL, PLAIN_URL):
        result = await lab.probe(url, "models", proxy=by(proxy.port))
        said = f"the proxy 127.0.0.1:{proxy.port} refuses: 407 Because"
        assert (result.outcome.kind, result.outcome.detail) == ("probe_invalid", said)
    server = await lab.serve(lambda seen: seen.answer(407))
    assert (await lab.probe(server.url, "models")).outcome.kind == "caller_error"
