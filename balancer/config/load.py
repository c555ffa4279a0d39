"""File or text → `Config`, or every problem at once.

The ways through: text → tree with lines (`document`) → what fits its shape (`check`) → rules between keys
(`rules`) → inheritance and secrets (`resolve`). Each stage tells what it finds and lets the next look at the
rest; the end raises if anything was told. Nothing here is kept between two calls.

What this module does not know: the process's environment, which comes as an argument, and who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from balancer.config.check import BROKEN, check_tree, decode
from balancer.config.document import read
from balancer.config.problems import ConfigError, ConfigProblem, Problems
from balancer.config.resolve import resolve
from balancer.config.rules import Sheet, judge
from balancer.config.settings import Config

FILE_MAX: Final = 16 * 1024**2  # bytes: far above any real file, far below what would fill the memory


def load_config(path: str | Path, environ: Mapping[str, str] | None = None, *, secrets: bool = True) -> Config:
    """Read a configuration file.

    Shape: with an environment credentials and tokens are looked up; without one, or without `secrets` (for a
    reader who has none of them, and wants to know where the daemon listens), they stay unresolved.
    Raises: ConfigError, and nothing else, with every problem found.
    """
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_MAX + 1)
    except OSError as error:
        reason = error.strerror if error.strerror is not None else "cannot be read"
        failure = _whole(source, reason, "use a file that can be read")
    except ValueError:
        failure = _whole(source, "not a file's name", "use a file that can be read")
    else:
        if len(content) > FILE_MAX:
            failure = _whole(source, f"longer than {FILE_MAX // 1024**2} MiB", "use a shorter file")
        else:
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, error.start) + 1
                failure = _whole(source, "not UTF-8", "save the file as UTF-8", line)
            else:
                return parse_config(text, source=source, environ=environ, secrets=secrets)
    raise failure


def parse_config(
    text: str, *, source: str, environ: Mapping[str, str] | None = None, secrets: bool = True
) -> Config:
    """Read a configuration from text; `source` is the file's name for messages and relative paths.

    Shape: as `load_config`. Raises: ConfigError, and nothing else, with every problem found.
    """
    if len(text) > FILE_MAX:
        raise _whole(source, f"longer than {FILE_MAX // 1024**2} MiB", "use a shorter file")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _whole(source, "not valid Unicode", "save the file as UTF-8")
    problems = Problems(source)
    root = read(text, problems, {} if environ is None else environ)
    if root is None or root.value is None:
        if not problems:
            problems.add(None, (), "the file is empty", "give providers and models")
        raise problems.error()
    checked = check_tree(root, problems)
    if checked.tree is not BROKEN:
        sheet = Sheet(decode(checked), root, checked, problems)
        judge(sheet)
        config = resolve(sheet, environ if secrets else None)
        if not problems:
            return config
    raise problems.error()


def _whole(source: str, found: str, allowed: str, line: int | None = None) -> ConfigError:
    return ConfigError([ConfigProblem(file=source, line=line, path="", found=found, allowed=allowed)])
