"""The daemon's metrics before Prometheus' own programs: its linter, and a real server that scrapes and answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

ENDPOINT = "acme/small@near"

# Nothing is called: the outcomes are all reported.
CONFIG = """
providers:
  near: {base_url: "http://127.0.0.1:9/v1"}
  far: {base_url: "http://127.0.0.1:9/v1"}
models:
  acme/small:
    endpoints:
      - {provider: near, model: small}
      - {provider: far, model: small}
probe: {kind: none}
"""


async def report(http: aiohttp.ClientSession, url: str, *, good: int, bad: int) -> None:
    """Tell the daemon of finished requests."""
    reports = [{"endpoint": ENDPOINT, "status": 200, "latency": 0.5, "ttft": 0.1} for _ in range(good)]
    reports += [{"endpoint": ENDPOINT, "status": 500, "latency": 0.1} for _ in range(bad)]
    async with http.post(f"{url}/v1/reports", json={"reports": reports}) as answer:
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["recorded"] == good + bad


@asynccontextmanager
async def plain_text_of(http: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
    """A door to the daemon's metrics for a scraper that only reads plain text (Debian's cannot be told to)."""

    async def forward(_: web.Request) -> web.Response:
        async with http.get(f"{url}/metrics", headers={"Accept": "text/plain"}) as answer:
            body, kind = await answer.read(), answer.headers["Content-Type"]
        return web.Response(status=answer.status, body=body, headers={"Content-Type": kind})

    app = web.Application()
    app.router.add_get("/metrics", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_promtool_finds_nothing_to_say_about_a_scrape(
    daemon: Callable[..., Awaitable[Any]], needs: Callable[[str], str], http: aiohttp.ClientSession
) -> None:
    promtool = needs("promtool")
    running = await daemon(CONFIG)
    await report(http, running.url, good=3, bad=2)
    async with http.get(f"{running.url}/v1/best-provider", params={"model": "acme/small"}) as answer:
        assert answer.status == 200, await answer.text()
    async with http.get(f"{running.url}/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        scrape = await answer.read()
    linter = await asyncio.create_subprocess_exec(
        promtool,
        "check",
        "metrics",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await linter.communicate(scrape)
    assert (linter.returncode, said.decode()) == (0, "")
    assert b"balancer_outcomes_total" in scrape


@pytest.mark.timeout(90)
async def test_a_real_prometheus_scrapes_both_formats_and_answers(
    daemon: Callable[..., Awaitable[Any]],
    prometheus: Callable[..., Awaitable[Any]],
    http: aiohttp.ClientSession,
) -> None:
    running = await daemon(CONFIG)
    await report(http, running.url, good=3, bad=2)
    async with plain_text_of(http, running.url) as text_url:
        server = await prometheus({"openmetrics": running.url, "text": text_url})
        both = {"openmetrics": 2.0, "text": 2.0}
        failed = f'balancer_outcomes_total{{endpoint="{ENDPOINT}",source="report",outcome="server_error"}}'
        await server.shows(failed, both)
        await server.shows(
            f'balancer_endpoint_error_ratio{{endpoint="{ENDPOINT}",window="5m"}}', dict.fromkeys(both, 0.4)
        )
        await server.shows('sum by (job) (balancer_endpoint_state{state="unverified"})', dict.fromkeys(both, 1.0))
        await server.shows('balancer_reports_total{result="recorded"}', dict.fromkeys(both, 5.0))

        # Prometheus knows a type "info" only from OpenMetrics: so it did speak that with the daemon itself.
        described = await server.ask(
            "targets/metadata", match_target='{job="openmetrics"}', metric="balancer_build"
        )
        assert [each["type"] for each in described] == ["info"]

        await report(http, running.url, good=4, bad=0)
        await server.shows(failed, both)
        await server.shows("sum by (job) (balancer_outcomes_total)", dict.fromkeys(both, 9.0))
