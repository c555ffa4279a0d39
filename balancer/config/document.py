"""YAML text → a tree that remembers its lines and its file.

Theory of operation: PyYAML's parser gives events; the tree is built from them here, so that one place holds
the limits (depth, expanded size), the lines, and the refusals: duplicate keys, keys that are not text, tags,
a second document, an alias of an enclosing anchor. Scalars follow the YAML 1.2 core schema, as editors and
JSON do: `no` and `on` are text, `2025-04-14` is text, `1:30` is text. Merge keys (`<<`) work.

The parser in C comes first, for speed; when it refuses, the one in Python has the last word, because it
accepts JSON's paired escapes and says better where a mistake is.

What this module does not know: which keys mean anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any, Final, NoReturn

import yaml

from balancer.config.problems import Path, Problems, shown
from balancer.config.variables import expand

DEPTH_MAX: Final = 32  # the format itself nests 7 deep
NODES_MAX: Final = 1_000_000  # aliases counted as often as they are used: some 20 000 endpoints

_INT: Final = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INF: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_WORDS: Final[Mapping[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_YAML_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset({f"{_YAML_TAG}str", f"{_YAML_TAG}map", f"{_YAML_TAG}seq"})

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of a file.

    `line` is where it begins, `key_line` where its key or dash stands; both count from 1, and are `None` for what
    several files make together. `file` is the name of its file, where that is not the only one. `written` is a
    scalar's text before variables were put in, the only form that a message may repeat; `held` is what those held.
    `size` counts the nodes in it, aliases in full. `faulty` means that a problem was already told of this very
    value.
    """

    value: Scalar | dict[str, Node] | list[Node]
    line: int | None
    key_line: int | None
    file: str | None = None
    written: str = ""
    held: tuple[str, ...] = ()
    size: int = 1
    faulty: bool = False

    @property
    def place(self) -> int | None:
        """The line to name: of the value where it is one, of its key where it is a block or nothing."""
        return self.key_line if self.value is None or isinstance(self.value, (dict, list)) else self.line


def read(text: str, problems: Problems, environ: Mapping[str, str]) -> Node | None:
    """Build the tree; `None` when the text is no tree at all, which is then among the problems."""
    if text.lstrip().startswith("{"):
        # JSON may be indented with tabs, which YAML's parsers in Python refuse; widths stay, so do lines.
        text = re.sub(r"(?m)^[ \t]+", lambda match: " " * len(match[0]), text)
    failure: yaml.YAMLError | None = None
    for loader in _loaders():
        attempt = Problems(problems.file)
        try:
            root = _Builder(text, loader, attempt, environ).document()
        except _Stop:
            root = None
        except yaml.YAMLError as error:
            failure = error
            continue
        problems.extend(attempt)
        return root
    assert failure is not None
    _explain(failure, text, problems)
    return None


def _loaders() -> tuple[Any, ...]:
    fast = getattr(yaml, "CSafeLoader", None)
    return (yaml.SafeLoader,) if fast is None else (fast, yaml.SafeLoader)


class _Stop(Exception):
    """The tree cannot be built further; the reason is among the problems."""


class _Builder:
    """Builds one document from a stream of parser events."""

    def __init__(self, text: str, loader: Any, problems: Problems, environ: Mapping[str, str]) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=loader)
        self._problems = problems
        self._file = problems.file
        self._environ = environ
        self._anchors: dict[str, Node | None] = {}

    def document(self) -> Node | None:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), (), None)
        next(self._events)  # the end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            found = "a second document begins"
            self._problems.add(_line(after), (), found, "use one document; remove the ---")
        return root

    def _node(self, event: yaml.Event, path: Path, key_line: int | None) -> Node:
        line = _line(event)
        at = line if key_line is None else key_line
        if isinstance(event, yaml.AliasEvent):
            return replace(self._alias(event, path), key_line=at)
        assert isinstance(event, yaml.NodeEvent)
        anchor: str | None = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if len(path) > DEPTH_MAX:
            self._stop(line, path[:3], f"nested deeper than {DEPTH_MAX} levels", "use fewer levels")
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(path, line, at)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(path, line, at)
        else:
            assert isinstance(event, yaml.ScalarEvent)
            node = self._scalar(event, path, line, at)
        if node.size > NODES_MAX:
            self._stop(line, path, f"more than {NODES_MAX} values once aliases are followed", "use fewer")
        if self._has_tag(event, path):
            node = replace(node, faulty=True)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _mapping(self, path: Path, line: int, at: int) -> Node:
        entries: dict[str, Node] = {}
        merged: list[Node] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_line = _line(event)
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                merged.append(self._node(next(self._events), (*path, "<<"), key_line))
                continue
            key = self._key(event, path)
            value = self._node(next(self._events), (*path, "?" if key is None else key), key_line)
            size += value.size
            if key is None:
                continue
            if key in entries:
                found = f"written twice, first on line {entries[key].key_line}"
                self._problems.add(key_line, (*path, key), found, "keep one of them")
            else:
                entries[key] = value
        for source in merged:
            for key, value in self._merged(source, path).items():
                if key not in entries:
                    entries[key] = value
                    size += value.size
        return Node(value=entries, line=line, key_line=at, file=self._file, size=size)

    def _merged(self, source: Node, path: Path) -> dict[str, Node]:
        sources = source.value if isinstance(source.value, list) else [source]
        entries: dict[str, Node] = {}
        for one in sources:
            if isinstance(one.value, dict):
                entries = {**one.value, **entries}
            else:
                self._problems.add(source.key_line, (*path, "<<"), "not a mapping", "merge a mapping: <<: *name")
        return entries

    def _key(self, event: yaml.Event, path: Path) -> str | None:
        """Read a key; `None` for what cannot be one, which is then among the problems."""
        if isinstance(event, yaml.ScalarEvent):
            text: str = event.value
            value = _resolve(text) if event.implicit[0] else text
            if isinstance(value, str):
                return _join_surrogates(value)
            found = f"the key {shown(text)} is {kind_of(value)}"
            self._problems.add(_line(event), path, found, "use text, in quotes")
            return None
        self._node(event, (*path, "?"), None)
        self._problems.add(_line(event), path, "a key is not text", "use text for every key")
        return None

    def _sequence(self, path: Path, line: int, at: int) -> Node:
        items: list[Node] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), None))
            size += items[-1].size
        return Node(value=items, line=line, key_line=at, file=self._file, size=size)

    def _scalar(self, event: yaml.ScalarEvent, path: Path, line: int, at: int) -> Node:
        written: str = event.value
        value = _resolve(written) if event.implicit[0] else written
        if not isinstance(value, str):
            return Node(value=value, line=line, key_line=at, file=self._file, written=written)
        written = _join_surrogates(value)
        expanded = expand(written, self._environ)
        for found, allowed in expanded.faults:
            self._problems.add(line, path, found, allowed)
        return Node(
            value=expanded.text,
            line=line,
            key_line=at,
            file=self._file,
            written=written,
            held=expanded.held,
            faulty=len(expanded.faults) > 0,
        )

    def _alias(self, event: yaml.AliasEvent, path: Path) -> Node:
        # Neither an alias nor an unknown tag is repeated: it may be a secret that begins with * or !.
        anchor = event.anchor
        if anchor is None or anchor not in self._anchors:
            found = "an alias of an anchor that is not there"
            self._stop(_line(event), path, found, "define it above with &, or quote the text if * is part of it")
        node = self._anchors[anchor]
        if node is None:
            self._stop(_line(event), path, "an alias of what it stands in", "use it outside of its anchor")
        return node

    def _has_tag(self, event: yaml.NodeEvent, path: Path) -> bool:
        tag: str | None = getattr(event, "tag", None)
        if tag is None or tag == "!" or tag in _TAGS:
            return False
        self._problems.add(_line(event), path, "a tag", "use plain values; quote the text if ! is part of it")
        return True

    def _stop(self, line: int, path: Path, found: str, allowed: str) -> NoReturn:
        self._problems.add(line, path, found, allowed)
        raise _Stop


def kind_of(value: object) -> str:
    """Name a value's kind the way a user of YAML would."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _resolve(text: str) -> Scalar:
    """Give a plain scalar its type by the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) is not None:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) is not None:
        return float(text)
    infinite = _INF.fullmatch(text)
    if infinite is not None:
        return -inf if infinite[1] == "-" else inf
    return nan if text in (".nan", ".NaN", ".NAN") else text


def _join_surrogates(text: str) -> str:
    """Join the escaped halves that JSON writes for a character beyond 16 bits."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1


def _explain(error: yaml.YAMLError, text: str, problems: Problems) -> None:
    """Say in our words where the text stops being YAML, without repeating it."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None)
    if mark is None:
        position = getattr(error, "position", None)
        line = None if position is None else text.count("\n", 0, position) + 1
        problems.add(line, (), "a character that YAML does not allow", "use printable text; escape it in quotes")
        return
    if "'\\t'" in str(what):
        problems.add(mark.line + 1, (), f"a tab at column {mark.column + 1}", "use spaces for indentation")
        return
    if str(what).startswith("found undefined tag handle"):
        what = "an undefined tag handle"  # PyYAML repeats it, and a key pasted without quotes may be one
    found = f"invalid YAML at column {mark.column + 1}: {what}"
    began = getattr(error, "context_mark", None)
    if began is not None and began.line != mark.line:
        found += f" (in what began on line {began.line + 1})"
    allowed = "check indentation and brackets, and quote text that holds ': ' or begins with one of []{}*&!|>%@`"
    problems.add(mark.line + 1, (), found, allowed)
