from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log
from statistics import mean, median, pstdev
from typing import Any

import pytest

from balancer.simulation.policies.interface import Choice, Move, Offer, Try
from balancer.simulation.policies.ours import Ours
from balancer.simulation.replay import TRACKS_MAX, Replay, Run, Tally, replay
from balancer.simulation.world import SPREAD, Track, Truth, World

HOUR = 3600.0
GOOD = Truth(0.0, 1.0)
DEAD = Truth(0.0, 0.0)


class Scripted:
    """Always the same order of those that are there; it keeps all that it is told."""

    probed = True
    demotes = False
    knows = False

    def __init__(self, *order: int, name: str = "scripted", probed: bool = True) -> None:
        self.name, self.order, self.probed = name, order, probed
        self.asked: list[tuple[int, float]] = []
        self.tries: list[tuple[Try, float]] = []
        self.offers: list[tuple[float, int, tuple[Offer, ...]]] = []
        self.there: dict[int, set[int]] = {}

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        self.present = present

    def offer(self, model: int, offers: Sequence[Offer], now: float) -> None:
        self.offers.append((now, model, tuple(offers)))
        self.there[model] = {each.track for each in offers}

    def choose(self, model: int, places: int, now: float) -> Choice:
        self.asked.append((model, now))
        order = [track for track in self.order if track in self.there[model]]
        return Choice(order[:places], len(self.asked))

    def learn(self, tried: Try, now: float) -> None:
        self.tries.append((tried, now))

    def moves(self) -> list[Move]:
        return [Move(7.0, 0, True)]

    def of(self, *, probe: bool = False) -> list[Try]:
        return [each for each, _ in self.tries if each.probe is probe]


def track(place: int, *truths: Truth, model: int = 0, **fields: Any) -> Track:
    return Track(
        id=f"m{model}@{place}",
        model=model,
        provider=f"p{place}",
        tag=f"p{place}",
        truths=truths,
        samples=(),
        **fields,
    )


def world(*tracks: Track, duration: float = HOUR, models: int = 1, **fields: Any) -> World:
    names = tuple(f"m{number}" for number in range(models))
    return World(name="made", duration=duration, models=names, tracks=tracks, **fields)


def equals(*truths: Truth, **fields: Any) -> World:
    """One model with an endpoint for each of these, which never changes."""
    return world(*(track(place, truth) for place, truth in enumerate(truths)), **fields)


def ran(
    there: World, policy: Any, *, seed: int = 1, rate: float = 1.0, probe_every: float | None = None, **how: Any
) -> Run:
    return Replay(there, policy, seed=seed, rate=rate, probe_every=probe_every, **how).to_end()


# ---- the same dice for all -------------------------------------------------------------------------------


def drawn(policy: Scripted) -> dict[tuple[object, int], tuple[str, float]]:
    """What became of each request at each endpoint that was tried, and how long that took."""
    return {(each.token, each.track): (each.kind, round(each.ended - each.began, 9)) for each in policy.of()}


def test_whatever_is_chosen_the_same_request_ends_the_same_way_at_the_same_endpoint() -> None:
    leaky = [Truth(0.0, 0.5), Truth(0.0, 0.4, limited=0.3), Truth(0.0, 0.6)]
    one, other = Scripted(0, 1, 2), Scripted(2, 1, 0)
    for policy in (one, other):
        ran(equals(*leaky), policy)
    assert one.asked == other.asked
    mine, theirs = drawn(one), drawn(other)
    both = mine.keys() & theirs.keys()
    assert len(both) > 1000  # as a first try here and as a third one there
    assert len({mine[key][0] for key in both}) == 4
    assert {key: mine[key] for key in both} == {key: theirs[key] for key in both}


def test_endpoints_and_requests_draw_independently_of_each_other() -> None:
    policy = Scripted(0, 1)
    ran(equals(Truth(0.0, 0.5), Truth(0.0, 0.5)), policy)
    found = drawn(policy)
    seconds = [found[key, 1][0] == "success" for key, track in found if track == 1]
    assert len(seconds) > 1500  # only where the first failed
    assert mean(seconds) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("make", [lambda: Scripted(1, 0), lambda: Ours("ours", {})])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(make: Callable[[], Any]) -> None:
    there = equals(Truth(0.0, 0.9), Truth(0.0, 0.95), duration=600.0)
    first = ran(there, make(), probe_every=60.0)
    assert ran(there, make(), probe_every=60.0) == first
    assert ran(there, make(), seed=2, probe_every=60.0) != first


def test_a_run_does_not_depend_on_who_else_runs() -> None:
    there = equals(Truth(0.0, 0.9), Truth(0.0, 0.8), duration=600.0)
    together = replay(there, [Scripted(0, 1), Ours("ours", {})], seed=3, rate=0.5, probe_every=30.0)
    alone = [ran(there, each, seed=3, rate=0.5, probe_every=30.0) for each in (Scripted(0, 1), Ours("ours", {}))]
    assert together == alone


# ---- requests --------------------------------------------------------------------------------------------


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    policy = Scripted(0)
    ran(equals(GOOD, duration=20_000.0), policy, rate=0.5)
    times = [at for _, at in policy.asked]
    assert len(times) == pytest.approx(10_000, abs=4 * 100)
    gaps = [b - a for a, b in pairwise(times)]
    assert pstdev(gaps) == pytest.approx(mean(gaps), rel=0.05)  # as of an exponential
    assert sum(gap > 2.0 * log(2) for gap in gaps) / len(gaps) == pytest.approx(0.5, abs=0.03)


def test_a_weight_multiplies_its_models_rate_and_moves_no_other_request() -> None:
    tracks = [track(place, GOOD, model=place) for place in range(3)]
    usual, weighed = Scripted(0, 1, 2), Scripted(0, 1, 2)
    ran(world(*tracks, models=3), usual)
    ran(world(*tracks, models=3, weights=(1.0, 0.1, 0.0)), weighed)
    counts = [
        [model for model, _ in policy.asked].count(number) for policy in (usual, weighed) for number in range(3)
    ]
    assert counts[0] == counts[3]
    assert counts[4] == pytest.approx(counts[1] / 10, rel=0.25)
    assert counts[5] == 0
    assert [each for each in usual.asked if each[0] == 0] == [each for each in weighed.asked if each[0] == 0]


def test_recorded_requests_come_when_they_came() -> None:
    policy = Scripted(0, 1)
    tracks = track(0, GOOD, model=0), track(1, GOOD, model=1)
    ran(world(*tracks, models=2, duration=60.0, arrivals=((0.0, 5.0, 5.0, 60.0), (4.5,))), policy)
    assert policy.asked == [(0, 0.0), (1, 4.5), (0, 5.0), (0, 5.0)]


def counted(tally: Tally) -> tuple[int, list[int], int, int]:
    return tally.requests, tally.lost, tally.successes, tally.switches


@pytest.mark.parametrize(
    ("truths", "order", "lost", "successes", "paid"),
    [
        ((GOOD, GOOD, GOOD), (0, 1, 2), [0, 0, 0], 3, 3.0),
        ((DEAD, GOOD, GOOD), (0, 1, 2), [3, 0, 0], 3, 3.0),
        ((DEAD, DEAD, GOOD), (0, 1, 2), [3, 3, 0], 3, 3.0),
        ((DEAD, DEAD, DEAD, GOOD), (0, 1, 2, 3), [3, 3, 3], 0, 0.0),  # there is no fourth try
        ((DEAD, GOOD), (0,), [3, 3, 3], 0, 0.0),  # who tells one endpoint tries no other
        ((GOOD, Truth(0.0, 1.0, 3.0, 3.0)), (1, 0), [0, 0, 0], 3, 9.0),
        ((Truth(0.0, 1.0, 0.0, 0.0), GOOD), (1, 0), [0, 0, 0], 3, 30.0),  # a free one is a tenth of the cheapest
        ((Truth(0.0, 1.0, 0.0, 0.0),), (0,), [0, 0, 0], 3, 3.0),
    ],
)
def test_each_try_is_lost_or_paid(
    truths: tuple[Truth, ...], order: tuple[int, ...], lost: list[int], successes: int, paid: float
) -> None:
    there = equals(*truths, arrivals=((1.0, 2.0, 3.0),))
    (tally,) = ran(there, Scripted(*order)).tallies
    assert counted(tally) == (3, lost, successes, 0)
    assert tally.paid == pytest.approx(paid)
    assert list(tally.times) == [1.0, 2.0, 3.0]
    assert list(tally.firsts) == [order[0]] * 3


def test_tries_follow_each_other_and_are_told_when_they_have_ended() -> None:
    policy = Scripted(0, 1, 2)
    refusing = Truth(0.0, 1.0, limited=1.0, retry_after=9.0)
    ran(equals(Truth(0.0, 0.0, failing=4.0), refusing, GOOD, arrivals=((10.0,),)), policy)
    (first, told), (second, after), (third, last) = policy.tries
    assert (first.kind, first.began, first.ended, told) == ("server_error", 10.0, 14.0, 14.0)
    assert (second.kind, second.began, second.ended, after) == ("rate_limited", 14.0, 14.05, 14.05)
    assert (first.retry_after, second.retry_after, third.retry_after) == (None, 9.0, None)
    assert (third.kind, third.began, last) == ("success", 14.05, third.ended)
    assert third.ttft == pytest.approx((third.ended - third.began) / 4)
    assert [each.ttft for each in (first, second)] == [None, None]
    assert {each.token for each in policy.of()} == {1}


def test_what_ends_after_the_world_is_counted_and_never_told() -> None:
    policy = Scripted(0)
    (tally,) = ran(equals(Truth(0.0, 0.0, failing=4.0), duration=12.0, arrivals=((7.0, 9.0),)), policy).tallies
    assert tally.lost[0] == 2
    assert [each.began for each in policy.of()] == [7.0]


def test_a_switch_is_another_first_choice_than_the_last() -> None:
    there = world(
        track(0, GOOD, Truth(2.5, None), Truth(4.5, 1.0)), track(1, GOOD), arrivals=((1.0, 2.0, 3.0, 4.0, 5.0),)
    )
    (tally,) = ran(there, Scripted(0, 1)).tallies
    assert list(tally.firsts) == [0, 0, 1, 1, 0]
    assert tally.switches == 2


# ---- how a try ends --------------------------------------------------------------------------------------


def test_answers_take_as_long_as_the_endpoint_is_slow() -> None:
    policy = Scripted(0)
    slow = track(0, Truth(0.0, 1.0, slow=10.0), latency=0.5)
    ran(world(slow), policy)
    times = sorted(each.ended - each.began for each in policy.of())
    assert median(times) == pytest.approx(5.0, rel=0.1)
    assert times[len(times) * 84 // 100] == pytest.approx(5.0 * exp(SPREAD), rel=0.1)  # one deviation above


def test_failures_are_quick_but_for_a_tenth_that_never_answer() -> None:
    policy = Scripted(0, name="eager")
    ran(equals(Truth(0.0, 0.0, error="overloaded")), policy, probe_every=2.0)
    for probe, longest in ((False, 30.0), (True, 10.0)):
        spans = {(each.kind, round(each.ended - each.began, 6)) for each in policy.of(probe=probe)}
        assert spans == {("overloaded", 0.3), ("timeout", longest)}
        timeouts = [each.kind == "timeout" for each in policy.of(probe=probe)]
        assert mean(timeouts) == pytest.approx(0.1, abs=0.03)


def test_refusals_come_before_success_is_drawn() -> None:
    policy = Scripted(0)
    run = ran(equals(Truth(0.0, 0.8, limited=0.5), duration=4 * HOUR), policy)
    kinds = [each.kind for each in policy.of()]
    assert kinds.count("rate_limited") / len(kinds) == pytest.approx(0.5, abs=0.02)
    assert kinds.count("success") / len(kinds) == pytest.approx(0.4, abs=0.02)
    assert run.tallies[0].refused >= kinds.count("rate_limited")


def test_a_full_endpoint_refuses_until_a_minute_has_passed_and_refusals_take_no_room() -> None:
    full = track(0, GOOD, capacity=2, retry_after=3.0)
    policy = Scripted(0)
    moments = (0.0, 10.0, 20.0, 30.0, 59.9, 60.0, 60.1, 70.0, 121.0)
    run = ran(world(full, arrivals=(moments,)), policy, probe_every=5.0)
    told = sorted((each.began, each.kind) for each in policy.of())
    refused = {20.0, 30.0, 59.9, 60.1}
    assert told == [(at, "rate_limited" if at in refused else "success") for at in moments]
    assert {each.retry_after for each in policy.of() if each.kind == "rate_limited"} == {3.0}
    assert run.tallies[0].refused == len(refused)
    assert {each.kind for each in policy.of(probe=True)} == {"success"}  # a provider does not mind probes


def test_a_fallback_takes_room_in_its_own_minute_and_not_in_the_one_before() -> None:
    # The first request fails for 30 s and goes on at 30 s to the full endpoint, which is booked at once.
    class Once(Scripted):
        def choose(self, model: int, places: int, now: float) -> Choice:
            self.asked.append((model, now))
            return Choice((0, 1) if now == 0.0 else (1,))

    policy = Once()
    slow, full = track(0, Truth(0.0, 0.0, failing=30.0)), track(1, GOOD, capacity=2)
    ran(world(slow, full, arrivals=((0.0, 1.0, 2.0, 61.5, 62.5, 89.0, 90.5),)), policy)
    told = sorted((each.began, each.kind == "success") for each in policy.of() if each.track == 1)
    assert told == [
        (1.0, True),  # the fallback at 30 s is still to come
        (2.0, True),
        (30.0, True),  # booked when nobody else was there
        (61.5, False),  # the one at 1 s is gone, those at 2 and 30 s are not
        (62.5, True),
        (89.0, False),
        (90.5, True),
    ]


# ---- probes ----------------------------------------------------------------------------------------------


def test_probes_come_at_their_interval_from_a_moment_of_each_endpoints_own() -> None:
    policy = Scripted()
    ran(equals(GOOD, GOOD), policy, rate=0.0, probe_every=60.0)
    starts = []
    for place in (0, 1):
        began = sorted(each.began for each in policy.of(probe=True) if each.track == place)
        assert len(began) >= 59
        assert all(later - at == pytest.approx(60.0) for at, later in pairwise(began))
        starts.append(began[0])
    assert all(0 <= start < 60.0 for start in starts)
    assert starts[0] != starts[1]


def test_a_probe_ends_within_its_timeout_and_a_request_may_take_longer() -> None:
    policy = Scripted(0, 1)
    ran(equals(Truth(0.0, 0.0, failing=60.0, error="connect"), Truth(0.0, 1.0, slow=10.0)), policy, probe_every=5.0)
    for place in (0, 1):
        probes = [each for each in policy.of(probe=True) if each.track == place]
        assert {each.kind for each in probes} == {"success" if place else "connect"}
        longest = [each for each in probes if each.ended == each.began + 10.0]
        assert all(each.ended < each.began + 10.0 for each in probes if each not in longest)
        assert len(longest) == (pytest.approx(len(probes) * 0.81, rel=0.1) if place else len(probes))
    requests = [(each.kind, each.ended - each.began) for each in policy.of()]
    assert {kind for kind, _ in requests} == {"connect", "success"}
    assert max(took for kind, took in requests if kind == "success") > 100.0


@pytest.mark.parametrize(("probed", "every"), [(False, 60.0), (True, None)])
def test_there_are_no_probes_for_who_does_not_learn_from_them_or_without_an_interval(
    probed: bool, every: float | None
) -> None:
    policy = Scripted(0, probed=probed)
    ran(equals(GOOD), policy, rate=0.01, probe_every=every)
    assert policy.of()
    assert not policy.of(probe=True)


def test_probes_change_nothing_for_requests() -> None:
    leaky = equals(Truth(0.0, 0.7), Truth(0.0, 0.7))
    quiet, probed = Scripted(0, 1), Scripted(0, 1)
    assert ran(leaky, quiet).tallies == ran(leaky, probed, probe_every=5.0).tallies
    assert quiet.of() == probed.of()


# ---- changes ---------------------------------------------------------------------------------------------


def test_what_is_offered_is_told_once_a_change_and_nothing_else_is() -> None:
    policy = Scripted(0, 1, 2)
    there = world(
        track(0, GOOD, Truth(100.0, 0.5), Truth(200.0, 0.5, 2.0), Truth(300.0, None), Truth(400.0, 0.5, 2.0)),
        track(1, Truth(0.0, None), Truth(250.0, 1.0)),
        track(2, GOOD, Truth(150.0, 1.0, slow=3.0, limited=0.5), model=1),
        models=2,
    )
    ran(there, policy)
    price = GOOD.price
    dear = Truth(0.0, 1.0, 2.0).price
    assert policy.offers == [
        (0.0, 0, ((0, price),)),
        (0.0, 1, ((2, price),)),
        (200.0, 0, ((0, dear),)),
        (250.0, 0, ((0, dear), (1, price))),
        (300.0, 0, ((1, price),)),
        (400.0, 0, ((0, dear), (1, price))),
    ]
    assert list(policy.present) == [each.truths[-1] for each in there.tracks]


def test_a_model_is_asked_for_only_while_it_has_an_endpoint() -> None:
    policy = Scripted(0, 1)
    there = world(track(0, GOOD, Truth(100.0, None), Truth(200.0, 1.0)), track(1, GOOD, model=1), models=2)
    run = ran(there, policy, probe_every=7.0)
    assert not [at for model, at in policy.asked if model == 0 and 100.0 <= at < 200.0]
    assert [at for model, at in policy.asked if model == 0 and at >= 200.0]
    assert [at for model, at in policy.asked if model == 1 and 100.0 <= at < 200.0]
    assert not [each for each in policy.of(probe=True) if each.track == 0 and 100.0 <= each.began < 200.0]
    assert run.tallies[0].requests == len([at for model, at in policy.asked if model == 0])


def test_a_change_holds_for_the_request_of_its_very_moment() -> None:
    policy = Scripted(0)
    ran(world(track(0, GOOD, Truth(5.0, 0.0)), arrivals=((5.0,),)), policy)
    assert policy.of()[0].kind == "server_error"


# ---- the rest --------------------------------------------------------------------------------------------


def test_moves_are_collected_at_the_end_and_progress_is_shown_on_the_way() -> None:
    shown: list[float] = []
    run = ran(equals(GOOD), Scripted(0), progress=shown.append)
    assert run.moves == [Move(7.0, 0, True)]
    assert shown == sorted(shown)
    assert len(shown) == 5  # every ten minutes
    assert 0 < shown[0] < shown[-1] < 1


def test_fewer_tries_count_fewer_losses() -> None:
    (tally,) = ran(equals(DEAD, GOOD, arrivals=((1.0,),)), Scripted(0, 1), tries=1).tallies
    assert (tally.lost, tally.successes) == ([1], 0)


def test_a_world_that_is_too_large_is_refused() -> None:
    with pytest.raises(AssertionError, match=f"{TRACKS_MAX + 1} endpoints are more than {TRACKS_MAX}"):
        ran(equals(*[GOOD] * (TRACKS_MAX + 1)), Scripted(0))
