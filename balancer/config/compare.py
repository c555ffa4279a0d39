"""What a reload changed, by key, for the log and for whoever asked for it.

Theory of operation: two configurations are compared as they came out, not as they were written: what an endpoint
inherits is part of it, and files that say the same in other words change nothing. Only names are told, never
values: another key of a provider is `credential`, and an address with a key in it is `base_url`.

What was made of something else that is told, such as an endpoint's identity of its key, is not told again.

What this module does not know: which of it takes effect, and when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Final

from balancer.config.proxies import Proxies
from balancer.config.secret import Secret
from balancer.config.settings import Config, Lookout, PageSettings, ProbeSettings, Token
from balancer.core.model import Endpoint, Model, Provider

NAMES_MAX: Final = 20  # of one sort: a log line and an answer that people read; the rest is counted
KEYS_MAX: Final = 8  # of one thing that changed, likewise
ALIKE_MAX: Final = 3  # endpoints by name in which the same differs; beyond it was one line for all of them

_ENDPOINTS: Final = "endpoints."

_NAMED: Final = frozenset({"tokens", "providers", "models", "endpoints", "probes", "credentials", "lookouts"})
"""Fields of a configuration that are compared name by name, and not key by key."""

_MADE: Final[Mapping[type, frozenset[str]]] = {
    Provider: frozenset({"key", "tags"}),
    Model: frozenset({"id"}),
    Endpoint: frozenset(
        {
            "id", "model", "tag", "door", "provider", "provider_name", "quota", "identity", "misconfigured",
            "input_modalities", "output_modalities", "distillable",
        }
    ),
    ProbeSettings: frozenset({"variables"}),
    Token: frozenset({"name"}),
}  # fmt: skip
"""Fields that are names, or follow from others that are told."""

_WORDS: Final = {"upstream_model": "model", "secret": "token"}  # our names for what the file calls so
_OPAQUE: Final = frozenset({Proxies})  # of the environment, not of the file: told as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that is another now: its name, and which of its keys differ (none where it has none), or why."""

    name: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(_bounded(self.keys, KEYS_MAX))}" if self.keys else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one configuration has and another has not, and what differs in both; false where nothing does.

    Names are `routing.strategy`, `auth.tokens.NAME`, `providers.KEY`, `models.ID`, `endpoints.MODEL@TAG` and
    `lookouts.ID`, in this order. `misconfigured` are the endpoints that cannot be called now, though they could
    before or were not there, each with the reason: they are among the others, too.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    misconfigured: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        parts = [f"{sort} {', '.join(names)}" for sort, names in self.facts().items() if names]
        return "; ".join(parts) if parts else "nothing changed"

    def facts(self) -> dict[str, list[str]]:
        """Give each sort of the fields in words: the first 20 of each, and how many more there are.

        Shape: many endpoints of which the same is said are one of them, by their number.
        """
        return {
            "added": _bounded(self.added, NAMES_MAX),
            "removed": _bounded(self.removed, NAMES_MAX),
            "changed": _bounded(_together(self.changed), NAMES_MAX),
            "misconfigured": _bounded(_together(self.misconfigured), NAMES_MAX),
        }


def difference(old: Config, new: Config) -> Difference:
    """Compare two configurations.

    Units: microseconds for each endpoint, so it belongs into a thread where there are thousands.
    """
    both = old.endpoints.keys() & new.endpoints.keys()
    sections: tuple[tuple[str, Mapping[str, object], Mapping[str, object]], ...] = (
        ("auth.tokens", {each.name: each for each in old.tokens}, {each.name: each for each in new.tokens}),
        ("providers", old.providers, new.providers),
        ("models", _models(old, both), _models(new, both)),
        ("endpoints", _endpoints(old), _endpoints(new)),
        ("lookouts", _lookouts(old), _lookouts(new)),
    )
    added: list[str] = []
    removed: list[str] = []
    changed = [
        Change(name=key)
        for each in fields(Config)
        if each.compare and each.name not in _NAMED
        for key in _differing(getattr(old, each.name), getattr(new, each.name), each.name)
    ]
    for section, before, after in sections:
        added += [f"{section}.{name}" for name in after if name not in before]
        removed += [f"{section}.{name}" for name in before if name not in after]
        for name in after:
            keys = tuple(dict.fromkeys(_differing(before[name], after[name]))) if name in before else ()
            if keys:
                changed.append(Change(name=f"{section}.{name}", keys=keys))
    return Difference(
        added=tuple(added),
        removed=tuple(removed),
        changed=tuple(changed),
        misconfigured=tuple(_misconfigured(old.endpoints, new.endpoints)),
    )


@dataclass(frozen=True, slots=True)
class _Called:
    """An endpoint as its owner thinks of it: with how it is probed, and the key itself."""

    endpoint: Endpoint
    probe: ProbeSettings | None
    credential: Secret | None


@dataclass(frozen=True, slots=True)
class _Watched:
    """What the file says of a status page or a target; the rest is made of it."""

    url: str
    interval: float
    timeout: float
    components: tuple[str, ...]
    proxy: Proxies


def _models(config: Config, kept: Collection[str]) -> dict[str, Model]:
    """Leave out the endpoints that come or go, which tell that themselves: what is left is their order."""
    return {
        name: replace(model, endpoints=tuple(each for each in model.endpoints if each in kept))
        for name, model in config.models.items()
    }


def _endpoints(config: Config) -> dict[str, _Called]:
    return {
        key: _Called(endpoint, config.probes.get(key), config.credentials.get(key))
        for key, endpoint in config.endpoints.items()
    }


def _lookouts(config: Config) -> dict[str, _Watched]:
    return {key: _watched(lookout) for key, lookout in config.lookouts.items()}


def _watched(lookout: Lookout) -> _Watched:
    settings = lookout.settings
    components = settings.components if isinstance(settings, PageSettings) else ()
    return _Watched(lookout.endpoint.base_url, settings.interval, settings.timeout, components, settings.proxy)


def _differing(old: object, new: object, key: str = "") -> Iterator[str]:
    """Name the keys in which two values differ, down to those that have no keys of their own."""
    if old == new:
        return
    kind = type(new)
    if type(old) is not kind or not is_dataclass(kind) or kind in _OPAQUE:
        yield key
        return
    made = _MADE.get(kind, frozenset())
    for each in fields(kind):
        if each.compare and each.name not in made:
            word = "" if kind is _Called and each.name == "endpoint" else _WORDS.get(each.name, each.name)
            inside = f"{key}.{word}" if key and word else key + word
            yield from _differing(getattr(old, each.name), getattr(new, each.name), inside)


def _misconfigured(old: Mapping[str, Endpoint], new: Mapping[str, Endpoint]) -> Iterator[Change]:
    for key, endpoint in new.items():
        before = old.get(key)
        if endpoint.misconfigured is not None and (before is None or before.misconfigured is None):
            yield Change(name=f"{_ENDPOINTS}{key}", keys=(endpoint.misconfigured,))


def _together(changes: Sequence[Change]) -> tuple[str, ...]:
    alike = Counter(each.keys for each in changes if each.name.startswith(_ENDPOINTS))
    told: dict[str, None] = {}
    for each in changes:
        count = alike[each.keys] if each.name.startswith(_ENDPOINTS) else 1
        told[str(replace(each, name=f"{count} endpoints") if count > ALIKE_MAX else each)] = None
    return tuple(told)


def _bounded(names: Sequence[str], most: int) -> list[str]:
    rest = len(names) - most
    return [*names[:most], f"{rest} more"] if rest > 0 else list(names)
