"""A real Prometheus with the shipped rules: "provider down" fires for one that dies, and resolves when it is back.

What is loaded are the shipped files with every duration divided by `FASTER`, in the one mechanical way of `faster`;
nothing else of them is changed but the targets and the path of the token's file.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml

from balancer.demo.mock import Mock

DEPLOY = Path(__file__).parents[2] / "deploy"

FASTER = 30  # two minutes become four seconds, a scrape every 15 s one every half
POLL = 0.1  # s between two looks
SEEN_MAX = 25.0  # s until an alert fires or is resolved; it takes six on a machine that does nothing else
PACE = 0.05  # s between two requests of the traffic

TOKEN = "of-a-test-that-nobody-else-knows"
MODEL = "demo/small"

# The one that dies is the cheaper one: it has the traffic. Probes are quick enough to notice by themselves.
CONFIG = """
auth: {{tokens: [{{name: test, scopes: [read, report], token: {{env: TEST_TOKEN}}}}]}}
providers:
  mortal: {{base_url: "{mortal}"}}
  steady: {{base_url: "{steady}"}}
models:
  demo/small:
    endpoints:
      - {{provider: mortal, model: small, pricing: {{prompt: 1, completion: 1}}}}
      - {{provider: steady, model: small, pricing: {{prompt: 3, completion: 3}}}}
health: {{enforce: {enforce}, hold: 1s, hold_max: 2s, ramp_requests: 3}}
probe: {{interval: 1s, suspect_interval: 1s, timeout: 1s}}
"""

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
TIMES = {"for", "interval", "scrape_interval", "scrape_timeout", "evaluation_interval"}
"""Keys of Prometheus' files that hold a duration."""


def shorter(text: str) -> str:
    """Divide every duration of a text."""
    return re.sub(r"(\d+)(ms|s|m|h|d)\b", lambda found: f"{int(found[1]) * UNITS[found[2]] // FASTER}ms", text)


def faster(node: Any) -> Any:
    """Divide the durations under the keys of `TIMES`, and those in brackets of each expression."""
    if isinstance(node, list):
        return [faster(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: shorter(below)
        if key in TIMES
        else re.sub(r"\[[^]]*\]", lambda found: shorter(found[0]), below)
        if key == "expr"
        else faster(below)
        for key, below in node.items()
    }


def rewritten(folder: Path, daemons: Mapping[str, str]) -> Path:
    """Write the shipped files anew, quicker, for these targets by instance; return the configuration."""
    for name in ("rules.yml", "alerts.yml"):
        rules = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
        (folder / name).write_text(json.dumps(faster(rules)))  # JSON is YAML
    (folder / "balancer.token").write_text(f"{TOKEN}\n")
    text = (DEPLOY / "prometheus" / "scrape.yml").read_text()
    text = text.replace("# authorization:", "authorization:").replace("/etc/prometheus/", f"{folder}/")
    shipped = faster(yaml.safe_load(text))
    [job] = shipped["scrape_configs"]
    job["scrape_timeout"] = shipped["global"][
        "scrape_interval"
    ]  # what a sixth of a second would be is no machine's fault
    job["static_configs"] = [
        {"targets": [urlsplit(url).netloc], "labels": {"instance": name}} for name, url in daemons.items()
    ]
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(shipped))
    return path


class Watched:
    """One daemon, and a proxy of it that follows its decisions and reports what became of them."""

    def __init__(self, url: str, http: aiohttp.ClientSession, mortal: Mock) -> None:
        self._url = url
        self._http = http
        self._mortal = mortal

    async def _ask(self) -> None:
        question = {"model": MODEL, "prompt_tokens": "100", "max_tokens": "10"}
        async with self._http.get(f"{self._url}/v1/best-provider", params=question) as answer:
            decision = await answer.json()
            assert answer.status == 200, decision
        dead = decision["selected"]["provider"] == "mortal" and self._mortal.condition != "well"
        fate = {"error": "connect"} if dead else {"status": 200, "latency": 0.2, "ttft": 0.1}
        report = {"endpoint": decision["selected"]["id"], "decision": decision["id"], **fate}
        async with self._http.post(f"{self._url}/v1/reports", json=report) as answer:
            assert answer.status == 200, await answer.text()

    async def traffic(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(PACE)


class Alerting:
    """The API of a Prometheus that evaluates alerts."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def _data(self, path: str, **parameters: str) -> Any:
        async with self._http.get(f"{self._url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", (parameters, body)
        return body["data"]

    async def query(self, expression: str) -> list[Any]:
        found: list[Any] = (await self._data("query", query=expression))["result"]
        return found

    async def firing(self, name: str) -> dict[tuple[str, str], Mapping[str, str]]:
        """The alerts of a name that fire, by instance and provider, with their annotations."""
        return {
            (each["labels"]["instance"], each["labels"]["provider"]): each["annotations"]
            for each in (await self._data("alerts"))["alerts"]
            if each["labels"]["alertname"] == name and each["state"] == "firing"
        }

    async def until(self, name: str, expected: set[tuple[str, str]]) -> float:
        """Wait until exactly these fire; return how long it took."""
        began = time.monotonic()
        found: dict[tuple[str, str], Mapping[str, str]] = {}
        try:
            async with asyncio.timeout(SEEN_MAX):
                while (found := await self.firing(name)).keys() != expected:
                    await asyncio.sleep(POLL)
        except TimeoutError:
            told = await self.query("provider:balancer_endpoints_out_per_judged:ratio")
            targets = [
                (each["health"], each["lastError"]) for each in (await self._data("targets"))["activeTargets"]
            ]
            pytest.fail(f"{name} fires for {list(found)}, not {expected}; {told}; {targets}")
        return time.monotonic() - began


def panels() -> list[tuple[str, str]]:
    """Every expression of the dashboard with its panel's title, variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana" / "balancer.json").read_text())
    given = {"$__rate_interval": "10s", "$job": "balancer", "$instance": ".*", "$model": ".*"}
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in given.items():
                expression = expression.replace(variable, value)
            found.append((panel["title"], expression))
    return found


@pytest.mark.timeout(110)
async def test_provider_down_fires_for_one_that_dies_and_resolves_when_it_is_back(
    daemon: Callable[..., Awaitable[Any]],
    program: Callable[..., Awaitable[Any]],
    needs: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    binary = needs("prometheus")
    mortal, steady = Mock("mortal", model="small", seed=1), Mock("steady", model="small", seed=1)
    await mortal.start()
    await steady.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        places = {"mortal": mortal.base_url, "steady": steady.base_url}
        urls = {}
        for name, enforce in (("enforces", "true"), ("watches", "false")):
            text = CONFIG.format(**places, enforce=enforce)
            urls[name] = (await daemon(text, environ={"TEST_TOKEN": TOKEN})).url
        port = free_port()
        server = await program(
            "prometheus",
            f"http://127.0.0.1:{port}",
            binary,
            f"--config.file={rewritten(tmp_path, urls)}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        async with aiohttp.ClientSession() as plain, aiohttp.ClientSession(headers=headers) as http:
            alerting = Alerting(server.url, plain)
            async with asyncio.TaskGroup() as tasks:
                proxies = [
                    tasks.create_task(Watched(url, http, mortal).traffic(), name=f"traffic of {name}")
                    for name, url in urls.items()
                ]
                both = {("enforces", "mortal"), ("watches", "mortal")}
                assert await alerting.firing("BalancerProviderDown") == {}
                await mortal.become("refuse")
                await alerting.until("BalancerProviderDown", both)
                for (_, provider), words in (await alerting.firing("BalancerProviderDown")).items():
                    assert words["description"].startswith(
                        f"100% of the endpoints of {provider} that can be judged"
                    )
                    assert words["runbook_url"] == "deploy/prometheus/README.md#balancerproviderdown"
                await mortal.become("well")
                await alerting.until("BalancerProviderDown", set())
                for proxy in proxies:
                    proxy.cancel()
            await check_panels(alerting)
    finally:
        with suppress(OSError):
            await mortal.stop()
        await steady.stop()


async def check_panels(alerting: Alerting) -> None:
    """Every expression of the dashboard is answered, and the first ones show something."""
    answers = {title: await alerting.query(expression) for title, expression in panels()}
    for title in (
        "Daemons up",
        "State of each endpoint",
        "Decisions by result",
        "Ejections",
        "Who is chosen first",
    ):
        assert answers[title], title
    assert {each["metric"]["instance"] for each in answers["State of each endpoint"]} == {"enforces", "watches"}
