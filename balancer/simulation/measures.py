"""What a run was worth: losses, price, and how soon and how rightly endpoints were left and taken back.

Theory of operation: `measured` turns a run into `Figures`, one for each model: sums and lists of delays that can be
put together (`pooled`) before anything is divided. `MEASURES` then names every number that is shown, and how it is
made of figures. What cannot be said is `None`: no success has no price, and a policy that puts nobody behind has no
false demotions, not zero of them.

What this module does not know: other policies, seeds, and how numbers are shown.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil, inf
from operator import attrgetter
from typing import Final, NamedTuple

from balancer.simulation.policies.interface import Move
from balancer.simulation.replay import Run, Tally
from balancer.simulation.world import EPISODE_MIN, EPISODE_SHARE, Track, Truth, World, episodes

DAY: Final = 86_400.0
PER: Final = 10_000  # requests that losses are counted by: the unit of the recorded-outage protocol
BEFORE: Final = 30  # first choices before an onset: what says whether the endpoint was in use
USED: Final = 3  # of them, a tenth: an endpoint with less is not left, it was never held
AFTER: Final = 10  # first choices after a move away that tell whether it lasts
STRAYS: Final = 1  # of them may be the endpoint itself: a trial is no way back
ENOUGH: Final = 0.75  # of them before an episode's end; with half, a lottery that goes on "leaves" twice as often
GOOD: Final = 0.98  # a true share from which a demotion is false: the normal floor of failures is 1–3 %
FLAP: Final = 600.0  # s; who is out again so soon was taken back too early


class Delay(NamedTuple):
    """From what happened in the world to what the policy did of it; `None` for a policy that missed it.

    Units: seconds, and requests that went there first meanwhile.
    """

    seconds: float | None
    requests: int | None


class Demotions(NamedTuple):
    """What became of a policy's own moves. `readmissions` are in seconds, `None` for each that was missed."""

    false: int
    flaps: int
    readmissions: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run came to for one model, or for several together.

    Units: `paid` in cheapest prices, `endpoint_days` are days that an endpoint was there. Shape: `lost[k]` are
    requests without success in the first k + 1 tries; `demotions` is `None` for a policy that demotes nobody.
    """

    requests: int
    lost: tuple[int, ...]
    refused: int
    successes: int
    paid: float
    switches: int
    endpoint_days: float
    detections: tuple[Delay, ...]
    demotions: Demotions | None


def measured(run: Run, world: World, *, demotes: bool) -> tuple[Figures, ...]:
    """The figures of each model. `demotes`: the policy tells of its moves, so that none is a number too."""
    moves = _by_track(run.moves)
    return tuple(
        _figures(tally, [(place, world.tracks[place]) for place in places], moves, world.duration, demotes=demotes)
        for tally, places in zip(run.tallies, world.by_model, strict=True)
    )


def pooled(figures: Sequence[Figures]) -> Figures:
    """All of them as one: requests weigh alike, whatever their model."""
    assert figures, "nothing to put together"
    demotions = [each.demotions for each in figures if each.demotions is not None]
    return Figures(
        requests=sum(each.requests for each in figures),
        lost=tuple(map(sum, zip(*(each.lost for each in figures), strict=True))),
        refused=sum(each.refused for each in figures),
        successes=sum(each.successes for each in figures),
        paid=sum(each.paid for each in figures),
        switches=sum(each.switches for each in figures),
        endpoint_days=sum(each.endpoint_days for each in figures),
        detections=tuple(delay for each in figures for delay in each.detections),
        demotions=Demotions(
            false=sum(each.false for each in demotions),
            flaps=sum(each.flaps for each in demotions),
            readmissions=tuple(seconds for each in demotions for seconds in each.readmissions),
        )
        if demotions
        else None,
    )


# ---- from a run to figures -------------------------------------------------------------------------------


def _figures(
    tally: Tally,
    tracks: Sequence[tuple[int, Track]],
    moves: Mapping[int, Sequence[Move]],
    duration: float,
    *,
    demotes: bool,
) -> Figures:
    detections: list[Delay] = []
    readmissions: list[float | None] = []
    false = flaps = 0
    for place, track in tracks:
        down = episodes(track, duration)
        told = moves.get(place, ())
        detections += [delay for onset, end in down if (delay := detection(tally, place, onset, end)) is not None]
        if demotes:
            false += sum(move.out and is_false(track, move.at) for move in told)
            flaps += _flaps(told)
            readmissions += _readmissions(track, told, [end for _, end in down], duration)
    return Figures(
        requests=tally.requests,
        lost=tuple(tally.lost),
        refused=tally.refused,
        successes=tally.successes,
        paid=tally.paid,
        switches=tally.switches,
        endpoint_days=sum(_there(track, duration) for _, track in tracks) / DAY,
        detections=tuple(detections),
        demotions=Demotions(false, flaps, tuple(readmissions)) if demotes else None,
    )


def detection(tally: Tally, place: int, onset: float, end: float) -> Delay | None:
    """How long an endpoint that went down was still chosen first; `None` where that cannot be said.

    In use: a tenth of the last 30 first choices before the onset; who was not is not judged. Left: a first choice
    elsewhere during the episode after which it has at most one of the next ten, or of the next 10/s if s was its
    share of the 30: a lottery that gives it a tenth passes it over ten times in a row by chance. Where the episode
    ends before, it may come back: three quarters of those choices are enough then. Never left: a missed one. Left
    so late that the world ended before the move was known to last: nobody can say.
    """
    start, stop = bisect_left(tally.times, onset), bisect_left(tally.times, end)
    if start < BEFORE:
        return None
    held = tally.firsts[start - BEFORE : start].count(place)
    if held < USED:
        return None
    after = ceil(AFTER * BEFORE / held)
    seen = len(tally.firsts)
    chosen = [number for number in range(start, min(stop + after, seen)) if tally.firsts[number] == place]
    elsewhere = start
    # Of each run of choices elsewhere only the first counts: the later ones are not the move.
    for count, number in enumerate([*chosen, stop]):
        if elsewhere >= stop:
            break
        if elsewhere < number:
            last = elsewhere + after  # the last choice that speaks of this move
            if stop < seen and stop - elsewhere >= after * ENOUGH:
                last = min(last, stop - 1)
            back = chosen[count + STRAYS] if count + STRAYS < len(chosen) else seen
            if back > min(last, seen - 1):
                return Delay(tally.times[elsewhere] - onset, count) if last < seen else None
        elsewhere = number + 1
    return Delay(None, None)


def is_false(track: Track, at: float) -> bool:
    """Whether an endpoint was well when it was put behind: its true share then, and the samples on both sides."""
    if _truth(track.truths, at).share < GOOD:
        return False
    after = bisect_right(track.samples, at, key=attrgetter("at"))
    return all(sample.share >= GOOD for sample in track.samples[max(0, after - 1) : after + 1])


def _readmissions(
    track: Track, told: Sequence[Move], recoveries: Iterable[float], duration: float
) -> list[float | None]:
    """For each recovery of an endpoint that was out then: how long until it was taken back.

    Judged is a recovery that lasts as long as an episode must. Who was not back before the next fall was missed.
    """
    found: list[float | None] = []
    for end in recoveries:
        fallen = _falls(track.truths, end, duration)
        before = bisect_right(told, end, key=attrgetter("at"))
        if fallen - end < EPISODE_MIN or not before or not told[before - 1].out:
            continue
        back = next((move.at for move in told[before:] if not move.out), inf)
        found.append(back - end if back < fallen else None)
    return found


def _falls(truths: Sequence[Truth], since: float, duration: float) -> float:
    """When the endpoint is next down or gone; `since` itself if it is so then."""
    first = bisect_right(truths, since, key=attrgetter("at")) - 1
    return next((max(since, truth.at) for truth in truths[first:] if truth.share < EPISODE_SHARE), duration)


def _flaps(told: Sequence[Move]) -> int:
    return sum(move.out and not before.out and move.at - before.at <= FLAP for before, move in pairwise(told))


def _by_track(moves: Iterable[Move]) -> dict[int, list[Move]]:
    """Each endpoint's changes in the order of time; who is put behind twice was put behind once."""
    changes: dict[int, list[Move]] = {}
    for place, told in groupby(sorted(moves, key=attrgetter("track", "at")), key=attrgetter("track")):
        kept = changes[place] = []
        out = False
        for move in told:
            if move.out is not out:
                kept.append(move)
                out = move.out
    return changes


def _there(track: Track, duration: float) -> float:
    """Seconds that the endpoint was there."""
    ends = [*(truth.at for truth in track.truths[1:]), duration]
    return sum(
        max(0.0, min(end, duration) - truth.at)
        for truth, end in zip(track.truths, ends, strict=True)
        if truth.success is not None
    )


def _truth(truths: Sequence[Truth], at: float) -> Truth:
    return truths[max(0, bisect_right(truths, at, key=attrgetter("at")) - 1)]


# ---- from figures to what is shown -----------------------------------------------------------------------


def ratio(above: float, below: float) -> float | None:
    """A quotient, unknown where there is nothing to divide by."""
    return above / below if below else None


def lost(figures: Figures, tries: int) -> float | None:
    """Requests per 10,000 without success in the first `tries` tries; unknown where fewer were allowed."""
    return ratio(figures.lost[tries - 1] * PER, figures.requests) if tries <= len(figures.lost) else None


def median(delays: Sequence[float | None]) -> float | None:
    """The middle delay; one that was missed is longer than all others, so half of them missed leave no middle."""
    if not delays:
        return None
    ordered = sorted(inf if delay is None else delay for delay in delays)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle if middle < inf else None


def missed(delays: Sequence[float | None]) -> float | None:
    """The share of the delays that never ended."""
    return ratio(sum(delay is None for delay in delays), len(delays))


def _of_demotions(
    measure: Callable[[Demotions, Figures], float | None],
) -> Callable[[Figures], float | None]:
    return lambda figures: None if figures.demotions is None else measure(figures.demotions, figures)


MEASURES: Final[Mapping[str, Callable[[Figures], float | None]]] = {
    "lost_at_1": lambda figures: lost(figures, 1),
    "lost_at_2": lambda figures: lost(figures, 2),
    "lost_at_3": lambda figures: lost(figures, 3),
    "cost": lambda figures: ratio(figures.paid, figures.successes),
    "refused": lambda figures: ratio(figures.refused * PER, figures.requests),
    "detection_seconds": lambda figures: median([delay.seconds for delay in figures.detections]),
    "detection_requests": lambda figures: median([delay.requests for delay in figures.detections]),
    "episodes": lambda figures: len(figures.detections),
    "detection_missed": lambda figures: missed([delay.seconds for delay in figures.detections]),
    "false_demotions": _of_demotions(lambda demotions, figures: ratio(demotions.false, figures.endpoint_days)),
    "readmission_seconds": _of_demotions(lambda demotions, _: median(demotions.readmissions)),
    "recoveries": _of_demotions(lambda demotions, _: len(demotions.readmissions)),
    "readmission_missed": _of_demotions(lambda demotions, _: missed(demotions.readmissions)),
    "switches": lambda figures: ratio(figures.switches * 100, figures.requests),
    "flaps": _of_demotions(lambda demotions, figures: ratio(demotions.flaps, figures.endpoint_days)),
}
"""Every number that is shown, in the order in which it is shown."""

MEDIANS: Final = ("detection_seconds", "detection_requests", "readmission_seconds")
"""Those that are medians of delays: runs are put together before the middle is taken."""
