"""What the paid kinds have in common: asking a model, and judging what its answer says about itself.

Theory of operation: a refusal that names a parameter is followed (`amended`), each body is sent once, and so
asking ends. An answer that our own limit cut is asked for once more, with more room, where the budget has another
request; if nobody hears what that came to, it has cost all that it was allowed. An error inside a 200 is what it
would have been with its own status. An answer that is good otherwise is `malformed` where it is of
another model, and what clients can live with (no usage, an unknown finish reason, a model whose name leaves a
doubt) is said in the detail of the success.

What this module does not know: how an answer is read (`completion`, `tools` and the dialects).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from balancer.core.outcome import Outcome, classify
from balancer.probing.client import Answer, Client
from balancer.probing.dialects.azure import names_deployments
from balancer.probing.dialects.interface import FINISH_REASONS, MORE_TOKENS, Trouble
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import good, refusal, refused
from balancer.probing.model_name import Relation, relation

ANY_MODEL: Final = "any"  # probe.answer_model: whoever answers is right

_AMENDABLE: Final = (400, 422)  # the statuses by which servers refuse a parameter
TRIES_MAX: Final = 8  # more than a recipe has parameters, each refused in another answer


class UsedUp(Exception):
    """An answer that our own limit cut before it said what it should; `outcome` is what it comes to."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


Judge = Callable[[Client, Answer, Mapping[str, Any]], Awaitable[Outcome]]


async def asked(client: Client, body: Mapping[str, Any], judged: Judge, *, accept: str) -> Outcome:
    """Ask, following the provider's complaints about the body, and have the answer `judged`. Raises: Failure.

    Shape: `judged` may raise `UsedUp`: then there is one more try with more room, in half of the time that is left,
    and an end of that time is no verdict.
    """
    sent = [body]
    try:
        return await _followed(client, sent, judged, accept)
    except UsedUp as cut:
        more = client.dialect.roomier(sent[-1])
        if more is None or not client.another():
            return cut.outcome
        client.trace.say(f"* {cut}; trying once more with more room")
        client.discarded.append(cut.outcome)
        before = client.sent
        try:
            async with asyncio.timeout(client.spare(client.settings.timeout)):
                return await _followed(client, [*sent, more], judged, accept)
        except UsedUp as again:
            return again.outcome
        except (Failure, TimeoutError) as problem:
            if client.sent > before:  # the provider may be at it still, and will want to be paid
                client.discarded.append(replace(cut.outcome, completion_tokens=MORE_TOKENS))
            if isinstance(problem, Failure):
                raise
            client.discarded.remove(cut.outcome)  # it is the one that is told
            return cut.outcome


async def _followed(client: Client, sent: list[Mapping[str, Any]], judged: Judge, accept: str) -> Outcome:
    """Ask with the last of the bodies, and on with what its refusals ask for. Raises: Failure, UsedUp."""
    dialect = client.dialect
    url = client.below(dialect.completion_path)
    headers = {"content-type": "application/json", "accept": accept, **client.identity}
    while True:
        async with client.request("POST", url, headers=headers, body=msgspec.json.encode(sent[-1])) as answer:
            cut = None
            if good(answer.status):
                try:
                    return await judged(client, answer, sent[-1])
                except UsedUp as found:
                    cut = found
            else:
                complaint = await answer.beginning()
                amended = dialect.amended(sent[-1], complaint) if answer.status in _AMENDABLE else None
                if amended is None or amended in sent or len(sent) >= TRIES_MAX:
                    return refusal(client, answer, complaint)
                client.trace.say(f"< {complaint}")
                client.sent -= 1  # nobody asks money for a refusal
                sent.append(amended)
        if cut is not None:  # raised only here, so that its connection may be kept
            raise cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What a whole answer said about itself, whichever way it came. Units: seconds from the request's sending."""

    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency: float | None
    ttft: float | None = None


def judged_whole(client: Client, answer: Answer, whole: Whole) -> Outcome:
    """Judge everything about a whole answer but what it is about."""
    kind = classify(
        status=answer.status,
        finish_reason=whole.finish_reason,
        completion_tokens=whole.completion_tokens,
        source="probe",
    )
    detail = f"finish reason {whole.finish_reason}"
    if kind == "success":
        answerer, said = _answerer(client, whole.model)
        kind = "malformed" if answerer == "other" else kind
        detail = said if answerer == "other" else ", ".join(filter(None, (said, _remarks(whole))))
    return Outcome(
        kind=kind,
        status=answer.status,
        latency=whole.latency,
        ttft=whole.ttft,
        retry_after=client.dialect.used_up(answer.headers, wall=client.wall()) if kind == "success" else None,
        prompt_tokens=whole.prompt_tokens,
        completion_tokens=whole.completion_tokens,
        detail=detail,
    )


def troubled(client: Client, answer: Answer, trouble: Trouble, text: str, *, where: str) -> Outcome:
    """Make the outcome of an error inside a 200, `text` being what carried it."""
    status = 500 if trouble.status is None else trouble.status
    return refused(client, answer, status, text, f"{where}: {trouble.text}")


def _remarks(whole: Whole) -> str:
    """Say what is odd about a good answer."""
    remarks = []
    if whole.finish_reason is None:
        remarks.append("no finish reason")
    elif whole.finish_reason not in FINISH_REASONS:
        remarks.append(f"unknown finish reason {whole.finish_reason}")
    if whole.prompt_tokens is None or whole.completion_tokens is None:
        remarks.append("no usage")
    return ", ".join(remarks)


def _answerer(client: Client, found: str | None) -> tuple[Relation, str]:
    """Say how the model that answered is related to the one that was asked for, and what to tell of it.

    Shape: "same" where nobody can know; of a model that the operator named, what is in doubt is another.
    """
    endpoint, expected = client.endpoint, client.settings.answer_model
    if found is None or expected == ANY_MODEL:
        return "same", ""
    if expected is None and names_deployments(endpoint.base_url):
        return "same", ""
    names = [endpoint.upstream_model, endpoint.model] if expected is None else [expected]
    relations = {relation(name, found) for name in names}
    if "same" in relations:
        return "same", ""
    said = f"the answer is of model {found}, and {names[0]} was asked for"
    if "doubtful" in relations and expected is None:
        return "doubtful", f"{said}, which may be the same"
    return "other", said
