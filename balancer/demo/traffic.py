"""The same requests, sent two ways at the same moments: as the daemon says, and blindly in turn.

Theory of operation: an open loop starts request `n` at `n / RATE` seconds and hands it to both ways at once, so an
ill provider never slows the arrival of requests down. Each way has two tries of the same length with the same
luck; what counts as an error is the same too: 4xx and 5xx, a timeout, a transport error, a cut stream.

- balanced: asks the daemon over HTTP and tries `selected`. On failure it reports, asks again with `exclude` and
  tries what is `selected` then: the first answer was given before the failure was known, and a hang is known half
  a second late. Where the second answer does not come it takes `fallbacks[0]` of the first. Every try is reported;
- round-robin: tries provider `n mod 6`, then the next one of the ring. It learns nothing.

What this module does not know: which provider is ill, and what the numbers come to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from balancer.demo.client import MAX_TOKENS, Call, call
from balancer.demo.ledger import Ledger

RATE: Final = 20.0  # requests a second, each way
IN_FLIGHT_MAX: Final = 128  # requests; two hung tries of 1 s at the rate above are 40
API_TIME: Final = 1.0  # s for the daemon's answer, which takes about a millisecond
PROMPT_TOKENS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A provider as a client sees it. `model` is the provider's own name."""

    provider: str
    base_url: str
    model: str


def session() -> aiohttp.ClientSession:
    """A client of its own for one way of routing; limits on time are set per call."""
    connector = aiohttp.TCPConnector(limit=0)  # IN_FLIGHT_MAX is the limit
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))


class RoundRobin:
    """The blind way."""

    def __init__(self, targets: Sequence[Target], *, ledger: Ledger, client: aiohttp.ClientSession) -> None:
        self._targets = targets
        self._ledger = ledger
        self._client = client

    async def send(self, number: int) -> None:
        """One request with up to two tries. Raises: nothing but cancellation."""
        first_ok = await self._try(number, attempt=1)
        ok = first_ok or await self._try(number, attempt=2)
        self._ledger.finished("round_robin", first_ok=first_ok, ok=ok)

    async def _try(self, number: int, *, attempt: int) -> bool:
        target = self._targets[(number + attempt - 1) % len(self._targets)]
        result = await call(
            self._client, base_url=target.base_url, model=target.model, number=number, attempt=attempt
        )
        self._ledger.tried("round_robin", provider=target.provider, attempt=attempt, ok=result.ok)
        return result.ok


class Balanced:
    """The way of the daemon at `api`. `elapsed` is the time since the run began."""

    def __init__(
        self,
        *,
        api: str,
        model: str,
        ledger: Ledger,
        client: aiohttp.ClientSession,
        elapsed: Callable[[], float],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._api = api
        self._model = model
        self._ledger = ledger
        self._client = client
        self._elapsed = elapsed
        self._tasks = tasks

    async def send(self, number: int) -> None:
        """One request with up to two tries. Raises: nothing but cancellation."""
        decision = await self._ask()
        if decision is None:
            # A refusal reaches the client as an error, on its first try and after its last.
            self._ledger.refusals += 1
            self._ledger.finished("balanced", first_ok=False, ok=False)
            return
        first = decision["selected"]
        self._ledger.decided(provider=first["provider"], trial=decision["trial"], at=self._elapsed())
        result = await self._try(first, number, attempt=1)
        report = self._report(result, endpoint=first["id"], decision=decision["id"])
        if result.ok:
            self._ledger.finished("balanced", first_ok=True, ok=True)
            # The client has its answer; the report is not its business any more.
            self._tasks.create_task(report, name=f"report {number}")
            return
        await report
        ok = await self._again(decision, number)
        self._ledger.finished("balanced", first_ok=False, ok=ok)

    async def _again(self, before: Mapping[str, Any], number: int) -> bool:
        decision = await self._ask(exclude=before["selected"]["id"])
        if decision is not None:
            second = decision["selected"]
        elif before["fallbacks"]:
            decision, second = before, before["fallbacks"][0]
        else:
            return False
        result = await self._try(second, number, attempt=2)
        report = self._report(result, endpoint=second["id"], decision=decision["id"])
        self._tasks.create_task(report, name=f"report {number}, second try")
        return result.ok

    async def _ask(self, *, exclude: str | None = None) -> Mapping[str, Any] | None:
        asked = {"model": self._model, "prompt_tokens": str(PROMPT_TOKENS), "max_tokens": str(MAX_TOKENS)}
        if exclude is not None:
            asked["exclude"] = exclude
        try:
            async with (
                asyncio.timeout(API_TIME),
                self._client.get(f"{self._api}/v1/best-provider", params=asked) as response,
            ):
                if response.status != 200:
                    return None
                answer: Mapping[str, Any] = await response.json()
                return answer
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None

    async def _try(self, endpoint: Mapping[str, Any], number: int, *, attempt: int) -> Call:
        result = await call(
            self._client,
            base_url=endpoint["base_url"],
            model=endpoint["model"],
            number=number,
            attempt=attempt,
        )
        self._ledger.tried("balanced", provider=endpoint["provider"], attempt=attempt, ok=result.ok)
        return result

    async def _report(self, result: Call, *, endpoint: str, decision: str) -> None:
        body = result.report(endpoint=endpoint, decision=decision)
        try:
            async with (
                asyncio.timeout(API_TIME),
                self._client.post(f"{self._api}/v1/reports", json=body) as response,
            ):
                taken = response.status == 200
        except (TimeoutError, aiohttp.ClientError, OSError):
            taken = False
        self._ledger.reports_lost += not taken


async def send_all(
    *,
    targets: Sequence[Target],
    api: str,
    model: str,
    ledger: Ledger,
    elapsed: Callable[[], float],
    duration: float,
    stop: asyncio.Event,
) -> None:
    """Send both ways until `duration` or `stop`, and wait for what is in flight.

    Shape: `api` is the daemon's address without a path. Raises: nothing but cancellation.
    """
    gate = asyncio.Semaphore(IN_FLIGHT_MAX)
    async with session() as balanced_client, session() as blind_client, asyncio.TaskGroup() as tasks:
        balanced = Balanced(
            api=api, model=model, ledger=ledger, client=balanced_client, elapsed=elapsed, tasks=tasks
        )
        blind = RoundRobin(targets, ledger=ledger, client=blind_client)

        async def both(number: int) -> None:
            try:
                async with asyncio.TaskGroup() as pair:
                    pair.create_task(balanced.send(number), name=f"balanced {number}")
                    pair.create_task(blind.send(number), name=f"round-robin {number}")
            finally:
                gate.release()

        for number in range(int(duration * RATE)):
            if await _stopped(stop, wait=number / RATE - elapsed()):
                return
            await gate.acquire()
            tasks.create_task(both(number), name=f"request {number}")


async def _stopped(stop: asyncio.Event, *, wait: float) -> bool:
    """Wait until the next moment; true as soon as the run is to end."""
    if wait > 0:
        try:
            async with asyncio.timeout(wait):
                await stop.wait()
        except TimeoutError:
            return False
    return stop.is_set()
