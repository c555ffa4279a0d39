"""The whole demo: real mocks, the real daemon, real traffic, in one process and as one."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import sys
from typing import Any

import aiohttp
import pytest

from balancer.config import parse_config
from balancer.config.settings import ProbeSettings
from balancer.core.model import HealthPolicy, Routing
from balancer.demo import run_demo
from balancer.demo.mock import Mock
from balancer.demo.run import KEYS, MODEL, UPSTREAM, config_text


async def run(duration: float, *, as_json: bool, port: int | None = 0) -> tuple[int, str]:
    out = io.StringIO()
    status = await run_demo(port=port, duration=duration, seed=1, as_json=as_json, out=out)
    return status, out.getvalue()


def taken_port() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made


async def test_only_the_probe_differs_from_the_defaults() -> None:
    mocks = [Mock(key, model=UPSTREAM, seed=1) for key in KEYS]
    for mock in mocks:
        await mock.start()
    try:
        config = parse_config(config_text(mocks, port=0), source="demo", environ={})
    finally:
        for mock in mocks:
            await mock.stop()
    assert config.health == HealthPolicy()
    assert config.routing == Routing()
    assert [config.endpoints[f"{MODEL}@{key}"].base_url for key in KEYS] != []
    prices = [config.endpoints[f"{MODEL}@{key}"].pricing.prompt for key in KEYS]
    assert prices.index(min(price for price in prices if price is not None)) == 0
    (probe,) = set(map(repr, config.probes.values()))
    assert probe == repr(ProbeSettings(kind="completion", interval=2.0, timeout=1.0))


async def test_a_short_run_ends_with_one_object_whose_numbers_agree() -> None:
    status, text = await run(20.0, as_json=True)
    assert status == 0
    assert text.count("\n") == 1
    summary: dict[str, Any] = json.loads(text)
    assert list(summary) == [
        "requests",
        "client_errors",
        "round_robin_client_errors",
        "first_try_errors",
        "round_robin_first_try_errors",
        "duration",
        "seed",
        "providers",
    ]
    assert summary["requests"] == 400
    assert summary["client_errors"] < summary["round_robin_client_errors"]
    assert summary["first_try_errors"] < summary["round_robin_first_try_errors"]
    assert [provider["id"] for provider in summary["providers"]] == list(KEYS)
    assert sum(provider["share"] for provider in summary["providers"]) == pytest.approx(1.0, abs=0.001)
    faults = [fault for provider in summary["providers"] for fault in provider["faults"]]
    assert len(faults) == 7
    assert all(fault["end"] > fault["start"] for fault in faults)
    (refusal,) = [fault for fault in faults if fault["kind"] == "refuse"]
    assert refusal["detected_after"] <= 2.0


async def test_what_is_shortened_is_printed_and_the_summary_follows_the_lines() -> None:
    async def interrupt() -> None:
        await asyncio.sleep(3.0)  # a run takes 20 s; this one is ended early, by what Ctrl-C sends
        signal.raise_signal(signal.SIGINT)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(interrupt(), name="interrupt")
        running = tasks.create_task(run(20.0, as_json=False), name="demo")
    status, text = running.result()
    assert status == 0
    assert "a probe every 2 s (default 30 s), given up after 1 s (10 s)" in text
    assert "a completion where there is no traffic (default: models); health settings: the defaults" in text
    assert "API: http://127.0.0.1:" in text
    assert "requests each way in 3 s, seed 1" in text
    assert "ELIGIBLE AGAIN" in text


async def test_a_port_in_use_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as taken:
        port = taken.getsockname()[1]
        status, text = await run(20.0, as_json=False, port=port)
    assert (status, text) == (1, "")
    assert capsys.readouterr().err == (
        f"balancer demo: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "without --port it takes a free one\n"
    )


async def test_a_duration_that_is_too_short_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="a demo of 5 s is too short; use 20s or more"):
        await run(5.0, as_json=True)


async def test_the_command_serves_its_api_while_it_runs_and_ends_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "balancer", "demo", "--for", "30s", "--port", "0", "--seed", "3"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    address = ""
    async with asyncio.timeout(20):
        while not address:
            line = (await process.stdout.readline()).decode()
            address = line.removeprefix("API: ").strip() if line.startswith("API: ") else ""
    async with aiohttp.ClientSession() as client, client.get(f"{address}/v1/endpoints") as response:
        assert response.status == 200
        assert len((await response.json())["endpoints"]) == 6
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode == 0
    assert err == b""
    assert b"requests each way" in out
