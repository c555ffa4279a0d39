"""The operator's own door, as a process with a runtime directory has it."""

from pathlib import Path

import aiohttp
import pytest

from balancer.daemon.control import runtime_directory

CONFIG = """
auth: {tokens: [{name: proxy, scopes: [read, report], token: {env: PROXY_TOKEN}}]}
providers: {near: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/small: {endpoints: [{provider: near, model: small}]}}
probe: {kind: none}
"""


@pytest.fixture
async def door(daemon, tmp_path):
    """A daemon that asks everybody for a token, its folder, and a client of its own door."""
    folder = tmp_path / "run"
    folder.mkdir()
    running = await daemon(CONFIG, environ={"PROXY_TOKEN": "secret-of-the-proxy", "RUNTIME_DIRECTORY": str(folder)})
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(folder / "control.sock"))) as client:
        yield running, folder, client


async def test_only_the_owner_may_open_it_and_it_is_gone_with_the_daemon(door):
    running, folder, _ = door
    socket = folder / "control.sock"
    assert socket.is_socket()
    assert socket.stat().st_mode & 0o777 == 0o600
    assert await running.stop() == 0
    assert list(folder.iterdir()) == []


async def test_it_asks_for_no_token_and_every_other_door_does(door):
    running, _, client = door
    async with client.post("http://balancer/-/reload", json={}) as answer:
        assert (answer.status, (await answer.json())["config_generation"]) == (200, 2)
    async with client.get("http://balancer/v1/models") as answer:
        assert answer.status == 200
    async with aiohttp.ClientSession() as other, other.post(f"{running.url}/-/reload", json={}) as answer:
        assert answer.status == 401


async def test_it_shows_the_configuration_that_is_in_force(door):
    _, _, client = door
    async with client.get("http://balancer/v1/config") as answer:
        assert [each["name"] for each in (await answer.json())["tokens"]] == ["proxy"]


async def test_what_is_reported_there_counts_too(door):
    running, _, client = door
    report = {"endpoint": "acme/small@near", "status": 200, "latency": 1.0}
    async with client.post("http://balancer/v1/reports", json=report) as answer:
        assert (answer.status, (await answer.json())["recorded"]) == (200, 1)
    async with client.get("http://balancer/metrics") as answer:
        said = await answer.text()
    assert 'balancer_outcomes_total{endpoint="acme/small@near",source="report",outcome="success"} 1' in said
    assert "Traceback" not in running.log()


@pytest.mark.parametrize(
    ("found", "meant"),
    [("/run/balancer", Path("/run/balancer")), ("/run/a:/run/b", Path("/run/a")), ("", None), ("run", None)],
)
def test_the_first_whole_path_is_the_folder(found, meant):
    assert runtime_directory({"RUNTIME_DIRECTORY": found}) == meant
    assert runtime_directory({}) is None
