"""Who may ask what: bearer tokens and their scopes.

Theory of operation: without tokens in the configuration everything is open; `config` allows that only on
loopback and unix sockets. With tokens the digest of what was presented is compared with every token's in
constant time, whichever matches, so that the time of an answer tells nothing about them. A web page that
somebody has open may reach an open loopback port too: a POST that a browser marks as coming from another site is
refused, and one of a page that claims to come from us, for we serve none: its name was made to lead here later.

Reports are told apart by the name of their token. Where none is needed all of them are `ANONYMOUS`: the peer of a
loopback or unix socket says nothing about which proxy it is.

What this module does not know: which route needs which scope; `routes` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from aiohttp import web

from balancer.config import Scope, Sealed, Token
from balancer.http.answers import Refused

Why = Literal["no_token", "unknown_token", "no_scope", "web_page"]
"""Why somebody was not let in: the closed set behind the label `reason`."""
WHYS: Final[tuple[Why, ...]] = get_args(Why)

ANONYMOUS: Final = "anonymous"
"""The reporter of every report that came without a token."""


def reporters(tokens: Sequence[Token]) -> tuple[str, ...]:
    """The names of all who may report: the closed set behind the label `reporter`."""
    if not tokens:
        return (ANONYMOUS,)
    return tuple(token.name for token in tokens if not token.scopes.isdisjoint({"report", "admin"}))


class Unauthorized(Refused):
    """Somebody is not let in; `who` is the name of the token, `None` where it is not known."""

    def __init__(
        self, status: int, message: str, *, why: Why, challenge: str | None, who: str | None = None
    ) -> None:
        super().__init__(status, message, headers=None if challenge is None else {"WWW-Authenticate": challenge})
        self.why: Why = why
        self.who = who


def authorize(request: web.BaseRequest, tokens: Sequence[Token], scope: Scope) -> str | None:
    """Find out who asks; the token's name, or `None` where none is needed. Raises: Unauthorized (401, 403)."""
    if not tokens:
        if request.method == "POST" and _is_of_a_page(request):
            message = "a POST from another web site is refused; configure auth.tokens to allow it"
            raise Unauthorized(403, message, why="web_page", challenge=None)
        return None
    given = request.headers.get("Authorization")
    if given is None:
        raise Unauthorized(401, "a bearer token is needed", why="no_token", challenge="Bearer")
    scheme, _, presented = given.partition(" ")
    token = _match(tokens, Sealed(presented.strip())) if scheme.lower() == "bearer" else None
    if token is None:
        message = "the bearer token is not known"
        raise Unauthorized(401, message, why="unknown_token", challenge='Bearer error="invalid_token"')
    if scope not in token.scopes and "admin" not in token.scopes:
        raise Unauthorized(
            403,
            f"the token {token.name} has no scope {scope}; it has {', '.join(sorted(token.scopes))}",
            why="no_scope",
            challenge=f'Bearer error="insufficient_scope", scope="{scope}"',
            who=token.name,
        )
    return token.name


def _match(tokens: Sequence[Token], presented: Sealed) -> Token | None:
    found = None
    for token in tokens:
        if token.secret.matches(presented):
            found = token
    return found


def _is_of_a_page(request: web.BaseRequest) -> bool:
    """Whether a browser sent it for a page that is not ours.

    Source: Fetch Metadata. Browsers send `Sec-Fetch-Site` to loopback addresses only, so a name that was bound
    anew to 127.0.0.1 is known by an `Origin` that is the very `Host`. A proxy that passes on the headers of its own
    client has another `Origin`.
    """
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        return True
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if origin is None or host is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
