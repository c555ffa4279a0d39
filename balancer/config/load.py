"""File or text → `Config`, or every problem at once.

The ways through: files → texts (`files`) → trees with lines (`document`) → one tree (`join`) → what fits its shape
(`check`) → rules between keys (`rules`) → inheritance and secrets (`resolve`). Each stage tells what it finds and
lets the next look at the rest; the end raises if anything was told. Nothing here is kept between two calls.

What this module does not know: the process's environment, which comes as an argument, and who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from balancer.config.check import BROKEN, check_tree, decode
from balancer.config.document import Node, kind_of, read
from balancer.config.files import SIZE_MAX, Source, folder, sources
from balancer.config.join import join
from balancer.config.problems import ConfigError, ConfigProblem, Problems
from balancer.config.resolve import resolve
from balancer.config.rules import Sheet, judge
from balancer.config.settings import Config


def load_config(path: str | Path, environ: Mapping[str, str] | None = None, *, secrets: bool = True) -> Config:
    """Read a configuration file and the directory beside it, or a directory of files.

    Shape: with an environment credentials and tokens are looked up; without one, or without `secrets` (for a
    reader who has none of them, and wants to know where the daemon listens), they stay unresolved.
    Raises: ConfigError, and nothing else, with every problem found.
    """
    if path == "":  # which would be every file of the directory that we happen to be in
        raise _whole('""', "no file's name", "name a file or a directory")
    problems = Problems(str(path))
    found = sources(Path(path), problems)
    return _config(found, folder(Path(path)), problems, environ, secrets=secrets)


def parse_config(
    text: str, *, source: str, environ: Mapping[str, str] | None = None, secrets: bool = True
) -> Config:
    """Read a configuration from text; `source` is the file's name for messages and relative paths.

    Shape: as `load_config`. Raises: ConfigError, and nothing else, with every problem found.
    """
    if len(text) > SIZE_MAX:
        raise _whole(source, f"longer than {SIZE_MAX // 1024**2} MiB", "use a shorter file")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _whole(source, "not valid Unicode", "save the file as UTF-8")
    return _config([Source(source, text)], Path(source).parent, Problems(source), environ, secrets=secrets)


def _config(
    files: Sequence[Source],
    base: Path,
    problems: Problems,
    environ: Mapping[str, str] | None,
    *,
    secrets: bool,
) -> Config:
    """Make the configuration of some files; `problems` has what was wrong with others."""
    names = tuple(file.name for file in files)
    root = _tree(files, problems, {} if environ is None else environ)
    if root is None:
        raise problems.error(names)
    checked = check_tree(root, problems)
    if checked.tree is not BROKEN:
        sheet = Sheet(decode(checked), root, checked, problems, base)
        judge(sheet)
        config = resolve(sheet, environ if secrets else None)
        if not problems:
            return replace(config, files=names)
    raise problems.error(names)


def _tree(files: Sequence[Source], problems: Problems, environ: Mapping[str, str]) -> Node | None:
    """Read the files into one tree; `None` where one of them is none, since its lack would look like mistakes."""
    whole = not problems
    trees: list[Node] = []
    for file in files:
        own = Problems(file.name)
        tree = read(file.text, own, environ)
        whole = whole and (tree is not None or not own)
        problems.extend(own)
        if tree is None or tree.value is None:
            continue  # a file of comments alone is nobody's mistake beside others
        if len(files) > 1 and not isinstance(tree.value, dict):
            found = f"{kind_of(tree.value)}, not a mapping"
            problems.add(tree.place, (), found, "use the keys of a configuration, such as models", file=file.name)
            whole = False
            continue
        trees.append(tree)
    if not whole:
        return None
    if not trees:
        found = "the file is empty" if len(files) == 1 else "all files are empty"
        problems.add(None, (), found, "give providers and models")
        return None
    return join(trees, problems)


def _whole(source: str, found: str, allowed: str) -> ConfigError:
    return ConfigError([ConfigProblem(file=source, line=None, path="", found=found, allowed=allowed)])
