"""A mock provider: a real HTTP server on loopback that speaks the OpenAI dialect and can fall ill.

Theory of operation: one `Mock` is one provider with one true condition at a time. A condition changes what goes
over the wire, never what a client is told about it: `refuse` closes the listening socket and every connection,
`hang` accepts and stays silent, `cut` drops the connection in the middle of the answer. A second socket, bound and
never listening, keeps the port for the provider while it refuses; without it the kernel could hand the port to
somebody's outgoing connection.

Luck (the share of a flaky provider, the jitter of its speed) is a hash of seed, provider, request number and
attempt, told by headers. Two ways of routing that send the same request to the same provider meet the same luck:
common random numbers, so that the difference between them is the routing.

What this module does not know: the timetable, the daemon, and who is asking.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from hashlib import blake2b
from math import ceil
from typing import Any, Final

from aiohttp import web

from balancer.demo.timetable import Condition

HOST: Final = "127.0.0.1"
REQUEST_HEADER: Final = "X-Demo-Request"
ATTEMPT_HEADER: Final = "X-Demo-Attempt"

TTFT: Final = (0.020, 0.060)  # s; the fastest and the slowest provider's usual time to the first token
TRANSFER: Final = (0.040, 0.090)  # s from the first token to the last
JITTER: Final = (0.8, 1.25)  # times the usual
SLOWER: Final = 10.0  # times, when `slow`: some answers then pass any sensible limit
FLAKY_SHARE: Final = 0.3  # of completions, when `flaky`
WORDS: Final = ("Six", " mocks,", " one", " model.")
BODY_MAX: Final = 65_536  # bytes of a request; the demo's are under 1 kB
CLOSE_TIME: Final = 0.01  # s for a handler to end before its connection is cut


def luck(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` and on nothing else."""
    digest = blake2b("\x00".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


class Mock:
    """One provider. `key` names it, `model` is its own name for the model that it serves."""

    def __init__(self, key: str, *, model: str, seed: int) -> None:
        self.key = key
        self.model = model
        self._seed = seed
        self._condition: Condition = "well"
        self._until = 0.0
        self._changed = asyncio.Event()
        self._reserved: socket.socket | None = None
        self._runner: web.ServerRunner | None = None

    @property
    def condition(self) -> Condition:
        return self._condition

    @property
    def base_url(self) -> str:
        assert self._reserved is not None, "start() comes first"
        return f"http://{HOST}:{self._reserved.getsockname()[1]}/v1"

    async def start(self) -> None:
        """Take a port and serve on it."""
        self._reserved = _bound(0)
        await self._open()

    async def stop(self) -> None:
        """Close every connection and give the port back."""
        self._turn("well")
        await self._close()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def become(self, condition: Condition, *, lasting: float = 0.0) -> None:
        """Change the true condition; when this returns, the next request meets it.

        Units: `lasting` is how many seconds a `limited` provider says that it will be; it does not end by itself.
        """
        was = self._condition
        self._until = asyncio.get_running_loop().time() + lasting
        self._turn(condition)
        if condition == "refuse":
            await self._close()
        elif was == "refuse":
            await self._open()

    def _turn(self, condition: Condition) -> None:
        self._condition = condition
        self._changed.set()
        self._changed = asyncio.Event()

    async def _open(self) -> None:
        if self._runner is not None:
            return
        assert self._reserved is not None
        # A cancelled handler is how a hung request ends when its client has gone.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_TIME)
        await runner.setup()
        await web.SockSite(runner, _bound(self._reserved.getsockname()[1])).start()
        self._runner = runner

    async def _close(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    # ---- the wire ------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        condition, changed = self._condition, self._changed
        if condition == "hang":
            await changed.wait()
            return _dropped(request, web.Response())
        pace = self._pace(request) * (SLOWER if condition == "slow" else 1.0)
        if request.path == "/v1/models" and request.method == "GET":
            await asyncio.sleep(pace * TTFT[0])
            listed = {"id": self.model, "object": "model", "created": 0, "owned_by": self.key}
            return web.json_response({"object": "list", "data": [listed]})
        if request.path == "/v1/chat/completions" and request.method == "POST":
            return await self._complete(request, condition, pace)
        return _error(404, "invalid_request_error", f"no {request.method} {request.path} here")

    async def _complete(self, request: web.BaseRequest, condition: Condition, pace: float) -> web.StreamResponse:
        asked = await _body(request)
        if asked is None:
            return _error(400, "invalid_request_error", "the body is not a JSON object of a sensible size")
        if asked.get("model") != self.model:
            return _error(404, "model_not_found", f"the model {asked.get('model')!r} does not exist")
        if condition == "limited":
            left = self._until - asyncio.get_running_loop().time()
            refused = _error(429, "rate_limit_exceeded", "too many requests")
            # The truth, as quotas with a reset tell it, in the whole seconds that every client reads.
            refused.headers["Retry-After"] = str(max(1, ceil(left)))
            return refused
        unlucky = condition == "flaky" and self._luck(request, "flaky") < FLAKY_SHARE
        if condition == "error" or unlucky:
            return _error(500, "server_error", "the server had an error")
        first = pace * self._usual("ttft", TTFT)
        transfer = pace * self._usual("transfer", TRANSFER)
        if asked.get("stream") is True:
            return await self._stream(request, asked, first=first, transfer=transfer, cut=condition == "cut")
        return await self._answer(request, wait=first + transfer, cut=condition == "cut")

    async def _stream(
        self, request: web.BaseRequest, asked: Mapping[str, Any], *, first: float, transfer: float, cut: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await asyncio.sleep(first)
        try:
            await response.prepare(request)
            for number, word in enumerate(WORDS):
                if cut and number == len(WORDS) // 2:
                    return _dropped(request, response)
                if number > 0:
                    await asyncio.sleep(transfer / (len(WORDS) - 1))
                await response.write(self._event([_choice(word, None)]))
            await response.write(self._event([_choice(None, "stop")]))
            options = asked.get("stream_options")
            if isinstance(options, dict) and options.get("include_usage") is True:
                await response.write(self._event([], usage=_usage()))
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        except ConnectionError:
            # The client went away, or the provider began to refuse: there is nobody to tell.
            return _dropped(request, response)
        return response

    async def _answer(self, request: web.BaseRequest, *, wait: float, cut: bool) -> web.StreamResponse:
        await asyncio.sleep(wait)
        message = {"role": "assistant", "content": "".join(WORDS)}
        whole = json.dumps(
            {
                "id": "chatcmpl-demo",
                "object": "chat.completion",
                "created": 0,
                "model": self.model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": _usage(),
            }
        ).encode()
        if not cut:
            return web.Response(body=whole, content_type="application/json")
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Length": str(len(whole))}
        )
        try:
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
        except ConnectionError:
            pass  # gone already: it is dropped either way
        return _dropped(request, response)

    def _event(self, choices: list[dict[str, Any]], usage: Mapping[str, int] | None = None) -> bytes:
        chunk: dict[str, Any] = {
            "id": "chatcmpl-demo",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.model,
            "choices": choices,
        }
        if usage is not None:
            chunk["usage"] = usage
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    # ---- luck ----------------------------------------------------------------------------------------

    def _usual(self, what: str, bounds: tuple[float, float]) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * luck(self._seed, self.key, what)

    def _pace(self, request: web.BaseRequest) -> float:
        return float(JITTER[0] + (JITTER[1] - JITTER[0]) * self._luck(request, "pace"))

    def _luck(self, request: web.BaseRequest, what: str) -> float:
        number = request.headers.get(REQUEST_HEADER, "")
        attempt = request.headers.get(ATTEMPT_HEADER, "")
        return luck(self._seed, self.key, what, number, attempt)


def _bound(port: int) -> socket.socket:
    """A TCP socket on loopback that shares its port with our own others."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    return bound


async def _body(request: web.BaseRequest) -> dict[str, Any] | None:
    length = request.content_length
    if length is None or length > BODY_MAX:
        return None
    try:
        value = json.loads(await request.read())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _dropped(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """End the connection without another byte; what aiohttp then writes of `response` goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return response


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": code, "code": code}}, status=status)


def _choice(content: str | None, finish_reason: str | None) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": len(WORDS), "total_tokens": 9 + len(WORDS)}
