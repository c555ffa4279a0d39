"""Which proxy the environment names for a host."""

from __future__ import annotations

import pytest

from balancer.config.proxies import Proxies, Proxy, proxies
from balancer.config.secret import Absent, Secret

NEAR = Proxy(host="near", port=3128)
FAR = Proxy(host="far", port=80)


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://near:3128"}, NEAR, None),
        ({"HTTPS_PROXY": "http://near:3128/", "http_proxy": "far"}, FAR, NEAR),
        ({"ALL_PROXY": "near:3128", "HTTP_PROXY": "http://far"}, FAR, NEAR),
        ({"https_proxy": "near:3128", "HTTPS_PROXY": "far"}, None, NEAR),
        ({"https_proxy": "", "HTTPS_PROXY": "far", "ALL_PROXY": "far"}, FAR, None),
        ({"HTTPS_PROXY": "http://[fd00::1]:8080"}, None, Proxy(host="fd00::1", port=8080)),
    ],
)  # fmt: skip
def test_each_scheme_has_its_proxy(environ: dict[str, str], http: Proxy | None, https: Proxy | None) -> None:
    found = proxies(environ)
    assert (found.http, found.https) == (http, https)
    assert found.to("https", "api.example", 443) == https
    assert found.to("http", "api.example", 80) == http


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("socks5://me:secret@near", "HTTPS_PROXY: socks5 proxies are not supported, only http"),
        ("https://near", "HTTPS_PROXY: https proxies are not supported, only http"),
        ("http://near:port", "HTTPS_PROXY holds no address of a proxy"),
        ("http://", "HTTPS_PROXY holds no address of a proxy"),
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_not_gone_without(text: str, why: str) -> None:
    found = proxies({"HTTPS_PROXY": text})
    assert found.https == found.to("https", "api.example", 443) == Absent(why)


def test_a_login_is_decoded_and_never_shown() -> None:
    proxy = proxies({"HTTPS_PROXY": "http://me:p%40ss%20word@near:3128"}).https
    assert isinstance(proxy, Proxy)
    assert proxy.login == Secret("bWU6cEBzcyB3b3Jk")
    assert proxy.password == Secret("p@ss word")
    assert str(proxy) == "near:3128"
    assert "p@ss" not in repr(proxy)


@pytest.mark.parametrize(
    ("entry", "host", "port", "exempt"),
    [
        ("*", "any.example", 443, True),
        ("api.example", "api.example", 443, True),
        ("api.example", "API.Example", 443, True),
        (".example", "api.example", 443, True),
        ("*.example", "api.example", 443, True),
        (".api.example", "api.example", 443, True),
        ("example", "api.example", 443, True),
        ("pi.example", "api.example", 443, False),
        ("api.example:443", "api.example", 443, True),
        ("api.example:8443", "api.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("[fd00::1]:443", "fd00::1", 443, True),
        ("[fd00::1]:444", "fd00::1", 443, False),
        ("fd00::1", "fd00::2", 443, False),
        ("other, ,api.example", "api.example", 443, True),
    ],
)  # fmt: skip
def test_exempt_hosts_are_reached_directly(entry: str, host: str, port: int, exempt: bool) -> None:
    found = proxies({"ALL_PROXY": "http://near:3128", "NO_PROXY": entry})
    assert found.to("https", host, port) == (None if exempt else NEAR)


@pytest.mark.parametrize("host", ["localhost", "here.localhost", "127.0.0.2", "::1"])
def test_this_machine_is_never_asked_for_through_a_proxy(host: str) -> None:
    assert proxies({"ALL_PROXY": "http://near:3128"}).to("http", host, 80) is None


def test_without_an_environment_there_is_no_proxy() -> None:
    assert Proxies().to("https", "api.example", 443) is None
