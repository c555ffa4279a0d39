"""What is true in a simulated world, whatever anybody believes of it.

Theory of operation: a world is models, each with its endpoints' tracks. A `Track` is a step function: from each
`Truth`'s moment on, that is how likely a try succeeds, what it costs and how it fails. Where it comes from (a
recorded history, a YAML of invented episodes) is another file's business; who asks, when, and what is drawn is
`replay`'s.

What this module does not know: time that passes, requests, policies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from balancer.core.pricing import COMPLETION_TOKENS, PROMPT_TOKENS

Failing = Literal["server_error", "timeout", "connect", "overloaded"]

LATENCY: Final = 2.0  # s, the median of answers in the recorded-outage protocol
SPREAD: Final = 0.8  # of the logarithm of a latency; hosted models' tails are that heavy
EPISODE_SHARE: Final = 0.8  # below it an endpoint is down: OpenRouter's "down"
GRACE: Final = 60.0  # s beside a turn of a known moment: a timeout is told 30 s late, a probe comes once a minute
EPISODE_MIN: Final = 900.0  # s; what is shorter than one recorded sample is noise


class Truth(NamedTuple):
    """What holds from `at` on. Units: seconds, USD per million tokens, chances 0..1.

    `success` is the chance of a try that is not refused, `None` while the endpoint is not there. `limited` is the
    chance of a 429, with `retry_after` or without a hint. `slow` multiplies the usual latency. `failing` is how
    long a failure takes, `None` for the world's usual.
    """

    at: float
    success: float | None
    prompt: float = 1.0
    completion: float = 1.0
    limited: float = 0.0
    retry_after: float | None = None
    slow: float = 1.0
    failing: float | None = None
    error: Failing = "server_error"

    @property
    def share(self) -> float:
        """The chance that a try succeeds; 0 while the endpoint is not there."""
        return 0.0 if self.success is None else self.success * (1 - self.limited)

    @property
    def price(self) -> float:
        """What the usual request costs. Units: millionths of a USD."""
        return self.prompt * PROMPT_TOKENS + self.completion * COMPLETION_TOKENS


class Sample(NamedTuple):
    """One recorded reading of an endpoint's share; the world's truth turns somewhere between two of them."""

    at: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One endpoint's history. `truths` ascend and the first is at 0.

    `samples` are what demotions are judged by: the recorded readings, carried forward over idleness. `capacity` is
    the number of requests in a trailing minute above which it answers 429 with `retry_after`; `None` is no bound.
    """

    id: str
    model: int
    provider: str
    tag: str
    truths: tuple[Truth, ...]
    samples: tuple[Sample, ...]
    capacity: int | None = None
    retry_after: float | None = None
    latency: float = LATENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that is true. `tracks` are in the order of `models`; `weights` multiply a model's request rate.

    `arrivals` are moments of requests that were recorded, for each model, `None` for Poisson.
    """

    name: str
    duration: float
    models: tuple[str, ...]
    tracks: tuple[Track, ...]
    weights: tuple[float, ...] = ()
    arrivals: tuple[tuple[float, ...], ...] | None = None
    by_model: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        places: list[list[int]] = [[] for _ in self.models]
        for place, track in enumerate(self.tracks):
            places[track.model].append(place)
        object.__setattr__(self, "by_model", tuple(map(tuple, places)))


def episodes(track: Track, duration: float) -> list[tuple[float, float]]:
    """When the endpoint was down for a quarter of an hour or more: (onset, end), ascending."""
    found: list[tuple[float, float]] = []
    onset: float | None = None
    for truth in track.truths:
        down = truth.success is not None and truth.share < EPISODE_SHARE
        if down and onset is None:
            onset = truth.at
        elif not down and onset is not None:
            if truth.at - onset >= EPISODE_MIN:
                found.append((onset, truth.at))
            onset = None
    if onset is not None and duration - onset >= EPISODE_MIN:
        found.append((onset, duration))
    return found
