"""One probe of one endpoint, from its settings to a result that can be recorded, logged and shown.

Theory of operation: the kind does the talking, `failure.of` names what went wrong below it, and this module
gives both a total timeout and turns them into one `ProbeResult`. A probe never raises: an exception that is in
nobody's table is our bug, and comes back as a probe that counts for nothing with its traceback in `bug`, so that
one bad answer can neither stop the schedule nor pass unseen, and no provider is ejected for it.

What this module does not know: when to probe (`schedule`), and what the outcome does to health (`core`).
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from balancer.config.proxies import Proxy
from balancer.config.secret import Secret
from balancer.config.settings import ProbeKind, ProbeSettings
from balancer.core.announcement import Level
from balancer.core.model import Endpoint, Pricing
from balancer.core.outcome import Outcome
from balancer.probing.client import Client
from balancer.probing.connection import Connections
from balancer.probing.failure import Failure, of
from balancer.probing.kinds import KINDS, Check
from balancer.probing.lag import ours
from balancer.probing.trace import Trace

DETAIL_MAX: Final = 400  # characters: a reason and the 200 of a body's snippet
BUG_MAX: Final = 10_000  # characters of a traceback


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What one probe found.

    Units: seconds; `began` and `ended` are monotonic; `cost` is USD, `None` where it is unknown or nothing was
    bought; `sent` is how many requests went out that may have to be paid for. `phases` has those that happened, the
    one that failed included. `bug` is the traceback of an exception of ours. Neither it nor `transcript` nor the
    outcome's detail carries the credential. `certificate_expires` is Unix time, `None` where no TLS connection was
    opened or kept. `announced` is what a status page says, and its words; `None` where none was read. `overslept`
    is a timeout that fired so late, or during which our loop stood still for so long, that it says more of us than
    of the provider.
    """

    endpoint: str
    provider: str
    kind: ProbeKind
    outcome: Outcome
    phases: Mapping[str, float]
    address: str | None
    certificate_expires: float | None = None
    announced: tuple[Level, str] | None = None
    overslept: bool = False
    began: float
    ended: float
    cost: float | None = None
    sent: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    bug: str | None = None
    transcript: tuple[str, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """How fast a good answer came, counted as the core counts it: all of its tokens over all of its time."""
        outcome = self.outcome
        if outcome.kind != "success" or outcome.completion_tokens is None or not outcome.latency:
            return None
        return outcome.completion_tokens / outcome.latency

    def facts(self) -> dict[str, Any]:
        """The result as plain values, for whoever writes it down as JSON."""
        return {
            "endpoint": self.endpoint,
            "kind": self.kind,
            "outcome": self.outcome.kind,
            "status": self.outcome.status,
            "detail": self.outcome.detail,
            "address": self.address,
            "duration": self.ended - self.began,
            "phases": dict(self.phases),
            "ttft": self.outcome.ttft,
            "tokens_per_second": self.tokens_per_second,
            "cost": self.cost,
            "certificate_expires": self.certificate_expires,
        }


async def probe(
    endpoint: Endpoint,
    settings: ProbeSettings,
    credential: Secret | None,
    *,
    connections: Connections,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    kinds: Mapping[ProbeKind, Check] = KINDS,
    another: Callable[[], bool] = lambda: True,
    transcribed: bool = True,
    url_good: bool = False,
) -> ProbeResult:
    """Probe once, writing a transcript where somebody will read it. Raises: nothing but `CancelledError`.

    Shape: `another` is asked before a second request that costs money, and says whether there is any left for it;
    `url_good` says that `probe.url` was good before.
    """
    trace = Trace(clock=clock, credential=credential, others=_secrets(settings), transcribed=transcribed)
    client = Client(
        endpoint,
        settings,
        credential,
        connections=connections,
        trace=trace,
        clock=clock,
        wall=wall,
        another=another,
    )
    client.url_good = url_good
    began = clock()
    bug: str | None = None
    try:
        outcome = await _checked(client, kinds)
    except Failure as failure:
        outcome = Outcome(kind=failure.kind, status=failure.status, detail=failure.detail)
    except Exception as problem:
        known = of(problem, phase=trace.phase)
        if known is not None:
            outcome = Outcome(kind=known.kind, detail=known.detail)
        else:
            # No verdict: the provider may be as well as ever, and every probe of its endpoints would say the same.
            outcome = Outcome(kind="probe_invalid", detail=f"bug in the probe: {type(problem).__name__}: {problem}")
            bug = trace.redacted(traceback.format_exc())[-BUG_MAX:]
    trace.leave()
    ended = clock()
    late = ended - began - settings.timeout
    check = kinds.get(settings.kind)
    outcome = replace(
        outcome,
        shallow=check is not None and check.shallow,
        detail=trace.clean(outcome.detail, DETAIL_MAX),
    )
    trace.say(f"* {outcome.kind}{f': {outcome.detail}' if outcome.detail else ''}")
    return ProbeResult(
        endpoint=endpoint.id,
        provider=endpoint.provider,
        kind=settings.kind,
        outcome=outcome,
        phases=trace.phases,
        address=trace.address,
        certificate_expires=trace.certificate_expires,
        announced=trace.announced,
        began=began,
        overslept=outcome.kind == "timeout" and ours(late, settings.timeout),
        ended=ended,
        sent=client.sent,
        cost=_spent([*client.discarded, outcome], endpoint.pricing),
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        bug=bug,
        transcript=trace.transcript,
    )


async def _checked(client: Client, kinds: Mapping[ProbeKind, Check]) -> Outcome:
    """Run the kind under the total timeout. Raises: Failure, and whatever is a bug."""
    settings = client.settings
    check = kinds.get(settings.kind)
    if check is None:
        raise Failure("probe_invalid", f"probe.kind {settings.kind} sends nothing; use {', '.join(kinds)}")
    limit = asyncio.timeout(settings.timeout)
    try:
        async with limit:
            return await check.run(client)
    except TimeoutError:
        if not limit.expired():
            raise  # the system's own, which `failure.of` knows
        phase = client.trace.phase
        where = f" (in {phase})" if phase is not None else ""
        said = f"not done after {settings.timeout:g} s{where}"
        if client.trace.proxy is not None:  # the way to it is our own
            raise Failure("local", f"the proxy {client.trace.proxy}: {said}") from None
        if phase == "resolve" and client.trace.unresolved is not None:
            raise Failure(client.trace.unresolved, said) from None
        raise Failure("timeout", said) from None


def _secrets(settings: ProbeSettings) -> list[Secret]:
    """Everything but the credential that must not be told."""
    ways = (settings.proxy.http, settings.proxy.https)
    held = [secret for way in ways if isinstance(way, Proxy) for secret in (way.login, way.password)]
    values = (*settings.send_headers.values(), settings.send_body, *settings.variables, *held)
    return [value for value in values if isinstance(value, Secret)]


def _spent(outcomes: Sequence[Outcome], pricing: Pricing) -> float | None:
    """Price all that was bought, as far as it is known. Units: USD. `None` where nothing is."""
    costs = [cost for cost in (cost_of(outcome, pricing) for outcome in outcomes) if cost is not None]
    return sum(costs) if costs else None


def cost_of(outcome: Outcome, pricing: Pricing) -> float | None:
    """Price an answer's tokens. Units: USD. `None` where the answer or the price list does not say."""
    prompt, completion = outcome.prompt_tokens, outcome.completion_tokens
    if prompt is None or completion is None or pricing.prompt is None or pricing.completion is None:
        return None
    return (prompt * pricing.prompt + completion * pricing.completion) / 1_000_000
