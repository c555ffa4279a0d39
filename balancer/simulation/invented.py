"""A small YAML of invented episodes → a world.

Theory of operation: the file is read as the configuration is: a tree with lines, a shape, rules between keys, and
every mistake told at once. An endpoint is what it says of itself; an episode changes what it names for as long as
it lasts, and where two overlap the later one of the list has the word, key by key. Nothing is drawn.

    duration: 2h
    models:
      author/slug:
        endpoints:
          - {tag: alpha, price: 1.0, success: 0.98}
          - tag: beta
            price: {prompt: 0.5, completion: 1.5}
            capacity: 60
            retry_after: 10s
            episodes:
              - {at: 10m, for: 20m, success: 0, error: 500, failure_latency: 50ms}
              - {at: 1h, for: 1m, every: 5m, until: 90m, success: 0.5, error: 429}

`error: 429` makes refusals of all that fails, and they carry `retry_after` where one is given.

Demotions are judged by readings, as in a recorded history. Here every turn is known to the moment, so a reading at
each turn shows the worse of its two sides, and others stand a minute before and after: what is demoted inside an
episode or within a minute of one is never judged false.

What this module does not know: requests, and what is drawn for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import inf
from pathlib import Path as FilePath
from typing import Annotated, Final, Literal, TypeVar

from msgspec import UNSET, Meta, UnsetType, field

from balancer.config.check import BROKEN, Checked, check_tree, decode_as
from balancer.config.document import Node, read
from balancer.config.overlay import first
from balancer.config.problems import Path, Problems
from balancer.config.rules import child_of
from balancer.config.units import Duration, duration_text
from balancer.config.vocabulary import (
    DAY,
    Given,
    ModelId,
    Name,
    Price,
    Shape,
    Tag,
    above,
    lasts,
    number,
    told,
    whole,
)
from balancer.simulation.replay import TIMEOUT_LATENCY
from balancer.simulation.world import GRACE, LATENCY, Failing, Sample, Track, Truth, World

SUCCESS: Final = 0.98  # the normal floor of failures at LLM providers is 1–3 %
DURATION_MAX: Final = 366 * DAY
OCCURRENCES_MAX: Final = 100_000  # of one episode: 40 days of flapping every half minute
LATENCY_MAX: Final = 3600.0  # s; the configuration's own longest wait for a first token
REFUSAL: Final = "429"

_ERRORS: Final[dict[str, Failing]] = {
    "500": "server_error", "503": "overloaded", "timeout": "timeout", "connect": "connect", REFUSAL: "server_error",
}  # fmt: skip

T = TypeVar("T")

Moment = Annotated[Duration, lasts(0.0, DURATION_MAX)]
Span = Annotated[Duration, lasts(0.001, DURATION_MAX)]
Share = Annotated[float, number(0, 1)]
Error = Literal["429", "500", "503", "timeout", "connect"]


class PricesShape(Shape, frozen=True, kw_only=True):
    """Two prices."""

    prompt: Annotated[Price, told("Tokens that are sent, in USD per million.")]
    completion: Annotated[Price, told("Tokens that come back, in USD per million.")]


class ConditionShape(Shape, frozen=True, kw_only=True):
    """What an endpoint is like, for good or in an episode."""

    success: Given[Annotated[Share, told("The chance that a try succeeds.", SUCCESS)]] = UNSET
    error: Given[Annotated[Error, told("What the others are; 429 is a refusal by quota.", "500")]] = UNSET
    failure_latency: Given[
        Annotated[
            Duration,
            lasts(0.0, LATENCY_MAX),
            told(
                "How long a failure takes; a refusal takes 50ms. Default: 30s for a timeout, else 300ms and for a "
                "tenth of them 30s."
            ),
        ]
    ] = UNSET
    retry_after: Given[Annotated[Duration, lasts(0.0, DAY), told("The hint of a refusal; none if not given.")]] = (
        UNSET
    )
    slow: Given[Annotated[float, above(0, 1000), told("Times the usual latency.", 1.0)]] = UNSET
    price: Given[
        Annotated[Price | PricesShape, told("USD per million tokens: one, or {prompt: …, completion: …}.", 1.0)]
    ] = UNSET
    gone: Given[Annotated[bool, told("The model has no such endpoint then.", False)]] = UNSET


class EpisodeShape(ConditionShape, frozen=True, kw_only=True):
    """A time in which an endpoint is otherwise."""

    at: Annotated[Moment, told("When it begins.")]
    lasting: Given[Annotated[Span, told("How long it lasts; default: to the end.")]] = field(
        name="for", default=UNSET
    )
    every: Given[Annotated[Span, told("From one beginning to the next; default: it comes once.")]] = UNSET
    until: Given[Annotated[Moment, told("No beginning from then on; default: the end.")]] = UNSET


class EndpointShape(ConditionShape, frozen=True, kw_only=True):
    """One callable."""

    tag: Annotated[Tag, told("Its tag: a provider's key, or provider/variant.")]
    latency: Given[Annotated[Duration, lasts(0.001, LATENCY_MAX), told("The median of answers.", "2s")]] = UNSET
    capacity: Given[
        Annotated[int, whole(1, 1_000_000), told("Requests in a trailing minute; it refuses what is more.")]
    ] = UNSET
    episodes: Given[Annotated[list[EpisodeShape], Meta(max_length=1000), told("When it is otherwise.")]] = UNSET


class ModelShape(Shape, frozen=True, kw_only=True):
    """What is asked for."""

    weight: Given[Annotated[float, above(0, 1_000_000), told("Times the run's request rate.", 1.0)]] = UNSET
    endpoints: Annotated[list[EndpointShape], Meta(min_length=1, max_length=1000), told("Where it can be called.")]


class WorldShape(Shape, frozen=True, kw_only=True):
    """The whole file."""

    name: Given[Annotated[Name, told("What to call it; default: the file's name.")]] = UNSET
    duration: Annotated[Span, told("How long the world lasts.")]
    models: Annotated[dict[ModelId, ModelShape], Meta(min_length=1), told("What can be asked for, by id.")]


def load(path: str | FilePath) -> World:
    """Read a file. Raises: ValueError, with every problem found."""
    try:
        text = FilePath(path).read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; use a file that can be read") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8; save the file as UTF-8") from None
    return parse(text, source=str(path))


def parse(text: str, *, source: str) -> World:
    """Read a text; `source` is its name in messages. Raises: ValueError, with every problem found."""
    problems = Problems(source)
    root = read(text, problems, {})
    if root is None or root.value is None:
        if not problems:
            problems.add(None, (), "the file is empty", "give duration and models")
        raise ValueError(str(problems.error()))
    checked = check_tree(root, problems, WorldShape)
    if checked.tree is not BROKEN:
        shape = decode_as(checked, WorldShape)
        _judge(shape, checked, root, problems)
        if not problems:
            return _world(shape, FilePath(source).name)
    raise ValueError(str(problems.error()))


# ---- rules between keys ------------------------------------------------------------------------------------


def _judge(shape: WorldShape, checked: Checked, root: Node, problems: Problems) -> None:
    """Tell every broken rule, at its line."""
    for model, held in shape.models.items():
        within: Path = ("models", model, "endpoints")
        tags: dict[str, int] = {}
        for index, endpoint in enumerate(held.endpoints):
            path = (*within, checked.number(within, index))
            if endpoint.tag in tags:
                found = f"a second {endpoint.tag}; the first is endpoints[{tags[endpoint.tag]}]"
                allowed = "use another tag for each: provider/variant"
                problems.add(_line(root, (*path, "tag")), (*path, "tag"), found, allowed)
            tags.setdefault(endpoint.tag, checked.number(within, index))
            path = (*path, "episodes")
            for position, episode in enumerate(_listed(endpoint)):
                where = (*path, checked.number(path, position))
                # Where a key was refused already, the rest would be judged by what does not stand there.
                faults = () if problems.touches(where) else tuple(_faults(episode, shape.duration))
                for key, found, allowed in faults:
                    problems.add(_line(root, (*where, key)), (*where, key), found, allowed)


def _faults(episode: EpisodeShape, duration: float) -> Iterator[tuple[str, str, str]]:
    """What is wrong between the keys of one episode: the key, what was found, what is allowed."""
    lasting, every, until = (first(each) for each in (episode.lasting, episode.every, episode.until))
    if episode.at >= duration:
        yield "at", f"{duration_text(episode.at)} is not in the world", f"use less than {duration_text(duration)}"
    if every is not None and lasting is None:
        yield "for", "missing, and the episode comes again", "give how long it lasts each time"
    elif every is not None and lasting is not None and every <= lasting:
        found = f"{duration_text(every)} is not longer than the episode itself"
        yield "every", found, f"use more than {duration_text(lasting)}"
    elif every is not None and (duration - episode.at) / every > OCCURRENCES_MAX:
        yield "every", f"more than {OCCURRENCES_MAX} times", "use a longer time, or a shorter world"
    if until is not None and every is None:
        yield "until", "the episode comes once", "give every, or use for"
    elif until is not None and until <= episode.at:
        yield "until", f"{duration_text(until)} is before the first", f"use more than {duration_text(episode.at)}"


def _line(root: Node, path: Path) -> int | None:
    """The line of a place, or of the nearest enclosing place that the file has."""
    node = root
    for step in path:
        child = child_of(node, step)
        node = node if child is None else child
    return node.place


# ---- what is true ------------------------------------------------------------------------------------------


def _world(shape: WorldShape, file: str) -> World:
    name = first(shape.name)
    return World(
        name=file if name is None else name,
        duration=float(shape.duration),
        models=tuple(shape.models),
        tracks=tuple(
            _track(place, model, endpoint, float(shape.duration))
            for place, (model, held) in enumerate(shape.models.items())
            for endpoint in held.endpoints
        ),
        weights=tuple(_or(held.weight, 1.0) for held in shape.models.values()),
    )


def _track(place: int, model: str, endpoint: EndpointShape, duration: float) -> Track:
    truths = tuple(_truths(endpoint, duration))
    return Track(
        id=f"{model}@{endpoint.tag}",
        model=place,
        provider=endpoint.tag.partition("/")[0],
        tag=endpoint.tag,
        truths=truths,
        samples=tuple(_samples(truths, duration)),
        capacity=first(endpoint.capacity),
        retry_after=_seconds(endpoint.retry_after),
        latency=float(_or(endpoint.latency, LATENCY)),
    )


def _truths(endpoint: EndpointShape, duration: float) -> Iterator[Truth]:
    """Lay the episodes over the endpoint, the later of the list over the earlier."""
    episodes = _listed(endpoint)
    edges: dict[float, list[int]] = {0.0: []}
    for place, episode in enumerate(episodes):
        for edge in _edges(episode, duration):
            edges.setdefault(edge, []).append(place)
    present: set[int] = set()
    last: Truth | None = None
    for at in sorted(edges):
        # An episode's edges are its beginnings and ends in turn: each says the contrary of the one before.
        present.symmetric_difference_update(edges[at])
        truth = _truth(at, [*(episodes[place] for place in sorted(present, reverse=True)), endpoint])
        if last is None or truth[1:] != last[1:]:
            yield truth
            last = truth


def _edges(episode: EpisodeShape, duration: float) -> Iterator[float]:
    """Where an episode begins and ends, again and again, before the end of the world."""
    end = min(duration, _or(episode.until, duration))
    begin = float(episode.at)
    for repetition in count(1):
        if begin >= end:
            return
        yield begin
        stop = begin + _or(episode.lasting, inf)
        if stop < duration:
            yield stop
        begin = episode.at + repetition * _or(episode.every, inf)


def _truth(at: float, conditions: Sequence[ConditionShape]) -> Truth:
    """What holds from then on: of each key the first that is given."""
    success = _or(first(*(each.success for each in conditions)), SUCCESS)
    error = _or(first(*(each.error for each in conditions)), "500")
    failing = first(*(each.failure_latency for each in conditions))
    if failing is None and error == "timeout":
        failing = Duration(TIMEOUT_LATENCY)
    price = next((each.price for each in conditions if not isinstance(each.price, UnsetType)), 1.0)
    prices = price if isinstance(price, PricesShape) else PricesShape(prompt=price, completion=price)
    refusing = error == REFUSAL
    gone = _or(first(*(each.gone for each in conditions)), False)
    return Truth(
        at=at,
        success=None if gone else 1.0 if refusing else float(success),
        prompt=float(prices.prompt),
        completion=float(prices.completion),
        limited=1.0 - success if refusing and not gone else 0.0,
        retry_after=_seconds(first(*(each.retry_after for each in conditions))),
        slow=float(_or(first(*(each.slow for each in conditions)), 1.0)),
        failing=_seconds(failing),
        error=_ERRORS[error],
    )


def _samples(truths: Sequence[Truth], duration: float) -> Iterator[Sample]:
    """Readings to judge demotions by; none while the endpoint is gone."""
    shares = [None if truth.success is None else truth.share for truth in truths]
    ends = [*(truth.at for truth in truths[1:]), duration]
    before: float | None = None
    for truth, share, end in zip(truths, shares, ends, strict=True):
        near = [each for each in (before, share) if each is not None]
        if near:
            yield Sample(truth.at, min(near))
        if share is not None and truth.at + GRACE < end:
            yield Sample(truth.at + GRACE, share)
            if truth.at + GRACE < end - GRACE:
                yield Sample(end - GRACE, share)
        before = share


def _listed(endpoint: EndpointShape) -> Sequence[EpisodeShape]:
    return () if isinstance(endpoint.episodes, UnsetType) else endpoint.episodes


def _or(given: T | UnsetType | None, default: T) -> T:
    """The value, or the default where none is given: 0 and False are values."""
    return default if given is None or isinstance(given, UnsetType) else given


def _seconds(duration: float | UnsetType | None) -> float | None:
    return None if duration is None or isinstance(duration, UnsetType) else float(duration)
