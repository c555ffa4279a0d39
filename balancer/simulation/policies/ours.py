"""`balancer`: the very core that the daemon runs, with the default configuration or any option of it changed.

Theory of operation: a policy's offers become a `Catalog`, requests become `Balancer.best`, tries become
`Balancer.record`, as a proxy and the probes would tell them. An option is named, written and bounded as in the
configuration: `failure_price=40`, `strategy=price`, `health.hold=30s`; `sort` is a request's. A changed price is a
reload. Who is out is read off the state that the core tells with each change, whatever the change is called.

What this module does not know: the truth, and states that change with time alone: the core tells of those with the
endpoint's next outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Annotated, Final

from msgspec import UNSET, UnsetType

from balancer.config.check import check_tree, decode_as
from balancer.config.document import Node, read
from balancer.config.overlay import overlay
from balancer.config.problems import Problems
from balancer.config.sections import HealthShape, RoutingShape
from balancer.config.units import duration_text
from balancer.config.vocabulary import Given, told
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
    State,
)
from balancer.core.outcome import Outcome
from balancer.core.pricing import COMPLETION_TOKENS, PROMPT_TOKENS
from balancer.core.request import Preferences, Request
from balancer.simulation.policies.interface import Choice, Move, Offer, Try
from balancer.simulation.policies.options import hint
from balancer.simulation.world import Truth, World

_WORDS: Final = ("strategy", "sort", "failure_price", "value_of_time")
_TOKENS: Final = PROMPT_TOKENS + COMPLETION_TOKENS  # of the usual request, which is what an offer's price is of
# The other states say nothing of health: a 429's wait, what an operator did, a credential.
_OUT: Final = frozenset[State]({"ejected", "half_open", "degraded"})
_IN: Final = frozenset[State]({"healthy", "recovering", "unverified"})


class OptionsShape(RoutingShape, frozen=True, kw_only=True):
    """What may be changed, as the configuration has it."""

    sort: Given[Annotated[Sort, told("What a request asks for.")]] = UNSET
    health: Given[Annotated[HealthShape, told("When an endpoint is out, and how it returns.")]] = UNSET


class Ours:
    """The real core. Raises: ValueError for an option that is none, or has no such value."""

    probed = True
    knows = False

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        self.name = name
        self._routing, self._health, self._wishes = settings(options)
        self.demotes = self._health.enforce
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
                token = each.price / _TOKENS  # millionths of a USD, so it is USD per million of them
                endpoints[track.id] = Endpoint(
                    id=track.id,
                    model=name,
                    tag=track.tag,
                    provider=track.provider,
                    provider_name=track.provider,
                    upstream_model=name,
                    base_url=f"https://{track.provider}.example",
                    pricing=Pricing(prompt=token, completion=token),
                )
        keys = sorted({endpoint.provider for endpoint in endpoints.values()})
        providers = {key: Provider(key=key, name=key) for key in keys}
        return Catalog(
            providers=providers, models=models, endpoints=endpoints, routing=self._routing, health=self._health
        )

    def _listen(self) -> None:
        """Take note of what the core told of its endpoints' states."""
        for each in self._balancer.transitions(self._told):
            self._told = each.number
            if each.endpoint is None or not each.enforced:
                continue  # what is only watched puts nobody behind
            place = self._places[each.endpoint]
            if each.state in _OUT and place not in self._out:
                self._out.add(place)
                self._moves.append(Move(each.now, place, True))
            elif each.state in _IN and place in self._out:
                self._out.remove(place)
                self._moves.append(Move(each.now, place, False))


def settings(options: Mapping[str, str]) -> tuple[Routing, HealthPolicy, Preferences]:
    """Read options by their names in the configuration. Raises: ValueError with every problem."""
    usual = HealthPolicy()
    scalars = [each.name for each in fields(usual) if not isinstance(getattr(usual, each.name), tuple)]
    allowed = dict.fromkeys([*_WORDS, *(f"health.{name}" for name in scalars)])
    problems = [f"{key}: unknown option; {hint(key, allowed)}" for key in options if key not in allowed]
    section: dict[str, Node] = {}
    tree = {"health": _node(section)}
    for key, text in options.items():
        if key in allowed:
            (section if key.startswith("health.") else tree)[key.removeprefix("health.")] = _scalar(text)
    faults = Problems("")
    checked = check_tree(_node(tree), faults, OptionsShape)
    if faults:
        problems += [f"{each.path}: {each.found}; {each.allowed}" for each in faults.error().problems]
    given = decode_as(checked, OptionsShape)
    health = overlay(usual, given.health)
    if health.hold > health.hold_max and not faults:
        longest = duration_text(health.hold_max)
        problems.append(f"health.hold: {duration_text(health.hold)} is longer than health.hold_max, {longest}")
    if problems:
        raise ValueError("; ".join(problems))
    routing = Routing()
    for name in ("strategy", "failure_price", "value_of_time"):
        value = getattr(given, name)
        if not isinstance(value, UnsetType):
            routing = replace(routing, **{name: value})
    return routing, health, Preferences() if isinstance(given.sort, UnsetType) else Preferences(sort=given.sort)


def _scalar(text: str) -> Node:
    """One value as the file's reader takes it; what would be more than a plain value there is text."""
    problems = Problems("")
    node = read(text, problems, {})
    if node is None or problems or node.value is None or isinstance(node.value, dict | list):
        return _node(text)
    return node


def _node(value: str | dict[str, Node]) -> Node:
    return Node(value=value, line=1, key_line=1, written=value if isinstance(value, str) else "")
