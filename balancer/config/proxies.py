"""The proxies of an environment: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl reads them.

Theory of operation: a name in small letters wins over the one in capitals, and a scheme's own over ALL_PROXY. What
NO_PROXY exempts: `*` everything, `example.com` that host and all below it, `10.0.0.0/8` addresses, each for one
port only where one is given. This machine itself is never asked for through a proxy: no proxy could reach it.

A proxy that cannot be used (SOCKS, or TLS to the proxy) is no reason to go without one: the host is perhaps not to
be reached, or not to be told. It is `Absent`, and a probe that needs it says so.

What this module does not know: how a proxy is spoken to.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from balancer.config.secret import Absent, Secret

DEFAULT_PORT: Final = 80  # as for any http address; curl alone says 1080


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; `login` is its user and password as HTTP's basic scheme writes them."""

    host: str
    port: int
    login: Secret | None = None
    password: Secret | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Which proxy leads to a host; by default none."""

    http: Proxy | Absent | None = None
    https: Proxy | Absent | None = None
    exempt: tuple[str, ...] = ()

    def to(self, scheme: str, host: str, port: int) -> Proxy | Absent | None:
        """Give the proxy on the way to a host; `None` where there is none, `Absent` where it cannot be used."""
        proxy = self.https if scheme == "https" else self.http
        if proxy is None or _is_this_machine(host):
            return None
        return None if any(_matches(entry, host.lower(), port) for entry in self.exempt) else proxy


def proxies(environ: Mapping[str, str]) -> Proxies:
    """Read the proxies of an environment."""
    exempt = _first(environ, "no_proxy")
    entries = () if exempt is None else (entry.strip().lower() for entry in exempt[1].split(","))
    return Proxies(
        http=_proxy(_first(environ, "http_proxy", "all_proxy")),
        https=_proxy(_first(environ, "https_proxy", "all_proxy")),
        exempt=tuple(entry for entry in entries if entry),
    )


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    """Find the first variable that is set, and what it holds; an empty one is set to no proxy."""
    for name in names:
        for spelled in (name, name.upper()):
            if spelled in environ:
                text = environ[spelled].strip()
                return (spelled, text) if text else None
    return None


def _proxy(found: tuple[str, str] | None) -> Proxy | Absent | None:
    if found is None:
        return None
    name, text = found
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return Absent(f"{name} holds no address of a proxy")
    if parts.scheme != "http":
        return Absent(f"{name}: {parts.scheme} proxies are not supported, only http")
    if host is None or not host.isascii():
        return Absent(f"{name} holds no address of a proxy")
    login, password = _login(parts)
    return Proxy(host=host, port=DEFAULT_PORT if port is None else port, login=login, password=password)


def _login(parts: SplitResult) -> tuple[Secret | None, Secret | None]:
    if parts.username is None:
        return None, None
    user = unquote(parts.username)
    password = "" if parts.password is None else unquote(parts.password)
    return Secret(b64encode(f"{user}:{password}".encode()).decode()), Secret(password)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _matches(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY means a host."""
    if entry == "*":
        return True
    name, _, only = entry.rpartition(":")
    if only.isdecimal() and (":" not in name or name.endswith("]")):
        if int(only) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        wanted = entry.removeprefix("*").removeprefix(".")
        return host == wanted or host.endswith(f".{wanted}")
