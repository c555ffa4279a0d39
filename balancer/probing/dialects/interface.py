"""What a dialect must know, and what one event of its streams comes to.

A dialect writes requests and reads events. It does no I/O and keeps no state between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from balancer.config.secret import Secret
from balancer.core.model import Endpoint
from balancer.core.waits import wait

PROMPT: Final = "Reply with the word OK."

TOKENS_MAX: Final = 16
"""Enough for two words and little enough to cost nothing: 1 is refused by reasoning models, and several
providers accept no less than 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One event of a stream. Empty and `None` mean that the event does not say.

    `text` is anything that the model produced, its thinking included: both show that it works. `finish_reason`
    is in OpenAI's words. `end` is true for the event after which nothing comes.
    """

    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    end: bool = False


class DialectRules(Protocol):
    """One way to speak to a provider."""

    @property
    def models_path(self) -> str:
        """Where models are listed, below `base_url`."""

    @property
    def completion_path(self) -> str:
        """Where completions are asked for, below `base_url`."""

    def headers(self, credential: Secret | None) -> Mapping[str, str]:
        """Say who we are, and which version of the dialect this is."""

    def completion(self, endpoint: Endpoint) -> dict[str, Any]:
        """Make the body of a short streamed completion."""

    def amended(self, body: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
        """Change a refused body in the way that the refusal asks for; `None` when it asks for nothing known.

        Shape: each change can be made once, so that asking again ends.
        """

    def delta(self, data: str) -> Delta:
        """Read one event of the stream. Raises: ValueError when it is not one of this dialect."""

    def used_up(self, headers: Mapping[str, str], *, wall: float) -> float | None:
        """Seconds until a quota of which nothing is left is whole again; `None` where something is, or nobody says.

        Shape: `headers` by lower-case name; `wall` is the present Unix time.
        """

    def of_account(self, complaint: str) -> bool:
        """Whether a refusal's body says that it is of the whole account, and so of every model there."""


def parsed(data: str | bytes) -> Any:
    """Decode JSON. Raises: ValueError, also where it is nested too deeply to be meant."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise ValueError(f"not JSON: {problem}") from None


def error_in(value: object) -> str | None:
    """Find the error that an answer's object carries, as text; `None` when it carries none."""
    if not isinstance(value, Mapping) or value.get("error") is None:
        return None
    error = value["error"]
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


def used_up(headers: Mapping[str, str], names: Iterable[tuple[str, str]], *, wall: float) -> float | None:
    """Give the longest wait among the limits of which nothing is left, each named by two headers: rest and reset.

    Shape: a reset may have every form that `core.waits` reads; a limit that says only one of the two is left out.
    """
    waits = [wait(headers.get(reset), wall=wall) for rest, reset in names if headers.get(rest) == "0"]
    return max([each for each in waits if each is not None], default=None)


def count(value: object) -> int | None:
    """Take a number of tokens, or `None` for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def mapping(value: object) -> Mapping[str, Any]:
    """Take an object, or an empty one for anything else: servers leave out what they do not have."""
    return value if isinstance(value, Mapping) else {}
