"""A machine that slept for a minute in the middle of its probes: nobody is ejected for it."""

import asyncio
import os
import signal

import pytest
from aiohttp import web

ASLEEP = 60.0  # s
ANSWER = 0.4  # s; with an interval of a second some probes are under way at any moment
DEADLINE = 20.0  # s
PLACES = 20


@pytest.fixture
async def slow_server():
    """A provider that takes its time to list its models, and closes what a sleeper left open."""

    async def listing(_request):
        await asyncio.sleep(ANSWER)
        return web.json_response({"data": [{"id": "large"}]})

    app = web.Application()
    app.router.add_get("/v1/models", listing)
    runner = web.AppRunner(app, keepalive_timeout=5.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def test_a_minute_of_sleep_ejects_nobody(daemon, http, slow_server):
    lines = ["probe: {interval: 1s, timeout: 1s, concurrency: 50}", "providers:"]
    lines += [f"  p{number}: {{base_url: '{slow_server}'}}" for number in range(PLACES)]
    lines += ["models:", "  acme/large:", "    endpoints:"]
    lines += [f"      - {{provider: p{number}, model: large}}" for number in range(PLACES)]
    running = await daemon("\n".join(lines))

    async def states():
        async with http.get(f"{running.url}/v1/endpoints") as answer:
            return {each["state"] for each in (await answer.json())["endpoints"]}

    async def until(condition):
        async with asyncio.timeout(DEADLINE):
            while not await condition():
                await asyncio.sleep(0.05)

    async def healthy():
        return await states() == {"healthy"}

    async def answered():
        async with http.get(f"{running.url}/metrics") as answer:
            text = await answer.text()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("balancer_outcomes_total") and 'outcome="success"' in line
        )

    await until(healthy)
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(ASLEEP)  # this is the test's subject, not a wait for luck
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    before = await answered()

    async def probed_again():
        return await answered() >= before + 3 * PLACES

    await until(probed_again)
    assert await healthy()
    assert [each["reason"] for each in await running.told("self.suspected")]
    assert [each for each in running.events() if each["event"] == "endpoint.ejected"] == []
    async with http.get(f"{running.url}/-/ready") as answer:
        assert (await answer.json())["self_suspect"] is False
    async with http.get(f"{running.url}/metrics") as answer:
        assert 'balancer_probe_turns_left_out_total{reason="late"} 0\n' not in await answer.text()
