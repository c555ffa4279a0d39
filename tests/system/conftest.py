"""A real Prometheus."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

SEEN_MAX = 20.0  # s until a scrape interval of 1 s must have shown a fact
POLL = 0.1  # s between two questions


@dataclass(frozen=True)
class Prometheus:
    """A running server; `ask` speaks its API."""

    url: str
    session: aiohttp.ClientSession

    async def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of one answer of its HTTP API."""
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", body
        return body["data"]

    async def values(self, query: str, label: str = "job") -> dict[str, float]:
        """The instant value of each series of a query, by one of its labels."""
        result = (await self.ask("query", query=query))["result"]
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in result}

    async def shows(self, query: str, expected: Mapping[str, float], label: str = "job") -> None:
        """Wait until a query is answered by exactly these values."""
        found: dict[str, float] = {}
        try:
            async with asyncio.timeout(SEEN_MAX):
                while True:
                    found = await self.values(query, label)
                    if found == expected:
                        return
                    await asyncio.sleep(POLL)
        except TimeoutError:
            targets = [
                (each["scrapePool"], each["health"], each["lastError"])
                for each in (await self.ask("targets"))["activeTargets"]
            ]
            pytest.fail(f"{query} is {found}, not {expected}; targets: {targets}")


@pytest.fixture
async def http() -> Any:
    """A client session."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def prometheus(
    program: Callable[..., Awaitable[Any]],
    needs: Callable[[str], str],
    free_port: Callable[[], int],
    http: aiohttp.ClientSession,
    tmp_path: Path,
) -> Callable[[Mapping[str, str]], Awaitable[Prometheus]]:
    """Start Prometheus on targets by job, with its data in the test's folder: `await prometheus({job: url})`."""
    binary = needs("prometheus")

    async def start(targets: Mapping[str, str]) -> Prometheus:
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [urlsplit(url).netloc]}]}
            for job, url in targets.items()
        ]
        path = tmp_path / "prometheus.yaml"  # JSON is YAML
        path.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
        port = free_port()
        running = await program(
            "prometheus",
            f"http://127.0.0.1:{port}",
            binary,
            f"--config.file={path}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        return Prometheus(running.url, http)

    return start
