"""`balancer`: the very core that the daemon runs, with the default configuration or any option of it changed.

Theory of operation: a policy's offers become a `Catalog`, requests become `Balancer.best`, tries become
`Balancer.record`, as a proxy and the probes would tell them. An option is named as in the configuration:
`failure_price=40`, `strategy=price`, `health.consecutive_failures=3`; `sort` is a request's. A changed price is a
reload.

What this module does not know: the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from math import inf
from typing import Final, get_args

from balancer.core.balancer import Balancer
from balancer.core.model import (
    Catalog,
    Endpoint,
    HealthPolicy,
    Model,
    NoEndpoint,
    Pricing,
    Provider,
    Routing,
    Sort,
    StrategyName,
)
from balancer.core.outcome import Outcome
from balancer.core.request import Preferences, Request
from balancer.simulation.policies.interface import Choice, Move, Offer, Try
from balancer.simulation.world import Truth, World

_WORDS: Final = ("strategy", "sort", "failure_price", "value_of_time")
_OUT: Final = frozenset({"endpoint.ejected", "endpoint.degraded"})
_IN: Final = frozenset({"endpoint.added", "endpoint.readmitted", "endpoint.recovered", "endpoint.healthy"})


class Ours:
    """The real core. Raises: ValueError for an option that is none, or has no such value."""

    probed = True
    demotes = True
    knows = False

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        self.name = name
        self._routing, self._health, self._wishes = settings(options)
        self._balancer = Balancer(Catalog())
        self._world: World | None = None
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._offers: dict[int, Sequence[Offer]] = {}
        self._requests: dict[int, Request] = {}
        self._stale = False
        self._told = 0
        self._out: set[int] = set()
        self._moves: list[Move] = []

    @property
    def core(self) -> Balancer:
        """The table itself: tests look at it after each step."""
        return self._balancer

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Start an empty table."""
        self._world = world
        self._ids = [track.id for track in world.tracks]
        self._places = {key: place for place, key in enumerate(self._ids)}
        self._balancer = Balancer(Catalog(routing=self._routing, health=self._health), seed=seed)

    def offer(self, model: int, offers: Sequence[Offer], now: float) -> None:
        """Take the endpoints and prices of a model; the next call reloads, once for all of a moment."""
        self._offers[model] = offers
        self._stale = True

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Ask the core."""
        if self._stale:
            self._apply(now)
        request = self._requests.get(model)
        if request is None or request.count != places - 1:
            assert self._world is not None
            request = self._requests[model] = Request(
                model=self._world.models[model], count=places - 1, provider=self._wishes
            )
        try:
            decision = self._balancer.best(request, now=now)
        except NoEndpoint:
            return Choice(())
        order = [self._places[decision.selected.id]]
        order += [self._places[each.id] for each in decision.fallbacks]
        return Choice(order, decision.id)

    def learn(self, tried: Try, now: float) -> None:
        """Record it, unless the endpoint is gone."""
        if self._stale:
            self._apply(now)
        key = self._ids[tried.track]
        if key not in self._balancer.catalog.endpoints:
            return  # it went away while the try was under way
        kind, began, ended = tried.kind, tried.began, tried.ended
        good = kind == "success"
        self._balancer.record(
            key,
            Outcome(
                kind=kind,
                latency=ended - began,
                ttft=tried.ttft if good else None,
                retry_after=tried.retry_after,
            ),
            now=now,
            source="probe" if tried.probe else "report",
            decision=tried.token if isinstance(tried.token, str) else None,
            age=max(0.0, now - ended),
        )
        self._listen()

    def moves(self) -> list[Move]:
        """Ejections and degradations, and the ways back."""
        self._listen()
        moves, self._moves = self._moves, []
        return moves

    def _apply(self, now: float) -> None:
        self._stale = False
        self._balancer.apply(self._catalog(), now=now)

    def _catalog(self) -> Catalog:
        world = self._world
        assert world is not None
        endpoints: dict[str, Endpoint] = {}
        models: dict[str, Model] = {}
        for model, name in enumerate(world.models):
            offers = self._offers.get(model, ())
            models[name] = Model(id=name, name=name, endpoints=tuple(self._ids[each.track] for each in offers))
            for each in offers:
                track = world.tracks[each.track]
                endpoints[track.id] = Endpoint(
                    id=track.id,
                    model=name,
                    tag=track.tag,
                    provider=track.provider,
                    provider_name=track.provider,
                    upstream_model=name,
                    base_url=f"https://{track.provider}.example",
                    # The price is of the whole request; only its ratio to the others' matters.
                    pricing=Pricing(prompt=each.price, completion=each.price),
                )
        keys = sorted({endpoint.provider for endpoint in endpoints.values()})
        providers = {key: Provider(key=key, name=key) for key in keys}
        return Catalog(
            providers=providers, models=models, endpoints=endpoints, routing=self._routing, health=self._health
        )

    def _listen(self) -> None:
        """Take note of what the core told of its endpoints' states."""
        for told in self._balancer.transitions(self._told):
            self._told = told.number
            if told.endpoint is None:
                continue
            place = self._places[told.endpoint]
            if told.event in _OUT and place not in self._out:
                self._out.add(place)
                self._moves.append(Move(told.now, place, True))
            elif told.event in _IN and place in self._out:
                self._out.remove(place)
                self._moves.append(Move(told.now, place, False))


def settings(options: Mapping[str, str]) -> tuple[Routing, HealthPolicy, Preferences]:
    """Read options by their names in the configuration. Raises: ValueError with every problem."""
    routing, health, wishes = Routing(), HealthPolicy(), Preferences()
    numbers = {
        f"health.{each.name}": type(value)
        for each in fields(HealthPolicy)
        if isinstance(value := getattr(health, each.name), bool | int | float)
    }
    allowed = (*_WORDS, *numbers)
    problems: list[str] = []
    changed: dict[str, float | bool] = {}
    for key, text in options.items():
        if key == "strategy" and text in get_args(StrategyName):
            routing = replace(routing, strategy=text)  # type: ignore[arg-type]
        elif key == "strategy":
            problems.append(f"strategy: {text!r} is none; use {', '.join(get_args(StrategyName))}")
        elif key == "sort" and text in get_args(Sort):
            wishes = replace(wishes, sort=text)  # type: ignore[arg-type]
        elif key == "sort":
            problems.append(f"sort: {text!r} is none; use {', '.join(get_args(Sort))}")
        elif key not in allowed:
            near = get_close_matches(key, allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(allowed)}"
            problems.append(f"{key}: unknown option; {hint}")
        elif numbers.get(key) is bool:
            if text in ("true", "false"):
                changed[key.removeprefix("health.")] = text == "true"
            else:
                problems.append(f"{key}: {text!r} is neither true nor false")
        else:
            kind = numbers.get(key, float)
            try:
                value = kind(text)
            except ValueError:
                problems.append(f"{key}: {text!r} is no {'whole ' if kind is int else ''}number")
                continue
            if not 0 <= value < inf:
                problems.append(f"{key}: {text} is out of range; use a number from 0 up")
            elif key in numbers:
                changed[key.removeprefix("health.")] = value
            elif key == "failure_price":
                routing = replace(routing, failure_price=value)
            else:
                routing = replace(routing, value_of_time=value)
    if problems:
        raise ValueError("; ".join(problems))
    return routing, replace(health, **changed), wishes  # type: ignore[arg-type]
