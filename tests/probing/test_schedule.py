"""When endpoints are probed: spread, limits, budgets, reloads, and a schedule that nothing but a bug can stop."""

import asyncio
import random
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from balancer.config.secret import Secret
from balancer.config.settings import ProbeSettings
from balancer.core.evidence import Evidence
from balancer.core.outcome import Outcome
from balancer.probing import KINDS, Check, Scheduler
from balancer.probing.schedule import LISTEN

FAST = ProbeSettings(kind="models", interval=0.02, floor=0.02, timeout=2.0)
NOTHING = Evidence(None, None, "calm")
HEARD = Evidence(0.0, 0.0, "calm")


def test_first_probes_are_spread_over_the_interval(lab):
    desk = lab.desk(now=100.0)
    endpoints = desk.endpoints(1000)
    desk.apply(endpoints, ProbeSettings(interval=30.0))
    tenths = [int((due - 100.0) // 3.0) for due in desk.due(endpoints)]
    assert set(tenths) == set(range(10))
    assert max(tenths.count(tenth) for tenth in range(10)) < 150
    assert not desk.scheduler.first_picture


def test_the_same_seed_gives_the_same_times(lab):
    times = []
    for _ in range(2):
        desk = lab.desk(now=5.0, seed=3)
        desk.apply(desk.endpoints(20))
        times.append(desk.due(desk.endpoints(20)))
    assert times[0] == times[1]


def test_unchanged_endpoints_keep_their_due_time_and_others_come_and_go(lab):
    desk = lab.desk(now=100.0)
    endpoints = desk.endpoints(5)
    settings = ProbeSettings(interval=30.0)
    desk.apply(endpoints, settings)
    before = desk.due(endpoints)
    desk.now = 101.0
    names = list(endpoints)
    gone = names[0]
    changed = dict(endpoints)
    del changed[gone]
    changed[names[1]] = replace(endpoints[names[1]], weight=3.0)
    changed[names[2]] = replace(endpoints[names[2]], identity="elsewhere")
    changed["new"] = lab.endpoint("http://127.0.0.1:1", id="new")
    desk.apply(changed, replace(settings, timeout=3.0))
    after = desk.due(endpoints)
    assert after[0] is None
    assert after[1] == before[1]
    assert after[2] != before[2]
    assert after[3:] == before[3:]
    assert 101.0 <= desk.scheduler.due_at("new") <= 131.0


def test_a_shorter_interval_is_followed_at_once_and_a_longer_one_delays_nothing(lab):
    desk = lab.desk(now=100.0)
    endpoints = desk.endpoints(50)
    desk.apply(endpoints, ProbeSettings(interval=3600.0))
    desk.apply(endpoints, ProbeSettings(interval=10.0))
    assert max(desk.due(endpoints)) <= 110.0
    before = desk.due(endpoints)
    desk.apply(endpoints, ProbeSettings(interval=3600.0))
    assert all(now <= then for now, then in zip(desk.due(endpoints), before, strict=True))


def test_a_changed_credential_begins_anew(lab):
    desk = lab.desk(now=100.0)
    endpoints = desk.endpoints(1)
    desk.apply(endpoints, credential=Secret("one"))
    before = desk.due(endpoints)
    desk.apply(endpoints, credential=Secret("one"))
    assert desk.due(endpoints) == before
    desk.apply(endpoints, credential=Secret("two"))
    assert desk.due(endpoints) != before


def test_kind_none_and_endpoints_misconfigured_by_configuration_are_not_scheduled(lab):
    desk = lab.desk(now=100.0)
    silent = desk.endpoints(1, provider="silent")
    broken = desk.endpoints(1, provider="broken", misconfigured="credential absent")
    desk.scheduler.apply(
        silent | broken,
        {name: ProbeSettings(kind="none" if name in silent else "models") for name in silent | broken},
        {},
    )
    assert desk.due(silent | broken) == [None, None]
    assert desk.scheduler.first_picture


async def test_endpoints_are_probed_again_and_again_with_jitter(lab):
    desk = lab.desk(kinds=lab.counted()[1])
    settings = ProbeSettings(kind="models", interval=0.1)
    desk.apply(desk.endpoints(1), settings)
    async with desk.running():
        await lab.until(lambda: len(desk.results) >= 6)
    began = [result.began for result in desk.results]
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert min(gaps) >= 0.0899
    assert len({round(gap, 4) for gap in gaps}) > 1
    assert len(desk.late) >= 6
    assert 0.0 <= min(desk.late) <= max(desk.late) < 1.0


async def test_how_late_each_probe_begins_is_told_and_the_wait_for_a_slot_is_part_of_it(lab):
    state, kinds = lab.gate()
    desk = lab.desk(now=100.0, kinds=kinds)
    desk.apply(desk.endpoints(2), ProbeSettings(interval=3600.0, concurrency=1))
    async with desk.running(), asyncio.TaskGroup() as group:
        for name in ("model@door/0", "model@door/1"):
            group.create_task(desk.scheduler.probe_now(name), name="asks")
        await lab.until(lambda: state["inside"] == 1)
        assert desk.late == [0.0]
        desk.now = 103.0
        state["open"].set()
    assert desk.late == [0.0, 3.0]


def test_it_sleeps_until_a_turn_and_does_not_look_again_and_again(laboratory):
    uvloop = pytest.importorskip("uvloop")
    looks = []

    async def main():
        lab = laboratory()
        done, kinds = lab.counted()
        desk = lab.desk(kinds=kinds)
        scheduler = Scheduler(
            clock=lambda: looks.append(None) or time.monotonic(),
            rng=random.Random(7),
            on_result=desk.results.append,
            look=lambda *_: NOTHING,
            kinds=kinds,
        )
        endpoints = desk.endpoints(50)
        scheduler.apply(endpoints, dict.fromkeys(endpoints, ProbeSettings(interval=1.0, concurrency=50)), {})
        async with asyncio.TaskGroup() as group:
            running = group.create_task(scheduler.run(), name="probe schedule")
            await lab.until(lambda: len(done) >= 50)
            running.cancel()
        await lab.close()
        return len(looks) / len(done)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) < 13.0  # a probe reads the clock six times, and a look at the plan four


async def test_a_turn_that_is_planned_before_the_one_waited_for_is_not_slept_through(lab):
    done, kinds = lab.counted()
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(2)
    often, seldom = endpoints
    settings = {often: FAST, seldom: ProbeSettings(kind="models", interval=3600.0)}
    desk.scheduler.apply(endpoints, settings, {})
    async with desk.running():
        await lab.until(lambda: done.count(often) >= 5)
    assert seldom not in done


async def test_real_probes_of_a_real_server_reach_on_result_and_complete_the_picture(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"data": []}))
    desk = lab.desk()
    endpoints = desk.endpoints(20, server.url)
    desk.apply(endpoints)
    async with desk.running():
        await lab.until(lambda: desk.scheduler.first_picture)
        await lab.until(lambda: len(desk.results) >= 60)
    assert {result.endpoint for result in desk.results} == set(endpoints)
    assert {result.outcome.kind for result in desk.results} == {"success"}
    assert {result.transcript for result in desk.results} == {()}, "nobody reads it"
    assert server.connections == 20
    assert desk.scheduler.in_flight == 0


async def test_no_provider_has_more_probes_at_a_time_than_its_concurrency(lab):
    state, kinds = lab.gate()
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(10, provider="one") | desk.endpoints(10, provider="two")
    desk.apply(endpoints, replace(FAST, concurrency=3))
    async with desk.running():
        await lab.until(
            lambda: (
                state["inside"] == 6
                and all(due is None or due < time.monotonic() - 0.01 for due in desk.due(endpoints))
            )
        )
        assert desk.scheduler.in_flight == 6
        names = {task.get_name() for task in asyncio.all_tasks()}
        state["open"].set()
        await lab.until(lambda: desk.scheduler.first_picture)
    assert state["most"] == 6
    assert len([name for name in names if name.startswith("probe:model@")]) == 6


async def test_a_slow_provider_does_not_delay_another(lab):
    state, kinds = lab.gate()
    done, quick = lab.counted()
    desk = lab.desk(kinds={**kinds, "tcp": quick["models"]})
    slow, fast = desk.endpoints(3, provider="slow"), desk.endpoints(1, provider="fast")
    probes = dict.fromkeys(slow, replace(FAST, concurrency=1)) | dict.fromkeys(fast, replace(FAST, kind="tcp"))
    desk.scheduler.apply(slow | fast, probes, {})
    async with desk.running():
        await lab.until(lambda: len(done) >= 5)
    assert state["most"] == 1


async def test_what_is_due_much_too_late_is_spread_and_not_fired_at_once(lab):
    done, kinds = lab.counted()
    desk = lab.desk(now=100.0, kinds=kinds)
    endpoints = desk.endpoints(200)
    desk.apply(endpoints, ProbeSettings(interval=60.0, concurrency=1000))
    desk.now = 4000.0
    async with desk.running():
        times = desk.due(endpoints)
        assert done == []
        assert min(times) >= 4000.0
        assert max(times) <= 4060.0
        assert max(times) - min(times) > 50.0


async def test_a_turn_is_moved_up_when_something_is_found_wrong_and_never_put_off(lab):
    seen = {"now": NOTHING}
    desk = lab.desk(now=1000.0, kinds=lab.counted()[1], look=lambda *_: seen["now"])
    endpoints = desk.endpoints(50)
    desk.apply(endpoints, ProbeSettings(interval=3600.0, suspect_interval=10.0))
    planned = desk.due(endpoints)
    for name in endpoints:
        desk.scheduler.reconsider(name)
    assert desk.due(endpoints) == planned
    seen["now"] = Evidence(None, None, "out")
    for name in (*endpoints, "never configured"):
        desk.scheduler.reconsider(name)
    moved = desk.due(endpoints)
    assert max(moved) <= 1010.0
    assert max(moved) - min(moved) > 5.0
    seen["now"] = NOTHING
    for name in endpoints:
        desk.scheduler.reconsider(name)
    assert desk.due(endpoints) == moved


async def test_a_timeout_that_fired_late_is_not_run_and_told_only_to_who_asked(lab):
    async def stalls(client):
        desk.now += 10.0
        await asyncio.Event().wait()

    desk = lab.desk(now=100.0, kinds={**KINDS, "models": Check(run=stalls, shallow=True)})
    desk.apply(desk.endpoints(1), ProbeSettings(interval=3600.0, timeout=0.02))
    async with desk.running():
        result = await desk.scheduler.probe_now("model@door/0")
        assert (result.outcome.kind, result.overslept) == ("timeout", True)
        assert desk.scheduler.left_out["late"] == 1
        assert 110.0 <= desk.scheduler.due_at("model@door/0") <= 3710.0
    assert desk.results == []
    assert not desk.scheduler.first_picture


async def test_a_timeout_after_suspends_is_a_failure_like_any_other(lab):
    desk = lab.desk(now=0.0, kinds=lab.counted(Outcome(kind="timeout"))[1])
    desk.apply(desk.endpoints(1), ProbeSettings(interval=60.0))
    async with desk.running():
        for missed in range(1, 6):
            desk.now += 61.0
            desk.apply(desk.endpoints(1), ProbeSettings(interval=60.0))  # which wakes it
            await lab.until(lambda count=missed: desk.scheduler.left_out["late"] == count)
        assert not (await desk.scheduler.probe_now("model@door/0")).overslept
    assert len(desk.results) == 1
    assert desk.scheduler.stretch == 1.0


@pytest.mark.parametrize(
    ("outcome", "stood_still", "taken"),
    [("timeout", 3.0, False), ("timeout", 0.3, True), ("server_error", 3.0, True)],
)
async def test_a_timeout_while_our_loop_stood_still_is_nobodys_failure(lab, outcome, stood_still, taken):
    begun, go = asyncio.Event(), asyncio.Event()

    async def ends(client):
        begun.set()
        await go.wait()
        return Outcome(kind=outcome)

    desk = lab.desk(now=0.0, kinds={**KINDS, "models": Check(run=ends, shallow=True)})
    desk.apply(desk.endpoints(1), ProbeSettings(interval=60.0, timeout=10.0))
    async with desk.running(), asyncio.TaskGroup() as group:
        asked = group.create_task(desk.scheduler.probe_now("model@door/0"), name="asks")
        await begun.wait()
        desk.now += LISTEN + stood_still  # it was to be woken before
        desk.apply(desk.endpoints(1), ProbeSettings(interval=60.0, timeout=10.0))  # which wakes it
        go.set()
        assert (await asked).overslept is not taken
    assert len(desk.results) == taken


async def test_a_health_url_that_is_gone_counts_once_it_was_good_and_until_another_is_configured(lab):
    state = {"status": 404}
    server = await lab.serve(lambda seen: seen.answer(state["status"]))
    desk = lab.desk()
    settings = ProbeSettings(kind="http", interval=3600.0, url="/health")
    desk.apply(desk.endpoints(1, server.url), settings)

    async def asked():
        return (await desk.scheduler.probe_now("model@door/0")).outcome.kind

    async with desk.running():
        assert await asked() == "probe_invalid"
        state["status"] = 200
        assert await asked() == "success"
        state["status"] = 404
        assert [await asked(), await asked()] == ["malformed", "malformed"]
        desk.apply(desk.endpoints(1, server.url), replace(settings, url="/other"))
        assert await asked() == "probe_invalid"


async def test_a_kind_that_raises_counts_for_nothing_and_the_schedule_goes_on(lab):
    async def broken(client):
        raise RuntimeError("oh")

    desk = lab.desk(kinds={**KINDS, "models": Check(run=broken, shallow=True)})
    desk.apply(desk.endpoints(2))
    async with desk.running():
        await lab.until(lambda: len(desk.results) >= 6)
    assert {result.outcome.kind for result in desk.results} == {"probe_invalid"}
    assert all("RuntimeError: oh" in result.bug for result in desk.results)


async def test_an_exception_from_on_result_ends_the_schedule_loudly(lab):
    def broken(result):
        raise KeyError(result.endpoint)

    desk = lab.desk(kinds=lab.counted()[1], on_result=broken)
    desk.apply(desk.endpoints(1))
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5.0):
            await desk.scheduler.run()
    assert caught.group_contains(KeyError, match="model@door/0")
    await desk.scheduler.close()


async def test_cancelling_leaves_no_task_no_connection_and_no_waiter(lab):
    server = await lab.serve(lambda seen: seen.hang())
    desk = lab.desk()
    desk.apply(desk.endpoints(8, server.url))
    async with asyncio.TaskGroup() as group:
        async with desk.running():
            asked = group.create_task(refused(desk.scheduler.probe_now("model@door/7")), name="asks")
            await lab.until(lambda: desk.scheduler.in_flight == 4)
        assert "stopped" in await asked
    assert desk.scheduler.in_flight == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("probe:")]


async def refused(asking):
    with pytest.raises(RuntimeError) as caught:
        await asking
    return str(caught.value)


async def test_a_cancelled_schedule_can_run_again(lab):
    done, kinds = lab.counted()
    desk = lab.desk(kinds=kinds)
    desk.apply(desk.endpoints(2))
    for wanted in (3, 6):
        async with desk.running():
            await lab.until(lambda most=wanted: len(done) >= most)


async def test_probe_now_probes_out_of_turn_and_is_recorded_like_any_other(lab):
    done, kinds = lab.counted()
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(2)
    desk.apply(endpoints, ProbeSettings(interval=3600.0))
    async with desk.running():
        result = await desk.scheduler.probe_now("model@door/1")
        assert result.endpoint == "model@door/1"
        assert desk.results == [result]
        assert done == ["model@door/1"]
        assert desk.scheduler.due_at("model@door/1") > time.monotonic() + 3000.0
        with pytest.raises(KeyError):
            await desk.scheduler.probe_now("never configured")
    with pytest.raises(RuntimeError, match="not running"):
        await desk.scheduler.probe_now("model@door/1")


async def test_probe_now_joins_a_probe_that_runs_and_waits_for_a_slot(lab):
    state, kinds = lab.gate()
    desk = lab.desk(kinds=kinds)
    desk.apply(desk.endpoints(2), ProbeSettings(interval=3600.0, concurrency=1))
    async with desk.running(), asyncio.TaskGroup() as group:
        names = ["model@door/0", "model@door/0", "model@door/1"]
        asked = [group.create_task(desk.scheduler.probe_now(name), name="asks") for name in names]
        await lab.until(lambda: desk.scheduler.in_flight == 1)
        asked[1].cancel()
        state["open"].set()
        results = [await asked[0], await asked[2]]
        assert [result.endpoint for result in results] == ["model@door/0", "model@door/1"]
        assert desk.results == results
    assert state["most"] == 1


async def test_who_waits_too_long_for_a_slot_is_not_run_but_whoever_asks_by_name_is_and_first(lab):
    state, kinds = lab.gate()
    desk = lab.desk(now=100.0, kinds=kinds)
    endpoints = desk.endpoints(20)
    desk.apply(endpoints, ProbeSettings(interval=1.0, concurrency=1))
    desk.now = 101.0
    async with desk.running(), asyncio.TaskGroup() as group:
        await lab.until(lambda: state["inside"] == 1)
        runs, *_, last = sorted(endpoints, key=lambda name: (desk.scheduler.due_at(name) is not None, name))
        asked = group.create_task(desk.scheduler.probe_now(last), name="asks")
        await asyncio.sleep(0)
        desk.now = 108.0
        state["open"].set()
        assert (await asked).endpoint == last
        assert [result.endpoint for result in desk.results][:2] == [runs, last]
        assert desk.scheduler.left_out["busy"] == 18
        assert desk.scheduler.left_out["late"] == 0
        assert desk.scheduler.stretch == 1.0


async def test_the_result_of_an_endpoint_that_a_reload_removed_is_not_recorded(lab):
    state, kinds = lab.gate()
    desk = lab.desk(kinds=kinds)
    desk.apply(desk.endpoints(1), ProbeSettings(interval=3600.0))
    async with desk.running(), asyncio.TaskGroup() as group:
        asked = group.create_task(desk.scheduler.probe_now("model@door/0"), name="asks")
        await lab.until(lambda: desk.scheduler.in_flight == 1)
        desk.apply({})
        state["open"].set()
        assert (await asked).outcome.kind == "success"
        assert desk.scheduler.in_flight == 0
    assert desk.results == []
    assert desk.scheduler.first_picture


async def test_who_waits_in_line_for_an_endpoint_that_a_reload_removed_is_told(lab):
    _, kinds = lab.gate()
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(2)
    settings = ProbeSettings(interval=3600.0, concurrency=1)
    desk.apply(endpoints, settings)
    async with desk.running(), asyncio.TaskGroup() as group:
        first = group.create_task(desk.scheduler.probe_now("model@door/0"), name="runs")
        await lab.until(lambda: desk.scheduler.in_flight == 1)
        waiting = group.create_task(refused(desk.scheduler.probe_now("model@door/1")), name="waits")
        await asyncio.sleep(0)
        desk.apply({"model@door/0": endpoints["model@door/0"]}, settings)
        assert "no longer scheduled" in await waiting
        first.cancel()


async def test_a_thousand_endpoints_are_cheap_to_follow_and_to_run(lab):
    done, kinds = lab.counted()
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(1000)
    settings = ProbeSettings(interval=1.0, concurrency=100)
    began = time.process_time()
    for _ in range(20):
        desk.apply(endpoints, settings)
    async with desk.running():
        await lab.until(lambda: desk.scheduler.first_picture)
    assert set(done) == set(endpoints)
    assert time.process_time() - began < 5.0  # some tenths of a second; the limit is for a busy machine
