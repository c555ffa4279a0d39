"""How much bodies may hold together, and whose has to go."""

from __future__ import annotations

import asyncio

import pytest

from balancer.http.answers import Refused
from balancer.http.bodies import SMALL, YOUNG, Bodies, Body

MOST = 10 * SMALL


def refusal(body: Body, size: int) -> Refused:
    with pytest.raises(Refused) as caught:
        body.grow(size)
    return caught.value


def test_what_comes_in_is_counted_until_the_request_is_answered() -> None:
    bodies = Bodies(MOST)
    first, second = bodies.begin(), bodies.begin()
    first.grow(3 * SMALL)
    second.grow(2 * SMALL)
    first.grow(SMALL)
    assert (bodies.used, first.size) == (6 * SMALL, 4 * SMALL)
    first.complete()
    assert bodies.used == 6 * SMALL
    first.close()
    first.close()
    assert bodies.used == 2 * SMALL
    second.close()
    assert bodies.used == 0


async def test_a_piece_beyond_the_room_is_503_with_the_time_to_come_back_and_changes_nothing() -> None:
    bodies = Bodies(MOST)
    first, second = bodies.begin(), bodies.begin()
    first.grow(9 * SMALL)
    refused = refusal(second, 2 * SMALL)
    assert (refused.status, refused.headers) == (503, {"Retry-After": "1"})
    assert (bodies.used, bodies.refused, second.size) == (9 * SMALL, 1, 0)


async def test_a_small_body_is_never_refused() -> None:
    bodies = Bodies(MOST)
    bodies.begin().grow(MOST)
    small = bodies.begin()
    small.grow(SMALL // 2)
    small.grow(SMALL // 2)
    assert refusal(small, 1).status == 503


async def reading(body: Body, patience: float) -> str:
    try:
        async with asyncio.timeout(patience) as turn:
            body.expect(turn)
            await asyncio.Event().wait()
    except TimeoutError:
        return "cut" if body.cut else "late"
    return "never"


async def test_a_body_that_is_on_its_way_for_long_makes_room_and_a_young_one_does_not() -> None:
    bodies = Bodies(MOST)
    old, young, new = bodies.begin(), bodies.begin(), bodies.begin()
    async with asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(reading(old, 60.0), name="old")
        await asyncio.sleep(0)
        old.grow(5 * SMALL)
        assert refusal(new, 6 * SMALL).status == 503  # two seconds have not passed
        assert not old.cut
        await asyncio.sleep(YOUNG + 0.05)  # the clock is the loop's own
        late = tasks.create_task(reading(young, 0.5), name="young")
        await asyncio.sleep(0)
        young.grow(5 * SMALL)
        new.grow(5 * SMALL)
        assert await waits == "cut"
        assert refusal(new, SMALL).status == 503
        assert await late == "late"
    assert (bodies.used, bodies.refused) == (10 * SMALL, 3)
    assert refusal(old, 1).status == 503  # its last piece, which was under way
    for each in (old, young, new):
        each.close()
    assert bodies.used == 0


async def test_a_body_that_is_complete_is_ours_and_makes_no_room() -> None:
    bodies = Bodies(MOST)
    whole, new = bodies.begin(), bodies.begin()
    async with asyncio.timeout(60) as turn:
        whole.expect(turn)
        whole.grow(MOST)
        whole.complete()
        await asyncio.sleep(YOUNG + 0.05)
    assert refusal(new, 2 * SMALL).status == 503
    assert not whole.cut
