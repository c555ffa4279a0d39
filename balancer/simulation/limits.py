"""429s for a world that has none: recorded shares leave them out.

Theory of operation: two kinds of quota. A tenth of the endpoints refuse a third of their requests for ten minutes
at a time, whatever is sent there: somebody else has used up an account. And every endpoint has a capacity: what is
more in a trailing minute is refused, so who sends a model's whole traffic to one endpoint meets it. All is drawn by
seed; each endpoint has dice of its own, so that its limits do not depend on the others'.

What this module does not know: who asks, and what comes of it; `replay` counts the requests.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, exp, log
from operator import attrgetter, itemgetter
from random import Random
from typing import Final

from balancer.simulation.world import GRACE, Sample, Track, Truth, World

REFUSING: Final = 0.1  # of the endpoints; this and the next three numbers are the protocol's
REFUSED: Final = 1 / 3  # of the requests in a burst
BURST: Final = 600.0  # s
RETRY_AFTER: Final = 10.0  # s

# s from one burst's beginning to the next, on average. The protocol says bursts, not a state: at one an hour an
# endpoint is good five sixths of the time, so that shunning it for good is dear and trusting it at once is too.
BURST_EVERY: Final = 3600.0

# Times the model's requests a minute, log-uniform. Quotas for one model differ a thousandfold between providers and
# tiers: 20 requests a minute are free, tens of thousands are sold. Three in ten endpoints cannot carry the model
# alone. Then (one recorded day, 20 models, six requests a minute) OpenRouter's classic rule loses six times more,
# five sixths of it 429s; who knows all capacities loses a tenth more, and pays 1.09 instead of 1.02. With a third
# to three times half of them cannot, and who knows pays 1.10 already: a bound on cost would judge the world.
CAPACITY: Final = (1 / 8, 128.0)
CAPACITY_MIN: Final = 2  # requests a minute; with one, any two requests close together would be a refusal
ROOM: Final = 2.0  # all capacities of a model over its requests: with half of its endpoints out all is served
MINUTE: Final = 60.0

_AT: Final = attrgetter("at")
_BEGIN: Final = itemgetter(0)


def limited(world: World, *, seed: int, rate: float) -> World:
    """The same world with bursts of 429s and with capacities; a capacity that it has already stays.

    Units: `rate` is requests a second and model, as it will be replayed.
    """
    places = range(len(world.tracks))
    count = min(len(places), max(1, round(REFUSING * len(places))))
    refusing = set(Random(f"{seed} refusing").sample(places, count))
    capacities = _capacities(world, seed, rate)
    tracks: list[Track] = []
    for place, track in enumerate(world.tracks):
        if place in refusing:
            bursts = list(_bursts(world.duration, Random(f"{seed} bursts {track.id}")))
            track = replace(
                track,
                truths=_refused(track.truths, bursts, world.duration),
                samples=_sampled(track.samples, bursts),
            )
        if track.capacity is None:
            track = replace(track, capacity=capacities[place], retry_after=RETRY_AFTER)
        tracks.append(track)
    return replace(world, tracks=tuple(tracks))


def _capacities(world: World, seed: int, rate: float) -> dict[int, int]:
    """Requests a trailing minute for each track without a capacity; each model's in sum with room for its own."""
    found: dict[int, int] = {}
    for model, places in enumerate(world.by_model):
        wanted = rate * MINUTE * (world.weights[model] if world.weights else 1.0)
        tracks = {place: world.tracks[place] for place in places}
        given = sum(track.capacity for track in tracks.values() if track.capacity is not None)
        drawn = {
            place: wanted * exp(Random(f"{seed} capacity {track.id}").uniform(*map(log, CAPACITY)))
            for place, track in tracks.items()
            if track.capacity is None
        }
        # Few endpoints may all have drawn little: then all of them get more.
        short = max(1.0, (ROOM * wanted - given) / sum(drawn.values())) if wanted > 0 and drawn else 1.0
        found |= {place: max(CAPACITY_MIN, ceil(capacity * short)) for place, capacity in drawn.items()}
    return found


def _bursts(duration: float, dice: Random) -> Iterator[tuple[float, float]]:
    """When the endpoint refuses: from, to; ascending, and apart."""
    begin = dice.expovariate(1 / (BURST_EVERY - BURST))
    while begin < duration:
        yield begin, begin + BURST
        begin += BURST + dice.expovariate(1 / (BURST_EVERY - BURST))


def _refused(truths: Sequence[Truth], bursts: Sequence[tuple[float, float]], duration: float) -> tuple[Truth, ...]:
    """Lay the bursts over the truths."""
    edges = {edge for burst in bursts for edge in burst if edge < duration}
    found: list[Truth] = []
    for at in sorted({*(truth.at for truth in truths), *edges}):
        truth = truths[bisect_right(truths, at, key=_AT) - 1]
        refusing = truth.success is not None and _within(bursts, at)
        if refusing:
            limited = 1 - (1 - truth.limited) * (1 - REFUSED)
            truth = truth._replace(limited=limited, retry_after=RETRY_AFTER)
        if not found or truth[1:] != found[-1][1:]:
            found.append(truth._replace(at=at))
    return tuple(found)


def _sampled(samples: Sequence[Sample], bursts: Sequence[tuple[float, float]]) -> tuple[Sample, ...]:
    """Lay the bursts over the readings, with readings of their own at their edges and a grace beside them.

    Shape: a reading stands for the time on both its sides, so those within the grace are of the burst too.
    """
    if not samples:
        return ()
    beside = {at for begin, end in bursts for at in (begin - GRACE, begin, end, end + GRACE)}
    first, last = samples[0].at, samples[-1].at
    near = [(begin - GRACE, end + GRACE) for begin, end in bursts]
    found: list[Sample] = []
    for at in sorted({*(sample.at for sample in samples), *(at for at in beside if first <= at <= last)}):
        share = samples[bisect_right(samples, at, key=_AT) - 1].share
        place = bisect_left(near, at, key=_BEGIN) - 1  # unlike a truth, a reading at the beginning is not of it
        refusing = place >= 0 and at < near[place][1]
        found.append(Sample(at, share * (1 - REFUSED) if refusing else share))
    return tuple(found)


def _within(bursts: Sequence[tuple[float, float]], at: float) -> bool:
    """Whether a burst is on: from its beginning, until before its end."""
    place = bisect_right(bursts, at, key=_BEGIN) - 1
    return place >= 0 and at < bursts[place][1]
