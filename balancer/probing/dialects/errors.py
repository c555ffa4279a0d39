"""Errors as providers write them into bodies and streams, and the HTTP status that each would have had.

Theory of operation: an error that comes after a 200 lost its status, but mostly names it: by number (OpenRouter,
Google, vLLM), or by a word whose status its provider documents. Overload and rate limits are also told by their
message alone. Knowing the status, `core.outcome.classify` decides as it does for every other answer.

Some say with a 400, which is a caller's fault, that they do not serve us: that our key is none, or our purse is
empty. Every request is refused with the same words, so `about_us` looks for them.

What this module does not know: what a status means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from balancer.core.waits import wait
from balancer.probing.dialects.interface import Trouble, mapping, parsed

# Sources: OpenAI, "Error codes"; Anthropic, "Errors"; Google, google.rpc.Code.
_STATUSES: Final[Mapping[str, int]] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "slow_down": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
    "unavailable": 503,
    "overloaded_error": 529,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "billing_error": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "api_error": 500,
    "server_error": 500,
}
# From the special to the general: a rate limit's code says more than the family of errors that it is in.
_PLACES: Final = ("status_code", "code", "status", "type")
_MESSAGES: Final = (("overloaded", 503), ("rate limit", 429), ("too many requests", 429))


# Anthropic's 400s about money, OpenAI's, Alibaba's ("Arrearage"), and what resellers say.
_MONEY: Final = re.compile(
    r"credit balance is too low|reached your specified (?:\w+ ){0,3}usage limits|billing[ _]hard[ _]limit"
    r"|account is not active|insufficient[ _](?:account )?(?:balance|credits?|funds)|out of credits|arrearage"
    r"|overdue.payment",
    re.IGNORECASE,
)
# Google's ("API key not valid. Please pass a valid API key.", "API key expired", and its region), xAI's ("Incorrect
# API key provided: …").
_KEY: Final = re.compile(
    r"api[ _-]?key (?:is |was )?(?:not valid|not found|invalid|incorrect|expired)|api_key_invalid"
    r"|(?:incorrect|invalid|expired|unknown|missing) api[ _-]?key|user location is not supported",
    re.IGNORECASE,
)
# Anthropic: "You will regain access on 2026-04-01 at 00:00 UTC."
_REGAINED: Final = re.compile(r"regain access on ([0-9]{4}-[0-9]{2}-[0-9]{2}) at ([0-9]{2}:[0-9]{2}) UTC")
# Google's google.rpc.RetryInfo, found also in a body that was cut; and messages: Google's "Please retry in 53.0s.",
# OpenAI's and Groq's "Please try again in 6m0s."
_DELAYS: Final = (
    re.compile(r"""["']retryDelay["']\s*:\s*["']([0-9][0-9.]*s)["']"""),
    re.compile(r"(?:retry|try again) in ((?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+)", re.IGNORECASE),
)

BAD_REQUEST: Final = frozenset({400, 422})


def about_us(status: int, text: str) -> Literal["key", "money"] | None:
    """Say whether a bad request is one because of our key or our purse, `text` being what explains it."""
    if status not in BAD_REQUEST:
        return None
    if _MONEY.search(text) is not None:
        return "money"
    return "key" if _KEY.search(text) is not None else None


def delay(text: str, *, wall: float) -> float | None:
    """How long a refusal's body asks us to stay away; `None` where it does not say."""
    found = next((found for found in (pattern.search(text) for pattern in _DELAYS) if found is not None), None)
    return None if found is None else wait(found[1], wall=wall)


def regained(text: str, *, wall: float) -> float | None:
    """How long it is until the access comes back that a refusal names a day for; `None` where it names none."""
    found = _REGAINED.search(text)
    return None if found is None else wait(f"{found[1]}T{found[2]}:00Z", wall=wall)


def trouble_in(value: object) -> Trouble | None:
    """Find the error that an answer's object carries; `None` when it carries none."""
    text = error_in(value)
    return None if text is None else Trouble(text=text, status=_status(_error(value), text))


def error_in(value: object) -> str | None:
    """Find the error that an answer's object carries, as text; `None` when it carries none."""
    error = _error(value)
    if error is None:
        return None
    if isinstance(error, Mapping):
        parts = [str(error[key]) for key in ("code", "type", "message") if error.get(key) is not None]
        if parts:
            return " ".join(parts)
    return str(error)


def complained(complaint: str) -> Mapping[str, Any]:
    """Find the error in a refusal's body; an empty one where there is none, or the body was cut."""
    try:
        return mapping(mapping(parsed(complaint)).get("error"))
    except ValueError:
        return {}


def _error(value: object) -> object:
    if not isinstance(value, Mapping):
        return None
    # Older vLLM sends the error itself, marked as an object of that name.
    found = value if value.get("object") == "error" else value.get("error")
    # Some send the key with every chunk: `"error": {}` or "" is no error.
    return found or None


def _status(error: object, text: str) -> int | None:
    found = next((status for status in map(_named, _parts(error)) if status is not None), None)
    # Who says 500 and that it is overloaded means the second.
    if found is None or found == 500:
        said = text.lower()
        return next((status for words, status in _MESSAGES if words in said), found)
    return found


def _parts(error: object) -> list[object]:
    return [error.get(place) for place in _PLACES] if isinstance(error, Mapping) else []


def _named(part: object) -> int | None:
    """Read a status from its number or its word."""
    if isinstance(part, str):
        if part.isascii() and part.isdigit() and len(part) == 3:
            part = int(part)
        else:
            return _STATUSES.get(part.lower())
    return part if isinstance(part, int) and not isinstance(part, bool) and 400 <= part <= 599 else None
