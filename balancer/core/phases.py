"""The phases of an endpoint's health, and every way from one to another.

Theory of operation: `TRANSITIONS` is the whole table; what is not in it cannot happen, but for one exception: a
trip on a word that is no longer believed is undone, and the phase is what it was before (`Health.absolve`). Beside
the phases stand the states that operators see (`row`): a closed endpoint may be healthy, degraded or unverified,
and any may be throttled.

What this module does not know: when a transition is due (`health`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

Phase = Literal["closed", "ejected", "half_open", "recovering"]
Event = Literal["trip", "lease", "pass", "fail", "lapse", "ramped"]

Cause = Literal[
    "consecutive_failures",
    "failure_share",
    "peers_outlier",
    "slow_calls",
    "overdue",
    "provider_failure",
    "failed_probes",
    "failed_trial",
]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
"""Why endpoints are ejected: the closed set behind the label `reason` of the ejection counter."""

TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    ("closed", "trip"): "ejected",
    ("recovering", "trip"): "ejected",
    ("recovering", "ramped"): "closed",
    ("ejected", "lease"): "half_open",
    ("ejected", "pass"): "recovering",  # a probe that does real work, after the hold
    ("ejected", "fail"): "ejected",  # the same, failed: a longer hold
    ("half_open", "pass"): "recovering",
    ("half_open", "fail"): "ejected",
    ("half_open", "lapse"): "ejected",  # the report never came, or said nothing about the provider
}


@dataclass(frozen=True, slots=True)
class Lease:
    """Permission for one request to be the trial. `due` is false for one that panic sent before its time."""

    decision: str
    expires: float
    due: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a call did: the log event, the reason in words, and for an ejection its cause."""

    event: str
    reason: str
    cause: Cause | None = None
