"""A provider's quota: 429s teach how much an endpoint bears, noise teaches nothing, and an operator's limit holds.

Two endpoints of one model, A at $1 and B at $3, so that all the traffic wants to go to A.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random

import pytest

from balancer import Balancer, NoEndpoint, Outcome, Request
from balancer.core.capacity import MINUTE
from balancer.core.model import Catalog, Endpoint, Limits, Model, Pricing

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]

MODEL, SECOND = "author/slug", "author/second"
A, B, C = f"{MODEL}@a", f"{MODEL}@b", f"{SECOND}@c"

SEEDS = (1, 3, 6)
RATE = 2.0  # requests a second
ASKED = Request(model=MODEL, prompt_tokens=100, max_tokens=100)
GOOD = Outcome(kind="success", latency=0.1, prompt_tokens=100, completion_tokens=100)
LIMITED = Outcome(kind="rate_limited", status=429, latency=0.1)

BACK = 0.9  # of the traffic, at the endpoint that is a third of the price


def _world(seed: int, *, limits: Limits | None = None) -> Balancer:
    endpoints = {
        key: Endpoint(
            id=key,
            model=key.partition("@")[0],
            tag=key[-1],
            provider=key[-1],
            provider_name=key[-1],
            upstream_model="upstream",
            base_url=f"https://{key[-1]}.example",
            pricing=Pricing(prompt=price, completion=price),
            identity="1",
            quota=key[-1],
            limits=limits if key == A else None,
        )
        for key, price in ((A, 1.0), (B, 3.0), (C, 9.0))
    }
    models = {
        MODEL: Model(id=MODEL, name=MODEL, endpoints=(A, B)),
        SECOND: Model(id=SECOND, name=SECOND, endpoints=(C,)),
    }
    return Balancer(Catalog(models=models, endpoints=endpoints), seed=seed)


class Minutes:
    """What was sent to A and what it refused, by the minute."""

    def __init__(self) -> None:
        self.all: Counter[int] = Counter()
        self.there: Counter[int] = Counter()
        self.limited: Counter[int] = Counter()

    def share(self, first: int, last: int) -> float:
        """A's part of the traffic of these minutes, the last one among them."""
        span = range(first, last + 1)
        return sum(self.there[each] for each in span) / sum(self.all[each] for each in span)


def drive(
    table: Balancer,
    refuses: Callable[[float], bool],
    *,
    minutes: int,
    rate: float = RATE,
    first: int = 0,
) -> Minutes:
    """Ask and report so often a second from minute `first` on; `refuses` says whether A answers with a 429."""
    told = Minutes()
    for number in range(int(minutes * MINUTE * rate)):
        now = first * MINUTE + number / rate
        decision = table.best(ASKED, now=now)
        there = decision.selected.id == A
        limited = there and refuses(now)
        outcome = LIMITED if limited else GOOD
        table.record(decision.selected.id, outcome, now=now + 0.1, decision=decision.id)
        minute = int(now // MINUTE)
        told.all[minute] += 1
        told.there[minute] += there
        told.limited[minute] += limited
    return told


def never(now: float) -> bool:
    return False


# ---- noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_single_429_to_the_first_request_is_forgiven_within_minutes(seed: int) -> None:
    table, answers = _world(seed), iter([True])
    told = drive(table, lambda now: next(answers, False), minutes=12)
    assert sum(told.limited.values()) == 1
    assert table.endpoint(A, now=12 * MINUTE).ceiling is None
    assert told.share(10, 11) > BACK


@pytest.mark.parametrize("seed", SEEDS)
def test_a_429_to_a_shallow_probe_teaches_no_ceiling(seed: int) -> None:
    table = _world(seed)
    drive(table, never, minutes=2)
    for _ in range(20):
        probe = Outcome(kind="rate_limited", status=429, latency=0.1, shallow=True)
        table.record(A, probe, now=2 * MINUTE, source="probe")
    assert table.endpoint(A, now=2 * MINUTE).ceiling is None
    assert drive(table, never, minutes=2, first=2).share(3, 3) > BACK


@pytest.mark.parametrize("seed", SEEDS)
def test_rare_429s_of_much_traffic_cost_their_holds_and_teach_no_ceiling(seed: int) -> None:
    table, random = _world(seed), Random(seed)
    told = drive(table, lambda now: random.random() < 0.005, minutes=5, rate=20.0)
    assert table.endpoint(A, now=5 * MINUTE).ceiling is None
    # Six 429s a minute without a `Retry-After` hold for 2.5 to 5 s each.
    assert 0.5 < told.share(0, 4) < 0.95
    assert drive(table, never, minutes=2, rate=20.0, first=5).share(6, 6) > BACK


# ---- real quotas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_storm_of_429s_the_cheaper_one_is_back_within_minutes(seed: int) -> None:
    table = _world(seed)
    told = drive(table, lambda now: 5 * MINUTE <= now < 15 * MINUTE, minutes=25)
    assert told.share(0, 4) > BACK
    assert sum(told.limited.values()) <= 20  # of 1,200 that would have liked to go there
    assert (
        told.share(21, 24) > BACK
    )  # the longest hold is five minutes long, and a ceiling that came first is forgotten


@pytest.mark.parametrize("seed", SEEDS)
def test_a_quota_of_half_the_traffic_is_used_and_seldom_run_into(seed: int) -> None:
    table, taken = _world(seed), deque[float]()

    def refuses(now: float) -> bool:
        while taken and taken[0] <= now - MINUTE:
            taken.popleft()
        if len(taken) >= 60:
            return True
        taken.append(now)
        return False

    told = drive(table, refuses, minutes=20)
    used = [told.there[minute] - told.limited[minute] for minute in range(2, 20)]
    assert min(used) >= 30
    assert 40 <= sum(used) / len(used) <= 60
    assert max(told.limited.values()) <= 5
    assert sum(told.limited.values()) / 20 <= 3


# ---- the operator's limits ---------------------------------------------------------------------------


def held(table: Balancer, *, now: float, tokens: int = 100) -> bool:
    """Whether A is left alone because of its limits."""
    request = Request(model=MODEL, prompt_tokens=tokens, max_tokens=0, provider={"only": ["a"]})
    try:
        table.best(request, now=now, dry=True)
    except NoEndpoint as refusal:
        return refusal.excluded_by == ("limits",)
    return False


def test_a_proxy_that_uses_one_answer_for_many_requests_keeps_the_limit_too() -> None:
    table = _world(1, limits=Limits(rpm=10))
    decision = table.best(ASKED, now=0.0)
    for number in range(10):
        assert not held(table, now=float(number))
        table.record(A, GOOD, now=float(number), decision=decision.id)
    assert held(table, now=10.0)
    assert table.best(ASKED, now=10.0).selected.id == B
    assert not held(table, now=62.0)


def test_a_proxy_that_never_reports_keeps_the_limit_too() -> None:
    table = _world(1, limits=Limits(rpm=10))
    assert [table.best(ASKED, now=float(number)).selected.id for number in range(12)] == [A] * 10 + [B] * 2


def test_the_tokens_that_reports_tell_count_where_the_guess_was_lower() -> None:
    table = _world(1, limits=Limits(tpm=10_000))
    decision = table.best(ASKED, now=0.0)
    assert not held(table, now=0.0, tokens=9000)
    long = Outcome(kind="success", latency=1.0, prompt_tokens=100, completion_tokens=9000)
    table.record(A, long, now=1.0, decision=decision.id)
    assert not held(table, now=1.0, tokens=900)
    assert held(table, now=1.0, tokens=901)
    assert not held(table, now=63.0, tokens=901)


# ---- the retry budget --------------------------------------------------------------------------------


def test_a_walk_from_the_asked_model_to_its_fallback_is_a_retry_of_the_asked_one() -> None:
    table = _world(1)
    request = Request(model=MODEL, models=[SECOND])
    for number in range(20):
        decision = table.best(request, now=float(number))
        walk = [decision.selected.id, *(each.id for each in decision.fallbacks)]
        assert walk[-1] == C
        table.record(walk[0], Outcome(kind="server_error", status=500), now=number + 0.1, decision=decision.id)
        table.record(C, GOOD, now=number + 0.2, decision=decision.id)
    budgets = {each.id: each.retry_budget for each in table.view(now=20.0).models}
    assert (budgets[MODEL].share, budgets[MODEL].exhausted) == (0.5, True)
    assert (budgets[SECOND].share, budgets[SECOND].exhausted) == (0.0, False)


def test_a_limit_gives_what_it_says_however_long_an_answer_takes(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    limited = endpoint("a", price=1.0, limits=Limits(rpm=10), quota="a")
    table = Balancer(catalog(limited, endpoint("b", price=9.0)), seed=1)
    under_way: list[tuple[float, str, str]] = []
    sent = 0
    for second in range(600):
        for ended, key, decision in [each for each in under_way if each[0] <= second]:
            outcome = Outcome(kind="success", latency=20.0, prompt_tokens=100, completion_tokens=10)
            table.record(key, outcome, now=ended, decision=decision)
        under_way = [each for each in under_way if each[0] > second]
        decided = table.best(Request(model="author/slug"), now=float(second))
        under_way.append((second + 20.0, decided.selected.id, decided.id))
        sent += decided.selected.tag == "a"
    assert 95 <= sent <= 105  # ten a minute for ten minutes


@pytest.mark.parametrize("request_of_all", [{"provider": {"allow_fallbacks": False}}, {"session_id": "s"}])
def test_an_ejected_one_is_tried_even_where_nobody_should_try_it(
    endpoint: MakeEndpoint, catalog: MakeCatalog, request_of_all: dict[str, object]
) -> None:
    table = Balancer(catalog(endpoint("a", price=1.0), endpoint("b", price=2.0)), seed=1)
    if "session_id" in request_of_all:  # it is cached at b, and was never at a
        table.record("author/slug@b", Outcome(kind="success", latency=1.0), now=0.0, session_id="s")
    for _ in range(5):
        table.record("author/slug@a", Outcome(kind="server_error", status=500), now=1.0)
    trials = []
    for second in range(2, 120):
        decided = table.best(Request(model="author/slug", **request_of_all), now=float(second))  # type: ignore[arg-type]
        assert not (decided.trial and decided.sticky)
        if decided.trial:
            trials.append(second)
        table.record(
            decided.selected.id,
            Outcome(kind="success", latency=0.1),
            now=second + 0.1,
            decision=decided.id,
            session_id="s" if "session_id" in request_of_all else None,
        )
    assert len(trials) == 1
    assert 60 < trials[0] < 80  # a minute after its hold of ten seconds at the most
