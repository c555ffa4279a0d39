"""The retry budget: how much of the load are we making ourselves?

Theory of operation: of one model's last minute, three things are counted in one exact ring: decisions for a first
try, retries, and reports of tries. A retry shows itself in two ways: a request that names what was already tried
(`exclude`), and a report of a try that was not its decision's first choice, by a proxy that walked our fallbacks
without asking again. To tell the second without a memory of decisions, a decision's id ends in the mark of the
endpoint it selected. The budget is exhausted while

    retries > max(floor, ratio × requests)

where a retry is a request too: the share lies in 0..1, and 20 % means at most a quarter more load than the callers
made. Requests are decisions and unasked retries, or the reports where those are more (proxies that use one
decision's list for all that they send within `valid_for`).

Why a budget and not a number of tries: three tries each are three times the load exactly when every provider fails,
which is when nobody can bear it; and one caller in an otherwise healthy minute may well try three times (Finagle,
`RetryBudget`; tower, `retry/budget`). Here it is told, not enforced: the proxy holds the request and decides.

What this module does not know: retries of a proxy that neither reports nor sends `exclude`; a second try at the
same endpoint under the same decision, which looks like the first; a client's own retries, which look like new
requests. Where proxies that never report and proxies that reuse a list share a model, requests are the larger of
the two and not their sum, so the share is at most twice what it should be. Two endpoints share a mark with a chance
of 1 in 65,536, and a retry from one to the other is then not seen.
"""

from __future__ import annotations

from re import compile as pattern
from typing import Final
from zlib import crc32

from balancer.core.model import RetryBudget, RetryPolicy
from balancer.core.window import FAILURE, RATE_LIMITED, SUCCESS, Ring

SPAN: Final = 60.0  # s; long enough that a quiet minute has some, short enough that an outage shows while it lasts
MARK_BITS: Final = 16  # of a decision's 64; 48 random ones are left to tell decisions apart

# A ring counts in three columns, and does not know what they mean.
_FIRST: Final = SUCCESS
_RETRY: Final = FAILURE
_REPORT: Final = RATE_LIMITED

_ALL_BITS: Final = 2**64 - 1
_MARK: Final = 2**MARK_BITS - 1
_RANDOM: Final = _ALL_BITS ^ _MARK
_OURS: Final = pattern(r"dec_[0-9a-f]{16}")
_CALM: Final = RetryBudget(share=0.0, exhausted=False)


class Retries:
    """One model's last minute of requests, retries among them."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring = Ring(SPAN)

    def asked(self, now: float, *, retry: bool) -> None:
        """Count a decision; it is for a retry where the request named what was already tried."""
        self._ring.record(now, _RETRY if retry else _FIRST)

    def retried(self, now: float) -> None:
        """Count a report of a try at a fallback, which nobody asked us for (`is_first` says no)."""
        self._ring.record(now, _RETRY)

    def reported(self, now: float) -> None:
        """Count a report of any try, first or not; a fallback's is counted by `retried` as well."""
        self._ring.record(now, _REPORT)

    def standing(self, now: float, policy: RetryPolicy) -> RetryBudget:
        """How the budget stands, changing nothing."""
        ring = self._ring
        first, retries, reports = ring.totals if ring.begin <= now < ring.until else ring.counts(now)
        if not retries:
            return _CALM
        requests = first + retries
        if reports > requests:
            requests = reports
        return RetryBudget(
            share=retries / requests, exhausted=retries > policy.floor and retries > policy.ratio * requests
        )


def mark(endpoint: str) -> int:
    """16 bits of an endpoint's id, the same in every process and version."""
    return crc32(endpoint.encode("utf-8", "surrogatepass")) & _MARK


def decision_id(bits: int, first: int) -> str:
    """Name a decision: 48 of 64 random `bits`, and the mark of the endpoint that it tries `first`."""
    return f"dec_{bits & _RANDOM | first:016x}"


def first_mark(decision: str | None) -> int:
    """The mark of the endpoint that a decision tried first; -1 for an id that is not of our making."""
    return -1 if decision is None or _OURS.fullmatch(decision) is None else int(decision[-4:], 16)


def is_first(decision: str | None, endpoint: str) -> bool:
    """Whether a report of this endpoint is of its decision's first choice.

    True for no decision and for an id that is not of our making: what is unknown is no retry.
    """
    return first_mark(decision) in (-1, mark(endpoint))
