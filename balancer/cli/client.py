"""Asking a running daemon: the standard library's HTTP client over TCP or a unix socket.

Theory of operation: a verb must start in a blink, so nothing heavier than `http.client` is loaded. Every way in
which a daemon can be absent, mute or unwilling becomes one `Unreachable` or `Refused` with one clear line.

Where a daemon speaks TLS, its unix socket is asked first: there no certificate has to fit. Else whom to believe
and what to show are files named by the environment, as the token is.

What this module does not know: what the answers mean.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import replace
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from balancer.service.clock import monotonic

if TYPE_CHECKING:
    from balancer.config import Config  # slow to import, and most calls name the daemon themselves

TIMEOUT: Final = 10.0  # s; a daemon on loopback that needs longer is not well
DEFAULT_URL: Final = "http://127.0.0.1:8790"

_LOOPBACK: Final[Mapping[str | None, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what "every address" includes


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
    """Find the daemon: `--url`, else BALANCER_URL, else where the configuration lets it listen."""
    if asked.url is not None:
        return str(asked.url)
    from_environment = os.environ.get("BALANCER_URL")
    if from_environment:
        return from_environment
    if not Path(asked.config).exists():
        return DEFAULT_URL
    from balancer.config import ConfigError, load_config

    try:
        return _served_at(load_config(asked.config, environ=os.environ, secrets=False))
    except ConfigError as error:
        raise Unreachable(
            f"{asked.config} does not say where the daemon listens (see balancer check: "
            f"{len(error.problems)} found); give --url"
        ) from None


def _served_at(config: Config) -> str:
    """Choose among the addresses of a daemon, as somebody on its own machine."""
    listen = config.listen[0]
    if config.tls is not None:
        listen = next((each for each in config.listen if each.path is not None), listen)
    if listen.path is not None:
        return str(listen)
    if config.tls is None:
        return f"http://{replace(listen, host=_LOOPBACK.get(listen.host, listen.host))}"
    # Certificates hold names: of every address of a machine none but this one is known here.
    return f"https://{replace(listen, host='localhost') if listen.host in _LOOPBACK else listen}"


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
    answer = None
    try:
        connection.request("GET" if body is None else "POST", target, body=data, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
    except TimeoutError:
        raise Unreachable(f"the daemon at {url} gave no answer within {monotonic() - began:.0f} s") from None
    except ssl.SSLError as error:
        raise Unreachable(f"no daemon answers at {url} ({_mistrust(error)})") from None
    except (OSError, HTTPException, ValueError) as error:
        detail = getattr(error, "strerror", None)
        if type(connection) is HTTPConnection and answer is None and isinstance(error, _NO_HTTP):
            said = "what comes is something else" if type(error) is BadStatusLine else detail or error
            raise Unreachable(f"something is at {url}, but gives no answer in HTTP ({said}); {_TLS_HINT}") from None
        hint = _CERTIFICATE_HINT if isinstance(connection, HTTPSConnection) and _is_cut(error) else ""
        raise Unreachable(f"no daemon answers at {url} ({detail or error}{hint})") from None
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
        return HTTPSConnection(host, port, timeout=timeout, context=_trust())
    return HTTPConnection(host, port, timeout=timeout)


def _trust() -> ssl.SSLContext:
    """Whom to believe, and what to show. Raises: Unreachable naming a file that cannot be used."""
    ca_file, cert_file = os.environ.get("BALANCER_CA_FILE"), os.environ.get("BALANCER_CLIENT_CERT")
    name = f"BALANCER_CA_FILE {ca_file}"
    try:
        context = ssl.create_default_context(cafile=None if ca_file == "" else ca_file)
        if cert_file:
            name = f"BALANCER_CLIENT_CERT {cert_file}"
            # An empty password: without one OpenSSL asks for it at the terminal and waits.
            context.load_cert_chain(cert_file, password="")
    except OSError as error:
        detail = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise Unreachable(f"{name} cannot be used: {detail}") from None
    return context


# A listener with TLS that finds HTTP closes, or sends an alert first.
_NO_HTTP: Final = (BadStatusLine, ConnectionResetError, BrokenPipeError)
_TLS_HINT: Final = "where it speaks TLS, try https://"

# A server that gets no certificate, and wants one, closes: the loop's TLS does not say why.
_CERTIFICATE_HINT: Final = "; it may want a certificate, which BALANCER_CLIENT_CERT names"


def _is_cut(error: Exception) -> bool:
    return isinstance(error, (ConnectionResetError, BrokenPipeError)) and not os.environ.get("BALANCER_CLIENT_CERT")


def _mistrust(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}; BALANCER_CA_FILE names an authority"
    if error.reason is not None and "CERTIFICATE_REQUIRED" in error.reason:
        return "it wants a certificate; BALANCER_CLIENT_CERT names ours"
    return f"TLS: {error.strerror if error.reason is None else error.reason.replace('_', ' ').lower()}"
