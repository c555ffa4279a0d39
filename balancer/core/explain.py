"""A line for every endpoint of the asked models: why it stands where it does.

Theory of operation: the same lineup and the same strategies as for a decision, asked for their figures instead of a
draw. A share is the chance to be first over every way in which slow starts may be drawn. Nothing here changes the
table or its random state.

What this module does not know: how the lines are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Final

from balancer.core.lineup import Asked, Lineup
from balancer.core.model import Considered, HealthPolicy
from balancer.core.pool import Entry, Group
from balancer.core.request import Request
from balancer.core.routing import Router
from balancer.core.row import UNUSABLE
from balancer.core.standing import standing
from balancer.core.strategies import Figures, Need

RAMPS_MAX: Final = 6  # recovering endpoints whose chances are enumerated; 64 combinations


def reasons(request: Request, asked: Sequence[Asked]) -> dict[str, tuple[str, ...]]:
    """Each endpoint that a filter rules out, with the names of all that do."""
    return {
        key: names
        for each in asked
        for key, names in each.pool.reasons(request, each.tiers, soft=each.soft).items()
    }


def considered(
    router: Router,
    request: Request,
    asked: Sequence[Asked],
    order: Sequence[Entry],
    *,
    panic: bool,
    now: float,
    policy: HealthPolicy,
) -> tuple[Considered, ...]:
    """Every endpoint of the asked models once: first those in `order`, then the others as configured."""
    need = router.lineups.need(request, asked)
    lineup = router.lineups.lineup(request, asked, need, now=now)
    groups = lineup.groups
    if panic:
        groups = [Group((), router.lineups.strategy_of(request, asked[0]), list(order))] if order else []
        home, need.explore = None, False
        shares = {entry.endpoint.id: 0.0 if place else 1.0 for place, entry in enumerate(order)}
    else:
        shares = _shares(router, request, asked, need, now=now, policy=policy)
        home = _home(router, request, asked, groups, now)
        need.explore = need.explore and home is None
    figures = _figures(router, groups, need, now)
    filtered = reasons(request, asked)
    lines: list[Considered] = []
    for entry in [entry for each in asked for entry in each.pool.entries]:
        key = entry.endpoint.id
        story = standing(entry.row, now, policy).told(now)
        found = figures.get(key)
        if found is not None and key not in filtered:
            parts = ["the session's own" if entry is home else "", found.why, _behind(groups, entry), story]
            lines.append(
                Considered(
                    id=key,
                    state=entry.state,
                    score=found.score,
                    weight=found.weight,
                    share=shares.get(key, 0.0),
                    excluded_by=(),
                    why="; ".join(part for part in parts if part),
                )
            )
            continue
        excluded, why = _excluded(key, entry, filtered, lineup, story)
        lines.append(
            Considered(id=key, state=entry.state, score=None, weight=None, share=0.0, excluded_by=excluded, why=why)
        )
    places = {entry.endpoint.id: place for place, entry in enumerate(order)}
    lines.sort(key=lambda line: places.get(line.id, len(places)))
    return tuple(lines)


def _excluded(
    key: str, entry: Entry, filtered: Mapping[str, tuple[str, ...]], lineup: Lineup, story: str
) -> tuple[tuple[str, ...], str]:
    if key in filtered:
        return filtered[key], f"filtered: {', '.join(filtered[key])}"
    if key in lineup.held and entry.state not in UNUSABLE:
        limits = entry.endpoint.limits
        assert limits is not None
        told = [
            f"{value} {name}" for name, value in (("rpm", limits.rpm), ("tpm", limits.tpm)) if value is not None
        ]
        return ("limits",), f"at the operator's limit of {' and '.join(told)}; room in {lineup.held[key]:.0f} s"
    return (entry.state,), story


def _behind(groups: Sequence[Group], entry: Entry) -> str:
    """What put an endpoint behind the first group, outermost first."""
    own = next(group.key for group in groups if entry in group.entries)
    if not own:  # panic puts all into one group
        return ""
    first = groups[0].key
    words = (
        "misses a preferred percentile: last",
        "a fallback model",
        "later in order",
        "not of the asked tier",
        "at its learned ceiling",
        f"priority {entry.endpoint.priority}" if own[-1] == entry.endpoint.priority else f"falls to {own[-1]}",
    )
    return next((word for mine, best, word in zip(own, first, words, strict=True) if mine > best), "")


def _home(
    router: Router, request: Request, asked: Sequence[Asked], groups: Sequence[Group], now: float
) -> Entry | None:
    if not groups or (request.session_id is None and request.conversation is None):
        return None
    return router.home(request, asked, groups, now)


def _leads(drawn: Mapping[str, bool], entry: Entry) -> bool:
    return drawn.get(entry.endpoint.id, True)


def _figures(router: Router, groups: Sequence[Group], need: Need, now: float) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    before: list[Entry] = []
    for group in groups:
        router.fill(group, now)
        lines = group.strategy.figures(group.entries, need, failed=before)
        found |= {entry.endpoint.id: line for entry, line in zip(group.entries, lines, strict=True)}
        before += group.entries
    return found


def _shares(
    router: Router,
    request: Request,
    asked: Sequence[Asked],
    need: Need,
    *,
    now: float,
    policy: HealthPolicy,
) -> dict[str, float]:
    """Each endpoint's chance to be first."""
    turns = router.lineups.passing(request, asked)
    ramps = [entry for _, entry in turns if entry.row.admission(policy) < 1][:RAMPS_MAX]
    shares: dict[str, float] = {}
    for drawn in product((True, False), repeat=len(ramps)):
        chance = 1.0
        leads: dict[str, bool] = {}
        for entry, wins in zip(ramps, drawn, strict=True):
            share = entry.row.admission(policy)
            chance *= share if wins else 1 - share
            leads[entry.endpoint.id] = wins
        lineup = router.lineups.lineup(request, asked, need, now=now, leads=partial(_leads, leads))
        home = _home(router, request, asked, lineup.groups, now)
        if home is not None:
            shares[home.endpoint.id] = shares.get(home.endpoint.id, 0.0) + chance
            continue
        for group in lineup.groups[:1]:
            router.fill(group, now)
            lines = group.strategy.figures(group.entries, need, failed=[])
            for entry, line in zip(group.entries, lines, strict=True):
                shares[entry.endpoint.id] = shares.get(entry.endpoint.id, 0.0) + chance * line.share
    return shares
