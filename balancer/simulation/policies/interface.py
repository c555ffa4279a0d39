"""What a policy is told and what it owes.

Theory of operation: a policy stands where a router stands. It is told which endpoints a model has and their prices
(`offer`), is asked for an order (`choose`), and learns of finished tries, its own and the probes' (`learn`). It
never sees the truth, but for the oracles, which are given it to show what could be had.

Endpoints and models are numbers: their places in the world's `tracks` and `models`.

What this module does not know: how outcomes are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from balancer.core.outcome import Kind
from balancer.simulation.world import Truth, World


class Offer(NamedTuple):
    """An endpoint that a model has at present, and the usual request's price there."""

    track: int
    price: float


class Choice(NamedTuple):
    """Endpoints in the order in which they are to be tried. `token` comes back with what is learned of them."""

    order: Sequence[int]
    token: object = None


class Try(NamedTuple):
    """One finished try of a request, or one finished probe. Units: seconds. `token` is the choice's."""

    track: int
    kind: Kind
    began: float
    ended: float
    ttft: float | None
    retry_after: float | None
    probe: bool
    token: object


class Move(NamedTuple):
    """A policy put an endpoint behind the others for its health, or took it back."""

    at: float
    track: int
    out: bool


class Policy(Protocol):
    """One way to choose. A policy serves one run.

    `probed`: it learns from probes. `demotes`: it puts endpoints behind others for their health and tells of it in
    `moves`. `knows`: it is given the truth, so nobody can choose as it does.
    """

    name: str
    probed: bool
    demotes: bool
    knows: bool

    def begin(self, world: World, present: Sequence[Truth], seed: int) -> None:
        """Get ready; `present` is what is true of each track, kept up to date: for oracles only."""

    def offer(self, model: int, offers: Sequence[Offer], now: float) -> None:
        """Take the endpoints and prices of a model from now on."""

    def choose(self, model: int, places: int, now: float) -> Choice:
        """Order the first `places` endpoints for one request."""

    def learn(self, tried: Try, now: float) -> None:
        """Take one finished try; `now` is when it is told."""

    def moves(self) -> list[Move]:
        """What was put behind or taken back since this was last asked; empty for a policy without states."""
