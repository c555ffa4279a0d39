"""The Dockerfile and the Kubernetes example as text: no engine is at hand, but what they name must be ours."""

import asyncio
import inspect
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml

from balancer.cli import VERBS, run
from balancer.config import Config, load_config
from balancer.config.units import is_wide
from balancer.daemon.control import NAME
from balancer.http.openapi import document

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()

USER = 10001
CONFIG = "/etc/balancer/balancer.yaml"
STATE = "/var/lib/balancer"
RUNTIME = "/run/balancer"
CREDENTIALS = "/run/credentials/balancer"
PORT = 8790

READY_MAX = 20.0  # s; a loaded machine with two cores starts Python in two

OPERATOR_S = {"namespace", "service", "pod", "container", "job", "instance", "endpoint"}
"""Labels that the Prometheus operator gives the target of a ServiceMonitor, before its `relabelings`."""

CHECKED = """
providers: {p: {base_url: "http://127.0.0.1:9/v1"}}
models: {a/m: {endpoints: [{provider: p, model: m}]}}
probe: {kind: none}
"""


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its argument on one line."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines()]


def said(name: str) -> list[str]:
    """The arguments of an instruction in the last stage."""
    all_ = instructions()
    last = max(place for place, (word, _) in enumerate(all_) if word == "FROM")
    return [argument for word, argument in all_[last:] if word == name]


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """The objects of the example, by kind."""
    found = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text()))
    assert [each["kind"] for each in found] == ["ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"]
    return {each["kind"]: each for each in found}


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    [found] = pod["containers"]
    return found


@pytest.fixture
def embedded(objects: dict[str, dict[str, Any]], tmp_path: Path) -> Config:
    """The ConfigMap's configuration as the daemon would read it, with every file of the Secret in place."""
    text = objects["ConfigMap"]["data"]["balancer.yaml"]
    (tmp_path / "balancer.yaml").write_text(text)
    for name in re.findall(r"\{credential: ([\w-]+)\}", text):
        (tmp_path / name).write_text(f"secret-of-{name}\n")
    return load_config(tmp_path / "balancer.yaml", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


# ---- the image ---------------------------------------------------------------------------------------


def test_the_image_is_built_in_two_stages_of_one_tag() -> None:
    stages = [argument for word, argument in instructions() if word == "FROM"]
    assert stages == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    [(_, tag)] = [each for each in instructions() if each[0] == "ARG"]
    assert re.fullmatch(r"PYTHON=3\.\d+-slim-\w+", tag)


def test_what_is_copied_is_there_and_let_through() -> None:
    sources = [
        source
        for word, argument in instructions()
        if word == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    ]
    let_through = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"\n!{source}\n" in let_through, source
    assert "\n*\n" in let_through


def test_the_image_runs_the_daemon_as_nobody_in_exec_form() -> None:
    assert said("USER") == [f"{USER}:{USER}"]
    assert said("ENTRYPOINT") == ['["balancer"]']
    assert said("CMD") == [f'["run", "--config", "{CONFIG}"]']
    assert "run" in VERBS
    assert '"--config"' in inspect.getsource(run)
    assert said("STOPSIGNAL") == ["SIGTERM"]
    for word in ("RUN", "ENTRYPOINT", "CMD", "VOLUME"):
        assert all(argument.startswith("[") for argument in said(word)), word


def test_the_image_has_a_place_for_the_state_and_the_daemon_s_port() -> None:
    assert said("VOLUME") == [f'["{STATE}", "{RUNTIME}"]']
    assert said("EXPOSE") == [str(PORT)]
    given = dict(re.findall(r"(\w+)=(\S+)", said("ENV")[0]))
    assert given["STATE_DIRECTORY"] == STATE
    assert given["CREDENTIALS_DIRECTORY"] == CREDENTIALS
    assert given["RUNTIME_DIRECTORY"] == RUNTIME
    assert given["BALANCER_URL"] == f"unix:{RUNTIME}/{NAME}"
    assert any(f'"{USER}", "-g", "{USER}", "{STATE}", "{RUNTIME}"' in argument for argument in said("RUN"))


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[], Awaitable[int]]:
    """Run the image's health check on the folder of this test; its exit status."""
    command = json.loads(said("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]

    async def check() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command[1:],
            env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    return check


@pytest.fixture
def encryption(tmp_path: Path) -> dict[str, str]:
    """The line `tls` of three configurations."""
    authority = trustme.CA()
    made = authority.issue_cert("balancer.test")  # and no address that a container knows of itself
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    both, clients = f"cert_file: {tmp_path}/both.pem", f"client_ca_file: {tmp_path}/ca.pem"
    return {"none": "", "tls": f"tls: {{{both}}}", "client certificates": f"tls: {{{both}, {clients}}}"}


@pytest.mark.parametrize("kind", ["none", "tls", "client certificates"])
async def test_the_image_s_health_check_tells_a_daemon_that_lives_from_one_that_hangs_and_from_none(
    kind: str,
    checked: Callable[[], Awaitable[int]],
    encryption: dict[str, str],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    token = "{name: a, scopes: [read], token: {env: TOKEN_A}}"
    text = f"listen: 127.0.0.1:{free_port()}\nstate_dir: none\nauth: {{tokens: [{token}]}}\n"
    path = tmp_path / "balancer.yaml"
    path.write_text(f"{text}{encryption[kind]}\nlog: {{format: json}}\n{CHECKED}")
    environ = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "TOKEN_A": "a-token-of-this-test"}
    assert await checked() == 1
    with (tmp_path / "log").open("wb") as log:
        argv = (sys.executable, "-m", "balancer", "run", "-c", str(path))
        running = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=environ, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(READY_MAX):
            while await checked() == 1:
                assert running.returncode is None, (tmp_path / "log").read_text()
        running.send_signal(signal.SIGSTOP)
        assert await checked() == 1
    finally:
        running.send_signal(signal.SIGCONT)
        running.terminate()
        status = await running.wait()
    assert status == 0
    assert await checked() == 1
    assert not re.search(r"handshake|refused", (tmp_path / "log").read_text())


async def test_the_image_s_health_check_believes_a_daemon_that_says_it_is_unwell(
    checked: Callable[[], Awaitable[int]], tmp_path: Path
) -> None:
    status = "200 OK"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        assert asked.startswith(b"GET /-/healthy HTTP/1.1\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / NAME):
        assert await checked() == 0
        status = "503 Service Unavailable"
        assert await checked() == 1


def test_nothing_secret_is_built_in() -> None:
    assert not re.search(r"(?i)(api_key|token|password)\s*=", DOCKERFILE)


# ---- Kubernetes --------------------------------------------------------------------------------------


def test_the_embedded_configuration_is_right_and_every_key_is_a_file(embedded: Config) -> None:
    assert all(endpoint.misconfigured is None for endpoint in embedded.endpoints.values())
    [listen] = embedded.listen
    assert is_wide(listen)
    assert listen.port == PORT
    assert not embedded.insecure
    assert {scope for token in embedded.tokens for scope in token.scopes} == {"read", "report", "admin"}


def test_the_secrets_that_are_made_are_those_that_are_read(objects: dict[str, dict[str, Any]]) -> None:
    story = (ROOT / "deploy" / "kubernetes.yaml").read_text().partition("---")[0]
    made = set(re.findall(r"--from-(?:file|literal)=([\w-]+)=", story))
    assert made == set(re.findall(r"\{credential: ([\w-]+)\}", objects["ConfigMap"]["data"]["balancer.yaml"]))


def test_probes_ask_for_routes_that_need_no_token(container: dict[str, Any]) -> None:
    routes = yaml.safe_load(document())["paths"]
    [port] = container["ports"]
    asked = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: each["path"] for kind, each in asked.items()} == {
        "startupProbe": "/-/healthy",
        "livenessProbe": "/-/healthy",
        "readinessProbe": "/-/ready",
    }
    for each in asked.values():
        assert routes[each["path"]]["get"].get("security", []) == [], each
        assert each["port"] == port["name"]
    assert port["containerPort"] == PORT


def test_there_is_never_a_second_one_on_the_same_state(objects: dict[str, dict[str, Any]]) -> None:
    spec = objects["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_the_pod_is_shut_in_as_far_as_it_goes(pod: dict[str, Any], container: dict[str, Any]) -> None:
    shared, own = pod["securityContext"], container["securityContext"]
    assert (shared["runAsNonRoot"], shared["runAsUser"], shared["fsGroup"]) == (True, USER, USER)
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"], own["privileged"]) == (
        False,
        True,
        False,
    )
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert "memory" in container["resources"]["limits"]


def test_what_the_daemon_reads_and_writes_is_mounted(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert {each["name"] for each in mounts.values()} == volumes.keys()
    assert not any("subPath" in each for each in mounts.values())
    folder, _, file = container["args"][-1].rpartition("/")
    assert f"{folder}/{file}" == CONFIG
    assert volumes[mounts[folder]["name"]]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert file in objects["ConfigMap"]["data"]
    given = environment(container)
    secret = volumes[mounts[given["CREDENTIALS_DIRECTORY"]]["name"]]["secret"]
    assert secret["defaultMode"] == 0o440
    claim = volumes[mounts[given["STATE_DIRECTORY"]]["name"]]["persistentVolumeClaim"]["claimName"]
    assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]
    written = {path for path, each in mounts.items() if not each.get("readOnly")}
    assert written == {given["STATE_DIRECTORY"], given["RUNTIME_DIRECTORY"]} == {STATE, RUNTIME}
    assert "emptyDir" in volumes[mounts[RUNTIME]["name"]]  # a volume that is kept may not know sockets


def test_the_service_finds_the_pod(objects: dict[str, dict[str, Any]], container: dict[str, Any]) -> None:
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    service = objects["Service"]["spec"]
    assert service["selector"] == labels == objects["Deployment"]["spec"]["selector"]["matchLabels"]
    assert service["ports"] == [{"name": "http", "port": PORT, "targetPort": container["ports"][0]["name"]}]


def test_the_service_monitor_scrapes_that_service_with_a_token_that_may_read(
    objects: dict[str, dict[str, Any]], embedded: Config
) -> None:
    monitor = yaml.safe_load((ROOT / "deploy" / "kubernetes-servicemonitor.yaml").read_text())["spec"]
    assert monitor["selector"]["matchLabels"] == objects["Service"]["metadata"]["labels"]
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] == objects["Service"]["spec"]["ports"][0]["name"]
    assert endpoint["path"] == "/metrics"
    name = endpoint["authorization"]["credentials"]["key"].removeprefix("token-")
    assert [list(token.scopes) for token in embedded.tokens if token.name == name] == [["read"]]


async def test_no_label_of_the_service_monitor_s_target_takes_the_place_of_ours(
    daemon: Callable[..., Awaitable[Any]],
) -> None:
    monitor = yaml.safe_load((ROOT / "deploy" / "kubernetes-servicemonitor.yaml").read_text())["spec"]
    running = await daemon(CHECKED)
    async with aiohttp.ClientSession() as http, http.get(f"{running.url}/metrics") as answer:
        ours = set(re.findall(r'[{,](\w+)="', await answer.text()))
    assert {"endpoint", "model", "provider"} <= ours
    [scrape] = monitor["endpoints"]
    target = set(OPERATOR_S)
    for step in scrape["relabelings"]:
        assert step["action"] == "labeldrop"
        target = {label for label in target if not re.fullmatch(step["regex"], label)}
    assert target & ours == set()
    assert target >= {"job", "instance"}  # by these the alerts tell daemons apart
    assert not scrape.get("honorLabels", False)
