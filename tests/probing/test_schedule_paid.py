"""Which paid probes a schedule buys, what is probed in their place, and that budgets hold."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from balancer.config.settings import Budget, ProbeSettings
from balancer.core.evidence import Evidence
from balancer.core.outcome import Outcome
from balancer.probing import BudgetSpent, Check, Spent

FAST = ProbeSettings(kind="models", interval=0.02, floor=0.02, timeout=2.0)
NOTHING = Evidence(None, None, "calm")
HEARD = Evidence(0.0, 0.0, "calm")


async def test_paid_probes_are_left_out_while_the_evidence_is_fresh(lab):
    seen = {"now": HEARD}
    done, kinds = lab.counted(paid=True)
    asked = []

    def look(endpoint, now):
        asked.append((endpoint, now))
        return seen["now"]

    desk = lab.desk(kinds=kinds, look=look)
    desk.apply(desk.endpoints(1), replace(FAST, kind="completion"))
    async with desk.running():
        await lab.until(lambda: len(asked) >= 3)
        assert done == []
        assert desk.scheduler.first_picture
        assert desk.scheduler.spent("door") == Spent()
        assert desk.scheduler.left_out["fresh"] >= 2
        seen["now"] = NOTHING
        await lab.until(lambda: len(done) >= 1)


async def test_the_free_kind_takes_the_turns_that_no_paid_probe_is_bought_for(lab):
    done, kinds = lab.counted(paid=True)
    desk = lab.desk(kinds=kinds, look=lambda *_: HEARD)
    endpoints = desk.endpoints(2)
    with_free, without = endpoints
    settings = replace(FAST, kind="completion")
    probes = {with_free: settings, without: replace(settings, free_kind="none")}
    desk.scheduler.apply(endpoints, probes, {})
    async with desk.running():
        await lab.until(lambda: len(desk.results) >= 3)
        await desk.turns(endpoints)
    assert {(result.endpoint, result.kind, result.outcome.shallow) for result in desk.results} == {
        (with_free, "models", True)
    }
    assert done == []
    assert desk.scheduler.left_out["fresh"] >= 5
    assert desk.scheduler.spent("door") == Spent()


async def test_what_a_free_probe_finds_buys_nothing_and_puts_nothing_off(lab):
    done, kinds = lab.counted(paid=True)

    async def down(client):
        return Outcome(kind="connect")

    desk = lab.desk(kinds={**kinds, "tcp": Check(run=down, shallow=True)})
    settings = replace(FAST, kind="completion", free_kind="tcp", interval=0.05, suspect_interval=0.01, floor=0.3)
    desk.apply(desk.endpoints(1), settings)
    async with desk.running():
        await lab.until(lambda: len(done) == 3)
    assert [result.outcome.kind for result in desk.results].count("connect") >= 10  # what fails is asked sooner
    paid = [result.began for result in desk.results if result.kind == "completion"]
    assert all(0.29 <= later - earlier < 1.0 for earlier, later in pairwise(paid))


async def test_a_spent_budget_leaves_the_free_kind_running(lab):
    done, kinds = lab.counted(paid=True)
    desk = lab.desk(kinds=kinds)
    desk.apply(desk.endpoints(1), replace(FAST, kind="completion", budget=Budget(requests=2)))
    async with desk.running():
        await lab.until(lambda: len(desk.results) >= 6)
        await lab.until(lambda: desk.scheduler.left_out["budget"] >= 3)
    assert len(done) == 2
    assert [result.kind for result in desk.results][-3:] == ["models"] * 3


async def test_who_asks_by_name_while_a_free_probe_runs_in_its_place_gets_the_paid_one(lab):
    state, gated = lab.gate()
    done, kinds = lab.counted(paid=True)
    desk = lab.desk(kinds={**kinds, "models": gated["models"]}, look=lambda *_: HEARD)
    desk.apply(desk.endpoints(1), replace(FAST, kind="completion"))
    async with desk.running(), asyncio.TaskGroup() as group:
        await lab.until(lambda: state["inside"] == 1)
        asked = group.create_task(desk.scheduler.probe_now("model@door/0"), name="asks")
        await asyncio.sleep(0)
        state["open"].set()
        assert (await asked).kind == "completion"
    assert done == ["model@door/0"]


async def test_free_probes_are_never_left_out(lab):
    done, kinds = lab.counted()
    desk = lab.desk(kinds=kinds, look=lambda *_: HEARD)
    desk.apply(desk.endpoints(1))
    async with desk.running():
        await lab.until(lambda: len(done) >= 2)


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"floor": 7200.0, "stale_after": 60.0, "budget": Budget(requests=7), "concurrency": 2}, False),
        ({"interval": 0.03, "suspect_interval": 0.03, "timeout": 0.02}, False),
        ({"answer_model": "any"}, True),
        ({"send_headers": {"x-team": "a"}}, True),
    ],
)
async def test_a_reload_that_changes_what_is_asked_makes_a_paid_probe_worth_its_money_again(lab, changes, again):
    done, kinds = lab.counted(paid=True)
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(1)
    settings = replace(FAST, kind="completion", floor=3600.0)
    desk.apply(endpoints, settings)
    async with desk.running():
        await lab.until(lambda: len(done) == 1)
        desk.apply(endpoints, replace(settings, **changes))
        await desk.turns(endpoints, 3)
    assert len(done) == (2 if again else 1)


async def test_the_budget_of_a_day_limits_requests_and_a_new_day_begins_anew(lab):
    done, kinds = lab.counted(paid=True)
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(3)
    desk.apply(endpoints, replace(FAST, kind="completion", budget=Budget(requests=5, usd=1.0)))
    async with desk.running():
        await lab.until(lambda: len(done) == 5)
        await desk.turns(endpoints)
        assert len(done) == 5
        assert desk.scheduler.spent("door") == Spent(requests=5, usd=0.0)
        assert desk.scheduler.first_picture
        with pytest.raises(BudgetSpent, match="5 of 5 requests"):
            await desk.scheduler.probe_now("model@door/0")
        assert desk.spent == [("door", "5 of 5 requests, 0.0000 of 1 USD")]
        assert desk.scheduler.all_spent() == {"door": Spent(requests=5, usd=0.0)}
        desk.wall += 86_400.0
        assert desk.scheduler.spent("door") == Spent()
        await lab.until(lambda: len(done) == 10)
        await desk.turns(endpoints)
    assert len(done) == 10


async def test_the_budget_of_a_day_limits_usd_per_provider(lab):
    outcome = Outcome(kind="success", prompt_tokens=100_000, completion_tokens=0)
    done, kinds = lab.counted(outcome, paid=True)
    desk = lab.desk(kinds=kinds)
    endpoints = desk.endpoints(1, provider="one") | desk.endpoints(1, provider="two")
    desk.apply(endpoints, replace(FAST, kind="completion", budget=Budget(requests=99, usd=0.5)))
    async with desk.running():
        await lab.until(lambda: len(done) == 4)
        await desk.turns(endpoints)
    assert sorted(done) == ["model@one/0"] * 2 + ["model@two/0"] * 2
    assert desk.scheduler.spent("one") == Spent(requests=2, usd=pytest.approx(0.4))
    assert sorted(desk.spent) == [
        (name, "2 of 99 requests, 0.4000 of 0.5 USD, and one costs up to 0.2000") for name in ("one", "two")
    ]


async def test_probes_of_one_provider_that_run_together_do_not_exceed_its_budget_together(lab):
    entered, go = [], asyncio.Event()

    async def dear(client):
        entered.append(client.endpoint.id)
        await go.wait()
        client.sent += 1
        return Outcome(kind="success", prompt_tokens=10_000, completion_tokens=0)  # 0.02 USD

    desk = lab.desk(kinds={**lab.counted(paid=True)[1], "completion": Check(run=dear, shallow=False, paid=True)})
    endpoints = desk.endpoints(20)
    desk.apply(endpoints, replace(FAST, kind="completion", concurrency=20, budget=Budget(usd=0.05)))
    async with desk.running():
        await lab.until(lambda: desk.scheduler.left_out["budget"] >= 19)
        assert len(entered) == 1
        assert desk.spent == []
        go.set()
        await lab.until(lambda: desk.spent)
    assert desk.scheduler.spent("door") == Spent(requests=2, usd=pytest.approx(0.04))


async def test_a_paid_probe_that_is_asked_for_by_name_runs_although_the_evidence_is_fresh(lab):
    done, kinds = lab.counted(paid=True)
    desk = lab.desk(kinds=kinds, look=lambda *_: HEARD)
    desk.apply(desk.endpoints(1), ProbeSettings(kind="completion", interval=3600.0))
    async with desk.running():
        assert (await desk.scheduler.probe_now("model@door/0")).outcome.kind == "success"
    assert done == ["model@door/0"]


async def test_a_paid_request_counts_once_it_is_sent_however_it_ends_and_not_before(lab):
    async def works_on_it_and_leaves(seen):
        if seen.method == "GET":
            await seen.answer(200, {"data": []})
        else:
            server.stop()  # nobody listens any more
            seen.reset()

    server = await lab.serve(works_on_it_and_leaves)
    desk = lab.desk(look=lambda *_: HEARD)
    endpoints = desk.endpoints(1, server.url)
    desk.apply(endpoints, replace(FAST, kind="completion", interval=0.5))
    async with desk.running():
        await lab.until(lambda: desk.results)  # and its connection is kept
        (name,) = endpoints
        assert (await desk.scheduler.probe_now(name)).outcome.kind == "reset"
        assert desk.scheduler.spent("door") == Spent(requests=1)
        assert (await desk.scheduler.probe_now(name)).outcome.kind == "connect"
        assert desk.scheduler.spent("door") == Spent(requests=1)
    assert [seen.method for seen in server.requests].count("POST") == 1


@pytest.mark.parametrize("limit", [1, 3, 4])
async def test_a_probe_that_asks_twice_keeps_to_the_budget_too(lab, limit):
    cut = {"message": {"content": "hm"}, "finish_reason": "length"}
    said = {"model": "model-1", "choices": [cut], "usage": {"prompt_tokens": 10, "completion_tokens": 10}}

    async def thinks_too_long(seen):
        await seen.answer(200, said if seen.method == "POST" else {"data": []})

    server = await lab.serve(thinks_too_long)
    desk = lab.desk()
    desk.apply(desk.endpoints(1, server.url), replace(FAST, kind="tools", budget=Budget(requests=limit)))
    async with desk.running():
        await lab.until(lambda: desk.spent)
    assert [seen.method for seen in server.requests].count("POST") == limit
    assert desk.scheduler.spent("door").requests == limit
