"""What a client's word for a model means: ids, aliases and suffixes.

Theory of operation: a name that is configured is itself, colons and all (`author/slug:free`). Otherwise the routing
suffixes are taken out, wherever they stand, and the rest must be configured: `author/slug:free:nitro` is
`author/slug:free`. Each suffix is a sort, of which the last one wins, and makes a service tier eligible. A part
that is no suffix and no part of a configured name is a model that does not exist.

What this module does not know: endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final, NamedTuple

from balancer.core.model import Model, Sort, Tier

NEAR_MAX: Final = 500  # names that a wrong one is compared with; more would hold a loop for milliseconds
NAMES_MAX: Final = 4096  # names with suffixes that are remembered

SUFFIXES: Final[Mapping[str, tuple[Sort, frozenset[Tier]]]] = {
    "nitro": ("throughput", frozenset({"priority"})),
    "floor": ("price", frozenset({"flex"})),
    "exacto": ("exacto", frozenset()),
}
"""What a suffix asks for, and the service tier that it makes eligible. Source: OpenRouter's model variants."""


class Named(NamedTuple):
    """A model by one of its names, with what the suffixes say."""

    model: Model
    sort: Sort | None
    tiers: frozenset[Tier]


class Names:
    """Every id and alias of one configuration."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._plain = {
            name: Named(model, None, frozenset()) for model in models for name in (model.id, *model.aliases)
        }
        self._suffixed: dict[str, Named] = {}
        self._near: dict[str, tuple[str, ...]] = {}

    def find(self, name: str) -> Named | None:
        """What a name means; `None` when no such model is configured. Case does not matter."""
        found = self._plain.get(name)
        if found is None:
            found = self._suffixed.get(name)
        return self._read(name) if found is None else found

    def near(self, word: str) -> tuple[str, ...]:
        """Names that were perhaps meant, the nearest first."""
        found = self._near.get(word)
        if found is None:
            # The comparison is slow: those with the same beginning come first, and the same mistake is made often.
            like = sorted(self._plain, key=lambda name: name[:2] != word[:2])[:NEAR_MAX]
            found = tuple(get_close_matches(word, like, n=3))
            if len(self._near) >= NEAR_MAX:
                self._near.clear()
            self._near[word] = found
        return found

    def _read(self, name: str) -> Named | None:
        word = name.lower()
        found = self._plain.get(word)
        if found is None:
            base, *parts = word.split(":")
            found = self._plain.get(":".join([base, *[part for part in parts if part not in SUFFIXES]]))
            if found is None:
                return None
            for sort, tiers in [SUFFIXES[part] for part in parts if part in SUFFIXES]:
                found = Named(found.model, sort, found.tiers | tiers)
        if len(self._suffixed) >= NAMES_MAX:
            self._suffixed.clear()
        self._suffixed[name] = found
        return found
