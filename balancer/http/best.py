"""/v1/best-provider: ask the table, and say its answer in a body and in headers.

What this module does not know: how the table decides, and how a question is read.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from balancer.core.model import Catalog, Decision, NoEndpoint, Ranking, Refusal, RetryBudget, Selected
from balancer.http.answers import Availability, Refused, answer
from balancer.http.api import Ask
from balancer.http.body import read
from balancer.http.chat import chat
from balancer.http.explain import Explain, asked_models, explained
from balancer.http.hands import Hands
from balancer.http.limits import CHAT_BODY_MAX, Limits
from balancer.http.question import Question, question, refuse_with
from balancer.http.words import header

SESSION_HEADER: Final = "X-Session-Id"  # OpenRouter's
HEADER_MAX: Final = 2048  # characters of a list in a header; nginx reads an upstream's header into 4 KiB

STATUS: Final[dict[Refusal, int]] = {
    "model_not_found": 404,
    "constraint_filtered": 404,
    "privacy_restricted": 404,
    "unavailable": 503,
    "capacity_exhausted": 429,
}


class Answer(Struct, kw_only=True):
    """A decision. Units: seconds. `sticky`: the session's own provider was chosen, whatever the strategy says."""

    id: str
    model: str
    strategy: Ranking
    selected: Selected
    fallbacks: tuple[Selected, ...]
    panic: bool
    trial: bool
    sticky: bool
    retry_budget: RetryBudget
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
        asked = question(ask.query, _session(ask.request))
        return self._decide(asked, dry=ask.request.method == "HEAD")

    async def post(self, ask: Ask) -> web.StreamResponse:
        """Answer for a chat-completions body."""
        line = refuse_with(ask.query)
        body = await read(ask.request, size_max=CHAT_BODY_MAX, patience=self._limits.body)
        try:
            asked = chat(body, _session(ask.request))
        except Refused as refusal:
            refusal.line = refusal.status if line is None else line
            raise
        return self._decide(replace(asked, refuse_with=line), dry=False)

    def _decide(self, asked: Question, *, dry: bool) -> web.Response:
        hands = self._hands
        catalog = hands.balancer.catalog
        began = hands.clock()
        try:
            decision = hands.balancer.best(asked.request, now=began, explain=asked.explain, dry=dry)
        except NoEndpoint as refusal:
            hands.decided(hands.clock() - began)
            self._tell(asked, dry=dry)
            raise _refused(refusal, asked, catalog) from None
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
                sticky=decision.sticky,
                retry_budget=decision.retry_budget,
                config_generation=hands.balancer.generation,
                valid_for=decision.valid_for,
                evidence_age=None if decision.evidence_age is None else round(decision.evidence_age, 3),
                explain=(
                    explained(asked.request, decision.considered, catalog, decision) if asked.explain else UNSET
                ),
            ),
            headers=_headers(decision),
        )

    def _tell(self, asked: Question, *, dry: bool) -> None:
        if not (dry or asked.explain):
            self._hands.changed()


def _session(request: web.BaseRequest) -> str | None:
    """The session's key from its header; bytes that are no text stand for themselves, as any key does."""
    text = request.headers.get(SESSION_HEADER, "").strip()
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace") if text else None


def _headers(decision: Decision) -> dict[str, str]:
    selected = decision.selected
    headers = {
        "X-Balancer-Endpoint": header(selected.id),
        "X-Balancer-Provider": header(selected.provider),
        "X-Balancer-Model": header(selected.model),
        "X-Balancer-Base-Url": header(selected.base_url),
        "X-Balancer-Host": _host(selected.base_url),
        "X-Balancer-Fallbacks": _joined([each.id for each in decision.fallbacks]),
        "X-Balancer-Decision": decision.id,
    }
    if decision.retry_budget.exhausted:
        headers["X-Balancer-Retry-Budget"] = "exhausted"
    return headers


def _joined(names: list[str]) -> str:
    text = header(",".join(names))
    return text if len(text) <= HEADER_MAX else text[:HEADER_MAX].rpartition(",")[0]


@lru_cache(maxsize=4096)
def _host(base_url: str) -> str:
    return header(urlsplit(base_url).netloc.rpartition("@")[2])


def _refused(refusal: NoEndpoint, asked: Question, catalog: Catalog) -> Refused:
    metadata: dict[str, Any] = {}
    if asked.explain:
        metadata["explain"] = explained(asked.request, refusal.considered, catalog)
    wait = refusal.retry_after
    return Refused(
        STATUS[refusal.code],
        refusal.message,
        metadata=metadata,
        availability=Availability(
            code=refusal.code,
            excluded_by=refusal.excluded_by,
            constraint=refusal.constraint,
            requested_models=asked_models(asked.request),
            retryable=refusal.retryable,
            retry_after=wait,
            close_models=refusal.near,
        ),
        headers=None if wait is None else {"Retry-After": str(max(1, ceil(wait)))},
        line=asked.refuse_with,
    )
