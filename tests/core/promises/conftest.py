"""A table in which time passes, and what can be asked of it: for tables of cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from balancer import Balancer, Decision, NoEndpoint, Outcome, Request
from balancer.core.model import Catalog, Endpoint, Routing

MODEL = "author/slug"


class Play:
    """A table and its present moment. Endpoints go by their tags, requests by the fields that they give."""

    def __init__(self, table: Balancer) -> None:
        self.table = table
        self.now = 0.0

    def id(self, tag: str) -> str:
        return next(key for key, each in self.table.catalog.endpoints.items() if each.tag == tag)

    def best(self, asked: dict[str, Any], **how: bool) -> Decision:
        return self.table.best(Request(**{"model": MODEL, **asked}), now=self.now, **how)

    # ---- what happens --------------------------------------------------------------------------------

    def told(
        self,
        tag: str,
        kind: Any,
        times: int = 1,
        *,
        session: str | None = None,
        source: Any = "report",
        **facts: Any,
    ) -> None:
        for _ in range(times):
            outcome = Outcome(kind=kind, **facts)
            self.table.record(self.id(tag), outcome, now=self.now, source=source, session_id=session)

    def turn(self, kind: Any = "success", times: int = 1, **asked: Any) -> None:
        """A request that really is sent, and the report of its first try."""
        for _ in range(times):
            found = self.best(asked)
            self.table.record(
                found.selected.id,
                Outcome(kind=kind),
                now=self.now,
                decision=found.id,
                session_id=asked.get("session_id"),
            )

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def drain(self, target: str, seconds: float | None = None) -> None:
        self.table.drain(target, now=self.now, until=None if seconds is None else self.now + seconds)

    def resume(self, target: str) -> None:
        self.table.resume(target, now=self.now)

    # ---- what must come of it ------------------------------------------------------------------------

    def order(self, asked: dict[str, Any], tags: str, **flags: Any) -> None:
        """The tags of the selected endpoint and the fallbacks; `flags` are other fields of the decision."""
        found = self.best(asked)
        assert [found.selected.tag, *(each.tag for each in found.fallbacks)] == tags.split()
        assert {name: getattr(found, name) for name in flags} == flags

    def last(self, asked: dict[str, Any], tag: str) -> None:
        for _ in range(20):
            assert self.best(asked).fallbacks[-1].tag == tag

    def shares(self, asked: dict[str, Any], **expected: float) -> None:
        """Each endpoint's chance to be first."""
        lines = self.best(asked, explain=True).considered
        assert {line.id.partition("@")[2]: line.share for line in lines} == pytest.approx(expected, abs=1e-3)

    def first(self, asked: dict[str, Any], tags: str) -> None:
        """Who is likely to be first, each likelier than the next; none of them is ruled out."""
        lines = {line.id.partition("@")[2]: line.share for line in self.best(asked, explain=True).considered}
        assert sorted(lines, key=lines.__getitem__, reverse=True) == tags.split()
        assert all(share > 0 for share in lines.values())

    def excluded(self, asked: dict[str, Any], **expected: str) -> None:
        """The lines of the explanation in their order: who is excluded, and by what."""
        lines = self.best(asked, explain=True).considered
        assert [(line.id.partition("@")[2], ",".join(line.excluded_by)) for line in lines] == list(expected.items())

    def refused(self, asked: dict[str, Any], code: str, *excluded_by: str, **facts: Any) -> None:
        with pytest.raises(NoEndpoint) as caught:
            self.best(asked)
        assert (caught.value.code, caught.value.excluded_by) == (code, excluded_by)
        assert {name: getattr(caught.value, name) for name in facts} == facts

    def invalid(self, asked: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            self.best(asked)


@pytest.fixture(scope="session")
def stage(endpoint: Callable[..., Endpoint], catalog: Callable[..., Catalog]) -> Callable[..., Play]:
    """Make a play from `(tag, fields)` of endpoints and the fields of `Routing`."""

    def make(world: Sequence[tuple[str, dict[str, Any]]], routing: dict[str, Any]) -> Play:
        endpoints = [endpoint(tag, **fields) for tag, fields in world]
        names = {MODEL: ("slug",)}
        return Play(Balancer(catalog(*endpoints, aliases=names, routing=Routing(**routing)), seed=1))

    return make
