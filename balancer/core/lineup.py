"""Who may serve a request, in groups of equals.

Theory of operation: the endpoints that pass the request's filters and that health lets through are sorted by all
that stands above the strategy; the outermost first:

1. wished percentiles (`preferred_max_latency`, `preferred_min_throughput`): who misses one goes behind all others;
2. the models, in the order in which they were asked for (unless `partition` is `none`);
3. the user's `order`; then, for `service_tier: priority`, the endpoints of that tier;
4. slow start and learned ceilings: an endpoint that is recovering leads only its ramp's share of picks, lest its
   return be a stampede, and one that is at its ceiling leads none;
5. the operator's `priority`, where one that is degraded falls to the next level.

What stands equal in all of these is a `Group`, and a strategy chooses within it: the configured one, or the sort
that the request asks for. Groups do not change while the pool is calm, so they are kept with the answer of the
filters.

What this module does not know: sessions, trials and panic (`routing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple, get_args

from balancer.core.capacity import Quota
from balancer.core.eligibility import order_rank
from balancer.core.model import HealthPolicy, Routing, Sort, Tier
from balancer.core.pool import Entry, Group, Pool
from balancer.core.pricing import COMPLETION_TOKENS, PROMPT_TOKENS, unit_of
from balancer.core.request import Request
from balancer.core.row import ELIGIBLE
from balancer.core.strategies import Need, Strategy, make, make_sort
from balancer.core.wishes import misses, wished


class Asked(NamedTuple):
    """One asked model: its pool, and what its suffixes say; `soft`: soft filters count."""

    pool: Pool
    sort: Sort | None
    tiers: frozenset[Tier]
    soft: bool = True


class Turn(NamedTuple):
    """One endpoint that may serve, and the place of its model among those asked for."""

    place: int
    entry: Entry


class Lineup(NamedTuple):
    """The endpoints in groups, the best group first.

    `held` are those at an operator's limit, with the seconds until they have room.
    """

    groups: list[Group]
    held: Mapping[str, float]


class Lineups:
    """Makes lineups by the rules of one configuration."""

    def __init__(self, routing: Routing, health: HealthPolicy, quotas: Mapping[str, Quota]) -> None:
        self._health = health
        self._quotas = quotas
        self._strategy = make(routing)
        self._sorts: dict[Sort, Strategy] = {sort: make_sort(sort) for sort in get_args(Sort)}

    def need(self, request: Request, asked: Sequence[Asked]) -> Need:
        """What strategies may know of the request: unknown lengths are the usual ones.

        Shape: `max_tokens` is a cap and seldom reached, so an answer counts as the usual one at the most.
        """
        prompt, answer = request.prompt_tokens, request.max_tokens
        if prompt is None:
            prompt = PROMPT_TOKENS
        return Need(
            prompt_tokens=prompt,
            completion_tokens=COMPLETION_TOKENS if answer is None or answer > COMPLETION_TOKENS else answer,
            explore=not request.exclude and asked[0].pool.stale,
        )

    def lineup(
        self,
        request: Request,
        asked: Sequence[Asked],
        need: Need,
        *,
        now: float,
        random: Random | None = None,
        leads: Callable[[Entry], bool] | None = None,
    ) -> Lineup:
        """Who may serve, in groups of equals.

        It sets `need.unit`. Shape: whether one in slow start may lead is drawn with `random`, or else told by
        `leads`; or all of them may.
        """
        if len(asked) == 1 and asked[0].pool.calm:
            groups = self.calm(request, asked, now)
            need.unit = _unit(groups, need)
            return Lineup(groups, _NOBODY)
        turns = self.passing(request, asked)
        held = self._held(turns, need, now)
        chosen = [turn for turn in turns if turn.entry.state in ELIGIBLE and turn.entry.endpoint.id not in held]
        if leads is None:
            leads = _everybody if random is None else self._drawn(random)
        groups = self._groups(chosen, request, asked, now, leads)
        need.unit = _unit(groups, need)
        return Lineup(groups, held)

    def calm(self, request: Request, asked: Sequence[Asked], now: float) -> list[Group]:
        """The groups of one calm model: they are remembered, but where percentiles are wished."""
        pool, sort, tiers, soft = asked[0]
        passing = pool.passing(request, tiers, sort, soft)
        if passing.version != pool.version or wished(request.provider):
            turns = [Turn(0, entry) for entry in passing.entries if entry.state in ELIGIBLE]
            passing.groups = self._groups(turns, request, asked, now, _everybody)
            passing.version = pool.version
        return passing.groups

    def passing(self, request: Request, asked: Sequence[Asked]) -> list[Turn]:
        """The endpoints that pass the request's filters, whatever their health."""
        return [
            Turn(place, entry)
            for place, each in enumerate(asked)
            for entry in each.pool.passing(request, each.tiers, each.sort, each.soft).entries
        ]

    def _drawn(self, random: Random) -> Callable[[Entry], bool]:
        policy = self._health

        def admitted(entry: Entry) -> bool:
            share = entry.row.admission(policy)
            return share >= 1 or random.random() < share

        return admitted

    def _held(self, turns: Sequence[Turn], need: Need, now: float) -> dict[str, float]:
        held: dict[str, float] = {}
        tokens = need.prompt_tokens + need.completion_tokens
        for _, entry in turns:
            limits = entry.endpoint.limits
            if limits is not None:
                wait = self._quotas[entry.endpoint.quota].wait(now, limits, tokens)
                if wait > 0:
                    held[entry.endpoint.id] = wait
        return held

    def _groups(
        self,
        turns: Sequence[Turn],
        request: Request,
        asked: Sequence[Asked],
        now: float,
        leads: Callable[[Entry], bool],
    ) -> list[Group]:
        sound = sorted({entry.endpoint.priority for _, entry in turns if entry.state != "degraded"})
        found: dict[tuple[int, ...], list[Entry]] = {}
        for place, entry in turns:
            endpoint, row = entry.endpoint, entry.row
            level = endpoint.priority
            # It spills to the next level that has somebody better, where scores decide. One that is recovering does
            # not, whatever it did before: it would never lead, and so never recover.
            if entry.state == "degraded":
                level = next((other for other in sound if other > level), level)
            ahead = leads(entry) and not (row.enforced and row.ceiling.learned and row.ceiling.full(now))
            key = (*self.wanted(entry, place, request, now), int(not ahead), level)
            found.setdefault(key, []).append(entry)
        return [Group(key, self._strategy_for(key, request, asked), found[key]) for key in sorted(found)]

    def wanted(self, entry: Entry, place: int, request: Request, now: float) -> tuple[int, int, int, int]:
        """How far an endpoint is what the request asks for, less is nearer: percentiles, model, `order`, tier."""
        wishes, endpoint = request.provider, entry.endpoint
        return (
            int(wished(wishes) and misses(wishes, entry.row, now)),
            0 if wishes.partition == "none" else place,
            order_rank(endpoint, wishes) if wishes.order else 0,
            int(request.service_tier == "priority" and endpoint.tier != "priority"),
        )

    def _strategy_for(self, key: tuple[int, ...], request: Request, asked: Sequence[Asked]) -> Strategy:
        _, place, _, ordinary, _, _ = key
        strategy = self.strategy_of(request, asked[place])
        if request.service_tier == "priority" and not ordinary and strategy is self._strategy:
            return self._sorts["throughput"]  # who pays for priority pays for speed; OpenRouter sorts them so
        return strategy

    def strategy_of(self, request: Request, asked: Asked) -> Strategy:
        """How the endpoints of one asked model are ranked."""
        sort = asked.sort if request.provider.sort is None else request.provider.sort
        return self._strategy if sort is None else self._sorts[sort]


_NOBODY: Mapping[str, float] = {}


def _unit(groups: Sequence[Group], need: Need) -> float | None:
    """What counts as a price of 1: the cheapest of everybody eligible, whatever group it stands in."""
    if not groups:
        return None
    return unit_of(need.costs([entry for group in groups for entry in group.entries]))


def _everybody(_: Entry) -> bool:
    return True
