"""Query strings: names that are known, each given once, and nothing else.

What this module does not know: what a value means; `question` and `reading` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from balancer.http.answers import Refused
from balancer.http.words import hint, shown

FIELDS_MAX: Final = 300  # `name=value` pairs of one query
UNKNOWN_MAX: Final = 10  # unknown names that one answer tells; the rest is counted


def split(query: str, known: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Read a query string: the values of every known name in their order, and what is wrong with the other names.

    Raises: Refused for bytes that are no UTF-8, or too many pairs.
    """
    if not query:
        return {}, []
    try:
        query.encode()  # bytes that were sent as they are, and are no UTF-8, arrive as lone surrogates
        fields = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except UnicodeError:
        raise Refused(400, "the query is not valid UTF-8") from None
    except ValueError:
        raise Refused(400, f"the query has more than {FIELDS_MAX} fields") from None
    values: dict[str, list[str]] = {}
    unknown: dict[str, None] = {}
    for name, value in fields:
        if name in known:
            values.setdefault(name, []).append(value)
        else:
            unknown[name] = None
    names = list(unknown)
    problems = [f"{shown(name)}: unknown parameter; {_hint(name, known)}" for name in names[:UNKNOWN_MAX]]
    if len(names) > UNKNOWN_MAX:
        problems.append(f"{len(names) - UNKNOWN_MAX} more parameters are unknown")
    return values, problems


def pairs(query: str, known: Sequence[str]) -> dict[str, list[str]]:
    """Read a query string; the values of a name that is repeated are kept in order.

    Raises: Refused for a name that is not known, bytes that are no UTF-8, or too many pairs.
    """
    values, problems = split(query, known)
    if problems:
        raise Refused(400, "; ".join(problems))
    return values


def single(query: str, known: Sequence[str]) -> dict[str, str]:
    """Read a query string in which every name is given at most once."""
    return {name: once(name, values) for name, values in pairs(query, known).items()}


def once(name: str, values: list[str]) -> str:
    """The one value of a name. Raises: Refused."""
    if len(values) != 1:
        raise Refused(400, f"{name}: given {len(values)} times; once is allowed")
    return values[0]


def _hint(name: str, known: Sequence[str]) -> str:
    return hint(name, known) if known else "none is allowed here"
