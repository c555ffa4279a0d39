"""What was sent where, as far as decisions and reports tell: limits, loads, retries and sessions.

Theory of operation: a decision counts at once for the endpoint that it selects, and a report for the one that it
tells of; limits and ceilings believe whichever tell more. A report of another endpoint than the decision's own (the
id carries its mark) is a retry that nobody asked us for. Nothing is kept per decision.

A 429 that was said of the whole account holds every endpoint of that quota domain: each takes the hint, or where
none came a step of its own exponent, as if the 429 had been its own. Ceilings learn nothing of another's 429: how
much of what the account bears went there is unknown.

What this module does not know: health and price.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import Random

from balancer.core.affinity import Sessions, session_key
from balancer.core.capacity import Quota
from balancer.core.model import Catalog, Endpoint, RetryBudget
from balancer.core.outcome import COUNTS, Outcome
from balancer.core.phases import Change
from balancer.core.pool import Entry
from balancer.core.request import Request
from balancer.core.retries import Retries, first_mark, is_first, mark
from balancer.core.row import Row
from balancer.core.strategies import Need


class Accounts:
    """The counts that belong to no single endpoint: by credential, by model, by session."""

    def __init__(self, catalog: Catalog) -> None:
        self.sessions = Sessions(catalog.routing.sticky)
        self.quotas: Mapping[str, Quota] = {}
        self._domains: Mapping[str, list[str]] = {}
        self._retries: Mapping[str, Retries] = {}
        self._models: Mapping[int, str] = {}
        self._budget = catalog.routing.retry_budget

    def apply(self, catalog: Catalog, gone: Collection[str]) -> None:
        """Follow a configuration; endpoints that are `gone` have no prompt cached any more."""
        self._budget = catalog.routing.retry_budget
        self.sessions.policy = catalog.routing.sticky
        self.sessions.forget(gone)
        domains = {each.quota for each in catalog.endpoints.values() if each.limits is not None}
        self.quotas = {key: self.quotas.get(key, Quota()) for key in domains}
        self._domains = {}
        for each in catalog.endpoints.values():
            self._domains.setdefault(domain(each), []).append(each.id)
        self._retries = {key: self._retries.get(key, Retries()) for key in catalog.models}
        self._models = {mark(each.id): each.model for each in catalog.endpoints.values()}

    def retry_budget(self, model: str, now: float) -> RetryBudget:
        """How the retry budget of one model stands."""
        return self._retries[model].standing(now, self._budget)

    def sent(self, first: Entry, request: Request, need: Need, now: float) -> RetryBudget:
        """A decision for a request selected `first`; tell how its model's retry budget stands now."""
        row, endpoint = first.row, first.endpoint
        retries = self._retries[endpoint.model]
        retries.asked(now, retry=len(request.exclude) > 0)
        row.selections += 1
        row.flight.begin(now)
        row.ceiling.took(now)
        if endpoint.limits is not None:
            self.quotas[endpoint.quota].take(now, need.prompt_tokens + need.completion_tokens)
        session = request.session_id
        if session is None and request.conversation is not None and row.caches:
            session = request.conversation
        if session is not None:
            key = session_key(session, endpoint.model)
            self.sessions.stick(key, endpoint.id, now=now, ttl=endpoint.cache_ttl)
        return retries.standing(now, self._budget)

    def reported(
        self,
        row: Row,
        outcome: Outcome,
        *,
        decision: str | None,
        session_id: str | None,
        ended: float,
        now: float,
    ) -> None:
        """A report of a try at `row` came, which counts when it `ended`, however late it is."""
        endpoint = row.endpoint
        own = is_first(decision, endpoint.id)
        # A fallback's try is a retry of the request that the decision was for, which may be another model's.
        model = endpoint.model if own else self._models.get(first_mark(decision), endpoint.model)
        retries = self._retries[model]
        retries.reported(ended)
        if own:
            row.flight.end(now, began=None if outcome.latency is None else ended - outcome.latency)
        else:
            retries.retried(ended)
        # Counted when it began, as its decision was: or it would take the room of two.
        began = ended if outcome.latency is None else ended - outcome.latency
        row.ceiling.reported(began)
        if endpoint.limits is not None:
            known = [each for each in (outcome.prompt_tokens, outcome.completion_tokens) if each is not None]
            self.quotas[endpoint.quota].report(began, sum(known))
        counts = COUNTS[outcome.kind]
        if counts == "success":
            row.ceiling.served(ended=ended, now=now)
        if session_id is not None and counts in ("success", "failure"):  # a cache survives 429s and callers' errors
            key = session_key(session_id, endpoint.model)
            if counts == "success":
                self.sessions.succeeded(key, endpoint.id, now=ended, ttl=endpoint.cache_ttl)
            elif row.enforced:  # one that is only watched keeps its sessions
                self.sessions.failed(key, endpoint.id, now=ended)

    def hold(
        self,
        rows: Mapping[str, Row],
        row: Row,
        outcome: Outcome,
        *,
        began: float,
        ended: float,
        now: float,
        longest: float,
        random: Random,
    ) -> list[tuple[Row, list[Change]]]:
        """Hold what shares an account with `row`, of which all of it an outcome spoke; tell what changed where."""
        of = f" of the whole account, at {row.endpoint.id}"
        others = [rows[key] for key in self._domains[domain(row.endpoint)] if key != row.endpoint.id]
        return [
            (other, other.hold(outcome, of, began=began, ended=ended, now=now, longest=longest, random=random))
            for other in others
        ]


def domain(endpoint: Endpoint) -> str:
    """The quota domain of an endpoint; where none was named, what is called at its provider with its credential."""
    return f"{endpoint.provider} {endpoint.credential}" if endpoint.quota == "" else endpoint.quota
