"""Reloads of a whole daemon from real files: all or nothing, and what was replaced beside the YAML is taken up."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from balancer.config import Config, ConfigError, load_config
from balancer.daemon import Daemon
from balancer.service.clock import monotonic

ROOT = Path(__file__).parents[2]
OWN = ROOT / "tests" / "probing" / "self_signed.pem"  # the certificate that the server here shows
OTHER = ROOT / "tests" / "probing" / "named.pem"

MAIN = """\
listen: 127.0.0.1:0
state_dir: none
auth: {tokens: [{name: ops, scopes: [admin], token: {file: keys/ops}}]}
providers:
  one: {base_url: "URL/one", credential: {file: keys/one}}
  two: {base_url: "URL/two", credential: {file: keys/two}}
probe: {interval: 1h, floor: 1h}
"""
MODEL = "models: {acme/NAME: {endpoints: [{provider: one, model: NAME}, {provider: two, model: NAME}]}}\n"
REPORTED = ("acme/a@one", "acme/a@two")


class Files:
    """A configuration of several files, with its keys."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.main = folder / "balancer.yaml"
        self.url = url
        self.put("balancer.yaml", MAIN)
        self.put("balancer.d/a.yaml", MODEL.replace("NAME", "a"))
        for key in ("one", "two", "ops"):
            self.put(f"keys/{key}", f"{key}-first\n" if key != "ops" else "ops-first-of-a-test\n")

    def put(self, name: str, text: str) -> None:
        """Replace a file as a deployment does, open to nobody else however the tests are run."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(text.replace("URL", self.url))
        fresh.chmod(0o644)
        fresh.rename(path)

    def read(self) -> Config:
        return load_config(self.main, environ={})


class Running:
    """A daemon on those files, and the HTTP client of its operator."""

    def __init__(self, daemon: Daemon, http: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.http = http
        self.token = "ops-first-of-a-test"

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        url = f"{self.daemon.addresses[0]}{path}"
        headers = {"Authorization": f"Bearer {self.token}"}
        method = "GET" if body is None else "POST"
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, await answer.json() if answer.content_type == "application/json" else text

    async def probe(self, endpoint: str) -> str:
        status, verdict = await self.ask("/v1/probe", {"endpoint": endpoint})
        assert status == 200, verdict
        return str(verdict["outcome"])

    async def metrics(self) -> dict[str, str | None]:
        """Every series, with its value where that is a count or a state and not a measure that time changes."""
        _, text = await self.ask("/metrics")
        ours = [line.rpartition(" ") for line in text.splitlines() if re.match("balancer_(?!config_|event)", line)]
        lasting = r"\w+(_total|_count|_state|_info)\b"
        return {series: value if re.match(lasting, series) else None for series, _, value in ours}

    def picture(self) -> object:
        """What the table holds of things that do not change by themselves."""
        view = self.daemon.balancer.view(now=monotonic())
        return view.generation, [(each.id, each.endpoint, each.state, each.outcomes) for each in view.endpoints]


@asynccontextmanager
async def provider(seen: list[tuple[str, str]], tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address of a server that notes with which key each list of its models was asked for."""

    async def listing(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization", "").removeprefix("Bearer ")))
        return web.json_response({"data": [{"id": "a"}, {"id": "b"}]})

    app = web.Application()
    app.router.add_get("/{door}/models", listing)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    yield f"http{'' if tls is None else 's'}://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def server(seen: list[tuple[str, str]]) -> AsyncIterator[str]:
    async with provider(seen) as url:
        yield url


@pytest.fixture
def files(tmp_path: Path, server: str) -> Files:
    return Files(tmp_path, server)


@asynccontextmanager
async def running(read: Callable[[], Config]) -> AsyncIterator[Running]:
    daemon = Daemon(read(), seed=1, reload=read)
    async with daemon.running(), aiohttp.ClientSession() as http:
        yield Running(daemon, http)


BREAK: dict[str, Callable[[Files], object]] = {
    "a text that is no YAML": lambda files: files.put("balancer.d/c.yaml", "models: {"),
    "a key that there is not": lambda files: files.put("balancer.d/c.yaml", "modls: {}"),
    "a rule between two files": lambda files: files.put("balancer.d/c.yaml", MODEL.replace("NAME", "a")),
    "an endpoint of a provider that there is not": lambda files: files.put(
        "balancer.d/c.yaml", MODEL.replace("NAME", "c").replace("one", "none")
    ),
    "a link that leads nowhere": lambda files: (files.folder / "balancer.d" / "c.yaml").symlink_to("nowhere"),
    "a token that is gone": lambda files: (files.folder / "keys" / "ops").unlink(),
    "no main file": lambda files: files.main.unlink(),
}


def change(files: Files) -> None:
    """Change every file: another door, another upstream model, another model and another key."""
    files.put("balancer.yaml", MAIN.replace("URL/two", "URL/three") + "routing: {fallbacks: 1}\n")
    files.put("balancer.d/a.yaml", MODEL.replace("NAME", "a").replace("model: a", "model: b, weight: 2"))
    files.put("balancer.d/b.yaml", MODEL.replace("NAME", "b"))
    files.put("keys/one", "one-second\n")


async def test_what_is_good_in_every_file_is_taken_at_once(files: Files, seen: list[tuple[str, str]]) -> None:
    async with running(files.read) as us:
        change(files)
        status, answer = await us.ask("/-/reload", {})
        assert (status, answer["config_generation"]) == (200, 2)
        assert us.daemon.config.models.keys() == {"acme/a", "acme/b"}
        assert us.daemon.config.routing.fallbacks == 1
        seen.clear()
        for endpoint in REPORTED:
            assert await us.probe(endpoint) == "success"
        assert seen == [("/one/models", "one-second"), ("/three/models", "two-first")]


@pytest.mark.parametrize("how", BREAK)
async def test_one_problem_in_any_file_and_nothing_of_the_others_is_taken(
    how: str, files: Files, seen: list[tuple[str, str]]
) -> None:
    async with running(files.read) as us:
        for endpoint in REPORTED:
            assert await us.probe(endpoint) == "success"
            report = {"endpoint": endpoint, "status": 200, "latency": 1.0}
            assert (await us.ask("/v1/reports", report))[0] == 200
        await us.ask("/metrics")  # counts of requests have all their series from here on
        before = us.daemon.config, us.picture(), await us.metrics()
        change(files)
        BREAK[how](files)
        with pytest.raises(ConfigError):
            await us.daemon.reload()
        status, refusal = await us.ask("/-/reload", {})
        assert status == 422
        assert len(refusal["error"]["metadata"]["problems"]) >= 1
        assert us.daemon.config is before[0]
        assert us.picture() == before[1]
        assert await us.metrics() == before[2]
        assert "balancer_config_last_reload_successful 0" in (await us.ask("/metrics"))[1]
        seen.clear()
        for endpoint in REPORTED:
            assert await us.probe(endpoint) == "success"
        assert seen == [("/one/models", "one-first"), ("/two/models", "two-first")]


async def test_a_rotated_key_is_used_after_a_reload_of_the_same_yaml_and_only_its_endpoint_begins_anew(
    files: Files, seen: list[tuple[str, str]]
) -> None:
    async with running(files.read) as us:
        for endpoint in REPORTED:
            assert await us.probe(endpoint) == "success"
        assert seen == [("/one/models", "one-first"), ("/two/models", "two-first")]
        files.put("keys/one", "one-second\n")
        assert await us.probe("acme/a@one") == "success"
        assert seen.pop() == ("/one/models", "one-first")
        assert (await us.ask("/-/reload", {}))[0] == 200
        view = us.daemon.balancer.view(now=monotonic())
        known = {each.id: sum(each.outcomes.values()) for each in view.endpoints}
        assert known == {"acme/a@one": 0, "acme/a@two": 1}
        seen.clear()
        for endpoint in REPORTED:
            assert await us.probe(endpoint) == "success"
        assert seen == [("/one/models", "one-second"), ("/two/models", "two-first")]


async def test_a_key_that_goes_and_comes_back_takes_its_endpoint_out_and_in_again(files: Files) -> None:
    async with running(files.read) as us:
        (files.folder / "keys" / "one").unlink()
        status, told = await us.ask("/-/reload", {})
        assert status == 200
        assert told["changes"]["misconfigured"] == [
            "endpoints.acme/a@one: credential file keys/one: No such file or directory"
        ]
        _, endpoint = await us.ask("/v1/endpoint?id=acme/a@one")
        assert endpoint["state"] == "misconfigured"
        assert endpoint["reason"] == "credential file keys/one: No such file or directory"
        assert (await us.ask("/v1/probe", {"endpoint": "acme/a@one"}))[0] == 409
        files.put("keys/one", "one-second\n")
        _, told = await us.ask("/-/reload", {})
        assert told["changes"] == {"changed": ["endpoints.acme/a@one: credential"]}
        assert await us.probe("acme/a@one") == "success"


async def test_a_rotated_token_lets_the_new_one_in_and_the_old_one_no_more(files: Files) -> None:
    async with running(files.read) as us:
        files.put("keys/ops", "ops-second-of-a-test\n")
        assert (await us.ask("/v1/config"))[0] == 200
        assert (await us.ask("/-/reload", {}))[0] == 200
        assert (await us.ask("/v1/config"))[0] == 401
        us.token = "ops-second-of-a-test"
        assert (await us.ask("/v1/config"))[0] == 200


async def test_a_model_moves_to_another_file_and_nothing_happens_to_it(files: Files) -> None:
    async with running(files.read) as us:
        assert await us.probe("acme/a@one") == "success"
        before = us.daemon.config
        files.put("balancer.d/team.yaml", MODEL.replace("NAME", "a"))
        (files.folder / "balancer.d" / "a.yaml").unlink()
        assert (await us.ask("/-/reload", {}))[0] == 200
        assert us.daemon.config == before
        assert us.daemon.config.files == (str(files.main), str(files.folder / "balancer.d" / "team.yaml"))
        view = us.daemon.balancer.endpoint("acme/a@one", now=monotonic())
        assert sum(view.outcomes.values()) == 1


@pytest.mark.parametrize("how", [shutil.copyfile, shutil.copy2, os.replace])
async def test_replaced_authorities_are_believed_without_any_change_of_the_yaml(
    how: Callable[[Path, Path], object], tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(OWN)
    new, believed = tmp_path / "new.pem", tmp_path / "ca.pem"
    for source, path in ((OWN, new), (OTHER, believed)):
        shutil.copy2(source, path)
        os.utime(path, ns=(1, 1))  # as where all files of an image bear one time
    async with provider([], context) as url:
        files = Files(tmp_path, url)
        files.put("balancer.yaml", MAIN.replace("probe: {", "probe: {ca_file: ca.pem, "))
        async with running(files.read) as us:
            assert await us.probe("acme/a@one") == "tls"
            how(new, believed)
            assert (await us.ask("/-/reload", {}))[0] == 200
            assert await us.probe("acme/a@one") == "success"


async def test_a_rotated_certificate_is_told_by_the_reload_that_takes_it_up_and_by_no_other(files: Files) -> None:
    def issue() -> None:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
            str(files.folder / "tls.pem")
        )

    issue()
    files.put("balancer.yaml", MAIN + f"tls: {{cert_file: {files.folder}/tls.pem}}\n")
    daemon = Daemon(files.read(), seed=1, reload=files.read)
    async with daemon.running():
        assert (await daemon.reload()).changes == {}
        for _ in range(2):
            issue()
            assert (await daemon.reload()).changes == {"changed": ["tls: certificate"]}
            assert (await daemon.reload()).changes == {}
        files.put("balancer.yaml", MAIN)
        assert (await daemon.reload()).changes == {"changed": ["tls"]}
        issue()
        files.put("balancer.yaml", MAIN + f"tls: {{cert_file: {files.folder}/tls.pem}}\n")
        assert (await daemon.reload()).changes == {"changed": ["tls: certificate"]}
