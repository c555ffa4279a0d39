"""The file's tree against its shape: every value that does not fit, and a plain tree of those that do.

Theory of operation: msgspec stops at the first mistake, so this walk follows the same struct types down to
the leaves and lets msgspec judge each leaf alone. What does not fit is told and left out; an item whose
required key is broken is left out as a whole. What remains fits, so the rules between keys can still run
over it and tell the rest of the mistakes in the same go. `numbers` remembers where the items of a shortened
list stood, so that later messages count as the file does.

What this module does not know: what any key means, and rules between two keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from math import isfinite
from re import compile as pattern
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from balancer.config.document import Node, kind_of
from balancer.config.problems import Path, Problems, near, one_of, shown
from balancer.config.shape import FileShape
from balancer.config.units import Duration, Size, parse_duration, parse_size
from balancer.config.vocabulary import SecretShape, Shape

S = TypeVar("S", bound=Shape)

BROKEN: Final[Any] = object()
"""Stands for a value that was refused; never part of the plain tree."""

_PLACES: Final = "use {env: NAME}, {file: PATH} or {credential: NAME}"
_UNPRINTABLE: Final = pattern(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Capitals only: a key pasted where its variable's name belongs has small letters, and is not repeated then.
_SECRET_NAMES: Final = {
    "env": (pattern(r"[A-Z_][A-Z0-9_]{0,199}"), "use a variable's name: capitals, digits and _"),
    "file": (pattern(r"[^\x00-\x1f\x7f]{1,1000}"), "use a file's path"),
    "credential": (pattern(r"(?!\.{1,2}$)[A-Za-z0-9._@:-]{1,200}"), "use a credential's name, without a slash"),
}


@dataclass(slots=True)
class Checked:
    """What fits: the plain tree, and where the items of shortened lists stood."""

    tree: Any
    numbers: dict[Path, list[int]] = field(default_factory=dict)

    def number(self, path: Path, index: int) -> int:
        """Give the position in the file of what is now item `index` of the list at `path`."""
        numbers = self.numbers.get(path)
        return index if numbers is None else numbers[index]


@dataclass(frozen=True, slots=True)
class _Hint:
    """The words for a message about one value, gathered from the `Meta` around its type."""

    use: str | None = None
    default: str | None = None
    words: tuple[str, ...] = ()
    fault: Any = None
    low: float | None = None
    high: float | None = None
    length_min: int = 0
    length_max: int | None = None

    def of(self, metas: tuple[Any, ...]) -> _Hint:
        changes: dict[str, Any] = {}
        for meta in metas:
            if meta.extra is not None:
                changes.update(meta.extra)
            if meta.min_length is not None:
                changes["length_min"] = meta.min_length
            if meta.max_length is not None:
                changes["length_max"] = meta.max_length
        return replace(self, **changes) if changes else self

    def allowed(self, otherwise: str) -> str:
        use = one_of(self.words) if self.words else self.use
        text = f"use {otherwise if use is None else use}"
        return text if self.default is None else f"{text} (default {self.default})"


def check_tree(root: Node, problems: Problems, shape: type[Shape] = FileShape) -> Checked:
    """Tell every value that does not fit, and keep those that do."""
    walk = _Walk(problems)
    tree = walk.value(root, shape, (), _Hint())
    return Checked(tree=tree, numbers=walk.numbers)


def decode(checked: Checked) -> FileShape:
    """Make the typed file of a tree that fits."""
    return decode_as(checked, FileShape)


def decode_as(checked: Checked, shape: type[S]) -> S:
    """Make the typed value of a tree that fits another shape than the configuration's."""
    return msgspec.convert(checked.tree, shape, dec_hook=_decode_unit)


def _decode_unit(kind: type, value: object) -> Duration | Size:
    assert isinstance(value, str)
    return parse_duration(value) if kind is Duration else parse_size(value)


@cache
def _fields(shape: type[Shape]) -> dict[str, tuple[Any, bool]]:
    """Give each key's type and whether it is required."""
    hints = get_type_hints(shape, include_extras=True)
    return {one.encode_name: (hints[one.name], one.required) for one in msgspec.structs.fields(shape)}


class _Walk:
    """One walk over one tree."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.numbers: dict[Path, list[int]] = {}

    def value(self, node: Node, kind: Any, path: Path, hint: _Hint) -> Any:
        """Check one value; `BROKEN` when it was refused."""
        if node.faulty:
            return BROKEN
        origin = get_origin(kind)
        if origin is Annotated:
            base, *metas = get_args(kind)
            hint = hint.of(tuple(metas))
            if get_origin(base) in (list, dict, Union, UnionType) or _is_shape(base):
                return self.value(node, base, path, hint)
            return self._leaf(node, kind, base, path, hint)
        if origin in (Union, UnionType):
            return self._union(node, kind, path, hint)
        if origin is list:
            return self._list(node, get_args(kind)[0], path, hint)
        if origin is dict:
            key_kind, item = get_args(kind)
            return self._dict(node, key_kind, item, path, hint)
        if kind is SecretShape:
            return self._secret(node, path)
        if _is_shape(kind):
            return self._struct(node, kind, path)
        return self._leaf(node, kind, kind, path, hint)

    def _refuse(self, node: Node, path: Path, found: str, allowed: str) -> Any:
        self._problems.add(node.place, path, found, allowed, file=node.file)
        return BROKEN

    def _union(self, node: Node, kind: Any, path: Path, hint: _Hint) -> Any:
        members = [member for member in get_args(kind) if member is not msgspec.UnsetType]
        if node.value is None and NoneType in members:
            return None
        members = [member for member in members if member is not NoneType]
        # At most two are left, and written apart: a place or a list of them, a number or a mapping.
        fitting = [member for member in members if _holder(member) is _holder_of(node)]
        return self.value(node, (fitting or members)[0], path, hint)

    def _list(self, node: Node, item: Any, path: Path, hint: _Hint) -> Any:
        if not isinstance(node.value, list):
            return self._refuse(node, path, f"{kind_of(node.value)}, not a list", hint.allowed("a list: [a, b]"))
        count = len(node.value)
        if count < hint.length_min:
            found = "an empty list" if count == 0 else f"only {count} in the list"
            return self._refuse(node, path, found, f"use {hint.length_min} or more")
        if hint.length_max is not None and count > hint.length_max:
            return self._refuse(node, path, f"{count} in the list", f"use {hint.length_max} or fewer")
        kept: list[Any] = []
        numbers: list[int] = []
        for index, one in enumerate(node.value):
            value = self.value(one, item, (*path, index), _Hint())
            if value is not BROKEN:
                kept.append(value)
                numbers.append(index)
        if len(kept) < count:
            self.numbers[path] = numbers
        return kept if len(kept) >= hint.length_min else BROKEN

    def _dict(self, node: Node, key_kind: Any, item: Any, path: Path, hint: _Hint) -> Any:
        if not isinstance(node.value, dict):
            return self._refuse(
                node, path, f"{kind_of(node.value)}, not a mapping", "use a mapping of keys to values"
            )
        if len(node.value) < hint.length_min:
            return self._refuse(node, path, "an empty mapping", f"use {hint.length_min} or more")
        kept: dict[str, Any] = {}
        for key, one in node.value.items():
            named = Node(value=key, written=key, line=one.key_line, key_line=one.key_line, file=one.file)
            good = self.value(named, key_kind, (*path, key), _Hint())
            value = self.value(one, item, (*path, key), _Hint())
            if good is not BROKEN and value is not BROKEN:
                kept[key] = value
        return kept if len(kept) >= hint.length_min else BROKEN

    def _struct(self, node: Node, shape: type[Shape], path: Path) -> Any:
        fields = _fields(shape)
        if not isinstance(node.value, dict):
            allowed = f"use a mapping of {one_of(fields)}"
            return self._refuse(node, path, f"{kind_of(node.value)}, not a mapping", allowed)
        kept: dict[str, Any] = {}
        whole = True
        for key, one in node.value.items():
            if key not in fields:
                meant = near(key, tuple(fields))
                allowed = f"use {one_of(fields)}" if meant is None else f"did you mean {meant}?"
                self._problems.add(one.key_line, (*path, key), "unknown key", allowed, file=one.file)
                continue
            kind, required = fields[key]
            value = self.value(one, kind, (*path, key), _Hint())
            if value is not BROKEN:
                kept[key] = value
            elif required:
                whole = False
        for key, (kind, required) in fields.items():
            if required and key not in node.value:
                whole = False
                self._problems.add(node.place, (*path, key), "missing", f"give {_meaning(kind)}", file=node.file)
        return kept if whole else BROKEN

    def _secret(self, node: Node, path: Path) -> Any:
        """Check a reference to a secret. Nothing of it is repeated: it may be the secret itself."""
        if not isinstance(node.value, dict):
            found = f"{kind_of(node.value)} where a secret's place belongs"
            found += " (a key in the file is not accepted)" if isinstance(node.value, str) else ""
            return self._refuse(node, path, found, _PLACES)
        if len(node.value) != 1 or not set(node.value) <= set(_SECRET_NAMES):
            return self._refuse(node, path, "not one of the places of a secret", _PLACES)
        ((place, one),) = node.value.items()
        if one.faulty:
            return BROKEN
        rule, allowed = _SECRET_NAMES[place]
        if not isinstance(one.value, str) or rule.fullmatch(one.value) is None:
            return self._refuse(one, (*path, place), "not the name of such a place", allowed)
        return {place: one.value}

    def _leaf(self, node: Node, kind: Any, base: Any, path: Path, hint: _Hint) -> Any:
        """Check one scalar by its kind, its fault, and at last by msgspec."""
        value = node.value
        if get_origin(base) is Literal:
            hint = replace(hint, words=get_args(base))
        wanted, otherwise = _wanted(base)
        if node.written in hint.words:
            return node.written  # a word may look like a number: 429
        if not _is_a(value, wanted):
            unit = " without a unit" if base in (Duration, Size) and _is_a(value, float) else ""
            allowed = hint.allowed(otherwise)
            if base is str and _would_do(node, hint):
                allowed = f'use quotes: "{shown(node.written)}"'
            return self._refuse(node, path, f"{_found(node)}{unit}", allowed)
        text = shown(node.written)
        if isinstance(value, str):
            if _UNPRINTABLE.search(value) is not None:
                return self._refuse(node, path, "text with a control character", hint.allowed(otherwise))
            if hint.words and value not in hint.words:
                meant = near(value, hint.words) if value == node.written else None
                ask = "" if meant is None else f"did you mean {meant}? "
                return self._refuse(node, path, f"{text} is unknown", ask + hint.allowed(otherwise))
            fault = _unit_fault(base, value, hint) if hint.fault is None else hint.fault(value)
            if fault is not None:
                if value != node.written:
                    fault = fault.partition(":")[0]  # the rest may repeat what a variable held
                return self._refuse(node, path, f"{text} {fault}", hint.allowed(otherwise))
        elif isinstance(value, float) and not isfinite(value):
            return self._refuse(node, path, f"{text} is not a finite number", hint.allowed(otherwise))
        if base in (Duration, Size):
            return value
        try:
            msgspec.convert(value, kind)
        except (msgspec.ValidationError, OverflowError):
            found = "is empty" if value == "" else "is out of range"
            return self._refuse(node, path, f"{text} {found}", hint.allowed(otherwise))
        return value


def _is_shape(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Shape)


def _holder(kind: Any) -> type | None:
    """What values of a kind are written as: a list, a mapping, or `None` for a scalar."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is list:
        return list
    return dict if get_origin(kind) is dict or _is_shape(kind) else None


def _holder_of(node: Node) -> type | None:
    return type(node.value) if isinstance(node.value, (list, dict)) else None


def _wanted(base: Any) -> tuple[type, str]:
    """Give the plain type that a leaf is written as, and its name."""
    if base is bool:
        return bool, "true or false"
    if base is int:
        return int, "a whole number"
    if base is float:
        return float, "a number"
    return str, "text"


def _is_a(value: object, wanted: type) -> bool:
    if isinstance(value, bool) or wanted is bool:
        return wanted is bool and isinstance(value, bool)
    return isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)


def _found(node: Node) -> str:
    """Say what stands there, for a value of the wrong kind."""
    if node.value is None or isinstance(node.value, (dict, list)):
        return kind_of(node.value)
    text = shown(node.written)
    if isinstance(node.value, str) and not text.startswith('"'):
        text = f'"{text}"'
    return f"{text} is {kind_of(node.value)}"


def _would_do(node: Node, hint: _Hint) -> bool:
    """Tell whether a number or boolean would be accepted if it were written as text."""
    if node.value is None or isinstance(node.value, (dict, list)) or hint.words:
        return False
    return hint.fault is None or hint.fault(node.written) is None


def _unit_fault(base: Any, text: str, hint: _Hint) -> str | None:
    """Judge a duration or a size against its bounds."""
    if base not in (Duration, Size):
        return None
    try:
        value = parse_duration(text) if base is Duration else parse_size(text)
    except ValueError as error:
        return str(error)
    assert hint.low is not None
    assert hint.high is not None
    return None if hint.low <= value <= hint.high else "is out of range"


def _meaning(kind: Any) -> str:
    """Repeat what a required key is for, as its description begins."""
    for meta in reversed(get_args(kind)):
        description = getattr(meta, "description", None)
        if description is not None:
            return str(description)[0].lower() + str(description)[1:].rstrip(".")
    return "it"
