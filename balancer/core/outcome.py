"""What one finished call was: classified once, here, and never again.

Theory of operation: a probe or a report arrives as facts (HTTP status, transport error, finish reason,
headers). `classify` turns them into exactly one `Kind`; everything after it (windows, health, holds,
metrics, README table) looks only at the kind. `COUNTS` says what a kind does to the evidence:

- `success` and the failures move `error_ratio`, streaks and the estimate;
- `rate_limited` is the provider shedding load: half a failed try in the estimate and a hold, nothing else;
- the rest counts for nothing.

`Outcome.holds` says whether the endpoint is to be left alone after it, and `account` whether all that share its
credential are: an empty purse is the same for each, and finding it out one after another loses a request at each.

What this module does not know: which endpoint it was, and wall time. An HTTP date in `Retry-After` needs
the caller's wall clock, so `retry_after` takes it as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from balancer.core.waits import wait

Kind = Literal[
    "success",
    "server_error",
    "timeout",
    "connect",
    "tls",
    "dns",
    "reset",
    "stream",
    "empty",
    "malformed",
    "overloaded",
    "rate_limited",
    "refused",
    "caller_error",
    "cancelled",
    "probe_invalid",
    "local",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

ErrorWord = Literal["timeout", "connect", "tls", "dns", "reset", "stream", "empty", "malformed", "cancelled"]
ERROR_WORDS: Final[tuple[ErrorWord, ...]] = get_args(ErrorWord)

Count = Literal["success", "failure", "rate_limited", "none"]

COUNTS: Final[Mapping[Kind, Count]] = {
    "success": "success",
    "server_error": "failure",
    "timeout": "failure",
    "connect": "failure",
    "tls": "failure",
    "dns": "failure",
    "reset": "failure",
    "stream": "failure",
    "empty": "failure",
    "malformed": "failure",
    "overloaded": "failure",
    "refused": "failure",
    "rate_limited": "rate_limited",
    "caller_error": "none",
    "cancelled": "none",
    "probe_invalid": "none",
    "local": "none",
}

# Source: contract §5, after OpenRouter's provider integration page (what counts against a provider).
_REFUSED: Final = frozenset({401, 402, 403, 404, 405, 410})
_SERVER_4XX: Final = frozenset({408, 421, 423, 424, 425, 426, 498})

# How answers end that failed after their 200. Sources: OpenRouter ("error"), DeepSeek ("interrupted due to
# insufficient resource of the inference system"), vLLM and SGLang ("abort": the engine dropped it), Z.ai ("model
# inference exception", and its name for a filter).
_FINISHES: Final[Mapping[str | None, Kind]] = {
    "error": "server_error",
    "abort": "server_error",
    "network_error": "server_error",
    "insufficient_system_resource": "overloaded",
    "content_filter": "caller_error",
    "sensitive": "caller_error",
}

# By name, with the unit of a bare number. Source: OpenAI and Azure send the first, azure-core reads the first two.
_RETRY_AFTER: Final = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0))

# Whoever names a time is left alone until then: an overload, an empty purse, and a success that was the last of its
# quota. A plain 500 with a Retry-After promises nothing.
_HINTED: Final = frozenset[Kind]({"overloaded", "refused", "success"})


class Outcome(Struct, frozen=True, kw_only=True):
    """One finished probe or request.

    `shallow` is true for a probe that did no real work (listed models, opened a socket): it can eject an
    endpoint, and cannot readmit one. `cached_tokens` are those of the prompt that the provider had cached;
    `tool_call_errors` counts broken tool calls, and is `None` for an answer that called no tool.
    `retry_after` is how long the provider asks to be left alone; of a success, for how long its quota is used up.
    `account`: that was said of the whole account or credential, and not of this endpoint alone.
    Units: seconds; tokens are counts. `None` is unknown.
    """

    kind: Kind
    latency: float | None = None
    ttft: float | None = None
    status: int | None = None
    retry_after: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    tool_call_errors: int | None = None
    detail: str = ""
    shallow: bool = False
    account: bool = False

    @property
    def holds(self) -> bool:
        """Whether the endpoint is to be left alone for a while."""
        return self.kind == "rate_limited" or (self.retry_after is not None and self.kind in _HINTED)


def classify(
    *,
    status: int | None = None,
    error: ErrorWord | None = None,
    finish_reason: str | None = None,
    completion_tokens: int | None = None,
    source: Literal["probe", "report"] = "report",
) -> Kind:
    """Name the one outcome of a call.

    Shape: exactly one of `status` (100..599) and `error`. Raises: ValueError when both, neither, or a status
    that HTTP does not have.
    Source: "zero tokens and no finish reason" is OpenRouter's definition of an empty answer.
    """
    if (status is None) == (error is None):
        raise ValueError("exactly one of status and error is needed")
    if error is not None:
        return error
    assert status is not None
    if not 100 <= status <= 599:
        raise ValueError(f"status {status} is not an HTTP status; use 100 to 599")
    if 200 <= status <= 299:
        if finish_reason in _FINISHES:
            return _FINISHES[finish_reason]
        if completion_tokens == 0 and not finish_reason:
            return "empty"
        return "success"
    if status == 429:
        return "rate_limited"
    if status in (503, 529):
        return "overloaded"
    if status >= 500 or status < 400 or status in _SERVER_4XX:
        return "server_error"
    if status in _REFUSED:
        return "refused"
    if status == 499:
        return "cancelled"
    if source == "probe" and status in (400, 422):
        return "probe_invalid"
    # Every other 4xx says that this one request was wrong, and nothing about the provider.
    return "caller_error"


def retry_after(headers: Mapping[str, str], *, wall: float) -> float | None:
    """Read how long the provider asks us to stay away, in seconds from `wall`; `None` when it does not say.

    Shape: `headers` by lower-case name. One in milliseconds wins over `retry-after`; each is read in every form of
    `waits.wait`, and nonsense in one leaves the word to the next.
    """
    for name, unit in _RETRY_AFTER:
        seconds = wait(headers.get(name), wall=wall, unit=unit)
        if seconds is not None:
            return seconds
    return None
