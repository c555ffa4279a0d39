"""Reads a provider's status page: what it says of the components that matter, or of the whole.

Theory of operation: two formats are told apart by their shape. Statuspage's summary lists all of its components, so
a name that is not among them is a mistake of the configuration; its parts `components.json` and `status.json` are
read too, and incident.io answers at the same addresses. incident.io's widget lists what is affected and nothing
else, so a name that it lacks is operational. A word that nobody knows is told and not guessed, and where nothing
else is said the page was not read.

No credential goes along: the page is on somebody else's host.

Source: Statuspage, "Status API v2" (it does not document the indicator `maintenance`); incident.io, "Embed your
status page's data into your own product", and what those who did found in it, such as `full_outage`.

What this module does not know: how much a level counts (`core.announcement`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from balancer.config.settings import PageSettings
from balancer.core.announcement import LEVELS, Level
from balancer.core.outcome import Outcome
from balancer.probing.aside import aside
from balancer.probing.client import Answer, Client
from balancer.probing.connection import split
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check, good, refusal

SUMMARY: Final = "/api/v2/summary.json"  # Statuspage's address of it, and incident.io's
BODY_MAX: Final = 1_048_576  # bytes; pages of 500 components have a quarter of it
THERE_MAX: Final = 8  # components that are named instead of one that is absent
AFFECTED_MAX: Final = 3  # components that are named as affected, or for a word that is not known
NAME_MAX: Final = 60  # characters of a component's name, or of a word
TITLE_MAX: Final = 100  # characters of an incident's name
DETAIL_MAX: Final = 300  # characters of what is announced besides the level

_WORDS: Final[Mapping[str, Level]] = {**{level: level for level in LEVELS}, "full_outage": "major_outage"}
_INDICATORS: Final[Mapping[str, Level]] = {
    "none": "operational",
    "maintenance": "under_maintenance",
    "minor": "degraded_performance",
    "major": "partial_outage",
    "critical": "major_outage",
}
_GONE: Final = frozenset({404, 410})  # but 405 is what walls against robots say
_OVER: Final = frozenset({"resolved", "postmortem"})
_UNDER_WAY: Final = frozenset({"in_progress", "verifying"})  # Statuspage's maintenances are also those to come

Clean = Callable[[str, int], str]
T = TypeVar("T")


class _Component(Struct):
    """A component in either format. The widget says `current_status`, or `status`, or leaves it to the incident."""

    name: str
    id: str | int | None = None
    status: str | None = None
    current_status: str | None = None
    group: bool | None = None
    group_id: str | int | None = None
    group_name: str | None = None


class _Event(Struct):
    """An incident or a maintenance in either format. A time that cannot be read costs only the order."""

    name: str
    status: str | None = None
    components: list[_Component] | None = None
    affected_components: list[_Component] | None = None
    current_worst_impact: str | None = None
    created_at: Any = None
    last_update_at: Any = None

    @property
    def concerned(self) -> list[_Component]:
        return [*_some(self.components), *_some(self.affected_components)]

    @property
    def began(self) -> str:
        """As a page writes all of its times, in one form: the order of the texts is that of the times."""
        return next((time for time in (self.created_at, self.last_update_at) if isinstance(time, str)), "")


class _Status(Struct):
    indicator: str


class _Document(Struct):
    """All that is read of either format. Only the widget has `ongoing_incidents`."""

    status: _Status | None = None
    components: list[_Component] | None = None
    incidents: list[_Event] | None = None
    scheduled_maintenances: list[_Event] | None = None
    ongoing_incidents: list[_Event] | UnsetType | None = UNSET
    in_progress_maintenances: list[_Event] | None = None


class _Part(NamedTuple):
    """What is said of one component, or of the page itself where it has no name.

    `level` is `None` where the `word` for it is not known. `holds` is true of a group among the components.
    """

    name: str | None
    group: str | None
    word: str | None
    holds: bool = False

    @property
    def level(self) -> Level | None:
        return None if self.word is None else _WORDS.get(self.word)


class _Page(NamedTuple):
    """A page of either format: what it says of its components, and whether these are all; `overall` of itself."""

    parts: list[_Part]
    incidents: list[_Event]
    maintenances: list[_Event]
    complete: bool
    overall: str | None = None


async def run(client: Client) -> Outcome:
    """Ask for the page, and announce what it says."""
    settings = client.settings
    wanted = settings.components if isinstance(settings, PageSettings) else ()
    url = client.endpoint.base_url
    if split(url).path in ("", "/"):
        url = client.below(SUMMARY)
    async with client.request("GET", url, headers={"accept": "application/json"}) as answer:
        if not good(answer.status):
            text = await answer.beginning()
            if answer.status not in _GONE:
                return refusal(client, answer, text)
            said = f"{client.explained(answer, text)}; no status page there, give the whole address of its JSON"
            raise Failure("probe_invalid", said, status=answer.status)
        body = await _body(answer)
        client.trace.say(f"< ({len(body)} bytes)")
        try:
            # In a thread, where decisions need not wait for it: the largest page takes a tenth of a second.
            work = partial(_judged, body, wanted, client.trace.clean)
            level, detail = await aside(work, name="status page")
        except ValueError as problem:
            raise Failure("malformed", f"the status page is {problem}", status=answer.status) from None
    client.trace.announced = level, detail
    told = level.replace("_", " ")
    return Outcome(kind="success", status=answer.status, detail=f"{told}: {detail}" if detail else told)


async def _body(answer: Answer) -> bytes:
    """Wait for the whole body. Raises: Failure, `probe_invalid` where it is longer than a status page."""
    pieces: list[bytes] = []
    size = 0
    while piece := await answer.chunk():
        size += len(piece)
        if size > BODY_MAX:
            raise Failure("probe_invalid", f"the status page is larger than what is read of one ({BODY_MAX} bytes)")
        pieces.append(piece)
    return b"".join(pieces)


def _judged(body: bytes, wanted: Collection[str], clean: Clean) -> tuple[Level, str]:
    """Say what a page announces. Raises: ValueError, Failure."""
    return _told(_read(body), wanted, clean)


def _read(body: bytes) -> _Page:
    """Take a page in either format. Raises: ValueError."""
    try:
        document = msgspec.json.decode(body, type=_Document)
    except msgspec.ValidationError as problem:
        raise ValueError(f"in no known format: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(f"not JSON: {problem}") from None
    if not isinstance(document.ongoing_incidents, UnsetType):
        return _widget(_some(document.ongoing_incidents), _some(document.in_progress_maintenances))
    if document.status is None and not document.components:
        raise ValueError("in no known format: it has no status, no components and no ongoing_incidents")
    return _summary(document)


def _summary(document: _Document) -> _Page:
    """Take Statuspage's: all components, each with the id of its group, and what is under way."""
    listed = _some(document.components)
    groups: dict[str | int | None, str] = {
        each.id: each.name for each in listed if each.group and each.id is not None
    }
    return _Page(
        parts=[_Part(each.name, groups.get(each.group_id), each.status, each.group is True) for each in listed],
        incidents=[each for each in _some(document.incidents) if each.status not in _OVER],
        maintenances=[each for each in _some(document.scheduled_maintenances) if each.status in _UNDER_WAY],
        complete=True,
        overall=None if document.status is None else document.status.indicator,
    )


def _widget(incidents: list[_Event], maintenances: list[_Event]) -> _Page:
    """Take incident.io's: what is affected. Who says no level has the event's, or else the least of its kind."""
    incidents = [each for each in incidents if each.status not in _OVER]
    parts: list[_Part] = []
    for events, least in ((incidents, "degraded_performance"), (maintenances, "under_maintenance")):
        for event in events:
            words = [(each, each.current_status, each.status) for each in event.concerned]
            otherwise = least if event.current_worst_impact is None else event.current_worst_impact
            for each, *said in words:
                word = next((word for word in said if word is not None), otherwise)
                parts.append(_Part(each.name, each.group_name, word))
            if not words:
                parts.append(_Part(None, None, otherwise))
    return _Page(parts, incidents, maintenances, complete=False)


def _told(page: _Page, wanted: Collection[str], clean: Clean) -> tuple[Level, str]:
    """Say the level of the wanted components, or of the whole page where none is named, and what the matter is.

    Raises: ValueError where the page says no level; Failure (`probe_invalid`) where it has no such component.
    """
    parts = _named(page, wanted, clean) if wanted else page.parts
    unknown = [part for part in parts if part.level is None]
    if not wanted and page.overall is not None:
        if page.overall not in _INDICATORS:
            raise ValueError(f"not understood: its indicator is {clean(page.overall, NAME_MAX)}")
        level = _INDICATORS[page.overall]
    elif unknown and len(unknown) == len(parts):
        raise ValueError(f"not understood: {_strange(unknown, clean)}")
    else:
        level = max((part.level for part in parts if part.level is not None), key=_rank, default="operational")
    said = [] if level == "operational" else [_matter(page, parts, level, anything=not wanted, clean=clean)]
    if unknown:
        said.append(_strange(unknown, clean))
    return level, clean("; ".join(text for text in said if text), DETAIL_MAX)


def _named(page: _Page, wanted: Collection[str], clean: Clean) -> list[_Part]:
    """Find the components that are named, by themselves or by their group. Raises: Failure."""
    keys = {key: name for name in wanted for key in _keys(name)}
    there = {key for part in page.parts for key in _keys(part.name, part.group)}
    absent = [name for key, name in keys.items() if key not in there]
    if absent and page.complete:
        names = dict.fromkeys(part.name for part in page.parts if part.name is not None)
        said = f"the status page has no component {_listed(absent, AFFECTED_MAX, clean)}"
        raise Failure("probe_invalid", f"{said}; it has {_listed(names, THERE_MAX, clean) if names else 'none'}")
    found = [part for part in page.parts if not _keys(part.name, part.group).isdisjoint(keys)]
    return found + [_Part(name, None, "operational") for name in absent]


def _matter(page: _Page, parts: Iterable[_Part], level: Level, *, anything: bool, clean: Clean) -> str:
    """Name who is affected, the worst first, and the newest incident or maintenance that concerns the worst.

    Shape: where none does, the newest of all if `anything` at the page matters.
    """
    ill = [part for part in parts if part.level not in (None, "operational") and part.name is not None]
    members = [part for part in ill if not part.holds]
    ill = sorted(members or ill, key=lambda part: _rank(part.level), reverse=True)
    names = dict.fromkeys(part.name for part in ill if part.name is not None)
    worst = _keys(*(part.name for part in ill if part.level == ill[0].level))
    events = page.maintenances if level == "under_maintenance" else page.incidents
    theirs = [each for each in events if not _keys(*(one.name for one in each.concerned)).isdisjoint(worst)]
    newest = max(theirs or events if anything else theirs, key=lambda event: event.began, default=None)
    titles = [] if newest is None else [clean(newest.name, TITLE_MAX)]
    return ": ".join([_listed(names, AFFECTED_MAX, clean), *titles] if names else titles)


def _strange(parts: Iterable[_Part], clean: Clean) -> str:
    """Tell the words that are not known."""
    told = (f"{'the page' if part.name is None else part.name} ({part.word})" for part in parts)
    return f"unknown status: {_listed(dict.fromkeys(told), AFFECTED_MAX, clean)}"


def _listed(names: Collection[str], most: int, clean: Clean) -> str:
    shown = ", ".join(clean(name, NAME_MAX) for name in islice(names, most))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _keys(*names: str | None) -> set[str]:
    """Names as they are compared: without case and surrounding space."""
    return {name.strip().casefold() for name in names if name is not None}


def _rank(level: Level | None) -> int:
    return -1 if level is None else LEVELS.index(level)


def _some(items: list[T] | None) -> list[T]:
    """Take a list; some servers write `null` for an empty one."""
    return [] if items is None else items


STATUS_PAGE: Final = Check(run=run, shallow=True)
