"""Asking a running daemon: the standard library's HTTP client over TCP or a unix socket.

Theory of operation: a verb must start in a blink, so nothing heavier than `http.client` is loaded. Every way in
which a daemon can be absent, mute or unwilling becomes one `Unreachable` or `Refused` with one clear line.

What this module does not know: what the answers mean.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from balancer.service.clock import monotonic

TIMEOUT: Final = 10.0  # s; a daemon on loopback that needs longer is not well
DEFAULT_URL: Final = "http://127.0.0.1:8790"


class Unreachable(Exception):
    """No daemon answers there."""


class Refused(Exception):
    """The daemon said no: `status`, and its error envelope."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", f"HTTP {status}")))
        self.status = status
        self.error = error


def options(verb: argparse.ArgumentParser) -> None:
    """Add what every client verb takes."""
    verb.add_argument("--url", help="the daemon's address (else BALANCER_URL, else the configuration's listen)")
    verb.add_argument("-c", "--config", default="balancer.yaml", help="where to read listen from (balancer.yaml)")
    verb.add_argument("--json", action="store_true", help="print the daemon's answer as JSON")


def tokens(text: str) -> int:
    """Read a number of tokens. Raises: argparse.ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens; use a whole number from 0")
    return int(text)


def address(asked: argparse.Namespace) -> str:
    """Find the daemon: `--url`, else BALANCER_URL, else the configuration's first `listen`."""
    if asked.url is not None:
        return str(asked.url)
    from_environment = os.environ.get("BALANCER_URL")
    if from_environment:
        return from_environment
    if not Path(asked.config).exists():
        return DEFAULT_URL
    from balancer.config import ConfigError, load_config

    try:
        listen = str(load_config(asked.config, environ=os.environ, secrets=False).listen[0])
    except ConfigError as error:
        raise Unreachable(
            f"{asked.config} does not say where the daemon listens (see balancer check: "
            f"{len(error.problems)} found); give --url"
        ) from None
    return listen if listen.startswith("unix:") else f"http://{listen}"


def ask(
    url: str,
    path: str,
    *,
    needs: str,
    query: dict[str, Any] | None = None,
    body: Any = None,
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """Ask the daemon and decode its JSON, an object with the key `needs`. Raises: Unreachable, Refused."""
    given = {key: value for key, value in (query or {}).items() if value is not None}
    target = path + ("?" + urlencode(given, safe="/:,@") if given else "")
    headers = {"Accept": "application/json"}
    token = os.environ.get("BALANCER_TOKEN", "").rstrip("\r\n")
    if token:
        if not token.isascii() or not token.isprintable():
            raise Unreachable("BALANCER_TOKEN holds a character that no HTTP header may have")
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if body is not None:
        data = json.dumps(body)
        headers["Content-Type"] = "application/json"
    connection = _connection(url, timeout)
    began = monotonic()
    try:
        connection.request("GET" if body is None else "POST", target, body=data, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
    except TimeoutError:
        raise Unreachable(f"the daemon at {url} gave no answer within {monotonic() - began:.0f} s") from None
    except (OSError, HTTPException, ValueError) as error:
        detail = getattr(error, "strerror", None)
        raise Unreachable(f"no daemon answers at {url} ({detail or error})") from None
    finally:
        connection.close()
    try:
        decoded = json.loads(text)
    except ValueError:
        decoded = None
    key = needs if answer.status < 400 else "error"
    if not isinstance(decoded, dict) or key not in decoded:
        raise Unreachable(f"what answers at {url} is not a balancer (HTTP {answer.status})")
    if answer.status >= 400:
        envelope = decoded["error"]
        raise Refused(answer.status, envelope if isinstance(envelope, dict) else {})
    return decoded


def complain(error: Unreachable | Refused, *, as_json: bool) -> int:
    """Tell what went wrong in one line (or as the daemon's envelope); the exit status."""
    if as_json:
        envelope = error.error if isinstance(error, Refused) else {"message": str(error)}
        print(json.dumps({"error": envelope}))
    else:
        print(f"balancer: {error}", file=sys.stderr)
    return 1


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str, timeout: float) -> HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"), timeout)
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if host is None or scheme not in ("http", "https"):
        raise Unreachable(f"{url!r} is no address of a daemon; use http://HOST:PORT or unix:/PATH")
    if scheme == "https":
        return HTTPSConnection(host, port, timeout=timeout)
    return HTTPConnection(host, port, timeout=timeout)
