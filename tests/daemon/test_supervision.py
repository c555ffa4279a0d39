"""What the service manager hears: of a real daemon on a real socket, and of one whose API is mute."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress

import aiohttp
import pytest

from balancer import Balancer
from balancer.config import parse_config
from balancer.daemon.pulse import STALL, Pulse
from balancer.daemon.supervision import Supervision
from balancer.service.log import configure
from balancer.service.notify import Notify

DEADLINE = 10.0  # s; for messages that come within one on an idle machine

TEXT = """\
probe: {kind: none}
providers: {one: {base_url: "http://127.0.0.1:9/v1", credential: {env: NOT_SET_ANYWHERE}}, two: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/large: {endpoints: [{provider: one, model: large}, {provider: two, model: large}]}}
"""


class Manager:
    """What systemd is to a service: a datagram socket, and who listens on it."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)

    async def heard(self, start):
        """Wait for the next message that has a line which begins so; the message."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while True:
                message = (await loop.sock_recv(self._socket, 4096)).decode()
                if any(line.startswith(start) for line in message.splitlines()):
                    return message

    def pending(self):
        """Everything that waits to be heard."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self):
        self._socket.close()


@pytest.fixture
def manager(tmp_path):
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.close()


async def test_a_daemon_is_ready_pings_reloads_and_stops_in_the_managers_own_words(manager, daemon, tmp_path):
    environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "600000"}
    running = await daemon(TEXT, environ=environ)
    # a credential that is missing keeps nobody from being ready
    ready = await manager.heard("READY=1")
    assert "STATUS=1 model, 2 endpoints: 1 misconfigured, 1 unverified" in ready.splitlines()
    for _ in range(3):
        assert await manager.heard("WATCHDOG=1") == "WATCHDOG=1"
    running.process.send_signal(signal.SIGHUP)
    assert re.search(r"^MONOTONIC_USEC=\d+$", await manager.heard("RELOADING=1"), re.MULTILINE)
    assert (
        "STATUS=1 model, 2 endpoints: 1 misconfigured, 1 unverified"
        in (await manager.heard("READY=1")).splitlines()
    )
    file = next(tmp_path.glob("balancer-*.yaml"))
    file.write_text("modles: {}\n")
    running.process.send_signal(signal.SIGHUP)
    await manager.heard("RELOADING=1")
    assert "1 unverified; the last reload was refused" in await manager.heard("READY=1")
    for _ in range(2):  # and it goes on saying so
        assert "1 unverified; the last reload was refused" in await manager.heard("STATUS=")
    running.process.send_signal(signal.SIGTERM)
    await manager.heard("STOPPING=1")
    assert await running.stop() == 0


async def test_a_stopped_process_pings_no_more(manager, daemon):
    running = await daemon(TEXT, environ={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"})
    await manager.heard("WATCHDOG=1")
    running.process.send_signal(signal.SIGSTOP)
    try:
        manager.pending()
        await asyncio.sleep(0.5)  # five times the period of its pings
        assert manager.pending() == []
    finally:
        running.process.send_signal(signal.SIGCONT)
    await manager.heard("WATCHDOG=1")


async def test_the_watchdog_of_another_process_is_not_answered(manager, daemon):
    environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}
    await daemon(TEXT, environ=environ)
    await manager.heard("READY=1")
    await asyncio.sleep(0.3)
    assert "WATCHDOG=1" not in manager.pending()


@pytest.mark.parametrize(
    ("mute", "told"),
    [
        ("silent", "our own API gave no answer within 0.1 s"),
        ("cut", "our own API gave no answer: it hung up"),
        ("broken", "our own API answered 500"),
    ],
)
async def test_no_ping_without_an_answer_of_our_own_and_one_line_about_it(manager, mute, told):
    config = parse_config(TEXT, source="test")
    balancer, out, answers = Balancer(config), io.StringIO(), asyncio.Event()

    async def ask():
        if not answers.is_set():
            if mute == "silent":
                await answers.wait()
            elif mute == "cut":
                raise EOFError("it hung up")
            else:
                return 500
        return 200

    pulse = Pulse(
        balancer,
        overdue={},
        stretch=lambda: 1.0,
        lagged=lambda _: None,
        ticked=lambda: None,
        log=configure(level="info", style="json", stream=out),
    )
    log = configure(level="info", style="json", stream=out)
    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "600000"}, pid=os.getpid())
    supervision = Supervision(notify, pulse, ask=ask, state=lambda: "fine", log=log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervision.run())
        for _ in range(2):
            assert await manager.heard("STATUS=unwell") == f"STATUS=unwell: {told}"
        assert "WATCHDOG=1" not in manager.pending()
        answers.set()
        await manager.heard("WATCHDOG=1")
        await manager.heard("STATUS=fine")
        running.cancel()
    notify.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("daemon.unwell", told),
        ("daemon.well", None),
    ]


async def test_a_loop_that_was_late_is_no_ping_until_it_was_in_time_once(manager):
    log = configure(level="info", style="json", stream=io.StringIO())
    pulse = Pulse(
        Balancer(parse_config(TEXT, source="test")),
        overdue={},
        stretch=lambda: 1.0,
        lagged=lambda _: None,
        ticked=lambda: None,
        log=log,
    )

    async def ask():
        return 200

    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}, pid=os.getpid())
    supervision = Supervision(notify, pulse, ask=ask, state=lambda: "fine", log=log)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(pulse.run()), tasks.create_task(supervision.run())]
        await manager.heard("WATCHDOG=1")
        await asyncio.sleep(0)
        manager.pending()
        time.sleep(1.5 * STALL)  # noqa: ASYNC251 - the loop stands still: this is the test's subject
        first = await manager.heard("")
        assert re.match(r"STATUS=unwell: the event loop is 1\.\d s late", first)
        await manager.heard("WATCHDOG=1")
        for each in running:
            each.cancel()
    notify.close()


async def test_a_task_of_ours_that_hangs_is_no_ping_either(manager):
    behind = [0.0]
    balancer = Balancer(parse_config(TEXT, source="test"))
    log = configure(level="info", style="json", stream=io.StringIO())
    pulse = Pulse(
        balancer,
        overdue={"the probe schedule": lambda now: behind[0]},
        stretch=lambda: 1.0,
        lagged=lambda _: None,
        ticked=lambda: None,
        log=log,
    )

    async def ask():
        return 200

    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}, pid=os.getpid())
    supervision = Supervision(notify, pulse, ask=ask, state=lambda: "fine", log=log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervision.run())
        await manager.heard("WATCHDOG=1")
        behind[0] = 11.0
        assert await manager.heard("STATUS=unwell") == "STATUS=unwell: the probe schedule has not run for 11 s"
        assert "WATCHDOG=1" not in manager.pending()
        running.cancel()
    notify.close()


async def test_an_api_that_lets_go_at_the_stop_is_not_called_unwell(manager):
    out, asked = io.StringIO(), asyncio.Event()
    log = configure(level="info", style="json", stream=out)
    balancer = Balancer(parse_config(TEXT, source="test"))
    pulse = Pulse(balancer, overdue={}, stretch=lambda: 1.0, lagged=lambda _: None, ticked=lambda: None, log=log)

    async def ask():
        asked.set()
        await asyncio.sleep(0.01)
        raise EOFError("the API is closed")

    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "600000"}, pid=os.getpid())
    supervision = Supervision(notify, pulse, ask=ask, state=lambda: "fine", log=log)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE):
        running = tasks.create_task(supervision.run())
        await asked.wait()
        with supervision.stopping():
            await running
    assert "unwell" not in out.getvalue()
    assert not [each for each in manager.pending() if "unwell" in each or "WATCHDOG" in each]
    notify.close()


async def test_stopping_asks_for_more_time_for_as_long_as_it_takes(manager):
    log = configure(level="info", style="json", stream=io.StringIO())
    balancer = Balancer(parse_config(TEXT, source="test"))
    pulse = Pulse(balancer, overdue={}, stretch=lambda: 1.0, lagged=lambda _: None, ticked=lambda: None, log=log)
    notify = Notify.from_environment({"NOTIFY_SOCKET": manager.path}, pid=os.getpid())
    supervision = Supervision(notify, pulse, ask=lambda: asyncio.sleep(0, 200), state=lambda: "fine", log=log)
    with supervision.stopping():
        assert await manager.heard("STOPPING=1") == "STOPPING=1"
        for _ in range(2):
            assert await manager.heard("EXTEND_TIMEOUT_USEC=") == "EXTEND_TIMEOUT_USEC=5000000"
    notify.close()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
async def test_children_are_not_told_where_the_manager_listens(manager):
    environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    Notify.from_environment(environ, pid=os.getpid()).close()
    assert environ == {}


async def test_where_clients_took_every_file_the_watchdog_and_operators_are_answered(
    manager, program, free_port, tmp_path
):
    port, folder, file = free_port(), tmp_path / "run", tmp_path / "balancer.yaml"
    folder.mkdir()
    file.write_text(f"listen: 127.0.0.1:{port}\n{TEXT}")
    environ = {"RUNTIME_DIRECTORY": str(folder), "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "900000"}
    start = f"ulimit -n 100 && exec {sys.executable} -m balancer run -c {file}"
    running = await program("balancer", f"http://127.0.0.1:{port}", "/bin/sh", "-c", start, environ=environ)
    with ExitStack() as crowd:
        said = b"HTTP/1.1 200"
        while said == b"HTTP/1.1 200":  # streams of events never make room: as many as are let in
            client = crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0))
            client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            said = b""
            with suppress(TimeoutError):
                said = await asyncio.to_thread(client.recv, 12)
        for _ in range(100):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port)))
        async with asyncio.timeout(DEADLINE):
            control = aiohttp.UnixConnector(str(folder / "control.sock"))
            reload = "http://balancer/-/reload"
            async with aiohttp.ClientSession(connector=control) as root, root.post(reload, json={}) as answer:
                assert answer.status == 200
            manager.pending()
            await manager.heard("WATCHDOG=1")
            await manager.heard("WATCHDOG=1")
            async with aiohttp.ClientSession() as other, other.get(f"{running.url}/-/healthy") as answer:
                assert answer.status == 200
    assert "daemon.unwell" not in running.log()
