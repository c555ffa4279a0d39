"""The operator's verbs, and what a supervisor asks: drain, resume, probe, reload, health, readiness, metrics.

What this module does not know: how anything of it is done; the hands do it.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct, field

from balancer.config import ConfigError
from balancer.config.units import parse_duration
from balancer.core.request import NAME_MAX
from balancer.http.answers import Refused, answer, encode, plain
from balancer.http.api import Ask
from balancer.http.body import decode, fields, read
from balancer.http.hands import Hands, Healthy, Ready, Unprobed, Unreloadable
from balancer.http.limits import BODY_MAX, REASON_MAX, Limits
from balancer.http.query import pairs
from balancer.http.reading import unknown_endpoint
from balancer.http.words import shown

SPAN_MAX: Final = 365 * 86_400.0  # s; what lasts longer is no drain but a change of configuration

Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
Reason = Annotated[str, Meta(max_length=REASON_MAX)]
Span = Annotated[float, Meta(gt=0, le=SPAN_MAX)] | Annotated[str, Meta(max_length=40)]


class Drain(Struct, kw_only=True, forbid_unknown_fields=True):
    """No more traffic to a target: an endpoint id, a tag, a provider or a model.

    Units: `for` in seconds, or a duration like `10m`; until `/v1/resume` without it.
    """

    target: Name
    span: Span | None = field(default=None, name="for")
    reason: Reason | None = None


class Resume(Struct, kw_only=True, forbid_unknown_fields=True):
    """Traffic to a target again. `reason` goes to the log."""

    target: Name
    reason: Reason | None = None


class Probe(Struct, kw_only=True, forbid_unknown_fields=True):
    """Probe one endpoint now."""

    endpoint: Name


class Drained(Struct, kw_only=True):
    """The endpoints that a drain meant; `ends_in` is seconds, `null` for "until resumed"."""

    target: str
    endpoints: list[str]
    ends_in: float | None


class Resumed(Struct, kw_only=True):
    """The endpoints that a resume changed."""

    target: str
    endpoints: list[str]


_drain: Final = msgspec.json.Decoder(Drain)
_resume: Final = msgspec.json.Decoder(Resume)
_probe: Final = msgspec.json.Decoder(Probe)


class Operating:
    """The handlers."""

    def __init__(self, hands: Hands, limits: Limits) -> None:
        self._hands = hands
        self._limits = limits

    async def drain(self, ask: Ask) -> web.StreamResponse:
        """Take a target out of service."""
        said = decode(await self._body(ask), _drain, fields(Drain))
        ask.told["target"] = _named(said.target)
        reason = _printable(said.reason)
        span = _span(said.span)
        ask.told.update(span=span, reason=reason)
        now = self._hands.clock()
        until = None if span is None else now + span
        try:
            meant = self._hands.balancer.drain(said.target, now=now, until=until, reason=reason)
        except KeyError:
            raise _no_target(said.target) from None
        self._hands.changed()
        return answer(Drained(target=said.target, endpoints=meant, ends_in=span))

    async def resume(self, ask: Ask) -> web.StreamResponse:
        """Put a target back into service."""
        said = decode(await self._body(ask), _resume, fields(Resume))
        ask.told["target"] = _named(said.target)
        ask.told["reason"] = _printable(said.reason)
        try:
            changed = self._hands.balancer.resume(said.target, now=self._hands.clock())
        except KeyError:
            raise _no_target(said.target) from None
        self._hands.changed()
        return answer(Resumed(target=said.target, endpoints=changed))

    async def probe(self, ask: Ask) -> web.StreamResponse:
        """Probe one endpoint and tell what came of it."""
        said = decode(await self._body(ask), _probe, fields(Probe))
        ask.told["target"] = _named(said.endpoint)
        try:
            result = await self._hands.probe(said.endpoint)
        except KeyError:
            raise unknown_endpoint(said.endpoint, self._hands) from None
        except Unprobed as error:
            raise Refused(409, f"{said.endpoint} cannot be probed now: {error}") from None
        ask.told["outcome"] = result.get("outcome")
        self._hands.changed()
        return answer(result)

    async def reload(self, ask: Ask) -> web.StreamResponse:
        """Read the configuration anew; a body is ignored."""
        await self._body(ask)
        try:
            done = await self._hands.reload()
        except ConfigError as error:
            problems = [str(each) for each in error.problems]
            count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise Refused(
                422,
                f"the configuration has {count}; the old one stays in force",
                metadata={"problems": problems},
            ) from None
        except Unreloadable as error:
            raise Refused(409, str(error)) from None
        ask.told["config_generation"] = done.config_generation
        return answer(done)

    async def healthy(self, ask: Ask) -> web.StreamResponse:
        """Say whether the event loop and the probe schedules run; 503 when not, with the error beside it."""
        pairs(ask.query, ())
        state = self._hands.healthy()
        return answer(state) if state.healthy else _beside(state, f"not healthy: {'; '.join(state.problems)}")

    async def ready(self, ask: Ask) -> web.StreamResponse:
        """Say whether traffic may come; 503 when not, with the same fields beside the error."""
        pairs(ask.query, ())
        state = self._hands.ready()
        return answer(state) if state.ready else _beside(state, f"not ready: {'; '.join(state.missing)}")

    async def metrics(self, ask: Ask) -> web.StreamResponse:
        """Prometheus text or OpenMetrics, as the Accept header wishes."""
        pairs(ask.query, ())
        body, kind = await self._hands.metrics(ask.request.headers.get("Accept", ""))
        return plain(body, headers={"Content-Type": kind})

    async def _body(self, ask: Ask) -> bytes | bytearray:
        pairs(ask.query, ())
        return await read(ask.request, size_max=BODY_MAX, patience=self._limits.body)


def _beside(state: Healthy | Ready, message: str) -> web.StreamResponse:
    facts = msgspec.structs.asdict(state)
    refusal = Refused(503, message, metadata=facts)
    return plain(encode({**facts, "error": refusal.body().error}), status=503)


def _span(given: float | str | None) -> float | None:
    if not isinstance(given, str):
        return given
    try:
        span = float(parse_duration(given))
    except ValueError:
        raise Refused(400, f"for: {shown(given)} is not a duration; use seconds or 10m, 1h30m") from None
    if not 0 < span <= SPAN_MAX:
        raise Refused(400, f"for: {shown(given)} is out of range; use more than 0 and up to 365d")
    return span


def _named(target: str) -> str:
    return target if target.isprintable() else shown(target)


def _printable(reason: str | None) -> str:
    if reason is None:
        return ""
    if not reason.isprintable():
        raise Refused(400, "reason: holds what does not print; it is shown on terminals, so use plain text")
    return reason


def _no_target(target: str) -> Refused:
    return Refused(404, f"{shown(target)} names no endpoint, tag, provider or model")
