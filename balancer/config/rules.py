"""Rules between keys, over what `check` let through; each mistake told at its line.

A rule about values of which one was already refused is skipped: its default would stand in, and the message
would mislead. Names are looked up in the file as it is written, so that a provider with a broken key inside
does not make its endpoints say that it is not there.

What this module does not know: what an endpoint inherits (`resolve` judges that).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from msgspec import UnsetType

from balancer.config.check import Checked
from balancer.config.document import Node
from balancer.config.problems import Path, Problems, shown
from balancer.config.sections import HealthShape, RoutingShape, TimeoutsShape
from balancer.config.settings import Listen, RetentionSettings
from balancer.config.shape import (
    DoorShape,
    EndpointShape,
    FileShape,
    ListenShape,
    ModelShape,
    ProviderShape,
    VariantShape,
)
from balancer.config.storing import RetentionShape, StoreShape
from balancer.config.units import duration_text, is_wide, parse_listen
from balancer.config.vocabulary import SecretShape
from balancer.core.model import HealthPolicy, TimeoutPolicy


@dataclass(frozen=True, slots=True)
class Sheet:
    """A checked file with what is needed to talk about its places.

    Several files are one here; `folder` is where the relative paths in any of them begin.
    """

    file: FileShape
    root: Node
    checked: Checked
    problems: Problems
    folder: FilePath = FilePath()

    def written(self, path: Path) -> Node | None:
        """Give what the file has at a place; `None` when it has nothing there."""
        node = self.root
        for step in path:
            child = child_of(node, step)
            if child is None:
                return None
            node = child
        return node

    def tell(self, path: Path, found: str, allowed: str) -> None:
        """Add a problem at a place, or at the nearest enclosing place that the file has."""
        shorter = path
        while (node := self.written(shorter)) is None:
            shorter = shorter[:-1]
        self.problems.add(node.place, path, found, allowed, file=node.file)

    def elsewhere(self, path: Path, other: Path) -> str:
        """Name the place of `other` in brackets where it is in another file than `path`; else nothing."""
        here, there = self.written(path), self.written(other)
        if here is None or there is None or here.file == there.file:
            return ""
        return f" ({there.file}:{there.place})"

    def keys(self, path: Path) -> tuple[str, ...]:
        """Give the keys of a mapping as they are written, good or not."""
        node = self.written(path)
        return tuple(node.value) if node is not None and isinstance(node.value, dict) else ()

    def doors(self) -> Iterator[tuple[Path, str, DoorShape]]:
        """Walk the providers and their declared variants that fit, each with its place and its tag."""
        for key, provider in self.file.providers.items():
            yield ("providers", key), key, ProviderShape() if provider is None else provider
            variants = {} if provider is None or isinstance(provider.variants, UnsetType) else provider.variants
            for name, variant in variants.items():
                door = VariantShape() if variant is None else variant
                yield ("providers", key, "variants", name), f"{key}/{name}", door

    def endpoints(self) -> Iterator[tuple[Path, str, ModelShape, EndpointShape]]:
        """Walk the endpoints that fit, each with its place in the file and its model."""
        for name, model in self.file.models.items():
            within: Path = ("models", name, "endpoints")
            for index, endpoint in enumerate(model.endpoints):
                yield (*within, self.checked.number(within, index)), name, model, endpoint


def child_of(node: Node, step: str | int) -> Node | None:
    """Give what a mapping or a list holds at one step of a path; `None` when it holds nothing there."""
    if isinstance(node.value, dict) and isinstance(step, str):
        return node.value.get(step)
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def judge(sheet: Sheet) -> None:
    """Tell every broken rule between keys, except those about inherited values."""
    _judge_listen(sheet)
    _judge_tokens(sheet)
    _judge_names(sheet)
    _judge_credentials(sheet)
    _judge_timeouts(sheet)
    _judge_health(sheet)
    _judge_store(sheet)


def listens(file: FileShape) -> tuple[Listen, ...]:
    """Give the addresses to serve on."""
    if isinstance(file.listen, UnsetType):
        return (Listen(host="127.0.0.1", port=8790),)
    return tuple(_listen(value) for value in _addresses(file.listen))


def _addresses(value: str | ListenShape | list[str | ListenShape]) -> list[str | ListenShape]:
    return value if isinstance(value, list) else [value]


def _listen(value: str | ListenShape) -> Listen:
    if isinstance(value, str):
        return parse_listen(value)
    return replace(
        parse_listen(value.address),
        mode=None if isinstance(value.mode, UnsetType) else int(value.mode, 8),
        group=None if isinstance(value.group, UnsetType) else value.group,
        reuse_port=value.reuse_port is True,
    )


def _judge_listen(sheet: Sheet) -> None:
    value = sheet.file.listen
    if isinstance(value, UnsetType):
        return
    tokens = sheet.written(("auth", "tokens"))
    guarded = sheet.file.insecure is True or (
        tokens is not None and isinstance(tokens.value, list) and len(tokens.value) > 0
    )
    seen: set[str] = set()
    for index, one in enumerate(_addresses(value)):
        path: Path = (
            ("listen", sheet.checked.number(("listen",), index)) if isinstance(value, list) else ("listen",)
        )
        listen = _listen(one)
        if isinstance(one, ListenShape):
            _judge_keys_of(sheet, path, one, listen)
            path = (*path, "address")
        if str(listen) in seen and listen.port != 0:
            sheet.tell(path, f"{as_written(sheet, path)} is listed twice", "keep one of them")
        seen.add(str(listen))
        if is_wide(listen) and not guarded and not sheet.problems.touches(("insecure",)):
            found = f"{as_written(sheet, path)} lets others than this machine in, without any token"
            sheet.tell(path, found, "give auth.tokens, listen on 127.0.0.1 or a unix socket, or set insecure: true")


def _judge_keys_of(sheet: Sheet, path: Path, shape: ListenShape, listen: Listen) -> None:
    """Tell what an address of this kind has not."""
    for key in ("mode", "group"):
        if listen.path is None and not isinstance(getattr(shape, key), UnsetType):
            sheet.tell((*path, key), f"{listen} is no unix socket, which alone has a {key}", "remove it")
    if listen.path is not None and listen.reuse_port:
        found = f"{listen} is a unix socket, which nobody can share"
        sheet.tell((*path, "reuse_port"), found, "remove it")


def as_written(sheet: Sheet, path: Path) -> str:
    node = sheet.written(path)
    return "" if node is None else shown(node.written)


def _judge_tokens(sheet: Sheet) -> None:
    auth = sheet.file.auth
    if auth is None or isinstance(auth, UnsetType) or isinstance(auth.tokens, UnsetType):
        return
    within: Path = ("auth", "tokens")
    seen: dict[str, int] = {}
    for index, token in enumerate(auth.tokens):
        number = sheet.checked.number(within, index)
        if token.name in seen:
            found = f"the name of auth.tokens[{seen[token.name]}] too"
            sheet.tell((*within, number, "name"), found, "use a name of its own for each token")
        seen.setdefault(token.name, number)


def _judge_names(sheet: Sheet) -> None:
    """A client's word must lead to one model: ids and aliases share one space."""
    models = sheet.keys(("models",))
    taken: dict[str, tuple[str, Path]] = {}
    for name, model in sheet.file.models.items():
        within: Path = ("models", name, "aliases")
        aliases: Sequence[str] = () if isinstance(model.aliases, UnsetType) else model.aliases
        for index, alias in enumerate(aliases):
            path = (*within, sheet.checked.number(within, index))
            if alias in models:
                owner = "this model's own id" if alias == name else "the id of another model"
                owner += sheet.elsewhere(path, ("models", alias))
                sheet.tell(path, f"{as_written(sheet, path)} is {owner}", "use a name that leads to one model")
            elif alias in taken:
                other, place = taken[alias]
                found = f"{as_written(sheet, path)} is already an alias of {other}{sheet.elsewhere(path, place)}"
                sheet.tell(path, found, "use a name that leads to one model")
            taken.setdefault(alias, (name, path))


def _judge_credentials(sheet: Sheet) -> None:
    """A key that is listed twice would count one quota as two."""
    for path, _, door in sheet.doors():
        if not isinstance(door.credential, list):
            continue
        within: Path = (*path, "credential")
        seen: dict[SecretShape, int] = {}
        for index, reference in enumerate(door.credential):
            number = sheet.checked.number(within, index)
            if reference in seen:
                found = f"the place of credential[{seen[reference]}] too"
                sheet.tell((*within, number), found, "list each key once")
            seen.setdefault(reference, number)


def _judge_timeouts(sheet: Sheet) -> None:
    routing = sheet.file.routing
    timeouts = routing.timeouts if isinstance(routing, RoutingShape) else None
    if not isinstance(timeouts, TimeoutsShape):
        return
    within: Path = ("routing", "timeouts")
    _judge_order(sheet, within, timeouts, TimeoutPolicy(), low="first_token_min", high="first_token_max")
    _judge_order(sheet, within, timeouts, TimeoutPolicy(), low="total_min", high="total_max")


def _judge_health(sheet: Sheet) -> None:
    health = sheet.file.health
    if not isinstance(health, HealthShape):
        return
    _judge_order(sheet, ("health",), health, HealthPolicy(), low="hold", high="hold_max")
    within: Path = ("health", "windows")
    if isinstance(health.windows, UnsetType) or sheet.problems.touches(within):
        return
    for index in range(1, len(health.windows)):
        before, window = health.windows[index - 1], health.windows[index]
        if window <= before:
            found = f"{duration_text(window)} is not longer than the {duration_text(before)} before it"
            sheet.tell((*within, index), found, "use ascending windows")


def _judge_store(sheet: Sheet) -> None:
    store = sheet.file.store
    if isinstance(store, StoreShape) and isinstance(store.retention, RetentionShape):
        kept = RetentionSettings()
        _judge_order(sheet, ("store", "retention"), store.retention, kept, low="minutes", high="hours")


def _judge_order(
    sheet: Sheet,
    path: Path,
    section: HealthShape | TimeoutsShape | RetentionShape,
    default: object,
    *,
    low: str,
    high: str,
) -> None:
    """Tell a least duration above its greatest: at the least, or at the greatest where only that was given."""
    if sheet.problems.touches((*path, low)) or sheet.problems.touches((*path, high)):
        return
    given = {key: getattr(section, key) for key in (low, high)}
    held = {key: getattr(default, key) if isinstance(value, UnsetType) else value for key, value in given.items()}
    if held[low] <= held[high]:
        return
    if isinstance(given[low], UnsetType):
        found = f"{duration_text(held[high])} is shorter than {low}, {duration_text(held[low])}"
        sheet.tell((*path, high), found, f"use a {low} of at most {high}")
    else:
        found = f"{duration_text(held[low])} is longer than {high}, {duration_text(held[high])}"
        sheet.tell((*path, low), found, f"use a {low} of at most {high}")
