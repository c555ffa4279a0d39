"""A proxy with balancer's core in its own process: `python examples/proxy.py balancer.yaml --port 8800`.

It takes OpenAI's `POST /v1/chat/completions`, asks the core who shall answer, passes the answer through as it
comes, and tells the core what became of every try, which is all that the core learns from. Nothing of a prompt is
kept. Left out, to be short: who may ask, reload (`core.apply`) and metrics (`core.view`).
"""

import argparse
import asyncio
import json
import os
import re
from math import ceil
from time import monotonic, time

import aiohttp
from aiohttp import web

import balancer

BODY_MAX = 32 * 1024**2  # bytes of a request, and of an answer that is not streamed
TAIL_MAX = 65_536  # bytes of a stream's end: its usage and finish reason stand there
ROUTERS = ("models", "provider", "route", "session_id", "balancer")  # keys of a body that no provider knows
REFUSED = {"unavailable": 503, "capacity_exhausted": 429}  # HTTP statuses of refusals; the others are 404
WORDS = (  # the core's word for what went wrong: of the first kind that fits, else "reset"
    (aiohttp.ClientConnectorDNSError, "dns"), (aiohttp.ClientSSLError, "tls"), (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorError, "connect"), (aiohttp.ClientPayloadError, "stream"), (ValueError, "malformed"),
)  # fmt: skip
FINISH = re.compile(rb'"finish_reason"\s*:\s*"(\w{1,40})"')  # quotes within a text are escaped: this is a key
TOKENS = re.compile(rb'"(prompt_tokens|completion_tokens|cached_tokens)"\s*:\s*(\d{1,9})\b')


class Proxy:
    def __init__(self, config):
        self.credentials, self.core = config.credentials, balancer.Balancer(config, now=monotonic())
        for each in config.endpoints.values():
            if each.api != "openai":  # bodies are passed on as they came
                self.core.drain(each.id, now=monotonic(), reason="this proxy speaks OpenAI's dialect only")

    async def connected(self, _app):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self.session:
            yield

    async def ready(self, _request):
        return web.Response()

    async def complete(self, request):
        """Ask the core once; then try its choice and its fallbacks until one has something for the client."""
        body = await request.read()
        self.core.set_wall(time(), now=monotonic())  # prices may depend on the time of the day
        try:
            asked = balancer.request_from_chat(body, session_id=request.headers.get("x-session-id"))
            decision = self.core.best(asked, now=monotonic())
        except ValueError as error:
            return refusal(400, str(error))
        except balancer.NoEndpoint as none:
            return refusal(REFUSED.get(none.code, 404), none.message, none.retry_after)
        payload = {key: value for key, value in json.loads(body).items() if key not in ROUTERS}
        fallbacks = () if decision.retry_budget.exhausted else decision.fallbacks  # more would make it last
        tried = []
        for pick in (decision.selected, *fallbacks):
            outcome = balancer.Outcome(kind="cancelled")  # what it stays if the client goes away
            try:
                outcome, answer = await self.attempt(request, pick, payload | {"model": pick.model})
            finally:
                known = {"decision": decision.id, "session_id": asked.session_id}
                self.core.record(pick.id, outcome, now=monotonic(), **known)
            if answer is not None:
                return answer
            tried.append((pick.tag, outcome))
        limited = all(outcome.kind == "rate_limited" for _, outcome in tried)
        waits = [outcome.retry_after for _, outcome in tried if outcome.retry_after is not None]
        story = ", ".join(f"{tag}: {outcome.kind}" for tag, outcome in tried)
        return refusal(429 if limited else 502, f"nobody answered ({story})", min(waits, default=None))

    async def attempt(self, request, pick, payload):
        """Call one endpoint: what came of it, and the client's answer (None: another endpoint may be tried)."""
        began, limits, streamed = monotonic(), pick.timeouts, payload.get("stream") is True
        reply, kept, facts, status, error = None, bytearray(), {}, None, None
        try:
            patience = asyncio.timeout(limits.first_token if streamed else limits.total)
            async with patience, self.call(pick, payload) as answer:
                facts["retry_after"] = balancer.retry_after(answer.headers, wall=time())
                told = {"Content-Type": answer.headers.get("Content-Type", ""), "x-balancer-endpoint": pick.id}
                streamed = streamed and answer.status == 200  # all else is held back: it may not be passed on
                async for chunk in answer.content.iter_any():
                    kept += chunk
                    if streamed and reply is None:
                        facts["ttft"] = monotonic() - began
                        patience.reschedule(asyncio.get_running_loop().time() + limits.total - facts["ttft"])
                        reply = web.StreamResponse(headers=told)
                        await to_client(reply.prepare(request))
                    if streamed:
                        await to_client(reply.write(chunk))
                        del kept[:-TAIL_MAX]
                    elif len(kept) > BODY_MAX:
                        raise ValueError("no answer is so long")
            facts |= {name.decode(): int(number) for name, number in TOKENS.findall(kept)}
            if answer.status == 200 and not kept:
                error = "empty"
            elif streamed:
                error = None if b"data: [DONE]" in kept else "stream"
            elif answer.status == 200:
                json.loads(kept)
            status = answer.status if error is None else None
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = next((word for kind, word in WORDS if isinstance(failure, kind)), "reset")
        finish = FINISH.findall(kept)
        kind = balancer.classify(status=status, error=error, finish_reason=finish[-1].decode() if finish else None)
        outcome = balancer.Outcome(kind=kind, status=status, latency=monotonic() - began, **facts)
        if reply is not None and error is not None and request.transport is not None:
            request.transport.close()  # half a stream must not end like a whole one
        if reply is None and kind in ("success", "caller_error"):  # of a wrong request nobody else thinks better
            reply = web.Response(status=status, body=bytes(kept), headers=told)
        return outcome, reply

    def call(self, pick, payload):
        key = self.credentials.get(pick.id)
        headers = {} if key is None else {"Authorization": f"Bearer {key.reveal()}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=pick.timeouts.connect)
        address, mark, query = pick.base_url.partition("?")  # Azure's has one: ?api-version=…
        url = f"{address}/chat/completions{mark}{query}"
        return self.session.post(url, json=payload, headers=headers, timeout=timeout, allow_redirects=False)


async def to_client(sending):
    try:
        await sending
    except ConnectionError:
        raise asyncio.CancelledError from None  # the client has gone, which is no fault of the provider's


def refusal(status, message, wait=None):
    headers = {} if wait is None else {"Retry-After": str(max(1, ceil(wait)))}
    return web.json_response({"error": {"code": status, "message": message}}, status=status, headers=headers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A proxy that holds balancer's core.")
    parser.add_argument("config", help="balancer.yaml")
    parser.add_argument("--port", type=int, default=8800)
    arguments = parser.parse_args()
    try:
        proxy = Proxy(balancer.load_config(arguments.config, environ=os.environ))
    except balancer.ConfigError as error:
        parser.exit(1, f"{error}\n")
    app = web.Application(client_max_size=BODY_MAX)
    app.cleanup_ctx.append(proxy.connected)
    app.add_routes([web.post("/v1/chat/completions", proxy.complete), web.get("/-/ready", proxy.ready)])
    web.run_app(app, host="127.0.0.1", port=arguments.port, access_log=None, handler_cancellation=True)
