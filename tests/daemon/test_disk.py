"""What the daemon takes back after it was stopped or killed, and that it runs without a disk too."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time

import aiohttp
import pytest

from balancer.daemon.disk import PATIENCE

DEADLINE = 10.0  # s; for conditions that come within one on an idle machine
ENDPOINT = "acme/large@one"
TEXT = """\
store: {save_interval: 1s}
probe: {kind: none}
providers: {one: {base_url: "http://127.0.0.1:9/v1"}, two: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/large: {endpoints: [{provider: one, model: large}, {provider: two, model: large}]}}
"""


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def endpoint(http, running, key=ENDPOINT):
    async with http.get(f"{running.url}/v1/endpoint", params={"id": key}) as answer:
        return await answer.json()


async def ready(http, running):
    async with http.get(f"{running.url}/-/ready") as answer:
        assert answer.status == 200
        return await answer.json()


async def drain(http, running, **said):
    async with http.post(f"{running.url}/v1/drain", json={"target": ENDPOINT, **said}) as answer:
        assert answer.status == 200


async def test_a_stop_keeps_holds_and_counts_and_a_drain_is_as_much_shorter(daemon, http, tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path / "kept")}
    running = await daemon(TEXT, environ=environ)
    began = time.monotonic()
    await drain(http, running, **{"for": "1h", "reason": "disk"})
    failures = {"reports": [{"endpoint": "acme/large@two", "error": "timeout"}] * 12}
    async with http.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    assert await running.stop() == 0
    running = await daemon(TEXT, environ=environ)
    found = await endpoint(http, running)
    passed = time.monotonic() - began
    assert (found["state"], found["reason"]) == ("drained", "disk")
    assert 3600 - passed - 1 <= found["next_in"] <= 3600 - 0.1
    other = await endpoint(http, running, "acme/large@two")
    assert other["state"] == "ejected"
    assert other["windows"]["report"]["1d"]["failure"] == 12
    (restored,) = await running.told("store.restored")
    assert 0 < restored["away"] < passed


async def test_an_operators_word_is_kept_although_the_daemon_is_killed_right_after_it(daemon, http, tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path / "kept")}
    text = TEXT.replace("save_interval: 1s", "save_interval: 1h")
    running = await daemon(text, environ=environ)
    await drain(http, running, reason="disk")
    saved = tmp_path / "kept" / "balancer.state"
    async with asyncio.timeout(DEADLINE):
        while not (saved.exists() and b"disk" in saved.read_bytes()):
            await asyncio.sleep(0.02)
    await running.kill()
    again = await daemon(text, environ=environ)
    assert (await endpoint(http, again))["state"] == "drained"


async def test_what_was_told_is_history_after_the_stop(daemon, http, tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path / "kept")}
    running = await daemon(TEXT, environ=environ)
    reports = {"reports": [{"endpoint": ENDPOINT, "status": 200, "latency": 0.5}] * 7}
    async with http.post(f"{running.url}/v1/reports", json=reports) as answer:
        assert (await answer.json())["recorded"] == 7
    assert await running.stop() == 0
    running = await daemon(TEXT, environ=environ)

    asked = {"endpoint": ENDPOINT, "since": "1h"}
    async with asyncio.timeout(DEADLINE):
        while True:
            async with http.get(f"{running.url}/v1/history", params=asked) as answer:
                past = await answer.json()
            if answer.status == 200 and '"success":7' in json.dumps(past).replace(" ", ""):
                break
            await asyncio.sleep(0.05)


async def test_who_is_only_watched_is_not_out_after_a_restart(daemon, http, tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path / "kept")}
    text = f"health: {{enforce: false}}\n{TEXT}"
    running = await daemon(text, environ=environ)
    failures = {"reports": [{"endpoint": ENDPOINT, "error": "timeout"}] * 12}
    async with http.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    assert await running.stop() == 0
    running = await daemon(text, environ=environ)
    assert (await endpoint(http, running))["state"] == "ejected"
    async with asyncio.timeout(DEADLINE):
        while True:
            async with http.get(f"{running.url}/v1/history", params={"endpoint": ENDPOINT}) as answer:
                past = await answer.json()
            marks = [] if answer.status != 200 else [each["event"] for each in past["transitions"]]
            if marks.count("daemon.started") == 1:
                break
            await asyncio.sleep(0.05)
    assert [each["outage_longest"] for each in past["series"]] == [0.0]
    assert {each["enforced"] for each in past["transitions"] if each["state"] == "ejected"} == {False}


async def test_an_outage_that_goes_on_over_a_restart_is_one_outage(daemon, http, tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path / "kept")}
    running = await daemon(TEXT, environ=environ)
    failures = {"reports": [{"endpoint": ENDPOINT, "error": "timeout"}] * 12}
    async with http.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    assert await running.stop() == 0
    running = await daemon(TEXT, environ=environ)
    async with asyncio.timeout(DEADLINE):
        while True:
            async with http.get(f"{running.url}/v1/history", params={"endpoint": ENDPOINT}) as answer:
                past = await answer.json()
            told = {} if answer.status != 200 else {each["event"]: each for each in past["transitions"]}
            if "daemon.started" in told:
                break
            await asyncio.sleep(0.05)
    assert list(told) == ["endpoint.degraded", "endpoint.ejected", "daemon.started"]
    ejected, started = told["endpoint.ejected"], told["daemon.started"]
    assert (started["state"], started["reason"]) == ("ejected", f"as it was saved: {ejected['reason']}")
    assert [each["outage_longest"] > started["at"] - ejected["at"] for each in past["series"]] == [True]


async def test_a_second_daemon_on_the_same_directory_is_refused_in_one_line(daemon, http, tmp_path, command):
    environ = {"STATE_DIRECTORY": str(tmp_path / "kept")}
    running = await daemon(TEXT, environ=environ)
    file = tmp_path / "second.yaml"
    file.write_text("listen: 127.0.0.1:0\n" + TEXT)
    status, errors = await command(file, environ)
    assert status == 71
    assert errors.splitlines()[-1].startswith("balancer: ")
    assert str(tmp_path / "kept") in errors.splitlines()[-1]
    assert (await endpoint(http, running))["state"] == "unverified"


async def test_a_state_that_comes_late_is_told_in_the_log_the_events_and_the_history(daemon, http, tmp_path):
    (tmp_path / "mount").mkdir()
    environ = {"STATE_DIRECTORY": str(tmp_path / "mount" / "kept")}
    running = await daemon(TEXT, environ=environ)
    await drain(http, running, reason="disk")
    failures = {"reports": [{"endpoint": "acme/large@two", "error": "timeout"}] * 12}
    async with http.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    assert await running.stop() == 0
    (tmp_path / "mount").rename(tmp_path / "away")
    running = await daemon(TEXT, environ=environ)
    assert (await endpoint(http, running))["state"] == "unverified"
    told = await ready(http, running)
    assert (told["ready"], told["missing"]) == (True, [])
    assert told["store_trouble_reasons"]["state"] == "the saved state is not read yet: No such file or directory"
    (tmp_path / "away").rename(tmp_path / "mount")
    lines = await running.told("endpoint.restored", count=2)
    assert {(line["endpoint"], line["state"]) for line in lines} == {
        (ENDPOINT, "drained"), ("acme/large@two", "ejected"),
    }  # fmt: skip
    events = ""
    async with http.get(f"{running.url}/v1/events", headers={"Last-Event-ID": "another-0"}) as stream:
        assert stream.status == 200
        async with asyncio.timeout(DEADLINE):
            while events.count("event: endpoint.restored\n") < 2:
                events += (await stream.content.readline()).decode()
    asked = {"endpoint": "acme/large@two", "since": "1h"}
    async with asyncio.timeout(DEADLINE):
        while True:
            async with http.get(f"{running.url}/v1/history", params=asked) as answer:
                past = await answer.json()
            told = [] if answer.status != 200 else [each["event"] for each in past["transitions"]]
            if "endpoint.restored" in told:
                break
            await asyncio.sleep(0.05)
    assert [each["outage_longest"] > 0 for each in past["series"]] == [True]
    async with asyncio.timeout(DEADLINE):
        while (await ready(http, running))["store_trouble_reasons"]:
            await asyncio.sleep(0.05)


@pytest.fixture
def command():
    """Run `balancer run` until it ends by itself."""
    import os
    import sys

    async def run(file, environ):
        argv = (sys.executable, "-m", "balancer", "run", "-c", str(file))
        process = await asyncio.create_subprocess_exec(
            *argv, env={**os.environ, **environ}, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
        return process.returncode, errors.decode()

    return run


HANG = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static void hang(void) { while (access(HUNG, F_OK) == 0) usleep(10000); }
int flock(int fd, int how) { hang(); return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, how); }
int fsync(int fd) { hang(); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
typedef ssize_t put(int, const void *, size_t, off_t);
ssize_t pwrite64(int fd, const void *from, size_t size, off_t at)
{ hang(); return ((put *)dlsym(RTLD_NEXT, "pwrite64"))(fd, from, size, at); }
"""


@pytest.fixture
def hung(tmp_path, needs):
    """A file, while it exists no disk takes anything; and what a process needs to be so treated."""
    source, library, flag = tmp_path / "hang.c", tmp_path / "hang.so", tmp_path / "hung"
    source.write_text(HANG)
    built = ("-shared", "-fPIC", f'-DHUNG="{flag}"', "-o", str(library), str(source), "-ldl")
    subprocess.run([needs("cc"), *built], check=True)
    yield flag, {"LD_PRELOAD": str(library)}
    flag.unlink(missing_ok=True)


async def test_a_disk_that_hangs_delays_the_stop_once_and_what_is_lost_is_said(daemon, http, tmp_path, hung):
    flag, environ = hung
    running = await daemon(TEXT, environ={"STATE_DIRECTORY": str(tmp_path / "kept"), **environ})
    async with asyncio.timeout(DEADLINE):
        while not (tmp_path / "kept" / "history.db-wal").exists():
            await asyncio.sleep(0.02)
    flag.touch()
    reports = {"reports": [{"endpoint": ENDPOINT, "status": 200, "latency": 0.5}] * 7}
    async with http.post(f"{running.url}/v1/reports", json=reports) as answer:
        assert (await answer.json())["recorded"] == 7
    running.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE + 3.0):  # twice the patience, if one were closed after the other
        assert await running.process.wait() == 0
    failed = {each["store"]: each for each in await running.told("store.failed")}
    assert "not saved within 4 s" in failed["state"]["reason"]
    assert (failed["history"]["reason"], failed["history"]["dropped"] >= 7) == (
        "not written within 4 s of the stop", True,
    )  # fmt: skip


async def test_a_start_that_waits_for_a_disk_ends_when_it_is_told_to(tmp_path, hung):
    flag, environ = hung
    flag.touch()
    file = tmp_path / "balancer.yaml"
    file.write_text(TEXT)
    argv = (sys.executable, "-m", "balancer", "run", "-c", str(file))
    whole = {**os.environ, **environ, "STATE_DIRECTORY": str(tmp_path / "kept")}
    process = await asyncio.create_subprocess_exec(*argv, env=whole, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    assert json.loads(await process.stderr.readline())["event"] == "daemon.started"
    process.terminate()
    async with asyncio.timeout(PATIENCE + 3.0):  # the disk itself has ten seconds
        said = await process.stderr.read()
        assert await process.wait() == 0
    assert b"daemon.ready" not in said
    assert b"Traceback" not in said


async def test_without_a_disk_it_decides_says_so_and_counts(daemon, http, tmp_path):
    blocked = tmp_path / "kept"
    blocked.write_text("a file where the directory should be")
    running = await daemon(TEXT, environ={"STATE_DIRECTORY": str(blocked)})
    async with http.get(f"{running.url}/v1/best-provider", params={"model": "acme/large"}) as answer:
        assert answer.status == 200
    failed = await running.told("store.failed", count=2)
    assert {(each["store"], each["level"]) for each in failed} == {("state", "warning"), ("history", "warning")}
    async with http.get(f"{running.url}/metrics") as answer:
        text = await answer.text()
    assert 'balancer_store_errors_total{store="state"} 0\n' not in text
    assert set((await ready(http, running))["store_trouble_reasons"]) == {"state", "history"}


async def test_how_often_the_state_is_to_be_saved_is_a_metric_where_one_is_kept(daemon, http, tmp_path):
    async def shown(running):
        async with http.get(f"{running.url}/metrics") as answer:
            return re.findall(r"^balancer_store_save_interval_seconds (\S+)$", await answer.text(), re.MULTILINE)

    keeping = await daemon(
        TEXT.replace("save_interval: 1s", "save_interval: 1h"), environ={"STATE_DIRECTORY": str(tmp_path / "kept")}
    )
    without = await daemon(f"state_dir: none\n{TEXT}")
    assert await shown(keeping) == ["3600.0"]
    assert await shown(without) == []
    path = next(tmp_path.glob(f"balancer-{keeping.url.rpartition(':')[2]}.yaml"))
    path.write_text(path.read_text().replace("save_interval: 1h", "save_interval: 2m"))
    async with http.post(f"{keeping.url}/-/reload") as answer:
        assert answer.status == 200
    assert await shown(keeping) == ["120.0"]


async def test_a_reload_that_has_the_state_saved_more_often_does_not_wait_out_the_old_interval(
    daemon, http, tmp_path
):
    saved = tmp_path / "kept" / "balancer.state"
    text = TEXT.replace("save_interval: 1s", "save_interval: 1h")
    running = await daemon(text, environ={"STATE_DIRECTORY": str(saved.parent)})
    path = next(tmp_path.glob(f"balancer-{running.url.rpartition(':')[2]}.yaml"))
    assert not saved.exists()
    path.write_text(path.read_text().replace("save_interval: 1h", "save_interval: 1s"))
    async with http.post(f"{running.url}/-/reload") as answer:
        assert answer.status == 200
    async with asyncio.timeout(DEADLINE):
        while not saved.exists():
            await asyncio.sleep(0.02)
    assert (await ready(http, running))["store_trouble_reasons"] == {}
