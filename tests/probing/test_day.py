"""A simulated day of the real schedule over the real core: what paid probes cost with traffic and without."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter

import pytest

from balancer.config import parse_config
from balancer.config.settings import Budget
from balancer.core.balancer import Balancer
from balancer.core.outcome import Outcome
from balancer.core.request import Request
from balancer.probing import KINDS, Check, Scheduler

DAY = 86_400.0
PROVIDERS = ("one", "two", "three", "four")
MODEL = "author/model"


class _Jumping(selectors.DefaultSelector):
    """Waits for nobody: what would be waited for has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is planned any more: this would wait for ever")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 0 and moves only when all there is to do is to wait."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main):
    """Run to the end under a clock that jumps to the next timer: a day takes as long as its work does."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


class Day:
    """A table, its schedule and a world in which an endpoint answers unless it is `down`."""

    def __init__(self, *, budget: Budget | None = None, probe: str = "") -> None:
        spent = "" if budget is None else f", budget: {{requests: {budget.requests}, usd: {budget.usd}}}"
        text = ["providers:"]  # each with a host of its own: they share no fate
        text += [f"  {key}: {{base_url: 'http://192.0.2.{number}:1'}}" for number, key in enumerate(PROVIDERS)]
        text += ["models:", f"  {MODEL}:", "    endpoints:"]
        text += [
            f"      - {{provider: {key}, model: m, pricing: {{prompt: {price}, completion: {price}}}}}"
            for price, key in enumerate(PROVIDERS, 1)
        ]
        text += [f"probe: {{kind: completion{probe}{spent}}}"]
        self.config = parse_config("\n".join(text), source="test")
        self.loop = asyncio.get_running_loop()
        self.table = Balancer(self.config, seed=1)
        self.slept = 0.0
        self.down: set[str] = set()
        self.cut: Outcome | None = None
        self.odd: dict[str, Outcome] = {}
        self.flaky: dict[str, float] = {}
        self.chance = random.Random(5)
        self.bought: Counter[str] = Counter()
        self.scheduler = Scheduler(
            clock=lambda: self.loop.time() + self.slept,
            wall=self.loop.time,
            rng=random.Random(1),
            on_result=lambda result: self.tell(result.endpoint, result.outcome, "probe"),
            look=lambda key, now: self.table.evidence(key, now=now),
            kinds={
                **KINDS,
                "completion": Check(run=self._answer, shallow=False, paid=True),
                "models": Check(run=self._listed, shallow=True),
            },
        )
        self.scheduler.apply(self.config.endpoints, self.config.probes, self.config.credentials)

    async def _answer(self, client):
        key = client.endpoint.id
        self.bought[key] += 1
        await asyncio.sleep(1.0)
        outcome = self.outcome(key, prompt_tokens=10, completion_tokens=16)
        client.sent += outcome.kind != "local"  # what could not be sent
        return outcome

    async def _listed(self, client):
        """Lists models for as long as the endpoint is there at all."""
        await asyncio.sleep(0.1)
        key = client.endpoint.id
        return self.outcome(key) if key in self.down or self.cut is not None else Outcome(kind="success")

    def outcome(self, key, **facts):
        if self.cut is not None:
            return self.cut
        if key in self.down:
            return Outcome(kind="server_error", status=500)
        if key in self.odd:
            return self.odd[key]
        if self.chance.random() < self.flaky.get(key, 0.0):
            return Outcome(kind="server_error", status=500)
        return Outcome(kind="success", latency=1.0, ttft=0.5, **facts)

    def tell(self, key, outcome, source="report", decision=None):
        self.table.record(key, outcome, now=self.loop.time(), source=source, decision=decision)

    async def pass_by(self, *, until, traffic=None):
        """Let time pass, with a request each `traffic` seconds that goes where the table says."""
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(self.scheduler.run(), name="schedule")
            while self.loop.time() < until:
                await asyncio.sleep(60.0 if traffic is None else traffic)
                if traffic is not None:
                    decision = self.table.best(Request(model=MODEL), now=self.loop.time())
                    key = decision.selected.id
                    self.tell(key, self.outcome(key), decision=decision.id)
            probing.cancel()


def test_with_live_traffic_a_day_has_fewer_than_five_paid_probes_an_endpoint():
    async def main():
        day = Day()
        await day.pass_by(until=DAY, traffic=10.0)
        assert len(day.bought) == len(PROVIDERS)
        assert max(day.bought.values()) < 5
        assert day.table.endpoint(f"{MODEL}@four", now=DAY).state == "healthy"

    run(main())


def test_without_traffic_an_outage_is_seen_within_minutes_though_no_paid_probe_is_due():
    async def main():
        day = Day()
        dead = f"{MODEL}@two"
        await day.pass_by(until=3600.0)
        assert set(day.bought.values()) == {1}
        day.down = {dead}
        await day.pass_by(until=3600.0 + 120.0)
        assert day.table.endpoint(dead, now=day.loop.time()).state == "ejected"

    run(main())


def test_without_traffic_a_day_has_the_floor_and_no_more():
    async def main():
        day = Day(probe=", floor: 1h")
        await day.pass_by(until=DAY)
        assert all(21 <= count <= 26 for count in day.bought.values())  # one an hour, give or take the jitter

    run(main())


@pytest.mark.parametrize("answer", ["probe_invalid", "rate_limited", "caller_error", "local"])
@pytest.mark.parametrize("ejected", [False, True])
def test_one_whose_answers_decide_nothing_costs_little_and_is_found_out_when_they_do(answer, ejected):
    async def main():
        day = Day()
        odd = f"{MODEL}@two"
        day.odd = {odd: Outcome(kind=answer)}
        for _ in range(5 if ejected else 0):
            day.tell(odd, Outcome(kind="server_error", status=500))
        await day.pass_by(until=DAY / 2)
        assert day.bought[odd] >= 5
        assert day.bought[odd] <= 16 or answer == "local"  # which was not even sent
        assert (day.scheduler.spent("two").requests == 0) is (answer == "local")
        assert max(count for key, count in day.bought.items() if key != odd) < 5
        day.odd = {}
        await day.pass_by(until=DAY / 2 + 8 * 3600.0 * 1.2)
        assert day.table.endpoint(odd, now=day.loop.time()).state in ("healthy", "recovering")

    run(main())


@pytest.mark.parametrize("traffic", [None, 60.0])
@pytest.mark.parametrize("answer", ["timeout", "local"])
def test_an_hour_without_a_network_of_our_own_ejects_nobody_and_costs_little(traffic, answer):
    async def main():
        day = Day()
        await day.pass_by(until=DAY / 3, traffic=traffic)
        before = dict(day.bought)
        day.cut = Outcome(kind=answer)
        await day.pass_by(until=DAY / 3 + 3600.0, traffic=traffic)
        if answer == "local":  # which was not even sent, and costs nothing
            before = dict(day.bought)
        day.cut = None
        await day.pass_by(until=DAY / 3 + 7200.0, traffic=traffic)
        states = {key: day.table.endpoint(key, now=day.loop.time()).state for key in day.bought}
        assert set(states.values()) <= {"healthy", "recovering"}
        assert max(day.bought[key] - before[key] for key in before) <= 12

    run(main())


def test_after_half_a_day_without_a_network_of_our_own_all_are_asked_at_once():
    async def main():
        day = Day()
        day.cut = Outcome(kind="local")
        await day.pass_by(until=DAY / 2)
        before = dict(day.bought)
        day.cut = None
        await day.pass_by(until=DAY / 2 + 120.0)
        assert {key: day.bought[key] - before[key] for key in before} == dict.fromkeys(before, 1)

    run(main())


@pytest.mark.parametrize("share", [0.15, 0.25, 0.6])
def test_one_that_fails_now_and_then_costs_no_more_while_there_is_live_traffic(share):
    async def main():
        day = Day()
        day.flaky = {f"{MODEL}@one": share}  # the cheapest, to which requests go
        await day.pass_by(until=DAY, traffic=10.0)
        assert max(day.bought.values()) < 5, day.bought

    run(main())


@pytest.mark.parametrize("traffic", [None, 10.0])
def test_one_that_is_down_all_day_costs_little_more_and_is_found_to_be_back(traffic):
    async def main():
        day = Day()
        dead = f"{MODEL}@two"
        await day.pass_by(until=100.0, traffic=traffic)
        day.down = {dead}
        await day.pass_by(until=DAY, traffic=traffic)
        assert day.bought[dead] <= 30
        assert max(count for key, count in day.bought.items() if key != dead) < 5
        day.down = set()
        await day.pass_by(until=DAY + 8 * 3600.0 * 1.2, traffic=traffic)
        assert day.table.endpoint(dead, now=day.loop.time()).state in ("healthy", "recovering")

    run(main())


@pytest.mark.parametrize("traffic", [None, 10.0])
def test_nothing_is_bought_of_one_that_is_drained(traffic):
    async def main():
        day = Day(probe=", floor: 1h")
        day.table.drain(f"{MODEL}@two", now=0.0)
        await day.pass_by(until=DAY / 2, traffic=traffic)
        assert f"{MODEL}@two" not in day.bought
        assert len(day.bought) == len(PROVIDERS) - 1

    run(main())


def test_one_that_refuses_us_is_asked_ever_more_rarely_and_found_to_take_us_back():
    async def main():
        day = Day()
        odd = f"{MODEL}@two"
        day.odd = {odd: Outcome(kind="refused", status=402)}
        await day.pass_by(until=DAY / 4)
        assert day.table.endpoint(odd, now=day.loop.time()).state == "misconfigured"
        assert 5 <= day.bought[odd] <= 14
        day.odd = {}
        await day.pass_by(until=DAY / 4 + 6 * 3600.0)
        assert day.table.endpoint(odd, now=day.loop.time()).state == "healthy"

    run(main())


def test_a_days_budget_is_never_exceeded_whatever_is_wrong():
    async def main():
        day = Day(budget=Budget(requests=10, usd=1.0), probe=", floor: 1m, stale_after: 1m")
        day.down = {f"{MODEL}@one"}
        await day.pass_by(until=DAY - 1.0)
        assert set(day.bought.values()) == {10}
        assert day.scheduler.left_out["budget"] > 100

    run(main())


def test_a_machine_that_slept_is_noticed_within_seconds_though_the_loops_timers_slept_too():
    async def main():
        day = Day(probe=", interval: 1h")
        await day.pass_by(until=3 * 3600.0)
        before = max(filter(None, map(day.scheduler.due_at, day.config.endpoints)))
        day.slept = 8 * 3600.0
        await day.pass_by(until=3 * 3600.0 + 60.0)
        assert day.scheduler.left_out["late"] == len(PROVIDERS)
        assert min(map(day.scheduler.due_at, day.config.endpoints)) > before

    run(main())
