"""POST /v1/reports: outcomes of real requests, one or many, each taken or rejected on its own.

Theory of operation: a body is first cut into reports (one object, `{"reports": […]}`, or a line each), and then
every report is decoded, judged and recorded by itself, so that a bad one never loses the good. A report with an
`id` that was recorded before for the same endpoint is a retry and counts once; the last ids are remembered.
Long batches give the loop a turn now and then: a decision must not wait for ten thousand reports.

What this module does not know: what an outcome does to health.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Annotated, Final, Literal, get_args

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from balancer.core.outcome import ERROR_WORDS, ErrorWord, Kind, Outcome, classify
from balancer.core.request import NAME_MAX, SESSION_MAX, TOKENS_MAX
from balancer.core.waits import wait
from balancer.http.access import ANONYMOUS
from balancer.http.answers import Refused, answer
from balancer.http.api import Ask
from balancer.http.body import NDJSON_TYPES, fields, read
from balancer.http.complaints import Complaints
from balancer.http.hands import Hands
from balancer.http.limits import REPORTS_BODY_MAX, Limits
from balancer.http.query import pairs
from balancer.http.words import UNREADABLE, fault, hint, shown

BATCH_MAX: Final = 10_000  # reports of one body
TURN: Final = 200  # reports between two turns of the loop: about a millisecond
SEEN_MAX: Final = 20_000  # ids remembered; at 300 reports a second a retry may come a minute later
COMMAS_MAX: Final = 100 * BATCH_MAX  # a report has some thirty; bounds what one decoding builds
LATENCY_MAX: Final = 86_400.0  # s; a day
WAIT_MAX: Final = 100  # characters of a wait that is told as text: the longest date is a third of it

Verdict = Literal["recorded", "duplicate", "stale", "rejected"]
Scope = Literal["endpoint", "account"]

Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
Seconds = Annotated[float, Meta(ge=0)]
Wait = Annotated[float, Meta(ge=0)] | Annotated[str, Meta(max_length=WAIT_MAX)]
Latency = Annotated[float, Meta(ge=0, le=LATENCY_MAX)]
Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]

UNUSED: Final = ("stream", "app")
"""Fields that are accepted, because one reporter serves several versions, and do nothing in this one."""


class RateLimit(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the provider told of its quota.

    `reset` is that of the limit that was met, as seconds from now or as the provider wrote it (`1m30s`, a date, a
    moment, Unix time): so long a 429 without `retry_after` holds the endpoint, and a success whose
    `remaining_requests` or `remaining_tokens` is 0. `scope` is `account` where the provider said it of the whole
    account or credential; then all endpoints that share it are held.
    """

    remaining_requests: Count | None = None
    remaining_tokens: Count | None = None
    reset: Wait | None = None
    scope: Scope | None = None


class App(Struct, kw_only=True, forbid_unknown_fields=True):
    """Who sent the request."""

    referer: Annotated[str, Meta(max_length=2000)] | None = None
    title: Annotated[str, Meta(max_length=NAME_MAX)] | None = None


class Report(Struct, kw_only=True, forbid_unknown_fields=True):
    """The outcome of one real request. Shape: exactly one of `status` and `error`. Units: seconds.

    `retry_after` is a number, or the text of the provider's header. `tool_call_errors` counts broken tool calls, or
    says whether there were any; an answer whose `finish_reason` is `tool_calls` had none where it is not given.
    """

    endpoint: Name
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    error: ErrorWord | None = None
    decision: Name | None = None
    id: Name | None = None
    finish_reason: Annotated[str, Meta(max_length=NAME_MAX)] | None = None
    latency: Latency | None = None
    ttft: Latency | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count | None = None
    retry_after: Wait | None = None
    ratelimit: RateLimit | None = None
    session_id: Annotated[str, Meta(max_length=SESSION_MAX)] | None = None
    age: Seconds | None = None
    stream: bool | None = None
    tool_call_errors: Count | bool | None = None
    app: App | None = None


class Batch(Struct, kw_only=True, forbid_unknown_fields=True):
    """Many reports in one body."""

    reports: Annotated[list[Report], Meta(max_length=BATCH_MAX)]


class Rejected(Struct):
    """A report that was not taken: its place in the body, from 0, and why."""

    index: int
    reason: str


class Tally(Struct, kw_only=True):
    """What became of the reports of one body."""

    recorded: int
    duplicate: int
    stale: int
    rejected: list[Rejected]


_WORDS: Final = {"error": ("an error word", ERROR_WORDS), "ratelimit.scope": ("a scope", get_args(Scope))}
_KNOWN: Final = (*fields(Report), *fields(RateLimit), *fields(App))
_outer: Final = msgspec.json.Decoder(dict[str, Raw])
_list: Final = msgspec.json.Decoder(list[Raw])
_report: Final = msgspec.json.Decoder(Report)
_any: Final = msgspec.json.Decoder(Raw)


class Reports:
    """The handler, and the ids that it has seen."""

    def __init__(self, hands: Hands, limits: Limits, complaints: Complaints) -> None:
        self._hands = hands
        self._limits = limits
        self._complaints = complaints
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def post(self, ask: Ask) -> web.StreamResponse:
        """Take the reports of one body."""
        pairs(ask.query, ())
        body = await read(ask.request, size_max=REPORTS_BODY_MAX, patience=self._limits.body)
        reports = cut(body, lines=ask.request.content_type in NDJSON_TYPES)
        counts: dict[Verdict, int] = {"recorded": 0, "duplicate": 0, "stale": 0, "rejected": 0}
        rejected: list[Rejected] = []
        try:
            await self._take_all(reports, ANONYMOUS if ask.who is None else ask.who, counts, rejected)
        finally:
            self._tell(counts, rejected, ask.who)
        tally = Tally(
            recorded=counts["recorded"], duplicate=counts["duplicate"], stale=counts["stale"], rejected=rejected
        )
        if reports and len(rejected) == len(reports):
            every = "the report was" if len(rejected) == 1 else f"all {len(rejected)} reports were"
            raise Refused(422, f"{every} rejected: {rejected[0].reason}", metadata=msgspec.structs.asdict(tally))
        return answer(tally)

    async def _take_all(
        self, reports: list[bytes | Raw], reporter: str, counts: dict[Verdict, int], rejected: list[Rejected]
    ) -> None:
        now = self._hands.clock()
        removed: frozenset[str] | None = None
        for index, text in enumerate(reports):
            if index % TURN == TURN - 1:
                await asyncio.sleep(0)
                now = self._hands.clock()
                removed = None
            verdict: Verdict = "rejected"
            reason: str | None = None
            try:
                report = _report.decode(text)
                reason = _fault(report)
            except UNREADABLE as error:
                reason = _told(error)
            if reason is None:
                if report.endpoint in self._hands.balancer.catalog.endpoints:
                    verdict = self._record(report, reporter, now)
                else:
                    removed = self._removed() if removed is None else removed
                    verdict = "stale" if report.endpoint in removed else "rejected"
                    reason = f"unknown endpoint {shown(report.endpoint)}"
            counts[verdict] += 1
            if verdict == "rejected" and reason is not None:
                rejected.append(Rejected(index, reason))

    def _record(self, report: Report, reporter: str, now: float) -> Verdict:
        key = None if report.id is None else (report.endpoint, report.id)
        if key is not None and key in self._seen:
            self._seen.move_to_end(key)
            return "duplicate"
        age = 0.0 if report.age is None else report.age
        ended = self._hands.wall() - age
        told = outcome(report, wall=ended)
        taken = self._hands.balancer.record(
            report.endpoint,
            told,
            now=now,
            source="report",
            reporter=reporter,
            decision=report.decision,
            age=age,
            session_id=report.session_id or None,
        )
        if not taken:
            return "stale"
        self._hands.recorded(report.endpoint, told, ended)
        if key is not None:
            self._seen[key] = None
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
        return "recorded"

    def _removed(self) -> frozenset[str]:
        """Endpoints that a reload took away, as far back as the table remembers."""
        return frozenset(
            each.endpoint
            for each in self._hands.balancer.transitions(0)
            if each.event == "endpoint.removed" and each.endpoint is not None
        )

    def _tell(self, counts: dict[Verdict, int], rejected: list[Rejected], who: str | None) -> None:
        self._hands.changed()
        for verdict, count in counts.items():
            if count:
                self._hands.reported(verdict, count)
        if rejected:
            self._complaints.tell(
                "report.refused",
                token=who,
                rejected=len(rejected),
                index=rejected[0].index,
                reason=rejected[0].reason,
            )


def outcome(report: Report, *, wall: float) -> Outcome:
    """What a report says, classified. The report is well-formed.

    Units: `wall` is the Unix time at which its request ended.
    """
    kind: Kind = classify(
        status=report.status,
        error=report.error,
        finish_reason=report.finish_reason,
        completion_tokens=report.completion_tokens,
    )
    return Outcome(
        kind=kind,
        latency=report.latency,
        ttft=report.ttft,
        status=report.status,
        retry_after=wait(_told_wait(report, kind), wall=wall),
        prompt_tokens=report.prompt_tokens,
        completion_tokens=report.completion_tokens,
        cached_tokens=report.cached_tokens,
        tool_call_errors=_tool_call_errors(report),
        detail="" if report.finish_reason is None else f"finish_reason {shown(report.finish_reason)}",
        account=report.ratelimit is not None and report.ratelimit.scope == "account",
    )


def _told_wait(report: Report, kind: Kind) -> float | str | None:
    """How long the provider asked to be left alone, by whatever told it.

    Shape: after a success only the reset of a quota of which nothing is left. Providers reset when a quota is whole
    again, and a part may be back before. To wait for the whole loses nothing of it, since none flows over; the next
    request, sent at once, would be refused.
    """
    told = report.ratelimit
    if kind == "success":
        return told.reset if told is not None and 0 in (told.remaining_requests, told.remaining_tokens) else None
    if report.retry_after is None and kind == "rate_limited" and told is not None:
        return told.reset
    return report.retry_after


def _tool_call_errors(report: Report) -> int | None:
    called = report.finish_reason == "tool_calls"
    if report.tool_call_errors is None:
        return 0 if called else None
    errors = int(report.tool_call_errors)
    # Some reporters say 0 of every answer: one that ended otherwise called no tool.
    return errors if errors or called or report.finish_reason is None else None


def cut(body: bytes | bytearray, *, lines: bool) -> list[bytes | Raw]:
    """Cut a body into the texts of its reports. Raises: Refused when it is no such body, or too long."""
    if not body.strip():
        raise Refused(400, "the body is empty; a report is needed")
    if lines:
        return _lines(body)
    if body.count(b",") > COMMAS_MAX:
        raise _too_many()
    try:
        outer = _outer.decode(body)
    except UNREADABLE as error:
        if b"\n" in body.strip() and _is_object(body.lstrip().partition(b"\n")[0]):
            return _lines(body)
        raise Refused(400, fault(error, _KNOWN)) from None
    if "reports" not in outer:
        return [bytes(body)]
    if len(outer) > 1:
        beside = next(key for key in outer if key != "reports")
        raise Refused(400, f"found {shown(beside)} beside reports; send one report, or a list of them and no more")
    try:
        many = _list.decode(outer["reports"])
    except UNREADABLE as error:
        raise Refused(400, f"reports: {fault(error, _KNOWN)}") from None
    if len(many) > BATCH_MAX:
        raise _too_many()
    return list(many)


def _lines(body: bytes | bytearray) -> list[bytes | Raw]:
    pieces = bytes(body).split(b"\n", 2 * BATCH_MAX)  # bounded: eight million empty lines are no reports
    found: list[bytes | Raw] = [piece for piece in pieces if piece.strip()]
    if len(found) > BATCH_MAX or len(pieces) > 2 * BATCH_MAX:
        raise _too_many()
    return found


def _is_object(line: bytes | bytearray) -> bool:
    try:
        _any.decode(line)
    except UNREADABLE:
        return False
    return line.startswith(b"{")


def _too_many() -> Refused:
    return Refused(413, f"more than {BATCH_MAX} reports in one body", metadata={"reports_max": BATCH_MAX})


def _fault(report: Report) -> str | None:
    if (report.status is None) == (report.error is None):
        found = "neither" if report.status is None else "both"
        return f"found {found} of status and error; exactly one is needed"
    for place, told in (
        ("retry_after", report.retry_after),
        ("ratelimit.reset", None if report.ratelimit is None else report.ratelimit.reset),
    ):
        if isinstance(told, str) and wait(told, wall=0.0) is None:
            return f"{place}: {shown(told)} is no wait; use seconds, 1m30s, an HTTP date or an RFC 3339 moment"
    return None


def _told(error: Exception) -> str:
    text = fault(error, _KNOWN)
    for place, (what, words) in _WORDS.items():
        if text.startswith(f"{place}: invalid enum value"):
            word = text.partition("'")[2].rpartition("'")[0]
            return f"{place}: {shown(word)} is not {what}; {hint(word, words)}"
    return text
