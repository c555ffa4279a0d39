"""Quota domains: what is said of an account holds all that share it, and nothing else, and never for less.

Three domains: two keys of one provider, one endpoint of the first at another model; and a provider that names none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer import Balancer, NoEndpoint, Outcome, Request
from balancer.config import parse_config
from balancer.core.capacity import HOLD_FIRST, HOLD_MIN
from balancer.core.model import Catalog, Endpoint, HealthPolicy, Limits
from balancer.core.outcome import KINDS

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]

MODEL, SECOND = "author/slug", "author/second"
A, OTHER, COPY, LONE = f"{MODEL}@p/a", f"{SECOND}@p/b", f"{MODEL}@p/a:2", f"{MODEL}@q"
DOMAINS = {A: "p", OTHER: "p", COPY: "p:2", LONE: "q"}
LONGEST = HealthPolicy().throttle_max


@pytest.fixture(scope="module")
def world(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Catalog:
    """The catalog; nobody has limits."""
    return catalog(
        endpoint("p/a", quota="p"),
        endpoint("p/b", model=SECOND, quota="p"),
        endpoint("p/a:2", quota="p:2"),
        endpoint("q", quota=""),
    )


def holds(table: Balancer, now: float) -> dict[str, float]:
    """Until when each endpoint is held, as a dump tells it; `now` where it is not."""
    told: dict[str, Any] = table.dump(now=now)["endpoints"]
    return {key: now + each["throttle"]["hold"] for key, each in told.items()}


def throttled(table: Balancer, after: int) -> list[str]:
    """The endpoints that were told to be held since then."""
    news = table.transitions(after)
    return [each.endpoint or "" for each in news if each.event == "endpoint.throttled"]


def last(table: Balancer) -> int:
    return table.transitions(0)[-1].number


CALLS = st.lists(
    st.tuples(
        st.sampled_from(sorted(DOMAINS)),
        st.sampled_from(("rate_limited", "rate_limited", "overloaded", "success", *KINDS)),
        st.none() | st.sampled_from([0.0, 0.5, 20.0, 90.0, 1e6]),  # retry_after
        st.booleans(),  # of the whole account
        st.sampled_from([0.0, 0.1, 30.0]),  # since it ended
        st.sampled_from([0.0, 0.1, 5.0, 40.0, 400.0]),  # until then
        st.booleans(),  # shallow
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(calls=CALLS)
def test_a_hold_falls_on_its_domain_alone_and_never_shortens(world: Catalog, calls: list[Any]) -> None:
    table, now = Balancer(world, seed=1), 1000.0
    for key, kind, hint, account, age, wait, shallow in calls:
        now += wait
        number, before = last(table), holds(table, now)
        table.record(key, Outcome(kind=kind, retry_after=hint, account=account, shallow=shallow), now=now, age=age)
        after = holds(table, now)
        asks = kind == "rate_limited" or (hint is not None and kind in ("overloaded", "refused", "success"))
        meant = {each for each in DOMAINS if each == key or (account and DOMAINS[each] == DOMAINS[key])}
        for each in DOMAINS:
            assert after[each] >= before[each] - 1e-6
            if each not in meant or not asks:
                assert after[each] == pytest.approx(before[each])
            elif hint is not None:
                held = now - age + min(max(hint, HOLD_MIN), LONGEST)
                assert after[each] == pytest.approx(max(before[each], held))
            else:
                least = now - age + HOLD_FIRST / 2
                assert max(before[each], now, least) - 1e-6 <= after[each] <= max(before[each], now + LONGEST)
        news = [each for each in DOMAINS if before[each] <= now < after[each]]
        assert sorted(throttled(table, number)) == sorted(news)


def test_the_whole_account_is_told_once_and_says_where_it_was_found(world: Catalog) -> None:
    table = Balancer(world, seed=1)
    number = last(table)
    limited = Outcome(kind="rate_limited", status=429, retry_after=30.0, account=True)
    for second in (1.0, 2.0, 3.0):
        table.record(A, limited, now=second)
    told = [(each.endpoint, each.reason, each.state, each.next_at) for each in table.transitions(number)]
    assert told == [
        (A, "rate_limited (30.0 s)", "throttled", 31.0),
        (OTHER, f"rate_limited of the whole account, at {A} (30.0 s)", "throttled", 31.0),
    ]


def test_a_hold_of_the_account_is_no_failure_and_no_request_of_the_others(world: Catalog) -> None:
    table = Balancer(world, seed=1)
    for _ in range(50):
        table.record(A, Outcome(kind="rate_limited", account=True), now=1.0)
    view = table.endpoint(OTHER, now=1.0)
    assert (view.state, view.ceiling, view.outcomes, view.failures) == ("throttled", None, {}, ())
    assert (view.windows["report"]["30s"].rate_limited, view.ejections) == (0, {})


def test_without_a_hint_the_account_steps_back_together_and_returns_one_by_one(world: Catalog) -> None:
    table, now = Balancer(world, seed=1), 1.0
    lengths = []
    for _ in range(4):  # each time another of the two finds out that nothing has changed
        for key in (A, OTHER):
            now = max(holds(table, now)[each] for each in (A, OTHER)) + 0.1
            table.record(key, Outcome(kind="rate_limited", account=True), now=now)
            lengths.append([holds(table, now)[each] - now for each in (A, OTHER)])
    for step, pair in enumerate(lengths):
        whole = min(HOLD_FIRST * 2**step, LONGEST)
        assert all(whole / 2 <= length <= whole for length in pair)
    now += LONGEST
    table.record(A, Outcome(kind="success"), now=now)
    for key, whole in (
        (A, HOLD_FIRST),
        (OTHER, LONGEST),
    ):  # a success shows that A may be asked, not that both may
        table.record(key, Outcome(kind="rate_limited"), now=now + 1.0)
        assert whole / 2 <= holds(table, now + 1.0)[key] - now - 1.0 <= whole


def test_an_account_that_is_held_whole_is_a_429_with_its_wait(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table = Balancer(catalog(endpoint("p/a", quota="p"), endpoint("p/b", quota="p")), seed=1)
    table.record(f"{MODEL}@p/a", Outcome(kind="rate_limited", retry_after=45.0, account=True), now=1.0)
    with pytest.raises(NoEndpoint) as caught:
        table.best(Request(model=MODEL), now=6.0)
    assert (caught.value.code, caught.value.retry_after) == ("capacity_exhausted", 40.0)


def test_the_last_of_a_quota_holds_although_it_succeeded(world: Catalog) -> None:
    table = Balancer(world, seed=1)
    number = last(table)
    table.record(A, Outcome(kind="success", latency=1.0, retry_after=30.0), now=1.0)
    view = table.endpoint(A, now=1.0)
    assert (view.state, view.next_at, view.outcomes) == ("throttled", 31.0, {("report", "success"): 1})
    assert [each.reason for each in table.transitions(number)] == ["quota used up (30.0 s)"]
    table.record(A, Outcome(kind="success", latency=1.0), now=2.0)  # it was under way
    assert table.endpoint(A, now=30.9).state == "throttled"
    assert table.endpoint(A, now=31.0).state == "healthy"


def test_where_no_domain_is_named_provider_and_credential_are_one(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    tags = {"p/a": "env ONE", "p/b": "env ONE", "p/c": "env TWO", "p/d": None, "p/e": None, "q/a": "env ONE"}
    table = Balancer(catalog(*[endpoint(tag, credential=key) for tag, key in tags.items()]), seed=1)
    for tag, same in (("p/a", {"p/a", "p/b"}), ("p/c", {"p/c"}), ("p/d", {"p/d", "p/e"}), ("q/a", {"q/a"})):
        fresh = Balancer(table.catalog, seed=1)
        fresh.record(f"{MODEL}@{tag}", Outcome(kind="rate_limited", account=True), now=1.0)
        held = {each.endpoint.tag for each in fresh.view(now=1.0).endpoints if each.state == "throttled"}
        assert held == same


def test_every_endpoint_of_a_file_has_a_domain_with_limits_or_without() -> None:
    config = parse_config(
        """
providers:
  p: {base_url: "https://p.example", credential: [{env: ONE}, {env: TWO}], variants: {eu: {credential: {env: ONE}}}}
  q: {base_url: "https://q.example", limits: {rpm: 5}}
models:
  x/y: {endpoints: [{provider: p, model: m}, {provider: p/eu, model: m}, {provider: q, model: m}]}
  x/z: {endpoints: [{provider: p, model: n}]}
""",
        source="t.yaml",
    )
    domains = {each.id: each.quota for each in config.endpoints.values()}
    assert domains == {
        "x/y@p": "p", "x/y@p:2": "p:2", "x/y@p/eu": "p", "x/y@q": "q", "x/z@p": "p", "x/z@p:2": "p:2",
    }  # fmt: skip
    assert config.endpoints["x/y@q"].limits == Limits(rpm=5)
    table = Balancer(config, seed=1)
    table.record("x/z@p", Outcome(kind="rate_limited", account=True), now=1.0)
    held = {each.id for each in table.view(now=1.0).endpoints if each.state == "throttled"}
    assert held == {"x/y@p", "x/y@p/eu", "x/z@p"}
