"""Status pages and our own reach through the daemon as a real process."""

import asyncio
import re

import aiohttp
import pytest
from aiohttp import web

DEADLINE = 10.0  # s; for conditions that come within one on an idle machine


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def until(condition):
    """Ask again until it holds; the deadline is the test's verdict."""
    async with asyncio.timeout(DEADLINE):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
        return found


ALONE = """\
probe: {{interval: 1s, timeout: 1s}}
providers:
  one:
    base_url: "http://127.0.0.1:{port}/v1"
    status_page: {{url: "{page}", interval: 1s, timeout: 1s}}
models:
  acme/large: {{endpoints: [{{provider: one, model: large}}]}}
self_check: {{targets: ["tcp://127.0.0.1:{target}"], interval: 1s, timeout: 1s}}
"""


async def test_where_no_target_answers_even_a_single_provider_is_not_blamed(daemon, http, free_port, models_server):
    text = ALONE.format(port=free_port(), target=free_port(), page=f"{models_server}/v1/models")
    running = await daemon(text)

    async def failed():
        async with http.get(f"{running.url}/v1/endpoint", params={"id": "acme/large@one"}) as answer:
            found = await answer.json()
        return found if found["outcomes"]["probe"].get("connect", 0) >= 5 else None

    found = await until(failed)
    assert (found["state"], found["failures"]) != ("ejected", [])
    assert found["state"] == "unverified"
    async with http.get(f"{running.url}/-/ready") as answer:
        assert (await answer.json())["self_suspect_reason"] == "the target of self_check does not answer (connect)"
    async with http.get(f"{running.url}/metrics") as answer:
        text = await answer.text()
    assert re.search(r'balancer_lookout_success\{lookout="self:tcp://127.0.0.1:\d+"\} 0\n', text)
    assert 'balancer_lookout_success{lookout="status_page:one"} 0\n' in text
    assert "balancer_self_suspect 1\n" in text
    assert not [each for each in running.events() if each["event"] == "endpoint.ejected"]
    (failed_probe,) = await running.told("probe.failed")  # of five
    named = [failed_probe[key] for key in ("endpoint", "model", "provider", "outcome")]
    assert named == ["acme/large@one", "acme/large", "one", "connect"]
    lookouts = {each["lookout"].partition(":")[0]: each for each in await running.told("lookout.failed", count=2)}
    assert (lookouts["status_page"]["provider"], "provider" in lookouts["self"]) == ("one", False)
    unread = lookouts["status_page"]["detail"]
    assert unread.startswith("the status page is in no known format")


async def test_what_probes_met_is_told_again_after_a_reload(daemon, http, free_port, models_server):
    running = await daemon(ALONE.format(port=free_port(), target=free_port(), page=f"{models_server}/v1/models"))
    assert len(await running.told("probe.failed")) == 1
    async with http.post(f"{running.url}/-/reload") as answer:
        assert answer.status == 200
    await running.told("probe.failed", count=2)


async def test_what_a_status_page_tells_is_told_lowers_and_ejects_nobody(daemon, http):
    words = {"indicator": "major"}

    async def page(_request):
        return web.json_response({"status": words, "components": [], "incidents": []})

    async def listing(_request):
        return web.json_response({"data": [{"id": "large"}]})

    app = web.Application()
    app.router.add_get("/api/v2/summary.json", page)
    app.router.add_get("/v1/models", listing)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        running = await daemon(ALONE.format(port=port, target=port, page=f"http://127.0.0.1:{port}"))

        async def state(wanted):
            async with http.get(f"{running.url}/v1/endpoint", params={"id": "acme/large@one"}) as answer:
                found = await answer.json()
            return found if found["state"] == wanted else None

        found = await until(lambda: state("degraded"))
        assert (found["eligible"], found["reason"]) == (True, "its status page says partial outage")
        async with http.get(f"{running.url}/v1/providers") as answer:
            (provider,) = (await answer.json())["providers"]
        assert (provider["announced"]["level"], provider["announced"]["detail"]) == ("partial_outage", "")
        async with http.get(f"{running.url}/metrics") as answer:
            text = await answer.text()
        assert 'balancer_provider_announced{provider="one",level="partial_outage"} 1\n' in text
        assert 'balancer_lookout_success{lookout="status_page:one"} 1\n' in text
        async with http.get(f"{running.url}/v1/config") as answer:
            lookouts = (await answer.json())["lookouts"]
        assert [each["id"] for each in lookouts] == ["status_page:one", f"self:tcp://127.0.0.1:{port}"]
        words["indicator"] = "none"
        await until(lambda: state("healthy"))
        async with http.get(f"{running.url}/v1/providers") as answer:
            (provider,) = (await answer.json())["providers"]
        assert provider["announced"] is None
        told = await running.told("provider.announced", count=2)
        assert [(each["provider"], each["reason"]) for each in told] == [
            ("one", "its status page says partial outage"),
            ("one", "its status page tells of no trouble any more"),
        ]
        assert not [each for each in running.events() if each["event"] == "endpoint.ejected"]
    finally:
        await runner.cleanup()
