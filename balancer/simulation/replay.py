"""One policy through one world, under a virtual clock.

Theory of operation: one heap of moments: requests, probes, finished tries, changes of the world. A request is
answered at once and its tries follow each other; what became of each is told when it ended. Every draw is a hash of
(seed, request, endpoint), never the next number of a stream: whatever a policy does, the same try of the same
request at the same endpoint ends the same way, so two policies differ only by what they chose (common random
numbers). Nothing here reads a clock.

What this module does not know: what is measured afterwards (`measures`), and what a policy believes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from math import exp, inf
from random import Random
from statistics import NormalDist
from typing import Final

from balancer.core.outcome import Kind
from balancer.simulation.policies.interface import Move, Offer, Policy, Try
from balancer.simulation.world import SPREAD, Truth, World

TRIES: Final = 3
PROBE_TIMEOUT: Final = 10.0  # s; the configuration's default
FAILURE_LATENCY: Final = 0.3  # s; most failures are refusals and come at once
TIMEOUT_LATENCY: Final = 30.0  # s; a tenth of them are calls that never answer
TIMEOUT_SHARE: Final = 0.1
REFUSAL_LATENCY: Final = 0.05  # s; a 429 costs the provider nothing
TTFT_SHARE: Final = 0.25  # of an answer's time
MINUTE: Final = 60.0

_GRAIN: Final = 1024  # steps of the table of latencies
_NORMAL: Final = NormalDist()
_LATENCIES: Final = tuple(exp(SPREAD * _NORMAL.inv_cdf((step + 0.5) / _GRAIN)) for step in range(_GRAIN))
_WORD: Final = 2**64 - 1
TRACKS_MAX: Final = 4096  # endpoints of a world: their place shares a word with the request's number
_REQUESTS_MAX: Final = 2**40

# What happens, in the order in which it happens at one moment.
_CHANGE, _TOLD, _PROBE, _REQUEST = range(4)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of one model's requests.

    `lost[k]` are requests without success in the first k + 1 tries; `paid` sums what each success cost over the
    cheapest endpoint's price at that moment. `times` and `firsts` are each request's moment and first choice.
    """

    requests: int = 0
    lost: list[int] = field(default_factory=lambda: [0] * TRIES)
    refused: int = 0
    successes: int = 0
    paid: float = 0.0
    switches: int = 0
    times: array[float] = field(default_factory=lambda: array("d"))
    firsts: array[int] = field(default_factory=lambda: array("i"))


@dataclass(slots=True, kw_only=True)
class Run:
    """One policy's way through one world: a tally a model, and what was put behind and taken back."""

    policy: str
    seed: int
    tallies: list[Tally]
    moves: list[Move]


class Replay:
    """The clock and the dice of one run. `rate`: requests a second and model; `probe_every`: seconds, or none."""

    def __init__(
        self,
        world: World,
        policy: Policy,
        *,
        seed: int,
        rate: float,
        probe_every: float | None,
        tries: int = TRIES,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        assert len(world.tracks) <= TRACKS_MAX, f"{len(world.tracks)} endpoints are more than {TRACKS_MAX}"
        self._world = world
        self._policy = policy
        self._seed = _mix(seed)
        self._rate = rate
        self._probe_every = probe_every if policy.probed else None
        self._tries = tries
        self._progress = progress
        self._present: list[Truth] = [track.truths[0] for track in world.tracks]
        self._sent: list[array[float]] = [array("d") for _ in world.tracks]
        self._floors: list[float] = [0.0] * len(world.models)
        self._prices: list[float] = [0.0] * len(world.tracks)
        self._heap: list[tuple[float, int, int, object]] = []
        self._arrivals = [Random(f"{seed} {model}") for model in world.models]
        self._requests = [0] * len(world.models)
        self._told = 0
        tallies = [Tally(lost=[0] * tries) for _ in world.models]
        self.run = Run(policy=policy.name, seed=seed, tallies=tallies, moves=[])
        policy.begin(world, self._present, seed)
        for model in range(len(world.models)):
            self._offer(model, 0.0)
        self._schedule(seed)

    def _schedule(self, seed: int) -> None:
        world = self._world
        offsets = Random(f"{seed} probes")
        for place, track in enumerate(world.tracks):
            if len(track.truths) > 1:
                self._heap.append((track.truths[1].at, _CHANGE, place, 1))
            offset = offsets.random()
            if self._probe_every is not None:
                self._heap.append((offset * self._probe_every, _PROBE, place, 0))
        for model in range(len(world.models)):
            first = self._next_arrival(model, 0.0)
            if first < inf:
                self._heap.append((first, _REQUEST, model, None))
        heapify(self._heap)

    def _next_arrival(self, model: int, now: float) -> float:
        world = self._world
        if world.arrivals is not None:
            moments = world.arrivals[model]
            place = self._requests[model]
            return moments[place] if place < len(moments) else inf
        rate = self._rate * (world.weights[model] if world.weights else 1.0)
        return now + self._arrivals[model].expovariate(rate) if rate > 0 else inf

    def to_end(self) -> Run:
        """Let time run out, and give up what happened."""
        heap, world = self._heap, self._world
        end, shown = world.duration, 0.0
        while heap:
            now, what, place, extra = heap[0]
            if now >= end:
                break
            if what == _TOLD:
                heappop(heap)
                assert isinstance(extra, Try)
                self._policy.learn(extra, now)
            elif what == _REQUEST:
                self._requests[place] += 1
                following = self._next_arrival(place, now)
                if following < inf:
                    heapreplace(heap, (following, _REQUEST, place, None))
                else:
                    heappop(heap)
                self._ask(place, now)
            elif what == _PROBE:
                assert isinstance(extra, int)
                assert self._probe_every is not None
                heapreplace(heap, (now + self._probe_every, _PROBE, place, extra + 1))
                self._probe(place, extra, now)
            else:
                heappop(heap)
                assert isinstance(extra, int)
                self._change(place, extra, now)
            if self._progress is not None and now - shown >= MINUTE * 10:
                shown = now
                self._progress(now / end)
        self.run.moves += self._policy.moves()
        return self.run

    # ---- the world -----------------------------------------------------------------------------------

    def _change(self, place: int, number: int, now: float) -> None:
        track = self._world.tracks[place]
        before, truth = self._present[place], track.truths[number]
        self._present[place] = truth
        if number + 1 < len(track.truths):
            heappush(self._heap, (track.truths[number + 1].at, _CHANGE, place, number + 1))
        if (truth.success is None) is not (before.success is None) or truth.price != before.price:
            self._offer(track.model, now)

    def _offer(self, model: int, now: float) -> None:
        there = [place for place in self._world.by_model[model] if self._present[place].success is not None]
        prices = [self._present[place].price for place in there]
        paid = [price for price in prices if price > 0]
        # As in the core's scores: a free endpoint counts as one tenth of the cheapest paid one, or as 1.
        free = min(paid) / 10 if paid else 1.0
        for place, price in zip(there, prices, strict=True):
            self._prices[place] = price if price > 0 else free
        self._floors[model] = min([self._prices[place] for place in there], default=0.0)
        self._policy.offer(model, [Offer(*each) for each in zip(there, prices, strict=True)], now)

    def _draw(self, place: int, key: int, began: float, *, probe: bool) -> tuple[Kind, float, float | None]:
        """One try at one endpoint: what it was, when it ended, and its Retry-After."""
        truth = self._present[place]
        bits = _mix(self._seed ^ (key * TRACKS_MAX + place))
        chance = (bits >> 11) * 2.0**-53
        track = self._world.tracks[place]
        if not probe and track.capacity is not None and self._over(place, track.capacity, began):
            return "rate_limited", began + REFUSAL_LATENCY, track.retry_after
        if truth.limited and _mix(bits) * 2.0**-64 < truth.limited:
            return "rate_limited", began + REFUSAL_LATENCY, truth.retry_after
        if truth.success is not None and chance < truth.success:
            return "success", began + track.latency * truth.slow * _LATENCIES[bits % _GRAIN], None
        if truth.failing is not None:
            return truth.error, began + truth.failing, None
        if bits % _GRAIN < TIMEOUT_SHARE * _GRAIN:
            return "timeout", began + TIMEOUT_LATENCY, None
        return truth.error, began + FAILURE_LATENCY, None

    def _over(self, place: int, capacity: int, began: float) -> bool:
        """Whether the minute before is full; else take room. A later try may have been booked before this one."""
        sent = self._sent[place]
        if bisect_right(sent, began) - bisect_right(sent, began - MINUTE) >= capacity:
            return True
        insort(sent, began)
        return False

    # ---- what a policy meets -------------------------------------------------------------------------

    def _ask(self, model: int, now: float) -> None:
        if self._floors[model] == 0.0:
            return  # the model has no endpoint at all: nobody could choose anything
        tally = self.run.tallies[model]
        order, token = self._policy.choose(model, self._tries, now)
        tally.requests += 1
        tally.times.append(now)
        first = order[0] if order else -1
        if tally.firsts and tally.firsts[-1] != first:
            tally.switches += 1
        tally.firsts.append(first)
        key = model * _REQUESTS_MAX + self._requests[model]
        began = now
        for number, place in enumerate(order[: self._tries]):
            kind, ended, retry_after = self._draw(place, key, began, probe=False)
            good = kind == "success"
            ttft = (ended - began) * TTFT_SHARE if good else None
            self._tell(Try(place, kind, began, ended, ttft, retry_after, False, token))
            if good:
                tally.successes += 1
                tally.paid += self._prices[place] / self._floors[model]
                return
            tally.lost[number] += 1
            if number == 0 and kind == "rate_limited":
                tally.refused += 1
            began = ended
        for number in range(len(order), self._tries):
            tally.lost[number] += 1

    def _probe(self, place: int, number: int, now: float) -> None:
        if self._present[place].success is None:
            return
        kind, ended, retry_after = self._draw(place, number - _REQUESTS_MAX, now, probe=True)
        # A probe asks for a few words: how long an answer would be does not make it fail, as the protocol has it.
        ended = min(ended, now + PROBE_TIMEOUT)
        ttft = (ended - now) * TTFT_SHARE if kind == "success" else None
        self._tell(Try(place, kind, now, ended, ttft, retry_after, True, None))

    def _tell(self, tried: Try) -> None:
        self._told += 1
        heappush(self._heap, (tried.ended, _TOLD, self._told, tried))


def _mix(word: int) -> int:
    """Scatter 64 bits. Source: SplitMix64's finalizer (Steele, Lea, Flood 2014)."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def replay(
    world: World, policies: Sequence[Policy], *, seed: int, rate: float, probe_every: float | None
) -> list[Run]:
    """Run several policies through the same world with the same dice."""
    return [Replay(world, policy, seed=seed, rate=rate, probe_every=probe_every).to_end() for policy in policies]
