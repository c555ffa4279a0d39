"""What a reload may do to the probe schedule: to whom nothing changed, nothing happens."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config.secret import Secret
from balancer.config.settings import Budget, ProbeSettings
from balancer.core.evidence import Evidence
from balancer.core.model import Endpoint, Pricing
from balancer.probing import Scheduler

NOTHING = Evidence(None, None, "calm")
USUAL = ProbeSettings(interval=60.0)


class Entry(NamedTuple):
    """One endpoint as a configuration has it."""

    endpoint: Endpoint
    settings: ProbeSettings
    credential: Secret | None


def entry(key: str) -> Entry:
    provider = f"p{len(key) % 3}"
    endpoint = Endpoint(
        id=key, model="m/m", tag=provider, provider=provider, provider_name=provider, upstream_model="m",
        base_url="http://127.0.0.1:9", identity=key,
    )  # fmt: skip
    return Entry(endpoint, USUAL, Secret("sk-1"))


def endpoint(one: Entry, **changes: Any) -> Entry:
    return one._replace(endpoint=replace(one.endpoint, **changes))


def probe(one: Entry, **changes: Any) -> Entry:
    return one._replace(settings=replace(one.settings, **changes))


# What may happen to an endpoint in a reload, by what that means for its next turn.
KEEPS = {
    "nothing": lambda one: one,
    "weight": lambda one: endpoint(one, weight=2.0),
    "prices": lambda one: endpoint(one, pricing=Pricing(prompt=1.0)),
    "longer interval": lambda one: probe(one, interval=600.0),
    "timeout": lambda one: probe(one, timeout=1.0),
    "what is accepted": lambda one: probe(one, listed=True),
    "budget": lambda one: probe(one, budget=Budget(requests=1)),
    "the same key again": lambda one: one._replace(credential=Secret("sk-1")),
}
HASTENS = {"shorter interval": lambda one: probe(one, interval=5.0)}
BEGINS_ANEW = {
    "another place": lambda one: endpoint(one, identity="elsewhere", base_url="http://127.0.0.1:8"),
    "another key": lambda one: one._replace(credential=Secret("sk-2")),
    "another kind": lambda one: probe(one, kind="tcp"),
}
ENDS = {
    "gone": lambda one: None,
    "misconfigured": lambda one: endpoint(one, misconfigured="KEY is not set"),
    "not probed": lambda one: probe(one, kind="none"),
}
KEYS = [f"e{'x' * number}" for number in range(12)]
FATES = st.lists(st.sampled_from([*KEEPS, *HASTENS, *BEGINS_ANEW, *ENDS]), min_size=len(KEYS), max_size=len(KEYS))


def apply(scheduler: Scheduler, entries: dict[str, Entry]) -> None:
    scheduler.apply(
        {key: each.endpoint for key, each in entries.items()},
        {key: each.settings for key, each in entries.items()},
        {key: each.credential for key, each in entries.items()},
    )


@given(
    FATES,
    st.floats(0.0, 59.0),
    st.integers(0, 5),
    st.permutations(KEYS),
    st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_the_turns_of_all_to_whom_nothing_happened_are_at_the_same_moments(
    fates: list[str], later: float, new: int, order: list[str], seed: int
) -> None:
    now = 100.0
    scheduler = Scheduler(
        clock=lambda: now, wall=lambda: 0.0, rng=random.Random(seed), on_result=print, look=lambda *_: NOTHING
    )
    old = {key: entry(key) for key in KEYS}
    apply(scheduler, old)
    before = {key: scheduler.due_at(key) for key in KEYS}
    now += later
    what = KEEPS | HASTENS | BEGINS_ANEW | ENDS
    fate = dict(zip(KEYS, fates, strict=True))
    reloaded = {f"new{number}": entry(f"new{number}") for number in range(new)}
    reloaded |= {key: found for key in order if (found := what[fate[key]](old[key])) is not None}
    apply(scheduler, reloaded)
    for key in KEYS:
        due, was = scheduler.due_at(key), before[key]
        assert was is not None
        if fate[key] in KEEPS:
            assert due == was
        elif fate[key] in ENDS:
            assert due is None
        else:
            assert due is not None
            longest = reloaded[key].settings.interval
            assert due <= (min(was, now + longest) if fate[key] in HASTENS else now + longest)
    for number in range(new):
        due = scheduler.due_at(f"new{number}")
        assert due is not None
        assert now <= due <= now + USUAL.interval
    apply(scheduler, reloaded)
    apply(scheduler, reloaded)
    again = {key: scheduler.due_at(key) for key in reloaded}
    assert {key: due for key, due in again.items() if fate.get(key) in KEEPS} == {
        key: due for key, due in before.items() if fate[key] in KEEPS
    }


async def test_who_is_being_probed_or_waits_in_line_is_not_disturbed(lab: Any) -> None:
    state, kinds = lab.gate()
    desk = lab.desk(now=100.0, kinds=kinds)
    names = desk.endpoints(3)
    running, queued, other = names
    narrow = ProbeSettings(interval=3600.0, concurrency=1)
    desk.apply(names, narrow)
    async with desk.running(), asyncio.TaskGroup() as group:
        asked = [group.create_task(desk.scheduler.probe_now(name), name=name) for name in (running, queued)]
        await lab.until(lambda: state["inside"] == 1 and desk.scheduler.due_at(queued) == 100.0)
        changed = {**names, other: replace(names[other], identity="elsewhere")}
        for _ in range(3):
            desk.apply(changed | desk.endpoints(2, provider="new"), narrow)
        await asyncio.sleep(0)
        assert (state["inside"], desk.scheduler.in_flight) == (1, 1)
        assert not any(task.done() for task in asked)
        state["open"].set()
    assert [result.endpoint for result in desk.results] == [running, queued]
    assert [task.result() for task in asked] == desk.results
