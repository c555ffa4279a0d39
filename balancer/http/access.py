"""Who may ask what: bearer tokens and their scopes.

Theory of operation: without tokens in the configuration everything is open; `config` allows that only on
loopback and unix sockets. With tokens every one is compared in constant time, whichever matches, so that the
time of an answer tells nothing about them. A web page that somebody has open may reach an open loopback port
too: a POST that a browser marks as coming from another site is refused.

Reports are told apart by the name of their token. Where none is needed all of them are `ANONYMOUS`: the peer of a
loopback or unix socket says nothing about which proxy it is.

What this module does not know: which route needs which scope; `routes` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from balancer.config import Scope, Token
from balancer.http.answers import Refused

ANONYMOUS: Final = "anonymous"
"""The reporter of every report that came without a token."""


def reporters(tokens: Sequence[Token]) -> tuple[str, ...]:
    """The names of all who may report: the closed set behind the label `reporter`."""
    if not tokens:
        return (ANONYMOUS,)
    return tuple(token.name for token in tokens if not token.scopes.isdisjoint({"report", "admin"}))


def authorize(request: web.BaseRequest, tokens: Sequence[Token], scope: Scope) -> str | None:
    """Find out who asks; the token's name, or `None` where none is needed. Raises: Refused (401, 403)."""
    if not tokens:
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise Refused(403, "a POST from another web site is refused; configure auth.tokens to allow it")
        return None
    given = request.headers.get("Authorization")
    if given is None:
        raise Refused(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})
    scheme, _, presented = given.partition(" ")
    token = _match(tokens, presented.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise Refused(
            401,
            "the bearer token is not known",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    if scope not in token.scopes and "admin" not in token.scopes:
        raise Refused(
            403,
            f"the token {token.name} has no scope {scope}; it has {', '.join(sorted(token.scopes))}",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )
    return token.name


def _match(tokens: Sequence[Token], presented: str) -> Token | None:
    try:
        presented.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which no token is
        return None
    found = None
    for token in tokens:
        if token.secret.matches(presented):
            found = token
    return found
