"""From a request to an order of endpoints: filters, health, precedence, strategy.

Theory of operation: `Router.plan` answers "who first, who next" and changes nothing but the random state that
it is given; the table (`balancer.py`) then leases, counts and tells. Precedence, outermost first: the user's
`order`; slow start (an endpoint that is recovering leads only its ramp's share of picks, lest its return be a
stampede even where it stands first by priority); the operator's `priority`, where one that is degraded falls to
the next level; the strategy's score.

When health leaves nobody, that is panic: those who are ejected are ranked by whose trial is soonest. A hold of
the provider's own (429) is never overruled, and neither is a filter, a drain or a misconfiguration.

What this module does not know: how evidence is kept, and what becomes of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from random import Random
from typing import Final

from balancer.core.eligibility import PRIVACY, asked, excluded_by, order_rank, soft_excluded
from balancer.core.estimate import peers_prior
from balancer.core.model import Catalog, Considered, Model, NoEndpoint, Request, State
from balancer.core.row import ELIGIBLE, UNUSABLE, Row
from balancer.core.strategy import Candidate, Ranked, cost, make, relative_prices

RAMPS_MAX: Final = 6  # recovering endpoints whose chances `explain` enumerates; 64 combinations
UNKNOWN_MODEL: Final = "unknown"  # one label value for all models that are not configured
STORIES_MAX: Final = 10  # endpoints whose reasons a refusal's message tells; `explain` tells all
NAME_MAX: Final = 200  # characters of an unknown name that are repeated and compared


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is asked, in order. `trial` is the row whose trial this request would be, always first if present."""

    model: Model
    order: tuple[Row, ...]
    states: Mapping[str, State]
    trial: Row | None
    panic: bool
    considered: tuple[Considered, ...]


class Router:
    """The rules of one configuration over its rows."""

    def __init__(self, catalog: Catalog, rows: Mapping[str, Row]) -> None:
        self._catalog = catalog
        self._policy = catalog.health
        self._rows = rows
        self._names = {name: model.id for model in catalog.models.values() for name in (model.id, *model.aliases)}
        self.strategy = make(catalog.routing)

    def model(self, name: str) -> Model | None:
        """The model with this id or alias."""
        key = self._names.get(name.lower())
        return None if key is None else self._catalog.models[key]

    def plan(
        self, request: Request, *, now: float, random: Random, trials: bool = True, explain: bool = False
    ) -> Plan:
        """Order the endpoints of the asked model.

        Shape: without `trials` nobody is a trial, because nobody may be sent to an ejected endpoint without a
        lease but in panic. Raises: NoEndpoint.
        """
        model = self.model(request.model)
        if model is None:
            raise self._unknown(request.model)
        rows = [self._rows[key] for key in model.endpoints]
        states = {row.endpoint.id: row.state(now) for row in rows}
        reasons = self._filter(rows, request)
        passing = [row for row in rows if row.endpoint.id not in reasons]
        eligible = [row for row in passing if states[row.endpoint.id] in ELIGIBLE]
        trial = None
        if eligible:
            ranked = self._rank(eligible, rows, request, now, random, self._admit(eligible, random))
            trial = self._trial(passing, eligible, request, now) if trials else None
        else:
            ranked = self._least_bad(passing, rows, states, request, now, random)
        considered: tuple[Considered, ...] = ()
        if explain:
            shares = self._shares(eligible, rows, request, now) if eligible else None
            considered = self._considered(rows, states, reasons, ranked, shares, now)
        if not ranked:
            raise self._refusal(model, rows, states, reasons, considered, now)
        order = [self._rows[entry.candidate.endpoint.id] for entry in ranked]
        if trials and not eligible and order[0].health.phase_at(now) == "ejected":
            trial = order[0]  # in panic a success must be able to bring somebody back
        if trial is not None:
            order = [trial, *(row for row in order if row is not trial)]
        return Plan(model, tuple(order), states, trial, not eligible, considered)

    def prior(self, rows: Iterable[Row], now: float) -> float:
        """What a model's endpoints are like: the prior of each one's estimate."""
        return peers_prior([row.evidence(now).long for row in rows])

    # ---- the order -----------------------------------------------------------------------------------

    def _filter(self, rows: Sequence[Row], request: Request) -> dict[str, tuple[str, ...]]:
        reasons: dict[str, tuple[str, ...]] = {}
        rules = asked(request)
        for row in rows:
            names = excluded_by(row.endpoint, request, rules)
            if names:
                reasons[row.endpoint.id] = names
        passing = [row.endpoint for row in rows if row.endpoint.id not in reasons]
        for key, parameter in soft_excluded(passing, request).items():
            reasons[key] = (f"supported_parameters:{parameter}",)
        return reasons

    def _admit(self, eligible: Sequence[Row], random: Random) -> set[str]:
        admitted: set[str] = set()
        for row in eligible:
            share = row.health.admission(self._policy)
            if share >= 1 or random.random() < share:
                admitted.add(row.endpoint.id)
        return admitted

    def _rank(
        self,
        chosen: Sequence[Row],
        peers: Sequence[Row],
        request: Request,
        now: float,
        random: Random,
        admitted: set[str],
    ) -> list[Ranked]:
        degraded = {row.endpoint.id for row in chosen if row.state(now) == "degraded"}
        sound = sorted({row.endpoint.priority for row in chosen if row.endpoint.id not in degraded})
        groups: dict[tuple[int, bool, int], list[Candidate]] = {}
        for candidate in self._candidates(chosen, peers, request, now):
            endpoint = candidate.endpoint
            level = endpoint.priority
            if endpoint.id in degraded:  # it spills to the next level that has somebody better, where scores decide
                level = next((other for other in sound if other > level), level)
            place = (order_rank(endpoint, request.provider), endpoint.id not in admitted, level)
            groups.setdefault(place, []).append(candidate)
        ranked: list[Ranked] = []
        for place in sorted(groups):
            failed = [entry.candidate.endpoint.provider for entry in ranked]
            entries = self.strategy.rank(groups[place], failed=failed, random=random)
            ranked += [replace(entry, share=0.0) for entry in entries] if ranked else entries
        return ranked

    def _candidates(
        self, chosen: Sequence[Row], peers: Sequence[Row], request: Request, now: float
    ) -> list[Candidate]:
        routing = self._catalog.routing
        prior = self.prior(peers, now)
        prices, unit = relative_prices([cost(row.endpoint.pricing, request) for row in chosen])
        candidates = []
        for row, price in zip(chosen, prices, strict=True):
            wait = 0.0
            if routing.value_of_time:
                expected = row.latency.mean(now)
                wait = 0.0 if expected is None else routing.value_of_time * expected / unit
            failure = row.failure_probability(now, prior=prior, policy=self._policy)
            tier = row.tier(now, self._policy) if self.strategy.tiered else 0
            candidates.append(Candidate(row.endpoint, price, wait, failure, tier))
        return candidates

    def _trial(self, passing: Sequence[Row], eligible: Sequence[Row], request: Request, now: float) -> Row | None:
        # A retry is the request's last hope and no place for experiments; and a trial must not overrule the
        # order that the user gave.
        if request.exclude:
            return None
        first = min(order_rank(row.endpoint, request.provider) for row in eligible)
        due = [
            row
            for row in passing
            if row.health.trial_due(now)
            and row.states(now) == ("ejected",)
            and order_rank(row.endpoint, request.provider) <= first
        ]
        return min(due, key=lambda row: row.health.until, default=None)

    def _least_bad(
        self,
        passing: Sequence[Row],
        peers: Sequence[Row],
        states: Mapping[str, State],
        request: Request,
        now: float,
        random: Random,
    ) -> list[Ranked]:
        usable = [row for row in passing if states[row.endpoint.id] not in UNUSABLE and not row.throttle.holds(now)]
        everyone = {row.endpoint.id for row in usable}
        ranked = self._rank(usable, peers, request, now, random, everyone)

        def soonest(entry: Ranked) -> tuple[int, bool, float]:
            endpoint = entry.candidate.endpoint
            health = self._rows[endpoint.id].health
            return order_rank(endpoint, request.provider), health.phase_at(now) == "half_open", health.until

        ranked.sort(key=soonest)
        return [replace(entry, share=0.0 if place else 1.0) for place, entry in enumerate(ranked)]

    # ---- refusals and explanations -------------------------------------------------------------------

    def _unknown(self, name: str) -> NoEndpoint:
        shown = name[:NAME_MAX]
        near = tuple(get_close_matches(shown.lower(), self._names, n=3))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return NoEndpoint("model_not_found", f"no model {shown!r}{hint}", model=UNKNOWN_MODEL, near=near)

    def _refusal(
        self,
        model: Model,
        rows: Sequence[Row],
        states: Mapping[str, State],
        reasons: Mapping[str, tuple[str, ...]],
        considered: tuple[Considered, ...],
        now: float,
    ) -> NoEndpoint:
        passing = [row for row in rows if row.endpoint.id not in reasons]
        if not passing:
            names = _in_order(name for row in rows for name in reasons[row.endpoint.id])
            private = any(PRIVACY.issuperset(reasons[row.endpoint.id]) for row in rows)
            return NoEndpoint(
                "privacy_restricted" if private else "constraint_filtered",
                f"none of the {len(rows)} endpoints of {model.id} passes the request's filters: {', '.join(names)}",
                model=model.id,
                excluded_by=names,
                considered=considered,
            )
        held = [row for row in passing if states[row.endpoint.id] not in UNUSABLE]
        excluded = _in_order(states[row.endpoint.id] for row in passing)
        if held:  # what is usable and was not ranked is held by its quota
            wait = min(row.throttle.until for row in held) - now
            return NoEndpoint(
                "capacity_exhausted",
                f"every usable endpoint of {model.id} is rate limited; the first hold ends in {wait:.1f} s",
                model=model.id,
                excluded_by=excluded,
                retry_after=wait,
                considered=considered,
            )
        told = [f"{row.endpoint.id}: {self._why(row, now)}" for row in passing[:STORIES_MAX]]
        if len(passing) > STORIES_MAX:
            told.append(f"and {len(passing) - STORIES_MAX} more")
        return NoEndpoint(
            "unavailable",
            f"no endpoint of {model.id} can be called: {'; '.join(told)}",
            model=model.id,
            excluded_by=excluded,
            considered=considered,
        )

    def _considered(
        self,
        rows: Sequence[Row],
        states: Mapping[str, State],
        reasons: Mapping[str, tuple[str, ...]],
        ranked: Sequence[Ranked],
        shares: Mapping[str, float] | None,
        now: float,
    ) -> tuple[Considered, ...]:
        entries = {entry.candidate.endpoint.id: entry for entry in ranked}
        lines: list[Considered] = []
        for row in rows:
            key, state = row.endpoint.id, states[row.endpoint.id]
            entry, filtered = entries.get(key), reasons.get(key)
            if entry is not None:
                why = "; ".join(part for part in (self.strategy.why(entry), self._why(row, now)) if part)
                share = entry.share if shares is None else shares[key]
                lines.append(
                    Considered(id=key, state=state, score=entry.score, share=share, excluded_by=(), why=why)
                )
                continue
            why = self._why(row, now) if filtered is None else f"filtered: {', '.join(filtered)}"
            excluded = (state,) if filtered is None else filtered
            lines.append(Considered(id=key, state=state, score=None, share=0.0, excluded_by=excluded, why=why))
        places = {key: place for place, key in enumerate(entries)}
        lines.sort(key=lambda line: places.get(line.id, len(places)))
        return tuple(lines)

    def _shares(
        self, eligible: Sequence[Row], peers: Sequence[Row], request: Request, now: float
    ) -> dict[str, float]:
        """Each endpoint's chance to be first, over every way in which the slow starts may be drawn."""
        ramps = [row for row in eligible if row.health.admission(self._policy) < 1][:RAMPS_MAX]
        shares = dict.fromkeys((row.endpoint.id for row in eligible), 0.0)
        for drawn in product((True, False), repeat=len(ramps)):
            chance = 1.0
            admitted = set(shares)
            for row, leads in zip(ramps, drawn, strict=True):
                share = row.health.admission(self._policy)
                chance *= share if leads else 1 - share
                if not leads:
                    admitted.remove(row.endpoint.id)
            for entry in self._rank(eligible, peers, request, now, Random(0), admitted):
                shares[entry.candidate.endpoint.id] += chance * entry.share
        return shares

    def _why(self, row: Row, now: float) -> str:
        standing = row.standing(now, self._policy)
        if standing.next is None or standing.state == "misconfigured":
            return standing.reason
        if standing.next_at is None or standing.next_at <= now:
            return f"{standing.reason}; {standing.next}"
        return f"{standing.reason}; {standing.next} in {standing.next_at - now:.0f} s"


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
