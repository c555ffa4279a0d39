from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from balancer.core.accounts import Accounts, domain
from balancer.core.affinity import session_key
from balancer.core.ceiling import CEILING_BURST
from balancer.core.model import (
    Catalog,
    Endpoint,
    HealthPolicy,
    Limits,
    Pricing,
    RetryBudget,
    RetryPolicy,
    Routing,
    StickyPolicy,
)
from balancer.core.outcome import KINDS, Kind, Outcome
from balancer.core.pool import Entry
from balancer.core.request import Request
from balancer.core.retries import decision_id, mark
from balancer.core.row import Row
from balancer.core.strategies import Need

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]

MODEL, SECOND = "author/slug", "author/second"
NEED = Need(prompt_tokens=70, completion_tokens=30)
LIMITS = Limits(rpm=2, tpm=1000)


class Book:
    """Accounts over some endpoints, as the table keeps them."""

    def __init__(self, catalog: Catalog) -> None:
        self.accounts = Accounts(catalog)
        self.accounts.apply(catalog, ())
        self.entries = {
            each.tag: Entry(Row(each, HealthPolicy(), random=Random(1), now=0.0), place)
            for place, each in enumerate(catalog.endpoints.values())
        }

    def send(self, tag: str, request: Request, now: float) -> str:
        """Decide for an endpoint; tells the decision's id."""
        first = self.entries[tag]
        self.accounts.sent(first, request, NEED, now)
        return decision_id(0x1234_5678_9ABC_0000, first.row.mark)

    def report(
        self, tag: str, ended: float, *, kind: Kind = "success", decision: str | None = None, **fields: Any
    ) -> None:
        session_id = fields.pop("session_id", None)
        outcome = Outcome(kind=kind, **fields)
        self.accounts.reported(
            self.entries[tag].row, outcome, decision=decision, session_id=session_id, ended=ended, now=ended
        )

    def under_way(self, tag: str, now: float) -> int:
        return self.entries[tag].row.flight.count(now, longest=120.0)

    def homes(self, session: str, now: float, *, model: str = MODEL) -> list[str]:
        found = self.accounts.sessions.homes(session_key(session, model), now=now)
        return [each.partition("@")[2] for each in found]

    def wait(self, quota: str, now: float, *, tokens: int = 0, limits: Limits = LIMITS) -> float:
        return self.accounts.quotas[quota].wait(now, limits, tokens)


@pytest.fixture
def book(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Book:
    return Book(
        catalog(
            endpoint("a", limits=LIMITS, quota="key"),
            endpoint("b", limits=LIMITS, quota="key"),
            endpoint("c"),
            endpoint("d", model=SECOND),
        )
    )


# ---- limits ------------------------------------------------------------------------------------------


def test_a_decision_counts_at_once_for_the_credential_of_its_first_choice(book: Book, ask: MakeRequest) -> None:
    book.send("a", ask(), 0.0)
    assert book.wait("key", 0.0) == 0.0
    book.send("b", ask(), 1.0)
    assert book.wait("key", 1.0) > 50.0
    assert book.wait("key", 1.0, limits=Limits(tpm=1000), tokens=800) == 0.0
    assert book.wait("key", 1.0, limits=Limits(tpm=1000), tokens=801) > 0.0


def test_decisions_and_reports_count_apart_and_the_more_of_them_is_believed(book: Book, ask: MakeRequest) -> None:
    decision = book.send("a", ask(), 0.0)
    book.report("a", 1.0, decision=decision)
    assert book.wait("key", 1.0, tokens=900) == 0.0
    book.report("b", 2.0, decision=decision)
    assert book.wait("key", 2.0) > 0.0


def test_the_tokens_that_a_report_tells_hold_where_fewer_were_guessed(book: Book, ask: MakeRequest) -> None:
    decision = book.send("a", ask(), 0.0)
    assert book.wait("key", 0.0, tokens=900) == 0.0
    book.report("a", 1.0, decision=decision, prompt_tokens=500, completion_tokens=450)
    assert book.wait("key", 1.0, tokens=50) == 0.0
    assert book.wait("key", 1.0, tokens=51) > 50.0


def test_a_report_without_a_decision_is_a_request_with_the_tokens_that_it_tells(book: Book) -> None:
    tokens = Limits(tpm=1000)
    book.report("a", 1.0, prompt_tokens=300)
    assert book.wait("key", 1.0, limits=tokens, tokens=700) == 0.0
    assert book.wait("key", 1.0, limits=tokens, tokens=701) > 0.0
    book.report("a", 1.0, prompt_tokens=300, completion_tokens=400)
    assert book.wait("key", 1.0, limits=tokens, tokens=1) > 0.0
    assert book.wait("key", 1.0) > 0.0


def test_a_late_report_counts_in_its_own_minute(book: Book) -> None:
    for _ in range(2):
        book.report("a", 40.0)
    assert 15.0 <= book.wait("key", 85.0) <= 17.0
    for _ in range(2):
        book.report("b", 0.0)
    assert 15.0 <= book.wait("key", 85.0) <= 17.0


def test_a_learned_ceiling_counts_what_was_sent_there(book: Book, ask: MakeRequest) -> None:
    row = book.entries["c"].row
    for _ in range(15):
        book.report("c", 9.0, decision=book.send("c", ask(), 9.0))
    for _ in range(CEILING_BURST):
        row.ceiling.limited(began=10.0, ended=10.0, now=10.0)
    assert row.ceiling.ceiling(10.0) == 12.0  # 80 % of fifteen requests a minute, and not of thirty
    assert row.ceiling.full(10.0)
    assert not row.ceiling.full(75.0)
    for _ in range(13):
        book.report("c", 75.0)
    assert row.ceiling.full(75.0)


# ---- loads -------------------------------------------------------------------------------------------


def test_a_decision_is_under_way_until_its_report(book: Book, ask: MakeRequest) -> None:
    first, second = book.send("c", ask(), 0.0), book.send("c", ask(), 1.0)
    assert (book.under_way("c", 1.0), book.entries["c"].row.selections) == (2, 2)
    book.report("c", 2.0, decision=first, latency=2.0)
    assert book.under_way("c", 2.0) == 1
    book.report("c", 3.0, decision=second)
    assert (book.under_way("c", 3.0), book.entries["c"].row.selections) == (0, 2)


def test_a_report_of_a_fallback_ends_nothing_there(book: Book, ask: MakeRequest) -> None:
    decision = book.send("a", ask(), 0.0)
    book.send("c", ask(), 0.0)
    book.report("c", 1.0, decision=decision)
    assert (book.under_way("a", 1.0), book.under_way("c", 1.0)) == (1, 1)


@pytest.mark.parametrize("decision", [None, "dec_of_somebody_else"])
def test_a_report_of_an_unknown_decision_ends_the_one_under_way(
    book: Book, ask: MakeRequest, decision: str | None
) -> None:
    book.send("c", ask(), 0.0)
    book.report("c", 1.0, decision=decision)
    assert book.under_way("c", 1.0) == 0


# ---- the retry budget --------------------------------------------------------------------------------


def share(book: Book, now: float, model: str = MODEL) -> float:
    return book.accounts.retry_budget(model, now).share


def test_an_excluding_request_and_a_fallbacks_report_are_retries(book: Book, ask: MakeRequest) -> None:
    decision = book.send("a", ask(), 0.0)
    assert share(book, 0.0) == 0.0
    book.send("b", ask(exclude=("a",)), 0.0)
    assert share(book, 0.0) == 0.5
    book.report("a", 1.0, decision=decision)
    assert share(book, 1.0) == 0.5
    book.report("c", 1.0, decision=decision)
    assert share(book, 1.0) == pytest.approx(2 / 3)
    assert share(book, 1.0, SECOND) == 0.0
    assert share(book, 62.5) == 0.0


def test_a_fallback_of_another_model_is_a_retry_of_the_model_that_was_asked(book: Book, ask: MakeRequest) -> None:
    decision = book.send("a", ask(models=(SECOND,)), 0.0)
    book.report("a", 1.0, kind="server_error", decision=decision)
    book.report("d", 2.0, decision=decision)
    assert (share(book, 2.0), share(book, 2.0, SECOND)) == (0.5, 0.0)
    for decision in ("dec_of_somebody_else", decision_id(0, mark(f"{MODEL}@gone"))):
        book.report("d", 3.0, decision=decision)
    assert share(book, 3.0) == 0.5


def test_a_late_report_is_a_retry_of_its_own_minute(book: Book, ask: MakeRequest) -> None:
    decision = decision_id(0, mark(f"{MODEL}@a"))
    book.send("a", ask(), 100.0)
    book.report("c", 30.0, decision=decision)
    assert share(book, 100.0) == 0.0
    book.report("c", 95.0, decision=decision)
    assert share(book, 100.0) == 0.5


def test_the_budget_is_the_configured_one_and_a_reload_changes_it_at_once(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    strict = Routing(retry_budget=RetryPolicy(ratio=0.2, floor=1))
    book = Book(catalog(endpoint("a"), routing=strict))
    for _ in range(2):
        book.send("a", ask(), 0.0)
        book.send("a", ask(exclude=("b",)), 0.0)
    assert book.accounts.retry_budget(MODEL, 0.0) == RetryBudget(share=0.5, exhausted=True)
    loose = Routing(retry_budget=RetryPolicy(ratio=0.9, floor=1))
    book.accounts.apply(catalog(endpoint("a"), routing=loose), ())
    assert book.accounts.retry_budget(MODEL, 0.0) == RetryBudget(share=0.5, exhausted=False)


# ---- sessions ----------------------------------------------------------------------------------------


def test_a_decision_sticks_a_session_per_model(book: Book, ask: MakeRequest) -> None:
    book.send("c", ask(session_id="s"), 0.0)
    assert book.homes("s", 1.0) == ["c"]
    assert book.homes("s", 1.0, model=SECOND) == []
    book.send("d", ask(session_id="s", models=(SECOND,)), 2.0)
    assert book.homes("s", 3.0, model=SECOND) == ["d"]
    assert book.homes("other", 3.0) == []


def test_a_derived_key_sticks_only_where_a_cache_was_seen_to_hit(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    pricing = Pricing(prompt=1.0, completion=1.0, input_cache_read=0.1)
    book = Book(catalog(endpoint("a", pricing=pricing), endpoint("b")))
    book.send("a", ask(conversation="c"), 0.0)
    assert book.homes("c", 0.0) == []
    for entry in book.entries.values():
        entry.row.hits.record(0.0, prompt_tokens=100, cached_tokens=50)
    book.send("b", ask(conversation="c"), 1.0)
    assert book.homes("c", 1.0) == []  # it hits, and saves nothing
    book.send("a", ask(conversation="c"), 2.0)
    assert book.homes("c", 2.0) == ["a"]
    book.send("a", ask(conversation="x", session_id="s"), 3.0)
    assert (book.homes("s", 3.0), book.homes("x", 3.0)) == (["a"], [])


def test_a_session_lives_as_long_as_the_providers_cache(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    routing = Routing(sticky=StickyPolicy(ttl=600.0))
    book = Book(catalog(endpoint("a", cache_ttl=60.0), endpoint("b"), routing=routing))
    book.send("a", ask(session_id="s"), 0.0)
    assert (book.homes("s", 59.0), book.homes("s", 60.0)) == (["a"], [])
    book.send("b", ask(session_id="t"), 0.0)
    assert (book.homes("t", 599.0), book.homes("t", 600.0)) == (["b"], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_success_takes_a_session_along_and_two_failures_end_it_and_nothing_else_says_anything_of_a_cache(
    book: Book, ask: MakeRequest, kind: Kind
) -> None:
    book.report("a", 1.0, session_id="s")
    for now in (2.0, 3.0):
        book.report("a", now, kind=kind, session_id="s")
    silent = ("rate_limited", "caller_error", "cancelled", "probe_invalid", "local")
    assert book.homes("s", 4.0) == (["a"] if kind == "success" or kind in silent else [])
    book.report("c", 5.0, kind=kind, session_id="new")
    assert book.homes("new", 6.0) == (["c"] if kind == "success" else [])


def test_where_health_is_only_watched_failures_end_no_session(book: Book) -> None:
    book.entries["a"].row.enforced = False
    book.report("a", 1.0, session_id="s")
    for now in (2.0, 3.0, 4.0):
        book.report("a", now, kind="server_error", session_id="s")
    assert book.homes("s", 5.0) == ["a"]


def test_a_late_report_warms_a_cache_when_it_ended_and_not_when_it_came(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    book = Book(catalog(endpoint("a", cache_ttl=60.0)))
    book.report("a", 100.0, session_id="s")  # it may come at any later time
    assert (book.homes("s", 159.0), book.homes("s", 160.0)) == (["a"], [])
    book.report("a", 50.0, session_id="s")
    assert (book.homes("s", 159.0), book.homes("s", 160.0)) == (["a"], [])


def test_a_report_without_a_session_moves_none(book: Book, ask: MakeRequest) -> None:
    book.send("c", ask(session_id="s"), 0.0)
    for now in (1.0, 2.0, 3.0):
        book.report("c", now, kind="server_error")
    assert book.homes("s", 4.0) == ["c"]


# ---- reload ------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_stays_and_forgets_what_goes(
    book: Book, endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    for tag, session in (("a", "s"), ("c", "t")):
        book.send(tag, ask(session_id=session, exclude=("x",)), 0.0)
    book.send("b", ask(), 0.0)
    fewer = catalog(endpoint("a", limits=LIMITS, quota="key"), endpoint("b", limits=LIMITS, quota="other"))
    book.accounts.apply(fewer, {f"{MODEL}@c", f"{SECOND}@d"})
    assert book.accounts.quotas.keys() == {"key", "other"}
    assert book.wait("key", 0.0) > 0.0
    assert book.wait("other", 0.0) == 0.0
    assert (book.homes("s", 1.0), book.homes("t", 1.0)) == (["a"], [])
    assert share(book, 1.0) == pytest.approx(2 / 3)
    with pytest.raises(KeyError):
        book.accounts.retry_budget(SECOND, 1.0)
    none = replace(fewer, endpoints={}, models={})
    book.accounts.apply(none, ())
    assert dict(book.accounts.quotas) == {}


def test_fewer_sessions_are_kept_at_once_when_the_policy_says_so(
    endpoint: MakeEndpoint, catalog: MakeCatalog, ask: MakeRequest
) -> None:
    book = Book(catalog(endpoint("a")))
    for number in range(5):
        book.send("a", ask(session_id=f"s{number}"), float(number))
    smaller = Routing(sticky=StickyPolicy(max_sessions=2))
    book.accounts.apply(catalog(endpoint("a"), routing=smaller), ())
    assert len(book.accounts.sessions) == 2
    assert (book.homes("s4", 5.0), book.homes("s0", 5.0)) == (["a"], [])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"quota": "p:2", "credential": "env KEY"}, "p:2"),
        ({"quota": "", "credential": "env KEY"}, "p env KEY"),
        ({"quota": "", "credential": None}, "p None"),
    ],
)
def test_a_domain_without_a_name_is_the_provider_with_the_credential(
    endpoint: MakeEndpoint, fields: dict[str, Any], named: str
) -> None:
    assert domain(endpoint("p/a", **fields)) == domain(endpoint("p/b", **fields)) == named


def test_an_account_holds_all_of_its_domain_but_the_one_that_found_out(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    book = Book(catalog(*[endpoint(tag, quota=tag[0]) for tag in ("p/a", "p/b", "p/c", "q/a")]))
    rows = {each.endpoint.id: each.row for each in book.entries.values()}
    outcome = Outcome(kind="rate_limited", retry_after=30.0, account=True)
    moment = {"began": 1.0, "ended": 1.0, "now": 1.0, "longest": 300.0}
    told = book.accounts.hold(rows, book.entries["p/a"].row, outcome, **moment, random=Random(1))
    assert [(row.endpoint.tag, len(changes)) for row, changes in told] == [("p/b", 1), ("p/c", 1)]
    held = {tag: each.row.throttle.until for tag, each in book.entries.items() if each.row.throttle.holds(1.0)}
    assert held == {"p/b": 31.0, "p/c": 31.0}
