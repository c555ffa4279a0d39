"""What every policy to compare with promises, how it is asked for, and what each is known to be weak at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.outcome import KINDS, Kind
from balancer.simulation.policies import POLICIES, Policy, describe, make
from balancer.simulation.policies.interface import Move, Offer, Try
from balancer.simulation.replay import Replay, Tally
from balancer.simulation.world import Track, Truth, World

Stand = Callable[..., Any]

ORACLES: Final = ("oracle", "oracle_price")
DEMOTING: Final = ("balancer", "classic", "consecutive_5", "cooldown")
PROBED: Final = ("balancer", "classic", "two_memory")
REFERENCES: Final = [name for name in POLICIES if name != "balancer"]

every = pytest.mark.parametrize("name", REFERENCES)

# ---- by name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
def test_every_name_makes_a_policy_that_says_what_it_is(name: str) -> None:
    policy = make(name)
    assert policy.name == name
    assert policy.knows is (name in ORACLES)
    assert policy.demotes is (name in DEMOTING)
    assert policy.probed is (name in PROBED)


def test_a_policy_is_told_apart_by_its_whole_text() -> None:
    assert make("two_memory:failure_price=40").name == "two_memory:failure_price=40"
    assert make("balancer:strategy=price").name == "balancer:strategy=price"


def test_every_policy_is_made_anew() -> None:
    assert make("classic") is not make("classic")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("two_memori", "'two_memori' is no policy; did you mean two_memory?"),
        ("Oracle", "'Oracle' is no policy; did you mean oracle?"),
        ("", f"'' is no policy; use {', '.join(POLICIES)}"),
        ("zzz:a=1", f"'zzz' is no policy; use {', '.join(POLICIES)}"),
        ("oracle:", "oracle: '' is no option; write key=value"),
        ("uniform:seed=1", "uniform: seed: unknown option; there are none"),
        (
            "oracle:price=1,failure_price=-1",
            "oracle: price: unknown option; use failure_price; failure_price: -1 is out of range; use 0 to 1e+06",
        ),
        ("balancer:strategi=price", "balancer: strategi: unknown option; did you mean strategy?"),
    ],
)
def test_a_wrong_text_is_refused_with_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as refused:
        make(text)
    assert str(refused.value) == problem


def test_the_description_has_one_line_for_each_with_its_options() -> None:
    lines = describe().splitlines()
    assert [line.split()[0] for line in lines] == list(POLICIES)
    assert all(len(line) <= 110 for line in lines)
    assert next(line for line in lines if line.startswith("two_memory")).endswith("(failure_price)")


# ---- promises --------------------------------------------------------------------------------------------

prices = st.sampled_from((0.0, 1.0, 1.1, 2.0, 50.0))
offered = st.lists(st.tuples(st.integers(0, 5), prices), unique_by=lambda each: each[0], max_size=6)
steps = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.5, 7.0, 31.0, 400.0, 40_000.0)),
        st.one_of(
            offered,
            st.tuples(st.integers(0, 5), st.sampled_from(KINDS), st.integers(1, 6), st.booleans()),
            st.integers(1, 4),
        ),
    ),
    max_size=30,
)
Orders = list[tuple[int, ...]]


def world(*tracks: tuple[Truth, ...], duration: float = 1e9, **fields: Any) -> World:
    return World(
        name="made",
        duration=duration,
        models=("m",),
        tracks=tuple(
            Track(
                id=f"m@{place}", model=0, provider=f"p{place}", tag=f"p{place}", truths=truths, samples=(), **fields
            )
            for place, truths in enumerate(tracks)
        ),
    )


def lived(policy: Policy, script: list[tuple[float, Any]], seed: int) -> tuple[Orders, list[Move]]:
    """Live through the script, checking each order, and give up the orders and the moves."""
    present = [Truth(0.0, 0.9 + place / 100) for place in range(6)]
    policy.begin(world(*((truth,) for truth in present)), present, seed)
    there = dict.fromkeys(range(6), 1.0)
    policy.offer(0, [Offer(*each) for each in there.items()], 0.0)
    now, orders = 0.0, []
    for wait, step in script:
        now += wait
        if isinstance(step, list):
            there = dict(step)
            policy.offer(0, [Offer(*each) for each in there.items()], now)
        elif isinstance(step, tuple):
            track, kind, times, probe = step
            for _ in range(times):
                policy.learn(Try(track, kind, now - 0.1, now, None, None, probe, None), now)
        else:
            order = policy.choose(0, step, now).order
            assert len(order) == min(step, len(there))
            assert len(set(order)) == len(order)
            assert set(order) <= set(there)
            orders.append(tuple(order))
    return orders, policy.moves()


@every
@given(script=steps, seed=st.integers(0, 3))
@settings(max_examples=25)
def test_everybody_offered_is_ranked_once_and_the_same_seed_chooses_the_same(
    name: str, script: list[tuple[float, Any]], seed: int
) -> None:
    first = lived(make(name), script, seed)
    assert lived(make(name), script, seed) == first
    _, moves = first
    assert moves == sorted(moves)
    for track in range(6):
        own = [each.out for each in moves if each.track == track]
        assert own == [place % 2 == 0 for place in range(len(own))], "out, in, out, …"
    assert not moves or name in DEMOTING


@every
def test_a_model_without_endpoints_gets_an_empty_order(stand: Stand, name: str) -> None:
    one = stand(name, 1.0, 2.0)
    one.offer(at=5.0)
    assert one.order(5.0) == []
    one.offer((1, 2.0), at=6.0)
    assert one.order(6.0) == [1]


# ---- what each is weak at --------------------------------------------------------------------------------

HOUR: Final = 3600.0
OUTAGE: Final = (Truth(0.0, 1.0), Truth(HOUR, 0.0), Truth(2 * HOUR, 1.0))
LEAK: Final = (Truth(0.0, 0.85),)
GOOD: Final = (Truth(0.0, 1.0, prompt=1.1, completion=1.1),)
DEAR: Final = (Truth(0.0, 1.0, prompt=1.2, completion=1.2),)
QUOTA: Final = (Truth(0.0, 1.0), Truth(HOUR, 1.0, limited=1.0), Truth(2 * HOUR, 1.0))


def tally(name: str, first: tuple[Truth, ...], probe_every: float | None = 60.0) -> Tally:
    """Three hours at six requests a minute, the first of three endpoints being the cheapest."""
    there = world(first, GOOD, DEAR, duration=3 * HOUR)
    return Replay(there, make(name), seed=3, rate=0.1, probe_every=probe_every).to_end().tallies[0]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("cheapest", 1.0, 1.0),  # of the outage's first tries; it never leaves
        ("uniform", 0.28, 0.39),
        ("price_squared", 0.32, 0.46),
        ("cooldown", 0.2, 0.39),  # 5 s after half of five in a minute: hardly ever at this rate
        ("consecutive_5", 0.25, 0.40),  # five take minutes, by which the number of ejections is forgotten
        ("classic", 0.0, 0.02),
        ("two_memory", 0.0, 0.02),
        ("oracle", 0.0, 0.0),
        ("oracle_price", 0.0, 0.0),
    ],
)
def test_how_much_of_an_outage_goes_to_the_dead_endpoint(name: str, least: float, most: float) -> None:
    found = tally(name, OUTAGE)
    during = [first for at, first in zip(found.times, found.firsts, strict=True) if HOUR <= at < 2 * HOUR]
    share = during.count(0) / len(during)
    assert least <= share <= most
    assert found.lost[0] == pytest.approx(during.count(0), abs=2)  # a try is as good as its moment
    assert found.lost[2] == 0


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("cheapest", 0.1, 0.2),
        ("consecutive_5", 0.03, 0.09),
        ("cooldown", 0.02, 0.08),
        ("two_memory", 0.0, 0.01),
        ("oracle", 0.0, 0.0),
    ],
)
def test_who_waits_for_a_row_of_failures_never_sees_an_endpoint_that_leaks(
    name: str, least: float, most: float
) -> None:
    found = tally(name, LEAK)
    assert least <= found.lost[0] / found.requests <= most


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("classic", 0.25, 0.5), ("consecutive_5", 0.25, 0.5), ("two_memory", 0.0, 0.05), ("oracle", 0.0, 0.0)],
)
def test_who_does_not_count_a_429_keeps_running_into_it(name: str, least: float, most: float) -> None:
    found = tally(name, QUOTA)
    during = sum(HOUR <= at < 2 * HOUR for at in found.times)
    assert least <= found.refused / during <= most


def test_the_oracles_do_not_see_a_full_endpoint() -> None:
    there = world((Truth(0.0, 1.0),), GOOD, duration=HOUR, capacity=2)
    found = Replay(there, make("oracle"), seed=3, rate=0.2, probe_every=None).to_end().tallies[0]
    assert found.refused > 0.5 * found.requests


@pytest.mark.parametrize("kind", ["server_error", "rate_limited"])
def test_the_cheapest_is_used_again_after_an_outage(stand: Stand, kind: Kind) -> None:
    for name in ("classic", "consecutive_5", "cooldown"):
        one = stand(name, 1.0, 1.0)
        one.tell(0, *[kind] * 5, at=0.0)
        one.tell(1, *["success"] * 5, at=0.0)
        assert set(one.firsts(1801.0, 60)) == {0, 1}
