"""Regular expressions of an operator's, each search with an end.

Theory of operation: an expression like `(a+)+$` takes time that doubles with each letter of the text, Python's
`re` cannot be interrupted, and it holds up every thread of the process. `regex`, which reads the same
expressions, has a timeout and lets other threads run. A search that does not end says nothing about the
provider: the expression is ours.

What this module does not know: where the text is from.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar, Final

from balancer.probing.aside import aside
from balancer.probing.failure import Failure

if TYPE_CHECKING:
    from jsonpath import JSONPathEnvironment
    from regex import Pattern

SEARCH_MAX: Final = 1.0  # seconds; a search that has an end takes thousandths of it in the text that is looked at
KNOWN_MAX: Final = 256  # expressions that are remembered compiled


def compiled(text: str) -> Pattern[str]:
    """Compile an expression. Raises: Failure."""
    expression = _compiled(text)
    if isinstance(expression, str):
        raise Failure("probe_invalid", f"probe.body is not a regular expression: {expression}")
    return expression


async def found(expression: Pattern[str], text: str, *, limit: float) -> bool:
    """Search a text aside, for `limit` seconds. Raises: Failure."""
    search = partial(expression.search, text, timeout=limit, concurrent=True)
    try:
        async with asyncio.timeout(limit):  # `regex` counts time on the processor, which may be less
            return await aside(search, name="probe.body") is not None
    except TimeoutError:
        raise endless("probe.body", limit) from None


def endless(what: str, limit: float) -> Failure:
    """The failure of a search that takes longer than it may."""
    return Failure("probe_invalid", f"{what}: the search was not done after {limit:.3g} s; use a simpler one")


@lru_cache(maxsize=1)
def paths() -> JSONPathEnvironment:
    """JSONPath as RFC 9535 has it, whose `match` and `search` end too.

    Raises: nothing; a path that is followed raises TimeoutError where one of them has no end.
    """
    from jsonpath import JSONPathEnvironment  # slow to import, and few probes need it
    from jsonpath.function_extensions import ExpressionType, FilterFunction

    class Searches(FilterFunction):
        arg_types: ClassVar[list[ExpressionType]] = [ExpressionType.VALUE, ExpressionType.VALUE]
        return_type = ExpressionType.LOGICAL

        def __init__(self, *, whole: bool) -> None:
            self.whole = whole

        def __call__(self, value: object, expression: object) -> bool:
            held = _compiled(expression) if isinstance(expression, str) else ""
            if isinstance(held, str) or not isinstance(value, str):
                return False  # as the RFC wants it
            search = held.fullmatch if self.whole else held.search
            return search(value, timeout=SEARCH_MAX, concurrent=True) is not None

    environment = JSONPathEnvironment(strict=True)
    environment.function_extensions |= {"search": Searches(whole=False), "match": Searches(whole=True)}
    return environment


@lru_cache(maxsize=KNOWN_MAX)
def _compiled(text: str) -> Pattern[str] | str:
    """Compile an expression, or say why it is none."""
    import regex  # slow to import, and few probes need it

    try:
        return regex.compile(text)
    except (regex.error, OverflowError, RecursionError) as problem:
        return str(problem)
