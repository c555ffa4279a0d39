"""A machine whose own route is cut: nothing is ejected, it says why, and all is well soon after the route is back.

The daemon runs in one network namespace and its providers in another, behind a gateway. It is asked through a unix
socket, which no namespace cuts.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import aiohttp
import pytest

INTERVAL, TIMEOUT = 2.0, 1.0  # s
JITTER = 0.1
SLACK = 2.0  # s; for a busy machine
CUT = 20.0  # s; ten intervals
DEADLINE = 20.0  # s
GATEWAY, INSIDE, PROVIDER = "192.0.2.1", "192.0.2.2", "198.51.100.1"  # RFC 5737: nobody's
PORTS = (9001, 9002, 9003, 9004)  # in a namespace of our own nobody else has them

SERVERS = f"""
import asyncio
from aiohttp import web

async def listing(request):
    return web.json_response({{"data": [{{"id": "large"}}]}})

async def main():
    app = web.Application()
    app.router.add_get("/v1/models", listing)
    runner = web.AppRunner(app)
    await runner.setup()
    for port in {PORTS}:
        await web.TCPSite(runner, "{PROVIDER}", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

# What is cut inside the daemon's namespace, and how it is mended.
CUTS = {
    "the route is gone": ("route delete default", f"route add default via {GATEWAY}"),
    "the cable is out": ("link set inside down", f"link set inside up; route add default via {GATEWAY}"),
    "packets vanish": (
        f"neighbour replace {GATEWAY} lladdr 02:00:00:00:00:01 dev inside nud permanent",
        f"neighbour delete {GATEWAY} dev inside",
    ),
}


def ip(words):
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)


def lacking():
    """Why there can be no network namespace here; `None` where there can."""
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    argv = ["ip", "netns", "add", f"here-{os.getpid()}"]
    made = subprocess.run(argv, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        return f"no network namespace here: {made.stderr.strip()}"
    ip(f"netns delete here-{os.getpid()}")
    return None


@pytest.fixture
def namespaces():
    """Make namespaces for a daemon, with providers behind a gateway: `with namespaces("a name") as inside:`."""
    if shutil.which("ip") is None:
        assert os.environ.get("CI") != "true", "the program ip is missing: .ci/run installs it"
        pytest.skip("needs the program ip (Debian's iproute2)")
    missing = lacking()
    if missing is not None:
        pytest.skip(missing)
    return laid


@contextmanager
def laid(name):
    inside, other = f"inside-{name}-{os.getpid()}", f"outside-{name}-{os.getpid()}"
    try:
        for namespace in (inside, other):
            ip(f"netns add {namespace}")
            ip(f"-n {namespace} link set lo up")
        ip(f"-n {other} link add outside type veth peer name inside netns {inside}")
        ip(f"-n {other} address add {GATEWAY}/30 dev outside")
        ip(f"-n {other} address add {PROVIDER}/32 dev lo")
        ip(f"-n {other} link set outside up")
        ip(f"-n {inside} address add {INSIDE}/30 dev inside")
        ip(f"-n {inside} link set inside up")
        ip(f"-n {inside} route add default via {GATEWAY}")
        argv = ["ip", "netns", "exec", other, sys.executable, "-c", SERVERS]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as servers:
            try:
                assert servers.stdout is not None
                assert servers.stdout.readline() == "ready\n"
                yield inside
            finally:
                servers.send_signal(signal.SIGKILL)
    finally:
        for namespace in (inside, other):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


# Where there are few providers, all of them away is no sign by itself: that takes what was asked besides.
FEW = {"two providers": (2, ""), "one provider, and a self check": (1, f"tcp://{PROVIDER}:{PORTS[3]}")}


async def test_a_machine_that_lost_its_route_ejects_nobody_and_is_well_soon_after(namespaces, tmp_path):
    async with asyncio.TaskGroup() as machines:  # all at once: each waits most of its time
        for number, how in enumerate([*CUTS, *FEW]):
            folder = tmp_path / str(number)
            folder.mkdir()
            machines.create_task(lost_its_route(namespaces, str(number), folder, how), name=how)


async def lost_its_route(namespaces, name, folder, how):
    try:
        with namespaces(name) as inside:
            await cut_off(inside, folder, how)
    except BaseException as error:
        error.add_note(f"where {how}")
        raise


async def cut_off(inside, folder, how):
    number, target = FEW.get(how, (len(PORTS), ""))
    socket, log, file = folder / "api.sock", folder / "log", folder / "balancer.yaml"
    lines = [f"listen: 'unix:{socket}'", f"probe: {{interval: {INTERVAL:g}s, timeout: {TIMEOUT:g}s}}", "providers:"]
    lines += [f"  p{port}: {{base_url: 'http://{PROVIDER}:{port}/v1'}}" for port in PORTS[:number]]
    lines += ["models:", "  acme/large:", "    endpoints:"]
    lines += [f"      - {{provider: p{port}, model: large}}" for port in PORTS[:number]]
    if target:
        lines += [f"self_check: {{targets: ['{target}'], interval: {INTERVAL:g}s, timeout: {TIMEOUT:g}s}}"]
    file.write_text("\n".join(lines))
    with log.open("wb") as out:
        argv = ("ip", "netns", "exec", inside, sys.executable, "-m", "balancer", "run", "-c", str(file))
        environ = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
        process = await asyncio.create_subprocess_exec(*argv, stdout=out, stderr=out, env=environ)
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)))

    async def read(path):
        async with session.get(f"http://balancer{path}") as answer:
            return await answer.json()

    async def until(condition, within=DEADLINE):
        async with asyncio.timeout(within):
            while not (found := await condition()):
                await asyncio.sleep(0.05)
            return found

    async def started():
        return socket.exists()

    async def states():
        return {each["state"] for each in (await read("/v1/endpoints"))["endpoints"]}

    async def well():
        return not (await read("/-/ready"))["self_suspect"] and await states() == {"healthy"}

    async def doubt():
        return (await read("/-/ready"))["self_suspect_reason"]

    def change(what):
        for words in what.split("; "):
            ip(f"-n {inside} {words}")

    try:
        await until(started)
        await until(well)
        cut, mend = CUTS.get(how, CUTS["packets vanish"])
        change(cut)
        try:
            assert await until(doubt)
            await asyncio.sleep(CUT)  # the outage lasts: this is the test's subject, not a wait for luck
            assert (await read("/-/ready"))["self_suspect"]
            assert await states() == {"healthy"}
        finally:
            change(mend)
        await until(well, within=INTERVAL * (1 + JITTER) + TIMEOUT + SLACK)
        events = [json.loads(line) for line in log.read_text().splitlines()]
        assert [each for each in events if each["event"] == "endpoint.ejected"] == []
        assert len([each for each in events if each["event"] == "self.suspected"]) == 1
    finally:
        await session.close()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), DEADLINE) == 0
