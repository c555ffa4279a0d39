"""One try at one provider, as a proxy makes it: a streamed completion with limits on time.

Theory of operation: whatever happens ends as one `Call`: an HTTP status, or one error word of the reports API.
Both ways of routing use this function with the same limits, so a difference between them is never the client.

What this module does not know: who chose the provider, and which try it is of how many.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Final

import aiohttp

from balancer.core.outcome import ErrorWord, classify, retry_after
from balancer.demo.mock import ATTEMPT_HEADER, REQUEST_HEADER

# Life at twenty times its speed: a hosted model's first token takes about a second and is waited for about ten.
FIRST_TOKEN_TIME: Final = 0.5  # s; a well mock needs 0.02 to 0.08
TRY_TIME: Final = 1.0  # s for one whole try; a well mock needs 0.05 to 0.2
MAX_TOKENS: Final = 64
PROMPT: Final = "Say in one sentence what you are."


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What became of one try. Units: seconds. Shape: exactly one of `status` and `error`."""

    status: int | None = None
    error: ErrorWord | None = None
    latency: float
    ttft: float | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        kind = classify(
            status=self.status,
            error=self.error,
            finish_reason=self.finish_reason,
            completion_tokens=self.completion_tokens,
        )
        return kind == "success"

    def report(self, *, endpoint: str, decision: str) -> dict[str, Any]:
        """The body of `POST /v1/reports` for this try: what is known, and nothing else."""
        facts: dict[str, Any] = {
            "endpoint": endpoint,
            "decision": decision,
            "status": self.status,
            "error": self.error,
            "latency": self.latency,
            "ttft": self.ttft,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "retry_after": self.retry_after,
        }
        return {name: value for name, value in facts.items() if value is not None}


class _Stream:
    """What has come of the stream so far."""

    __slots__ = ("done", "finish_reason", "ttft", "usage")

    def __init__(self) -> None:
        self.ttft: float | None = None
        self.finish_reason: str | None = None
        self.usage: Mapping[str, int] = {}
        self.done = False

    def take(self, line: bytes, elapsed: float) -> None:
        """Read one line of the event stream. Raises: ValueError, KeyError, TypeError on nonsense."""
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return
        chunk = json.loads(data)
        for choice in chunk["choices"]:
            if self.ttft is None and "content" in choice["delta"]:
                self.ttft = elapsed
            if choice["finish_reason"] is not None:
                self.finish_reason = choice["finish_reason"]
        self.usage = chunk.get("usage", self.usage)


async def call(session: aiohttp.ClientSession, *, base_url: str, model: str, number: int, attempt: int) -> Call:
    """Send request `number` to one provider. Raises: nothing but cancellation."""
    began = monotonic()
    stream = _Stream()

    def failed(error: ErrorWord) -> Call:
        return Call(error=error, latency=monotonic() - began, ttft=stream.ttft)

    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {REQUEST_HEADER: str(number), ATTEMPT_HEADER: str(attempt)}
    try:
        async with (
            asyncio.timeout(FIRST_TOKEN_TIME) as limit,
            session.post(f"{base_url}/chat/completions", json=body, headers=headers) as response,
        ):
            if response.status != 200:
                told = {name.lower(): value for name, value in response.headers.items()}
                wait = retry_after(told, wall=time())
                return Call(status=response.status, latency=monotonic() - began, retry_after=wait)
            async for line in response.content:
                waiting = stream.ttft is None
                stream.take(line, monotonic() - began)
                if waiting and stream.ttft is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + TRY_TIME - stream.ttft)
    except TimeoutError:
        return failed("timeout")
    except aiohttp.ClientConnectorError:
        return failed("connect")
    except (aiohttp.ClientError, OSError):
        return failed("reset" if stream.ttft is None else "stream")
    except (ValueError, KeyError, TypeError):
        return failed("malformed")
    if not stream.done:
        return failed("stream")
    if stream.ttft is None:
        return failed("empty")
    return Call(
        status=200,
        latency=monotonic() - began,
        ttft=stream.ttft,
        finish_reason=stream.finish_reason,
        prompt_tokens=stream.usage.get("prompt_tokens"),
        completion_tokens=stream.usage.get("completion_tokens"),
    )
