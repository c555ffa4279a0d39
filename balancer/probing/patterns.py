"""Regular expressions of an operator's, each search with an end.

Theory of operation: an expression like `(a+)+$` takes time that doubles with each letter of the text, Python's
`re` cannot be interrupted, and it holds up every thread of the process. `regex`, which reads the same
expressions, has a timeout and lets other threads run. A path like `$..*..*..*` is as bad: it has one deadline for
all of its steps and searches. A search that does not end says nothing about the provider: the expression is ours.
Its thread ends with it, or each probe would leave one behind.

What this module does not know: where the text is from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from balancer.probing.aside import SEARCHES, aside
from balancer.probing.failure import Failure

if TYPE_CHECKING:
    from jsonpath import JSONPathEnvironment
    from regex import Pattern

SEARCH_MAX: Final = 1.0  # seconds; a search that has an end takes thousandths of it in the text that is looked at
KNOWN_MAX: Final = 256  # expressions that are remembered compiled

T = TypeVar("T")

_ends_at: Final[ContextVar[float]] = ContextVar("ends_at")


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
            return await aside(search, name="probe.body", slots=SEARCHES) is not None
    except TimeoutError:
        raise endless("probe.body", limit) from None


def endless(what: str, limit: float) -> Failure:
    """The failure of a search that takes longer than it may."""
    return Failure("probe_invalid", f"{what}: the search was not done after {limit:.3g} s; use a simpler one")


def nodes(path: str, document: object, *, limit: float) -> Iterator[object]:
    """Follow a path through a document, for `limit` seconds; it does not wait and is to be called aside.

    Raises: JSONPathError; TimeoutError where the path, or a search in it, has no end.
    """
    before = _ends_at.set(time.monotonic() + limit)
    try:
        # Only the asynchronous half of the library makes all of its steps by `match_class`.
        found = aiter(_done(_paths().finditer_async(path, document)))  # type: ignore[arg-type]  # it is JSON
        with suppress(StopAsyncIteration):
            while True:
                yield _done(anext(found)).value
    finally:
        _ends_at.reset(before)


def _done(work: Awaitable[T]) -> T:
    """Do work that is asynchronous in form only."""
    try:
        next(iter(work.__await__()))
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("a path waits for nothing")


def _left() -> float:
    """Seconds until the path that this thread follows must have come to its end. Raises: TimeoutError."""
    left = _ends_at.get() - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left


@lru_cache(maxsize=1)
def _paths() -> JSONPathEnvironment:
    """JSONPath as RFC 9535 has it, but each step of it, and each `match` and `search`, looks at the time."""
    from jsonpath import JSONPathEnvironment, JSONPathMatch  # slow to import, and few probes need it
    from jsonpath.function_extensions import ExpressionType, FilterFunction

    class Step(JSONPathMatch):
        """A value that a path comes by: `..` comes by them all, each `..` after it by all of these again."""

        __slots__ = ()

        def __init__(self, **facts: Any) -> None:
            _left()
            super().__init__(**facts)

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
            return search(value, timeout=min(_left(), SEARCH_MAX), concurrent=True) is not None

    class Paths(JSONPathEnvironment):
        match_class = Step

    environment = Paths(strict=True)
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
