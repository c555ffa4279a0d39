"""When which mock provider is ill, and how.

Theory of operation: a story of three incidents. Each incident takes two neighbours of the ring at nearly the same
time, as a bad region or a shared upstream does, so that "on failure, try the next one in the list" meets the same
illness twice. Each of the seven kinds of fault occurs once. The story goes for whoever is in first place:

1. the first of the ring, which the caller has made the cheapest, begins to refuse, and a neighbour falls ill;
2. while it is away or barely back, the third of the ring, the next in price, falls ill with a neighbour;
3. the other two fall ill, and the first, back by then, is rate-limited.

The seed chooses the neighbours, deals the kinds and shifts the moments; the rules below hold for every seed
(`tests/demo/test_timetable.py`):

- nothing for the first seconds, and nothing after the last return has had its time;
- at least two providers are well at any moment, so that a router that knows who is ill loses nothing;
- a fault lasts `FAULT_MAX` at most, because the daemon's holds double with each failed trial: a longer fault
  would meet a hold that ends long after it, and the demo would be over before the return;
- `flaky` and `slow`, which fail only part of the requests, are never in the same incident.

A run shorter than `STORY` squeezes the story; a longer one keeps the incidents and stretches the quiet between.

What this module does not know: clocks, mocks, and what the daemon makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

FaultKind = Literal["refuse", "hang", "error", "flaky", "limited", "slow", "cut"]
Condition = Literal["well", "refuse", "hang", "error", "flaky", "limited", "slow", "cut"]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)

HARD: Final[tuple[FaultKind, ...]] = ("refuse", "hang", "error", "cut")  # every request fails
SOFT: Final[tuple[FaultKind, ...]] = ("flaky", "slow")  # some requests fail

PROVIDERS: Final = 6  # three incidents of two neighbours each
STORY: Final = 60.0  # s; the length the story is written for
FAULT_MAX: Final = 15.0  # s; the second hold (10-20 s after at least 5 s) then always ends after the fault
QUIET_END: Final = 22.0  # s of STORY without faults at its end: the longest second hold, and a trial
DURATION_MIN: Final = 20.0  # s; below it the squeezed faults are shorter than what detects them


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One provider is ill in one way. Units: seconds since the start of the run."""

    provider: str
    kind: FaultKind
    start: float
    end: float


def plan(*, duration: float, seed: int, providers: Sequence[str]) -> tuple[Fault, ...]:
    """Lay out the faults of one run, ordered by start.

    Shape: `providers` are the ring, in the order in which round-robin walks it; the first and the third are the
    ones that a good router would take first. Raises: ValueError for a
    duration below `DURATION_MIN` or another number of providers.
    """
    if len(providers) != PROVIDERS:
        raise ValueError(f"{len(providers)} providers; the story is for {PROVIDERS}")
    if not duration >= DURATION_MIN:
        raise ValueError(f"a demo of {duration:g} s is too short; use {DURATION_MIN:g}s or more")
    random = Random(f"timetable {seed}")
    scale = min(1.0, duration / STORY)
    quiet = max(0.0, duration - STORY)
    # The first of the ring with the one after it or the one before it; the other pairs follow from that.
    turn = random.choice((0, PROVIDERS - 1))
    pairs = [((turn + 2 * i) % PROVIDERS, (turn + 2 * i + 1) % PROVIDERS) for i in range(3)]
    kinds = _deal(random)
    faults: list[Fault] = []

    def add(place: int, kind: FaultKind, *, start: float, end: float, shift: float) -> None:
        begin = shift + start * scale
        faults.append(Fault(provider=providers[place], kind=kind, start=begin, end=begin + (end - start) * scale))

    for incident, pair in enumerate(pairs):
        shift = quiet * incident / 3
        first = 4.0 + 9.75 * incident + random.uniform(0.0, 1.5)
        second = first + random.uniform(0.5, 2.0)
        order = (0, *(place for place in pair if place != 0)) if incident == 0 else random.sample(pair, 2)
        for place, kind, start in zip(order, kinds[incident], (first, second), strict=True):
            end = min(start + random.uniform(11.0, 14.0), STORY - QUIET_END)
            add(place, kind, start=start, end=end, shift=shift)
    # After the second incident, so that two providers are always well.
    add(0, "limited", start=31.5, end=STORY - QUIET_END - random.uniform(0.0, 1.0), shift=quiet * 2 / 3)
    return tuple(sorted(faults, key=lambda fault: fault.start))


def _deal(random: Random) -> list[tuple[FaultKind, FaultKind]]:
    """The six long faults in three pairs, refusal first and at least one of each pair hard."""
    hard = random.sample([kind for kind in HARD if kind != "refuse"], 3)
    soft = random.sample(SOFT, len(SOFT))
    opening: tuple[FaultKind, FaultKind]
    if random.random() < 0.5:
        opening, later = ("refuse", hard[0]), [(hard[1], soft[0]), (hard[2], soft[1])]
    else:
        opening, later = ("refuse", soft[0]), [(hard[0], hard[1]), (hard[2], soft[1])]
    random.shuffle(later)
    return [opening, *(pair if random.random() < 0.5 else (pair[1], pair[0]) for pair in later)]
