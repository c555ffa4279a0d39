"""A reload is refused by what cannot be read in time, and nobody waits for the thread that reads."""

import asyncio
import io
import json
import os
import socket
import threading

import pytest

from balancer import Balancer
from balancer.config import ConfigError, parse_config
from balancer.daemon.pulse import Pulse
from balancer.daemon.reloading import Reloading
from balancer.daemon.supervision import Supervision
from balancer.metrics import Metrics
from balancer.service.log import configure
from balancer.service.notify import Notify

TEXT = """\
providers: {one: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/large: {endpoints: [{provider: one, model: large}]}}
"""


class House:
    """What a daemon is to a reload."""

    def __init__(self, read, *, address=None, breaks=False):
        self.out = io.StringIO()
        self.followed = []
        config = parse_config(TEXT, source="test")
        balancer, log = Balancer(config), configure(level="info", style="json", stream=self.out)
        self.metrics = Metrics(view=lambda: balancer.view(now=0.0), version="1")
        pulse = Pulse(
            balancer, overdue={}, stretch=lambda: 1.0, lagged=lambda _: None, ticked=lambda: None, log=log
        )
        environ = {} if address is None else {"NOTIFY_SOCKET": address}
        self.notify = Notify.from_environment(environ, pid=os.getpid())
        self.supervision = Supervision(
            self.notify, pulse, ask=lambda: asyncio.sleep(0, 200), state=lambda: "fine", log=log
        )
        self.reloading = Reloading(
            read,
            passed=(),
            current=lambda: config,
            serving=lambda: None,
            follow=self.break_down if breaks else self.follow,
            supervision=self.supervision,
            metrics=self.metrics,
            log=log,
            patience=0.2,
        )

    def follow(self, found):
        self.followed.append(found)
        return len(self.followed) + 1

    def break_down(self, found):
        raise KeyError("a bug of ours")

    def told(self, event):
        return [each for each in map(json.loads, self.out.getvalue().splitlines()) if each["event"] == event]

    def successful(self):
        body, _ = self.metrics.render("text/plain")
        return b"balancer_config_last_reload_successful 1\n" in body


async def test_a_read_that_hangs_is_refused_in_time_and_so_is_the_next_until_it_is_back():
    hanging, entered = threading.Event(), threading.Event()

    def read():
        entered.set()
        hanging.wait(30)
        return parse_config(TEXT, source="test")

    house = House(read)
    with pytest.raises(ConfigError, match=r"not read within 0\.2 s"):
        await house.reloading.reload()
    assert entered.is_set()
    with pytest.raises(ConfigError, match="an earlier reload still waits"):
        await house.reloading.reload()
    assert (house.followed, house.successful()) == ([], False)
    assert len(house.told("config.rejected")) == 2
    hanging.set()
    async with asyncio.timeout(10):
        while True:
            try:
                done = await house.reloading.reload()
                break
            except ConfigError:
                await asyncio.sleep(0.02)
    assert (done.config_generation, house.successful()) == (2, True)


async def test_a_reload_that_the_stop_cuts_short_is_no_refusal_and_says_nothing_more(tmp_path):
    hanging = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.bind(str(tmp_path / "notify"))

        def heard():
            found = []
            while True:
                try:
                    found.append(manager.recv(4096).decode())
                except BlockingIOError:
                    return found

        house = House(lambda: hanging.wait(30), address=str(tmp_path / "notify"))
        async with asyncio.TaskGroup() as tasks:
            reload = tasks.create_task(house.reloading.reload())
            while not (said := heard()):
                await asyncio.sleep(0.01)
            assert said[0].startswith("RELOADING=1")
            with house.supervision.stopping():
                reload.cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        hanging.set()
        after = heard()
        assert [each for each in after if "READY=1" in each or "refused" in each] == []
        assert [each for each in after if "STOPPING=1" in each] == ["STOPPING=1"]
        assert house.told("config.rejected") == []
        house.notify.close()


async def test_one_line_for_each_signal_whatever_comes_of_it():
    answers = iter([TEXT, "modles: {}", None])

    def read():
        text = next(answers)
        if text is None:
            raise RecursionError("a file that we did not think of")
        return parse_config(text, source="test")

    house = House(read)
    for _ in range(3):
        await house.reloading.by_signal()
    deeds = house.told("operator.acted")
    assert [each["result"] for each in deeds] == ["done", "refused", "refused"]
    assert deeds[1]["refusal"].startswith("test:1: modles: unknown key")
    assert deeds[2]["refusal"] == "reload: it could not be read, by an error of ours; see the log"
    assert "a file that we did not think of" in house.out.getvalue()


async def test_a_bug_in_following_refuses_the_reload_whoever_asked_for_it():
    house = House(lambda: parse_config(TEXT, source="test"), breaks=True)
    with pytest.raises(ConfigError, match="could not be followed, by an error of ours; see the log, and restart"):
        await house.reloading.reload()
    await house.reloading.by_signal()
    assert [each["result"] for each in house.told("operator.acted")] == ["refused"]
    assert ["a bug of ours" in each["exception"] for each in house.told("config.rejected")] == [True, True]
    assert not house.successful()
