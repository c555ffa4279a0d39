"""A session keeps its provider, for there its prompt is cached: through single failures and outages, never at the
price of health.

A turn that fails is tried again with `exclude`, and every try is reported, as a good proxy does. A turn *could*
keep its provider where health did not hold that out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from balancer import Balancer, NoEndpoint, Outcome, Preferences, Request
from balancer.core.model import Catalog, Endpoint, Routing, StickyPolicy, StrategyName

Make = Callable[..., Balancer]

MODEL = "author/slug"
TAGS = ("a", "b", "c", "d")
OK = Outcome(kind="success", latency=1.0)
BAD = Outcome(kind="server_error", status=500)

SESSIONS, TURNS, TRIES = 60, 20, 3
FAILURES = 0.01  # of all tries, at any provider
KEPT_MIN = 0.95  # of the turns that could

OUT = {"drained", "misconfigured", "ejected", "half_open", "throttled"}


@pytest.fixture(scope="session")
def make(endpoint: Callable[..., Endpoint], catalog: Callable[..., Catalog]) -> Make:
    """Make a table of four equals; `fields` are the endpoints', by tag."""

    def build(
        strategy: StrategyName = "adaptive", *, seed: int = 1, sticky: StickyPolicy | None = None, **fields: Any
    ) -> Balancer:
        endpoints = [endpoint(tag, **fields.get(tag, {})) for tag in TAGS]
        routing = Routing(strategy=strategy, sticky=StickyPolicy() if sticky is None else sticky)
        return Balancer(catalog(*endpoints, routing=routing), seed=seed)

    return build


def asked(session: str = "s", order: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Request:
    return Request(model=MODEL, session_id=session, exclude=exclude, provider=Preferences(order=order))


def state(table: Balancer, tag: str, now: float) -> str:
    return table.endpoint(f"{MODEL}@{tag}", now=now).state


def turn(
    table: Balancer,
    now: float,
    fails: Callable[[], bool] = bool,
    *,
    session: str = "s",
    order: tuple[str, ...] = (),
) -> str:
    """One turn of a conversation; the tag of who served it, empty where nobody did."""
    tried: tuple[str, ...] = ()
    for _ in range(TRIES):
        try:
            decision = table.best(asked(session, order, tried), now=now)
        except NoEndpoint:
            break
        outcome = BAD if fails() else OK
        table.record(decision.selected.id, outcome, now=now, decision=decision.id, session_id=session)
        if outcome is OK:
            return decision.selected.tag
        tried = (*tried, decision.selected.id)
    return ""


def accidents(random: Random) -> Callable[[], bool]:
    """Whether the next try fails."""
    return lambda: random.random() < FAILURES


def leads(table: Balancer, now: float, session: str = "s", order: tuple[str, ...] = ()) -> tuple[str, bool]:
    """Who would be asked first, and whether that is for the session's sake."""
    decision = table.best(asked(session, order), now=now, dry=True)
    return decision.selected.tag, decision.sticky


# ---- through the noise of every day ------------------------------------------------------------------


@pytest.mark.parametrize("order", [(), ("b", "c", "a", "d")], ids=["free", "order"])
@pytest.mark.parametrize("strategy", ["adaptive", "price", "weighted", "least_loaded"])
def test_a_session_keeps_its_provider_for_95_per_cent_of_the_turns_that_it_could(
    make: Make, strategy: StrategyName, order: tuple[str, ...]
) -> None:
    """A turn counts as kept only where the provider answered it in the end, so failures count as lost."""
    could = kept = 0
    for seed in range(3):
        table = make(strategy, seed=seed)
        fails = accidents(Random(f"{strategy} {seed}"))
        homes: dict[int, str] = {}
        for number in range(TURNS):
            for session in range(SESSIONS):
                now = number * 30.0 + session * 0.4
                home = homes.get(session)
                held = home is not None and state(table, home, now) in OUT
                served = turn(table, now, fails, session=f"s{session}", order=order)
                homes.setdefault(session, served)
                if home is not None and not held:
                    could += 1
                    kept += served == home
        assert len(set(homes.values())) > 1 or order  # without sessions they would be everywhere
    assert could > 0.95 * 3 * SESSIONS * (TURNS - 1)
    assert kept >= KEPT_MIN * could


def test_without_a_session_the_same_turns_are_served_everywhere(make: Make) -> None:
    table = make("price")
    served = [table.best(Request(model=MODEL), now=float(number)).selected.tag for number in range(400)]
    assert all(60 < served.count(tag) < 140 for tag in TAGS)


def test_a_session_that_began_at_the_second_of_an_order_stays_there(make: Make) -> None:
    table = make()
    table.drain("a", now=0.0)
    assert turn(table, 1.0, order=("a", "b")) == "b"
    table.resume("a", now=2.0)
    assert leads(table, 3.0, order=("a", "b")) == ("b", True)
    assert leads(table, 3.0, session="another", order=("a", "b")) == ("a", False)


# ---- outages -----------------------------------------------------------------------------------------


def breaks(table: Balancer, tag: str, now: float) -> None:
    for _ in range(5):
        table.record(f"{MODEL}@{tag}", BAD, now=now)
    assert state(table, tag, now) == "ejected"


def is_well_again(table: Balancer, tag: str, now: float) -> None:
    """Others are its trial and its slow start, and have long been served there when a session asks again."""
    trial = table.best(Request(model=MODEL, provider=Preferences(only=(tag,))), now=now)
    assert trial.trial
    table.record(trial.selected.id, OK, now=now, decision=trial.id)
    for _ in range(200):
        table.record(f"{MODEL}@{tag}", OK, now=now + 2.0)
    assert state(table, tag, now + 2.0) == "healthy"


@pytest.mark.parametrize("strategy", ["adaptive", "price", "weighted", "least_loaded"])
def test_after_an_outage_within_the_caches_lifetime_it_returns_to_its_provider(
    make: Make, strategy: StrategyName
) -> None:
    table = make(strategy)
    home = turn(table, 0.0)
    breaks(table, home, 10.0)
    away = turn(table, 12.0)
    assert away != home
    assert leads(table, 13.0) == (away, True)  # its second provider is its own too, meanwhile
    is_well_again(table, home, 400.0)
    assert leads(table, 403.0) == (home, True)


def test_after_an_outage_that_was_longer_it_does_not_return(make: Make) -> None:
    table = make()
    home = turn(table, 0.0)
    breaks(table, home, 10.0)
    away = turn(table, 12.0)
    # A failed probe says that it is no time for a trial yet.
    table.record(f"{MODEL}@{home}", Outcome(kind="connect", shallow=True), now=499.0, source="probe")
    assert turn(table, 500.0) == away
    is_well_again(table, home, 800.0)
    assert leads(table, 803.0) == (away, True)


def test_the_lifetime_is_the_providers_own_where_that_is_known(make: Make) -> None:
    table = make(a={"cache_ttl": 60.0}, b={"price": 2.0}, c={"price": 3.0}, d={"price": 4.0})
    assert turn(table, 0.0) == "a"
    table.drain("a", now=1.0, until=30.0)
    assert turn(table, 2.0) == "b"
    assert leads(table, 31.0) == ("a", True)
    assert leads(table, 61.0) == ("b", True)  # dearer, and its cache is the one that lives


# ---- health comes first ------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["adaptive", "price", "weighted", "least_loaded"])
@pytest.mark.parametrize("order", [(), TAGS], ids=["free", "order"])
@pytest.mark.parametrize("what", ["ejected", "throttled", "drained", "misconfigured"])
def test_it_gives_way_at_once(make: Make, strategy: StrategyName, order: tuple[str, ...], what: str) -> None:
    table = make(strategy)
    home = turn(table, 0.0, order=order)
    assert leads(table, 1.0, order=order) == (home, True)
    match what:
        case "ejected":
            breaks(table, home, 1.0)
        case "throttled":
            table.record(f"{MODEL}@{home}", Outcome(kind="rate_limited", retry_after=60.0), now=1.0)
        case "drained":
            table.drain(home, now=1.0)
        case _:
            for _ in range(3):
                table.record(f"{MODEL}@{home}", Outcome(kind="refused", status=401), now=1.0)
    assert state(table, home, 1.0) == what
    decision = table.best(asked(order=order), now=1.0)
    assert decision.selected.tag != home
    assert home not in [each.tag for each in decision.fallbacks]
    assert not decision.sticky


def test_it_gives_way_to_the_degraded_only_where_somebody_is_better(make: Make) -> None:
    table = make("price")
    home = turn(table, 0.0)
    for tag in TAGS:
        table.record(f"{MODEL}@{tag}", OK, now=0.5)
    for _ in range(3):
        table.record(f"{MODEL}@{home}", BAD, now=1.0)
    assert state(table, home, 1.0) == "degraded"
    assert leads(table, 1.0)[0] != home
    for tag in TAGS:
        if tag != home:
            for _ in range(3):
                table.record(f"{MODEL}@{tag}", BAD, now=1.0)
    assert leads(table, 1.0) == (home, True)


def test_a_trial_does_not_take_a_session_from_its_provider_while_others_may_find_out(make: Make) -> None:
    table, other = make(b={"price": 0.5}), "b"
    table.drain(other, now=0.0)
    home = turn(table, 0.0)
    table.resume(other, now=0.5)
    breaks(table, other, 1.0)
    decision = table.best(asked(), now=20.0)
    assert (decision.selected.tag, decision.trial, decision.sticky) == (home, False, True)
    assert table.best(Request(model=MODEL), now=20.0).selected.tag == other


def test_where_one_session_is_all_the_traffic_it_is_the_trial_of_its_own_provider(make: Make) -> None:
    table = make()
    home = turn(table, 0.0)
    breaks(table, home, 10.0)
    assert turn(table, 12.0) != home
    decision = table.best(asked(), now=25.0)
    assert (decision.selected.tag, decision.trial) == (home, True)


# ---- a flood -----------------------------------------------------------------------------------------


def test_a_flood_of_keys_takes_no_more_memory_than_was_allowed(make: Make) -> None:
    table = make("price", sticky=StickyPolicy(max_sessions=1000))
    mine = turn(table, 0.0)
    for number in range(8000):
        now = 1.0 + number / 1000
        table.best(asked(session=f"{number}" * 40), now=now)
        if number % 500 == 0:
            assert turn(table, now) == mine
            assert table.view(now=now).sessions <= 1000
    assert table.view(now=30.0).sessions == 1000
    assert leads(table, 30.0) == (mine, True)  # whoever is there often is not swept away
    assert leads(table, 30.0, session="0" * 40)[1] is False
    assert leads(table, 30.0, session="7999" * 40)[1] is True
