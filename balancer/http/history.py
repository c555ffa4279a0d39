"""GET /v1/history: what became of calls, step by step of time, with every transition between.

Theory of operation: the query becomes one question for whoever keeps the past; the answer is sent as it comes. A
span is told from `since` on as a moment or as a time before now, a step as a duration, or `whole` for all in one.
Who asks for more than one answer holds is told which step would do.

What this module does not know: where the past is kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil
from typing import Final

from aiohttp import web

from balancer.config.units import duration_text, parse_duration
from balancer.core.history import (
    HOUR,
    MINUTE,
    POINTS_MAX,
    HistoryAbsent,
    HistoryQuery,
    HistoryTooLong,
    Past,
)
from balancer.http.answers import Refused, answer
from balancer.http.api import Ask
from balancer.http.hands import Hands
from balancer.http.query import single
from balancer.http.reading import unknown_endpoint, unknown_model
from balancer.http.words import shown

SINCE: Final = "1h"
STEPS: Final = (60, 300, 900, 1800, 3600, 4 * HOUR, 12 * HOUR, 24 * HOUR, 7 * 24 * HOUR)  # s; what people read
STEP_POINTS: Final = 120  # of one endpoint where no step is given: a screen's width
UNIX_MIN: Final = 1e9  # a smaller number is no Unix time since 2001, and perhaps meant as a span
_YEARS: Final = (2001, 9998)
_WHOLE: Final = "whole"
_ALLOWED: Final = "use a span such as 24h, an RFC 3339 moment or Unix seconds"


class HistoryRoute:
    """The handler."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    async def get(self, ask: Ask) -> web.StreamResponse:
        """Tell the past of one endpoint, one model's endpoints, or all."""
        asked = single(ask.query, ("endpoint", "model", "since", "until", "step"))
        endpoint, model = asked.get("endpoint"), asked.get("model")
        if endpoint is not None and model is not None:
            raise Refused(400, "endpoint, model: found both; one is allowed")
        query = question(asked, wall=self._hands.wall(), model=None if model is None else self._model(model))
        past = await self._read(query)
        if not past.series:  # of what is gone the past is still told, while there is any
            catalog = self._hands.balancer.catalog
            if endpoint is not None and endpoint not in catalog.endpoints:
                raise unknown_endpoint(endpoint, self._hands)
            if model is not None and query.model not in catalog.models:
                raise unknown_model(model, self._hands)
        return answer(past)

    async def _read(self, query: HistoryQuery) -> Past:
        try:
            return await self._hands.history(query)
        except HistoryAbsent as absent:
            raise Refused(503, str(absent)) from None
        except HistoryTooLong as long:
            raise Refused(400, _too_long(query, long), metadata={"points_max": POINTS_MAX}) from None

    def _model(self, name: str) -> str:
        word = name.lower()
        models = self._hands.balancer.catalog.models.values()
        return next((each.id for each in models if word == each.id or word in each.aliases), word)


def question(asked: dict[str, str], *, wall: float, model: str | None) -> HistoryQuery:
    """Read the parameters of a query. Raises: Refused."""
    now = ceil(wall / MINUTE) * MINUTE
    since = _moment("since", asked.get("since", SINCE), wall)
    until = min(now, _moment("until", asked["until"], wall)) if "until" in asked else now
    first, last = int(since // MINUTE) * MINUTE, ceil(until / MINUTE) * MINUTE
    if first >= last:
        raise Refused(400, "since: is not before until, or now")
    endpoint = asked.get("endpoint")
    step = _step(asked.get("step"), last - first, one=endpoint is not None or model is not None)
    return HistoryQuery(since=first, until=last, step=step, endpoint=endpoint, model=model, now=wall)


def _moment(name: str, text: str, wall: float) -> float:
    try:
        seconds = wall - parse_duration(text)
    except ValueError:
        seconds = _absolute(name, text)
    year_first, year_last = _YEARS
    if not UNIX_MIN <= seconds < (year_last - 1970) * 365.2425 * 86_400:
        raise Refused(400, f"{name}: {shown(text)} is not of the years {year_first} to {year_last}; {_ALLOWED}")
    return seconds


def _absolute(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return _date(name, text)


def _date(name: str, text: str) -> float:
    try:
        # A `+` that was not escaped arrives as a space.
        moment = datetime.fromisoformat(text.strip().replace(" ", "+") if text.count(":") > 2 else text)
    except ValueError:
        raise Refused(400, f"{name}: {shown(text)} is no moment; {_ALLOWED}") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _step(text: str | None, span: int, *, one: bool) -> int | None:
    if text is None and one:
        return next((step for step in STEPS if span / step <= STEP_POINTS), STEPS[-1])
    if text is None or text == _WHOLE:
        return None
    try:
        plain = text.isascii() and text.replace(".", "", 1).isdecimal()
        seconds = float(text) if plain else float(parse_duration(text))
    except ValueError:
        raise Refused(400, f"step: {shown(text)} is no step; use a duration such as 5m, or {_WHOLE}") from None
    if seconds < MINUTE or seconds % MINUTE or seconds > 366 * 24 * HOUR:
        raise Refused(
            400, f"step: {shown(text)} is not in whole minutes from 1m to 366d; use one that is, or whole"
        )
    return int(seconds)


def _too_long(query: HistoryQuery, long: HistoryTooLong) -> str:
    assert query.step is not None  # what is told in one step is never too long
    found = f"{long.points} points at {long.endpoints} endpoints; one answer has {POINTS_MAX}"
    needed = query.step * long.points / POINTS_MAX
    longer = [step for step in STEPS if step >= needed and long.endpoints <= POINTS_MAX]
    use = f"step={duration_text(longer[0])} or longer, or a later since" if longer else "step=whole"
    return f"step: {duration_text(query.step)} makes {found}; use {use}"
