"""The daemon as a real process: what a stranger sees of starting, reloading, failing and stopping."""

import asyncio
import io
import json
import os
import re
import resource
import signal
import ssl
import sys
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from balancer import Request
from balancer.config import parse_config
from balancer.daemon import Daemon
from balancer.daemon.pulse import STALL, TICK
from balancer.http.openapi import document
from balancer.service.clock import monotonic, wall
from balancer.service.log import configure

ROOT = Path(__file__).parents[2]
PEM = ROOT / "tests" / "probing" / "self_signed.pem"
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


def clean():
    """An environment without anybody's keys."""
    names = (*(name for name in os.environ if name.endswith(("_API_KEY", "_TOKEN"))), "AWS_BEARER_TOKEN_BEDROCK")
    return dict.fromkeys(names, "")


LOCAL = """\
probe: {{interval: 1s, timeout: 1s}}
providers:
  local: {{base_url: "{url}/v1"}}
  gone: {{base_url: "http://127.0.0.1:9/v1"}}
models:
  acme/large:
    endpoints:
      - {{provider: local, model: large, pricing: {{prompt: 1, completion: 2}}}}
      - {{provider: gone, model: large, pricing: {{prompt: 2, completion: 2}}}}
"""


async def test_the_shipped_file_without_keys_starts_refuses_with_reasons_and_stops(
    program, free_port, http, tmp_path
):
    port = free_port()
    text = (ROOT / "balancer.yaml").read_text().replace("# listen: 127.0.0.1:8790", f"listen: 127.0.0.1:{port}")
    file = tmp_path / "balancer.yaml"
    file.write_text(text)
    url = f"http://127.0.0.1:{port}"
    running = await program(
        "balancer", url, sys.executable, "-m", "balancer", "run", "-c", str(file), environ=clean()
    )
    async with http.get(f"{url}/v1/endpoints") as answer:
        endpoints = (await answer.json())["endpoints"]
    assert len(endpoints) > 20
    for each in endpoints:
        if each["provider"] == "local":
            assert each["state"] != "misconfigured"
        else:
            assert each["state"] == "misconfigured"
            assert each["reason"].endswith((" is not set", " is empty"))
    async with http.get(f"{url}/v1/best-provider", params={"model": "openai/gpt-4.1"}) as answer:
        assert answer.status == 503
        availability = (await answer.json())["error"]["availability"]
    assert (availability["code"], availability["excluded_by"]) == ("unavailable", ["misconfigured"])
    began = monotonic()
    assert await running.stop() == 0
    assert monotonic() - began < 2.0
    assert "Warning" not in running.log()
    assert "destroyed" not in running.log()


async def test_probes_find_who_is_there_and_who_is_not(daemon, http, models_server):
    running = await daemon(LOCAL.format(url=models_server))

    async def states():
        async with http.get(f"{running.url}/v1/endpoints") as answer:
            found = {each["provider"]: each["state"] for each in (await answer.json())["endpoints"]}
        return found if found == {"local": "healthy", "gone": "ejected"} else None

    await until(states)
    async with http.get(f"{running.url}/v1/best-provider", params={"model": "acme/large"}) as answer:
        decision = await answer.json()
    assert decision["selected"]["id"] == "acme/large@local"
    assert decision["fallbacks"] == []
    async with http.get(f"{running.url}/-/ready") as answer:
        assert (await answer.json())["first_picture"] is True
    ejected = await running.told("endpoint.ejected")
    assert [each["endpoint"] for each in ejected] == ["acme/large@gone"]
    assert ejected[0]["reason"] == "3 probes failed in a row (connect)"
    assert ejected[0]["next_in"] > 0


async def test_what_reports_eject_is_probed_at_once_and_not_at_its_old_turn(daemon, http, models_server):
    calm = LOCAL.format(url=models_server).replace("interval: 1s", "interval: 1h, suspect_interval: 1s")
    running = await daemon(calm)
    failures = {"reports": [{"endpoint": "acme/large@local", "status": 500}] * 12}
    async with http.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12

    async def probed():
        async with http.get(f"{running.url}/metrics") as answer:
            text = await answer.text()
        name = 'balancer_outcomes_total{endpoint="acme/large@local",source="probe",outcome="success"}'
        return float(re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)[1]) > 0

    await until(probed)


async def test_what_would_be_an_ejection_is_logged_as_such_and_chooses_nothing(daemon, http):
    config = LOCAL.format(url="http://127.0.0.1:9").replace("interval: 1s", "kind: none, interval: 1s")
    running = await daemon(config + "\nhealth: {enforce: false}\n")
    failures = {"reports": [{"endpoint": "acme/large@local", "error": "connect"}] * 12}
    async with http.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    (ejected,) = await running.told("endpoint.ejected")
    assert (ejected["level"], ejected["enforced"], ejected["state"]) == ("info", False, "ejected")
    params = {"model": "acme/large", "ignore": "gone"}
    async with http.get(f"{running.url}/v1/best-provider", params=params) as answer:
        decision = await answer.json()
    assert (decision["selected"]["id"], decision["panic"], decision["trial"]) == ("acme/large@local", False, False)


async def test_sighup_takes_a_good_file_keeps_the_evidence_and_refuses_a_bad_one(daemon, http, tmp_path):
    running = await daemon(
        LOCAL.format(url="http://127.0.0.1:9").replace("interval: 1s", "kind: none, interval: 1s")
    )
    report = {"endpoint": "acme/large@local", "status": 200, "latency": 1.0}
    async with http.post(f"{running.url}/v1/reports", json=report) as answer:
        assert (await answer.json())["recorded"] == 1
    file = next(tmp_path.glob("balancer-*.yaml"))
    good = file.read_text()

    async def logged(event):
        return [line for line in running.log().splitlines() if f'"{event}"' in line]

    file.write_text(good.replace("prompt: 1,", "prompt: 1.5,"))
    running.process.send_signal(signal.SIGHUP)
    await until(lambda: logged("config.loaded"))
    async with http.get(f"{running.url}/v1/endpoint", params={"id": "acme/large@local"}) as answer:
        endpoint = await answer.json()
    assert endpoint["pricing"]["prompt"] == 1.5
    assert endpoint["outcomes"]["report"]["success"] == 1
    file.write_text(good.replace("interval: 1s", "interval: soon"))
    running.process.send_signal(signal.SIGHUP)
    deeds = [(each["verb"], each["peer"], each["result"]) for each in await running.told("operator.acted", count=2)]
    assert deeds == [("reload", "SIGHUP", "done"), ("reload", "SIGHUP", "refused")]
    rejected = await until(lambda: logged("config.rejected"))
    assert "probe.interval" in rejected[0]
    async with http.get(f"{running.url}/v1/endpoint", params={"id": "acme/large@local"}) as answer:
        assert (await answer.json())["pricing"]["prompt"] == 1.5
    async with http.get(f"{running.url}/metrics") as answer:
        assert "balancer_config_last_reload_successful 0" in await answer.text()


async def test_a_reload_never_opens_a_bound_socket_to_everybody(program, free_port, http, tmp_path):
    port = free_port()
    file = tmp_path / "wide.yaml"
    body = LOCAL.format(url="http://127.0.0.1:9")
    auth = "auth: {tokens: [{name: ops, scopes: [admin], token: {env: OPS_SECRET}}]}\n"
    file.write_text(f"listen: 0.0.0.0:{port}\n{auth}{body}")
    url = f"http://127.0.0.1:{port}"
    argv = (sys.executable, "-m", "balancer", "run", "-c", str(file))
    running = await program("balancer", url, *argv, environ={"OPS_SECRET": "s3cret-of-operators"})
    file.write_text(f"listen: 127.0.0.1:{port}\n{body}")
    headers = {"Authorization": "Bearer s3cret-of-operators"}
    async with http.post(f"{url}/-/reload", headers=headers) as answer:
        assert answer.status == 422
        problems = (await answer.json())["error"]["metadata"]["problems"]
    assert len(problems) == 1
    assert problems[0].startswith(f"reload: auth: 0.0.0.0:{port} stays open until the next start, and would let")
    assert problems[0].endswith("; give auth.tokens or insecure: true, or restart")
    async with http.get(f"{url}/v1/config") as answer:
        assert answer.status == 401
    await running.told("config.rejected")


async def test_a_reload_tells_what_waits_for_the_next_start(daemon, http, tmp_path):
    running = await daemon(LOCAL.format(url="http://127.0.0.1:9"))
    file = next(tmp_path.glob("balancer-*.yaml"))
    file.write_text("log: {level: debug}\n" + file.read_text().replace("listen: 127.0.0.1:", "listen: localhost:"))
    async with http.post(f"{running.url}/-/reload") as answer:
        assert (await answer.json())["at_next_start"] == ["listen", "log"]
    (loaded,) = await running.told("config.loaded")
    assert loaded["at_next_start"] == ["listen", "log"]


async def test_of_two_reloads_at_once_the_newer_file_stays():
    release, prices = threading.Event(), [7, 1]

    def read():
        price = prices.pop()
        if price == 1:
            release.wait(DEADLINE)  # a slow disk
        return parse_config(
            LOCAL.format(url="http://127.0.0.1:9").replace("prompt: 1", f"prompt: {price}"), source="t"
        )

    daemon = Daemon(parse_config(LOCAL.format(url="http://127.0.0.1:9"), source="t"), reload=read)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.reload(), name="older")
        await until(lambda: asyncio.sleep(0, prices == [7]))
        newer = tasks.create_task(daemon.reload(), name="newer")
        await asyncio.sleep(0)
        assert not newer.done()
        release.set()
    assert daemon.config.endpoints["acme/large@local"].pricing.prompt == 7


HALF_A_DAY = 43_200.0  # s


async def test_prices_follow_the_time_of_the_day_after_a_step_of_the_clock_too():
    around = [datetime.fromtimestamp(wall() + hours * 3600, UTC).strftime("%H:%M") for hours in (-3, 3)]
    cheap_now = f"overrides: [{{utc_start: '{around[0]}', utc_end: '{around[1]}', prompt: 0.1, completion: 0.1}}]"
    text = LOCAL.format(url="http://127.0.0.1:9").replace(
        "prompt: 2, completion: 2", f"prompt: 2, completion: 2, {cheap_now}"
    )
    text = text.replace("interval: 1s", "kind: none, interval: 1s")
    daemon = Daemon(parse_config(f"listen: 127.0.0.1:0\nstate_dir: none\n{text}", source="test"))
    cheapest = Request(model="acme/large", provider={"sort": "price"})

    async def chosen(provider="gone"):
        return daemon.balancer.best(cheapest, now=monotonic(), dry=True).selected.provider == provider

    assert await chosen()
    async with daemon.running():
        daemon.balancer.set_wall(wall() + HALF_A_DAY, now=monotonic())  # what a suspended machine would believe
        assert await chosen("local")
        await until(chosen)


async def test_a_crash_is_told_and_ends_the_daemon():
    out = io.StringIO()
    config = parse_config(
        "listen: 127.0.0.1:0\nstate_dir: none\n" + LOCAL.format(url="http://127.0.0.1:9"), source="test"
    )
    daemon = Daemon(config, log=configure(level="info", style="json", stream=out))
    with pytest.raises(ExceptionGroup):
        async with daemon.running():
            raise RuntimeError("the body stands for any task of the group")
    assert '"daemon.crashed"' in out.getvalue()
    assert '"daemon.stopping"' in out.getvalue()


async def test_an_event_stream_tells_each_change_and_ends_with_the_daemon(daemon, http):
    running = await daemon(
        LOCAL.format(url="http://127.0.0.1:9").replace("interval: 1s", "kind: none, interval: 1s")
    )
    async with http.get(f"{running.url}/v1/events") as stream:
        reports = {"reports": [{"endpoint": "acme/large@local", "status": 500}] * 5}
        async with http.post(f"{running.url}/v1/reports", json=reports):
            pass
        async with asyncio.timeout(DEADLINE):
            text = ""
            while "endpoint.ejected" not in text or "\n\n" not in text.partition("endpoint.ejected")[2]:
                text += (await stream.content.readany()).decode()
        assert "5 failures in a row (500)" in text
        assert await running.stop() == 0


async def test_a_probe_by_hand_tells_its_verdict_or_why_there_is_none(daemon, http, models_server):
    text = LOCAL.format(url=models_server)
    running = await daemon(text.replace("provider: gone,", "provider: gone, probe: {kind: none},"))

    async def probe(endpoint):
        async with http.post(f"{running.url}/v1/probe", json={"endpoint": endpoint}) as answer:
            return answer.status, await answer.json()

    status, verdict = await probe("acme/large@local")
    assert (status, verdict["outcome"], verdict["kind"]) == (200, "success", "models")
    assert verdict["phases"]["first_byte"] > 0
    status, refusal = await probe("acme/large@gone")
    assert status == 409
    assert refusal["error"]["message"] == "acme/large@gone cannot be probed now: its probe.kind is none"
    assert (await probe("acme/large@nobody"))[0] == 404


@asynccontextmanager
async def certified():
    """The address of a server that shakes hands and says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)

    async def hold(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_end_of_a_certificate_is_a_fact_of_a_probe_and_a_metric(daemon, http):
    async with certified() as url:
        running = await daemon(
            LOCAL.format(url=url).replace(
                "provider: local,", f"provider: local, probe: {{kind: tls, ca_file: {PEM}}},"
            )
        )
        async with http.post(f"{running.url}/v1/probe", json={"endpoint": "acme/large@local"}) as answer:
            verdict = await answer.json()
        async with http.get(f"{running.url}/metrics") as answer:
            metrics = await answer.text()
    assert verdict["outcome"] == "success"
    expires = verdict["certificate_expires"]
    found = re.findall(r"^balancer_probe_certificate_expiry_timestamp_seconds(.*) (.*)$", metrics, re.MULTILINE)
    assert [(labels, float(value)) for labels, value in found] == [('{endpoint="acme/large@local"}', expires)]


async def test_the_daemon_may_open_as_many_files_as_the_system_lets_it(daemon):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 512), hard))
    try:
        running = await daemon(LOCAL.format(url="http://127.0.0.1:9"))
        assert resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_an_endpoint_that_is_encrypted_no_more_loses_the_end_of_its_certificate(daemon, http, tmp_path):
    async with certified() as url:
        text = LOCAL.format(url=url).replace(
            "provider: local,", f"provider: local, probe: {{kind: tcp, ca_file: {PEM}}},"
        )
        running = await daemon(text.replace("kind: tcp", "kind: tls"))
        async with http.post(f"{running.url}/v1/probe", json={"endpoint": "acme/large@local"}) as answer:
            assert (await answer.json())["certificate_expires"] is not None
        file = next(tmp_path.glob("balancer-*.yaml"))
        for change, left in ((("kind: tls", "kind: tcp"), 1), (("https:", "http:"), 0)):
            file.write_text(file.read_text().replace(*change))
            async with http.post(f"{running.url}/-/reload") as answer:
                assert answer.status == 200
            async with http.get(f"{running.url}/metrics") as answer:
                assert (await answer.text()).count("\nbalancer_probe_certificate_expiry_timestamp_seconds{") == left


async def test_a_port_in_use_is_one_line_and_a_status_of_its_own(daemon, tmp_path):
    running = await daemon(LOCAL.format(url="http://127.0.0.1:9"))
    file = next(tmp_path.glob("balancer-*.yaml"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "balancer",
        "run",
        "-c",
        str(file),
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "another")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == os.EX_OSERR
    last = errors.decode().splitlines()[-1]
    assert last.startswith("balancer: ")
    assert running.url.removeprefix("http://") in last
    assert "Traceback" not in errors.decode()


async def test_a_refused_configuration_ends_the_start_with_every_problem(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("providers: {}\nmodles: {}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "balancer",
        "run",
        "-c",
        str(file),
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "another")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == 1
    assert "did you mean models?" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_a_reload_that_is_asked_for_during_the_start_is_done_after_it(free_port, tmp_path):
    port = free_port()
    file = tmp_path / "b.yaml"
    file.write_text(f"listen: 127.0.0.1:{port}\n" + LOCAL.format(url="http://127.0.0.1:9"))
    argv = (sys.executable, "-m", "balancer", "run", "-c", str(file))
    environ = {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}
    process = await asyncio.create_subprocess_exec(*argv, env=environ, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None

    async def waits_for_it():
        blocked = re.search(
            r"^SigBlk:\s*([0-9a-f]+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE
        )
        return int(blocked[1], 16) & 1 << signal.SIGHUP - 1

    await until(waits_for_it)
    process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(DEADLINE):
        events = [json.loads(await process.stderr.readline())]
        while events[-1]["event"] != "operator.acted":
            events.append(json.loads(await process.stderr.readline()))
    assert (events[-1]["peer"], events[-1]["result"]) == ("SIGHUP", "done")
    assert "daemon.ready" in [each["event"] for each in events]
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


async def test_ctrl_c_ends_it_in_order(program, free_port, tmp_path):
    port = free_port()
    file = tmp_path / "b.yaml"
    file.write_text(f"listen: 127.0.0.1:{port}\n" + LOCAL.format(url="http://127.0.0.1:9"))
    running = await program(
        "balancer", f"http://127.0.0.1:{port}", sys.executable, "-m", "balancer", "run", "-c", str(file)
    )
    running.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(running.process.wait(), DEADLINE) == 0
    assert "daemon.stopped" in running.log()


UNRELATED = """\
probe: {{{probe}}}
providers:
  one: {{base_url: "http://127.0.0.1:{ports[0]}/v1"}}
  two: {{base_url: "http://127.0.0.1:{ports[1]}/v1"}}
  three: {{base_url: "http://127.0.0.1:{ports[2]}/v1"}}
models:
  acme/large:
    endpoints: [{{provider: one, model: large}}, {{provider: two, model: large}}, {{provider: three, model: large}}]
"""
TOKENS = """\
auth:
  tokens:
    - {name: sound, scopes: [report], token: {env: SOUND}}
    - {name: broken, scopes: [report], token: {env: BROKEN}}
    - {name: ops, scopes: [admin], token: {env: OPS}}
"""


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def test_a_proxy_whose_own_uplink_is_broken_is_named_and_ejects_nobody(daemon, http, tmp_path):
    environ = {"SOUND": "s-secret-of-a-test", "BROKEN": "b-secret-of-a-test", "OPS": "o-secret-of-a-test"}
    text = TOKENS + UNRELATED.format(probe="kind: none", ports=(9, 10, 11))
    running = await daemon(text, environ=environ)
    places = [f"acme/large@{tag}" for tag in ("one", "two", "three")]
    failed = [{"endpoint": place, "error": "connect"} for place in places * 4]
    worked = [{"endpoint": place, "status": 200, "latency": 0.1} for place in places]

    async def samples():
        async with http.get(f"{running.url}/metrics", headers=bearer("o-secret-of-a-test")) as answer:
            lines = (await answer.text()).splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith("balancer_reporter_"))

    assert await samples() == {
        f'balancer_reporter_{name}{{reporter="{each}"}}': "0"
        for name in ("reports_total", "suspect")
        for each in ("sound", "broken", "ops")
    }
    for token, reports in (("s-secret-of-a-test", worked), ("b-secret-of-a-test", failed)):
        body = {"reports": reports}
        async with http.post(f"{running.url}/v1/reports", json=body, headers=bearer(token)) as answer:
            assert (await answer.json())["recorded"] == len(reports)
    async with http.get(f"{running.url}/-/ready") as answer:
        ready = await answer.json()
    assert (ready["ready"], ready["self_suspect"], ready["self_suspect_reason"]) == (True, False, None)
    assert ready["reporters_suspect"] == ["broken"]
    why = "5 calls in a row got no answer, at 3 unrelated providers (connect)"
    assert ready["reporters_suspect_reasons"] == {"broken": why}
    assert set(ready) == set(json.loads(document())["components"]["schemas"]["Ready"]["properties"])
    async with http.get(f"{running.url}/v1/endpoints", headers=bearer("o-secret-of-a-test")) as answer:
        assert {each["state"] for each in (await answer.json())["endpoints"]} == {"healthy"}
    told = await samples()
    assert {key: told[f'balancer_reporter_{key}{{reporter="broken"}}'] for key in ("reports_total", "suspect")} == {
        "reports_total": "12",
        "suspect": "1",
    }
    assert told['balancer_reporter_suspect{reporter="sound"}'] == "0"
    assert 0 <= float(told['balancer_reporter_silence_seconds{reporter="broken"}']) < DEADLINE
    (suspected,) = await running.told("reporter.suspected")
    assert (suspected["level"], suspected["reporter"]) == ("warning", "broken")
    assert suspected["reason"] == why
    assert not [each for each in running.events() if each["event"] == "endpoint.ejected"]
    file = next(tmp_path.glob("balancer-*.yaml"))
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "name: broken" not in line))
    async with http.post(f"{running.url}/-/reload", headers=bearer("o-secret-of-a-test")) as answer:
        assert answer.status == 200
    assert not [key for key in await samples() if "broken" in key]
    async with http.get(f"{running.url}/-/ready") as answer:
        assert (await answer.json())["reporters_suspect"] == []


async def test_when_no_provider_can_be_reached_at_all_the_daemon_doubts_itself(daemon, http, free_port):
    ports = [free_port() for _ in range(3)]
    running = await daemon(UNRELATED.format(probe="interval: 1s, timeout: 1s", ports=ports))

    async def suspect():
        async with http.get(f"{running.url}/-/ready") as answer:
            ready = await answer.json()
        return ready if ready["self_suspect"] else None

    ready = await until(suspect)
    assert ready["self_suspect_reason"] == "5 calls in a row got no answer, at 3 unrelated providers (connect)"
    assert (ready["reporters_suspect"], ready["reporters_suspect_reasons"]) == ([], {})
    async with http.get(f"{running.url}/metrics") as answer:
        text = await answer.text()
    assert "balancer_self_suspect 1\n" in text
    assert 'balancer_endpoint_state{endpoint="acme/large@one",state="ejected"} 0\n' in text
    await running.told("self.suspected")
    assert '"endpoint.ejected"' not in running.log()


async def test_a_probe_that_our_own_network_failed_is_told_in_the_log(free_port):
    out = io.StringIO()
    text = UNRELATED.replace("http://127.0.0.1:{ports", "http://provider.test:{ports")
    text = text.format(probe="interval: 1s, timeout: 1s", ports=(9, 10, 11))
    environ = {"HTTP_PROXY": f"http://127.0.0.1:{free_port()}"}  # nobody is there
    config = parse_config(f"listen: 127.0.0.1:0\nstate_dir: none\n{text}", source="test", environ=environ)
    daemon = Daemon(config, log=configure(level="info", style="json", stream=out))
    async with daemon.running():
        await until(lambda: asyncio.sleep(0, '"probe.failed"' in out.getvalue()))
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    failed = next(each for each in told if each["event"] == "probe.failed")
    assert (failed["outcome"], failed["level"]) == ("local", "info")
    assert failed["detail"].startswith("the proxy 127.0.0.1:")


async def test_an_event_loop_that_stood_still_is_noticed_and_told():
    out = io.StringIO()
    text = UNRELATED.format(probe="kind: none", ports=(9, 10, 11))
    config = parse_config(f"listen: 127.0.0.1:0\nstate_dir: none\n{text}", source="test")
    daemon = Daemon(config, log=configure(level="info", style="json", stream=out))
    async with daemon.running():
        await asyncio.sleep(0)
        end = monotonic() + TICK + STALL + 0.2
        while monotonic() < end:
            pass  # nothing of the daemon's runs
        await until(lambda: asyncio.sleep(0, "self.suspected" in out.getvalue()))
        found = daemon.balancer.self_suspicion(monotonic())
        assert found is not None
        assert re.fullmatch(r"the event loop stood still for [12]\.\d s", found.reason)
