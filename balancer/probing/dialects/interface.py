"""What a dialect must know, and what an answer in it comes to: one event of a stream, or a whole one.

A dialect writes requests and reads answers. It does no I/O and keeps no state between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from balancer.config.secret import Secret
from balancer.core.model import Endpoint
from balancer.core.request import TOKENS_MAX as COUNT_MAX
from balancer.core.waits import wait

PROMPT: Final = "Reply with the word OK."

TOKENS_MAX: Final = 16
"""Enough for two words and little enough to cost nothing: 1 is refused by reasoning models, and several
providers accept no less than 16."""

TOOL: Final = "book_table"
TOOL_PROMPT: Final = "Book a table for 4 people on saturday."
TOOL_PURPOSE: Final = "Book a table in the restaurant."
TOOL_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "enum": ["friday", "saturday", "sunday"]},
        "guests": {"type": "integer", "minimum": 1, "maximum": 8},
    },
    "required": ["day", "guests"],
    "additionalProperties": False,
}
"""What a forced call must fill in: closed, so that a misfit can be told, and small, so that it costs little."""

FIRM_PROMPT: Final = f"{TOOL_PROMPT} You must call the tool {TOOL} now; do not answer in words."
"""For models that cannot be forced to call a tool."""

TOOL_TOKENS_MAX: Final = 512
"""A call of this size takes some 20 to 40 tokens; a model that thinks first takes hundreds, and nobody knows all of
them. A limit costs nothing that is not used, and a call that it cut would be our own fault."""

MORE_TOKENS: Final = 2048
"""The second try where a limit was too low: said in a 400, or seen in an answer that used it up. OpenAI advises to
reserve more, for real questions."""

TOO_FEW: Final = re.compile(r"limit was reached|higher max|at least|minimum|below|greater than|>=", re.IGNORECASE)
"""How a refusal calls a limit too low. OpenAI: "Could not finish the message because max_tokens or model output
limit was reached. Please try again with higher max_tokens."; others: "max_tokens must be at least 32", ">= 20"."""

FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""The words by which an answer may end, in OpenAI's spelling. Source: OpenAI, "The chat completion object"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error inside an answer. `status` is the HTTP status that it would have had, `None` where nothing says."""

    text: str
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an answer says about itself. Empty and `None` mean that it does not say.

    `model` is by whom it claims to be. `finish_reason` is in OpenAI's words.
    """

    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta(Said):
    """One event of a stream.

    `text` is anything that the model produced, its thinking included: both show that it works. `hollow` is true for
    an event that lists what was produced, and lists nothing. `end` is true for the event after which nothing comes.
    """

    text: str = ""
    hollow: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool: its arguments as they were decoded, or else what is `broken` about them."""

    name: str
    arguments: object = None
    broken: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Said):
    """A whole answer that was not streamed, and the tools that it calls.

    `freed` is true where it shows that the model was not forced to call one, whatever was asked.
    """

    calls: tuple[Call, ...] = ()
    freed: bool = False


class DialectRules(Protocol):
    """One way to speak to a provider."""

    @property
    def models_path(self) -> str:
        """Where models are listed, below `base_url`."""

    @property
    def completion_path(self) -> str:
        """Where completions are asked for, below `base_url`."""

    def headers(self, credential: Secret | None, endpoint: Endpoint) -> Mapping[str, str]:
        """Say who we are, and which version of the dialect this is."""

    def completion(self, endpoint: Endpoint) -> dict[str, Any]:
        """Make the body of a short streamed completion."""

    def tools(self, endpoint: Endpoint) -> dict[str, Any]:
        """Make the body of a request, not streamed, whose answer must call `TOOL`."""

    def amended(self, body: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
        """Change a refused body in the way that the refusal asks for; `None` when it asks for nothing known."""

    def roomier(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give a body whose answer was cut by its own limit more room; `None` where it has all that we give."""

    def forces(self, body: Mapping[str, Any]) -> bool:
        """Whether a body leaves the model no choice but to call `TOOL`."""

    def delta(self, data: str) -> Delta:
        """Read one event of the stream. Raises: ValueError when it is not one of this dialect."""

    def reply(self, body: bytes) -> Reply:
        """Read a whole answer. Raises: ValueError when it is not one of this dialect."""

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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(f"not JSON: {problem}") from None


def used_up(headers: Mapping[str, str], names: Iterable[tuple[str, str]], *, wall: float) -> float | None:
    """Give the longest wait among the limits of which nothing is left, each named by two headers: rest and reset.

    Shape: a reset may have every form that `core.waits` reads; a limit that says only one of the two is left out.
    """
    waits = [wait(headers.get(reset), wall=wall) for rest, reset in names if headers.get(rest) == "0"]
    return max([each for each in waits if each is not None], default=None)


def count(usage: Mapping[str, Any], key: str) -> int | None:
    """Take a number of tokens; `None` where there is none. Raises: ValueError for what nobody can have counted."""
    value = usage.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 12.0: some languages have no other numbers
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
        raise ValueError(f"{key} is {str(value)!r}, and no number of tokens")
    return value


def text_of(value: object) -> str | None:
    """Take a text, or `None` for anything else and for an empty one."""
    return value if isinstance(value, str) and value else None


def mapping(value: object) -> Mapping[str, Any]:
    """Take an object, or an empty one for anything else: servers leave out what they do not have."""
    return value if isinstance(value, Mapping) else {}
