"""From a request to an order of endpoints: filters, health, precedence, strategy.

Theory of operation: `Router.plan` answers "who first, who next" and changes nothing but the random state that it is
given; the table (`balancer.py`) then leases, sticks, counts and tells. The lineup puts the endpoints into groups of
equals, and the strategy chooses within each. A session's own endpoint leads if it is well and stands in the first
group, or would but for its place in `order`: affinity beats the strategy, and neither health nor the operator.

When health leaves nobody, that is panic: those who are ejected are ranked by how likely they fail, equals by whose
trial is soonest. A hold of the provider's own (429) is never overruled, and neither is a filter, a limit, a drain
or a misconfiguration.

What this module does not know: how evidence is kept, and what becomes of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final, NamedTuple

from balancer.core.accounts import Accounts
from balancer.core.affinity import session_key
from balancer.core.eligibility import order_rank
from balancer.core.fates import shared_fates
from balancer.core.lineup import Asked, Lineup, Lineups
from balancer.core.model import Catalog, Decision, Model, Ranking, RetryBudget, Routing, Tier
from balancer.core.names import NAMES_MAX, Names
from balancer.core.pool import Entry, Group, Pool, selected
from balancer.core.pricing import PROMPT_TOKENS
from balancer.core.request import Preferences, Request
from balancer.core.row import UNUSABLE, Row
from balancer.core.strategies import Need

TRIAL_ANYWAY: Final = 600.0  # s after the hold; then even one that would not lead may show that it is a fallback
TRIAL_OVERDUE: Final = 60.0  # s; then sessions that are cached elsewhere may find out, too
NO_TIERS: Final = frozenset[Tier]()
TIERS: Final[Mapping[str, frozenset[Tier]]] = {
    "default": NO_TIERS,
    "priority": frozenset({"priority"}),
    "flex": frozenset({"flex"}),
}


class Plan(NamedTuple):
    """Who is asked, in order. `trial` is the row whose trial this request would be, always first if present."""

    model: Model
    order: list[Entry]
    strategy: Ranking
    trial: Entry | None
    panic: bool
    sticky: bool
    need: Need


class Router:
    """The rules of one configuration over its rows."""

    def __init__(
        self,
        catalog: Catalog,
        rows: Mapping[str, Row],
        accounts: Accounts,
        *,
        now: float,
    ) -> None:
        self._catalog = catalog
        self._sessions = accounts.sessions
        self.lineups = Lineups(catalog.routing, catalog.health, accounts.quotas)
        self.fates = shared_fates(catalog.endpoints.values())
        self.pools = {
            key: Pool(
                model,
                [rows[each] for each in model.endpoints],
                policy=catalog.health,
                fates=self.fates,
                now=now,
            )
            for key, model in catalog.models.items()
        }
        self.names = Names(catalog.models.values())
        self._single: dict[str, list[Asked]] = {}  # most requests ask for one model, by one of a few names

    # ---- what is asked -------------------------------------------------------------------------------

    @property
    def ranking(self) -> Ranking:
        """The name of the configured strategy."""
        return self._catalog.routing.strategy

    def asked(self, request: Request) -> list[Asked]:
        """Every asked model that is configured, each once, in order; a name of none is passed over."""
        if not request.models and request.service_tier == "default":
            known = self._single.get(request.model)
            if known is not None:
                return known
        tiers = TIERS[request.service_tier]
        names = (request.model, *request.models) if request.model else request.models
        first: dict[str, Asked] = {}
        for name in names:
            found = self.names.find(name)
            if found is not None:
                pool = self.pools[found.model.id]
                first.setdefault(found.model.id, Asked(pool, found.sort, found.tiers | tiers))
        asked = list(first.values())
        if asked and not request.models and request.service_tier == "default":
            if len(self._single) >= NAMES_MAX:
                self._single.clear()
            self._single[request.model] = asked
        return asked

    # ---- the plan ------------------------------------------------------------------------------------

    def plan(
        self,
        request: Request,
        asked: Sequence[Asked],
        *,
        now: float,
        wall: float | None,
        random: Random,
        trials: bool = True,
        places: int,
    ) -> Plan | None:
        """Order the endpoints of the asked models, the first `places` of them; `None` when nobody is left.

        Shape: without `trials` nobody is a trial, because nobody may be sent to an ejected endpoint without a
        lease but in panic.
        """
        prompt = PROMPT_TOKENS if request.prompt_tokens is None else request.prompt_tokens
        for each in asked:
            each.pool.refresh(now, wall)
            each.pool.price(prompt, now)
        need = self.lineups.need(request, asked)
        first, single = asked[0].pool, len(asked) == 1
        if (
            single
            and first.calm
            and not first.ejected
            and request.session_id is None
            and request.conversation is None
        ):
            # As nearly always: nobody to be tried, no session, one group of equals. What follows comes to the same.
            groups = self.lineups.calm(request, asked, now)
            if len(groups) == 1 and not groups[0].strategy.needs:
                _, usual, entries = groups[0]
                order = usual.pick(entries, need, failed=(), places=places, random=random)
                return Plan(first.model, order, usual.name, None, False, False, need)
        lineup = self.lineups.lineup(request, asked, need, now=now, random=random)
        groups = lineup.groups
        if not groups:
            order = self._least_bad(request, asked, lineup, need, now, random)
            if not order:
                return None
            trial = order[0] if trials and order[0].row.health.phase_at(now) == "ejected" else None
            strategy = self.lineups.strategy_of(request, asked[0]).name
            return Plan(_model(asked, order[0]), order[:places], strategy, trial, True, False, need)
        home = None
        if request.session_id is not None or request.conversation is not None:
            home = self.home(request, asked, groups, now)
        order = self.rank(groups, need, home=home, places=places, now=now, random=random)
        trial = None
        if trials and (first.ejected or not single):
            trial = self._trial(request, asked, lineup, home, need, now, random)
            if trial is not None:
                order = [trial, *[entry for entry in order if entry is not trial]][:places]
        model = first.model if single else _model(asked, order[0])
        sticky = home is not None and order[0] is home
        return Plan(model, order, groups[0].strategy.name, trial, False, sticky, need)

    def rank(
        self, groups: Sequence[Group], need: Need, *, home: Entry | None, places: int, now: float, random: Random
    ) -> list[Entry]:
        """The first `places` of all groups in order, with the session's own endpoint before them."""
        ranked: list[Entry] = []
        if home is not None:
            ranked.append(home)
            need.explore = False
        for group in groups:
            if len(ranked) >= places:
                break
            entries = group.entries
            if home is not None and home in entries:
                entries = [entry for entry in entries if entry is not home]
                if not entries:
                    continue
            self.fill(group, now)
            ranked += group.strategy.pick(entries, need, failed=ranked, places=places - len(ranked), random=random)
        return ranked

    def fill(self, group: Group, now: float) -> None:
        """Fill in what the group's strategy reads."""
        if group.strategy.needs:
            for model in {entry.endpoint.model for entry in group.entries}:
                self.pools[model].fill(group.strategy.needs, now)

    # ---- sessions, trials, panic ---------------------------------------------------------------------

    def home(self, request: Request, asked: Sequence[Asked], groups: Sequence[Group], now: float) -> Entry | None:
        """The session's own endpoint, if it may lead: well, and equal to the first but for its place in `order`."""
        leading = groups[0]
        wall = _wall(leading.key, request.provider)
        derived = request.session_id is None
        for place, each in enumerate(asked):
            for name in self._homes(request, each, now):
                entry = each.pool.by_id.get(name)
                if entry is None or (derived and not entry.row.caches):
                    continue
                if entry.state == "degraded" and any(other.state != "degraded" for other in leading.entries):
                    continue
                for group in groups:
                    if entry in group.entries and _wall(group.key, request.provider) == wall:
                        return entry
            if leading.key[1] == place and request.provider.partition == "model":
                break
        return None

    def _trial(
        self,
        request: Request,
        asked: Sequence[Asked],
        lineup: Lineup,
        home: Entry | None,
        need: Need,
        now: float,
        random: Random,
    ) -> Entry | None:
        # A retry is the request's last hope and no place for experiments; and a trial must not overrule what the
        # user asked for.
        if request.exclude:
            return None
        group = lineup.groups[0]
        leading = group.key[:4]
        due = {
            entry: wanted
            for place, entry in self.lineups.passing(request, asked)
            if entry.state == "ejected"
            and entry.row.trial_due(now)
            and entry.row.states(now) == ("ejected",)
            and entry.endpoint.id not in lineup.held
            and (wanted := self.lineups.wanted(entry, place, request, now)) <= leading
        }
        # Where the session was before, it would go again.
        own: set[str] = set()
        if home is not None:
            own = {name for each in asked for name in self._homes(request, each, now)[:1]}
        wishes = request.provider
        if home is not None or not (wishes.allow_fallbacks or wishes.order):
            # Neither a session that is cached elsewhere nor a request that allows no fallback should find out, but
            # a session may go to where it was before, and where such are all the traffic somebody has to.
            due = {
                entry: wanted
                for entry, wanted in due.items()
                if entry.endpoint.id in own or now - entry.row.health.until >= TRIAL_OVERDUE
            }
        # A trial may well fail: it is worth it where this very request would go there, were the endpoint well.
        due = {
            entry: wanted
            for entry, wanted in due.items()
            if entry.endpoint.id in own or self._would_lead(entry, wanted, group, need, now, random)
        }
        return min(due, key=lambda entry: entry.row.health.until, default=None)

    def _would_lead(
        self, entry: Entry, wanted: tuple[int, ...], group: Group, need: Need, now: float, random: Random
    ) -> bool:
        if now - entry.row.health.until >= TRIAL_ANYWAY:
            return True
        key = (*wanted, 0, entry.endpoint.priority)
        if key != group.key:
            return key < group.key
        group = group._replace(entries=[*group.entries, entry])
        self.fill(group, now)
        *others, _ = group.entries
        well = entry.recovered(self.pools[entry.endpoint.model].prior)
        return group.strategy.pick([*others, well], need, failed=(), places=1, random=random)[0] is well

    def _homes(self, request: Request, asked: Asked, now: float) -> tuple[str, ...]:
        session = request.conversation if request.session_id is None else request.session_id
        assert session is not None
        return self._sessions.homes(session_key(session, asked.pool.model.id), now=now)

    def _least_bad(
        self,
        request: Request,
        asked: Sequence[Asked],
        lineup: Lineup,
        need: Need,
        now: float,
        random: Random,
    ) -> list[Entry]:
        turns = self.lineups.passing(request, asked)
        usable = {
            entry: place
            for place, entry in turns
            if entry.state not in UNUSABLE
            and not entry.row.throttle.holds(now)
            and entry.endpoint.id not in lineup.held
        }
        if not usable:
            return []
        group = Group((), self.lineups.strategy_of(request, asked[0]), list(usable))
        need.explore = False
        ranked = self.rank([group], need, home=None, places=len(usable), now=now, random=random)

        def least_bad(entry: Entry) -> tuple[int, int, bool, float, float]:
            health = entry.row.health
            place = 0 if request.provider.partition == "none" else usable[entry]
            rank = order_rank(entry.endpoint, request.provider)
            # One that is back shows it in its estimate long before its hold ends.
            return place, rank, health.phase_at(now) == "half_open", round(entry.failure, 1), health.until

        return sorted(ranked, key=least_bad)


def decided(
    plan: Plan, request: Request, *, key: str, budget: RetryBudget, count: int, routing: Routing, now: float
) -> Decision:
    """Write down the answer that a plan comes to, with `count` fallbacks."""
    prompt = request.prompt_tokens
    size = -1 if prompt is None else prompt.bit_length()
    first, *others = selected(plan.order[: count + 1], size, now, routing.timeouts)
    valid_for, trial = routing.valid_for, plan.trial is not None
    if trial:
        first, valid_for = replace(first, state="half_open"), 0.0
    seen = plan.order[0].row.last_outcome
    return Decision(
        id=key,
        model=plan.model.id,
        strategy=plan.strategy,
        selected=first,
        fallbacks=tuple(others),
        panic=plan.panic,
        trial=trial,
        sticky=plan.sticky,
        valid_for=valid_for,
        evidence_age=None if seen is None else now - seen if now > seen else 0.0,
        retry_budget=budget,
    )


def _model(asked: Sequence[Asked], entry: Entry) -> Model:
    return next(each.pool.model for each in asked if each.pool.model.id == entry.endpoint.model)


def _wall(key: tuple[int, ...], wishes: Preferences) -> tuple[int, ...]:
    """What affinity does not climb over: all of a group's key, of `order` only whether one is in it."""
    demoted, place, rank, ordinary, behind, level = key
    return demoted, place, int(rank == len(wishes.order)) if wishes.order else 0, ordinary, behind, level
