"""A pool that is refreshed as things happen, against one that is built anew of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.ceiling import CEILING_AGE_MAX, CEILING_BURST, CEILING_REQUESTS
from balancer.core.model import Endpoint, HealthPolicy, Limits, Model, PriceOverride, Pricing
from balancer.core.notes import Drain
from balancer.core.outcome import Outcome
from balancer.core.pool import Pool
from balancer.core.request import Request
from balancer.core.row import Row

MakeEndpoint = Callable[..., Endpoint]
MakeRequest = Callable[..., Request]

POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=1.0)
BAD = Outcome(kind="server_error", status=500)
MONDAY = 1_767_571_200.0  # 2026-01-05 00:00 UTC
NIGHT = PriceOverride(start=0, end=360, prompt=0.5)
STEPS = (PriceOverride(min_prompt_tokens=100, prompt=2.0), PriceOverride(min_prompt_tokens=200, prompt=8.0))


def pool_of(*endpoints: Endpoint, now: float = 0.0, seed: int = 1) -> Pool:
    rows = [Row(each, POLICY, random=Random(seed), now=0.0) for each in endpoints]
    return pool_over(rows, now)


def pool_over(rows: Sequence[Row], now: float) -> Pool:
    endpoints = [row.endpoint for row in rows]
    return Pool(
        Model(id="author/slug", name="m", endpoints=tuple(each.id for each in endpoints)),
        rows,
        policy=POLICY,
        fates={each.id: place for place, each in enumerate(endpoints)},
        now=now,
    )


def take(row: Row, outcome: Outcome, now: float, *, times: int = 1, age: float = 0.0, probe: bool = False) -> None:
    for _ in range(times):
        row.record(
            outcome,
            source="probe" if probe else "report",
            ended=now - age,
            duration=None,
            now=now,
            decision="dec_1",
            policy=POLICY,
            random=Random(1),
        )


# ---- keeping up --------------------------------------------------------------------------------------

Step = tuple[str, int, float, int, float | None]
OUTCOMES = {
    "ok": OK,
    "bad": BAD,
    "429": Outcome(kind="rate_limited", status=429),
    "wait": Outcome(kind="overloaded", status=503, retry_after=40.0),
    "refused": Outcome(kind="refused", status=401),
    "listed": Outcome(kind="success", shallow=True),
    "unlisted": Outcome(kind="connect", shallow=True),
    "hit": Outcome(kind="success", prompt_tokens=50, cached_tokens=25),
}
steps = st.lists(
    st.tuples(
        st.sampled_from((*OUTCOMES, "bad", "bad", "ok", "deep", "drain", "trial", "back", "pass")),
        st.integers(0, 2),
        st.sampled_from((0.0, 0.5, 1.0, 7.0, 31.0, 120.0, 310.0, 2000.0, 30_000.0, 100_000.0)),
        st.sampled_from((0, 100, 101, 200, 201, 5000)),  # the length of the prompt
        st.sampled_from((None, 1.0, 5.99, 6.0, 24.0)),  # the hour
    ),
    max_size=25,
)


def play(step: Step, rows: Sequence[Row], now: float) -> None:
    """Do one step to the rows at `now`. It depends on nothing that was read."""
    what, place, _, _, _ = step
    row = rows[place]
    if what in OUTCOMES:
        times = 5 if what == "bad" else 1
        if what == "429" and place:  # so many that it learns a ceiling
            times = CEILING_BURST
            for _ in range(CEILING_REQUESTS):
                row.ceiling.took(now)
        take(row, OUTCOMES[what], now, times=times, probe=OUTCOMES[what].shallow)
    elif what == "deep":
        take(row, OK, now, probe=True)
    elif what == "drain":
        row.drains = (Drain("x", "upgrade", now, now + 50.0),)
        row.touch()
    elif what == "trial" and row.health.phase_at(now) == "ejected":
        row.health.start_trial(decision="dec_1", now=now, expires=now + 60.0)
        row.touch()


def told(pool: Pool, now: float) -> dict[str, Any]:
    return {
        "entries": [
            (each.state, each.degraded, each.tier, each.stale, each.failure, each.sent, each.answered)
            for each in pool.entries
        ],
        "prior": pool.prior,
        "pool": (pool.calm, pool.stale, pool.leaderless(now), [each.endpoint.id for each in pool.ejected]),
    }


@given(steps)
def test_after_anything_that_happens_a_refreshed_pool_is_one_built_anew(
    endpoint: MakeEndpoint, drawn: list[Step]
) -> None:
    endpoints = [
        endpoint("a", pricing=Pricing(prompt=2.0, completion=2.0, input_cache_read=0.5, overrides=STEPS)),
        endpoint("b", price=None),
        endpoint("c", pricing=Pricing(prompt=1.0, completion=3.0, overrides=(NIGHT, STEPS[1]))),
    ]
    pool = pool_of(*endpoints)
    played: list[tuple[Step, float]] = []
    latest, wall = 0.0, None
    for step in drawn:
        if step[0] == "back":  # somebody asks about the past, and changes nothing by it
            now = max(0.0, latest - step[2])
        else:
            now = latest = latest + step[2]
            play(step, [entry.row for entry in pool.entries], now)
            played.append((step, now))
        *_, length, hour = step
        if hour is not None:
            wall = MONDAY + hour * 3600  # once told it is remembered
        pool.refresh(now, None if hour is None else wall)
        pool.price(length, now)
        # Other rows with the same history, of which nothing was ever read.
        rows = [Row(each, POLICY, random=Random(1), now=0.0) for each in endpoints]
        for past, then in played:
            play(past, rows, then)
        anew = pool_over(rows, now)
        anew.refresh(now, wall)
        anew.price(length, now)
        assert told(pool, now) == told(anew, now), (step, now)


def test_stale_is_what_neither_a_report_nor_a_deep_probe_saw_lately(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"))
    first, second = pool.entries
    take(second.row, OK, 0.0)

    def stale(now: float) -> bool:
        pool.refresh(now, None)
        return first.stale

    pool.refresh(0.0, None)
    assert (first.stale, second.stale, pool.stale) == (True, False, True)
    take(first.row, Outcome(kind="success", shallow=True), 1.0, probe=True)
    assert stale(1.0)  # a list of models proves no work
    take(first.row, OK, 2.0, probe=True)
    assert (stale(2.0), pool.stale) == (False, False)
    assert stale(2.0 + 86_400.0)  # that probes do real work is no evidence by itself
    assert pool.stale
    take(first.row, BAD, 90_000.0)
    assert not stale(90_000.0)


def test_who_is_held_or_drained_forgets_its_failures_all_the_while(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"))
    held, drained = pool.entries
    for entry in pool.entries:
        take(entry.row, OK, 0.0, times=9)
        take(entry.row, BAD, 0.0, times=3)
    take(held.row, Outcome(kind="rate_limited", status=429, retry_after=300.0), 0.0)
    drained.row.drains = (Drain("b", "upgrade", 0.0, 1000.0),)
    drained.row.touch()
    pool.refresh(0.0, None)
    assert [(entry.state, entry.tier) for entry in pool.entries] == [("throttled", 2), ("drained", 2)]
    before = [entry.failure for entry in pool.entries]
    pool.refresh(40.0, None)
    assert all(entry.tier < 2 for entry in pool.entries)
    pool.refresh(299.0, None)
    assert all(entry.failure < old for entry, old in zip(pool.entries, before, strict=True))
    pool.refresh(999.0, None)
    assert (drained.state, drained.degraded, drained.tier) == ("drained", False, 0)


def test_the_version_grows_with_every_change_of_a_state_and_stands_while_nothing_changes(
    endpoint: MakeEndpoint,
) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"))
    first = pool.entries[0]
    pool.refresh(1.0, None)
    versions = [pool.version]
    for outcomes, now in ((1, 2.0), (5, 3.0)):
        take(first.row, BAD if outcomes > 1 else OK, now, times=outcomes)
        pool.refresh(now, None)
        versions.append(pool.version)
    assert versions == sorted(set(versions))
    take(pool.entries[1].row, OK, 4.0)
    pool.refresh(4.0, None)
    before = pool.version
    take(pool.entries[1].row, OK, 4.1)
    pool.refresh(4.1, None)
    assert pool.version == before


def test_one_row_that_moves_the_prior_moves_the_chances_of_all(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"), endpoint("c"))
    before = [entry.failure for entry in pool.entries]
    for now in (1.0, 61.0, 121.0):
        for entry in pool.entries[:2]:
            take(entry.row, BAD, now)
    pool.refresh(121.0, None)
    assert pool.entries[2].failure > before[2]
    assert pool.entries[2].failure == pytest.approx(pool.prior)


@pytest.mark.parametrize(
    ("tags", "broken", "leaderless"),
    [
        (("a", "b"), ("a",), False),
        (("a", "b"), ("a", "b"), True),
        (("a", "b/flex"), ("a",), True),
        (("a/flex", "b/flex"), ("a/flex",), False),
        (("a/flex", "b/flex"), ("a/flex", "b/flex"), True),
    ],
    ids=["one is left", "nobody", "only a tier", "all are of a tier", "nobody of the tier"],
)
def test_a_model_is_leaderless_when_health_leaves_nobody_for_an_ordinary_request(
    endpoint: MakeEndpoint, tags: tuple[str, ...], broken: tuple[str, ...], leaderless: bool
) -> None:
    pool = pool_of(*(endpoint(tag, tier="flex" if "flex" in tag else None) for tag in tags))
    for entry in pool.entries:
        if entry.endpoint.tag in broken:
            take(entry.row, BAD, 1.0, times=5)
    pool.refresh(1.0, None)
    assert pool.leaderless(1.0) is leaderless
    assert {entry.endpoint.tag for entry in pool.ejected} == set(broken)


def test_a_model_whose_last_resort_is_held_is_leaderless_when_the_hold_is_over(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"))
    for entry in pool.entries:
        take(entry.row, BAD, 1.0, times=5)
        take(entry.row, Outcome(kind="rate_limited", retry_after=60.0), 1.0)
    pool.refresh(1.0, None)
    assert [pool.leaderless(now) for now in (1.0, 60.0, 61.0)] == [False, False, True]
    pool.entries[0].row.drains = (Drain("x", "upgrade", 0.0, None),)
    assert pool.leaderless(61.0)
    pool.entries[1].row.enforced = False
    assert not pool.leaderless(61.0)


def test_a_pool_is_calm_until_somebody_is_limited_recovering_or_has_a_ceiling(endpoint: MakeEndpoint) -> None:
    assert not pool_of(endpoint("a", limits=Limits(rpm=5))).calm
    pool = pool_of(endpoint("a"), endpoint("b"))
    row = pool.entries[0].row
    assert pool.calm
    take(row, BAD, 1.0, times=5)
    pool.refresh(1.0, None)
    assert pool.calm
    row.health.start_trial(decision="dec_1", now=2.0, expires=90.0)
    take(row, OK, 3.0)
    pool.refresh(3.0, None)
    assert (pool.entries[0].state, pool.calm) == ("recovering", False)
    other = pool_of(endpoint("a"))
    row = other.entries[0].row
    for _ in range(CEILING_REQUESTS):
        row.ceiling.took(1.0)
    take(row, OUTCOMES["429"], 1.0, times=CEILING_BURST)
    other.refresh(1.0, None)
    assert not other.calm
    take(row, OK, CEILING_AGE_MAX)
    other.refresh(CEILING_AGE_MAX, None)
    assert not other.calm
    row.ceiling.took(1.0 + CEILING_AGE_MAX)  # what was learned is forgotten
    take(row, OK, 1.0 + CEILING_AGE_MAX)
    other.refresh(1.0 + CEILING_AGE_MAX, None)
    assert other.calm


def test_what_an_endpoint_would_be_if_it_were_well_is_another_entry(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a", price=3.0), endpoint("b"))
    ill = pool.entries[0]
    take(ill.row, BAD, 1.0, times=5)
    pool.refresh(1.0, None)
    well = ill.recovered(0.03)
    assert (well.failure, well.tier, well.stale) == (0.03, 0, False)
    assert (well.endpoint, well.sent, well.weight, well.fate) == (ill.endpoint, ill.sent, ill.weight, ill.fate)
    assert ill.tier == 2
    assert ill.failure > 0.5
