"""Several files → one tree, as if it had been written in one.

Theory of operation: mappings are joined, key by key and however deep, so that one file may give a provider and
another a variant of it. Anything else is given once: a text, a number, a list, or the place of a secret in two
files is a mistake of one of them, and told with both. Nothing wins silently, and no list grows by a file that its
owner never saw; so the order of files decides nothing but the order of what they hold.

An empty section (`routing:`) says nothing, and gives way to one that does. `{}` is no such: it says that there is
nothing, which lifts the limits of a variant. So beside a file that has something there it is refused too; but at
the top it is a file without any key, as one of comments is.

What this module does not know: which keys mean anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from balancer.config.document import NODES_MAX, Node, kind_of
from balancer.config.problems import Path, Problems

_PLACES: Final = frozenset({"env", "file", "credential"})


def join(trees: Sequence[Node], problems: Problems) -> Node | None:
    """Join the trees of several files; `None` when they are too much together, which is then among the problems."""
    if len(trees) == 1:
        return trees[0]
    if sum(tree.size for tree in trees) > NODES_MAX:
        problems.add(None, (), f"more than {NODES_MAX} values in all files together", "use fewer")
        return None
    joined = _joined(trees, (), problems)
    # The top is written in none of them: what is missing there is missing in all.
    return replace(joined, line=None, key_line=None, file=None) if isinstance(joined.value, dict) else joined


def _joined(nodes: Sequence[Node], path: Path, problems: Problems) -> Node:
    """Join what several files have at one place."""
    said = [node for node in nodes if node.value is not None]
    if not said:
        return nodes[0]
    mappings = [node for node in said if _is_section(node)]
    full = [node for node in mappings if node.value]
    if full and path:
        for node in mappings:
            if not node.value:
                found = f"{{}} says that there is nothing, and {full[0].file}:{full[0].place} has something"
                problems.add(node.place, path, found, "keep one of them", file=node.file)
        mappings = full
    first = mappings[0] if mappings else said[0]
    for node in said:
        if node is not first and not _is_section(node):
            _refuse(node, first, path, problems)
    if len(mappings) < 2:
        return first
    entries: dict[str, list[Node]] = {}
    for node in mappings:
        assert isinstance(node.value, dict)
        for key, value in node.value.items():
            entries.setdefault(key, []).append(value)
    return replace(
        first,
        value={
            key: values[0] if len(values) == 1 else _joined(values, (*path, key), problems)
            for key, values in entries.items()
        },
        size=sum(node.size for node in mappings),
        faulty=any(node.faulty for node in mappings),
    )


def _refuse(node: Node, first: Node, path: Path, problems: Problems) -> None:
    """Tell what one file too many has at a place."""
    kind, other = kind_of(node.value), kind_of(first.value)
    place = f"{first.file}:{first.place}"
    found = f"given in {place} too" if kind == other else f"{kind}, and {other} in {place}"
    allowed = "keep one of them" + (": a list stands in one file" if kind == other == "a list" else "")
    problems.add(node.place, path, found, allowed, file=node.file)


def _is_section(node: Node) -> bool:
    """Whether several files may give of this together; two places of a secret would be none."""
    held = node.value
    if not isinstance(held, dict):
        return False
    return not held or not held.keys() <= _PLACES or not all(isinstance(each.value, str) for each in held.values())
