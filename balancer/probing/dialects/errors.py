"""Errors as providers write them into bodies and streams, and the HTTP status that each would have had.

Theory of operation: an error that comes after a 200 lost its status, but mostly names it: by number (OpenRouter,
Google, vLLM), or by a word whose status its provider documents. Overload and rate limits are also told by their
message alone. Knowing the status, `core.outcome.classify` decides as it does for every other answer.

What this module does not know: what a status means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
    return found if found else None


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
