"""What a kind of probe is, and what all of them say about an answer that is not good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from balancer.core.outcome import Outcome, classify, retry_after
from balancer.probing.client import Answer, Client
from balancer.probing.dialects.errors import about_us, delay, regained

ABSENT: Final = frozenset({404, 405, 410})  # for a model they mean the model; for a list or a page, only that URL
# The statuses whose Retry-After is about load or money, and not about the key.
_HOLDING = frozenset({402, 429, 503, 529})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One kind of probe.

    `run` raises `Failure` for what a network or a provider can do wrong; anything else is a bug in it.
    `shallow` marks one that does no real work: it can eject an endpoint and cannot readmit one. `paid` marks one
    that costs money: it has a budget, and is left out while the evidence is fresh.
    """

    run: Callable[[Client], Awaitable[Outcome]]
    shallow: bool
    paid: bool = False


def refusal(client: Client, answer: Answer, text: str, *, optional: bool = False) -> Outcome:
    """Make the outcome of an answer whose status was not hoped for, `text` being its body's beginning.

    `optional` marks a URL that a provider need not have: that it is missing says that the probe is the wrong one.
    """
    client.trace.say(f"< {text}")
    if optional and answer.status in ABSENT:
        said = f"{client.explained(answer, text)}; nothing to probe at this URL, choose another probe.kind"
        return Outcome(kind="probe_invalid", status=answer.status, detail=said)
    return refused(client, answer, answer.status, text, client.explained(answer, text))


def refused(client: Client, answer: Answer, status: int, text: str, detail: str) -> Outcome:
    """Make the outcome of an error whose `status` need not be the answer's, `text` being what it says."""
    return Outcome(
        # Who says 400 to our key or our purse says it to every request of ours.
        kind="refused" if about_us(status, text) is not None else classify(status=status, source="probe"),
        status=answer.status,
        retry_after=hold_of(client, answer, status, text),
        account=is_of_account(client, status, text),
        detail=detail,
    )


def hold_of(client: Client, answer: Answer, status: int, text: str) -> float | None:
    """How long an answer asks us to stay away, where its `status` or its `text` is about load or money."""
    if about_us(status, text) == "money":
        return regained(text, wall=client.wall())
    if status not in _HOLDING:
        return None
    hold = retry_after(answer.headers, wall=client.wall())
    if hold is None:
        hold = delay(text, wall=client.wall())
    if hold is None and status == 429:
        return client.dialect.used_up(answer.headers, wall=client.wall())
    return hold


def is_of_account(client: Client, status: int, text: str) -> bool:
    """Whether `text` says that a refusal about load or money is of the whole account."""
    return about_us(status, text) == "money" or (status in _HOLDING and client.dialect.of_account(text))


def good(status: int) -> bool:
    return 200 <= status <= 299
