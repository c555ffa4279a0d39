"""Why a decision is what it is: OpenRouter's `openrouter_metadata`, and what we know beyond it.

Theory of operation: the upper half has OpenRouter's names and meanings, so that who reads theirs reads ours; an
operator reads `understood` (what was made of the question) and `considered` (every endpoint, with the filter, state
or score that put it where it is). A refusal is explained in the same shape, with nothing selected.

What this module does not know: how anything was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from balancer.core.model import Catalog, Considered, Decision, Ranking
from balancer.core.request import Request
from balancer.http.question import told


class Available(Struct, kw_only=True):
    """An endpoint that could be chosen: the provider's display name, and its own name of the model."""

    provider: str
    model: str
    selected: bool


class Endpoints(Struct, kw_only=True):
    """How many endpoints the asked models have, and those that could be chosen."""

    total: int
    available: list[Available]


class Explain(Struct, kw_only=True):
    """What was asked, what was understood, and why each endpoint stands where it does.

    `requested` is the model as it was asked for, `attempt` counts from 1 and grows with `exclude`, `strategy` is
    null where nothing was ranked, and `understood` holds what differs from the defaults.
    """

    requested: str
    strategy: Ranking | None
    region: str | None
    summary: str
    attempt: int
    is_byok: bool
    endpoints: Endpoints
    understood: dict[str, Any]
    considered: tuple[Considered, ...]


def explained(
    request: Request, considered: tuple[Considered, ...], catalog: Catalog, decision: Decision | None = None
) -> Explain:
    """Explain a decision, or a refusal where there is none."""
    chosen = None if decision is None else decision.selected.id
    available = [
        Available(
            provider=catalog.endpoints[line.id].provider_name,
            model=catalog.endpoints[line.id].upstream_model,
            selected=line.id == chosen,
        )
        for line in considered
        if not line.excluded_by
    ]
    return Explain(
        requested=asked_models(request)[0],
        strategy=None if decision is None else decision.strategy,
        region=request.region,
        summary=_summary(available),
        attempt=1 + len(request.exclude),
        is_byok=True,  # every key here is the operator's own
        endpoints=Endpoints(total=len(considered), available=available),
        understood=told(request),
        considered=considered,
    )


def asked_models(request: Request) -> tuple[str, ...]:
    """Every model that was asked for, as it was written, in the order of the asking."""
    first = (request.model,) if request.model else ()
    return tuple(dict.fromkeys((*first, *request.models)))


def _summary(available: Sequence[Available]) -> str:
    selected = "".join(f", selected={each.provider}" for each in available if each.selected)
    return f"available={len(available)}{selected}"
