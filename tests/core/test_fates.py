from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.fates import KIN_STEP, Kin, shared_fates
from balancer.core.model import Endpoint, HealthPolicy
from balancer.core.outcome import Outcome
from balancer.core.row import Row

MakeEndpoint = Callable[..., Endpoint]
POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=0.0)
OK_SHALLOW = Outcome(kind="success", shallow=True)
BAD = Outcome(kind="server_error", status=500)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("alpha/eu", "https://eu.alpha.example/v1"), ("alpha/us", "https://us.alpha.example/v1"), True),
        (("alpha", "https://alpha.example/v1"), ("beta", "https://beta.example/v1"), False),
        (("alpha", "https://cloud.example/alpha"), ("beta", "https://cloud.example/beta"), True),
        (("alpha", "https://Cloud.Example/v1"), ("beta", "https://cloud.example/v1"), True),
        (("alpha", "https://key@cloud.example/v1"), ("beta", "https://cloud.example/v1"), True),
        (("alpha", "http://127.0.0.1:8001/v1"), ("beta", "http://127.0.0.1:8002/v1"), False),
        (("alpha", "http://127.0.0.1:8001/v1"), ("beta", "http://127.0.0.1:8001/v2"), True),
    ],
    ids=["a provider", "nothing", "a host", "a host in any case", "a host with a user", "two ports", "a port"],
)
def test_what_shares_a_provider_or_a_host_shares_its_fate(
    endpoint: MakeEndpoint, one: tuple[str, str], other: tuple[str, str], shared: bool
) -> None:
    first, second = (endpoint(tag, base_url=url) for tag, url in (one, other))
    fates = shared_fates([first, second])
    assert (fates[first.id] == fates[second.id]) == shared


def test_fates_are_shared_through_a_third(endpoint: MakeEndpoint) -> None:
    chain = [
        endpoint("alpha", base_url="https://one.example"),
        endpoint("alpha/eu", base_url="https://two.example"),
        endpoint("beta", base_url="https://two.example"),
        endpoint("gamma", base_url="https://three.example"),
    ]
    assert list(shared_fates(chain).values()) == [0, 0, 0, 1]


def test_one_provider_of_many_models_has_one_fate(endpoint: MakeEndpoint) -> None:
    both = [endpoint("alpha"), endpoint("alpha", model="author/other")]
    assert list(shared_fates(both).values()) == [0, 0]


pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(pairs)
def test_numbers_are_dense_and_the_order_of_endpoints_joins_and_parts_nobody(
    endpoint: MakeEndpoint, world: list[tuple[int, int]]
) -> None:
    endpoints = [
        endpoint(f"p{provider}/{place}", base_url=f"https://h{host}.example/v1")
        for place, (provider, host) in enumerate(world)
    ]
    fates = shared_fates(endpoints)
    assert set(fates) == {each.id for each in endpoints}
    assert sorted(set(fates.values())) == list(range(len(set(fates.values()))))
    backwards = shared_fates(reversed(endpoints))
    for one in endpoints:
        for other in endpoints:
            assert (fates[one.id] == fates[other.id]) == (backwards[one.id] == backwards[other.id])
            if one.provider == other.provider or one.base_url == other.base_url:
                assert fates[one.id] == fates[other.id]


# ---- what is usual among them ------------------------------------------------------------------------


def rows_of(endpoint: MakeEndpoint, count: int) -> list[Row]:
    return [Row(endpoint(f"p/{place}"), POLICY, random=Random(1), now=0.0) for place in range(count)]


def take(row: Row, outcome: Outcome, now: float) -> None:
    row.record(
        outcome, source="report", ended=now, duration=None, now=now, decision=None, policy=POLICY, random=Random(1)
    )


def test_of_whom_nothing_was_seen_nothing_is_usual(endpoint: MakeEndpoint) -> None:
    rows = rows_of(endpoint, 3)
    kin = Kin(rows)
    assert (kin.usual, {row.kin for row in rows}) == (None, {None})
    assert not any(row.news for row in rows)


def test_while_nothing_is_seen_of_anybody_nobody_is_looked_through(endpoint: MakeEndpoint) -> None:
    class Counted(list[Row]):
        times = 0

        def __iter__(self) -> Iterator[Row]:
            self.times += 1
            return super().__iter__()

    rows = Counted(rows_of(endpoint, 3))
    kin = Kin(rows)
    before = rows.times
    for now in range(1, 100):
        rows[0].record(
            OK_SHALLOW,
            source="probe",
            ended=float(now),
            duration=0.1,
            now=float(now),
            decision=None,
            policy=POLICY,
            random=Random(1),
        )
        kin.take(rows[0])
    assert (kin.usual, rows.times) == (None, before)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 600)), max_size=60))
def test_it_follows_the_mean_of_those_that_were_seen_within_a_step(
    endpoint: MakeEndpoint, story: list[tuple[int, bool, float]]
) -> None:
    rows, now = rows_of(endpoint, 4), 0.0
    kin = Kin(rows)
    for place, good, pause in story:
        now += pause
        take(rows[place], OK if good else BAD, now)
        kin.take(rows[place])
        seen = [row.belief.own for row in rows if row.belief.seen]
        assert kin.usual == pytest.approx(sum(seen) / len(seen), abs=KIN_STEP)
        assert {row.kin for row in rows} == {kin.usual}


def test_all_are_told_when_it_has_moved_a_step_and_nobody_before(endpoint: MakeEndpoint) -> None:
    rows, now, told = rows_of(endpoint, 3), 0.0, []
    kin = Kin(rows)
    for number in range(200):
        now += 30.0
        take(rows[0], BAD, now)
        for row in rows:
            row.news.clear()
        before = kin.usual
        kin.take(rows[0])
        assert [bool(row.news) for row in rows] == [kin.usual != before] * 3
        if kin.usual != before:
            told.append(number)
    assert told[0] == 0
    assert 3 < len(told) < 200


def test_built_anew_of_the_same_rows_it_says_the_same(endpoint: MakeEndpoint) -> None:
    rows, now = rows_of(endpoint, 3), 0.0
    kin = Kin(rows)
    for number in range(50):
        now += 60.0
        take(rows[number % 3], BAD if number % 5 == 0 else OK, now)
        kin.take(rows[number % 3])
    for row in rows:
        row.news.clear()
    assert Kin(rows).usual == kin.usual
    assert not any(row.news for row in rows)
