"""/v1/best-provider: ask the table, and say its answer in a body and in headers.

What this module does not know: how the table decides, and how a question is read.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from balancer.core.model import Considered, Decision, NoEndpoint, Refusal, Request, Selected, StrategyName
from balancer.http.answers import Availability, Refused, answer
from balancer.http.api import Ask
from balancer.http.body import read
from balancer.http.chat import chat
from balancer.http.hands import Hands
from balancer.http.limits import CHAT_BODY_MAX, Limits
from balancer.http.question import Question, question, refuse_with, told
from balancer.http.words import header

HEADER_MAX: Final = 2048  # characters of a list in a header; nginx reads an upstream's header into 4 KiB

STATUS: Final[dict[Refusal, int]] = {
    "model_not_found": 404,
    "constraint_filtered": 404,
    "privacy_restricted": 404,
    "unavailable": 503,
    "capacity_exhausted": 429,
}


class Explain(Struct, kw_only=True):
    """What was understood, and why each endpoint of the model stands where it does."""

    requested: dict[str, Any]
    considered: tuple[Considered, ...]


class Answer(Struct, kw_only=True):
    """A decision. Units: seconds. `sticky` is always false in this version: no session is kept."""

    id: str
    model: str
    strategy: StrategyName
    selected: Selected
    fallbacks: tuple[Selected, ...]
    panic: bool
    trial: bool
    sticky: bool
    config_generation: int
    valid_for: float
    evidence_age: float | None
    explain: Explain | UnsetType = UNSET


class Best:
    """The handlers."""

    def __init__(self, hands: Hands, limits: Limits) -> None:
        self._hands = hands
        self._limits = limits

    async def get(self, ask: Ask) -> web.StreamResponse:
        """Answer a question in a query; HEAD leases nothing."""
        return self._decide(question(ask.query), dry=ask.request.method == "HEAD")

    async def post(self, ask: Ask) -> web.StreamResponse:
        """Answer for a chat-completions body."""
        line = refuse_with(ask.query)
        body = await read(ask.request, size_max=CHAT_BODY_MAX, patience=self._limits.body)
        try:
            asked = chat(body)
        except Refused as refusal:
            refusal.line = refusal.status if line is None else line
            raise
        return self._decide(Question(request=asked.request, explain=asked.explain, refuse_with=line), dry=False)

    def _decide(self, asked: Question, *, dry: bool) -> web.Response:
        hands = self._hands
        began = hands.clock()
        try:
            decision = hands.balancer.best(asked.request, now=began, explain=asked.explain, dry=dry)
        except NoEndpoint as refusal:
            hands.decided(hands.clock() - began)
            self._tell(asked, dry=dry)
            raise _refused(refusal, asked) from None
        hands.decided(hands.clock() - began)
        self._tell(asked, dry=dry)
        return answer(
            Answer(
                id=decision.id,
                model=decision.model,
                strategy=decision.strategy,
                selected=decision.selected,
                fallbacks=decision.fallbacks,
                panic=decision.panic,
                trial=decision.trial,
                sticky=False,
                config_generation=hands.balancer.generation,
                valid_for=decision.valid_for,
                evidence_age=None if decision.evidence_age is None else round(decision.evidence_age, 3),
                explain=_explained(asked.request, decision.considered) if asked.explain else UNSET,
            ),
            headers=_headers(decision),
        )

    def _tell(self, asked: Question, *, dry: bool) -> None:
        if not (dry or asked.explain):
            self._hands.changed()


def _explained(request: Request, considered: tuple[Considered, ...]) -> Explain:
    return Explain(requested=told(request), considered=considered)


def _headers(decision: Decision) -> dict[str, str]:
    selected = decision.selected
    return {
        "X-Balancer-Endpoint": header(selected.id),
        "X-Balancer-Provider": header(selected.provider),
        "X-Balancer-Model": header(selected.model),
        "X-Balancer-Base-Url": header(selected.base_url),
        "X-Balancer-Host": _host(selected.base_url),
        "X-Balancer-Fallbacks": _joined([each.id for each in decision.fallbacks]),
        "X-Balancer-Decision": decision.id,
    }


def _joined(names: list[str]) -> str:
    text = header(",".join(names))
    return text if len(text) <= HEADER_MAX else text[:HEADER_MAX].rpartition(",")[0]


@lru_cache(maxsize=4096)
def _host(base_url: str) -> str:
    return header(urlsplit(base_url).netloc.rpartition("@")[2])


def _refused(refusal: NoEndpoint, asked: Question) -> Refused:
    metadata: dict[str, Any] = {}
    if asked.explain:
        metadata["explain"] = _explained(asked.request, refusal.considered)
    wait = refusal.retry_after
    return Refused(
        STATUS[refusal.code],
        refusal.message,
        metadata=metadata,
        availability=Availability(
            code=refusal.code,
            excluded_by=refusal.excluded_by,
            requested_models=(asked.request.model,),
            retryable=refusal.code == "capacity_exhausted",
            retry_after=wait,
            close_models=refusal.near,
        ),
        headers=None if wait is None else {"Retry-After": str(max(1, ceil(wait)))},
        line=asked.refuse_with,
    )
